package alder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// putVersion writes version v of a set of keys whose values all say v, some of them large, and whose number
// depends on v, so that a snapshot that mixes two versions shows.
func putVersion(b *alder.Bucket, v int) error {
	for i := range 150 + v%7 {
		if err := b.Put(key(i), fmt.Appendf(nil, "%d:%s", v, strings.Repeat("x", (i*v)%90))); err != nil {
			return err
		}
	}
	if _, err := b.DeleteRange(key(150+v%7), []byte("key-a")); err != nil {
		return err
	}
	return b.Put([]byte("large"), bytes.Repeat(fmt.Appendf(nil, "%d:", v), 4000))
}

// sameVersion returns the version that all keys of the bucket agree on.
func sameVersion(b *alder.Bucket) (int, error) {
	large := b.Get([]byte("large"))
	head, _, found := bytes.Cut(large, []byte(":"))
	if !found {
		return 0, fmt.Errorf("large value of %d bytes", len(large))
	}
	var v int
	if _, err := fmt.Sscan(string(head), &v); err != nil {
		return 0, err
	}
	if !bytes.Equal(large, bytes.Repeat(append(head[:len(head):len(head)], ':'), 4000)) {
		return 0, fmt.Errorf("large value of version %d is torn", v)
	}
	n := 0
	for k, value := range b.Prefix([]byte("key-")) {
		if !bytes.Equal(k, key(n)) || !bytes.Equal(value, fmt.Appendf(nil, "%d:%s", v, strings.Repeat("x", (n*v)%90))) {
			return 0, fmt.Errorf("key %d of version %d is %q = %.20q", n, v, k, value)
		}
		n++
	}
	if n != 150+v%7 {
		return 0, fmt.Errorf("version %d has %d keys", v, n)
	}
	return v, nil
}

// Ensures that readers which come and go at any time, some of them staying, always see one whole version, the
// one committed last when they began or a later one, while a writer goes on without waiting for them.
func TestConcurrent_Snapshots(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		versions := 60
		if testing.Short() {
			versions = 20
		}
		inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, 1)) })
		var committed atomic.Int64
		committed.Store(1)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(g)))
				var held []*alder.Tx
				var heldVersion []int
				for {
					select {
					case <-stop:
						for _, tx := range held {
							if err := tx.Rollback(); err != nil {
								t.Error(err)
							}
						}
						return
					default:
					}
					atLeast := int(committed.Load())
					tx, err := db.Begin(false)
					if err != nil {
						t.Error(err)
						return
					}
					v, err := sameVersion(tx.Bucket([]byte("b")))
					if err != nil || v < atLeast {
						t.Errorf("version %d after %d was committed: %v", v, atLeast, err)
					}
					held, heldVersion = append(held, tx), append(heldVersion, v)
					// Read an old one again, and end one.
					i := r.IntN(len(held))
					if again, err := sameVersion(held[i].Bucket([]byte("b"))); err != nil || again != heldVersion[i] {
						t.Errorf("snapshot of version %d became %d: %v", heldVersion[i], again, err)
					}
					if len(held) > 2*g || r.IntN(3) == 0 {
						i := r.IntN(len(held))
						if err := held[i].Rollback(); err != nil {
							t.Error(err)
						}
						held = append(held[:i], held[i+1:]...)
						heldVersion = append(heldVersion[:i], heldVersion[i+1:]...)
					}
				}
			})
		}
		for v := 2; v <= versions; v++ {
			inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, v)) })
			committed.Store(int64(v))
		}
		close(stop)
		wg.Wait()
		db.check()
		require.Zero(t, db.Stats().OpenTxN)
		// With the readers gone, their pages are used again.
		var size int64
		for v := range 30 {
			inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, v+1)) })
			db.view(func(tx *alder.Tx) {
				if v == 7 {
					size = tx.Size()
				} else if v > 7 {
					require.LessOrEqual(t, tx.Size(), size+size/4, "pages of ended readers are not used again")
				}
			})
		}
	})
}

