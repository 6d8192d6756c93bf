package alder

import "time"

// What goes on beside transactions: runs of the log made ready, checkpoints, lazy commits made durable.

// committed does what is due after a commit: the caller holds no lock any more. An error concerns the memory that committed
// transactions take.
func (pg *pager) committed(lazy bool) error {
	var work []func()
	pg.commitMu.Lock()
	l := &pg.log
	if l.active && l.next.n == 0 && !l.preparing && l.plan.off > pg.runBytes(l.plan.run)/2 {
		l.preparing = true
		work = append(work, pg.prepareAhead)
	}
	if l.active && l.bytes >= pg.logLimit() && pg.running == nil && !pg.checkpointDue {
		pg.checkpointDue = true
		work = append(work, pg.checkpointInBackground)
	}
	if l.active && !pg.aging && !pg.closed {
		pg.aging = true
		pg.after(pg.opts.checkpointAge, pg.age)
	}
	var behind *group
	if lazy && len(pg.groups) > 0 && !pg.closed {
		if !pg.syncing {
			pg.syncing = true
			pg.after(pg.opts.syncInterval, pg.syncLazily)
		}
		if n := len(pg.groups); n > maxQueuedGroups {
			behind = pg.groups[0]
		} else if n > 1 && !pg.flushing {
			// The open group goes on collecting; that it is the second says that the others are closed.
			full := pg.groups[n-2]
			work = append(work, func() { _ = pg.await(full) }) // an error is the failed state
		}
	}
	pg.commitMu.Unlock()
	for _, f := range work {
		pg.start(f)
	}
	if behind != nil {
		if err := pg.await(behind); err != nil {
			return err
		}
	}
	if n := pg.unwritten.count() * pg.pageSize; n > pg.opts.dirtyLimit {
		_ = pg.materializeVisible() // tried again by the next reader, who gets the error
	} else if n > pg.opts.dirtyLimit/unwrittenShare && pg.writingOut.CompareAndSwap(false, true) {
		pg.start(func() {
			defer pg.writingOut.Store(false)
			_ = pg.materializeVisible() // as above
		})
	}
	return nil
}

// unwrittenShare is the part of the memory for unwritten pages above which they are written in the background: before a
// commit has to wait for that, and before a reader that begins has to wait for long.
const unwrittenShare = 4

// logLimit is the number of bytes of log after which a checkpoint is due. For a small store that is less than for a large one: its
// checkpoint costs little, and its file should stay small.
func (pg *pager) logLimit() int64 {
	return min(pg.opts.logSize, max(minLogSize, 2*int64(pg.tip.treePages)<<pg.shift))
}

const minLogSize = 512 << 10

// maxQueuedGroups is the number of groups after which lazy commits wait for the disk.
const maxQueuedGroups = 16

// syncLazily makes lazy commits durable some time after the first.
func (pg *pager) syncLazily() {
	pg.commitMu.Lock()
	pg.syncing = false
	pg.commitMu.Unlock()
	_ = pg.syncLog() // an error is the failed state, which the next commit reports
}

// age begins a checkpoint some time after the first commit that needs one.
func (pg *pager) age() {
	pg.commitMu.Lock()
	waits := pg.log.active && pg.durable.txid != pg.tip.id
	due := waits && pg.running == nil && !pg.checkpointDue
	// The checkpoint that is under way may be one of an earlier state.
	if pg.aging = waits && !due && !pg.closed; pg.aging {
		pg.after(pg.opts.checkpointAge, pg.age)
	}
	pg.checkpointDue = pg.checkpointDue || due
	pg.commitMu.Unlock()
	if due {
		pg.checkpointInBackground()
	}
}

// start runs f beside the caller, who holds no lock, unless the store is being closed.
func (pg *pager) start(f func()) {
	if pg.beginWork() {
		pg.opts.background(func() {
			defer pg.work.Done()
			f()
		})
	}
}

// beginWork counts work that the end of the store waits for, unless it is being closed.
func (pg *pager) beginWork() bool {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	if !pg.closed {
		pg.work.Add(1)
	}
	return !pg.closed
}

// after runs f when d has passed, unless the store is closed by then.
func (pg *pager) after(d time.Duration, f func()) {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		pg.commitMu.Lock()
		delete(pg.timers, t)
		pg.commitMu.Unlock()
		pg.start(f)
	})
	pg.timers[t] = struct{}{}
}

// stopWork ends background work, and waits for what is under way. Afterwards none begins.
func (pg *pager) stopWork() {
	pg.commitMu.Lock()
	pg.closed = true
	close(pg.stopping)
	for t := range pg.timers {
		t.Stop()
	}
	pg.feed.rouse()
	pg.commitMu.Unlock()
	pg.work.Wait()
	pg.dropHistory()
}
