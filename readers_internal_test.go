package alder

import (
	"log/slog"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ensures that readers on different processors share no cache line.
func TestReaderSlot_Size(t *testing.T) {
	if is64bit {
		require.EqualValues(t, 128, reflect.TypeFor[readerSlot]().Size())
	}
}

// Ensures that a read transaction that the program has lost is reported with the place where it began, and one that was ended is not.
func TestDB_WatchReaders_Dropped(t *testing.T) {
	var mu sync.Mutex
	var text strings.Builder
	db, err := OpenMemory(&Options{Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil))})
	require.NoError(t, err)
	defer db.WatchReaders(ReaderWatch{Track: true})()
	forgetReader(t, db)
	read := func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
	for deadline := time.Now().Add(30 * time.Second); read() == "" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		tx, err := db.Begin(false)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback())
		runtime.GC()
	}
	require.Contains(t, read(), "dropped without being ended")
	require.Contains(t, read(), "forgetReader")
	require.Equal(t, 1, strings.Count(read(), "level=WARN"))
	open := db.Readers()
	require.Len(t, open, 1)
	require.True(t, open[0].Dropped)
	require.NoError(t, db.Close()) // and is not waited for
	require.Contains(t, read(), "Close did not wait")
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

//go:noinline
func forgetReader(t *testing.T, db *DB) {
	tx, err := db.Begin(false)
	require.NoError(t, err)
	require.NotNil(t, tx)
}

// Ensures that what a snapshot holds is counted as its definition says, and that an estimate comes near.
func TestFreelist_Held(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	for round := range 50 {
		f := newFreelist(4096, nil)
		pinned := []txid{}
		for range 1 + rng.IntN(6) {
			pinned = append(pinned, txid(10+rng.IntN(100)))
		}
		slices.Sort(pinned)
		pinned = slices.Compact(pinned)
		want := make([]int64, len(pinned))
		runs := 500
		if round == 0 {
			runs = 4 * heldSample
		}
		for range runs {
			s := pinned[rng.IntN(len(pinned))]
			if rng.IntN(4) == 0 {
				s = 200 // the published one, which no reader has
			}
			r := freedRun{run{1000, 1 + rng.IntN(3)}, txid(rng.IntN(int(s)) + 1)}
			require.NoError(t, f.hold(r, s))
			for i, id := range pinned {
				if r.birth <= id && id <= s {
					want[i] += int64(r.n)
				}
			}
		}
		got := f.held(pinned)
		if round > 0 {
			require.Equal(t, want, got)
			continue
		}
		for i := range want {
			require.InEpsilon(t, want[i]+100, got[i]+100, 0.2)
		}
	}
	require.Empty(t, newFreelist(4096, nil).held(nil))
}

// Ensures that the word of a slot tells readers apart and counts them right, whatever their number and snapshot are.
func TestReaderSlot_Counts(t *testing.T) {
	var table readerTable
	s := &readerSlot{}
	table.slots.Store(&[]*readerSlot{s})
	for n := uint64(1); n <= 5*readerMask; n++ {
		id := txid(n * 7)
		if n%3 == 0 {
			id = maxTxid - txid(n)
		}
		require.True(t, s.take(id))
		active, is, begun := s.read()
		require.True(t, active)
		require.Equal(t, id, is)
		require.Equal(t, n, begun)
		require.False(t, s.take(id))
		if n%4000 == 0 {
			count, open := table.counts()
			require.Equal(t, n, count)
			require.Equal(t, 1, open)
			require.Equal(t, []txid{id}, table.pinned(nil))
			require.Equal(t, n, table.open()[0].begun)
		}
		table.end(s)
		active, _, begun = s.read()
		require.False(t, active)
		require.Equal(t, n, begun)
	}
	count, open := table.counts()
	require.EqualValues(t, 5*readerMask, count)
	require.Zero(t, open)
}

// Ensures that transactions that share memory stay apart: one that has ended stays so, and its bucket too, while those after it are used.
func TestTx_Block(t *testing.T) {
	db, err := OpenMemory(nil)
	require.NoError(t, err)
	const n = 3 * txBlockSize
	require.NoError(t, db.Update(func(tx *Tx) error {
		for i := range n {
			b, err := tx.CreateBucket([]byte{byte(i)})
			if err == nil {
				err = b.Put([]byte("k"), []byte{byte(i)})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
	var txs []*Tx
	var buckets []*Bucket
	for i := range n {
		tx, err := db.Begin(false)
		require.NoError(t, err)
		b := tx.Bucket([]byte{byte(i)})
		second := tx.Bucket([]byte{byte((i + 1) % n)})
		require.Equal(t, []byte{byte(i)}, b.Get([]byte("k")))
		require.Equal(t, []byte{byte((i + 1) % n)}, second.Get([]byte("k")))
		txs, buckets = append(txs, tx), append(buckets, b)
		if i%5 != 0 { // some stay open
			require.NoError(t, tx.Rollback())
		}
	}
	for i, tx := range txs {
		require.Same(t, tx, buckets[i].Tx())
		if i%5 == 0 {
			require.Equal(t, []byte{byte(i)}, buckets[i].Get([]byte("k")))
			require.NoError(t, tx.Rollback())
		}
		require.ErrorIs(t, tx.Rollback(), ErrTxClosed)
		require.Nil(t, buckets[i].Get([]byte("k")))
		require.Nil(t, tx.Bucket([]byte{0}))
	}
	require.Zero(t, db.Stats().OpenTxN)
	require.NoError(t, db.Close())
}

// Ensures that what a watch has reported is forgotten when the readers end: a program with many old readers had a watch that grew for as long as it ran.
func TestDB_WatchReaders_Forgets(t *testing.T) {
	db, err := OpenMemory(nil)
	require.NoError(t, err)
	defer db.Close()
	var reported reportedReaders
	for range 5 {
		var open []*Tx
		for range 100 {
			tx, err := db.Begin(false)
			require.NoError(t, err)
			open = append(open, tx)
		}
		var old []ReaderInfo
		old, reported = db.oldReaders(0, reported)
		require.Len(t, old, 100)
		old, reported = db.oldReaders(0, reported)
		require.Empty(t, old, "they were reported before")
		require.Len(t, reported, 100)
		for _, tx := range open {
			require.NoError(t, tx.Rollback())
		}
		_, reported = db.oldReaders(0, reported)
		require.Empty(t, reported)
	}
}

// Ensures that a commit that has happened is no error because memory could not be given back afterwards; a rollback says so.
func TestTx_Commit_MemoryStays(t *testing.T) {
	db, err := OpenMemory(nil)
	require.NoError(t, err)
	defer db.Close()
	fail := func(tx *Tx) error {
		tx.w.puts.memory = make([]byte, 100)[1:] // no mapping
		_, err := tx.CreateBucketIfNotExists([]byte("b"))
		return err
	}
	require.NoError(t, db.Update(fail))
	require.NoError(t, db.View(func(tx *Tx) error {
		require.NotNil(t, tx.Bucket([]byte("b")))
		return nil
	}))
	tx, err := db.Begin(true)
	require.NoError(t, err)
	require.NoError(t, fail(tx))
	require.Error(t, tx.Rollback())
}
