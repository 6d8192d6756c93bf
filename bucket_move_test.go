package alder_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that a bucket moves with all that is in it, from and to the root and between nested buckets,
// whether it is small or large.
func TestBucket_MoveBucket(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, n := range []int{0, 3, 1500} {
			db.update(func(tx *alder.Tx) {
				for _, name := range []string{"left", "right"} {
					_, err := tx.CreateBucket([]byte(name))
					require.NoError(t, err)
				}
				moved := mustCreate(t, tx.Bucket([]byte("left")), "moved")
				fill(t, moved, n, 60)
				require.NoError(t, moved.SetSequence(uint64(n)))
				fill(t, mustCreate(t, moved, "within"), n, 60)
			})
			requireAt := func(tx *alder.Tx, parent string) {
				moved := tx.Bucket([]byte("moved"))
				if parent != "" {
					require.Nil(t, moved)
					moved = tx.Bucket([]byte(parent)).Bucket([]byte("moved"))
				}
				requireFilled(t, moved, n, 60)
				require.Equal(t, uint64(n), moved.Sequence())
				requireFilled(t, moved.Bucket([]byte("within")), n, 60)
				for _, other := range []string{"left", "right"} {
					if other != parent {
						require.Nil(t, tx.Bucket([]byte(other)).Bucket([]byte("moved")))
					}
				}
			}
			at := "left"
			for _, to := range []string{"right", "", "left", "", "right"} {
				db.update(func(tx *alder.Tx) {
					var src, dst *alder.Bucket // nil: the root
					if at != "" {
						src = tx.Bucket([]byte(at))
					}
					if to != "" {
						dst = tx.Bucket([]byte(to))
					}
					if src != nil && dst != nil {
						require.NoError(t, src.MoveBucket([]byte("moved"), dst))
					} else {
						require.NoError(t, tx.MoveBucket([]byte("moved"), src, dst))
					}
					requireAt(tx, to)
				})
				db.check()
				db.view(func(tx *alder.Tx) { requireAt(tx, to) })
				at = to
			}
			db.update(func(tx *alder.Tx) {
				require.NoError(t, tx.DeleteBucket([]byte("left")))
				require.NoError(t, tx.DeleteBucket([]byte("right")))
			})
		}
	})
}

// Ensures that MoveBucket refuses what it documents, and then moves nothing.
func TestBucket_MoveBucket_Errors(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.update(func(tx *alder.Tx) {
			for _, name := range []string{"src", "dst"} {
				b, err := tx.CreateBucket([]byte(name))
				require.NoError(t, err)
				fill(t, b, 400, 50) // so that they are not inline and have roots of their own
				fill(t, mustCreate(t, b, "both"), 3, 10)
			}
			src, dst := tx.Bucket([]byte("src")), tx.Bucket([]byte("dst"))
			mustCreate(t, src, "key in dst")
			require.NoError(t, dst.Put([]byte("key in dst"), []byte("v")))
		})
		before := fingerprint(t, db.DB)
		db.update(func(tx *alder.Tx) {
			src, dst := tx.Bucket([]byte("src")), tx.Bucket([]byte("dst"))
			require.ErrorIs(t, src.MoveBucket([]byte("absent"), dst), alder.ErrBucketNotFound)
			require.ErrorIs(t, src.MoveBucket(nil, dst), alder.ErrBucketNotFound)
			require.ErrorIs(t, src.MoveBucket(key(1), dst), alder.ErrIncompatibleValue)
			require.ErrorIs(t, src.MoveBucket([]byte("both"), dst), alder.ErrBucketExists)
			require.ErrorIs(t, src.MoveBucket([]byte("key in dst"), dst), alder.ErrIncompatibleValue)
			require.ErrorIs(t, src.MoveBucket([]byte("both"), src), alder.ErrSameBuckets)
			require.ErrorIs(t, src.MoveBucket([]byte("both"), tx.Bucket([]byte("src"))), alder.ErrSameBuckets)
			require.ErrorIs(t, tx.MoveBucket([]byte("src"), nil, nil), alder.ErrSameBuckets)
		})
		require.Equal(t, before, fingerprint(t, db.DB))

		other := openTemp(t)
		other.put("elsewhere")
		otherTx := other.begin(true)
		db.update(func(tx *alder.Tx) {
			require.ErrorIs(t, tx.Bucket([]byte("src")).MoveBucket([]byte("both"), otherTx.Bucket([]byte("elsewhere"))), alder.ErrDifferentDB)
		})
		require.NoError(t, otherTx.Rollback())
		require.Equal(t, before, fingerprint(t, db.DB))
	})
}

