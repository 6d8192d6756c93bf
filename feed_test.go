package alder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// follower runs a loop over the changes of a store since what it holds now. The body gives each set away before the loop goes on.
type follower struct {
	t    *testing.T
	sets chan *ChangeSet
	errs chan error
}

func newFollower(t *testing.T, ctx context.Context, db *DB) *follower {
	t.Helper()
	f := &follower{t, make(chan *ChangeSet), make(chan error, 1)}
	var since SnapshotID
	require.NoError(t, db.View(func(tx *Tx) error { since = tx.Snapshot(); return nil }))
	before := subscribers(db)
	go func() {
		for set, err := range db.Changes(ctx, since) {
			if err != nil {
				f.errs <- err
				return
			}
			select {
			case f.sets <- set:
			case <-ctx.Done():
			}
		}
	}()
	require.Eventually(t, func() bool { return subscribers(db) > before }, 10*time.Second, 100*time.Microsecond)
	return f
}

// next returns the next set, which must come.
func (f *follower) next() *ChangeSet {
	f.t.Helper()
	select {
	case set := <-f.sets:
		return set
	case err := <-f.errs:
		require.NoError(f.t, err)
	case <-time.After(20 * time.Second):
		require.Fail(f.t, "no transaction came")
	}
	return nil
}

// end returns the error with which the loop ends, and the last set before it, if there is one.
func (f *follower) end() (last *ChangeSet, err error) {
	f.t.Helper()
	for {
		select {
		case last = <-f.sets:
		case err := <-f.errs:
			return last, err
		case <-time.After(20 * time.Second):
			require.Fail(f.t, "the loop did not end")
		}
	}
}

func subscribers(db *DB) int {
	db.pager.commitMu.Lock()
	defer db.pager.commitMu.Unlock()
	return len(db.pager.feed.subscribers)
}

// keptBytes is the length of the log that is kept for subscribers alone, and the number of runs that wait to be freed.
func keptBytes(db *DB) (bytes int64, retired int) {
	db.pager.commitMu.Lock()
	defer db.pager.commitMu.Unlock()
	for _, r := range db.pager.feed.kept {
		bytes += db.pager.runBytes(r)
	}
	return bytes, len(db.pager.log.retired)
}

// putsOf returns what a set put, of which each key must be one of putNumbers.
func putsOf(t *testing.T, set *ChangeSet) (keys []string) {
	t.Helper()
	require.False(t, set.Gap, "transaction %d", set.Snapshot.TxID)
	for c, err := range set.Changes() {
		require.NoError(t, err)
		if c.Kind == ChangePut {
			require.Equal(t, "b", string(bytes.Join(c.Bucket, []byte("/"))))
			require.Equal(t, len(c.Value), bytes.Count(c.Value, c.Value[:1]))
			keys = append(keys, string(c.Key))
		}
	}
	return keys
}

// stepwise are options under which nothing happens at its own time.
func stepwise() *Options {
	return &Options{background: func(f func()) { f() }, checkpointAge: time.Hour, SyncInterval: time.Hour}
}

// Ensures that the first transaction after Open goes into the log when somebody listens, and is no gap.
func TestFeed_First(t *testing.T) {
	db := openFileDB(t, filepath.Join(t.TempDir(), "store.db"), stepwise())
	f := newFollower(t, t.Context(), db)
	putNumbers(t, db, 0, 2, 100)
	require.Equal(t, []string{"000000"}, putsOf(t, f.next()))
	require.Equal(t, []string{"000001"}, putsOf(t, f.next()))
}

