package alder_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that a cursor in an empty bucket finds nothing in any direction and from any place.
func TestCursor_Empty(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		test := func(b *alder.Bucket) {
			c := b.Cursor()
			require.Same(t, b, c.Bucket())
			for name, move := range map[string]func() ([]byte, []byte){
				"First": c.First, "Last": c.Last, "Next": c.Next, "Prev": c.Prev,
				"Seek":     func() ([]byte, []byte) { return c.Seek([]byte("x")) },
				"Seek nil": func() ([]byte, []byte) { return c.Seek(nil) },
			} {
				k, v := move()
				require.Nil(t, k, name)
				require.Nil(t, v, name)
			}
		}
		inBucket(t, db, test)
		readBucket(t, db, test)
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range 1000 {
				require.NoError(t, b.Put(key(i), key(i)))
			}
			for i := range 1000 {
				require.NoError(t, b.Delete(key(i)))
			}
			test(b)
		})
	})
}

// Ensures that a new cursor, before its first move, is nowhere.
func TestCursor_New(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, 10, 5)
			k, _ := b.Cursor().Next()
			require.Nil(t, k)
			k, _ = b.Cursor().Prev()
			require.Nil(t, k)
		})
	})
}

// Ensures that Seek finds the key or the next greater one, with the values of keys and nil for buckets.
func TestCursor_Seek(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put([]byte("foo"), []byte("0001")))
			require.NoError(t, b.Put([]byte("bar"), []byte("0002")))
			require.NoError(t, b.Put([]byte("baz"), []byte{}))
			mustCreate(t, b, "bkt")
		})
		test := func(b *alder.Bucket) {
			c := b.Cursor()
			for _, q := range []struct{ seek, key, value string }{
				{"", "bar", "0002"}, {"a", "bar", "0002"}, {"bar", "bar", "0002"}, {"bar\x00", "baz", ""},
				{"bas", "baz", ""}, {"baz", "baz", ""}, {"bk", "bkt", "nil"}, {"bkt", "bkt", "nil"},
				{"c", "foo", "0001"}, {"foo", "foo", "0001"}, {"foo\x00", "", "nil"}, {"\xff", "", "nil"},
			} {
				k, v := c.Seek([]byte(q.seek))
				require.Equal(t, q.key, string(k), "seek %q", q.seek)
				require.Equal(t, q.key == "", k == nil, "seek %q", q.seek)
				require.Equal(t, q.value == "nil", v == nil, "seek %q", q.seek)
				if v != nil {
					require.Equal(t, q.value, string(v), "seek %q", q.seek)
				}
			}
			k, v := c.Seek(nil)
			require.Equal(t, "bar", string(k))
			require.Equal(t, "0002", string(v))
		}
		inBucket(t, db, test)
		readBucket(t, db, test)
	})
}

// Ensures that a cursor at one end stays there: Next after the last key is nil and Prev then returns the one
// before the last; the same at the beginning; a Seek behind the last key leaves it behind the last key.
func TestCursor_Ends(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, n := range []int{1, 2, 3, 500} {
			inBucket(t, db, func(b *alder.Bucket) { fill(t, b, n, 60) })
			test := func(b *alder.Bucket) {
				at := func(i int) string {
					if i < 0 || i >= n {
						return ""
					}
					return string(key(i))
				}
				c := b.Cursor()
				step := func(want string, move func() ([]byte, []byte), what string) {
					t.Helper()
					k, _ := move()
					require.Equal(t, want, string(k), "%s in %d keys", what, n)
				}
				step(at(n-1), c.Last, "last")
				step("", c.Next, "next after last")
				step("", c.Next, "next after last again")
				step(at(n-2), c.Prev, "prev after the end")
				step(at(0), c.First, "first")
				step("", c.Prev, "prev before first")
				step("", c.Prev, "prev before first again")
				step(at(1), c.Next, "next after the beginning")
				k, _ := c.Seek([]byte("zzz"))
				require.Nil(t, k)
				step("", c.Next, "next after a seek behind the end")
				step(at(n-1), c.Prev, "prev after a seek behind the end")
			}
			readBucket(t, db, test)
			inBucket(t, db, test)
		}
	})
}