// Ensures that a bucket cannot be moved into itself or below itself: that would cut it off from the root.
// Unlike bbolt, which does so and loses it.
func TestBucket_MoveBucket_IntoItself(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, n := range []int{1, 1000} {
			db.update(func(tx *alder.Tx) {
				a, err := tx.CreateBucket([]byte("a"))
				require.NoError(t, err)
				fill(t, a, n, 40)
				b := mustCreate(t, a, "b")
				fill(t, b, n, 40)
				fill(t, mustCreate(t, b, "c"), n, 40)
			})
			before := fingerprint(t, db.DB)
			db.update(func(tx *alder.Tx) {
				a := tx.Bucket([]byte("a"))
				b := a.Bucket([]byte("b"))
				c := b.Bucket([]byte("c"))
				require.Error(t, tx.MoveBucket([]byte("a"), nil, a))
				require.Error(t, tx.MoveBucket([]byte("a"), nil, b))
				require.Error(t, tx.MoveBucket([]byte("a"), nil, c))
				require.Error(t, a.MoveBucket([]byte("b"), b))
				require.Error(t, a.MoveBucket([]byte("b"), c))
			})
			require.Equal(t, before, fingerprint(t, db.DB))
			// Up is allowed.
			db.update(func(tx *alder.Tx) {
				a := tx.Bucket([]byte("a"))
				require.NoError(t, a.Bucket([]byte("b")).MoveBucket([]byte("c"), a))
				require.NoError(t, tx.MoveBucket([]byte("b"), a, nil))
			})
			db.view(func(tx *alder.Tx) {
				requireFilled(t, tx.Bucket([]byte("a")), n, 40)
				requireFilled(t, tx.Bucket([]byte("b")), n, 40)
				requireFilled(t, tx.Bucket([]byte("a")).Bucket([]byte("c")), n, 40)
			})
			db.update(func(tx *alder.Tx) {
				require.NoError(t, errors.Join(tx.DeleteBucket([]byte("a")), tx.DeleteBucket([]byte("b"))))
			})
		}
	})
}

// Ensures that changes made to a bucket before it is moved in the same transaction move with it, and that
// its new handle works on. Unlike bbolt, which loses them.
func TestBucket_MoveBucket_Dirty(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, n := range []int{3, 800} {
			db.update(func(tx *alder.Tx) {
				for _, name := range []string{"src", "dst"} {
					_, err := tx.CreateBucket([]byte(name))
					require.NoError(t, err)
				}
				src, dst := tx.Bucket([]byte("src")), tx.Bucket([]byte("dst"))
				moved := mustCreate(t, src, "moved")
				fill(t, moved, n, 70)
				within := mustCreate(t, moved, "within")
				fill(t, within, n, 70)
				require.NoError(t, moved.SetSequence(5))
				require.NoError(t, src.MoveBucket([]byte("moved"), dst))
				moved = dst.Bucket([]byte("moved"))
				requireFilled(t, moved, n, 70)
				require.NoError(t, moved.Put(key(n), filled(70, byte(n))))
				require.NoError(t, moved.Bucket([]byte("within")).Put(key(n), filled(70, byte(n))))
			})
			db.check()
			db.view(func(tx *alder.Tx) {
				moved := tx.Bucket([]byte("dst")).Bucket([]byte("moved"))
				requireFilled(t, moved, n+1, 70)
				requireFilled(t, moved.Bucket([]byte("within")), n+1, 70)
				require.Equal(t, uint64(5), moved.Sequence())
				require.Empty(t, keysOf(tx.Bucket([]byte("src"))))
			})
			db.update(func(tx *alder.Tx) {
				require.NoError(t, errors.Join(tx.DeleteBucket([]byte("src")), tx.DeleteBucket([]byte("dst"))))
			})
		}
	})
}
