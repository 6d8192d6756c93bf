package alder_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// inBucket runs fn with the new bucket "b" in a write transaction that commits.
func inBucket(t *testing.T, db *testDB, fn func(b *alder.Bucket)) {
	t.Helper()
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		require.NoError(t, err)
		fn(b)
	})
}

// readBucket runs fn with the bucket "b" in a read transaction.
func readBucket(t *testing.T, db *testDB, fn func(b *alder.Bucket)) {
	t.Helper()
	db.view(func(tx *alder.Tx) {
		b := tx.Bucket([]byte("b"))
		require.NotNil(t, b)
		fn(b)
	})
}

// Ensures that Get finds exactly the keys that are there: nil for absent keys and for nested buckets, an
// empty slice that is not nil for an empty value.
func TestBucket_Get(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		test := func(b *alder.Bucket) {
			require.Nil(t, b.Get([]byte("absent")))
			require.Nil(t, b.Get([]byte("key\x00")), "a prefix of it is a key")
			require.Nil(t, b.Get([]byte("ke")), "a key starts with it")
			require.Nil(t, b.Get(nil))
			require.Nil(t, b.Get([]byte{}))
			require.Nil(t, b.Get([]byte("sub")), "a nested bucket")
			require.Equal(t, []byte("value"), b.Get([]byte("key")))
			v := b.Get([]byte("empty"))
			require.NotNil(t, v, "an empty value is not absent")
			require.Empty(t, v)
		}
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put([]byte("key"), []byte("value")))
			require.NoError(t, b.Put([]byte("empty"), []byte{}))
			_, err := b.CreateBucket([]byte("sub"))
			require.NoError(t, err)
			test(b)
		})
		readBucket(t, db, test)
		inBucket(t, db, test)
	})
}

// Ensures that a nil value is stored as an empty one and never taken for a missing key or a bucket. Unlike
// bbolt, which returns nil for it until the commit.
func TestBucket_Put_NilValue(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		test := func(b *alder.Bucket) {
			v := b.Get([]byte("nil"))
			require.NotNil(t, v)
			require.Empty(t, v)
			_, v = b.Cursor().First()
			require.NotNil(t, v)
		}
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put([]byte("nil"), nil))
			test(b)
		})
		readBucket(t, db, test)
	})
}

// Ensures that appending to a returned slice cannot write over what follows it in the store.
func TestBucket_Get_Capacity(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		sizes := []int{0, 1, 100, 5000, 100_000}
		test := func(b *alder.Bucket) {
			c := b.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				require.Equal(t, len(k), cap(k), "key from a cursor")
				require.Equal(t, len(v), cap(v), "value from a cursor")
				v = b.Get(k)
				require.Equal(t, len(v), cap(v), "value from Get")
				_ = append(v, "more"...)
			}
			for i, n := range sizes {
				requireBytes(t, filled(n, 1), b.Get(key(i)), "value of %d bytes", n)
			}
		}
		inBucket(t, db, func(b *alder.Bucket) {
			for i, n := range sizes {
				require.NoError(t, b.Put(key(i), filled(n, 1)))
			}
		})
		readBucket(t, db, test)
	})
}

// Ensures that a value read in a write transaction stays what it was until the end of that transaction,
// whatever is put, deleted and split after it; programs written for bbolt rely on it.
func TestBucket_Get_StaysValid(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 400
		size := func(i int) int { return []int{0, 1, 30, 200, 1500, 9000}[i%6] }
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range n {
				require.NoError(t, b.Put(key(i), filled(size(i), 1)))
			}
		})
		inBucket(t, db, func(b *alder.Bucket) {
			// Some of the values are fresh in this transaction, so they are in pages that it edits in place.
			for i := 0; i < n; i += 3 {
				require.NoError(t, b.Put(key(i), filled(size(i), 2)))
			}
			type held struct{ k, v, wantKey, wantValue []byte }
			var slices []held
			hold := func(k, v []byte) {
				slices = append(slices, held{k, v, bytes.Clone(k), bytes.Clone(v)})
			}
			require.NoError(t, b.ForEach(func(k, v []byte) error { hold(k, v); return nil }))
			for i := range n {
				hold(key(i), b.Get(key(i)))
			}
			r := rand.New(rand.NewPCG(1, 2))
			for i := range 4 * n {
				k := key(r.IntN(2 * n))
				switch i % 4 {
				case 0:
					require.NoError(t, b.Delete(k))
				case 1:
					hold(k, b.Get(k))
				default:
					require.NoError(t, b.Put(k, filled(r.IntN(3000), byte(i))))
				}
			}
			for i, s := range slices {
				requireBytes(t, s.wantKey, s.k, "held key %d", i)
				requireBytes(t, s.wantValue, s.v, "held value %d", i)
			}
		})
	})
}