// Ensures that a loop that falls behind gets everything as long as the log that is kept for it alone is not longer than the limit,
// and that it goes back to the store when the loop has read it.
func TestFeed_Slow(t *testing.T) {
	o := stepwise()
	o.LogSize = 16 << 10
	db := openFileDB(t, filepath.Join(t.TempDir(), "store.db"), o)
	putNumbers(t, db, 0, 1, 100)
	fast, slow := newFollower(t, t.Context(), db), newFollower(t, t.Context(), db)
	for i := range 400 {
		putNumbers(t, db, i+1, i+2, 1000)
		require.Equal(t, []string{fmt.Sprintf("%06d", i+1)}, putsOf(t, fast.next()))
	}
	kept, _ := keptBytes(db)
	require.Greater(t, kept, int64(1<<20))
	for i := range 400 {
		require.Equal(t, []string{fmt.Sprintf("%06d", i+1)}, putsOf(t, slow.next()))
	}
	require.Eventually(t, func() bool { kept, _ := keptBytes(db); return kept == 0 }, 10*time.Second, time.Millisecond)
	putNumbers(t, db, 401, 402, 100)
	_, retired := keptBytes(db)
	require.LessOrEqual(t, retired, 1, "runs that were read are freed by the next transaction")
	require.Equal(t, []string{"000401"}, putsOf(t, slow.next()))
}

// Ensures that a loop that falls behind further than the limit is told so, with its place and what there is, and that neither it nor others pay
// for that: no more is kept than the limit, and the faster loop gets everything.
func TestFeed_Limit(t *testing.T) {
	o := stepwise()
	o.LogSize, o.HistoryLimit = 16<<10, 200<<10
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, o)
	putNumbers(t, db, 0, 1, 100)
	fast, slow := newFollower(t, t.Context(), db), newFollower(t, t.Context(), db)
	for i := range 400 {
		putNumbers(t, db, i%10, i%10+1, 1000)
		require.Len(t, putsOf(t, fast.next()), 1)
		kept, _ := keptBytes(db)
		require.LessOrEqual(t, kept, int64(o.HistoryLimit))
	}
	fi, err := os.Stat(file)
	require.NoError(t, err)
	require.Less(t, fi.Size(), int64(4*o.HistoryLimit))

	last, err := slow.end()
	require.ErrorIs(t, err, ErrHistoryGone)
	var gone *HistoryError
	require.ErrorAs(t, err, &gone)
	require.ErrorContains(t, err, "HistoryLimit")
	require.NotNil(t, last)
	require.Less(t, gone.Since.TxID, gone.Oldest.TxID)
	require.LessOrEqual(t, last.Snapshot.TxID, gone.Since.TxID)
	require.Equal(t, 1, subscribers(db))
	for range db.Changes(t.Context(), gone.Oldest) {
		break
	}
}

