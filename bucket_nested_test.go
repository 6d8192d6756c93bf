package alder_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// mustCreate makes a nested bucket.
func mustCreate(t testing.TB, parent *alder.Bucket, name string) *alder.Bucket {
	t.Helper()
	b, err := parent.CreateBucket([]byte(name))
	require.NoError(t, err)
	require.NotNil(t, b)
	return b
}

// fill puts the keys 0 … n-1 with values of some size.
func fill(t testing.TB, b *alder.Bucket, n, size int) {
	t.Helper()
	for i := range n {
		require.NoError(t, b.Put(key(i), filled(size, byte(i))))
	}
}

// requireFilled checks what fill has put.
func requireFilled(t testing.TB, b *alder.Bucket, n, size int) {
	t.Helper()
	require.NotNil(t, b)
	i := 0
	require.NoError(t, b.ForEach(func(k, v []byte) error {
		if v == nil {
			return nil // a nested bucket
		}
		require.Equal(t, string(key(i)), string(k))
		requireBytes(t, filled(size, byte(i)), v, "value %d", i)
		i++
		return nil
	}))
	require.Equal(t, n, i)
}

// Ensures that buckets are made, found and refused as documented, at the root and below.
func TestBucket_CreateBucket(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			require.NoError(t, b.Put([]byte("value"), []byte("v")))
			_, err = tx.CreateBucket([]byte("b"))
			require.ErrorIs(t, err, alder.ErrBucketExists)

			for _, parent := range []interface {
				CreateBucket([]byte) (*alder.Bucket, error)
				CreateBucketIfNotExists([]byte) (*alder.Bucket, error)
				Bucket([]byte) *alder.Bucket
			}{tx, b} {
				for _, empty := range [][]byte{nil, {}} {
					_, err = parent.CreateBucket(empty)
					require.ErrorIs(t, err, alder.ErrBucketNameRequired)
					_, err = parent.CreateBucketIfNotExists(empty)
					require.ErrorIs(t, err, alder.ErrBucketNameRequired)
					require.Nil(t, parent.Bucket(empty))
				}
				require.Nil(t, parent.Bucket([]byte("new")))
				made, err := parent.CreateBucket([]byte("new"))
				require.NoError(t, err)
				require.NoError(t, made.Put([]byte("k"), []byte("v")))
				again, err := parent.CreateBucketIfNotExists([]byte("new"))
				require.NoError(t, err)
				require.Equal(t, "v", string(again.Get([]byte("k"))))
				_, err = parent.CreateBucket([]byte("new"))
				require.ErrorIs(t, err, alder.ErrBucketExists)
				other, err := parent.CreateBucketIfNotExists([]byte("other"))
				require.NoError(t, err)
				require.Empty(t, keysOf(other))
			}
			_, err = b.CreateBucket([]byte("value"))
			require.ErrorIs(t, err, alder.ErrIncompatibleValue)
			_, err = b.CreateBucketIfNotExists([]byte("value"))
			require.ErrorIs(t, err, alder.ErrIncompatibleValue)
			require.Nil(t, b.Bucket([]byte("value")), "a key is no bucket")
		})
		db.view(func(tx *alder.Tx) {
			require.Equal(t, []string{"new", "other", "value"}, keysOf(tx.Bucket([]byte("b"))))
			require.Nil(t, tx.Bucket([]byte("b")).Bucket([]byte("value")))
			require.Nil(t, tx.Bucket([]byte("b")).Bucket([]byte("absent")))
		})
	})
}

// Ensures that a name may be any bytes up to the limit of keys, and nothing longer. Beyond bbolt, which
// documents the limit and does not check it.
func TestBucket_CreateBucket_NameTooLarge(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.update(func(tx *alder.Tx) {
			long := []byte(strings.Repeat("n", alder.MaxKeySize))
			b, err := tx.CreateBucket(long)
			require.NoError(t, err)
			sub, err := b.CreateBucket(long)
			require.NoError(t, err)
			fill(t, sub, 300, 100)
			_, err = tx.CreateBucket(append(long, 'n'))
			require.ErrorIs(t, err, alder.ErrKeyTooLarge)
			_, err = b.CreateBucketIfNotExists(append(long, 'n'))
			require.ErrorIs(t, err, alder.ErrKeyTooLarge)
			_, err = tx.CreateBucket([]byte{0})
			require.NoError(t, err)
		})
		db.view(func(tx *alder.Tx) {
			long := []byte(strings.Repeat("n", alder.MaxKeySize))
			requireFilled(t, tx.Bucket(long).Bucket(long), 300, 100)
		})
	})
}

