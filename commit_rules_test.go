package alder

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rules of the protocol that show only when two things happen at just the wrong moments: each test makes them happen.

// fill commits transaction n, which changes every leaf of some.
func (f *faultyCommits) fill(n int) {
	f.t.Helper()
	require.NoError(f.t, f.db.Update(func(tx *Tx) error { return fillLeaves(tx, n) }))
}

func fillLeaves(tx *Tx, n int) error {
	b, err := tx.CreateBucketIfNotExists([]byte("leaves"))
	for k := 0; err == nil && k < 40; k++ {
		err = b.Put(fmt.Appendf(nil, "key %d", k), fmt.Appendf(nil, "%0300d", n))
	}
	return err
}

// makeRoom leaves free pages, so that nobody has to let the store grow.
func (f *faultyCommits) makeRoom() {
	f.t.Helper()
	for _, size := range []int{500_000, 0, 1, 2} { // the last ones let the snapshots go that had it
		require.NoError(f.t, f.db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("large"), make([]byte, size)) }))
		require.NoError(f.t, f.db.View(func(tx *Tx) error { return nil }))
		f.db.pager.checkpointInBackground()
	}
}

// filled requires that a transaction sees what fill(n) has left, and nothing else.
func (f *faultyCommits) filled(tx *Tx, n int) {
	f.t.Helper()
	b := tx.Bucket([]byte("leaves"))
	require.NotNil(f.t, b, "%v", tx.Err())
	for k := range 40 {
		require.Equal(f.t, fmt.Sprintf("%0300d", n), string(b.Get(fmt.Appendf(nil, "key %d", k))), "%v", tx.Err())
	}
	require.NoError(f.t, checkWhole(tx))
}

// Ensures that a reader that has looked which state it wants, and is then held up while others commit, still finds the published snapshot whole, on which it may
// begin: the one of the last reader, or that of a checkpoint since.
func TestReaders_BeginLate(t *testing.T) {
	f := newFaultyCommits(t, Options{})
	pg := f.db.pager
	late := func(want int) {
		// Its pages are given up, and what is free is overwritten: by a transaction that is larger than its memory, and is rolled back.
		require.NoError(t, f.db.Update(func(tx *Tx) error {
			return errors.Join(tx.DeleteBucket([]byte("leaves")), func() error { _, err := tx.CreateBucket([]byte("leaves")); return err }())
		}))
		for range 2 {
			require.NoError(t, f.db.Update(func(tx *Tx) error { return nil }))
		}
		limit := pg.opts.dirtyLimit
		pg.opts.dirtyLimit = 16 << 10
		large, err := f.db.Begin(true)
		require.NoError(t, err)
		b, err := large.CreateBucket([]byte("large"))
		require.NoError(t, err)
		for i := range 2000 {
			require.NoError(t, b.Put(fmt.Appendf(nil, "large %d", i*7919%2000), make([]byte, 100)))
		}
		stats := large.Stats()
		require.Positive(t, stats.GetSpill())
		require.NoError(t, large.Rollback())
		pg.opts.dirtyLimit = limit
		now := pg.visible.Swap(uint64(pg.published.Load().id)) // as it was when the reader looked
		tx, err := f.db.Begin(false)
		pg.visible.Store(now)
		require.NoError(t, err)
		f.filled(tx, want)
		require.NoError(t, tx.Rollback())
	}
	f.fill(0)
	pg.checkpointInBackground()
	f.fill(1)
	require.NoError(t, f.db.View(func(tx *Tx) error { f.filled(tx, 1); return nil }))
	pg.eager.Store(0) // no commit brings the next states into the file by itself
	late(1)
	f.fill(2)
	pg.checkpointInBackground()
	require.Equal(t, pg.durable.txid, pg.published.Load().id)
	late(2)
	f.close()
}