// Ensures that a key read through a cursor can be used to delete or overwrite its own entry.
func TestBucket_Put_OwnSlices(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range 300 {
				require.NoError(t, b.Put(key(i), filled(40+i, 1)))
			}
			for i := range 300 {
				k, v := b.Cursor().Seek(key(i))
				want := bytes.Clone(v)
				switch i % 3 {
				case 0:
					require.NoError(t, b.Put(k, v))
					requireBytes(t, want, b.Get(key(i)), "value put onto itself")
				case 1:
					require.NoError(t, b.Put(k, k))
					require.Equal(t, string(key(i)), string(b.Get(key(i))))
				case 2:
					require.NoError(t, b.Delete(k))
					require.Nil(t, b.Get(key(i)))
				}
			}
		})
		readBucket(t, db, func(b *alder.Bucket) { require.Len(t, keysOf(b), 200) })
	})
}

// Ensures that the key's buffer can be used again after Put.
func TestBucket_Put_KeyReused(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		buf := make([]byte, 0, 64)
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range 1000 {
				buf = append(buf[:0], key(i)...)
				require.NoError(t, b.Put(buf, key(i)))
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			for i := range 1000 {
				require.Equal(t, string(key(i)), string(b.Get(key(i))))
			}
		})
	})
}

// Ensures that the value's buffer can be used again after Put too. Unlike bbolt, which keeps it until the
// commit.
func TestBucket_Put_ValueReused(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		sizes := []int{0, 1, 10, 500, 4000, 4096, 5000, 70_000, 1_100_000}
		buf := make([]byte, sizes[len(sizes)-1])
		inBucket(t, db, func(b *alder.Bucket) {
			for i, n := range sizes {
				copy(buf, filled(n, byte(i)))
				require.NoError(t, b.Put(key(i), buf[:n]))
				clear(buf)
			}
			for i, n := range sizes {
				requireBytes(t, filled(n, byte(i)), b.Get(key(i)), "value of %d bytes", n)
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			for i, n := range sizes {
				requireBytes(t, filled(n, byte(i)), b.Get(key(i)), "value of %d bytes", n)
			}
		})
	})
}

// Ensures that a second Put replaces the value, whatever the two sizes are.
func TestBucket_Put_Replace(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		sizes := []int{0, 1, 100, 2000, 5000, 40_000, 300_000}
		for _, from := range sizes {
			inBucket(t, db, func(b *alder.Bucket) {
				for i := range sizes {
					require.NoError(t, b.Put(key(i), filled(from, 1)))
				}
			})
			inBucket(t, db, func(b *alder.Bucket) {
				for i, to := range sizes {
					require.NoError(t, b.Put(key(i), filled(to, 2)))
					requireBytes(t, filled(to, 2), b.Get(key(i)), "in the transaction, %d over %d", to, from)
				}
			})
			readBucket(t, db, func(b *alder.Bucket) {
				for i, to := range sizes {
					requireBytes(t, filled(to, 2), b.Get(key(i)), "%d over %d", to, from)
				}
				require.Len(t, keysOf(b), len(sizes))
			})
			db.check()
		}
	})
}