// Ensures that the log goes back to the store when the last loop that needs it is left.
func TestFeed_Left(t *testing.T) {
	o := stepwise()
	o.LogSize = 16 << 10
	db := openFileDB(t, filepath.Join(t.TempDir(), "store.db"), o)
	putNumbers(t, db, 0, 1, 100)
	ctx, cancel := context.WithCancel(t.Context())
	newFollower(t, ctx, db)
	first := newFollower(t, t.Context(), db)
	for i := range 200 {
		putNumbers(t, db, i, i+1, 1000)
		first.next()
	}
	kept, _ := keptBytes(db)
	require.Greater(t, kept, int64(100<<10))
	cancel()
	require.Eventually(t, func() bool { kept, _ := keptBytes(db); return kept == 0 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 1, subscribers(db))
	putNumbers(t, db, 200, 201, 100)
	_, retired := keptBytes(db)
	require.LessOrEqual(t, retired, 1)
}

// openGated opens a store on a disk whose next read stops at a gate, once there is one.
func openGated(t *testing.T, o *Options) (*simDisk, *DB, *atomic.Pointer[gate]) {
	t.Helper()
	stopLater(t)
	d := newSimDisk(simConfig{capacity: 8 << 20})
	db, err := openStorage(d, o)
	require.NoError(t, err)
	var next atomic.Pointer[gate]
	d.onCall = func(c simCall) {
		if g := next.Load(); g != nil && c.op == simReadAt {
			g.stop()
		}
	}
	return d, db, &next
}

// Ensures that a run is not given back while it is read, however many have come since.
func TestFeed_Reading(t *testing.T) {
	o := stepwise()
	o.LogSize, o.HistoryLimit = 16<<10, 64<<10
	d, db, next := openGated(t, o)
	putNumbers(t, db, 0, 2, 100)
	f := newFollower(t, t.Context(), db)
	putNumbers(t, db, 2, 3, 100)
	f.next()
	gate := newGate()
	next.Store(gate)
	putNumbers(t, db, 3, 4, 100)
	<-gate.reached
	for i := range 100 {
		putNumbers(t, db, i%10+4, i%10+5, 1000)
	}
	kept, _ := keptBytes(db)
	require.Greater(t, kept, int64(o.HistoryLimit), "the run is being read, and the others are behind it")
	close(gate.open)
	// If it was the frame with the transaction, and not one that only leads there, then that comes.
	last, err := f.end()
	if last != nil {
		require.Equal(t, []string{"000003"}, putsOf(t, last))
	}
	require.ErrorIs(t, err, ErrHistoryGone)
	kept, _ = keptBytes(db)
	require.Zero(t, kept)
	require.NoError(t, db.Close())
	require.Empty(t, d.misuse())
}

// Ensures that Close waits for a loop that is reading the file, and not for one whose body is at work.
func TestFeed_CloseDuringRead(t *testing.T) {
	d, db, next := openGated(t, stepwise())
	putNumbers(t, db, 0, 2, 100)
	f, idle := newFollower(t, t.Context(), db), newFollower(t, t.Context(), db)
	putNumbers(t, db, 2, 3, 100)
	f.next()
	gate := newGate()
	next.Store(gate)
	putNumbers(t, db, 3, 4, 100)
	<-gate.reached
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case <-closed:
		t.Error("Close has returned before the read")
	case <-time.After(50 * time.Millisecond):
	}
	close(gate.open)
	require.NoError(t, <-closed)
	require.Empty(t, d.misuse())
	for _, f := range []*follower{f, idle} {
		_, err := f.end()
		require.ErrorIs(t, err, ErrDatabaseNotOpen)
	}
}

// Ensures that a store that may not grow takes the room that is kept for loops, and writes fail once at most for it.
func TestFeed_NoRoom(t *testing.T) {
	o := stepwise()
	o.LogSize, o.MaxSize = 64<<10, 1<<20
	db := openFileDB(t, filepath.Join(t.TempDir(), "store.db"), o)
	putNumbers(t, db, 0, 10, 1000)
	f := newFollower(t, t.Context(), db)
	failed := 0
	for i := range 1000 {
		err := db.Update(func(tx *Tx) error {
			return tx.Bucket([]byte("b")).Put(fmt.Appendf(nil, "%06d", i%10), bytes.Repeat([]byte{byte(i)}, 1000))
		})
		if err != nil {
			require.ErrorIs(t, err, ErrMaxSizeReached)
			failed++
		}
	}
	require.LessOrEqual(t, failed, 1)
	_, err := f.end()
	require.ErrorIs(t, err, ErrHistoryGone)
	require.ErrorContains(t, err, "needed the room")
}

// Ensures that a frame that is damaged after it was durable ends the loop with ErrCorrupt, and what is before it comes.
func TestFeed_Damaged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, stepwise())
	putNumbers(t, db, 0, 2, 100)
	f := newFollower(t, t.Context(), db)
	putNumbers(t, db, 2, 4, 100) // the loop has read at most the first
	db.pager.commitMu.Lock()
	at := db.pager.feed.end
	db.pager.commitMu.Unlock()
	h, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = h.WriteAt([]byte{1}, db.pager.offset(at.id)+at.off-logBlock+logHeader+8)
	require.NoError(t, err)
	require.NoError(t, h.Close())
	require.Equal(t, []string{"000002"}, putsOf(t, f.next()))
	_, err = f.end()
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "redo log")
}