// Ensures that walks in both directions, from any key, see every key once and in order, in small and large
// buckets, committed or not.
func TestCursor_Walk(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, n := range []int{1, 5, 300, 5000} {
			keys, values := make([][]byte, n), make([][]byte, n)
			for i := range n {
				keys[i], values[i] = key(i), filled(i%90, byte(i))
			}
			at := func(i int, k, v []byte, what string) {
				t.Helper()
				if !bytes.Equal(k, keys[i]) || !bytes.Equal(v, values[i]) {
					t.Fatalf("%s: got %q = %x, want %q = %x", what, k, v, keys[i], values[i])
				}
			}
			test := func(b *alder.Bucket) {
				c := b.Cursor()
				i := 0
				for k, v := c.First(); k != nil; k, v = c.Next() {
					at(i, k, v, "forward")
					i++
				}
				require.Equal(t, n, i)
				for k, v := c.Last(); k != nil; k, v = c.Prev() {
					i--
					at(i, k, v, "backward")
				}
				require.Zero(t, i)
				for from := 0; from < n; from += 1 + n/17 {
					k, v := c.Seek(keys[from])
					at(from, k, v, "seek")
					for i := from + 1; i < min(n, from+30); i++ {
						k, v = c.Next()
						at(i, k, v, "next after seek")
					}
					for i := min(n, from+30) - 2; i >= max(0, from-30); i-- {
						k, v = c.Prev()
						at(i, k, v, "prev after seek")
					}
				}
			}
			inBucket(t, db, func(b *alder.Bucket) {
				for _, i := range rand.New(rand.NewPCG(11, uint64(n))).Perm(n) {
					require.NoError(t, b.Put(keys[i], values[i]))
				}
				test(b)
			})
			readBucket(t, db, test)
		}
	})
}

// Ensures that turning round at every step returns to the key before.
func TestCursor_ZigZag(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 900
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, n, 50) })
		readBucket(t, db, func(b *alder.Bucket) {
			c := b.Cursor()
			c.First()
			for i := range n - 2 {
				for _, want := range []int{i + 1, i + 2, i + 1} {
					var k []byte
					if want == i+1 && string(keyAt(c)) == string(key(i+2)) {
						k, _ = c.Prev()
					} else {
						k, _ = c.Next()
					}
					require.Equal(t, string(key(want)), string(k))
				}
			}
		})
	})
}

// keyAt returns the key under the cursor without moving it, as a program that knows only bbolt's methods would.
func keyAt(c *alder.Cursor) []byte {
	if k, _ := c.Next(); k == nil {
		k, _ = c.Last()
		return k
	}
	k, _ := c.Prev()
	return k
}

// Ensures that two cursors of one bucket do not move each other.
func TestCursor_Independent(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 1000, 20) })
		readBucket(t, db, func(b *alder.Bucket) {
			up, down := b.Cursor(), b.Cursor()
			u, _ := up.First()
			d, _ := down.Last()
			for i := range 1000 {
				require.Equal(t, string(key(i)), string(u))
				require.Equal(t, string(key(999-i)), string(d))
				u, _ = up.Next()
				d, _ = down.Prev()
			}
		})
	})
}

// Ensures that a cursor's Delete removes the key under it, and nothing else, and refuses nested buckets.
func TestCursor_Delete(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, 1000, 40)
			mustCreate(t, b, "sub")
			c := b.Cursor()
			for i := 0; i < 1000; i += 3 {
				k, _ := c.Seek(key(i))
				require.Equal(t, string(key(i)), string(k))
				require.NoError(t, c.Delete())
				require.Nil(t, b.Get(key(i)))
			}
			c.Seek([]byte("sub"))
			require.ErrorIs(t, c.Delete(), alder.ErrIncompatibleValue)
		})
		readBucket(t, db, func(b *alder.Bucket) {
			for i := range 1000 {
				require.Equal(t, i%3 == 0, b.Get(key(i)) == nil, "key %d", i)
			}
			require.NotNil(t, b.Bucket([]byte("sub")))
		})
	})
}