// Ensures that values of every size around the page size, and up to 10 MiB, are stored and read as one slice.
func TestBucket_Put_ValueSizes(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		page := db.Info().PageSize
		var sizes []int
		for _, around := range []int{0, 64, page / 4, page / 2, page, 2 * page, 8 * page} {
			for d := -40; d <= 40; d += 1 + around/512 {
				if around+d >= 0 {
					sizes = append(sizes, around+d)
				}
			}
		}
		sizes = append(sizes, 1<<20, 10<<20)
		inBucket(t, db, func(b *alder.Bucket) {
			for i, n := range sizes {
				require.NoError(t, b.Put(key(i), filled(n, byte(i))))
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			for i, n := range sizes {
				requireBytes(t, filled(n, byte(i)), b.Get(key(i)), "value of %d bytes", n)
			}
		})
		db.check()
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range sizes {
				require.NoError(t, b.Delete(key(i)))
			}
			require.Empty(t, keysOf(b))
		})
	})
}

// Ensures that keys of every length up to the limit work, in order, with values of any size beside them.
func TestBucket_Put_KeySizes(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		var keys [][]byte
		for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 100, 1000, 1023, 1024, 2000, 4000, 4096, 8192, 20_000, 32_767, alder.MaxKeySize} {
			for _, fill := range []string{"\x00", "a", "\xff"} {
				keys = append(keys, bytes.Repeat([]byte(fill), n))
			}
		}
		inBucket(t, db, func(b *alder.Bucket) {
			for i, k := range keys {
				require.NoError(t, b.Put(k, filled(i*i, byte(i))))
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			for i, k := range keys {
				requireBytes(t, filled(i*i, byte(i)), b.Get(k), "value of a key of %d bytes", len(k))
			}
			sorted := slices.Clone(keys)
			slices.SortFunc(sorted, bytes.Compare)
			got := keysOf(b)
			require.Len(t, got, len(sorted))
			for i := range sorted {
				requireBytes(t, sorted[i], []byte(got[i]), "key %d", i)
			}
		})
		db.check()
		inBucket(t, db, func(b *alder.Bucket) {
			for i, k := range keys {
				if i%2 == 0 {
					require.NoError(t, b.Delete(k))
				}
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			for i, k := range keys {
				require.Equal(t, i%2 == 0, b.Get(k) == nil)
			}
		})
	})
}

// Ensures that long keys which differ only near their ends are told apart, sorted, found and deleted: each
// separator has to be as long as the prefix that they share.
func TestBucket_Put_LongSharedPrefix(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 60
		prefix := strings.Repeat("shared/", 30<<10/7)
		name := func(i int) []byte { return fmt.Appendf(nil, "%s%03d", prefix, i) }
		order := rand.New(rand.NewPCG(3, 4)).Perm(n)
		for _, part := range [][]int{order[:n/2], order[n/2:]} {
			inBucket(t, db, func(b *alder.Bucket) {
				for _, i := range part {
					require.NoError(t, b.Put(name(i), key(i)))
				}
			})
			db.check()
		}
		readBucket(t, db, func(b *alder.Bucket) {
			c := b.Cursor()
			i := 0
			for k, v := c.First(); k != nil; k, v = c.Next() {
				requireBytes(t, name(i), k, "key %d", i)
				require.Equal(t, string(key(i)), string(v))
				i++
			}
			require.Equal(t, n, i)
			for i := range n {
				require.Equal(t, string(key(i)), string(b.Get(name(i))))
			}
			k, _ := c.Seek([]byte(prefix + "0290"))
			requireBytes(t, name(30), k, "seek between two long keys")
			require.Nil(t, b.Get([]byte(prefix)))
		})
		inBucket(t, db, func(b *alder.Bucket) {
			for _, i := range order[:n-1] {
				require.NoError(t, b.Delete(name(i)))
			}
			require.Len(t, keysOf(b), 1)
		})
	})
}

