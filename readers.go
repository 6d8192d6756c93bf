package alder

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The reader table says which snapshots are being read. A reader announces itself in a slot of its own, so that readers on
// different processors share no cache line; the writer looks at all slots when it wants to know what it may reuse.
//
// Why a page that a reader will need is never reused: begin stores the txid in the slot and then looks again whether the
// snapshot is still the published one. The writer publishes a newer snapshot first and looks at the slots after.
// Whichever comes first, either the writer sees the slot or the reader sees the newer snapshot and tries again; and the
// published snapshot itself counts as pinned. (Hazard pointers: M. Michael, IEEE TPDS 15(6), 2004.)
//
// A reader does not look at the clock: that would cost more than all the rest. How old it is says whoever looks at the slots: he remembers
// when he saw it first. While readers are tracked each one has a lease, which knows when and where it began, and which the garbage collector
// finds if the transaction is dropped.

// An atomic store takes as long as all the rest of a begin but the transaction's memory, so there is only one in each begin and one in each end:
// the same word says whether the slot is idle, which reader it has, and how many it has had.

// readerSlot is one entry, as large as two cache lines: adjacent lines are fetched together. A lease has the same form, so that a
// transaction need not know whether it is tracked; of its fields only the last two mean something.
type readerSlot struct {
	state atomic.Uint64 // idle: how many readers have begun here; else readerActive, the last bits of that, and the txid of the snapshot
	epoch atomic.Uint64 // how many had begun when that was last a multiple of readerEpoch, for the first bits

	// Its owner's only.
	begun uint64
	spare any // of the layer above

	_ [64]byte

	lease   *readerLease // of a lease
	cleanup runtime.Cleanup
}

// The word of a slot with a reader.
const (
	readerActive = 1 << 63
	readerShift  = 48 // of the number of the reader, above the txid
	readerMask   = 1<<15 - 1
	readerEpoch  = 1 << 12
)

// announce returns the word for reader number begun, of snapshot id.
func announce(begun uint64, id txid) uint64 {
	return readerActive | begun&readerMask<<readerShift | uint64(id)
}

// read returns whether the slot has a reader, of which snapshot, and how many have begun here, that one included.
func (s *readerSlot) read() (active bool, id txid, begun uint64) {
	for {
		v := s.state.Load()
		if v&readerActive == 0 {
			return false, 0, v
		}
		begun = s.epoch.Load()
		begun += (v>>readerShift - begun) & readerMask
		if s.state.Load() == v {
			return true, txid(v & maxTxid), begun
		}
	}
}

// take makes the slot that of a reader of snapshot id, if it is idle.
func (s *readerSlot) take(id txid) bool {
	v := s.state.Load()
	if v&readerActive != 0 || !s.state.CompareAndSwap(v, announce(v+1, id)) {
		return false
	}
	s.begun = v + 1
	if s.begun%readerEpoch == 0 {
		s.epoch.Store(s.begun)
	}
	return true
}

type readerTable struct {
	idle sync.Pool // of *readerSlot: a hint where to find an idle slot near this processor

	track atomic.Pointer[readerTracking] // nil: readers are not tracked

	mu     sync.Mutex // guards growth of slots, and what follows
	slots  atomic.Pointer[[]*readerSlot]
	seen   []seenReader                 // of each slot
	leases map[*readerSlot]*readerLease // by the real slot
}

// seenReader says since when a slot has been seen with the same reader.
type seenReader struct {
	begun uint64 // which reader: how many had begun in the slot
	since time.Time
}

// readerTracking is what is done with readers that are tracked.
type readerTracking struct {
	dropped func(reader) // is called for one whose transaction was dropped without being ended
}

// readerLease is what is known of a tracked reader.
type readerLease struct {
	slot  *readerSlot // the real one
	id    txid
	since time.Time
	stack []uintptr

	dropped bool // guarded by readerTable.mu
}

// reader is what the table knows of an open reader.
type reader struct {
	slot  *readerSlot
	begun uint64 // tells readers in the same slot apart
	id    txid
	since time.Time // when it began, or when it was seen first

	// If it is tracked:
	stack   []uintptr // where it began
	dropped bool      // its transaction is gone
}

