package alder_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// snapshot is the identity of what a reader sees now.
func (db *testDB) snapshot() (id alder.SnapshotID) {
	db.view(func(tx *alder.Tx) { id = tx.Snapshot() })
	return id
}

// transactions collects n sets of the feed, each as text: its number, and its changes one after the other.
func (db *testDB) transactions(since alder.SnapshotID, n int) (texts []string) {
	db.t.Helper()
	within(db.t, 30*time.Second, fmt.Sprintf("%d transactions after %d", n, since.TxID), func() {
		for set, err := range db.Changes(db.t.Context(), since) {
			if err != nil {
				texts = append(texts, err.Error())
				return
			}
			if texts = append(texts, setText(db.t, set)); len(texts) == n {
				return
			}
		}
	})
	return texts
}

func setText(t testing.TB, set *alder.ChangeSet) string {
	t.Helper()
	text := fmt.Sprint(set.Snapshot.TxID)
	if set.Gap {
		text += " gap"
	}
	for c, err := range set.Changes() {
		if err != nil {
			t.Errorf("transaction %d: %v", set.Snapshot.TxID, err)
		}
		text += ", " + changeText(c)
	}
	return text
}

// Ensures what each kind of operation looks like in the feed, with its bucket and in the order in which it was done.
func TestDB_Changes(t *testing.T) {
	db := openTemp(t)
	db.put("a", "k", "v")
	since := db.snapshot()
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		require.NoError(t, b.Put([]byte("1"), nil))
		require.NoError(t, tx.Bucket([]byte("a")).Put([]byte("k"), []byte("w")))
		sub, err := b.CreateBucket([]byte("sub"))
		require.NoError(t, err)
		require.NoError(t, sub.Put([]byte("2"), []byte("two")))
		require.NoError(t, sub.Put([]byte("3"), []byte("three")))
		require.NoError(t, sub.Put([]byte("2"), []byte("zwei")))
	})
	require.Error(t, db.Update(func(tx *alder.Tx) error { return errors.Join(tx.DeleteBucket([]byte("b")), errors.New("rolled back")) }))
	db.update(func(*alder.Tx) {})
	db.update(func(tx *alder.Tx) {
		b := tx.Bucket([]byte("b"))
		require.NoError(t, b.MoveBucket([]byte("sub"), tx.Bucket([]byte("a"))))
		sub := tx.Bucket([]byte("a")).Bucket([]byte("sub"))
		require.NoError(t, sub.Delete([]byte("3")))
		require.NoError(t, sub.Delete([]byte("not there")))
		_, err := sub.NextSequence()
		require.NoError(t, err)
		require.NoError(t, tx.DeleteBucket([]byte("b")))
	})
	db.update(func(tx *alder.Tx) {
		a := tx.Bucket([]byte("a"))
		for _, bounds := range [][2][]byte{{[]byte("k"), []byte("l")}, {[]byte("nothing"), []byte("here")}, {nil, []byte("t")}} {
			_, err := a.DeleteRange(bounds[0], bounds[1])
			require.NoError(t, err)
		}
		require.NoError(t, a.Put([]byte("k"), []byte("x")))
		_, err := a.DeleteRange(nil, nil)
		require.NoError(t, err)
	})
	first := int(since.TxID) + 1
	want := []string{
		fmt.Sprintf("%d, create bucket b, put b/1=, put a/k=w, create bucket b/sub, put b/sub/2=two, put b/sub/3=three, put b/sub/2=zwei", first),
		fmt.Sprintf("%d", first+1),
		fmt.Sprintf("%d, move bucket b/sub into a, delete a/sub/3, set sequence a/sub/=1, delete bucket b", first+2),
		fmt.Sprintf("%d, delete range a/k to l, delete range a/ to t, put a/k=x, delete range a/ to ", first+3),
	}
	require.Equal(t, want, db.transactions(since, 4))
	since.TxID++
	require.Equal(t, want[1:], db.transactions(since, 3), "from the middle")

	// The same again, for a loop that was there before.
	since = db.snapshot()
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := db.transactions(since, 1); !slices.Equal(got, []string{fmt.Sprintf("%d, put a/late=1", first+4)}) {
			t.Errorf("got %q", got)
		}
	})
	time.Sleep(time.Millisecond)
	db.put("a", "late", "1")
	wg.Wait()
}