// Ensures that keys and values outside the limits are refused with the documented errors, and that the
// transaction goes on.
func TestBucket_Put_Errors(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			require.ErrorIs(t, b.Put(nil, []byte("v")), alder.ErrKeyRequired)
			require.ErrorIs(t, b.Put([]byte{}, []byte("v")), alder.ErrKeyRequired)
			require.ErrorIs(t, b.Put(make([]byte, alder.MaxKeySize+1), nil), alder.ErrKeyTooLarge)
			_, err := b.CreateBucket([]byte("sub"))
			require.NoError(t, err)
			require.ErrorIs(t, b.Put([]byte("sub"), []byte("v")), alder.ErrIncompatibleValue)
			require.NoError(t, b.Put([]byte("after"), nil))
		})
		readBucket(t, db, func(b *alder.Bucket) { require.Equal(t, []string{"after", "sub"}, keysOf(b)) })
	})
}

// Ensures that Delete removes the key, says nothing about absent ones, and refuses nested buckets.
func TestBucket_Delete(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put([]byte("k"), []byte("v")))
			require.NoError(t, b.Delete([]byte("k")))
			require.Nil(t, b.Get([]byte("k")))
			require.NoError(t, b.Delete([]byte("k")))
			require.NoError(t, b.Delete([]byte("absent")))
			require.NoError(t, b.Delete(nil))
			require.NoError(t, b.Delete(make([]byte, alder.MaxKeySize+1)))
			_, err := b.CreateBucket([]byte("sub"))
			require.NoError(t, err)
			require.ErrorIs(t, b.Delete([]byte("sub")), alder.ErrIncompatibleValue)
			require.NotNil(t, b.Bucket([]byte("sub")))
		})
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Delete([]byte("absent")))
			require.NoError(t, b.Put([]byte("k2"), []byte("v")))
		})
		inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, b.Delete([]byte("k2"))) })
		readBucket(t, db, func(b *alder.Bucket) { require.Equal(t, []string{"sub"}, keysOf(b)) })
	})
}

// Ensures that a bucket with many keys shrinks to nothing in any order of deletion, that what is left is
// always right, and that the pages come back.
func TestBucket_Delete_Many(t *testing.T) {
	n := 6001 // not divisible by 3, so that every third of every third is every one
	if testing.Short() {
		n = 1501
	}
	shuffled := rand.New(rand.NewPCG(5, 6)).Perm(n)
	for name, order := range map[string]func(i int) int{
		"ascending":   func(i int) int { return i },
		"descending":  func(i int) int { return n - 1 - i },
		"shuffled":    func(i int) int { return shuffled[i] },
		"middle out":  func(i int) int { return (n/2 + (1-2*(i%2))*((i+1)/2) + n) % n },
		"every third": func(i int) int { return i * 3 % n },
	} {
		t.Run(name, func(t *testing.T) {
			db := openMemory(t)
			var size int64
			for round := range 3 {
				inBucket(t, db, func(b *alder.Bucket) {
					for i := range n {
						require.NoError(t, b.Put(key(i), key(i)))
					}
				})
				left := n
				for left > 0 {
					inBucket(t, db, func(b *alder.Bucket) {
						for range min(n/5+1, left) {
							require.NoError(t, b.Delete(key(order(n-left))))
							left--
						}
						require.Len(t, keysOf(b), left)
					})
					db.check()
				}
				db.view(func(tx *alder.Tx) {
					require.Equal(t, 1, tx.Bucket([]byte("b")).Stats().BucketN)
					if round == 1 {
						size = tx.Size()
					} else if round == 2 {
						require.LessOrEqual(t, tx.Size(), size+size/10, "deleted keys leak pages")
					}
				})
			}
		})
	}
}

