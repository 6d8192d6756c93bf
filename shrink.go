package alder

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Online shrink: small write transactions move what lies at the end of the file to free places in front, beside readers and writers, and then
// the file is cut. What a store holds does not change, so these transactions have nothing to say in the log: after a crash they
// have not happened, and nothing is lost by that. shrink_walk.go finds what is to be moved, pager_shrink.go has the checkpoint and the cut.

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
// Nobody waits for Shrink longer than for a small transaction: what it does comes in write transactions of its own of some two milliseconds each, which
// readers, Diff and Changes show no change of; a value of more than a megabyte is copied beside them. They have numbers, as others have, so
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
		if now <= s.out.Goal+s.out.Goal/shrinkSlack || s.moved == 0 && now == before {
			break
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
	if err := s.look(nil); err != nil {
		return err
	}
	if err := s.lowCheckpoint(); err != nil {
		return err
	}
	if err := pg.cutFile(s.ctx); err != nil {
		return err
	}
	return s.look(pg.reclaim)
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
	tx, err := s.db.BeginContext(s.ctx, true)
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

// ---- moving

// walk goes over the whole store once, and moves, or packs, what it finds.
func (s *shrinker) walk(work shrinkWork) error {
	for from := [][]byte{}; from != nil; {
		tx, err := s.db.BeginContext(s.ctx, false)
		if err != nil {
			return err
		}
		w := shrinkWalk{tx: tx, work: work, limit: s.limit}
		err = w.look(from)
		if e := tx.Rollback(); err == nil {
			err = e
		}
		if err == nil {
			err = s.moveAll(w.targets)
		}
		if err != nil {
			return err
		}
		from = w.next
	}
	return s.pg.syncLog() // so that the next walk sees it
}

// moveAll moves what targets lead to, in as many transactions as it takes.
func (s *shrinker) moveAll(targets []shrinkTarget) error {
	relieved := false
	for len(targets) > 0 {
		done, err := s.moveSome(targets)
		targets = targets[done:]
		if err == errNoRoom && !relieved {
			// What the transactions before gave up in front is free after a checkpoint.
			relieved = true
			if err = s.settle(); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		relieved = relieved && done == 0
		s.report()
	}
	return nil
}

// moveSome is one transaction. It returns how many targets it is through with.
func (s *shrinker) moveSome(targets []shrinkTarget) (done int, err error) {
	m := mover{s: s, limit: s.limit}
	if targets[0].leaves > 0 {
		m.limit = maxPgid
	}
	err = s.update(func(tx *Tx) error {
		m.tx = tx
		if err := m.begin(); err != nil {
			return err
		}
		for _, t := range targets {
			if err := m.target(t); err != nil {
				return err
			}
			if m.full {
				break
			}
			done++
			if m.enough() {
				break
			}
		}
		if m.touched == 0 {
			return errNothingToDo
		}
		return nil
	})
	if err != nil && err != errNothingToDo {
		return 0, err
	}
	err = nil
	if m.full {
		err = errNoRoom
	}
	s.moved += m.touched
	s.out.Packed += int64(m.saved)
	s.out.Moved += int64(m.touched) << s.pg.shift
	s.out.ToMove = max(s.out.ToMove-int64(m.touched)<<s.pg.shift, 0)
	for _, big := range m.big {
		if err := s.moveBig(big); err != nil {
			return done, err
		}
	}
	return done, err
}

// mover is one write transaction of a shrink.
type mover struct {
	s       *shrinker
	tx      *Tx
	limit   pgid // new places are to be in front of it
	until   time.Time
	room    int  // free pages that may be taken
	full    bool // they were too few for the next target
	touched int  // pages behind the limit that have moved, or leaves that were packed
	saved   int
	bytes   int // of runs
	big     []bigValue
}

// begin counts the places in front.
func (m *mover) begin() (err error) {
	fl := m.tx.pager.fl
	m.until = time.Now().Add(m.tx.pager.opts.shrinkTime)
	m.room, err = fl.freeBetween(firstPage, min(m.limit, fl.highWater))
	m.room = min(m.room, fl.free-fl.updatePagesAtMost())
	return err
}

func (m *mover) enough() bool {
	return m.touched >= shrinkPages || m.bytes >= shrinkBytes || time.Now().After(m.until)
}

// has reports whether there are n free places.
func (m *mover) has(n int) bool {
	m.full = m.full || m.room < n
	return !m.full
}

// taken counts the places that have been taken since so many pages were free.
func (m *mover) taken(free int) { m.room -= free - m.tx.pager.fl.free }

// target does what is to be done at t, if it is still there.
func (m *mover) target(t shrinkTarget) error {
	b := &m.tx.w.root
	for _, name := range t.bucket {
		if b = b.Bucket(name); b == nil {
			return m.tx.Err()
		}
	}
	return b.write(func() error {
		switch {
		case t.leaves > 0:
			return m.pack(b, t)
		case t.inline:
			return m.inline(b)
		}
		return m.page(b, t)
	})
}

// maxPackDepth is more than the pages above its leaves that packing takes.
const maxPackDepth = 8

func (m *mover) pack(b *Bucket, t shrinkTarget) error {
	if !m.has(t.leaves + maxPackDepth) {
		return nil
	}
	defer m.taken(m.tx.pager.fl.free)
	saved, err := b.tree.pack(m.tx, t.key, t.leaves)
	if saved > 0 {
		m.saved += saved
		m.touched += t.leaves
	}
	return err
}

// page moves the pages on the path to the target that lie behind the limit, and the runs that the target refers to.
func (m *mover) page(b *Bucket, t shrinkTarget) error {
	tr := &b.tree
	if tr.root.id == 0 {
		return nil
	}
	pth, _, err := tr.seek(m.tx, nil, t.key)
	if err != nil {
		return err
	}
	pth = pth[:min(t.level+1, len(pth))]
	high := 0
	for _, l := range pth {
		if l.p.id() >= m.s.limit {
			high++
		}
	}
	last := pth[len(pth)-1].p
	runs := anyRun(last, m.behind)
	if high == 0 && !runs {
		return nil
	}
	if !m.has(len(pth)) {
		return nil
	}
	free := m.tx.pager.fl.free
	tr.forget()
	if err := tr.touchPath(m.tx, pth); err != nil {
		return err
	}
	m.taken(free)
	m.touched += high
	if !runs {
		return nil
	}
	return moveRuns(pth[len(pth)-1].p, func(r overflowRef) (overflowRef, error) { return m.run(b, t, r) })
}

// inline moves the runs that a bucket without a page of its own refers to.
func (m *mover) inline(b *Bucket) error {
	if b.tree.root.id != 0 || b.tree.inline == nil || !anyRun(b.tree.inline, m.behind) {
		return nil
	}
	image := page(bytesOf(b.tree.inline))
	err := moveRuns(image, func(r overflowRef) (overflowRef, error) { return m.run(b, shrinkTarget{}, r) })
	b.tree.inline = image
	b.tree.changes++
	return err
}

func (m *mover) behind(r overflowRef) bool {
	return r.id+pgid(runPages(r.length, m.tx.pager.pageSize)) > m.s.limit
}

// run moves an overflow run to a free place in front of it, if there is one.
func (m *mover) run(b *Bucket, t shrinkTarget, r overflowRef) (overflowRef, error) {
	pg := m.tx.pager
	n := runPages(r.length, pg.pageSize)
	if !m.behind(r) || m.bytes >= shrinkBytes {
		return r, nil // or with the next walk
	}
	if r.length > shrinkBytes {
		m.big = append(m.big, bigValue{bucket: b.names(), key: t.key, from: r})
		return r, nil
	}
	if m.room < n {
		return r, nil
	}
	to, err := pg.fl.findRun(n)
	if err != nil || to == 0 || to >= r.id {
		return r, err
	}
	data, err := m.tx.readRun(r)
	if err != nil {
		return r, err
	}
	id, err := m.tx.allocate(n)
	if err != nil {
		return r, err
	}
	m.room -= n
	m.bytes += n << pg.shift
	m.touched += n
	now := overflowRef{pageRef{id, r.birth}, r.length}
	if err := pg.copyRun(now, data, nil); err != nil {
		return r, err
	}
	m.tx.snap.verified.set(id)
	return now, m.tx.freeRun(r)
}

// ---- large values

// bigValue is a value that takes too long to be copied in a transaction.
type bigValue struct {
	bucket [][]byte
	key    []byte // leads to the leaf
	from   overflowRef
}

// moveBig copies a value while nobody waits, and then lets its cell refer to the copy, if the value is still the same.
func (s *shrinker) moveBig(v bigValue) error {
	pg := s.pg
	to, err := s.reserve(v.from)
	if err != nil || to.n == 0 {
		return err
	}
	now := overflowRef{pageRef{to.id, v.from.birth}, v.from.length}
	moved := false
	err = s.copyBig(v.from, now)
	if err == nil {
		err = s.update(func(tx *Tx) error {
			moved, err = s.adoptCopy(tx, v, now, to)
			if err == nil && !moved {
				err = errNothingToDo
			}
			return err
		})
	}
	if err == nil && moved {
		s.moved += to.n
		s.out.Moved += pg.runBytes(to)
		s.out.ToMove = max(s.out.ToMove-pg.runBytes(to), 0)
		s.report()
		return nil
	}
	if err == errNothingToDo || err == errGone {
		err = nil
	}
	// If the transaction did not happen its pages are free already.
	pg.writing <- struct{}{}
	defer pg.unlock()
	if slices.Contains(pg.logRuns, to) && pg.failed() == nil {
		if e := guarded(pg.st.mapping().data, func() error { return pg.freeLog([]run{to}) }); err == nil {
			err = e
		}
	}
	return err
}

// reserve takes the pages for a copy, as it takes a run of the log: the free map does not know of them before a transaction does. n == 0: there is no
// place in front.
func (s *shrinker) reserve(r overflowRef) (to run, err error) {
	pg := s.pg
	if err := pg.lockIdle(s.ctx); err != nil {
		return run{}, err
	}
	defer pg.unlock()
	err = guarded(pg.st.mapping().data, func() error {
		n := runPages(r.length, pg.pageSize)
		if err := pg.reclaim(); err != nil || pg.fl.free < n+pg.fl.updatePagesAtMost() {
			return err
		}
		id, err := pg.fl.findRun(n)
		if err != nil || id == 0 || id >= r.id {
			return err
		}
		to, err = pg.allocateLog(n, n)
		return err
	})
	return to, err
}

// errGone says that a value that was to be moved is not there any more.
var errGone = errors.New("alder: the value is gone")

// copyBig copies a run, with its pages pinned.
func (s *shrinker) copyBig(from, to overflowRef) error {
	return s.db.ViewContext(s.ctx, func(tx *Tx) error {
		data, err := tx.readRun(from)
		if errors.Is(err, ErrCorrupt) {
			return errGone // or damaged: then that is for its reader to find out
		}
		if err != nil {
			return err
		}
		return s.pg.copyRun(to, data, func() error { return context.Cause(s.ctx) })
	})
}

// adoptCopy lets the cell that refers to a value refer to its copy; false: the value has changed.
func (s *shrinker) adoptCopy(tx *Tx, v bigValue, now overflowRef, to run) (moved bool, err error) {
	b := &tx.w.root
	for _, name := range v.bucket {
		if b = b.Bucket(name); b == nil {
			return false, tx.Err()
		}
	}
	same := func(r overflowRef) bool { return r == v.from }
	adopt := func(r overflowRef) (overflowRef, error) {
		if !same(r) || moved {
			return r, nil
		}
		moved = true
		s.pg.logRuns = slices.DeleteFunc(s.pg.logRuns, func(l run) bool { return l == to })
		tx.w.noteChange(to, false)
		tx.look()
		tx.snap.verified.set(to.id)
		return now, tx.freeRun(r)
	}
	err = b.write(func() error {
		if b.tree.root.id == 0 {
			if b.tree.inline == nil || !anyRun(b.tree.inline, same) {
				return nil
			}
			image := page(bytesOf(b.tree.inline))
			b.tree.inline = image
			b.tree.changes++
			return moveRuns(image, adopt)
		}
		pth, _, err := b.tree.seek(tx, nil, v.key)
		if err != nil || !anyRun(pth.leaf().p, same) {
			return err
		}
		b.tree.forget()
		if err := b.tree.touchPath(tx, pth); err != nil {
			return err
		}
		return moveRuns(pth.leaf().p, adopt)
	})
	return moved, err
}
