package alder

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that a look at the readers overlooks none, whether it is in the table or settled, while hundreds of them begin and end; that looks stay
// short; and that readers are counted right. (Invariant 15)
func TestReaderTable_Settle(t *testing.T) {
	var table readerTable
	var published atomic.Pointer[snapshot]
	published.Store(&snapshot{id: 1})
	type known struct {
		slot *readerSlot
		id   txid
	}
	var mu sync.Mutex
	open := map[*known]bool{} // that have begun, and whose end has not begun
	var stop atomic.Bool
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 12))
			var mine []*known
			end := func(i int) {
				mu.Lock()
				delete(open, mine[i])
				mu.Unlock()
				table.end(mine[i].slot)
				mine = slices.Delete(mine, i, i+1)
			}
			for !stop.Load() {
				if rng.IntN(100) < 50 && len(mine) < 60 {
					slot, s := table.begin(&published)
					k := &known{slot, s.id}
					mu.Lock()
					open[k] = true
					mu.Unlock()
					mine = append(mine, k)
				} else if len(mine) > 0 {
					end(rng.IntN(len(mine)))
				}
			}
			for len(mine) > 0 {
				end(0)
			}
		})
	}
	for n := 0; n < 150; _, n = table.counts() {
		runtime.Gosched()
	}
	looks, settled := 0, 0
	for id := txid(2); id < 1000; id++ {
		runtime.Gosched()
		published.Store(&snapshot{id: id})
		mu.Lock()
		before := map[*known]bool{}
		for k := range open {
			before[k] = true
		}
		mu.Unlock()
		few := table.fewPinned(nil)
		pinned := table.pins.all(slices.Clone(few))
		mu.Lock()
		for k := range before {
			if open[k] && !slices.Contains(pinned, k.id) {
				t.Errorf("a reader of %d was overlooked: %v", k.id, pinned)
			}
		}
		mu.Unlock()
		require.LessOrEqual(t, len(few), readersNear+8)
		looks++
		if len(pinned) > len(few) {
			settled++
		}
	}
	stop.Store(true)
	all.Wait()
	require.Greater(t, settled, looks/10, "the test did not get where it should")
	_, n := table.counts()
	require.Zero(t, n)
	require.Empty(t, table.settled)
	require.Empty(t, table.pinned(nil))
	require.Empty(t, table.open())
	require.LessOrEqual(t, len(table.near()), readersNear+8)
}

// Ensures that each of very many readers sees its own snapshot to its end, with much pending for them, in whatever order they end, and that
// everything is free after the last.
func TestReaders_ManySnapshots(t *testing.T) {
	db, err := OpenMemory(nil)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 13))
	const keys = 200
	want := make([]byte, keys)
	put := func() {
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			for range 5 {
				k := rng.IntN(keys)
				want[k]++
				if err := b.Put([]byte{byte(k)}, slices.Repeat([]byte{want[k]}, 300)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	type view struct {
		tx   *Tx
		want []byte
	}
	var views []view
	n := 1500
	if testing.Short() {
		n = 400
	}
	begin := func() {
		put()
		tx, err := db.Begin(false)
		require.NoError(t, err)
		views = append(views, view{tx, slices.Clone(want)})
	}
	for range n {
		begin()
	}
	for step := 0; len(views) > 0; step++ {
		i := rng.IntN(len(views))
		switch step / 100 % 3 {
		case 1:
			i = 0
		case 2:
			i = len(views) - 1
		}
		v := views[i]
		b := v.tx.Bucket([]byte("b"))
		for k, version := range v.want {
			if got := b.Get([]byte{byte(k)}); version > 0 && (len(got) != 300 || got[0] != version || got[299] != version) {
				t.Fatalf("reader %d of %d sees another value of key %d", i, len(views), k)
			}
		}
		require.NoError(t, v.tx.Rollback())
		views = slices.Delete(views, i, i+1)
		if put(); step%4 == 0 && step < n {
			begin()
		}
	}
	put()
	put()
	require.Less(t, db.Stats().PendingPageN, 50)
	require.Zero(t, db.Stats().OpenTxN)
	require.NoError(t, db.Close())
}

// Ensures that readers who come and go by the hundred take no memory in a store to which nobody writes: each time the last of them left, that was noted
// for a writer who would never ask.
func TestReaders_SettleWithoutWriter(t *testing.T) {
	db, err := OpenMemory(nil)
	require.NoError(t, err)
	for range 100 {
		var open []*Tx
		for range 3 * readersNear {
			tx, err := db.Begin(false)
			require.NoError(t, err)
			open = append(open, tx)
		}
		for _, tx := range open {
			require.NoError(t, tx.Rollback())
		}
	}
	require.LessOrEqual(t, len(db.pager.readers.pins.gone), 1)
	require.NoError(t, db.Close())
}