// Ensures that ForEach visits every key in order, nested buckets with nil, and ends with the function's error.
func TestBucket_ForEach(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put([]byte("foo"), []byte("0000")))
			require.NoError(t, b.Put([]byte("baz"), []byte("0001")))
			require.NoError(t, b.Put([]byte("empty"), nil))
			_, err := b.CreateBucket([]byte("csub"))
			require.NoError(t, err)
		})
		test := func(b *alder.Bucket) {
			var got []string
			require.NoError(t, b.ForEach(func(k, v []byte) error {
				got = append(got, fmt.Sprintf("%s=%s %v", k, v, v == nil))
				return nil
			}))
			require.Equal(t, []string{"baz=0001 false", "csub= true", "empty= false", "foo=0000 false"}, got)

			stop, calls := errors.New("stop"), 0
			require.Equal(t, stop, b.ForEach(func(k, _ []byte) error {
				calls++
				if string(k) == "csub" {
					return stop
				}
				return nil
			}))
			require.Equal(t, 2, calls)

			var subs []string
			require.NoError(t, b.ForEachBucket(func(k []byte) error {
				subs = append(subs, string(k))
				return nil
			}))
			require.Equal(t, []string{"csub"}, subs)
			require.Equal(t, stop, b.ForEachBucket(func([]byte) error { return stop }))
		}
		readBucket(t, db, test)
		inBucket(t, db, test)
	})
}

// Ensures that the function given to ForEach may change the values it is shown.
func TestBucket_ForEach_Update(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range 500 {
				require.NoError(t, b.Put(key(i), []byte("old")))
			}
		})
		inBucket(t, db, func(b *alder.Bucket) {
			i := 0
			require.NoError(t, b.ForEach(func(k, v []byte) error {
				require.Equal(t, string(key(i)), string(k))
				require.Equal(t, "old", string(v))
				i++
				return b.Put(k, []byte("new"))
			}))
			require.Equal(t, 500, i)
		})
		readBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.ForEach(func(_, v []byte) error {
				require.Equal(t, "new", string(v))
				return nil
			}))
		})
	})
}

// Ensures that the function given to ForEach may delete and insert: everything inserted ahead is visited,
// nothing is skipped, nothing comes twice. Unlike bbolt, where that is undefined.
func TestBucket_ForEach_Modify(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 1200
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range n {
				require.NoError(t, b.Put(key(2*i), filled(100, 1)))
			}
		})
		inBucket(t, db, func(b *alder.Bucket) {
			visited := 0
			require.NoError(t, b.ForEach(func(k, _ []byte) error {
				require.Equal(t, string(key(visited)), string(k))
				var err error
				if visited%2 == 0 {
					// One odd key ahead, so that the next one visited is it.
					err = b.Put(key(visited+1), filled(300, 2))
				}
				visited++
				return errors.Join(err, b.Delete(k))
			}))
			require.Equal(t, 2*n, visited)
			require.Empty(t, keysOf(b))
		})
	})
}

// Ensures that a bucket's sequence counts from 1, keeps what is set, and is stored with the bucket.
func TestBucket_NextSequence(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.update(func(tx *alder.Tx) {
			for _, name := range []string{"b", "other"} {
				b, err := tx.CreateBucket([]byte(name))
				require.NoError(t, err)
				require.Zero(t, b.Sequence())
				for want := uint64(1); want <= 3; want++ {
					seq, err := b.NextSequence()
					require.NoError(t, err)
					require.Equal(t, want, seq)
					require.Equal(t, want, b.Sequence())
				}
			}
			require.NoError(t, tx.Bucket([]byte("b")).SetSequence(1<<63))
		})
		db.reopen()
		readBucket(t, db, func(b *alder.Bucket) { require.Equal(t, uint64(1<<63), b.Sequence()) })
		// Only the sequence changes; the keys must not be lost, nor the other way round.
		inBucket(t, db, func(b *alder.Bucket) {
			seq, err := b.NextSequence()
			require.NoError(t, err)
			require.Equal(t, uint64(1<<63+1), seq)
		})
		for i := range 300 {
			db.NoSync = true
			db.put("b", string(key(i)), "v")
		}
		readBucket(t, db, func(b *alder.Bucket) {
			require.Equal(t, uint64(1<<63+1), b.Sequence())
			require.Len(t, keysOf(b), 300)
		})
		inBucket(t, db, func(b *alder.Bucket) { require.NoError(t, b.SetSequence(0)) })
		readBucket(t, db, func(b *alder.Bucket) { require.Zero(t, b.Sequence()) })
		require.Equal(t, uint64(3), func() (seq uint64) {
			db.view(func(tx *alder.Tx) { seq = tx.Bucket([]byte("other")).Sequence() })
			return seq
		}())
	})
}