// Ensures that all handles of one bucket in a transaction show the same bucket, and stay right while the
// parent's pages split around them.
func TestBucket_Bucket_Handles(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { mustCreate(t, b, "key-00000500/sub") })
		inBucket(t, db, func(b *alder.Bucket) {
			name := []byte("key-00000500/sub")
			first, second := b.Bucket(name), b.Bucket(name)
			for i := range 1000 {
				require.NoError(t, b.Put(key(i), filled(100, 1)))
				require.NoError(t, first.Put(key(i), key(i)))
				require.Equal(t, string(key(i)), string(second.Get(key(i))))
				if i%100 == 0 {
					third := b.Tx().Bucket([]byte("b")).Bucket(name)
					require.Equal(t, string(key(i)), string(third.Get(key(i))))
					require.NoError(t, third.Put(key(i), key(i)))
				}
				if i%3 == 2 {
					require.NoError(t, second.Delete(key(i)))
					require.Nil(t, first.Get(key(i)))
				}
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			require.Len(t, keysOf(b), 1001)
			require.Len(t, keysOf(b.Bucket([]byte("key-00000500/sub"))), 1000-333)
		})
	})
}

// Ensures that buckets nest 20 levels deep, with keys and a sequence on each level, survive reopening, and
// that a bucket removed in the middle takes all below it along.
func TestBucket_Nested_Deep(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const depth = 20
		name := []byte("deeper")
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			for level := range depth {
				fill(t, b, 10*level, 50)
				require.NoError(t, b.SetSequence(uint64(level)))
				b, err = b.CreateBucket(name)
				require.NoError(t, err)
			}
		})
		db.reopen()
		levels := func(tx *alder.Tx) int {
			b := tx.Bucket([]byte("b"))
			for level := 0; ; level++ {
				next := b.Bucket(name)
				if next == nil {
					return level
				}
				requireFilled(t, b, 10*level, 50)
				require.Equal(t, uint64(level), b.Sequence())
				b = next
			}
		}
		db.view(func(tx *alder.Tx) { require.Equal(t, depth, levels(tx)) })

		// A change at the bottom only.
		db.update(func(tx *alder.Tx) {
			b := tx.Bucket([]byte("b"))
			for range depth {
				b = b.Bucket(name)
			}
			fill(t, b, 500, 20)
		})
		db.check()
		db.view(func(tx *alder.Tx) {
			require.Equal(t, depth, levels(tx))
			require.Equal(t, depth+1, tx.Bucket([]byte("b")).Stats().BucketN)
		})
		db.update(func(tx *alder.Tx) {
			b := tx.Bucket([]byte("b"))
			for range 6 {
				b = b.Bucket(name)
			}
			require.NoError(t, b.DeleteBucket(name))
		})
		db.view(func(tx *alder.Tx) { require.Equal(t, 6, levels(tx)) })
	})
}

// Ensures that a small bucket lives in its parent's page, gets pages of its own when it grows, whether by
// keys or by nested buckets, and moves back when it shrinks.
func TestBucket_Inline(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { fill(t, mustCreate(t, b, "sub"), 3, 10) })
		inline := func() (n int) {
			readBucket(t, db, func(b *alder.Bucket) { n = b.Bucket([]byte("sub")).Stats().InlineBucketN })
			return n
		}
		require.Equal(t, 1, inline())
		for round := range 3 {
			inBucket(t, db, func(b *alder.Bucket) { fill(t, b.Bucket([]byte("sub")), 3000, 30) })
			db.check()
			require.Equal(t, 0, inline(), "round %d", round)
			readBucket(t, db, func(b *alder.Bucket) { requireFilled(t, b.Bucket([]byte("sub")), 3000, 30) })

			inBucket(t, db, func(b *alder.Bucket) {
				sub := b.Bucket([]byte("sub"))
				for i := 4; i < 3000; i++ {
					require.NoError(t, sub.Delete(key(i)))
				}
			})
			db.check()
			require.Equal(t, 1, inline(), "round %d", round)
			readBucket(t, db, func(b *alder.Bucket) { requireFilled(t, b.Bucket([]byte("sub")), 4, 30) })
		}

		// A large value in a small bucket, whether or not that takes the bucket out.
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Bucket([]byte("sub")).Put([]byte("large"), filled(200_000, 1)))
		})
		db.check()
		readBucket(t, db, func(b *alder.Bucket) {
			requireBytes(t, filled(200_000, 1), b.Bucket([]byte("sub")).Get([]byte("large")), "large value")
		})
		inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, b.Bucket([]byte("sub")).Delete([]byte("large"))) })
		require.Equal(t, 1, inline())
	})
}

