package alder_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that puts which are collected, in a transaction larger than its memory, are seen by every other call in the same transaction, that
// the last put of a key counts, and that all other operations in between have their effect in order.
func TestBucket_CollectedPuts(t *testing.T) {
	t.Parallel()
	seed, _ := seedAndSteps(t, 0)
	for _, opts := range [][]option{
		{withDirtyLimit(256 << 10)}, {withDirtyLimit(64 << 10), withNoSync()}, {withDirtyLimit(1 << 20), withPageSize(16384)},
	} {
		db := openTemp(t, opts...)
		r := rand.New(rand.NewPCG(seed, 4))
		want := map[string]string{}
		key := func() []byte { return fmt.Appendf(nil, "%05d", r.IntN(40000)) }
		spilled := int64(0)
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			other, err := tx.CreateBucket([]byte("other"))
			require.NoError(t, err)
			c := b.Cursor()
			for i := range 60000 {
				k, v := key(), bytes.Repeat([]byte{byte(i)}, r.IntN(80))
				require.NoError(t, b.Put(k, v))
				want[string(k)] = string(v)
				clear(k) // the caller may use them for something else
				clear(v)
				if r.IntN(1000) > 0 {
					continue
				}
				k = key()
				v2, there := want[string(k)]
				switch r.IntN(9) {
				case 0:
					require.Equal(t, there, b.Get(k) != nil)
					require.Equal(t, v2, string(b.Get(k)))
				case 1:
					require.Equal(t, uint64(len(want)), b.Len())
				case 2:
					require.NoError(t, b.Delete(k))
					delete(want, string(k))
				case 3:
					to := append(bytes.Clone(k), '~')
					n, err := b.DeleteRange(k, to)
					require.NoError(t, err)
					gone := uint64(0)
					if there {
						gone = 1
					}
					require.Equal(t, gone, n)
					delete(want, string(k))
				case 4:
					got, _ := c.Seek(k)
					require.Equal(t, there, bytes.Equal(got, k))
				case 5:
					require.NoError(t, other.Put(k, k))
				case 6:
					require.Same(t, b, tx.Bucket([]byte("b")))
				case 7:
					values := b.GetMulti([][]byte{k}, nil)
					require.Equal(t, there, values[0] != nil)
				case 8:
					long := bytes.Repeat(k, 2000)
					require.NoError(t, b.Put(k, long))
					want[string(k)] = string(long)
				}
			}
			spilled = tx.Stats().Spill
			// A bucket among the keys: from then on a put can meet it.
			_, err = b.CreateBucket([]byte("nested"))
			require.NoError(t, err)
			for range 200 {
				k := key()
				require.NoError(t, b.Put(k, nil))
				want[string(k)] = ""
			}
			require.ErrorIs(t, b.Put([]byte("nested"), nil), alder.ErrIncompatibleValue)
			require.NoError(t, b.DeleteBucket([]byte("nested")))
			require.NoError(t, tx.MoveBucket([]byte("b"), nil, other))
		})
		require.Positive(t, spilled)
		check := func() {
			db.view(func(tx *alder.Tx) {
				b := tx.Bucket([]byte("other")).Bucket([]byte("b"))
				require.Equal(t, uint64(len(want)), b.Len())
				for k, v := range b.All() {
					require.Equal(t, want[string(k)], string(v))
				}
			})
		}
		check()

		// One that is rolled back leaves nothing.
		require.ErrorIs(t, db.Update(func(tx *alder.Tx) error {
			b := tx.Bucket([]byte("other")).Bucket([]byte("b"))
			for range 30000 {
				require.NoError(t, b.Put(key(), []byte("never")))
			}
			return errRollback
		}), errRollback)
		check()
		db.reopen()
		check()
	}
}

var errRollback = errors.New("rolled back by the test")
