package alder

import (
	"context"
	"errors"
	"slices"
	"time"
)

// How a shrink moves pages, packs leaves, and copies long values: a walk finds what is to be done, and small transactions do it.

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
