package alder

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Online shrink: small write transactions move what lies at the end of the file to free places in front, beside readers and writers, and then
// the file is cut. What a store holds does not change, so these transactions have nothing to say in the log: after a crash they
// have not happened, and nothing is lost by that. shrink_walk.go finds what is to be moved, shrink_move.go moves it, pager_shrink.go has the checkpoint and the cut.

// Shrinkage says what DB.Shrink has done, or how far it is.
type Shrinkage struct {
	Before int64 // length of the file in bytes when Shrink began
	File   int64 // length of the file now
	Goal   int64 // the length that it can have, as far as is known: it gets smaller while leaves are packed

	Moved  int64 // bytes of pages moved
	ToMove int64 // bytes of pages that are to be moved still, as far as is known
	Packed int64 // pages that were saved because neighboring leaves became full ones

	Punched int64 // bytes of free pages in the middle whose blocks went back to the file system, with Options.PunchHoles

	// What the file is longer than Goal by, if that is more than a few pages, and why:
	Held    int64 // bytes of pages behind Goal that were given up, and are part of a snapshot that is being read
	Readers int   // open read transactions that have some of them
	Changes bool  // a loop over DB.Changes needs some of them
}

// Limits of one write transaction of a shrink: others wait for the writer lock meanwhile.
const (
	shrinkPages = 256     // pages moved
	shrinkBytes = 1 << 20 // bytes of overflow runs moved, but at least one run
	shrinkTime  = 2 * time.Millisecond

	shrinkRounds   = 16          // walks over the store, at most
	shrinkIdle     = 3           // of those without a gain
	shrinkPatience = time.Second // how long readers that come and go are waited for
	shrinkRetry    = 5 * time.Millisecond
)

// Shrink makes the file shorter while readers and writers go on, until it has target bytes, or as few as it can have; 0 is as few as it can have. It
// moves pages and long values from the end of the file to free places in front, packs leaves that are not full if target asks for
// it, and gives back what is free then. progress, if it is not nil, is called now and then by Shrink's goroutine.
//
// Shrink returns when nothing more is to be gained now, with what it has done; a target that cannot be reached is no error. Pages that open read
// transactions have stay where they are: what of the end of the file is held by them, or by a loop over DB.Changes, is in the
// result, after Shrink has waited a second for those that end. Whatever it has done stays done if it ends early, with the cause of ctx, or with an error of
// the disk; it may be called again at any time, also after a crash. If another Shrink is at work, it waits for that. A goroutine that has a write transaction must not call it.
//
// Nobody waits for Shrink longer than for a small transaction: what it does comes in write transactions of its own of some two milliseconds each, and a write
// transaction begins up to ten milliseconds later if those before have taken room behind the place where the file is to end. Readers, Diff and Changes show no change of what Shrink does; a value of more than a megabyte is copied beside them. They have numbers, as others have, so
// Tx.ID and Tx.Snapshot go up. To Tx.WriteDiff a page that was moved looks like one that has changed: the next incremental backup is larger by the leaves that were
// moved or packed, but not by long values. Leaves that are full are split by the first puts between their keys.
//
// It returns ErrDatabaseReadOnly, ErrDatabaseNotOpen, or an error that matches ErrFailed, ErrCorrupt or ErrRemoved, or comes from the system. On systems
// that do not cut a mapped file (Windows) the file itself becomes shorter when the store is closed.
//
// Cost: a read of each branch, and of each leaf if it packs, and a copy of each page that is moved.
func (db *DB) Shrink(ctx context.Context, target int64, progress func(Shrinkage)) (Shrinkage, error) {
	if db.pager == nil {
		return Shrinkage{}, ErrDatabaseNotOpen
	}
	s := &shrinker{db: db, pg: db.pager, ctx: ctx, target: target, progress: progress, patience: db.pager.opts.shrinkPatience}
	return s.run()
}

// shrinker is one shrink at work.
type shrinker struct {
	db       *DB
	pg       *pager
	ctx      context.Context
	target   int64
	noPack   bool
	budget   int64 // bytes that may be moved; 0: any number
	least    pgid  // what lies before it stays where it is
	progress func(Shrinkage)
	out      Shrinkage

	limit    pgid // pages from here on are to be moved
	holdBack bool // writers that take such pages wait a little: see pager.holdBack
	moved    int  // pages, in the walk under way
	patience time.Duration
}

// errNoRoom ends a walk: there is no free place in front any more.
var errNoRoom = errors.New("alder: no room to move pages to")