// Ensures that a cursor on nothing deletes nothing. Unlike bbolt, which panics or deletes a neighbor.
func TestCursor_Delete_Nowhere(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, 100, 40)
			_ = b.Cursor().Delete()
			c := b.Cursor()
			c.Seek([]byte("zzz"))
			_ = c.Delete()
			requireFilled(t, b, 100, 40)
			// A second Delete at the same place must not take the next key.
			c.Seek(key(50))
			require.NoError(t, c.Delete())
			_ = c.Delete()
			require.Len(t, keysOf(b), 99)
		})
	})
}

// Ensures that Delete followed by Next, or by Prev, skips nothing, so that a loop can delete as it goes. Unlike
// bbolt, whose Next skips the key behind a deleted one.
func TestCursor_Delete_Next(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 2000
		for _, forward := range []bool{true, false} {
			for _, every := range []int{1, 2, 3, 7} {
				inBucket(t, db, func(b *alder.Bucket) { fill(t, b, n, 40) })
				inBucket(t, db, func(b *alder.Bucket) {
					c := b.Cursor()
					move, i, step := c.Next, 0, 1
					k, _ := c.First()
					if !forward {
						move, i, step = c.Prev, n-1, -1
						k, _ = c.Last()
					}
					for ; k != nil; k, _ = move() {
						require.Equal(t, string(key(i)), string(k))
						if i%every == 0 {
							require.NoError(t, c.Delete())
						}
						i += step
					}
					require.Contains(t, []int{-1, n}, i)
				})
				readBucket(t, db, func(b *alder.Bucket) { require.Len(t, keysOf(b), n-(n+every-1)/every) })
				db.check()
			}
		}
	})
}

// Ensures that deleting and walking on with Seek to the key that followed, as programs for bbolt do, works.
func TestCursor_Delete_Seek(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, 1000, 40)
			c := b.Cursor()
			i := 0
			for k, _ := c.First(); k != nil; k, _ = c.Seek(k) {
				require.Equal(t, string(key(i)), string(k))
				require.NoError(t, c.Delete())
				i++
			}
			require.Equal(t, 1000, i)
			require.Empty(t, keysOf(b))
		})
	})
}

// Ensures that First and Last find the ends of a bucket whose first or last pages were emptied in the same
// transaction.
func TestCursor_EmptiedPages(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 3000, 40) })
		tx := db.begin(true)
		b := tx.Bucket([]byte("b"))
		for i := range 1400 {
			require.NoError(t, b.Delete(key(i)))
			require.NoError(t, b.Delete(key(2999-i)))
		}
		c := b.Cursor()
		k, _ := c.First()
		require.Equal(t, string(key(1400)), string(k))
		k, _ = c.Last()
		require.Equal(t, string(key(1599)), string(k))
		k, _ = c.Seek(key(7))
		require.Equal(t, string(key(1400)), string(k))
		require.Len(t, keysOf(b), 200)
		require.NoError(t, tx.Rollback())
	})
}

// Ensures that keys put while a cursor stands somewhere are met if they lie ahead, and that the cursor's
// neighbors are those of its key. Unlike bbolt, where that is undefined.
func TestCursor_Put_Next(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put(key(0), nil))
			c := b.Cursor()
			k, _ := c.First()
			for i := range 3000 {
				require.Equal(t, string(key(i)), string(k))
				require.NoError(t, b.Put(key(i+1), filled(i%200, 1)))
				require.NoError(t, b.Put([]byte("a"+string(k)), filled(60, 2))) // behind
				k, _ = c.Next()
			}
		})
	})
}

// cursorScript moves a cursor and changes its bucket at random; before every step the oracle knows what the
// cursor must return: the nearest key beyond the one it stands on, which may be gone.
type cursorScript struct {
	t    *testing.T
	r    *rand.Rand
	b    *alder.Bucket
	c    *alder.Cursor
	o    *oracle
	on   string // where the cursor stands
	here bool   // it stands somewhere
}