// mirror is a store that a loop over the changes of another one keeps equal to it.
type mirror struct {
	*testDB
	last atomic.Uint64 // transaction that it holds
	gaps atomic.Int64  // that were in the loop; the mirror lacks what was changed there
}

// follow makes the changes of db since a snapshot in m, for as long as there are any.
func (m *mirror) follow(ctx context.Context, db *alder.DB, since alder.SnapshotID) error {
	m.last.Store(since.TxID)
	for set, err := range db.Changes(ctx, since) {
		if err != nil {
			return err
		}
		if err := m.make(db, set); err != nil {
			return fmt.Errorf("transaction %d, after %d: %w", set.Snapshot.TxID, m.last.Load(), err)
		}
		if set.Gap {
			m.gaps.Add(1)
		}
		m.last.Store(set.Snapshot.TxID)
	}
	return errors.New("the loop has ended without an error")
}

func (m *mirror) make(db *alder.DB, set *alder.ChangeSet) error {
	if id, last := set.Snapshot.TxID, m.last.Load(); id <= last || id > last+1 && !set.Gap {
		return errors.New("out of order")
	}
	if err := db.View(func(tx *alder.Tx) error {
		if uint64(tx.ID()) < set.Snapshot.TxID {
			return fmt.Errorf("readers still see transaction %d", tx.ID())
		}
		return nil
	}); err != nil {
		return err
	}
	return m.Update(func(tx *alder.Tx) error {
		for c, err := range set.Changes() {
			if err != nil {
				return err
			}
			if err := tx.Apply(c); err != nil {
				return fmt.Errorf("%.60q: %w", changeText(c), err)
			}
		}
		return nil
	})
}

