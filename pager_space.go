package alder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"syscall"
)

// Where pages come from: free ones, those that nobody pins any more, and growth of the store.

// reclaim frees what was pending only for snapshots that nobody pins any more.
func (pg *pager) reclaim() error {
	pg.unwritten.settle()
	return pg.release(math.MaxInt)
}

// reclaimSome is reclaim at the begin of a transaction: if there is very much to be freed it leaves the rest for the next ones.
func (pg *pager) reclaimSome() error {
	pg.unwritten.settle()
	return pg.release(pendingAtOnce)
}

// release is reclaim for the middle of a transaction, of about the given number of pages.
func (pg *pager) release(pages int) error {
	pg.commitMu.Lock()
	pins, floor := pg.pinsLocked(pg.pins.few[:0]), pg.valuesFloor()
	retired := pg.keepSpare(pg.log.retired)
	pg.log.retired = nil
	pg.commitMu.Unlock()
	if err := pg.freeRetired(retired); err != nil {
		return err
	}
	// Readers after the snapshots that new readers can get: one that begins meanwhile is among one or the other.
	few := pg.readers.fewPinned(pins)
	slices.Sort(few)
	few = slices.Compact(few)
	pg.pins.few = few
	if few[0] == 0 {
		few = few[1:]
	}
	if err := pg.fl.letGo(floor, few[len(few)-1]); err != nil {
		return err
	}
	pg.pins.gone = pg.readers.pins.takeGone(pg.pins.gone[:0])
	var err error
	pg.fl.backlog, err = pg.fl.unpin(&pinSet{few: few, settled: &pg.readers.pins, gone: pg.pins.gone}, pages)
	if err != nil {
		return err
	}
	oldest := few[0]
	if s := pg.readers.pins.oldest(); s > 0 {
		oldest = min(oldest, s)
	}
	kept := pg.old[:0]
	for _, o := range pg.old {
		if oldest <= o.last {
			kept = append(kept, o)
		} else if err := pg.st.unmap(o.m); err != nil {
			return err
		}
	}
	pg.old = kept
	return nil
}

// freeRetired is freeLog for runs that, if they cannot be given back, are left for the next transaction to try.
func (pg *pager) freeRetired(runs []run) error {
	freed := false
	defer func() {
		if !freed { // also beside the panic of a fault: those that are still allocated are for the next try
			pg.commitMu.Lock()
			pg.log.retired = append(pg.log.retired, slices.DeleteFunc(runs, func(r run) bool { return !slices.Contains(pg.logRuns, r) })...)
			pg.commitMu.Unlock()
		}
	}()
	if err := pg.freeLog(runs); err != nil {
		return err
	}
	freed = true
	return nil
}

// allocate takes n consecutive pages, and grows the store if it must.
func (pg *pager) allocate(n int) (pgid, error) {
	before := pg.fl.highWater
	id, err := pg.fl.allocate(n)
	if err != nil {
		return 0, err
	}
	if front := pg.front.Load(); front > 0 && uint64(id)+uint64(n) > front {
		pg.overdrawn.Add(int64(n))
	}
	if need := pg.offset(pg.fl.highWater); need > pg.st.size() {
		if err := pg.grow(need); err != nil {
			pg.fl.highWater = before
			pg.fl.holes.back(before)
			return 0, err
		}
	}
	return pg.solidify(run{id, n}, before)
}

// allocateBeside is allocate that leaves room for the map of the next checkpoint.
func (pg *pager) allocateBeside(n int) (pgid, error) {
	for pg.fl.backlog && pg.fl.free < n+pg.fl.updatePagesAtMost() {
		if err := pg.releaseMore(max(n, pendingAtOnce)); err != nil {
			return 0, err
		}
	}
	if need := n + pg.fl.updatePagesAtMost(); pg.fl.solidFree() < need && !pg.opts.volatile {
		if err := pg.haveSolid(need); err != nil {
			return 0, err
		}
		if end := pg.offset(pg.fl.highWater + pgid(max(need-pg.fl.solidFree(), 0))); end > pg.st.size() {
			if err := pg.grow(end); err != nil {
				return 0, err
			}
		}
	}
	return pg.allocate(n)
}