// Ensures that a store that nobody reads any more does not keep what its last reader could see: a checkpoint publishes its own state. (The pages of the last
// snapshot that somebody had read were kept for as long as the store was open, up to once all that it holds.)
func TestCheckpoint_LetsGoOfPublished(t *testing.T) {
	f := newFaultyCommits(t, Options{})
	pg := f.db.pager
	f.fill(1)
	pg.checkpointInBackground()
	f.fill(2)
	require.NoError(t, f.db.View(func(tx *Tx) error { f.filled(tx, 2); return nil }))
	pg.eager.Store(0)
	for n := 3; n < 6; n++ {
		f.fill(n)
		pg.checkpointInBackground()
	}
	require.NoError(t, f.db.Update(func(*Tx) error { return nil }))
	pg.writing <- struct{}{}
	require.NoError(t, pg.reclaim())
	pending := 0
	for _, r := range pg.fl.allPending() {
		pending += r.n
	}
	pg.unlock()
	require.Less(t, pending, 5, "a page of the map, and what the last transaction gave up")
	require.NoError(t, f.db.View(func(tx *Tx) error { f.filled(tx, 5); return nil }))
	f.close()
}

// Ensures that the pages of a snapshot that is on its way into the file for a reader are not used again by those who commit meanwhile.
func TestCommit_BesidePublishing(t *testing.T) {
	for stop := range 8 { // at which of its writes the reader is held up
		f := newFaultyCommits(t, Options{})
		f.makeRoom()
		f.db.pager.eager.Store(0)
		f.fill(1)
		n := stop
		f.arm(func(c simCall) bool {
			if c.op != simWriteAt {
				return false
			}
			n--
			return n == -1
		}, nil)
		seen := make(chan struct{})
		var tx *Tx
		var err error
		go func() {
			defer close(seen)
			tx, err = f.db.Begin(false)
		}()
		select {
		case <-f.gate.reached:
			f.db.pager.eager.Store(0) // else they wait for the reader
			for n := 2; n < 6; n++ {
				f.fill(n)
			}
			close(f.gate.open)
		case <-seen: // it needs fewer writes
			require.Positive(t, stop)
			close(f.gate.open)
		}
		<-seen
		require.NoError(t, err)
		f.filled(tx, 1)
		require.NoError(t, f.db.View(func(*Tx) error { return nil })) // brings what came later into the file
		f.filled(tx, 1)
		require.NoError(t, tx.Rollback())
		f.close()
	}
}

// Ensures that a reader keeps what it sees when it begins while a transaction is open that has changed pages of the same group.
func TestCommit_PinnedMeanwhile(t *testing.T) {
	f := newFaultyCommits(t, Options{SyncInterval: time.Hour})
	require.NoError(t, f.db.Update(func(tx *Tx) error { return errors.Join(tx.SetDurability(DurabilityLazy), fillLeaves(tx, 1)) }))
	tx, err := f.db.Begin(true)
	require.NoError(t, err)
	require.NoError(t, tx.SetDurability(DurabilityLazy))
	require.NoError(t, fillLeaves(tx, 2))
	require.NoError(t, f.db.Sync()) // closes the group
	old, err := f.db.Begin(false)
	require.NoError(t, err)
	f.filled(old, 1)
	require.NoError(t, tx.Commit())
	require.NoError(t, f.db.Sync())
	require.NoError(t, f.db.View(func(tx *Tx) error { f.filled(tx, 2); return nil }))
	f.filled(old, 1)
	require.NoError(t, old.Rollback())
	f.close()
}