// errNothingToDo rolls a transaction back that has found nothing to move.
var errNothingToDo = errors.New("alder: nothing to move")

func (s *shrinker) run() (Shrinkage, error) {
	pg := s.pg
	if err := pg.writable(); err != nil {
		return s.out, err
	}
	// The end of the store ends it, and waits for that.
	if !pg.beginWork() {
		return s.out, ErrDatabaseNotOpen
	}
	defer pg.work.Done()
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-pg.stopping:
			cancel(ErrDatabaseNotOpen)
		case <-ctx.Done():
		}
	}()
	s.ctx = ctx
	select {
	case pg.shrinking <- struct{}{}:
		defer func() { <-pg.shrinking }()
	case <-ctx.Done():
		return s.out, context.Cause(ctx)
	}
	defer func() {
		pg.front.Store(0)
		pg.overdrawn.Store(0)
		pg.held.Store(0)
		pg.commitMu.Lock()
		pg.fewRuns = false
		pg.commitMu.Unlock()
	}()
	s.out.Before = pg.st.size()
	err := s.work()
	if err == nil && pg.opts.punchHoles {
		err = s.punch()
	}
	s.out.File = pg.st.size()
	return s.out, err
}

func (s *shrinker) work() error {
	if worth, err := s.canGain(); err != nil || !worth {
		return err
	}
	s.holdBack = !s.noPack
	// What only waits for a checkpoint is free after one.
	if err := s.settle(); err != nil {
		return err
	}
	if worth, err := s.keepToBudget(); err != nil || !worth {
		return err
	}
	if !s.noPack && (s.target <= 0 || s.out.Goal > s.target) {
		if err := s.walk(packLeaves); err != nil && err != errNoRoom {
			return err
		}
		if err := s.settle(); err != nil {
			return err
		}
	}
	// Others write meanwhile, so once is not always enough.
	best, left := s.pg.st.size(), s.out.ToMove
	idle := 0
	for round := 0; round < shrinkRounds && idle < shrinkIdle; round++ {
		before := s.pg.st.size()
		s.moved = 0
		err := s.walk(moveValues)
		if err == nil || err == errNoRoom {
			err = s.walk(movePages)
		}
		if err != nil && err != errNoRoom {
			return err
		}
		// The places of what has moved are free after one checkpoint, and the next one has the lower mark.
		for range 2 {
			if err := s.waitForReaders(); err != nil {
				return err
			}
			if err := s.settle(); err != nil {
				return err
			}
		}
		now := s.pg.st.size()
		if now <= s.out.Goal+s.out.Goal/shrinkSlack || s.moved == 0 && now == before && idle > 0 {
			break // once, a run of the log that the background has just made ready may have been in the way
		}
		if idle++; now < best-best/shrinkSlack || s.out.ToMove < left-left/8 {
			idle = 0
		}
		best, left = min(best, now), min(left, s.out.ToMove)
	}
	return s.noteHolders()
}

// settle makes a checkpoint, so that what was given up becomes free as far as nobody reads it, with the mark as low as it can be, cuts the file,
// and looks where the store could end now.
func (s *shrinker) settle() error {
	pg := s.pg
	if err := pg.reclaimInParts(s.ctx); err != nil {
		return err
	}
	if err := s.look(nil); err != nil {
		return err
	}
	if err := s.lowCheckpoint(); err != nil {
		return err
	}
	if err := pg.cutFile(s.ctx); err != nil {
		return err
	}
	if err := pg.reclaimInParts(s.ctx); err != nil {
		return err
	}
	return s.look(pg.reclaim)
}

// canGain reports whether more pages than a shrink needs itself, for its log and a new map, are not in use, or may be spared by packing.
func (s *shrinker) canGain() (worth bool, err error) {
	pg := s.pg
	err = s.look(func() error {
		idle := pg.fl.free + pg.fl.pendingPages + pg.logPages() + int((pg.st.size()-pg.offset(pg.fl.highWater))>>pg.shift)
		if !s.noPack {
			idle += pg.treePages()
		}
		worth = idle > pg.fl.updatePagesAtMost()+pg.lowRunPages()
		return nil
	})
	return worth, err
}

// look aims anew, after what prepare does with the writer lock.
func (s *shrinker) look(prepare func() error) error {
	pg := s.pg
	if err := pg.lockIdle(s.ctx); err != nil {
		return err
	}
	defer pg.unlock()
	return guarded(pg.st.mapping().data, func() error {
		if prepare != nil {
			if err := prepare(); err != nil {
				return err
			}
		}
		return s.aim()
	})
}