// Ensures that one read transaction and its buckets may be used by several goroutines at once.
func TestConcurrent_SharedTx(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 2000
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, n, 50)
			fill(t, mustCreate(t, b, "sub"), n, 50)
			fill(t, mustCreate(t, b, "tiny"), 3, 5)
		})
		tx := db.begin(false)
		shared := tx.Bucket([]byte("b"))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() {
				if err := readEverything(tx, shared, n, g); err != nil {
					t.Error(err)
				}
			})
		}
		var writer sync.WaitGroup
		writer.Go(func() {
			for v := 1; ; v++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := db.Update(func(tx *alder.Tx) error { return putVersion(tx.Bucket([]byte("b")), v) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Wait()
		close(stop)
		writer.Wait()
		require.NoError(t, tx.Rollback())
	})
}

func readEverything(tx *alder.Tx, b *alder.Bucket, n, seed int) error {
	for i := range n {
		k := key((i*7 + seed*31) % n)
		if v := b.Get(k); len(v) != 50 {
			return fmt.Errorf("Get(%s) is %d bytes", k, len(v))
		}
		if i%50 != 0 {
			continue
		}
		own := tx.Bucket([]byte("b")).Bucket([]byte("sub"))
		if v := own.Get(k); len(v) != 50 {
			return fmt.Errorf("nested Get(%s) is %d bytes", k, len(v))
		}
		if got := b.Rank(k); got != uint64((i*7+seed*31)%n) {
			return fmt.Errorf("Rank(%s) = %d", k, got)
		}
		if at, _ := b.At(uint64(i)); !bytes.Equal(at, key(i)) {
			return fmt.Errorf("At(%d) = %q", i, at)
		}
		if values := b.GetMulti([][]byte{key(0), k}, nil); len(values[1]) != 50 {
			return errors.New("GetMulti")
		}
		if got := len(keysOf(b.Bucket([]byte("tiny")))); got != 3 {
			return fmt.Errorf("tiny has %d keys", got)
		}
	}
	count := 0
	for range b.All() {
		count++
	}
	if count != n+2 || b.Len() != uint64(count) || b.Count(nil, nil) != uint64(count) {
		return fmt.Errorf("%d keys, Len %d, Count %d, want %d", count, b.Len(), b.Count(nil, nil), n+2)
	}
	return checkTx(tx)
}

// Ensures that of several goroutines that end a read transaction exactly one does.
func TestConcurrent_Rollback(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for range 50 {
			tx := db.begin(false)
			var ended atomic.Int32
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := tx.Rollback(); err == nil {
						ended.Add(1)
					} else if !errors.Is(err, alder.ErrTxClosed) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 1, ended.Load())
		}
		require.Zero(t, db.Stats().OpenTxN)
	})
}

