package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/alderdb/alder"
	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
)

// Ensures that a bbolt database becomes a store with the same buckets, keys, values and sequences, in more than one transaction; that nothing is
// replaced; and that nothing is left of one that could not be read.
func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "old.db"), filepath.Join(dir, "new.alder")
	old, err := bolt.Open(from, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, old.Update(func(tx *bolt.Tx) error {
		for _, top := range []string{"a", "b\xff/", "empty"} {
			b, err := tx.CreateBucket([]byte(top))
			require.NoError(t, err)
			require.NoError(t, b.SetSequence(uint64(len(top))))
			for depth := 0; depth < 5 && top != "empty"; depth++ {
				for i := range 400 {
					require.NoError(t, b.Put(fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(i)}, i*60)))
				}
				require.NoError(t, b.Put([]byte("key -"), nil))
				b, err = b.CreateBucket([]byte("key 200 in"))
				require.NoError(t, err)
				require.NoError(t, b.SetSequence(uint64(depth)<<60))
			}
		}
		return nil
	}))
	require.NoError(t, old.Close())

	require.NoError(t, migrate(from, to))
	require.ErrorContains(t, migrate(from, to), "exists")
	old, err = bolt.Open(from, 0o600, &bolt.Options{ReadOnly: true})
	require.NoError(t, err)
	db, err := alder.Open(to, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, old.View(func(otx *bolt.Tx) error {
		return db.View(func(tx *alder.Tx) error {
			require.Greater(t, tx.ID(), 2, "number of the last transaction; a new store has 1")
			for err := range tx.Check() {
				return err
			}
			sameBucket(t, otx.Cursor(), tx.Cursor(), otx.Bucket, tx.Bucket)
			return nil
		})
	}))
	require.NoError(t, db.Close())
	require.NoError(t, old.Close())

	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, bytes.Repeat([]byte("text\n"), 5000), 0o600))
	require.ErrorContains(t, migrate(text, filepath.Join(dir, "none")), "text")
	left, err := filepath.Glob(filepath.Join(dir, "none*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// sameBucket compares two buckets, and those in them.
func sameBucket(t *testing.T, want *bolt.Cursor, got *alder.Cursor, wantIn func([]byte) *bolt.Bucket, gotIn func([]byte) *alder.Bucket) {
	wantKey, wantValue := want.First()
	gotKey, gotValue := got.First()
	for wantKey != nil {
		require.Equal(t, wantKey, gotKey)
		require.Equal(t, wantValue == nil, gotValue == nil)
		require.True(t, bytes.Equal(wantValue, gotValue))
		if wantValue == nil {
			w, g := wantIn(wantKey), gotIn(gotKey)
			require.Equal(t, w.Sequence(), g.Sequence())
			sameBucket(t, w.Cursor(), g.Cursor(), w.Bucket, g.Bucket)
		}
		wantKey, wantValue = want.Next()
		gotKey, gotValue = got.Next()
	}
	require.Nil(t, gotKey)
}
