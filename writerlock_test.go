package alder_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// The lock of the writer: who gets it, in which order, and who need not wait. TestDB_BeginContext and TestDB_UpdateContext have the waiting
// that ends with a context.

// Ensures that TryBegin begins when nobody writes, and says at once when somebody does, or waits to; readers do not matter.
func TestDB_TryBegin(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b")
		reader := db.begin(false)
		tx, err := db.TryBegin()
		require.NoError(t, err)
		require.True(t, tx.Writable())
		require.NoError(t, tx.Bucket([]byte("b")).Put([]byte("k"), []byte("v")))

		busy := func() {
			t.Helper()
			within(t, 10*time.Second, "TryBegin", func() {
				_, err := db.TryBegin()
				require.ErrorIs(t, err, alder.ErrBusy)
			})
		}
		busy()
		waiter := make(chan error, 1)
		go func() { waiter <- db.Update(func(*alder.Tx) error { busy(); return nil }) }()
		busy()
		require.NoError(t, tx.Commit())
		require.NoError(t, <-waiter)
		require.Equal(t, "v", db.get("b", "k"))
		for range 3 {
			tx, err = db.TryBegin()
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())
		}
		require.NoError(t, reader.Rollback())
	})
}

// Ensures that TryBegin is not put off by what the store does by itself: who is the only writer always gets his transaction.
func TestDB_TryBegin_Alone(t *testing.T) {
	db := openTemp(t, func(o *alder.Options) { o.LogSize = 8192 })
	db.put("b")
	for i := range 300 {
		tx, err := db.TryBegin()
		require.NoError(t, err, "transaction %d", i)
		require.NoError(t, tx.Bucket([]byte("b")).Put(key(i), filled(3000, 1)))
		require.NoError(t, tx.Commit())
	}
}

// Ensures that of many who try at once each is the only one, and that the lock is not lost.
func TestDB_TryBegin_Concurrent(t *testing.T) {
	db := openTemp(t)
	db.put("b")
	var inside, begun atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := 0; n < 20; {
				tx, err := db.TryBegin()
				if errors.Is(err, alder.ErrBusy) {
					time.Sleep(time.Microsecond)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two write transactions")
				}
				n++
				begun.Add(1)
				inside.Add(-1)
				if n%2 == 0 {
					err = tx.Rollback()
				} else {
					err = tx.Commit()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	within(t, 60*time.Second, "those who try", wg.Wait)
	require.EqualValues(t, 160, begun.Load())
}

// Ensures that TryBegin fails as Begin does where nothing can be written.
func TestDB_TryBegin_Errors(t *testing.T) {
	db := openTemp(t)
	db.put("b")
	db.reopen(func(o *alder.Options) { o.ReadOnly = true })
	_, err := db.TryBegin()
	require.ErrorIs(t, err, alder.ErrDatabaseReadOnly)
	store := db.DB
	db.mustClose()
	_, err = store.TryBegin()
	require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
	_, err = new(alder.DB).TryBegin()
	require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
	db.options.ReadOnly = false
}

// Ensures that those who wait for the writer's lock get it in the order in which they came, by whichever call.
func TestDB_Begin_Order(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b")
		holder := db.begin(true)
		var mu sync.Mutex
		var order []int
		note := func(i int) {
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
		}
		var wg sync.WaitGroup
		want := []int{}
		for i := range 12 {
			want = append(want, i)
			wg.Go(func() {
				switch i % 3 {
				case 0:
					tx, err := db.Begin(true)
					if err != nil {
						t.Error(err)
						return
					}
					note(i)
					if err := tx.Rollback(); err != nil {
						t.Error(err)
					}
				case 1:
					if err := db.Update(func(*alder.Tx) error { note(i); return nil }); err != nil {
						t.Error(err)
					}
				case 2:
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if err := db.UpdateContext(ctx, func(*alder.Tx) error { note(i); return nil }); err != nil {
						t.Error(err)
					}
				}
			})
			time.Sleep(5 * time.Millisecond) // until it waits
		}
		require.NoError(t, holder.Commit())
		within(t, 30*time.Second, "those who wait", wg.Wait)
		require.Equal(t, want, order)
	})
}

// Ensures that a writer that comes back at once, again and again, does not keep others waiting: nobody waits longer than for those
// who were there before.
func TestDB_Begin_Fair(t *testing.T) {
	db := openTemp(t, withNoSync())
	db.put("b")
	var begun atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	const hogs = 3
	for range hogs {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := db.Update(func(tx *alder.Tx) error {
					begun.Add(1)
					return tx.Bucket([]byte("b")).Put([]byte("k"), []byte("v"))
				}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var passed []int64
	for range 200 {
		before := begun.Load()
		require.NoError(t, db.Update(func(*alder.Tx) error {
			passed = append(passed, begun.Load()-before)
			return nil
		}))
		time.Sleep(100 * time.Microsecond)
	}
	close(stop)
	wg.Wait()
	// Now and then more pass between the look at the counter and the arrival at the lock, if this goroutine is put aside there.
	slices.Sort(passed)
	require.LessOrEqual(t, passed[len(passed)/2], int64(hogs+1), "transactions that began before one that waited: %v", passed)
}