// mirrored returns a mirror of db, which is empty, that follows it until the test ends or finish is called, which waits until the mirror
// holds transaction id and returns the error with which the loop has ended.
func mirrored(t *testing.T, db *testDB) (m *mirror, finish func(id uint64) error) {
	t.Helper()
	m = &mirror{testDB: openMemory(t)}
	for _, db := range []*testDB{db, m.testDB} {
		db.put("begin")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	since, store := db.snapshot(), db.DB
	go func() { done <- m.follow(ctx, store, since) }()
	t.Cleanup(cancel)
	db.put("begin", "k", "v")
	reached := func(id uint64) func() bool { return func() bool { return m.last.Load() >= id || len(done) > 0 } }
	require.Eventually(t, reached(since.TxID+1), 30*time.Second, time.Millisecond)
	return m, func(id uint64) error {
		require.Eventually(t, reached(id), 30*time.Second, time.Millisecond, "transaction %d", id)
		cancel()
		return <-done
	}
}

// Ensures that the changes of a random history, applied to an empty store, give the same as the store, whatever checkpoints do meanwhile.
func TestDB_Changes_Model(t *testing.T) {
	t.Parallel()
	seed, steps := seedAndSteps(t, 150)
	for _, form := range []struct {
		name string
		opts []option
	}{
		{"default", nil},
		{"checkpoints", []option{func(o *alder.Options) { o.LogSize = 20_000 }}},
		{"lazy", []option{withNoSync(), func(o *alder.Options) { o.LogSize, o.SyncInterval = 100_000, time.Millisecond }}},
		{"page=16384", []option{withPageSize(16384)}},
	} {
		t.Run(form.name, func(t *testing.T) {
			db := openTemp(t, form.opts...)
			to, finish := mirrored(t, db)
			fixed := *db
			fixed.file = "" // so that it is not opened anew in between
			m := newMachine(t, &fixed, randomChooser{rand.New(rand.NewPCG(seed, 17))})
			begin, err := m.committed.create("begin")
			require.NoError(t, err)
			require.NoError(t, begin.put("k", "v"))
			for range steps {
				m.transaction()
			}
			m.endAll()
			require.ErrorIs(t, finish(uint64(m.lastID)), context.Canceled)
			require.Zero(t, to.gaps.Load())
			require.Equal(t, fingerprint(t, db.DB), fingerprint(t, to.DB))
		})
	}
}

// Ensures that several loops beside many writers each get every transaction, full and lazy.
func TestDB_Changes_Concurrent(t *testing.T) {
	db := openTemp(t, func(o *alder.Options) { o.LogSize, o.SyncInterval = 50_000, time.Millisecond })
	var mirrors []*mirror
	var finish []func(uint64) error
	for range 3 {
		m, f := mirrored(t, db)
		mirrors, finish = append(mirrors, m), append(finish, f)
	}
	db.put("b")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := db.Update(func(tx *alder.Tx) error {
					if (w+i)%5 == 0 {
						if err := tx.SetDurability(alder.DurabilityLazy); err != nil {
							return err
						}
					}
					return tx.Bucket([]byte("b")).Put(key(w*1000+i), filled(i*20, byte(w)))
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, db.Sync())
	last := db.snapshot().TxID
	for i, m := range mirrors {
		require.ErrorIs(t, finish[i](last), context.Canceled)
		require.Equal(t, fingerprint(t, db.DB), fingerprint(t, m.DB))
	}
}

// Ensures that a transaction that the log does not have appears as a gap: one that is too large, the first one after Open if nobody listens
// yet, all of them in a store in memory; and that several in a row make one or more gaps.
func TestDB_Changes_Gap(t *testing.T) {
	large := func(db *testDB) {
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucketIfNotExists([]byte("large"))
			require.NoError(t, err)
			for i := range 1000 {
				require.NoError(t, b.Put(key(i), make([]byte, 10_000)))
			}
		})
	}
	db := openTemp(t)
	first := db.snapshot()
	db.put("a")
	_, err := nextSet(db, first)
	require.ErrorIs(t, err, alder.ErrHistoryGone, "committed by a checkpoint, before the loop")
	since := db.snapshot()
	db.put("a", "k", "1")
	large(db)
	large(db)
	db.put("a", "k", "2")
	_, err = nextSet(db, since)
	require.ErrorIs(t, err, alder.ErrHistoryGone, "a large transaction is a checkpoint")

	since = db.snapshot()
	sets := make(chan string, 100)
	go func() {
		for set, err := range db.Changes(t.Context(), since) {
			if err != nil {
				break
			}
			sets <- setText(t, set)
		}
		close(sets)
	}()
	n := int(since.TxID)
	db.put("a", "k", "3")
	require.Equal(t, fmt.Sprint(n+1, ", put a/k=3"), <-sets)
	large(db)
	require.Equal(t, fmt.Sprint(n+2, " gap"), <-sets)
	db.put("a", "k", "4")
	require.Equal(t, fmt.Sprint(n+3, ", put a/k=4"), <-sets)
	db.put("a", "k", "5")
	require.Equal(t, fmt.Sprint(n+4, ", put a/k=5"), <-sets)

	db = openMemory(t)
	since = db.snapshot()
	got := make(chan *alder.ChangeSet)
	go func() {
		for set, err := range db.Changes(t.Context(), since) {
			if err != nil {
				return
			}
			got <- set
		}
	}()
	db.put("a", "k", "1")
	db.put("a", "k", "2")
	for last := since.TxID; last < since.TxID+2; {
		set := <-got
		require.True(t, set.Gap)
		require.Greater(t, set.Snapshot.TxID, last)
		last = set.Snapshot.TxID
	}
}

