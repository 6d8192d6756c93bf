package alder_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// queued starts calls of Batch that all wait, until the function that it returns is called, which returns their errors in order.
func (db *testDB) queued(n int, fn func(i int, tx *alder.Tx) error) (release func() []error) {
	db.t.Helper()
	holder := db.begin(true)
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		errs[i] = errors.New("ended without an answer")
		wg.Go(func() { errs[i] = db.Batch(func(tx *alder.Tx) error { return fn(i, tx) }) })
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	return func() []error {
		db.t.Helper()
		require.NoError(db.t, holder.Rollback())
		within(db.t, 30*time.Second, "the calls of Batch", wg.Wait)
		return errs
	}
}

// Ensures that calls that wait for the writer become one transaction, as large as MaxBatchSize allows.
func TestDB_Batch(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b")
		for _, c := range []struct{ limit, calls, want int }{{1000, 50, 1}, {3, 10, 4}, {2, 1, 1}, {1, 5, 5}, {0, 5, 5}, {-1, 2, 2}} {
			db.MaxBatchSize = c.limit
			release := db.queued(c.calls, func(i int, tx *alder.Tx) error {
				return tx.Bucket([]byte("b")).Put(key(i), key(i*i))
			})
			first := db.lastTxID()
			require.NoError(t, errors.Join(release()...))
			require.Equal(t, c.want, db.lastTxID()-first, "transactions of %d calls with a limit of %d", c.calls, c.limit)
			db.view(func(tx *alder.Tx) {
				b := tx.Bucket([]byte("b"))
				for i := range c.calls {
					require.Equal(t, string(key(i*i)), string(b.Get(key(i))))
				}
			})
		}
	})
}