// lowCheckpoint makes a checkpoint behind which neither log nor free map lie at the end of the file, with the high water mark lowered over what is
// free there.
func (s *shrinker) lowCheckpoint() error {
	pg := s.pg
	if err := pg.lowLog(s.ctx, s.limit); err != nil {
		return err
	}
	if err := s.mark(); err != nil {
		return err
	}
	if err := pg.checkpointWith(s.ctx, func() (bool, error) {
		pg.jumpLog(s.limit)
		err := pg.lowerTail(s.limit)
		pg.fl.ceiling = s.limit
		return true, err
	}); err != nil {
		return err
	}
	return pg.materializeVisible()
}

// aim chooses the limit. The caller has the writer lock.
func (s *shrinker) aim() error {
	pg := s.pg
	s.limit = pg.goal()
	if wanted := pgid(max(s.target, 0) >> pg.shift); wanted > s.limit {
		s.limit = min(wanted, pg.fl.highWater)
	}
	s.limit = min(max(s.limit, s.least), pg.fl.highWater)
	if s.holdBack {
		pg.front.Store(uint64(s.limit))
		pg.held.Store(0)
	}
	s.out.Goal = pg.offset(s.limit)
	free, err := pg.fl.freeBetween(s.limit, pg.fl.highWater)
	s.out.ToMove = pg.offset(pg.fl.highWater-s.limit) - int64(free)<<pg.shift
	s.report()
	return err
}

// keepToBudget leaves as much in its place as the budget asks for. It reports whether the rest is worth it.
func (s *shrinker) keepToBudget() (worth bool, err error) {
	pg := s.pg
	if s.budget == 0 {
		return true, nil
	}
	err = s.look(func() error {
		lo, hi := pg.goal(), pg.fl.highWater
		for lo < hi {
			mid := lo + (hi-lo)/2
			free, err := pg.fl.freeBetween(mid, pg.fl.highWater)
			if err != nil {
				return err
			}
			if pg.offset(pg.fl.highWater-mid-pgid(free)) > s.budget {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		s.least = lo
		worth = pg.fl.highWater-lo > pg.fl.highWater/8
		return nil
	})
	return worth, err
}

func (s *shrinker) report() {
	if s.progress != nil {
		s.out.File = s.pg.st.size()
		s.progress(s.out)
	}
}

// mark commits a transaction that does nothing, so that the checkpoint that follows has a number of its own, and what was given up before is
// not part of its state.
func (s *shrinker) mark() error {
	return s.update(func(*Tx) error { return nil })
}

// update runs a transaction that changes nothing of what the store holds. It is lazy: nothing is lost with it.
func (s *shrinker) update(fn func(tx *Tx) error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if err := s.pg.writable(); err != nil {
		return err
	}
	if err := s.pg.lock(s.ctx); err != nil {
		return err
	}
	tx, err := s.db.beginLocked()
	if err != nil {
		return err
	}
	tx.w.level, tx.w.moves = DurabilityLazy, true
	tx.w.floor = tx.w.id - 1 // a shared page would keep its place
	return tx.update(fn)
}

// waitForReaders waits for read transactions to end that have pages at the end, if they began before now, but not for long in all.
func (s *shrinker) waitForReaders() error {
	pg := s.pg
	pg.commitMu.Lock()
	now := pg.tip.id
	pg.commitMu.Unlock()
	for wait := shrinkRetry; s.patience > 0; wait = min(2*wait, 20*shrinkRetry) {
		if err := pg.lock(s.ctx); err != nil {
			return err
		}
		oldest := slices.Min(append(pg.readers.pinned(nil), now))
		held := oldest < now && pg.fl.pendingBehind(s.limit, oldest, now)
		pg.unlock()
		if !held {
			return nil
		}
		select {
		case <-time.After(wait):
			s.patience -= wait
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	return nil
}

// noteHolders says why the file is longer than it could be.
func (s *shrinker) noteHolders() error {
	pg := s.pg
	if err := pg.lock(s.ctx); err != nil {
		return err
	}
	defer pg.unlock()
	if pg.st.size() > s.out.Goal+s.out.Goal/shrinkSlack {
		var pages int64
		pages, s.out.Readers, s.out.Changes = pg.tailHolders(s.limit)
		s.out.Held = pages << pg.shift
	}
	return nil
}
