package alder

import (
	"runtime"
	"time"
	"weak"
)

// The readers that are still open when a store is closed, and which of them the program has lost.
//
// A transaction leads to the memory from which it was given out, and that to its slot. So when the table has let go of a slot, the garbage collector
// finds it when nobody has the transaction any more, nor anything that leads to it, nor is about to get it. Of a transaction that is tracked the lease is found.
// The memory serves several transactions, one after the other: while the program has one that ended, the next ones in it are not found.
// Slots are not taken anew meanwhile, for there is no snapshot any more that a reader could begin with.

// lastReader is a reader that has not ended when the store is closed.
type lastReader struct {
	slot    weak.Pointer[readerSlot]
	lease   *readerLease // nil: it is not tracked
	begun   uint64
	id      txid
	since   time.Time
	settled bool
}

// letGo takes all slots out of the table and returns those that have readers. Nothing may be published any more.
func (t *readerTable) letGo() []lastReader {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last []lastReader
	var now time.Time
	near, settled := t.near(), t.settled
	t.slots.Store(nil)
	t.settled = nil
	for i, slots := range [][]*readerSlot{near, settled} {
		for _, s := range slots {
			_, _, n := s.read()
			t.retired += n
			s.place = -1
			if r, ok := t.seeLocked(s, &now); ok {
				last = append(last, lastReader{weak.Make(s), t.leases[s], r.begun, r.id, r.since, i > 0})
			}
		}
	}
	t.leases = nil
	return last
}

// look reports whether r is still open, or the program has lost it.
func (t *readerTable) look(r *lastReader) (open, lost bool) {
	if r.lease != nil {
		t.mu.Lock()
		lost = r.lease.dropped
		t.mu.Unlock()
	}
	s := r.slot.Value()
	if lost = lost || s == nil; !lost {
		active, _, n := s.read()
		return active && n == r.begun, false
	}
	if r.settled {
		t.pins.remove(r.id)
	}
	return false, true
}

const (
	lostAfter = 50 * time.Millisecond // from which on Close looks for lost readers
	lostPause = 5 * time.Second       // between two looks, at most
)

// waitForEnd returns when no reader is open that the program has not lost, and calls lost for each that it has. Nothing may be published any more.
func (t *readerTable) waitForEnd(lost func(reader)) {
	begun := time.Now()
	for wait := time.Duration(0); time.Since(begun) < lostAfter; wait = min(wait+50*time.Microsecond, 5*time.Millisecond) {
		if _, open := t.counts(); open == 0 {
			return
		}
		time.Sleep(wait)
	}
	last := t.letGo()
	look := time.Now()
	for pause := lostAfter; len(last) > 0; time.Sleep(5 * time.Millisecond) {
		if !time.Now().Before(look) {
			// The collector's next turn may be minutes away in a program that does nothing else. A pool may have a slot for two turns.
			runtime.GC()
			runtime.GC()
			look = time.Now().Add(pause)
			pause = min(2*pause, lostPause)
		}
		kept := last[:0]
		for i := range last {
			open, isLost := t.look(&last[i])
			if open {
				kept = append(kept, last[i])
			} else if isLost {
				r := reader{id: last[i].id, since: last[i].since, dropped: true}
				if l := last[i].lease; l != nil {
					r.stack = l.stack
				}
				lost(r)
			}
		}
		last = kept
	}
}