// Ensures that thousands of read transactions may be open at once, and short ones begin and end on many
// goroutines while a writer works.
func TestConcurrent_ManyReaders(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, 1)) })
		n := 3000
		if testing.Short() {
			n = 500
		}
		txs := make([]*alder.Tx, n)
		for i := range txs {
			txs[i] = db.begin(false)
			if i%(n/5) == 0 {
				inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, 2+i/(n/5))) })
			}
		}
		require.Equal(t, n, db.Stats().OpenTxN)
		for i, tx := range txs {
			if i%50 == 0 {
				v, err := sameVersion(tx.Bucket([]byte("b")))
				require.NoError(t, err)
				require.Equal(t, 1+(i+n/5-1)/(n/5), v, "reader %d", i)
			}
			require.NoError(t, tx.Rollback())
		}
		var wg sync.WaitGroup
		var begun atomic.Int64
		for range 32 {
			wg.Go(func() {
				for range n / 10 {
					if err := db.View(func(tx *alder.Tx) error {
						begun.Add(1)
						if tx.Bucket([]byte("b")).Get([]byte("large")) == nil {
							return errors.New("no large value")
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			for v := range 10 {
				inBucketOf(t, db, v+10)
			}
		})
		wg.Wait()
		require.EqualValues(t, 32*(n/10), begun.Load())
		require.Zero(t, db.Stats().OpenTxN)
	})
}

// inBucketOf writes a version from a goroutine that is not the test's.
func inBucketOf(t testing.TB, db *testDB, v int) {
	if err := db.Update(func(tx *alder.Tx) error { return putVersion(tx.Bucket([]byte("b")), v) }); err != nil {
		t.Error(err)
	}
}

// Ensures that a reader stays readable while the store grows to a hundred times its size, and that neither it
// nor the writer nor new readers wait.
func TestConcurrent_GrowUnderReader(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, 1)) })
		tx := db.begin(false)
		start := tx.Size()
		target := 100 * start
		if testing.Short() {
			target = 20 * start
		}
		target = min(target, 60<<20) // with large pages
		reached := make(chan struct{})
		go func() {
			defer close(reached)
			for i := 0; ; i++ {
				var size int64
				if err := db.Update(func(tx *alder.Tx) error {
					size = tx.Size()
					b, err := tx.CreateBucketIfNotExists([]byte("grow"))
					if err != nil {
						return err
					}
					return b.Put(key(i), filled(int(start/2), byte(i)))
				}); err != nil {
					t.Error(err)
					return
				}
				if size > target {
					return
				}
			}
		}()
		limit := time.After(2 * time.Minute)
		for grown := false; !grown; {
			select {
			case <-reached:
				grown = true
			case <-limit:
				t.Fatal("the writer does not get on beside a reader")
			default:
			}
			v, err := sameVersion(tx.Bucket([]byte("b")))
			require.NoError(t, err)
			require.Equal(t, 1, v)
			db.view(func(tx *alder.Tx) { require.NotNil(t, tx.Bucket([]byte("b"))) })
		}
		require.NoError(t, tx.Rollback())
		db.view(func(tx *alder.Tx) {
			for k, v := range tx.Bucket([]byte("grow")).All() {
				var i int
				_, err := fmt.Sscanf(string(k), "key-%d", &i)
				require.NoError(t, err)
				requireBytes(t, filled(int(start/2), byte(i)), v, "value %d", i)
			}
		})
	})
}

// Ensures that a reader and its slices do not change while a writer commits in between.
func TestConcurrent_SlicesStay(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 400, 300) })
		tx := db.begin(false)
		var held, want [][]byte
		for k, v := range tx.Bucket([]byte("b")).All() {
			held = append(held, k, v)
			want = append(want, bytes.Clone(k), bytes.Clone(v))
		}
		for round := range 20 {
			inBucket(t, db, func(b *alder.Bucket) {
				for i := range 400 {
					require.NoError(t, b.Put(key(i), filled(300+round, byte(round+100))))
				}
			})
		}
		for i := range held {
			requireBytes(t, want[i], held[i], "slice %d", i)
		}
		require.NoError(t, tx.Rollback())
	})
}

// Ensures that a write transaction waits for the one before it, and that all that wait get their turn.
func TestConcurrent_Writers(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {})
		const writers, each = 8, 15
		var wg sync.WaitGroup
		var inside atomic.Int32
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := db.Update(func(tx *alder.Tx) error {
						if inside.Add(1) != 1 {
							t.Error("two writers at once")
						}
						defer inside.Add(-1)
						b := tx.Bucket([]byte("b"))
						seq, err := b.NextSequence()
						if err != nil {
							return err
						}
						return b.Put(key(int(seq)), fmt.Appendf(nil, "%d/%d", w, i))
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		readBucket(t, db, func(b *alder.Bucket) {
			require.EqualValues(t, writers*each, b.Sequence())
			require.EqualValues(t, writers*each, b.Len())
		})
	})
}

// Ensures that waiting for the writer's lock ends with the context, with the context's error, and that the lock
// is not lost by those who gave up.
func TestDB_BeginContext(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {})
		holder := db.begin(true)

		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err := db.BeginContext(ctx, true)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(begin), 30*time.Millisecond)

		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err = db.BeginContext(ctx, true)
		require.ErrorIs(t, err, context.Canceled)

		// Readers do not wait for the writer.
		tx, err := db.BeginContext(context.Background(), false)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback())

		// Many give up while others go on waiting.
		var wg sync.WaitGroup
		var done atomic.Int32
		for i := range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if i%2 == 0 {
					time.AfterFunc(time.Duration(i)*time.Millisecond, cancel)
				}
				tx, err := db.BeginContext(ctx, true)
				if err != nil {
					if i%2 != 0 || !errors.Is(err, context.Canceled) {
						t.Errorf("waiter %d: %v", i, err)
					}
					return
				}
				done.Add(1)
				if err := tx.Commit(); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		require.NoError(t, holder.Rollback())
		within(t, 30*time.Second, "the waiting writers", wg.Wait)
		require.GreaterOrEqual(t, done.Load(), int32(10))
		db.put("b", "after", "1")
	})
}