// Ensures that the statistics of a bucket count what is in it.
func TestBucket_Stats(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		page := db.Info().PageSize
		n := 4000 * page / 4096
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range n {
				require.NoError(t, b.Put(key(i), filled(100, 0)))
			}
			require.NoError(t, b.Put([]byte("large"), filled(10*page, 0)))
		})
		readBucket(t, db, func(b *alder.Bucket) {
			s := b.Stats()
			require.Equal(t, n+1, s.KeyN)
			require.GreaterOrEqual(t, s.Depth, 2)
			require.Equal(t, 1, s.BucketN)
			require.Zero(t, s.InlineBucketN)
			require.Positive(t, s.BranchPageN)
			require.Positive(t, s.LeafPageN)
			require.GreaterOrEqual(t, s.LeafOverflowN, 10)
			require.Equal(t, (s.LeafPageN+s.LeafOverflowN)*page, s.LeafAlloc)
			require.Equal(t, (s.BranchPageN+s.BranchOverflowN)*page, s.BranchAlloc)
			require.LessOrEqual(t, s.LeafInuse, s.LeafAlloc)
			require.LessOrEqual(t, s.BranchInuse, s.BranchAlloc)
			require.GreaterOrEqual(t, s.LeafInuse, n*100+10*page)
		})
	})
}

// Ensures that the statistics of nested and inline buckets are added to their parent's.
func TestBucket_Stats_Nested(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put([]byte("k"), []byte("v")))
			small, err := b.CreateBucket([]byte("small"))
			require.NoError(t, err)
			for i := range 5 {
				require.NoError(t, small.Put(key(i), []byte("v")))
			}
			large, err := b.CreateBucket([]byte("large"))
			require.NoError(t, err)
			for i := range 3000 {
				require.NoError(t, large.Put(key(i), filled(100, 0)))
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			s := b.Stats()
			require.Equal(t, 3+5+3000, s.KeyN)
			require.Equal(t, 3, s.BucketN)
			require.Equal(t, 1, s.InlineBucketN)
			require.Positive(t, s.InlineBucketInuse)
			small := b.Bucket([]byte("small")).Stats()
			require.Equal(t, 5, small.KeyN)
			require.Equal(t, 1, small.InlineBucketN)
			require.Zero(t, small.LeafPageN)
		})
	})
}

// Ensures that statistics can be summed up.
func TestBucketStats_Add(t *testing.T) {
	a := alder.BucketStats{KeyN: 1, Depth: 3, LeafPageN: 2}
	a.Add(alder.BucketStats{KeyN: 4, Depth: 2, BranchPageN: 5, BucketN: 1})
	require.Equal(t, alder.BucketStats{KeyN: 5, Depth: 3, LeafPageN: 2, BranchPageN: 5, BucketN: 1}, a)
}

// Ensures that a Put which is refused because the key is a nested bucket changes nothing, also where it is all that
// its transaction does: the path to the key may have been copied by then. It did not, once.
func TestBucket_Put_RefusedAlone(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, 100, 200) // so that it has pages of its own
			mustCreate(t, b, "sub")
		})
		before := fingerprint(t, db.DB)
		for _, refused := range []func(b *alder.Bucket) error{
			func(b *alder.Bucket) error { return b.Put([]byte("sub"), nil) },
			func(b *alder.Bucket) error { return b.Delete([]byte("sub")) },
			func(b *alder.Bucket) error { _, err := b.CreateBucket(key(7)); return err },
			func(b *alder.Bucket) error { _, err := b.CreateBucketIfNotExists(key(7)); return err },
			func(b *alder.Bucket) error { return b.DeleteBucket(key(7)) },
			func(b *alder.Bucket) error { return b.MoveBucket(key(7), b.Bucket([]byte("sub"))) },
		} {
			inBucket(t, db, func(b *alder.Bucket) { require.ErrorIs(t, refused(b), alder.ErrIncompatibleValue) })
			db.check()
			require.Equal(t, before, fingerprint(t, db.DB))
		}
	})
}