// Ensures that a failed store delivers what is durable and nothing else, and then says why it failed.
func TestFeed_Failed(t *testing.T) {
	for _, late := range []bool{false, true} {
		d := newSimDisk(simConfig{})
		db, err := openStorage(d, stepwise())
		require.NoError(t, err)
		putNumbers(t, db, 0, 2, 100)
		f := newFollower(t, t.Context(), db)
		putNumbers(t, db, 2, 4, 100)
		if late {
			for i := range 2 {
				require.Equal(t, []string{fmt.Sprintf("%06d", i+2)}, putsOf(t, f.next()))
			}
			time.Sleep(time.Millisecond) // it waits
		}
		d.failing(func(c simCall) simFault {
			if c.op == simWriteDurable {
				return simFault{err: syscall.EIO, kind: simFailWritten}
			}
			return simFault{}
		})
		err = db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("lost"), []byte("x")) })
		require.ErrorIs(t, err, ErrFailed)
		if !late {
			for i := range 2 {
				require.Equal(t, []string{fmt.Sprintf("%06d", i+2)}, putsOf(t, f.next()))
			}
		}
		last, err := f.end()
		require.Nil(t, last)
		require.True(t, errors.Is(err, ErrFailed) && errors.Is(err, syscall.EIO), "%v", err)
		require.ErrorIs(t, db.Close(), ErrFailed)
	}
}

// Ensures that long values, which the log only refers to, come to a slow loop as they were, although they have been replaced, deleted and
// followed by checkpoints since; and with a small limit as they were or with ErrHistoryGone, and what is kept for the loop stays small.
func TestFeed_LongValues(t *testing.T) {
	for _, limit := range []int{0, 1 << 20} {
		o := stepwise()
		o.LogSize, o.HistoryLimit, o.longValue = 512<<10, limit, 20_000
		file := filepath.Join(t.TempDir(), "store.db")
		db := openFileDB(t, file, o)
		putNumbers(t, db, 0, 2, 100)
		fast, slow := newFollower(t, t.Context(), db), newFollower(t, t.Context(), db)
		value := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, 7000+i) }
		verify := func(i int, set *ChangeSet) error {
			for c, err := range set.Changes() {
				if err != nil {
					return err
				}
				if c.Kind == ChangePut {
					require.True(t, bytes.Equal(value(i), c.Value), "transaction %d", set.Snapshot.TxID)
				}
			}
			return nil
		}
		const n = 600
		for i := range n {
			require.NoError(t, db.Update(func(tx *Tx) error {
				b := tx.Bucket([]byte("b"))
				if err := b.Put([]byte("long"), value(i)); err != nil {
					return err
				}
				if i%3 == 0 {
					return b.Delete([]byte("long"))
				}
				return nil
			}))
			require.NoError(t, verify(i, fast.next()))
		}
		fi, err := os.Stat(file)
		require.NoError(t, err)
		if limit > 0 {
			require.Less(t, fi.Size(), int64(7<<20))
		}
		gone := 0
		for i := range n {
			select {
			case set := <-slow.sets:
				if err := verify(i, set); err != nil {
					require.ErrorIs(t, err, ErrHistoryGone)
					gone++
				}
			case err := <-slow.errs:
				require.ErrorIs(t, err, ErrHistoryGone)
				require.Positive(t, limit)
				gone = n
			}
			if gone == n {
				break
			}
		}
		if limit == 0 {
			require.Zero(t, gone)
			require.Greater(t, fi.Size(), int64(n*20_000), "the values are kept for the slow loop")
		} else {
			require.Positive(t, gone)
		}
		putNumbers(t, db, 2, 3, 100)
		require.NoError(t, db.View(checkWhole))
	}
}