// Ensures that a parent may hold thousands of small buckets, and that changing some leaves the others alone.
func TestBucket_Inline_Many(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 500
	}
	db := openMemory(t)
	inBucket(t, db, func(b *alder.Bucket) {
		for i := range n {
			sub := mustCreate(t, b, string(key(i)))
			fill(t, sub, i%12, 10)
			require.NoError(t, sub.SetSequence(uint64(i)))
		}
	})
	r := rand.New(rand.NewPCG(7, 8))
	size := make([]int, n)
	for i := range size {
		size[i] = i % 12
	}
	for range 5 {
		inBucket(t, db, func(b *alder.Bucket) {
			for range n / 10 {
				i := r.IntN(n)
				sub := b.Bucket(key(i))
				for j := range size[i] {
					require.NoError(t, sub.Delete(key(j)))
				}
				size[i] = r.IntN(100)
				fill(t, sub, size[i], 10)
			}
		})
		db.check()
		readBucket(t, db, func(b *alder.Bucket) {
			for i := range n {
				sub := b.Bucket(key(i))
				requireFilled(t, sub, size[i], 10)
				require.Equal(t, uint64(i), sub.Sequence())
			}
		})
	}
}

// Ensures that DeleteBucket removes the bucket with all below it, and refuses what is no bucket.
func TestBucket_DeleteBucket(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			require.NoError(t, b.Put([]byte("value"), []byte("v")))
			mustCreate(t, mustCreate(t, b, "sub"), "subsub")

			require.ErrorIs(t, b.DeleteBucket([]byte("value")), alder.ErrIncompatibleValue)
			require.ErrorIs(t, b.DeleteBucket([]byte("absent")), alder.ErrBucketNotFound)
			require.ErrorIs(t, b.DeleteBucket(nil), alder.ErrBucketNotFound)
			require.ErrorIs(t, tx.DeleteBucket([]byte("absent")), alder.ErrBucketNotFound)

			require.NoError(t, b.DeleteBucket([]byte("sub")))
			require.Nil(t, b.Bucket([]byte("sub")))
			require.ErrorIs(t, b.DeleteBucket([]byte("sub")), alder.ErrBucketNotFound)
			require.Equal(t, []string{"value"}, keysOf(b))
		})
		db.update(func(tx *alder.Tx) {
			require.NoError(t, tx.DeleteBucket([]byte("b")))
			require.Nil(t, tx.Bucket([]byte("b")))
		})
		db.view(func(tx *alder.Tx) { require.Nil(t, tx.Bucket([]byte("b"))) })
	})
}

// Ensures that a bucket deleted and made again in one transaction is a new, empty one.
func TestBucket_DeleteBucket_Recreate(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, n := range []int{2, 2000} {
			inBucket(t, db, func(b *alder.Bucket) {
				sub, err := b.CreateBucketIfNotExists([]byte("sub"))
				require.NoError(t, err)
				fill(t, sub, n, 50)
				require.NoError(t, sub.SetSequence(9))
				mustCreate(t, sub, "subsub")
			})
			inBucket(t, db, func(b *alder.Bucket) {
				require.NoError(t, b.DeleteBucket([]byte("sub")))
				sub := mustCreate(t, b, "sub")
				require.Empty(t, keysOf(sub))
				require.Zero(t, sub.Sequence())
				require.Nil(t, sub.Bucket([]byte("subsub")))
				fill(t, sub, 3, 10)
			})
			readBucket(t, db, func(b *alder.Bucket) {
				sub := b.Bucket([]byte("sub"))
				requireFilled(t, sub, 3, 10)
				require.Zero(t, sub.Sequence())
			})
			// The name of a bucket is free for a key again, and the other way round.
			inBucket(t, db, func(b *alder.Bucket) {
				require.NoError(t, b.DeleteBucket([]byte("sub")))
				require.NoError(t, b.Put([]byte("sub"), []byte("value")))
				require.NoError(t, b.Delete([]byte("sub")))
				mustCreate(t, b, "sub")
				require.NoError(t, b.DeleteBucket([]byte("sub")))
			})
			readBucket(t, db, func(b *alder.Bucket) { require.Empty(t, keysOf(b)) })
		}
	})
}

