package alder_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that Prefetch reads any store to its end, of either kind and empty ones too, that it stops when its context ends, and that it
// says when the store is closed. With huge pages too, which change nothing but speed.
func TestDB_Prefetch(t *testing.T) {
	for _, huge := range []bool{false, true} {
		eachForm(t, func(t *testing.T, db *testDB) {
			if huge && db.Path() != "" {
				db.reopen(func(o *alder.Options) { o.HugePages = true })
			}
			require.NoError(t, db.Prefetch(t.Context()))
			db.update(func(tx *alder.Tx) {
				b, err := tx.CreateBucket([]byte("b"))
				require.NoError(t, err)
				for i := range 2000 { // several parts, the last of them not whole
					require.NoError(t, b.Put(key(i), filled(5000, byte(i))))
				}
			})
			require.NoError(t, db.Prefetch(t.Context()))
			require.Zero(t, db.Stats().OpenTxN)
			db.view(func(tx *alder.Tx) {
				for i := range 2000 {
					requireBytes(t, filled(5000, byte(i)), tx.Bucket([]byte("b")).Get(key(i)), "value %d", i)
				}
			})
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, db.Prefetch(ended), context.Canceled)
			if db.Path() != "" { // a store in memory would be gone
				closed := db.DB
				db.mustClose()
				require.ErrorIs(t, closed.Prefetch(t.Context()), alder.ErrDatabaseNotOpen)
				db.open()
			}
		})
	}
}

// Ensures that what a snapshot remembers of buckets is what is in it: each transaction sees the bucket of its own snapshot, whatever other
// snapshots know; names of all lengths, more of them than are remembered, ones that do not exist, and buckets that grow out of their parent's leaf.
func TestTx_Bucket_Remembered(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		var names [][]byte
		for i := range 12 {
			names = append(names, filled(1+i*7, byte('a'+i)))
		}
		var open []*alder.Tx
		for round := range 12 {
			db.update(func(tx *alder.Tx) {
				for i, name := range names {
					if i%4 == 3 && round%5 == 0 {
						if tx.Bucket(name) != nil {
							require.NoError(t, tx.DeleteBucket(name))
						}
						continue
					}
					b, err := tx.CreateBucketIfNotExists(name)
					require.NoError(t, err)
					require.NoError(t, b.Put(key(round), filled(200, byte(round))))
					require.NoError(t, b.SetSequence(uint64(round)))
				}
			})
			open = append(open, db.begin(false))
			for at, tx := range open {
				for i, name := range names {
					for range 2 {
						b := tx.Bucket(name)
						if i%4 == 3 && at%5 == 0 {
							require.Nil(t, b)
							continue
						}
						require.EqualValues(t, at, b.Sequence())
						requireBytes(t, filled(200, byte(at)), b.Get(key(at)), "snapshot %d", at)
						require.Nil(t, b.Get(key(at+1)))
						keys := at + 1
						if i%4 == 3 {
							keys = at % 5
						}
						require.EqualValues(t, keys, b.Len())
					}
				}
				require.Nil(t, tx.Bucket([]byte("none")))
				require.Nil(t, tx.Bucket(nil))
			}
		}
		for _, tx := range open {
			require.NoError(t, tx.Rollback())
		}
	})
}