// reclaimInParts is reclaim by one who does not have the writer lock, which others can have in between.
func (pg *pager) reclaimInParts(ctx context.Context) error {
	for more := true; more; {
		if err := pg.lockIdle(ctx); err != nil {
			return err
		}
		err := guarded(pg.st.mapping().data, pg.reclaimSome)
		more = pg.fl.backlog
		pg.unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// releaseMore frees pages that the begin of the transaction at work has left for others to free.
func (pg *pager) releaseMore(pages int) error {
	pg.unwritten.inUse = true
	defer func() { pg.unwritten.inUse = false }()
	return pg.release(pages)
}

// relieve frees pages that only wait for a checkpoint, for a transaction that has met a full disk. changes are what it has
// taken and given up, from is the high water mark at its begin.
// It reports whether it is worth another try.
func (pg *pager) relieve(changes []mapChange, from pgid) bool {
	pg.waitCheckpoint()
	pg.commitMu.Lock()
	done := pg.durable.txid == pg.tip.id
	pg.commitMu.Unlock()
	if pg.opts.volatile || pg.replay != nil || pg.failed() != nil || pg.fl.pendingPages == 0 {
		return false
	}
	before := pg.fl.free
	pg.commitMu.Lock()
	spare := pg.log.spare
	pg.log.spare = nil
	pg.commitMu.Unlock()
	if pg.freeRetired(spare) != nil {
		return false
	}
	if !done {
		// What the transaction has taken at the end of the file is free in the map of a checkpoint that does not know the transaction.
		if pg.noteTaken(changes, from) != nil {
			return false
		}
		c, err := pg.beginCheckpoint(false)
		pg.logRaised = pg.fl.highWater
		if err != nil || pg.endCheckpoint(c) != nil {
			return false
		}
	}
	pg.unwritten.inUse = true
	defer func() { pg.unwritten.inUse = false }()
	return pg.release(math.MaxInt) == nil && pg.fl.free > before
}

// noteTaken notes as free the pages that a transaction which is not committed has taken behind the high water mark of its begin, but for
// those that it gave up and that a map took then.
func (pg *pager) noteTaken(changes []mapChange, from pgid) error {
	mapped := map[pgid]bool{}
	for _, l := range pg.fl.levels {
		for _, r := range l {
			mapped[r.id] = true
		}
	}
	for _, c := range changes {
		if c.free {
			continue
		}
		end := c.id + pgid(c.n)
		for id := max(c.id, from); id < end; id++ {
			first := id
			for ; id < end && !mapped[id]; id++ {
			}
			if err := pg.fl.note([]mapChange{{run{first, int(id - first)}, true}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Growth takes a fraction of the size, so that it is rare in a large store and wastes little in a small one.
const (
	growthFraction = 64
	minGrowth      = 16 << 10
	maxGrowth      = 64 << 20
)

func (pg *pager) grow(need int64) error {
	limit := pg.opts.maxSize
	if limit > 0 && need > limit {
		pg.dropHistory() // for the next transaction
		return fmt.Errorf("%w: the store needs %d bytes, Options.MaxSize is %d", ErrMaxSizeReached, need, limit)
	}
	step := min(max(need/growthFraction, minGrowth), maxGrowth)
	target := (need + step + int64(pg.pageSize) - 1) &^ int64(pg.pageSize-1)
	if limit > 0 {
		target = max(min(target, limit&^int64(pg.pageSize-1)), need)
	}
	pg.publishMu.Lock() // a snapshot that is published has either mapping for certain
	defer pg.publishMu.Unlock()
	was := pg.st.mapping()
	err := pg.st.grow(target)
	if err != nil && target > need && errors.Is(err, syscall.ENOSPC) {
		err = pg.st.grow(need)
	}
	if err != nil {
		pg.dropHistory() // as above
		return fmt.Errorf("growing the store to %d bytes: %w", need, err)
	}
	if pg.cold != nil && pg.st.size() >= coldLeast {
		pg.commitMu.Lock()
		pg.watchFaults()
		pg.commitMu.Unlock()
	}
	if pg.st.mapping() != was {
		pg.old = append(pg.old, oldMapping{was, pg.tip.id})
	}
	return nil
}
