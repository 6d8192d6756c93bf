package alder

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killed returns the store in the file as a kill of this process would leave it: a copy of the file as it is now.
func killed(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), "killed.db")
	require.NoError(t, os.WriteFile(copied, content, 0o600))
	return copied
}

func openFileDB(t *testing.T, file string, o *Options) *DB {
	t.Helper()
	db, err := Open(file, 0o600, o)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func putNumbers(t *testing.T, db *DB, from, to, size int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "%06d", i), bytes.Repeat([]byte{byte(i)}, size))
		}))
	}
}

// requireNumbers checks that the store holds exactly what putNumbers has put below n.
func requireNumbers(t *testing.T, db *DB, n, size int) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		require.EqualValues(t, n, b.Len())
		for i := range n {
			require.Equal(t, bytes.Repeat([]byte{byte(i)}, size), b.Get(fmt.Appendf(nil, "%06d", i)), "%d", i)
		}
		return checkWhole(tx)
	}))
}

// Ensures that transactions of every size, over many runs of the log, are there after a kill, for a writer and for a reader that must
// not write, and that a second recovery finds the same.
func TestLog_Recovery(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 3000, 40_000, 100_000} {
		file := filepath.Join(t.TempDir(), "store.db")
		db := openFileDB(t, file, nil)
		putNumbers(t, db, 0, 300, size)
		left := killed(t, file)
		before, err := os.ReadFile(left)
		require.NoError(t, err)

		reader := openFileDB(t, left, &Options{ReadOnly: true})
		requireNumbers(t, reader, 300, size)
		require.NoError(t, reader.Close())
		after, err := os.ReadFile(left)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before, after), "a read-only open has written")

		again := openFileDB(t, left, nil)
		requireNumbers(t, again, 300, size)
		putNumbers(t, again, 300, 320, size)
		twice := openFileDB(t, killed(t, left), nil)
		requireNumbers(t, twice, 320, size)
	}
}

// Ensures that checkpoints in the background let the log begin anew, and that what is committed meanwhile is found behind them.
func TestLog_BackgroundCheckpoints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, &Options{LogSize: 32 << 10})
	for i := range 20 {
		putNumbers(t, db, i*20, i*20+20, 500)
		again := openFileDB(t, killed(t, file), &Options{ReadOnly: true})
		requireNumbers(t, again, i*20+20, 500)
		require.NoError(t, again.Close())
	}
	require.Eventually(t, func() bool {
		db.pager.commitMu.Lock()
		defer db.pager.commitMu.Unlock()
		return db.pager.durable.txid > 300 && len(db.pager.log.runs) < 4
	}, 10*time.Second, time.Millisecond)
}