// Ensures that a cursor behaves like "the next key greater than the current one" under any mixture of puts,
// deletes, ranges and nested buckets in its transaction. Unlike bbolt, where that is undefined.
func TestCursor_Modify(t *testing.T) {
	steps := 12_000
	if testing.Short() {
		steps = 2_000
	}
	for seed := range uint64(6) {
		for _, dirtyLimit := range []int{0, 8192, 100_000} {
			t.Run(fmt.Sprintf("seed=%d/dirty=%d", seed, dirtyLimit), func(t *testing.T) {
				db := openMemory(t, withPageSize(4096<<(seed%3)), withDirtyLimit(dirtyLimit))
				inBucket(t, db, func(b *alder.Bucket) {
					s := &cursorScript{t: t, r: rand.New(rand.NewPCG(seed, 1)), b: b, c: b.Cursor(), o: &oracle{}}
					// Some seeds with a few keys that are changed often, some with many.
					keys := []int{3, 40, 400, 3000, 3000, 20_000}[seed]
					for i := range steps {
						if s.r.IntN(2) == 0 {
							s.modify(keys)
						} else {
							s.move(keys)
						}
						if i%997 == 0 {
							requireOracle(t, s.o, b)
						}
					}
					requireOracle(t, s.o, b)
				})
			})
		}
	}
}

func (s *cursorScript) modify(keys int) {
	k := key(s.r.IntN(keys))
	if s.here && s.r.IntN(3) == 0 {
		k = []byte(s.on)
	}
	switch p := s.r.IntN(100); {
	case p < 55:
		v := filled(s.r.IntN(120), byte(p))
		if p == 0 {
			v = filled(6000, 3)
		}
		require.Equal(s.t, s.o.put(string(k), string(v)), s.b.Put(k, v))
	case p < 90:
		require.Equal(s.t, s.o.delete(string(k)), s.b.Delete(k))
	case p < 94:
		_, want := s.o.create(string(k))
		_, err := s.b.CreateBucket(k)
		require.Equal(s.t, want, err)
	case p < 98:
		require.Equal(s.t, s.o.deleteBucket(string(k)), s.b.DeleteBucket(k))
	default:
		to := append(k, []byte("0")...)
		if p == 99 {
			to = key(s.r.IntN(keys))
		}
		want := s.o.deleteRange(k, to)
		n, err := s.b.DeleteRange(k, to)
		require.NoError(s.t, err)
		require.Equal(s.t, want, n)
	}
}

func (s *cursorScript) move(keys int) {
	var k, v []byte
	var want *oracleEntry
	var what string
	switch p := s.r.IntN(100); {
	case p < 40 && s.here:
		what = "Next"
		k, v = s.c.Next()
		want = s.o.entry(s.o.after(s.on))
	case p < 70 && s.here:
		what = "Prev"
		k, v = s.c.Prev()
		want = s.o.entry(s.o.before(s.on))
	case p < 80 && s.here:
		// Delete of what is under the cursor, if it is still there.
		e := s.o.at(s.on)
		if e == nil {
			return
		}
		require.Equal(s.t, s.o.delete(s.on), s.c.Delete())
		return
	case p < 82:
		what = "First"
		k, v = s.c.First()
		want = s.o.entry(0)
		s.here = false
	case p < 84:
		what = "Last"
		k, v = s.c.Last()
		want = s.o.entry(len(s.o.entries) - 1)
		s.here = false
	default:
		seek := key(s.r.IntN(keys))
		what = fmt.Sprintf("Seek(%s)", seek)
		k, v = s.c.Seek(seek)
		i, _ := s.o.find(string(seek))
		want = s.o.entry(i)
		s.here = false
	}
	require.NoError(s.t, want.compare(k, v), "%s from %q", what, s.on)
	if want != nil {
		s.on, s.here = want.key, true
	}
}

// Ensures that a key is not skipped when Prev finds nothing before a deleted first key and Next goes on from
// there. Unlike bbolt, where it is undefined.
func TestCursor_Delete_PrevNext(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) {
			fill(t, b, 3, 10)
			c := b.Cursor()
			c.First()
			require.NoError(t, c.Delete())
			k, _ := c.Prev()
			require.Nil(t, k)
			k, _ = c.Next()
			require.Equal(t, string(key(1)), string(k))
		})
	})
}
