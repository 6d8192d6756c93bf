package alder

import (
	"errors"
	"fmt"
	"time"
)

// Checkpoints. A checkpoint makes the state of transaction T durable without the log: the pages of T are written, the free map of T
// is written, everything is synced, and then a meta that points to T's root, and to the place in the log behind T's record, goes
// durably into the slot that does not hold the newest durable meta.
//
// In the background it begins under the writer lock, which it gives up as soon as T and its map are settled: transactions go on
// committing while pages are written and synced. A transaction that is too large for the log commits by a
// checkpoint of its own, and so does recovery; they keep the writer lock, so no later record is appended before their meta
// is durable.

const (
	defaultLogSize = 64 << 20         // bytes of log after which a checkpoint begins
	checkpointAge  = 30 * time.Second // time after which one begins at the latest
)

// checkpointRun is a checkpoint between its begin and its end.
type checkpointRun struct {
	state      state
	fileLength int64
	update     *mapUpdate
	after      *group // the last group that belongs to T; nil: all are durable
	begin      logPosition
	previous   uint64 // with after == nil
	clean      bool   // no log follows
	alone      bool   // nobody appends meanwhile
	holes      bool   // free pages may have no blocks
	done       chan struct{}
	begun      time.Time
	bytes      int64 // of pages written
}

// mapPrepared is a free map whose pages have their places but are not written.
type mapPrepared struct {
	update    *mapUpdate
	taken     []mapChange
	highWater pgid // before
}

// prepareMap places the free map for a checkpoint of transaction t, whose changes, not yet noted in the freelist, are extra. It is
// the last step of a commit that may fail for lack of space, and it can be undone.
func (pg *pager) prepareMap(t txid, extra []mapChange) (_ *mapPrepared, err error) {
	m := &mapPrepared{highWater: pg.fl.highWater}
	done := false
	defer func() {
		// Also when a page of the map cannot be read and the panic of the fault passes here.
		if done {
			return
		}
		if e := pg.undoMap(m); e != nil && err != nil {
			err = errors.Join(err, e)
		}
	}()
	m.update, err = pg.fl.prepare(t, extra, func(n int) (pgid, error) {
		id, err := pg.allocate(n)
		if err == nil {
			m.taken = append(m.taken, mapChange{run{id, n}, false})
		}
		return id, err
	})
	if err != nil {
		return nil, err
	}
	done = true
	return m, nil
}

func (pg *pager) undoMap(m *mapPrepared) error { return pg.fl.undo(m.taken, m.highWater) }

// reserveForMap sees to it that the checkpoint that will follow a commit has room for its map. The commit fails here, and not the
// checkpoint when it is too late.
func (pg *pager) reserveForMap(extra []mapChange) error {
	if pg.fl.solidFree() > pg.fl.updatePagesAtMost() {
		return nil
	}
	need := pg.fl.updatePages(extra)
	if err := pg.haveSolid(need); err != nil {
		return err
	}
	have := pg.fl.solidFree() + int((pg.st.size()-pg.offset(pg.fl.highWater))>>pg.shift)
	if have >= need {
		return nil
	}
	return pg.grow(pg.offset(pg.fl.highWater + pgid(need-pg.fl.solidFree())))
}

func (pg *pager) writeMap(u *mapUpdate) error {
	for _, p := range u.pages {
		if err := pg.st.writeAt(p, pg.offset(p.id())); err != nil {
			return fmt.Errorf("writing page %d of the free map: %w", p.id(), err)
		}
	}
	return nil
}

// beginCheckpoint settles what the tip's checkpoint consists of. From then on it is pinned until endCheckpoint. An error leaves the store as it
// was. The caller has the writer lock; no other checkpoint is under way. (Invariants 17 and 38)
func (pg *pager) beginCheckpoint(clean bool) (*checkpointRun, error) {
	begun := time.Now()
	if err := pg.checkRemoved(); err != nil {
		return nil, err
	}
	m, err := pg.prepareMap(pg.tip.id, nil)
	if err != nil {
		return nil, err
	}
	if err := pg.writeMap(m.update); err != nil {
		return nil, errors.Join(err, pg.undoMap(m))
	}
	defer pg.tellFailure()
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	if err := pg.adoptMap(m.update); err != nil {
		return nil, pg.failLocked("free map", err)
	}
	pg.tip.highWater = pg.fl.highWater
	c := &checkpointRun{state: pg.tip, fileLength: pg.st.size(), update: m.update, clean: clean, holes: pg.hasHoles(), done: make(chan struct{}),
		begun: begun, bytes: int64(len(m.update.pages) << pg.shift)}
	if clean {
		c.fileLength = pg.offset(c.state.highWater) // the file is cut when the meta is durable
	}
	if n := len(pg.groups); n > 0 {
		c.after = pg.groups[n-1]
		if !c.after.closed {
			pg.closeGroup(c.after)
		}
	}
	c.begin, c.previous = pg.log.plan, pg.log.previous
	pg.log.bytes = 0
	pg.sealed, pg.running = c.state.id, c
	return c, nil
}

