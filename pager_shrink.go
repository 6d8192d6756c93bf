package alder

import (
	"context"
	"fmt"
	"time"
)

// What a store that becomes shorter needs below the trees: how short it can be, a checkpoint whose log and free map lie in front, and the cut.
//
// The order that a crash cannot break: pages move like any that a transaction changes; a checkpoint, whose meta has the lower high water mark, is
// durable; a second meta, in the other slot, has the shorter length; and then the file is cut. Before the mark is lowered everything behind it is
// free in memory: no snapshot that is pinned has a page there, that of the durable meta included. (Invariants 14 and 23)

// shrinkSlack is the part of the pages in use that a store which becomes shorter keeps free, to go on with.
const shrinkSlack = 64

// closedSlack is the same where nothing goes on: at the end of the store.
const closedSlack = 4 * shrinkSlack

// goal is where the store could end if everything in use lay at its begin, and the log were short. The caller has the writer lock.
func (pg *pager) goal() pgid {
	f := pg.fl
	used := int(f.highWater-firstPage) - f.free - pg.logPages()
	slack := shrinkSlack
	if pg.shrinkingAtClose {
		slack = closedSlack
	}
	pages := used + used/slack + f.updatePagesAtMost()
	if !pg.opts.volatile {
		pages += pg.lowRunPages()
	}
	return min(firstPage+pgid(pages), f.highWater)
}

// lowRunPages is the length of the run in which the log goes on while the store becomes shorter.
func (pg *pager) lowRunPages() int {
	if pg.shrinkingAtClose {
		return pg.pagesFor(firstRunBytes)
	}
	return pg.pagesFor(min(max(int64(pg.treePages())<<pg.shift/shrinkSlack, firstRunBytes), maxLowRun))
}

const maxLowRun = 1 << 20

// checkpointWith makes the tip durable beside writers, after prepare, which has the writer lock and says whether it is worth it. It waits for a
// checkpoint that is under way.
func (pg *pager) checkpointWith(ctx context.Context, prepare func() (bool, error)) error {
	if err := pg.lockIdle(ctx); err != nil {
		return err
	}
	var c *checkpointRun
	err := guarded(pg.st.mapping().data, func() error {
		if err := pg.reclaim(); err != nil {
			return err
		}
		if worth, err := prepare(); err != nil || !worth || pg.opts.volatile {
			return err
		}
		pg.commitMu.Lock()
		clean := !pg.log.active
		pg.commitMu.Unlock()
		var err error
		c, err = pg.beginCheckpoint(clean)
		return err
	})
	pg.unlock()
	if c == nil {
		return err
	}
	return pg.endCheckpoint(c)
}