// Ensures that a context that is over begins nothing, read or write, and calls no function.
func TestDB_BeginContext_Done(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for _, writable := range []bool{false, true} {
			_, err := db.BeginContext(ctx, writable)
			require.ErrorIs(t, err, context.Canceled)
		}
		called := func(*alder.Tx) error { t.Error("called"); return nil }
		require.ErrorIs(t, db.UpdateContext(ctx, called), context.Canceled)
		require.ErrorIs(t, db.ViewContext(ctx, called), context.Canceled)
		require.Zero(t, db.Stats().OpenTxN)
		db.put("b", "k", "v")
	})
}

// Ensures that UpdateContext and ViewContext are Update and View when their context lives on.
func TestDB_UpdateContext(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		ctx := t.Context()
		require.NoError(t, db.UpdateContext(ctx, func(tx *alder.Tx) error {
			require.Panics(t, func() { _ = tx.Commit() }, "a managed transaction")
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			return b.Put([]byte("k"), []byte("v"))
		}))
		refused := errors.New("refused")
		require.ErrorIs(t, db.UpdateContext(ctx, func(tx *alder.Tx) error {
			require.NoError(t, tx.DeleteBucket([]byte("b")))
			return refused
		}), refused)
		require.NoError(t, db.ViewContext(ctx, func(tx *alder.Tx) error {
			require.False(t, tx.Writable())
			require.Equal(t, "v", string(tx.Bucket([]byte("b")).Get([]byte("k"))))
			return nil
		}))
		require.ErrorIs(t, db.ViewContext(ctx, func(*alder.Tx) error { return refused }), refused)
		holder, err := db.BeginContext(ctx, true)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, db.UpdateContext(short, func(*alder.Tx) error { return nil }), context.DeadlineExceeded)
		require.NoError(t, holder.Rollback())
	})
}

// Ensures that goroutines that wait for the writer's lock when the store is closed get an answer.
func TestDB_Close_WaitingWriters(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		holder := db.begin(true)
		store := db.DB
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				err := store.Update(func(*alder.Tx) error { return nil })
				if err != nil && !errors.Is(err, alder.ErrDatabaseNotOpen) {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, holder.Rollback())
		within(t, 20*time.Second, "the waiting writers and Close", wg.Wait)
		if db.file == "" {
			db.leaveUnchecked()
		}
		db.DB = nil
	})
}

// Ensures that a check, a copy and writes go on at once.
func TestConcurrent_CheckAndCopy(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, 1)) })
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := db.View(checkTx); err != nil {
						t.Errorf("check beside a writer: %v", err)
						return
					}
				}
			})
		}
		for v := range 40 {
			inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, putVersion(b, v+2)) })
		}
		close(stop)
		wg.Wait()
	})
}

// Ensures that stores that were closed leave no goroutine behind, whatever was done with them.
func TestDB_Close_NoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 5 {
		db, err := alder.OpenMemory(nil)
		if i%2 == 0 {
			db, err = alder.Open(tempDir(t)+"/x.db", 0o600, nil)
		}
		require.NoError(t, err)
		require.NoError(t, db.Batch(func(tx *alder.Tx) error {
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			return b.Put([]byte("k"), filled(10_000, 1))
		}))
		require.NoError(t, db.View(func(tx *alder.Tx) error {
			for range tx.Check() {
				t.Error("an error in a sound store")
			}
			for range tx.Bucket([]byte("b")).All() {
				break
			}
			return nil
		}))
		ctx, cancel := context.WithCancel(context.Background())
		require.NoError(t, db.UpdateContext(ctx, func(*alder.Tx) error { return nil }))
		cancel()
		require.NoError(t, db.Close())
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > before {
		buf := make([]byte, 1<<20)
		t.Fatalf("%d goroutines, %d before:\n%s", now, before, buf[:runtime.Stack(buf, true)])
	}
}