// adoptMap brings a new version of the map into force in memory. The pages of the old one are pinned by the durable meta until the new
// meta is durable, and whatever becomes of the checkpoint, the next one builds on this version. The caller has commitMu and the
// writer lock.
func (pg *pager) adoptMap(u *mapUpdate) error {
	return pg.fl.adopt(u, max(pg.newestPin(), pg.tip.id))
}

// endCheckpoint makes c durable. It needs no lock: neither that of the writer nor commitMu. An error before the sync leaves the store
// as it was, with the log as long as before; from the sync on it is the failed state.
func (pg *pager) endCheckpoint(c *checkpointRun) error {
	err := pg.completeCheckpoint(c)
	pg.commitMu.Lock()
	pg.sealed, pg.running = 0, nil
	pg.commitMu.Unlock()
	close(c.done)
	return err
}

func (pg *pager) completeCheckpoint(c *checkpointRun) error {
	if c.after != nil {
		if err := pg.await(c.after); err != nil {
			return err
		}
		c.previous = c.after.sum
	}
	pg.publishMu.Lock()
	c.bytes += int64(len(pg.unwritten.due(c.state.id, nil)) << pg.shift)
	err := pg.writeDue(c.state.id)
	if err == nil {
		pg.publishWritten(c.state)
	}
	pg.publishMu.Unlock()
	if err != nil {
		return err
	}
	if err := pg.failed(); err != nil {
		return err
	}
	if !c.alone {
		if err := pg.writeBack(c.fileLength); err != nil {
			return err
		}
	}
	if err := pg.sync("sync of a checkpoint"); err != nil {
		return err
	}
	return pg.completeMeta(c)
}

// publishWritten publishes the state of a checkpoint, whose pages are in the file, if it is newer than the published one. Nobody may ever ask for it, but
// in a store that is only written what was published when somebody read last would keep its pages for good. The caller has publishMu.
func (pg *pager) publishWritten(s state) {
	if now := pg.published.Load(); now != nil && s.id > now.id && uint64(s.id) <= pg.visible.Load() {
		pg.publish(s)
	}
}

const (
	paceBytes = 1 << 20 // of the file that are written back at a time, or more
	paceSteps = 1 << 14 // at most: each costs a microsecond though nothing is to be written
)

// writeBack writes the pages of a checkpoint to the disk before the sync does, a part of the file at a time. A sync hands all of them to the disk at once, and
// every append meanwhile would wait behind them. A page that cannot be written is the failed state: a sync may not be told of it again.
func (pg *pager) writeBack(end int64) error {
	st, ok := pg.st.(pacer)
	if !ok {
		return nil
	}
	step := roundUp(max(paceBytes, end/paceSteps), paceBytes)
	for off := int64(0); off < end && pg.failed() == nil; off += step {
		if ok, err := st.writeBack(off, min(step, end-off)); err != nil {
			return pg.fail("writing back a checkpoint", err)
		} else if !ok {
			break
		}
	}
	return nil
}

// completeMeta writes the meta of a checkpoint whose pages are durable.
func (pg *pager) completeMeta(c *checkpointRun) error {
	pg.commitMu.Lock()
	next := pg.durable
	salt := pg.log.salt
	pg.commitMu.Unlock()
	u := c.update
	next.sequence++
	next.txid, next.root, next.rootCount, next.rootSeq = c.state.id, c.state.root, c.state.count, c.state.sequence
	next.highWater, next.fileLength = c.state.highWater, c.fileLength
	next.mapRoot, next.mapLevels, next.mapFree = u.levels[len(u.levels)-1][0], len(u.levels), u.free
	next.moves = c.state.moves
	next.clean, next.holes = c.clean, c.holes
	next.logBegin, next.logPages, next.logOffset, next.logPrevious = 0, 0, 0, 0
	if !c.clean {
		next.logBegin, next.logPages, next.logOffset = c.begin.id, c.begin.n, uint64(c.begin.off)
		next.logPrevious, next.logSalt = c.previous, salt
	}
	if err := pg.writeMeta(next); err != nil {
		return err
	}
	pg.commitMu.Lock()
	if c.clean {
		pg.log.stop()
	} else {
		pg.retireRuns(c.begin.id)
	}
	pg.counters.checkpoints++
	pg.counters.checkpointBytes += c.bytes
	pg.counters.checkpointTime += time.Since(c.begun)
	pg.commitMu.Unlock()
	pg.republish()
	return nil
}

