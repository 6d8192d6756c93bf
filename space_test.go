package alder_test

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that the fields of Space are what the file is used for, with and without readers, and that a closed store has none.
func TestDB_Space(t *testing.T) {
	db := openTemp(t)
	sum := func(s alder.Space) int64 { return s.Trees + s.Map + s.Free + s.Pinned + s.Log + s.Reserve }
	rewrite := func(v byte) {
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			for i := range 3000 {
				require.NoError(t, b.Put(key(i), filled(100, v)))
			}
		})
	}
	rewrite(1)
	tx := db.begin(false)
	for v := range byte(5) {
		rewrite(v)
		var s alder.Space
		require.Eventually(t, func() bool {
			s = db.Space()
			return s.File == db.fileSize() && s.File == sum(s)+3*int64(db.PageSize()) // and the metas and the owner
		}, 10*time.Second, time.Millisecond, "but for moments in which a checkpoint begins, or the log grows")
		require.Equal(t, 1, s.Readers)
		require.EqualValues(t, v+1, s.Behind)
		require.Equal(t, tx.Snapshot().TxID+s.Behind, s.TxID)
		require.GreaterOrEqual(t, s.Pinned, tx.Size()/2, "the reader's pages are not those of the newest snapshot")
		require.InDelta(t, tx.Size(), s.Trees, float64(tx.Size()/2))
	}
	require.NoError(t, tx.Rollback())
	s := db.Space()
	require.Zero(t, s.Readers)
	require.Zero(t, s.Behind)
	require.NoError(t, db.Failed())
	db.mustClose()
	closed, err := alder.OpenMemory(nil)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	require.Zero(t, closed.Space())
	require.Zero(t, (&alder.DB{}).Space())
	require.Zero(t, (&alder.DB{}).Stats())
	require.NoError(t, (&alder.DB{}).Failed())
}

// Ensures that a new store takes at most 32 KiB with pages of 4 KiB, and no more when it is closed after its first commit, as README says.
//
// It was 36 KiB after the first commit: the new store had a free map of two pages in which nothing was free, the commit wrote another, and
// the first one could not be used again yet.
func TestOpen_NewStoreSize(t *testing.T) {
	db := openTemp(t)
	require.EqualValues(t, 32<<10, db.fileSize())
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		require.NoError(t, b.Put(key(1), filled(100, 1)))
	})
	path := db.Path() // while the store is open the file is longer: a reserve makes sure that it can be recovered when the disk is full
	db.mustClose()
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.LessOrEqual(t, fi.Size(), int64(32<<10))
}

// Ensures that an old reader costs the space of what it can see and not of what happened since: a store whose keys are all rewritten again
// and again grows by the reader's version and no further.
func TestDB_Space_OldReader(t *testing.T) {
	const n, rounds = 20_000, 25
	size := func(reader bool) (file int64) {
		db := openMemory(t, withNoSync())
		rng := rand.New(rand.NewPCG(1, 9))
		write := func(keys []int) {
			db.update(func(tx *alder.Tx) {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				require.NoError(t, err)
				for _, i := range keys {
					require.NoError(t, b.Put(key(i), filled(100, byte(rng.IntN(256)))))
				}
			})
		}
		all := rng.Perm(n)
		write(all)
		if reader {
			db.begin(false)
		}
		for range rounds {
			for k := 0; k < n; k += n / 10 {
				write(all[k : k+n/10])
			}
			if !reader && db.Space().File > file {
				file = db.Space().File
			}
		}
		s := db.Space()
		if reader {
			require.Equal(t, 1, s.Readers)
			require.EqualValues(t, 10*rounds, s.Behind)
		}
		return max(file, s.File)
	}
	if testing.Short() {
		t.Skip("some hundred megabytes are written")
	}
	without, with := size(false), size(true)
	t.Logf("%d rewrites of %d keys: %d bytes without a reader, %d beside one that stays: %.2f times", rounds, n, without, with, float64(with)/float64(without))
	require.Less(t, float64(with), 2.2*float64(without))
}
