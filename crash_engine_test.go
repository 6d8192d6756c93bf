package alder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The engine as a store under test of the crash laboratory.

// alderUnderTest implements crashStore.
type alderUnderTest struct {
	db   *DB
	work []func() // to be done in the background
}

// openAlder opens the engine on st; if that fails, st is closed.
func openAlder(st storage, c crashConfig) (crashStore, error) {
	s := &alderUnderTest{}
	var err error
	s.db, err = openStorage(st, &Options{PageSize: c.pageSize, DirtyLimit: c.dirtyLimit, NoSync: c.lazy, LogSize: c.logSize, longValue: c.longValue, maxRecord: c.maxRecord,
		// A case must make the same calls each time: nothing happens at its own time.
		background: func(f func()) { s.work = append(s.work, f) }, checkpointAge: time.Hour, shrinkTime: time.Hour, punchLeast: 1, SyncInterval: time.Hour, removedInterval: time.Hour, waiting: c.waiting})
	if err != nil {
		st.close()
		return nil, err
	}
	if c.disk.attend {
		s.db.pager.opts.crowdedFrom = 0 // every append is attended
	}
	return s, nil
}

// showAlder opens a store for reading only.
func showAlder(st storage, c crashConfig) (crashStore, error) {
	db, err := openStorage(st, &Options{ReadOnly: true, background: func(func()) {}})
	if err != nil {
		return nil, err
	}
	return &alderUnderTest{db: db}, nil
}

func (s *alderUnderTest) close() error {
	s.background()
	return s.db.Close()
}

func (s *alderUnderTest) background() {
	for len(s.work) > 0 {
		f := s.work[0]
		s.work = s.work[1:]
		f()
	}
}

func (s *alderUnderTest) sync() error { return s.db.Sync() }

func (s *alderUnderTest) shrink() error {
	_, err := s.db.Shrink(context.Background(), 0, nil)
	return err
}

// punch gives the blocks of all free pages back but of the first few.
func (s *alderUnderTest) punch() error {
	return (&shrinker{db: s.db, pg: s.db.pager, ctx: context.Background()}).punch()
}

// lower lowers the high water mark over what is free at the end, and does not cut the file: a shrink that was interrupted between the two.
func (s *alderUnderTest) lower() error {
	pg := s.db.pager
	defer func() {
		pg.commitMu.Lock()
		pg.fewRuns = false
		pg.commitMu.Unlock()
	}()
	k := &shrinker{db: s.db, pg: pg, ctx: context.Background()}
	if err := k.look(nil); err != nil {
		return err
	}
	return k.lowCheckpoint()
}

func (s *alderUnderTest) commit(ops []scriptOp, level Durability) error {
	return s.db.Update(func(tx *Tx) error { return errors.Join(tx.SetDurability(level), applyOps(tx, ops)) })
}