// republish gives the published snapshot its free map, if it is the one of the last checkpoint.
func (pg *pager) republish() {
	pg.publishMu.Lock()
	defer pg.publishMu.Unlock()
	s := pg.published.Load()
	if s == nil {
		return
	}
	pg.commitMu.Lock()
	d := pg.durable
	pg.commitMu.Unlock()
	if d.txid == s.id && d.mapRoot != s.mapRoot {
		now := *s
		now.mapRoot, now.mapLevels, now.mapFree, now.highWater = d.mapRoot, d.mapLevels, d.mapFree, d.highWater
		mp := pg.st.mapping() // the map may lie where the store has grown since
		now.m, now.data, now.verified = mp, mp.data, pg.coverVerified(now.highWater)
		pg.published.Store(&now)
	}
}

// writeMeta writes m durably into the slot that does not hold the newest durable meta. One at a time may do so: a checkpoint, or the
// holder of the writer lock while none is under way.
func (pg *pager) writeMeta(m meta) error {
	m.epoch, m.survived, m.lines, m.place, m.folded = pg.epoch, pg.survived, pg.lines, pg.place, pg.folded
	slot := 1 - pg.slot
	buf := make([]byte, metaSize)
	m.encode(buf, slot)
	if err := pg.writeDurable(fmt.Sprintf("writing meta page %d", slot), buf, pg.offset(pgid(slot))); err != nil {
		return err
	}
	pg.commitMu.Lock()
	pg.durable, pg.slot, pg.wrote = m, slot, true
	pg.commitMu.Unlock()
	return nil
}

// waitCheckpoint returns when no checkpoint is under way; the caller has the writer lock, so that none can begin.
func (pg *pager) waitCheckpoint() {
	pg.commitMu.Lock()
	c := pg.running
	pg.commitMu.Unlock()
	if c != nil {
		if pg.opts.waiting != nil {
			pg.opts.waiting(false)
		}
		<-c.done
	}
}

// checkpointNow makes the tip durable by a checkpoint, if it is not. The caller has the writer lock and keeps it.
func (pg *pager) checkpointNow(clean bool) error {
	pg.waitCheckpoint()
	if err := pg.failed(); err != nil {
		return err
	}
	pg.commitMu.Lock()
	durable, active := pg.durable.txid == pg.tip.id, pg.log.active
	pg.commitMu.Unlock()
	if pg.opts.volatile || durable && !(clean && active) {
		return nil
	}
	if err := pg.reclaim(); err != nil {
		return err
	}
	c, err := pg.beginCheckpoint(clean)
	if err != nil {
		return err
	}
	c.alone = true
	return pg.endCheckpoint(c)
}

// checkpointInBackground is a checkpoint beside writers. It does nothing when one is under way, or nothing is to be done.
func (pg *pager) checkpointInBackground() {
	pg.writing <- struct{}{}
	pg.commitMu.Lock()
	idle := pg.running == nil && pg.log.active && pg.durable.txid != pg.tip.id
	pg.commitMu.Unlock()
	var c *checkpointRun
	var err error
	if idle && pg.writable() == nil {
		err = guarded(pg.st.mapping().data, func() error {
			if err := pg.reclaim(); err != nil {
				return err
			}
			var err error
			c, err = pg.beginCheckpoint(false)
			return err
		})
	}
	pg.unlock()
	if c != nil {
		err = pg.endCheckpoint(c)
	}
	pg.commitMu.Lock()
	pg.checkpointDue = false
	pg.commitMu.Unlock()
	if c != nil && err == nil && pg.opts.checkpointed != nil {
		pg.opts.checkpointed()
	}
	if err != nil && pg.opts.logger != nil {
		// The log goes on meanwhile, and the next checkpoint may find room.
		pg.opts.logger.Error("alder: background checkpoint failed", "error", err)
	}
}