// Ensures that many goroutines that call Batch again and again each get all that they put, and nothing twice.
func TestDB_Batch_Concurrent(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b")
		var wg sync.WaitGroup
		const goroutines, calls = 16, 25
		for g := range goroutines {
			wg.Go(func() {
				for i := range calls {
					if err := db.Batch(func(tx *alder.Tx) error {
						b := tx.Bucket([]byte("b"))
						if _, err := b.NextSequence(); err != nil {
							return err
						}
						return b.Put(key(g*1000+i), []byte("v"))
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		within(t, 60*time.Second, "the calls of Batch", wg.Wait)
		db.view(func(tx *alder.Tx) {
			b := tx.Bucket([]byte("b"))
			require.EqualValues(t, goroutines*calls, b.Len())
			require.EqualValues(t, goroutines*calls, b.Sequence())
		})
	})
}

func (db *testDB) lastTxID() (id int) {
	db.view(func(tx *alder.Tx) { id = tx.ID() })
	return id
}

// Ensures that a function that fails in a batch gets its own error, and that nothing of it remains, while the
// others of the batch succeed.
func TestDB_Batch_Error(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b")
		const n = 12
		errs := db.queued(n, func(i int, tx *alder.Tx) error {
			if err := tx.Bucket([]byte("b")).Put(key(i), []byte("v")); err != nil {
				return err
			}
			if i%4 == 1 {
				return fmt.Errorf("error of %d", i)
			}
			return nil
		})()
		var want []string
		for i := range n {
			if i%4 == 1 {
				require.EqualError(t, errs[i], fmt.Sprintf("error of %d", i))
				continue
			}
			require.NoError(t, errs[i])
			want = append(want, string(key(i)))
		}
		db.view(func(tx *alder.Tx) { require.Equal(t, want, keysOf(tx.Bucket([]byte("b")))) })
	})
}

// Ensures that a panic in a batched function reaches the goroutine that called Batch with its value, and no
// other one.
func TestDB_Batch_Panic(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b")
		var wg sync.WaitGroup
		var panics atomic.Int32
		reason := errors.New("reason")
		for i := range 6 {
			wg.Go(func() {
				defer func() {
					if p := recover(); p != nil {
						if p == any(reason) && i == 2 {
							panics.Add(1)
						} else {
							t.Errorf("call %d: panic %v", i, p)
						}
					}
				}()
				err := db.Batch(func(tx *alder.Tx) error {
					if err := tx.Bucket([]byte("b")).Put(key(i), []byte("v")); err != nil {
						return err
					}
					if i == 2 {
						panic(reason)
					}
					return nil
				})
				if err != nil || i == 2 {
					t.Errorf("call %d returned %v", i, err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, panics.Load())
		db.view(func(tx *alder.Tx) { require.Len(t, keysOf(tx.Bucket([]byte("b"))), 5) })
	})
}

// Ensures that a function that ends its goroutine ends that of its own caller and no other, and that the others of the batch succeed.
func TestDB_Batch_Goexit(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b")
		errs := db.queued(6, func(i int, tx *alder.Tx) error {
			if i == 3 {
				runtime.Goexit()
			}
			return tx.Bucket([]byte("b")).Put(key(i), []byte("v"))
		})()
		for i, err := range errs {
			if i == 3 {
				require.EqualError(t, err, "ended without an answer")
			} else {
				require.NoError(t, err)
			}
		}
		db.view(func(tx *alder.Tx) { require.Len(t, keysOf(tx.Bucket([]byte("b"))), 5) })
	})
}

// Ensures that a call waits for nobody, whatever MaxBatchDelay is.
func TestDB_Batch_Delay(t *testing.T) {
	db := openTemp(t)
	db.put("b")
	for _, limit := range []struct {
		size  int
		delay time.Duration
	}{{1000, time.Hour}, {3, time.Hour}, {1000, 0}, {1, time.Hour}, {0, time.Hour}, {-1, -1}} {
		db.MaxBatchSize, db.MaxBatchDelay = limit.size, limit.delay
		within(t, 30*time.Second, fmt.Sprintf("batch with %v", limit), func() { batchPuts(t, db, 2) })
	}
}

// Ensures that a batch is as durable as the most careful of its functions wants: lazy ones beside it do not take that away, nor does the order.
func TestDB_Batch_Durability(t *testing.T) {
	for _, lazyStore := range []bool{false, true} {
		for _, careful := range []int{0, 1, 2} {
			db := openTemp(t, func(o *alder.Options) { o.NoSync, o.SyncInterval = lazyStore, time.Hour })
			db.put("b")
			db.put("b")
			require.NoError(t, db.Sync())
			errs := db.queued(3, func(i int, tx *alder.Tx) error {
				var err error
				switch {
				case i != careful:
					err = tx.SetDurability(alder.DurabilityLazy)
				case lazyStore:
					err = tx.SetDurability(alder.DurabilityFull)
				}
				return errors.Join(err, tx.Bucket([]byte("b")).Put(key(i), []byte("v")))
			})()
			require.NoError(t, errors.Join(errs...))
			require.Len(t, db.survivors(), 3)
		}
	}
}

// Ensures that calls that wait when the store is closed get an answer.
func TestDB_Batch_Close(t *testing.T) {
	db := openTemp(t)
	db.put("b")
	release := db.queued(5, func(i int, tx *alder.Tx) error { return tx.Bucket([]byte("b")).Put(key(i), []byte("v")) })
	store, closed := db.DB, make(chan error, 1)
	go func() { closed <- store.Close() }()
	time.Sleep(10 * time.Millisecond)
	for _, err := range release() {
		if err != nil {
			require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
		}
	}
	require.NoError(t, <-closed)
	require.ErrorIs(t, store.Batch(func(*alder.Tx) error { return nil }), alder.ErrDatabaseNotOpen)
	db.DB = nil
}

func batchPuts(t *testing.T, db *testDB, n int) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := db.Batch(func(tx *alder.Tx) error {
				return tx.Bucket([]byte("b")).Put(key(i), []byte("v"))
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Ensures that Batch starts with the documented limits. Beyond bbolt: the names of the defaults.
func TestOpen_BatchDefaults(t *testing.T) {
	db := openTemp(t)
	require.Equal(t, alder.DefaultMaxBatchSize, db.MaxBatchSize)
	require.Equal(t, alder.DefaultMaxBatchDelay, db.MaxBatchDelay)
	require.Equal(t, 1000, db.MaxBatchSize)
	require.Equal(t, 10*time.Millisecond, db.MaxBatchDelay)
}
