package alder

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// loadAndThin fills a store with 20,000 keys and deletes all but every tenth.
func loadAndThin(t *testing.T, db *DB) {
	t.Helper()
	for i := 0; i < 20000; i += 1000 {
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("a"))
			for k := i; k < i+1000 && err == nil; k++ {
				err = b.Put(fmt.Appendf(nil, "%08x", uint32(k)*2654435761), make([]byte, 400))
			}
			return err
		}))
	}
	require.NoError(t, db.Update(func(tx *Tx) error {
		b := tx.Bucket([]byte("a"))
		for k := range 20000 {
			if k%10 != 0 {
				if err := b.Delete(fmt.Appendf(nil, "%08x", uint32(k)*2654435761)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

func requireThinned(t *testing.T, db *DB) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		require.EqualValues(t, 2000, tx.Bucket([]byte("a")).Len())
		return checkWhole(tx)
	}))
}

// Ensures that Close makes a file shorter of which most is free, that an option keeps it from that, and that a store that was only opened is not
// worked on.
func TestClose_Shrinks(t *testing.T) {
	sizes := map[bool]int64{}
	for _, off := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "store")
		db, err := Open(path, 0o600, &Options{NoAutoShrink: off, NoSync: true})
		require.NoError(t, err)
		loadAndThin(t, db)
		require.NoError(t, db.Close())
		fi, err := os.Stat(path)
		require.NoError(t, err)
		sizes[off] = fi.Size()
		db, err = Open(path, 0o600, nil)
		require.NoError(t, err)
		requireThinned(t, db)
		require.NoError(t, db.Close())
		fi, err = os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, sizes[off], fi.Size())
	}
	t.Logf("%d bytes with, %d without", sizes[false], sizes[true])
	require.Less(t, sizes[false], sizes[true]/2)
}

// Ensures that a store of which most is free becomes shorter in the background when nobody writes, and not before.
func TestShrink_WhenIdle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, &Options{NoSync: true, checkpointAge: 300 * time.Millisecond, shrinkLeast: 1 << 20})
	require.NoError(t, err)
	loadAndThin(t, db)
	before := db.Space().File
	require.Eventually(t, func() bool { return db.Space().File < before/3 }, 20*time.Second, 10*time.Millisecond)
	requireThinned(t, db)
	require.NoError(t, db.Close())
}

// Ensures that Close keeps to its budget: what would have to move more is left.
func TestShrink_Budget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, &Options{NoSync: true, NoAutoShrink: true})
	require.NoError(t, err)
	loadAndThin(t, db)
	s := &shrinker{db: db, pg: db.pager, ctx: t.Context(), noPack: true, budget: 200 << 10}
	out, err := s.run()
	require.NoError(t, err)
	require.LessOrEqual(t, out.Moved, int64(400<<10), "and the branches above")
	requireThinned(t, db)
	require.NoError(t, db.Close())
}
