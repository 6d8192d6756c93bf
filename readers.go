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
//
// Many readers that stay would make every look at the slots long. When there are many slots, those with a reader are settled: a flag in the word says
// so, the slot leaves the table, its snapshot is counted among the settled pins, and the reader's end, which finds the flag, takes it from
// there. A slot that has left the table is never used again, so none is overlooked; one moves from the slots to the pins under the lock
// that a look holds, and never back, so a look at the slots first and the pins after sees every reader.

// readerSlot is one entry, as large as two cache lines: adjacent lines are fetched together. A lease has the same form, so that a
// transaction need not know whether it is tracked; of its fields only the last two mean something.
type readerSlot struct {
	state atomic.Uint64 // idle: how many readers have begun here; else readerActive, the last bits of that, and the txid of the snapshot
	epoch atomic.Uint64 // how many had begun when that was last a multiple of readerEpoch, for the first bits

	// Its owner's only.
	begun  uint64
	spare  any // of the layer above
	looker onlooker

	_ [8]byte

	seen  seenReader // guarded by readerTable.mu
	place int        // among the settled ones, -1 when the store is closed; guarded by readerTable.mu

	lease   *readerLease // of a lease
	cleanup runtime.Cleanup
}

// The word of a slot with a reader, or of one that is not used any more.
const (
	readerActive  = 1 << 63
	readerSettled = 1 << 62 // active: its snapshot is among the settled pins; else: the slot has left the table
	readerShift   = 48      // of the number of the reader, above the txid
	readerMask    = 1<<14 - 1
	readerEpoch   = 1 << 12
)

// readersNear is the number of slots in the table from which on readers are settled.
const readersNear = 64

// announce returns the word for reader number begun, of snapshot id.
func announce(begun uint64, id txid) uint64 {
	return readerActive | begun&readerMask<<readerShift | uint64(id)
}

// read returns whether the slot has a reader, of which snapshot, and how many have begun here, that one included.
func (s *readerSlot) read() (active bool, id txid, begun uint64) {
	for {
		v := s.state.Load()
		if v&readerActive == 0 {
			return false, 0, v &^ readerSettled
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
	if v&(readerActive|readerSettled) != 0 || !s.state.CompareAndSwap(v, announce(v+1, id)) {
		return false
	}
	s.begun = v + 1
	if s.begun%readerEpoch == 0 {
		s.epoch.Store(s.begun)
	}
	return true
}

// move lets the slot's reader, of snapshot from, be one of snapshot to, unless it is settled.
func (s *readerSlot) move(from, to txid) bool {
	return s.state.CompareAndSwap(announce(s.begun, from), announce(s.begun, to))
}

// leave makes the slot idle, unless its reader is settled.
func (s *readerSlot) leave() bool {
	v := s.state.Load()
	return v&readerSettled == 0 && s.state.CompareAndSwap(v, s.begun)
}

// settle sets the flag if the slot has a reader, and returns its snapshot.
func (s *readerSlot) settle() (id txid, ok bool) {
	v := s.state.Load()
	return txid(v & maxTxid), v&readerActive != 0 && s.state.CompareAndSwap(v, v|readerSettled)
}

// retire keeps an idle slot from being used again.
func (s *readerSlot) retire() bool {
	v := s.state.Load()
	return v&readerActive == 0 && s.state.CompareAndSwap(v, v|readerSettled)
}

type readerTable struct {
	idle sync.Pool // of *readerSlot: a hint where to find an idle slot near this processor

	track atomic.Pointer[readerTracking] // nil: readers are not tracked

	mu      sync.Mutex // guards changes of slots, and what follows
	slots   atomic.Pointer[[]*readerSlot]
	settled []*readerSlot
	retired uint64                       // readers that have begun in slots that have left
	leases  map[*readerSlot]*readerLease // by the real slot

	pins settledPins
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
		if !slot.move(s.id, now.id) {
			t.end(slot)
			slot = t.claim(now.id)
		}
		s = now
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
	all := t.near()
	if len(all) >= readersNear {
		all = t.settle()
	}
	all = append(slices.Clip(all), s)
	t.slots.Store(&all)
	return s
}

// near returns the slots in the table.
func (t *readerTable) near() []*readerSlot {
	if all := t.slots.Load(); all != nil {
		return *all
	}
	return nil
}

// settle takes the slots that have a reader out of the table, and of the idle ones those that are many, and returns what is left. The caller has mu.
func (t *readerTable) settle() []*readerSlot {
	var kept []*readerSlot
	for _, s := range t.near() {
		if id, ok := s.settle(); ok {
			// A look, which needs mu, finds it in one place or the other.
			t.pins.add(id)
			s.place = len(t.settled)
			t.settled = append(t.settled, s)
		} else if len(kept) < readersNear/2 || !s.retire() {
			kept = append(kept, s)
		} else {
			_, _, n := s.read()
			t.retired += n
		}
	}
	t.slots.Store(&kept)
	return kept
}

// end takes a reader's announcement back.
func (t *readerTable) end(s *readerSlot) {
	if s.lease != nil {
		s = t.revoke(s)
	}
	if s.leave() {
		t.idle.Put(s)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, id, n := s.read()
	if s.place >= 0 {
		last := t.settled[len(t.settled)-1]
		t.settled[s.place], last.place = last, s.place
		t.settled[len(t.settled)-1] = nil
		t.settled = t.settled[:len(t.settled)-1]
		t.retired += n
	}
	s.state.Store(n | readerSettled)
	t.pins.remove(id)
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

// fewPinned appends the txids of the snapshots being read, but for those of settled readers, which t.pins has. A look at those must come after.
func (t *readerTable) fewPinned(ids []txid) []txid {
	t.mu.Lock()
	defer t.mu.Unlock()
	near := t.near()
	if len(near) > readersNear {
		near = t.settle()
	}
	var now time.Time
	for _, s := range near {
		if r, ok := t.seeLocked(s, &now); ok {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// pinned appends the txids of all snapshots being read.
func (t *readerTable) pinned(ids []txid) []txid { return t.pins.all(t.fewPinned(ids)) }

// open returns all open readers.
func (t *readerTable) open() (all []reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var now time.Time
	for _, slots := range [][]*readerSlot{t.near(), t.settled} {
		for _, s := range slots {
			if r, ok := t.seeLocked(s, &now); ok {
				all = append(all, r)
			}
		}
	}
	return all
}

// seeLocked returns the reader of a slot, and notes that it has been seen, so that it is known later since when. now is set when needed.
func (t *readerTable) seeLocked(s *readerSlot, now *time.Time) (r reader, ok bool) {
	active, id, n := s.read()
	if !active {
		return r, false
	}
	r = reader{slot: s, begun: n, id: id}
	if s.seen.begun != n || s.seen.since.IsZero() {
		if now.IsZero() {
			*now = time.Now()
		}
		s.seen = seenReader{n, *now}
	}
	r.since = s.seen.since
	if l := t.leases[s]; l != nil {
		r.since, r.stack, r.dropped = l.since, l.stack, l.dropped
	}
	return r, true
}

// counts is the number of readers that have begun so far, and of those that have not ended.
func (t *readerTable) counts() (begun uint64, open int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	begun = t.retired
	for _, slots := range [][]*readerSlot{t.near(), t.settled} {
		for _, s := range slots {
			active, _, n := s.read()
			begun += n
			if active {
				open++
			}
		}
	}
	return begun, open
}