// seal does what checkpointInBackground does first.
func (s *alderUnderTest) seal() (complete func() error, err error) {
	pg := s.db.pager
	pg.writing <- struct{}{}
	defer pg.unlock()
	pg.commitMu.Lock()
	idle := pg.running == nil && pg.log.active && pg.durable.txid != pg.tip.id
	pg.commitMu.Unlock()
	if err := pg.writable(); err != nil || !idle {
		return nil, err
	}
	var c *checkpointRun
	err = guarded(pg.st.mapping().data, func() (err error) {
		if err = pg.reclaim(); err == nil {
			c, err = pg.beginCheckpoint(false)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() error { return pg.endCheckpoint(c) }, nil
}

func (s *alderUnderTest) rollback(ops []scriptOp) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	if err := applyOps(tx, ops); err != nil {
		tx.Rollback()
		return err
	}
	return tx.Rollback()
}

// bucketsOf is what Tx and Bucket have in common.
type bucketsOf interface {
	Bucket(name []byte) *Bucket
	CreateBucket(name []byte) (*Bucket, error)
	DeleteBucket(name []byte) error
}

func applyOps(tx *Tx, ops []scriptOp) error {
	for _, o := range ops {
		if err := o.perform(tx); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	return nil
}

func bucketAt(tx *Tx, path []string) (*Bucket, error) {
	var in bucketsOf = tx
	var b *Bucket
	for _, name := range path {
		if b = in.Bucket([]byte(name)); b == nil {
			if err := tx.Err(); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %s", ErrBucketNotFound, name)
		}
		in = b
	}
	return b, nil
}

// perform does o, which makes sense in the state that tx is in, so every error is a failure.
func (o scriptOp) perform(tx *Tx) error {
	b, err := bucketAt(tx, o.path)
	if err != nil {
		return err
	}
	var in bucketsOf = tx
	if b != nil {
		in = b
	}
	key := []byte(scriptKey(o.key))
	switch o.kind {
	case "put":
		return b.Put(key, []byte(o.value()))
	case "del":
		return b.Delete(key)
	case "bucket":
		_, err := in.CreateBucket(key)
		return err
	case "delbucket":
		return in.DeleteBucket(key)
	case "next":
		_, err := b.NextSequence()
		return err
	case "setseq":
		return b.SetSequence(uint64(o.n))
	case "delrange":
		_, err := b.DeleteRange(key, []byte(scriptKey(o.key2)))
		return err
	case "move":
		to, err := bucketAt(tx, o.path2)
		if err != nil {
			return err
		}
		return tx.MoveBucket(key, b, to)
	}
	return fmt.Errorf("unknown operation %q", o.kind)
}

func (s *alderUnderTest) busy() (appending, writing bool, tip int) {
	pg := s.db.pager
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	return pg.flushing, len(pg.writing) > 0, int(pg.tip.id)
}

// alderSnapshot implements crashSnapshot.
type alderSnapshot struct{ tx *Tx }

func (s *alderUnderTest) snapshot() (crashSnapshot, error) {
	tx, err := s.db.Begin(false)
	if err != nil {
		return nil, err
	}
	return &alderSnapshot{tx}, nil
}

func (s *alderSnapshot) end() error { return s.tx.Rollback() }

func (s *alderSnapshot) check() error { return checkWhole(s.tx) }

// checkWhole returns the first error of Tx.Check.
func checkWhole(tx *Tx) error {
	for err := range tx.Check() {
		return err
	}
	return nil
}

// walker visits a content in key order; crashDigest is one.
type walker interface {
	value(key, value []byte) error
	enter(name []byte, sequence uint64) error
	leave()
}

// walkTx shows the content of tx to w.
func walkTx(tx *Tx, w walker) error {
	err := tx.ForEach(func(name []byte, b *Bucket) error {
		if b == nil { // a plain key at the top: no script puts one there
			return w.value(name, nil)
		}
		return walkBucket(name, b, w)
	})
	if err == nil {
		err = tx.Err()
	}
	return err
}

// errNoBucketThere: only forged bytes, keys out of order with right checksums, may lead to it.
var errNoBucketThere = errors.New("no bucket where ForEach shows one")

func walkBucket(name []byte, b *Bucket, w walker) error {
	if err := w.enter(name, b.Sequence()); err != nil {
		return err
	}
	err := b.ForEach(func(k, v []byte) error {
		if v != nil {
			return w.value(k, v)
		}
		sub := b.Bucket(k)
		if sub == nil {
			if err := b.Tx().Err(); err != nil {
				return err
			}
			return fmt.Errorf("%w: %q", errNoBucketThere, k)
		}
		return walkBucket(k, sub, w)
	})
	w.leave()
	return err
}

func (s *alderSnapshot) digest() (uint64, error) {
	d := newCrashDigest()
	err := walkTx(s.tx, d)
	return d.sum(), err
}

// collector builds a model of what it is shown.
type collector struct{ path []*crashBucket }

func newCollector() *collector { return &collector{[]*crashBucket{newCrashBucket()}} }

func (c *collector) in() *crashBucket { return c.path[len(c.path)-1] }

func (c *collector) value(key, value []byte) error {
	c.in().values[string(key)] = string(value)
	return nil
}

func (c *collector) enter(name []byte, sequence uint64) error {
	b := newCrashBucket()
	b.sequence = sequence
	c.in().buckets[string(name)] = b
	c.path = append(c.path, b)
	return nil
}

func (c *collector) leave() { c.path = c.path[:len(c.path)-1] }

func (s *alderSnapshot) describe() string {
	c := newCollector()
	var w strings.Builder
	if err := walkTx(s.tx, c); err != nil {
		fmt.Fprintf(&w, "error: %v\n", err)
	}
	c.path[0].describe(&w, "  ")
	return w.String()
}