// Ensures that who follows a store is not sent away because pages were moved: not by DB.Shrink, whose checkpoints let go of the log, and not by
// Close, though the numbers of the transactions that moved them go on. They come as sets without changes, so that a reader sees each number
// once. They were left out before: numbers were missing in loops, a loop that waited for the number that a reader had seen waited
// for ever, and one that began where nothing had changed since got a HistoryError.
func TestDB_Changes_Moves(t *testing.T) {
	// follow goes on after since until a transaction has changes, which must be a put of key, and returns its snapshot.
	follow := func(db *testDB, since alder.SnapshotID, key string) (last alder.SnapshotID, moves int) {
		within(t, 30*time.Second, "the put of "+key, func() {
			last = since
			for set, err := range db.Changes(t.Context(), since) {
				if err != nil || set.Gap || set.Snapshot.TxID != last.TxID+1 {
					t.Errorf("after %v, %d moves: %+v, %v", last, moves, set, err)
					return
				}
				last = set.Snapshot
				if text := setText(t, set); text != fmt.Sprint(last.TxID) {
					if text != fmt.Sprintf("%d, put a/%s=v", last.TxID, key) {
						t.Errorf("got %q", text)
					}
					return
				}
				moves++
			}
		})
		require.False(t, t.Failed())
		return last, moves
	}
	fill := func(db *testDB) {
		for i := range 60 {
			db.update(func(tx *alder.Tx) {
				b, err := tx.CreateBucketIfNotExists([]byte("a"))
				require.NoError(t, err)
				for k := range 100 {
					require.NoError(t, b.Put(key((k*61+i*7919)%6000), filled(1000, byte(i))))
				}
			})
		}
		db.update(func(tx *alder.Tx) {
			b := tx.Bucket([]byte("a"))
			for i := range 6000 {
				if i%10 > 0 {
					require.NoError(t, b.Delete(key(i)))
				}
			}
		})
	}
	db := openTemp(t)
	fill(db)
	since := db.snapshot()
	out, err := db.Shrink(t.Context(), 0, nil)
	require.NoError(t, err)
	require.Less(t, out.File, out.Before/2)
	shrunk := db.snapshot()
	require.Greater(t, shrunk.TxID, since.TxID)
	db.put("a", "1", "v")
	last, moves := follow(db, since, "1")
	require.GreaterOrEqual(t, moves, int(shrunk.TxID-since.TxID))
	between := since
	between.TxID++
	_, moves = follow(db, between, "1")
	require.Positive(t, moves)
	require.Equal(t, db.snapshot(), last)
	before := since
	before.TxID--
	_, err = nextSet(db, before)
	var gone *alder.HistoryError
	require.ErrorAs(t, err, &gone)
	require.Equal(t, since, gone.Oldest, "from there on nothing is missing")

	// Close moves pages too, and the meta knows of it when the store is opened again.
	fill(db)
	since = db.snapshot()
	was := db.size()
	db.reopen()
	require.Less(t, db.size(), was/2)
	reopened := db.snapshot()
	require.Greater(t, reopened.TxID, since.TxID, "Close has moved pages")
	ctx, stop := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	n := since.TxID
	for set, err := range db.Changes(ctx, since) {
		if err != nil {
			require.ErrorIs(t, err, enough)
			break
		}
		n++
		require.Equal(t, fmt.Sprint(n), setText(t, set))
		if n == reopened.TxID {
			stop(enough) // the loop would wait now
		}
	}
	require.Equal(t, reopened.TxID, n)
	stop(nil)

	// A transaction that changes something ends that, and the next meta says so.
	db.put("a", "2", "v")
	db.put("a", "3", "v")
	_, err = nextSet(db, since)
	require.ErrorIs(t, err, alder.ErrHistoryGone, "the first transaction after Open is a checkpoint")
	db.reopen()
	_, err = nextSet(db, reopened)
	require.ErrorIs(t, err, alder.ErrHistoryGone)
}

func (db *testDB) size() int64 {
	info, err := os.Stat(db.file)
	require.NoError(db.t, err)
	return info.Size()
}

// nextSet returns the first pair of the changes since a snapshot.
func nextSet(db *testDB, since alder.SnapshotID) (*alder.ChangeSet, error) {
	ctx, cancel := context.WithTimeout(db.t.Context(), 30*time.Second)
	defer cancel()
	for set, err := range db.Changes(ctx, since) {
		return set, err
	}
	return nil, errors.New("the loop has ended without a pair")
}

// Ensures that nothing comes before it is durable, in lazy stores and with lazy transactions in full ones, and that Sync brings it.
func TestDB_Changes_Lazy(t *testing.T) {
	for _, whole := range []bool{false, true} {
		db := openTemp(t, func(o *alder.Options) { o.NoSync, o.SyncInterval = whole, time.Hour })
		db.put("a", "k", "0")
		require.NoError(t, db.Sync())
		since := db.snapshot()
		sets := make(chan string, 10)
		go func() {
			for set, err := range db.Changes(t.Context(), since) {
				if err != nil {
					return
				}
				sets <- setText(t, set)
			}
		}()
		for i := range 3 {
			db.update(func(tx *alder.Tx) {
				require.NoError(t, tx.SetDurability(alder.DurabilityLazy))
				require.NoError(t, tx.Bucket([]byte("a")).Put([]byte("k"), fmt.Append(nil, i+1)))
			})
		}
		time.Sleep(50 * time.Millisecond)
		require.Empty(t, sets, "not durable")
		require.NoError(t, db.Sync())
		for i := range 3 {
			require.Equal(t, fmt.Sprintf("%d, put a/k=%d", int(since.TxID)+i+1, i+1), <-sets)
		}
	}
}