// Ensures that handles of a bucket that was deleted or moved in its transaction, and of buckets in it, cannot
// damage the store, and do not bring a deleted bucket back. Unlike bbolt, which frees pages twice or panics at
// the commit.
func TestBucket_StaleHandles(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(b *alder.Bucket) error{
		"DeleteBucket": func(b *alder.Bucket) error { return b.DeleteBucket([]byte("sub")) },
		"DeleteRange":  func(b *alder.Bucket) error { _, err := b.DeleteRange([]byte("sub"), nil); return err },
		"moved": func(b *alder.Bucket) error {
			to, err := b.CreateBucketIfNotExists([]byte("elsewhere"))
			if err == nil {
				err = b.MoveBucket([]byte("sub"), to)
			}
			return err
		},
		"moved and deleted": func(b *alder.Bucket) error {
			to, err := b.CreateBucketIfNotExists([]byte("elsewhere"))
			if err == nil {
				err = b.MoveBucket([]byte("sub"), to)
			}
			return errors.Join(err, b.DeleteBucket([]byte("elsewhere")))
		},
		"made anew": func(b *alder.Bucket) error {
			err := b.DeleteBucket([]byte("sub"))
			if err == nil {
				_, err = b.CreateBucket([]byte("sub"))
			}
			return err
		},
		"a key now": func(b *alder.Bucket) error {
			err := b.DeleteBucket([]byte("sub"))
			if err == nil {
				err = b.Put([]byte("sub"), []byte("value"))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachForm(t, func(t *testing.T, db *testDB) {
				for _, n := range []int{2, 2000} {
					for _, dirty := range []bool{false, true} {
						testStaleHandles(t, db, n, dirty, remove)
					}
				}
			})
		})
	}
}

// testStaleHandles uses handles of the bucket "sub" and of one in it after remove. Unlike bbolt.
func testStaleHandles(t *testing.T, db *testDB, n int, dirty bool, remove func(b *alder.Bucket) error) {
	inBucket(t, db, func(b *alder.Bucket) {
		sub := mustCreate(t, b, "sub")
		fill(t, sub, n, 50)
		fill(t, mustCreate(t, sub, "subsub"), n, 50)
	})
	inBucket(t, db, func(b *alder.Bucket) {
		sub := b.Bucket([]byte("sub"))
		subsub := sub.Bucket([]byte("subsub"))
		c := sub.Cursor()
		c.First()
		if dirty {
			require.NoError(t, sub.Put([]byte("dirty"), filled(100, 1)))
			require.NoError(t, subsub.Put([]byte("dirty"), filled(100, 1)))
		}
		require.NoError(t, remove(b))
		fill(t, b, 300, 50) // takes the pages that were freed in this transaction
		for _, stale := range []*alder.Bucket{sub, subsub} {
			_ = stale.Put([]byte("x"), filled(50, 2))
			_ = stale.Delete(key(0))
			_ = stale.SetSequence(7)
			_, _ = stale.NextSequence()
			_, _ = stale.CreateBucket([]byte("y"))
			_, _ = stale.DeleteRange(key(1), key(2))
			_ = stale.MoveBucket([]byte("y"), b)
			_ = b.MoveBucket([]byte("y"), stale)
			stale.Get(key(1))
			stale.Stats()
			stale.Count(nil, nil)
			keysOf(stale)
		}
		_ = sub.DeleteBucket([]byte("subsub"))
		c.Next()
		_ = c.Delete()
		for i := range 300 {
			requireBytes(t, filled(50, byte(i)), b.Get(key(i)), "value %d of the parent", i)
		}
	})
	db.check()
	readBucket(t, db, func(b *alder.Bucket) {
		for i := range 300 {
			requireBytes(t, filled(50, byte(i)), b.Get(key(i)), "value %d of the parent", i)
		}
		if again := b.Bucket([]byte("sub")); again != nil {
			require.Nil(t, again.Get(key(1)), "a deleted bucket is back")
		}
	})
	db.update(func(tx *alder.Tx) { require.NoError(t, tx.DeleteBucket([]byte("b"))) })
	db.check()
}

