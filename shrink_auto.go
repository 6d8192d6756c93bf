package alder

import (
	"context"
	"time"
)

// When a store becomes shorter by itself: at Close, within a bound, and while nobody writes. docs/decisions/0011-automatic-shrink.md has the
// measurements.

const (
	autoShrinkLeast  = 4 << 20     // bytes that must be free
	autoShrinkBudget = 128 << 20   // bytes that Close moves at most
	autoShrinkTime   = time.Second // that Close takes for it at most

	autoShrinkIdle = 3 // nobody must have written for the age of a checkpoint, divided by this
)

// mayShrink reports whether the store may become shorter by itself, and whether at least 1/part of the file would go. It waits for no
// transaction.
func (db *DB) mayShrink(part int64) bool {
	pg := db.pager
	if db.opts.NoAutoShrink || pg.opts.volatile || pg.writable() != nil {
		return false
	}
	if pg.tryLock() != nil {
		return false
	}
	defer pg.unlock()
	idle := pg.offset(pgid(pg.fl.free + pg.fl.pendingPages + pg.logPages()))
	return pg.commits > 0 && idle > pg.opts.autoShrinkLeast && idle > pg.st.size()/part
}

// shrinkAtClose moves a bounded part of the file to its begin, if much of the file is free. It is worth no error: what it has not done is not needed.
func (db *DB) shrinkAtClose() {
	if !db.mayShrink(4) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), autoShrinkTime)
	defer cancel()
	s := &shrinker{db: db, pg: db.pager, ctx: ctx, noPack: true, budget: autoShrinkBudget}
	if db.pager.lock(ctx) != nil {
		return
	}
	db.pager.shrinkingAtClose = true
	db.pager.unlock()
	_, _ = s.run()
}

// shrinkWhenIdle makes the store shorter in the background if nobody writes for a while after a checkpoint, and more than half of the file is free.
func (db *DB) shrinkWhenIdle() {
	pg := db.pager
	if !db.mayShrink(2) {
		return
	}
	last := pg.visible.Load()
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	if pg.closed {
		return
	}
	pg.after(pg.opts.checkpointAge/autoShrinkIdle, func() {
		if pg.visible.Load() != last || !db.mayShrink(2) {
			return
		}
		s := &shrinker{db: db, pg: pg, ctx: context.Background(), noPack: true}
		out, err := s.run()
		if l := pg.opts.logger; l != nil && err == nil && out.File < out.Before {
			l.Info("alder: file shortened", "store", db.path, "before", out.Before, "after", out.File)
		}
	})
}
