package alder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// attendedStore is a store in a file, with a bucket, whose every append but the first is attended.
func attendedStore(t testing.TB) (*DB, *fileStorage) {
	t.Helper()
	db, err := Open(filepath.Join(storageDir(t), "store"), 0o600, &Options{background: func(f func()) { f() }, checkpointAge: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	s := db.pager.st.(*fileStorage)
	if r, err := newRing(newAttendance()); err != nil {
		t.Skipf("no writes beside the program here: %v", err)
	} else {
		require.NoError(t, r.close())
	}
	for n := range 3 {
		putNumber(t, db, n)
	}
	db.pager.opts.crowdedFrom = 0
	putNumber(t, db, 3)
	return db, s
}

func putNumber(t testing.TB, db *DB, n int) {
	t.Helper()
	require.NoError(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("numbers"))
		if err != nil {
			return err
		}
		return b.Put(fmt.Appendf(nil, "%08d", n), fmt.Append(nil, n))
	}))
}

// readers read the first number until stop is called.
func readers(t testing.TB, db *DB, n int) (stop func()) {
	var ended atomic.Bool
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for !ended.Load() {
				err := db.View(func(tx *Tx) error {
					if got := tx.Bucket([]byte("numbers")).Get([]byte("00000000")); string(got) != "0" {
						return fmt.Errorf("read %q", got)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() {
		ended.Store(true)
		all.Wait()
	}
}

// Ensures that an append that nobody but readers can notice is noticed by readers, and that everything is there afterwards.
func TestAttended_Readers(t *testing.T) {
	db, s := attendedStore(t)
	if s.ring != nil {
		require.NoError(t, s.ring.close())
	}
	var err error
	s.ring, err = newRing(s.attended) // one that nobody watches
	require.NoError(t, err)
	stop := readers(t, db, 4)
	const last = 300
	for n := 4; n <= last; n++ {
		putNumber(t, db, n)
	}
	require.False(t, s.notRing)
	require.GreaterOrEqual(t, s.attended.state.Load()/attendPhases, uint64(last-3))
	require.NoError(t, s.ring.watch()) // for what Close appends
	stop()
	requireUpTo(t, db, last)
	require.NoError(t, db.Close())
	db, err = Open(s.path, 0, nil)
	require.NoError(t, err)
	defer db.Close()
	requireUpTo(t, db, last)
}

func requireUpTo(t testing.TB, db *DB, last int) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		require.NoError(t, checkWhole(tx))
		b := tx.Bucket([]byte("numbers"))
		require.Equal(t, uint64(last+1), b.Count(nil, nil))
		for n := range last + 1 {
			require.Equal(t, fmt.Sprint(n), string(b.Get(fmt.Appendf(nil, "%08d", n))))
		}
		return nil
	}))
}

// Ensures that appends end when nobody reads.
func TestAttended_NobodyReads(t *testing.T) {
	db, s := attendedStore(t)
	for n := 4; n <= 100; n++ {
		putNumber(t, db, n)
	}
	require.NotNil(t, s.ring)
	require.GreaterOrEqual(t, s.attended.state.Load()/attendPhases, uint64(97))
	requireUpTo(t, db, 100)
}

// Ensures that a store makes no ring before many readers are at work beside its writer, and leaves it alone when they have gone.
func TestAttended_Crowded(t *testing.T) {
	db, s := attendedStore(t)
	if s.ring != nil {
		require.NoError(t, s.ring.close())
		s.ring = nil
	}
	db.pager.opts.crowdedFrom = -1
	db.pager.crowd.stays = 0
	n := 4
	for ; n < 50; n++ {
		putNumber(t, db, n)
	}
	require.Nil(t, s.ring)
	stop := readers(t, db, 2*runtime.GOMAXPROCS(0))
	for begun := time.Now(); s.ring == nil && time.Since(begun) < time.Minute; n++ {
		putNumber(t, db, n)
	}
	stop()
	require.NotNil(t, s.ring)
	for range crowdStays + 2 {
		putNumber(t, db, n)
	}
	appends := s.attended.state.Load()
	require.EqualValues(t, attendIdle, appends%attendPhases)
	for last := n + 50; n < last; n++ {
		putNumber(t, db, n)
	}
	require.Equal(t, appends, s.attended.state.Load())
}

// Ensures that a store that is not to ask for a ring never does.
func TestAttended_NotWanted(t *testing.T) {
	db, err := Open(filepath.Join(storageDir(t), "store"), 0o600, &Options{NoIOUring: true})
	require.NoError(t, err)
	defer db.Close()
	db.pager.opts.crowdedFrom = 0
	for n := range 20 {
		putNumber(t, db, n)
	}
	require.Nil(t, db.pager.st.(*fileStorage).ring)
	requireUpTo(t, db, 19)
}

// Ensures that an attended append that fails puts the store into the failed state, and is not tried again in another way, which may succeed without the
// data being there.
func TestAttended_Fails(t *testing.T) {
	db, s := attendedStore(t)
	putNumber(t, db, 4)
	require.NotNil(t, s.ring)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	first := s.synchronous[0]
	file := first.f
	first.f = full
	err = db.Update(func(tx *Tx) error { return tx.Bucket([]byte("numbers")).Put([]byte("lost"), nil) })
	first.f = file
	require.ErrorIs(t, err, ErrFailed)
	require.ErrorContains(t, err, "append to the redo log")
	require.ErrorIs(t, db.Update(func(tx *Tx) error { return nil }), ErrFailed)
	requireUpTo(t, db, 4)
	require.ErrorIs(t, db.Close(), ErrFailed)
	db, err = Open(s.path, 0, nil)
	require.NoError(t, err)
	defer db.Close()
	requireUpTo(t, db, 4)
}

// Ensures that a store can be closed at any moment while readers and writers are at work: what the ring shares with the system goes away with the store, and a
// reader that looked there then would fault.
func TestAttended_Close(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	for round := range 30 {
		db, err := Open(path, 0o600, nil)
		require.NoError(t, err)
		db.pager.opts.crowdedFrom = 0
		putNumber(t, db, 0)
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				for n := 1; ; n++ {
					var err error
					if i < 2 {
						err = db.Update(func(tx *Tx) error { return tx.Bucket([]byte("numbers")).Put(fmt.Appendf(nil, "%d %08d", i, n), nil) })
					} else {
						err = db.View(func(tx *Tx) error { return nil })
					}
					if errors.Is(err, ErrDatabaseNotOpen) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(round) * time.Millisecond / 4)
		require.NoError(t, db.Close())
		all.Wait()
	}
}

// Ensures that a store that has looked whether its readers are a crowd keeps none of them from being found when the program has lost it. (What was noted of their slots
// for the last append led to them, and Close waited for ever.)
func TestAttended_LostReader(t *testing.T) {
	db, _ := attendedStore(t)
	forgetReader(t, db)
	putNumber(t, db, 4)
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "Close waits for a reader that the program has lost")
	}
}
