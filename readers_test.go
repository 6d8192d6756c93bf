package alder_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that open read transactions are listed with their snapshots, the oldest first, with what they hold, and ended ones are not.
func TestDB_Readers(t *testing.T) {
	db := openTemp(t)
	require.Empty(t, db.Readers())
	write := func(v byte) {
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			for i := range 1000 {
				require.NoError(t, b.Put(key(i), filled(100, v)))
			}
		})
	}
	write(1)
	old := db.begin(false)
	write(2)
	young := db.begin(false)
	pages := int64(young.Size()) / int64(db.PageSize())
	write(3)
	write(4)
	var got []alder.ReaderInfo
	require.Eventually(t, func() bool {
		got = db.Readers()
		return len(got) == 2 && got[0].Pages >= 0
	}, 10*time.Second, time.Millisecond, "but for the moment in which a checkpoint begins")
	require.Equal(t, []uint64{old.Snapshot().TxID, young.Snapshot().TxID}, []uint64{got[0].TxID, got[1].TxID})
	for _, r := range got {
		require.InDelta(t, pages, r.Pages, 12, "each holds its own version of all pages")
		require.Positive(t, r.Age)
		require.Empty(t, r.Stack)
		require.False(t, r.Dropped)
	}
	time.Sleep(20 * time.Millisecond)
	later := db.Readers()
	require.GreaterOrEqual(t, later[0].Age-got[0].Age, 20*time.Millisecond)

	w := db.begin(true)
	require.Equal(t, int64(-1), db.Readers()[0].Pages, "a writer is not waited for")
	require.NoError(t, w.Rollback())
	require.NoError(t, old.Rollback())
	got = db.Readers()
	require.Len(t, got, 1)
	require.Equal(t, young.Snapshot().TxID, got[0].TxID)
	require.NoError(t, young.Rollback())
	require.Empty(t, db.Readers())
	// In the slot of an old reader a new one begins at once: it is not as old.
	young = db.begin(false)
	require.Less(t, db.Readers()[0].Age, 20*time.Millisecond)
	require.NoError(t, young.Rollback())
	require.Empty(t, (&alder.DB{}).Readers())
}

// Ensures that a read transaction is reported once when it is older than allowed, and one that ends in time never.
func TestDB_WatchReaders_MaxAge(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "v")
	var mu sync.Mutex
	var got []alder.ReaderInfo
	const age = 100 * time.Millisecond
	stop := db.WatchReaders(alder.ReaderWatch{MaxAge: age, OnOld: func(r alder.ReaderInfo) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r)
	}})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	old := db.begin(false)
	deadline := time.Now().Add(20 * time.Second)
	for count() == 0 && time.Now().Before(deadline) {
		require.NoError(t, db.View(func(*alder.Tx) error { return nil }))
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, 1, count())
	require.Equal(t, old.Snapshot().TxID, got[0].TxID)
	require.GreaterOrEqual(t, got[0].Age, age)
	time.Sleep(2 * age)
	require.Equal(t, 1, count(), "once")
	require.NoError(t, old.Rollback())
	next := db.begin(false)
	for count() == 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	require.Equal(t, 2, count(), "the next one, if in the same slot, is another one")
	require.NoError(t, next.Rollback())
	stop()
	last := db.begin(false)
	time.Sleep(2 * age)
	require.Equal(t, 2, count())
	require.NoError(t, last.Rollback())
	// The same as options.
	reported := make(chan alder.ReaderInfo, 1)
	watched := openMemory(t, func(o *alder.Options) {
		o.MaxReaderAge, o.OnOldReader, o.TrackReaders = time.Millisecond, func(r alder.ReaderInfo) { reported <- r }, true
	})
	young, err := watched.Begin(false)
	require.NoError(t, err)
	require.Contains(t, (<-reported).Stack, "TestDB_WatchReaders_MaxAge")
	require.NoError(t, young.Rollback())
	_, err = alder.OpenMemory(&alder.Options{MaxReaderAge: -1})
	require.ErrorContains(t, err, "Options.MaxReaderAge is -1ns")
	// Without a function it is the logger that is told, also while the store is being closed.
	var text lockedBuffer
	logging := openMemory(t, func(o *alder.Options) { o.Logger = slog.New(slog.NewTextHandler(&text, nil)) })
	logging.WatchReaders(alder.ReaderWatch{MaxAge: time.Millisecond})
	tx := logging.begin(false)
	for text.String() == "" && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, tx.Rollback())
	require.Contains(t, text.String(), "a read transaction has been open for long")
	require.Contains(t, text.String(), "txid=1 ")
}

// lockedBuffer is a buffer that several goroutines use.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Ensures that tracked read transactions say where they began and since when, until the watch ends.
func TestDB_WatchReaders_Track(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "v")
	before := db.begin(false)
	stop := db.WatchReaders(alder.ReaderWatch{Track: true})
	begun, err := db.Begin(false)
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *alder.Tx) error {
		time.Sleep(10 * time.Millisecond)
		all := db.Readers()
		require.Len(t, all, 3)
		all = slices.DeleteFunc(all, func(r alder.ReaderInfo) bool { return r.Stack == "" })
		require.Len(t, all, 2)
		for _, r := range all {
			first, _, _ := strings.Cut(r.Stack, "\n")
			require.Equal(t, "github.com/alderdb/alder_test.TestDB_WatchReaders_Track", first, "%s", r.Stack)
			require.GreaterOrEqual(t, r.Age, 10*time.Millisecond)
		}
		return nil
	}))
	stop()
	after, err := db.Begin(false)
	require.NoError(t, err)
	stacks := 0
	for _, r := range db.Readers() {
		if r.Stack != "" {
			stacks++
		}
	}
	require.Equal(t, 1, stacks, "the one that began before the watch ended")
	for _, tx := range []*alder.Tx{before, begun, after} {
		require.NoError(t, tx.Rollback())
	}
	require.Empty(t, db.Readers())
}

// Ensures that readers can be looked at, and tracking be turned on and off, while readers and writers are at work.
func TestDB_Readers_Concurrent(t *testing.T) {
	db := openMemory(t, withNoSync())
	db.put("b", "k", "v")
	var stopped atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stopped.Load() {
				require.NoError(t, db.View(func(tx *alder.Tx) error {
					require.Equal(t, "v", string(tx.Bucket([]byte("b")).Get([]byte("k"))))
					return nil
				}))
			}
		})
	}
	wg.Go(func() {
		for !stopped.Load() {
			require.NoError(t, db.Update(func(tx *alder.Tx) error { return tx.Bucket([]byte("b")).Put([]byte("k"), []byte("v")) }))
		}
	})
	for i := range 200 {
		stop := db.WatchReaders(alder.ReaderWatch{Track: i%2 == 0, MaxAge: time.Hour})
		for _, r := range db.Readers() {
			require.Less(t, r.Age, 10*time.Second)
		}
		stop()
	}
	stopped.Store(true)
	wg.Wait()
	require.Empty(t, db.Readers())
}