// Ensures that nobody is told that a transaction is durable that has committed behind a large one whose meta is not: the log in which
// it is would not be read.
func TestLog_NothingBesideLarge(t *testing.T) {
	f := newFaultyCommits(t, Options{maxRecord: 500})
	f.arm(isMeta, nil)
	large, small := make(chan error, 1), make(chan error, 1)
	go func() {
		large <- f.db.Update(func(tx *Tx) error {
			b := tx.Bucket([]byte("b"))
			return errors.Join(b.Put([]byte{0}, fmt.Append(nil, f.base+1)), b.Put([]byte("large"), make([]byte, 2000)))
		})
	}()
	<-f.gate.reached
	go func() { small <- f.form.commit(f.db, 1, 1) }()
	select {
	case err := <-small:
		require.NoError(t, err)
		f.holds([]int{f.base, 1}, []int{f.base + 1, 1})
	case <-time.After(20 * time.Millisecond):
		f.holds([]int{f.base, 0}, []int{f.base + 1, 0})
		close(f.gate.open)
		require.NoError(t, <-small)
	}
	require.NoError(t, <-large)
	f.holds([]int{f.base + 1, 1}, []int{f.base + 1, 1})
	f.close()
}

// Ensures that numbers of transactions that a crash has taken away are not given out again.
func TestLog_LostNumbers(t *testing.T) {
	f := newFaultyCommits(t, Options{SyncInterval: time.Hour})
	last := 0
	for range 20 {
		require.NoError(t, f.db.Update(func(tx *Tx) error {
			last = tx.ID()
			return errors.Join(tx.SetDurability(DurabilityLazy), tx.Bucket([]byte("b")).Put([]byte{1}, []byte("lost")))
		}))
	}
	left := f.d.crash(simCall{op: simSync}, crashFirstPower)
	defer left.release()
	db, err := openStorage(left, &Options{})
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *Tx) error {
		require.Nil(t, tx.Bucket([]byte("b")).Get([]byte{1}))
		return nil
	}))
	require.NoError(t, db.Update(func(tx *Tx) error {
		require.Greater(t, tx.ID(), last)
		return nil
	}))
	require.NoError(t, db.Close())
	f.close()
}

// Ensures that a sync of long values of lazy transactions that fails puts the store into the failed state: what comes behind the group
// would not be found.
func TestGroup_ValuesCannotBeSynced(t *testing.T) {
	for seed := range uint64(4) {
		f := newFaultyCommits(t, Options{SyncInterval: time.Hour, longValue: 8192})
		require.NoError(t, f.db.Update(func(tx *Tx) error {
			return errors.Join(tx.SetDurability(DurabilityLazy), tx.Bucket([]byte("b")).Put([]byte("long"), make([]byte, 10_000)))
		}))
		f.arm(nil, failOnce(isOp(simSync), 0, simFault{err: syscall.EIO, kind: simFailFlush, seed: seed}))
		f.isFailed(f.form.commit(f.db, 0, f.base+1), syscall.EIO)
		f.failed(syscall.EIO)
		f.holds([]int{f.base}, []int{f.base})
	}
}

// Ensures the same of a transaction that commits by a checkpoint.
func TestCommit_LargeCannotBeSynced(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		f := newFaultyCommits(t, Options{maxRecord: 500})
		f.form.bytes = 3000
		f.arm(nil, failOnce(isOp(simSync), 0, simFault{err: syscall.EIO, kind: simFailFlush, seed: seed}))
		f.isFailed(f.form.commit(f.db, 0, f.base+1), syscall.EIO)
		f.failed(syscall.EIO)
		f.holds([]int{f.base}, []int{f.base})
	}
}

// Ensures that a durable write of a long value that fails, or is told of another page that could not be written, puts the store into the
// failed state, although its transaction could be rolled back: the next sync would not hear of that page, and the checkpoint would lead to it.
func TestCommit_ValueCannotBeWritten(t *testing.T) {
	for _, kind := range []simFaultKind{simFailBefore, simFailFlush, simWriteBack} {
		for seed := range uint64(4) {
			f := newFaultyCommits(t, Options{longValue: 8192})
			f.sees(f.base) // its pages are in the page cache now, and not on the medium
			f.arm(nil, failOnce(isAppend, 0, simFault{err: syscall.EIO, kind: kind, seed: seed}))
			err := f.db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("long"), make([]byte, 10_000)) })
			f.isFailed(err, syscall.EIO)
			f.failed(syscall.EIO)
			f.holds([]int{f.base}, []int{f.base})
		}
	}
}