// lockIdle takes the writer lock of a store that can be written, while no checkpoint is under way.
func (pg *pager) lockIdle(ctx context.Context) error {
	for {
		if err := pg.lock(ctx); err != nil {
			return err
		}
		if err := pg.writable(); err != nil {
			pg.unlock()
			return err
		}
		pg.commitMu.Lock()
		c, closed := pg.running, pg.closed
		pg.commitMu.Unlock()
		if closed {
			pg.unlock()
			return ErrDatabaseNotOpen
		}
		if c == nil {
			return nil
		}
		pg.unlock()
		if pg.opts.waiting != nil {
			pg.opts.waiting(false)
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lowLog has a short run ready below limit in which the log can go on, if it does not lie in such a one already and there is room. If there is none
// because a longer run of the log takes it, a short one behind limit will do until that is free. Runs that are kept to be used again are given up.
func (pg *pager) lowLog(ctx context.Context, limit pgid) error {
	if err := pg.lock(ctx); err != nil {
		return err
	}
	var r run
	err := pg.writable()
	if err == nil {
		err = guarded(pg.st.mapping().data, func() (err error) {
			r, err = pg.allocateLow(limit)
			return err
		})
	}
	pg.unlock()
	if err != nil || r.n == 0 {
		return err
	}
	if err := pg.clearRun(r); err != nil {
		return err
	}
	pg.offerRun(r)
	return nil
}

// isLow reports whether a run may stay where it is when the store becomes shorter.
func (pg *pager) isLow(r run, limit pgid) bool {
	return r.id+pgid(r.n) <= limit && r.n <= 2*pg.lowRunPages()
}

// allocateLow takes a run for the log below limit; n == 0: none is needed, or there is no room.
func (pg *pager) allocateLow(limit pgid) (run, error) {
	pg.commitMu.Lock()
	l := &pg.log
	pg.fewRuns = true
	l.retired, l.spare = append(l.retired, l.spare...), nil
	if l.next.n > 0 && !pg.isLow(l.next, limit) {
		l.retired, l.next, l.announced = append(l.retired, l.next), run{}, false
	}
	needed := l.active && !pg.isLow(l.plan.run, limit) && l.next.n == 0
	inFront := l.plan.run.id < limit
	pg.commitMu.Unlock()
	if !needed {
		return run{}, nil
	}
	behind := 0 // pages that a run behind limit can have
	for n := pg.lowRunPages(); n >= pg.pagesFor(firstRunBytes); n /= 2 {
		if pg.fl.free < n+pg.fl.updatePagesAtMost() {
			continue
		}
		id, err := pg.fl.findRun(n)
		if err != nil {
			return run{}, err
		}
		if id != 0 && id+pgid(n) <= limit {
			return pg.allocateLog(n, n)
		}
		if id != 0 {
			behind = max(behind, n)
		}
	}
	if inFront && behind > 0 {
		return pg.allocateLog(behind, behind)
	}
	return run{}, nil
}

// jumpLog lets the log go on in the run that is ready, if the current one is in the way. The caller has the writer lock.
func (pg *pager) jumpLog(limit pgid) {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	l := &pg.log
	to := l.next
	if !l.active || to.n == 0 || pg.isLow(l.plan.run, limit) {
		return
	}
	for l.plan.run != to {
		if k := len(pg.groups); k > 0 && !pg.groups[k-1].closed {
			pg.closeGroup(pg.groups[k-1])
			continue
		}
		// A frame that announces the run, if none has, and one that leads there.
		g := pg.newGroup(pg.tip.id+1, l.plan)
		g.state = pg.tip
		pg.groups = append(pg.groups, g)
		pg.closeGroup(g)
	}
}

// lowerTail lowers the high water mark over the free pages at the end, but not below least. The caller has the writer lock.
func (pg *pager) lowerTail(least pgid) error {
	end, err := pg.fl.freeEnd(pg.fl.highWater)
	if err != nil {
		return err
	}
	if end = max(end, least, firstPage); end >= pg.fl.highWater {
		return nil
	}
	if err := pg.fl.lowerTo(end); err != nil {
		return err
	}
	pg.logRaised = min(pg.logRaised, pg.fl.highWater)
	return nil
}

// holdBack lets a write transaction begin a little later if the last ones have taken pages behind the place where a store that becomes shorter is to end, and each
// time by more. What a writer replaces is in use until the next checkpoint, so one at full speed takes new room as fast as a shrink makes it
// free; as long as he finds some in front, he does not wait.
func (pg *pager) holdBack(ctx context.Context) error {
	if pg.overdrawn.Load() == 0 {
		return nil
	}
	pages := pg.overdrawn.Swap(0)
	if pages == 0 {
		return nil // somebody else is held back
	}
	d := min(max(time.Duration(pages)*holdPage, 2*time.Duration(pg.held.Load()), holdLeast), holdMost)
	pg.held.Store(int64(d))
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// How much later: for each page, at first, and at most.
const (
	holdPage  = time.Millisecond / 32
	holdLeast = time.Millisecond
	holdMost  = 10 * time.Millisecond
)

// Bytes by which a file is cut at a time: the system keeps everybody waiting meanwhile who writes to the file, or reads a page of it for the first time. How long
// that takes depends on the file system and on the disk, so a step follows from the time of the last one.
const (
	cutFirst = 1 << 20
	cutLeast = 256 << 10
	cutMost  = 16 << 20
)

// cutFile cuts what is behind the high water mark, of the store and of the durable meta, off the file.
func (pg *pager) cutFile(ctx context.Context) error {
	for step := int64(cutFirst); ; {
		if err := pg.lockIdle(ctx); err != nil {
			return err
		}
		begun := time.Now()
		c, more, err := pg.cutSome(step)
		took := time.Since(begun)
		pg.unlock()
		if c != nil {
			err = pg.shorten(c)
		}
		if err != nil || !more {
			return err
		}
		switch {
		case c != nil: // nothing was cut
		case took > pg.opts.shrinkTime:
			step = max(step/2, cutLeast)
		case took < pg.opts.shrinkTime/4:
			step = min(2*step, cutMost)
		}
	}
}

// cutSome is one step of cutFile. The caller has the writer lock, and no checkpoint is under way. If a meta with the shorter length must be durable
// first, it returns a checkpoint that only does that, for shorten.
func (pg *pager) cutSome(step int64) (c *checkpointRun, more bool, err error) {
	pg.commitMu.Lock()
	m := pg.durable
	pg.commitMu.Unlock()
	end := pg.offset(pg.fl.highWater)
	if !pg.opts.volatile {
		end = max(end, pg.offset(m.highWater))
	}
	size := pg.st.size()
	if size <= end {
		return nil, false, nil
	}
	if err := pg.checkRemoved(); err != nil {
		return nil, false, err
	}
	if m.fileLength > end && !pg.opts.volatile {
		c = &checkpointRun{fileLength: end, done: make(chan struct{})}
		pg.commitMu.Lock()
		pg.running = c
		pg.commitMu.Unlock()
		return c, true, nil
	}
	next := max(end, size-step)
	if err := pg.st.truncate(next); err != nil {
		return nil, false, fmt.Errorf("cutting the store to %d bytes: %w", next, err)
	}
	return nil, next > end, nil
}

// shorten writes the durable meta once more, with the length of c. Nobody has to wait for that but who would write a meta himself.
func (pg *pager) shorten(c *checkpointRun) error {
	pg.commitMu.Lock()
	m := pg.durable
	pg.commitMu.Unlock()
	m.sequence++
	m.fileLength = c.fileLength
	err := pg.writeMeta(m)
	pg.commitMu.Lock()
	pg.running = nil
	pg.commitMu.Unlock()
	close(c.done)
	return err
}

// copyRun writes data as the overflow run r, whose pages nobody else knows. pause, if it is not nil, is called between parts, and ends the copy with
// its error.
func (pg *pager) copyRun(r overflowRef, data []byte, pause func() error) error {
	var header [pageHeader]byte
	page(header[:]).clearHeader(kindOverflow, r.pageRef)
	page(header[:]).setRunLength(int64(len(data)))
	sealRun(header[:], data)
	buf := make([]byte, min(runPages(len(data), pg.pageSize)<<pg.shift, copyPart))
	return pg.runParts(header[:], data, buf, func(part []byte, off int64) error {
		if pause != nil {
			if err := pause(); err != nil {
				return err
			}
		}
		return pg.writePages(part, r.id+pgid(off>>pg.shift))
	})
}

// copyPart is the number of bytes of a long value that are copied at a time.
const copyPart = 256 << 10

// tailHolders says who needs pages from goal on that have been given up: how many pages they are, how many open read transactions have some of
// them, and whether a loop over DB.Changes has. The caller has the writer lock.
func (pg *pager) tailHolders(goal pgid) (pages int64, readers int, feed bool) {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	ids := pg.readers.pinned(nil)
	holds := make([]bool, len(ids))
	pg.fl.pendingFrom(goal, func(s txid, r freedRun) {
		pages += int64(r.n)
		if s == logged {
			feed = len(pg.feed.subscribers) > 0
			return
		}
		for i, id := range ids {
			holds[i] = holds[i] || r.birth <= id && id <= s
		}
	})
	for _, h := range holds {
		if h {
			readers++
		}
	}
	for _, r := range pg.feed.kept {
		if r.id+pgid(r.n) > goal {
			pages += int64(r.n)
			feed = true
		}
	}
	return pages, readers, feed
}