// Ensures that deleting a bucket gives all its pages back: of leaves, branches, large values and long keys,
// of nested buckets too, so that a store which makes and deletes does not grow.
func TestBucket_DeleteBucket_FreesPages(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("kept", "k", "v")
		var size int64
		rounds := 12
		if testing.Short() {
			rounds = 6
		}
		for round := range rounds {
			db.update(func(tx *alder.Tx) {
				b, err := tx.CreateBucket([]byte("b"))
				require.NoError(t, err)
				fill(t, b, 1000, 100)
				require.NoError(t, b.Put([]byte("large"), filled(500_000, byte(round))))
				require.NoError(t, b.Put([]byte(strings.Repeat("long", 5000)), filled(9000, 1)))
				for i := range 3 {
					sub := mustCreate(t, b, fmt.Sprint("sub", i))
					fill(t, sub, 400*i, 100)
					require.NoError(t, mustCreate(t, sub, "subsub").Put([]byte("large"), filled(100_000, 2)))
				}
			})
			db.check()
			db.update(func(tx *alder.Tx) { require.NoError(t, tx.DeleteBucket([]byte("b"))) })
			db.check()
			db.view(func(tx *alder.Tx) {
				if round == 3 {
					size = tx.Size()
				} else if round > 3 {
					require.LessOrEqual(t, tx.Size(), size, "round %d", round)
				}
			})
		}
		require.Equal(t, "v", db.get("kept", "k"))
	})
}

// Ensures that a reader goes on reading a bucket that was deleted after it began, while its pages would be
// wanted by others.
func TestBucket_DeleteBucket_UnderReader(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, 500, 100)
			fill(t, mustCreate(t, b, "sub"), 500, 100)
		})
		tx := db.begin(false)
		db.update(func(tx *alder.Tx) { require.NoError(t, tx.DeleteBucket([]byte("b"))) })
		for range 5 {
			db.update(func(tx *alder.Tx) {
				b, err := tx.CreateBucketIfNotExists([]byte("other"))
				require.NoError(t, err)
				fill(t, b, 2000, 90)
			})
		}
		requireFilled(t, tx.Bucket([]byte("b")), 500, 100)
		requireFilled(t, tx.Bucket([]byte("b")).Bucket([]byte("sub")), 500, 100)
		require.NoError(t, tx.Rollback())
	})
}

// Ensures that the fill factor can be set and changes nothing but the space.
func TestBucket_FillPercent(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, percent := range []float64{-1, 0, 0.1, 0.5, 0.9, 1, 7} {
			inBucket(t, db, func(b *alder.Bucket) {
				require.InDelta(t, alder.DefaultFillPercent, b.FillPercent, 0)
				b.FillPercent = percent
				for _, i := range rand.New(rand.NewPCG(9, 9)).Perm(500) {
					require.NoError(t, b.Put(key(i), filled(100, byte(i))))
				}
			})
			db.check()
			readBucket(t, db, func(b *alder.Bucket) { requireFilled(t, b, 500, 100) })
			db.update(func(tx *alder.Tx) { require.NoError(t, tx.DeleteBucket([]byte("b"))) })
		}
	})
}

// Ensures that a nested bucket can be described, and that a bucket's root says whether it has pages.
func TestBucket_Inspect(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, mustCreate(t, b, "large"), 2000, 50)
			fill(t, mustCreate(t, b, "small"), 2, 5)
		})
		readBucket(t, db, func(b *alder.Bucket) {
			require.Equal(t, alder.BucketStructure{Name: "root", Children: []alder.BucketStructure{
				{Name: "large", KeyN: 2000}, {Name: "small", KeyN: 2},
			}}, b.Inspect())
			require.NotZero(t, b.Bucket([]byte("large")).Root())
			require.Zero(t, b.Bucket([]byte("small")).Root())
		})
	})
}
