package alder

import "runtime"

// Appends that readers attend to. When an append is done its goroutine needs a processor. If goroutines that never wait have all of them, the runtime lets each go on
// for up to 10 ms before the writer gets one; readers of a store whose pages are in memory are such. So while readers keep the processors busy the append goes on
// without a thread that waits for it (storage.writeAttended), each reader looks whether it is done when it ends, and who finds it done gives up its processor to the writer.

// crowd knows whether readers keep all processors busy. It belongs to the one who leads.
type crowd struct {
	slots *[]*readerSlot // when the append began, and how many had begun in each
	begun []uint64
	stays int // the number of appends for which there is a crowd, if none is seen
}

const (
	crowdOften = 4   // readers that must begin in a slot during an append; less might not look in time
	crowdStays = 128 // one append that is not attended may cost as much as a hundred others, and during one that is not one processor waits with it
)

// crowdedFrom is the number of slots in which that is so from which on there is a crowd: a slot is mostly used by one processor at a time. Below zero: as many as
// there are processors. A variable for tests.
var crowdedFrom = -1

// before notes what is so before an append.
func (c *crowd) before(t *readerTable) {
	c.slots, c.begun = t.slots.Load(), c.begun[:0]
	for _, s := range t.near() {
		_, _, n := s.read()
		c.begun = append(c.begun, n)
	}
}

// after looks what has happened since.
func (c *crowd) after(t *readerTable, from int) {
	busy := 0
	if now := t.slots.Load(); now != nil && now == c.slots {
		for i, s := range *now {
			if _, _, n := s.read(); n-c.begun[i] >= crowdOften {
				busy++
			}
		}
	}
	c.slots = nil // Close finds the readers that the program has lost by their slots, which nobody else must hold
	if from < 0 && busy > 0 {
		from = min(runtime.GOMAXPROCS(0), readersNear/2)
	}
	if from >= 0 && busy >= from {
		c.stays = crowdStays
	} else if c.stays > 0 {
		c.stays--
	}
}

// writeFrame appends a frame to the log. An error is the failed state.
//
// What an attended append leaves to do meanwhile is done meanwhile: see writeEagerly.
func (pg *pager) writeFrame(buf []byte, off int64) (err error) {
	const op = "append to the redo log"
	if pg.attended == nil {
		return pg.writeDurable(op, buf, off)
	}
	pg.crowd.before(&pg.readers)
	if pg.crowd.stays > 0 {
		err = pg.writeAttended(op, buf, off)
	} else {
		pg.watch.rest()
		err = pg.writeDurable(op, buf, off)
	}
	pg.crowd.after(&pg.readers, pg.opts.crowdedFrom)
	return err
}

// writeAttended is writeDurable for a write that is attended.
func (pg *pager) writeAttended(op string, p []byte, off int64) error {
	pg.telling.RLock()
	defer pg.telling.RUnlock()
	return pg.told(op, pg.attended.writeAttended(p, off, pg.writeEagerly))
}

// endReader ends the reader of a slot. It looks whether an append is done as long as the reader keeps the store from being closed, and lets the writer go
// first when its snapshot is free.
func (pg *pager) endReader(slot *readerSlot) {
	if pg.watch == nil {
		pg.readers.end(slot)
		return
	}
	found := pg.watch.look(&slot.looker)
	pg.readers.end(slot)
	if found != foundNothing {
		pg.watch.giveWay(found)
	}
}

// writeEagerly brings the pages of the group that is being appended into the file, if there are readers who will want them. They are not published, and nothing
// durable leads to where they go, so it does not matter if the append fails. (Invariant 22)
func (pg *pager) writeEagerly() {
	if pg.eager.Load() <= 0 {
		return
	}
	if !pg.publishMu.TryLock() { // nobody waits for it with telling held
		return
	}
	defer pg.publishMu.Unlock()
	pg.commitMu.Lock()
	id := pg.groups[0].state.id // which is pinned: the group is closed
	pg.commitMu.Unlock()
	_ = pg.writeDue(id) // materializeEagerly tries again
}