// begin announces a reader of the snapshot that published holds, and returns both; nil, nil when there is none.
func (t *readerTable) begin(published *atomic.Pointer[snapshot]) (*readerSlot, *snapshot) {
	s := published.Load()
	if s == nil {
		return nil, nil
	}
	slot, _ := t.idle.Get().(*readerSlot)
	if slot == nil || !slot.take(s.id) {
		slot = t.claim(s.id)
	}
	for {
		now := published.Load()
		if now == s {
			if track := t.track.Load(); track != nil {
				slot = t.grant(slot, s.id, track)
			}
			return slot, s
		}
		if now == nil {
			t.end(slot)
			return nil, nil
		}
		s = now
		slot.state.Store(announce(slot.begun, s.id))
	}
}

// claim takes any idle slot for a reader of snapshot id, or makes one.
func (t *readerTable) claim(id txid) *readerSlot {
	if all := t.slots.Load(); all != nil {
		for _, s := range *all {
			if s.take(id) {
				return s
			}
		}
	}
	s := &readerSlot{}
	s.take(id)
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*readerSlot
	if old := t.slots.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = append(all, s)
	t.slots.Store(&all)
	return s
}

// end takes a reader's announcement back.
func (t *readerTable) end(s *readerSlot) {
	if s.lease != nil {
		s = t.revoke(s)
	}
	s.state.Store(s.begun)
	t.idle.Put(s)
}

// ---- tracking

// grant returns a lease on slot, which a reader of snapshot id has just taken.
func (t *readerTable) grant(slot *readerSlot, id txid, track *readerTracking) *readerSlot {
	l := &readerLease{slot: slot, id: id, since: time.Now(), stack: make([]uintptr, 32)}
	l.stack = l.stack[:runtime.Callers(2, l.stack)]
	t.mu.Lock()
	if t.leases == nil {
		t.leases = map[*readerSlot]*readerLease{}
	}
	t.leases[slot] = l
	t.mu.Unlock()
	granted := &readerSlot{lease: l}
	granted.cleanup = runtime.AddCleanup(granted, func(l *readerLease) {
		t.mu.Lock()
		l.dropped = true
		t.mu.Unlock()
		track.dropped(reader{slot: l.slot, id: l.id, since: l.since, stack: l.stack, dropped: true})
	}, l)
	return granted
}

// revoke ends a lease and returns its slot.
func (t *readerTable) revoke(granted *readerSlot) *readerSlot {
	granted.cleanup.Stop()
	slot := granted.lease.slot
	t.mu.Lock()
	delete(t.leases, slot)
	t.mu.Unlock()
	return slot
}

// ---- looking at all slots

// pinned appends the txids of all snapshots being read.
func (t *readerTable) pinned(ids []txid) []txid {
	t.look(func(r reader) { ids = append(ids, r.id) })
	return ids
}

// open returns all open readers.
func (t *readerTable) open() (all []reader) {
	t.look(func(r reader) { all = append(all, r) })
	return all
}

// look calls fn for each open reader, and notes which there are, so that it is known later since when.
func (t *readerTable) look(fn func(reader)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slots := t.slots.Load()
	if slots == nil {
		return
	}
	for len(t.seen) < len(*slots) {
		t.seen = append(t.seen, seenReader{})
	}
	var now time.Time
	for i, s := range *slots {
		active, id, n := s.read()
		if !active {
			continue
		}
		r := reader{slot: s, begun: n, id: id}
		seen := &t.seen[i]
		if seen.begun != r.begun || seen.since.IsZero() {
			if now.IsZero() {
				now = time.Now()
			}
			*seen = seenReader{r.begun, now}
		}
		r.since = seen.since
		if l := t.leases[s]; l != nil {
			r.since, r.stack, r.dropped = l.since, l.stack, l.dropped
		}
		fn(r)
	}
}

// counts is the number of readers that have begun so far, and of those that have not ended.
func (t *readerTable) counts() (begun uint64, open int) {
	if all := t.slots.Load(); all != nil {
		for _, s := range *all {
			active, _, n := s.read()
			begun += n
			if active {
				open++
			}
		}
	}
	return begun, open
}