// Ensures that a transaction too large for the log, between others that are not, commits and survives a kill.
func TestLog_LargeTransaction(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, nil)
	putNumbers(t, db, 0, 5, 100)
	require.NoError(t, db.Update(func(tx *Tx) error {
		for i := 5; i < 600; i++ {
			if err := tx.Bucket([]byte("b")).Put(fmt.Appendf(nil, "%06d", i), bytes.Repeat([]byte{byte(i)}, 100)); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucket([]byte("large"))
		if err != nil {
			return err
		}
		for i := range 20 {
			if err := b.Put([]byte{byte(i)}, make([]byte, 1<<20)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.Empty(t, db.pager.groups)
	putNumbers(t, db, 600, 610, 100)
	again := openFileDB(t, killed(t, file), nil)
	requireNumbers(t, again, 610, 100)
}

// Ensures that a lazy transaction is seen at once in a lazy store, is durable after Sync, and soon without it; and that in a full store
// one that asks to be lazy is seen when it is durable.
func TestDurability_Lazy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, &Options{NoSync: true, SyncInterval: time.Hour})
	putNumbers(t, db, 0, 50, 100)
	requireNumbers(t, db, 50, 100)
	require.NoError(t, db.Sync())
	putNumbers(t, db, 50, 53, 100)
	again := openFileDB(t, killed(t, file), nil)
	var n int
	require.NoError(t, again.View(func(tx *Tx) error { n = int(tx.Bucket([]byte("b")).Len()); return nil }))
	require.GreaterOrEqual(t, n, 50)
	requireNumbers(t, again, n, 100) // those behind may be durable too, if the log needed a new run

	file = filepath.Join(t.TempDir(), "soon.db")
	db = openFileDB(t, file, &Options{Durability: DurabilityLazy, SyncInterval: time.Millisecond})
	putNumbers(t, db, 0, 50, 100)
	require.Eventually(t, func() bool { return db.pager.lastGroup() == nil }, 10*time.Second, time.Millisecond)
	requireNumbers(t, openFileDB(t, killed(t, file), nil), 50, 100)

	file = filepath.Join(t.TempDir(), "mixed.db")
	db = openFileDB(t, file, &Options{SyncInterval: time.Hour})
	putNumbers(t, db, 0, 2, 100)
	require.NoError(t, db.Update(func(tx *Tx) error {
		require.NoError(t, tx.SetDurability(DurabilityLazy))
		return tx.Bucket([]byte("b")).Put([]byte("000002"), bytes.Repeat([]byte{2}, 100))
	}))
	requireNumbers(t, db, 2, 100)
	putNumbers(t, db, 3, 4, 100)
	requireNumbers(t, db, 4, 100)
	requireNumbers(t, openFileDB(t, killed(t, file), nil), 4, 100)
}

// Ensures that a store that is closed in order leaves no log behind, and that its file stays small while the log grows and goes.
func TestLog_Close(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, nil)
	putNumbers(t, db, 0, 2000, 30)
	require.NoError(t, db.Close())
	fi, err := os.Stat(file)
	require.NoError(t, err)
	require.Less(t, fi.Size(), int64(4<<20))
	db = openFileDB(t, file, nil)
	require.True(t, db.pager.durable.clean)
	require.Nil(t, db.pager.replay)
	requireNumbers(t, db, 2000, 30)
}

// Ensures that long values, which the log only refers to, survive kills however often they are replaced, deleted or rolled back, in full
// and lazy transactions, and that their pages are used again in the end.
func TestLog_LongValues(t *testing.T) {
	for _, lazy := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "store.db")
		db := openFileDB(t, file, &Options{NoSync: lazy, LogSize: 1 << 20})
		want := map[string][]byte{}
		for i := range 120 {
			tx, err := db.Begin(true)
			require.NoError(t, err)
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			now := maps.Clone(want)
			for j := range 3 { // the same key more than once too
				k := fmt.Sprint((i + j*j) % 5)
				if (i+j)%7 == 0 {
					delete(now, k)
					require.NoError(t, b.Delete([]byte(k)))
					continue
				}
				now[k] = bytes.Repeat([]byte{byte(i), byte(j)}, defaultLongValue/2+i*100)
				require.NoError(t, b.Put([]byte(k), now[k]))
			}
			if i%4 == 3 {
				require.NoError(t, tx.Rollback())
				continue
			}
			require.NoError(t, tx.Commit())
			want = now
			if i%10 == 0 {
				require.NoError(t, db.Sync())
				for range 2 {
					again := openFileDB(t, killed(t, file), nil)
					requireContent(t, again, want)
					require.NoError(t, again.Close())
				}
			}
		}
		requireContent(t, db, want)
		require.NoError(t, db.Close())
		fi, err := os.Stat(file)
		require.NoError(t, err)
		require.Less(t, fi.Size(), int64(20<<20))
		requireContent(t, openFileDB(t, file, nil), want)
	}
}

func requireContent(t *testing.T, db *DB, want map[string][]byte) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		got := map[string][]byte{}
		for k, v := range tx.Bucket([]byte("b")).All() {
			got[string(k)] = v
		}
		require.Len(t, got, len(want))
		for k, v := range want {
			require.True(t, bytes.Equal(v, got[k]), k)
		}
		return checkWhole(tx)
	}))
}

// Ensures that a damaged frame is noticed whenever later ones show that it was durable, at the border of two runs too; that
// damage to the last one is taken for a write that was cut short; and that nothing else changes what is read.
func TestLog_Damage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, nil)
	putNumbers(t, db, 0, 40, 1000)
	left := killed(t, file)
	image, err := os.ReadFile(left)
	require.NoError(t, err)
	m := db.pager.durable
	require.GreaterOrEqual(t, len(db.pager.log.runs), 3)
	last := db.pager.offset(db.pager.log.plan.id) + db.pager.log.plan.off - logBlock
	for _, r := range db.pager.log.runs {
		for off := db.pager.offset(r.id); off < db.pager.offset(r.id+pgid(r.n)); off += logBlock {
			if le.Uint64(image[off+offFrameSalt:]) != m.logSalt || le.Uint32(image[off+offFrameMagic:]) != frameMagic {
				continue
			}
			image[off+logHeader] ^= 1
			image[off+offFrameFirst+7] ^= 1
			require.NoError(t, os.WriteFile(left, image, 0o600))
			again, err := Open(left, 0o600, &Options{ReadOnly: true})
			if off == last {
				require.NoError(t, err)
				requireNumbers(t, again, 39, 1000)
				require.NoError(t, again.Close())
			} else {
				require.ErrorIs(t, err, ErrCorrupt, "frame at %d", off)
			}
			image[off+logHeader] ^= 1
			image[off+offFrameFirst+7] ^= 1
		}
	}
}