// Ensures that a loop waits for its context and for Close, and says which it was; also when its body closes the store.
func TestDB_Changes_End(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		since := db.snapshot()
		reason := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(reason) })
		for set, err := range db.Changes(ctx, since) {
			require.Nil(t, set)
			require.ErrorIs(t, err, reason)
		}
		for _, err := range db.Changes(ctx, since) {
			require.ErrorIs(t, err, reason, "a context that is over")
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer stop()
		for _, err := range db.Changes(ctx, since) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}

		// A loop that is left, or not even begun, leaves nothing behind.
		_ = db.Changes(t.Context(), since)
		db.put("a")
		since = db.snapshot()
		errs := make(chan error, 4)
		var ready sync.WaitGroup
		for range cap(errs) {
			ready.Add(1)
			go func() {
				first := true
				for _, err := range db.DB.Changes(t.Context(), since) {
					if err != nil {
						errs <- err
						return
					}
					if first {
						ready.Done()
					}
					first = false
				}
			}()
		}
		db.put("a", "k", "v")
		ready.Wait()
		store := db.DB
		if db.file == "" {
			db.leaveUnchecked()
			require.NoError(t, db.Close())
		} else {
			db.reopen()
		}
		for range cap(errs) {
			require.ErrorIs(t, <-errs, alder.ErrDatabaseNotOpen)
		}
		for _, err := range store.Changes(t.Context(), since) {
			require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
		}
		if db.file == "" {
			return
		}
		db.put("a", "k", "w")
		since = db.snapshot()
		db.put("a", "k", "x")
		within(t, 30*time.Second, "closing in the body", func() {
			n := 0
			for set, err := range db.Changes(t.Context(), since) {
				if n++; n == 1 {
					require.NoError(t, err)
					require.NoError(t, db.Close())
					require.Equal(t, "put a/k=x", strings.Split(setText(t, set), ", ")[1], "what was delivered stays")
				} else {
					require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
				}
			}
			require.Equal(t, 2, n)
		})
		db.DB = nil
	})
}

// Ensures that a loop that cannot begin where it is to says why, what there is, and what helps.
func TestDB_Changes_HistoryGone(t *testing.T) {
	db := openTemp(t)
	db.put("a", "k", "1")
	old := db.snapshot()
	db.put("a", "k", "2")
	now := db.snapshot()
	later, other, epoch := now, now, now
	later.TxID++
	other.Store[0] ^= 1
	epoch.Epoch++

	gone := func(since alder.SnapshotID, words ...string) {
		t.Helper()
		set, err := nextSet(db, since)
		require.Nil(t, set)
		require.ErrorIs(t, err, alder.ErrHistoryGone)
		var detail *alder.HistoryError
		require.ErrorAs(t, err, &detail)
		require.Equal(t, since, detail.Since)
		for _, w := range append(words, "take a diff") {
			require.ErrorContains(t, err, w)
		}
		// What it says is true.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		for _, err := range db.Changes(ctx, detail.Oldest) {
			if !errors.Is(err, context.DeadlineExceeded) {
				require.NoError(t, err)
			}
		}
	}
	gone(later, fmt.Sprintf("the last transaction of this store is %d", now.TxID))
	gone(epoch, fmt.Sprintf("epoch %d", epoch.Epoch))
	_, err := nextSet(db, other)
	require.ErrorIs(t, err, alder.ErrDiffMismatch)
	require.ErrorContains(t, err, db.ID())

	// What was there when the store was closed is known, and nothing before.
	db.reopen()
	gone(old, "the log does not reach back", fmt.Sprintf("goes back to transaction %d", now.TxID))
	db.put("a", "k", "3")
	db.put("a", "k", "4")
	gone(now, fmt.Sprintf("goes back to transaction %d", now.TxID+1))
	db.reopen()
	since := db.snapshot()
	texts := make(chan []string)
	go func() { texts <- db.transactions(since, 1) }()
	time.Sleep(20 * time.Millisecond)
	db.put("a", "k", "5")
	require.Len(t, <-texts, 1)

	db.reopen(func(o *alder.Options) { o.ReadOnly = true })
	_, err = nextSet(db, db.snapshot())
	require.ErrorIs(t, err, alder.ErrDatabaseReadOnly)
	_, err = nextSet(&testDB{t: t, DB: new(alder.DB)}, now)
	require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
}
