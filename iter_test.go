package alder_test

import (
	"bytes"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// requireSeq fails the test if the sequence does not consist of the entries i … j-1 of the oracle, in order or
// backward.
func requireSeq(t testing.TB, o *oracle, i, j int, seq iter.Seq2[[]byte, []byte], backward bool, what string, bounds ...[]byte) {
	t.Helper()
	n := 0
	for k, v := range seq {
		at := i + n
		if backward {
			at = j - 1 - n
		}
		var want *oracleEntry
		if n < j-i {
			want = o.entry(at)
		}
		if err := want.compare(k, v); err != nil {
			require.FailNow(t, err.Error(), "%s of %.30q: step %d", what, bounds, n)
		}
		n++
	}
	if n != j-i {
		require.FailNow(t, "too few keys", "%s of %.30q: %d, want %d", what, bounds, n, j-i)
	}
}

// requireOrder fails the test if an iterator, a count, a rank or a place in the bucket is not the oracle's; from
// and to are the bounds to ask for.
func requireOrder(t testing.TB, o *oracle, b *alder.Bucket, from, to []byte) {
	t.Helper()
	i, j := o.span(from, to)
	if got := b.Count(from, to); got != uint64(j-i) {
		require.FailNow(t, "Count", "from %.30q (nil: %v) to %.30q (nil: %v): %d, want %d", from, from == nil, to, to == nil, got, j-i)
	}
	requireSeq(t, o, i, j, b.Range(from, to), false, "Range", from, to)
	requireSeq(t, o, i, j, b.RangeBackward(from, to), true, "RangeBackward", from, to)
	below, _ := o.find(string(from))
	require.Equal(t, uint64(below), b.Rank(from), "Rank")

	p, q := o.prefixSpan(from)
	requireSeq(t, o, p, q, b.Prefix(from), false, "Prefix", from)
	requireSeq(t, o, p, q, b.PrefixBackward(from), true, "PrefixBackward", from)

	for _, at := range []int{i, j - 1, j, len(o.entries) - 1, len(o.entries)} {
		if at < 0 {
			continue
		}
		k, v := b.At(uint64(at))
		if err := o.entry(at).compare(k, v); err != nil || len(k) != cap(k) || len(v) != cap(v) {
			require.FailNow(t, "At", "%d of %d: %v, caps %d and %d", at, len(o.entries), err, cap(k), cap(v))
		}
	}
}

// prefixSpan returns the places of the keys that begin with p.
func (o *oracle) prefixSpan(p []byte) (i, j int) {
	i, _ = o.find(string(p))
	for j = i; j < len(o.entries) && bytes.HasPrefix([]byte(o.entries[j].key), p); j++ {
	}
	return i, j
}

// filledBoth puts the keys into the bucket and the oracle; every seventh becomes a nested bucket.
func filledBoth(t testing.TB, b *alder.Bucket, o *oracle, keys []string) {
	t.Helper()
	for i, k := range keys {
		if i%7 == 6 {
			_, err := o.create(k)
			require.NoError(t, err)
			mustCreate(t, b, k)
			continue
		}
		v := filled(i%150, byte(i))
		require.NoError(t, o.put(k, string(v)))
		require.NoError(t, b.Put([]byte(k), v))
	}
}

// edgeKeys are keys at which bounds and prefixes are easily got wrong.
func edgeKeys() []string {
	keys := []string{"\x00", "\x00\x00", "\x01", "a", "a\x00", "a\x00\x00", "a\x01", "aa", "ab", "b", "\x7f", "\x80",
		"\xfe", "\xfe\xff", "\xfe\xff\xff", "\xff", "\xff\x00", "\xff\xfe", "\xff\xff", "\xff\xff\x00", "\xff\xff\xff",
		"\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"}
	long := string(bytes.Repeat([]byte{0xff}, 3000))
	return append(keys, long, long+"\x00", long+"\xff", string(bytes.Repeat([]byte("p"), 20_000)), string(bytes.Repeat([]byte("p"), 20_001)))
}

// Ensures that every pair of bounds around keys that are easily got wrong gives exactly the keys between
// them, in both directions, with their number; nil bounds are open, empty ones are not.
func TestBucket_Range_Edges(t *testing.T) {
	t.Parallel()
	eachForm(t, func(t *testing.T, db *testDB) {
		bounds := [][]byte{nil, {}}
		for _, k := range edgeKeys() {
			bounds = append(bounds, []byte(k), []byte(k+"\x00"))
		}
		for _, n := range []int{0, 1, len(edgeKeys())} {
			o := &oracle{}
			test := func(b *alder.Bucket) {
				for _, from := range bounds {
					for _, to := range bounds {
						requireOrder(t, o, b, from, to)
					}
				}
			}
			inBucket(t, db, func(b *alder.Bucket) {
				filledBoth(t, b, o, edgeKeys()[:n])
				if n < 3 {
					test(b)
				}
			})
			readBucket(t, db, test)
			db.update(func(tx *alder.Tx) { require.NoError(t, tx.DeleteBucket([]byte("b"))) })
		}
	})
}

// Ensures that an empty upper bound, unlike a nil one, ends the range before it begins, as does a lower bound
// above the upper.
func TestBucket_Range_Nothing(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 100, 10) })
		readBucket(t, db, func(b *alder.Bucket) {
			for _, bounds := range [][2][]byte{{nil, {}}, {key(5), {}}, {key(5), key(5)}, {key(6), key(5)}, {key(99), key(0)}, {[]byte("z"), nil}} {
				require.Zero(t, b.Count(bounds[0], bounds[1]))
				for k := range b.Range(bounds[0], bounds[1]) {
					t.Errorf("%q in [%q, %q)", k, bounds[0], bounds[1])
				}
				for k := range b.RangeBackward(bounds[0], bounds[1]) {
					t.Errorf("%q in [%q, %q)", k, bounds[0], bounds[1])
				}
			}
		})
	})
}

// Ensures that All and Backward visit everything, and that each use of a sequence begins anew.
func TestBucket_All(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		o := &oracle{}
		var keys []string
		for i := range 3000 {
			keys = append(keys, string(key(i)))
		}
		test := func(b *alder.Bucket) {
			all, backward := b.All(), b.Backward()
			for range 2 {
				requireSeq(t, o, 0, len(keys), all, false, "All")
				requireSeq(t, o, 0, len(keys), backward, true, "Backward")
			}
			for k, v := range all {
				require.Equal(t, len(k), cap(k))
				require.Equal(t, len(v), cap(v))
			}
		}
		inBucket(t, db, func(b *alder.Bucket) {
			filledBoth(t, b, o, keys)
			test(b)
		})
		readBucket(t, db, test)
	})
}

// Ensures that a loop may stop anywhere, return from inside, and be nested in another over the same bucket.
func TestBucket_All_Break(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 500, 30) })
		readBucket(t, db, func(b *alder.Bucket) {
			for _, seq := range []iter.Seq2[[]byte, []byte]{b.All(), b.Backward(), b.Range(key(3), key(400)), b.RangeBackward(nil, key(77)), b.Prefix([]byte("key-")), b.PrefixBackward([]byte("k"))} {
				for stop := 1; stop < 20; stop++ {
					n := 0
					for range seq {
						if n++; n == stop {
							break
						}
					}
					require.Equal(t, stop, n)
				}
			}
			sum := 0
			for k := range b.Range(key(0), key(20)) {
				for range b.Range(k, key(20)) {
					sum++
				}
			}
			require.Equal(t, 20*21/2, sum)
			found := func() []byte {
				for k := range b.All() {
					if bytes.Compare(k, key(33)) >= 0 {
						return k
					}
				}
				return nil
			}()
			require.Equal(t, string(key(33)), string(found))
			next, stop := iter.Pull2(b.All())
			for i := range 10 {
				k, _, ok := next()
				require.True(t, ok)
				require.Equal(t, string(key(i)), string(k))
			}
			stop()
		})
	})
}

// Ensures that a loop over a bucket may delete and put in it, as with a cursor.
func TestBucket_All_Modify(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 1500
		for _, backward := range []bool{false, true} {
			inBucket(t, db, func(b *alder.Bucket) { fill(t, b, n, 60) })
			inBucket(t, db, func(b *alder.Bucket) {
				seq := b.Range(key(0), key(n))
				if backward {
					seq = b.RangeBackward(key(0), key(n))
				}
				i := 0
				for k := range seq {
					want := i
					if backward {
						want = n - 1 - i
					}
					require.Equal(t, string(key(want)), string(k))
					i++
					require.NoError(t, b.Put(append([]byte("moved/"), k...), filled(60, 1)))
					require.NoError(t, b.Delete(k))
				}
				require.Equal(t, n, i)
			})
			readBucket(t, db, func(b *alder.Bucket) {
				require.Equal(t, uint64(n), b.Count([]byte("moved/"), []byte("moved0")))
				require.Equal(t, uint64(n), b.Len())
			})
			db.update(func(tx *alder.Tx) { require.NoError(t, tx.DeleteBucket([]byte("b"))) })
		}
	})
}

// Ensures that Lookup tells a value, an absent key and a bucket apart as Get does, without an error.
func TestBucket_Lookup(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		test := func(b *alder.Bucket) {
			for k, want := range map[string][]byte{"k": []byte("v"), "empty": {}, "large": filled(50_000, 1), "sub": nil, "absent": nil, "": nil} {
				v, err := b.Lookup([]byte(k))
				require.NoError(t, err)
				require.Equal(t, want == nil, v == nil, k)
				requireBytes(t, want, v, "value of %q", k)
				require.Equal(t, len(v), cap(v))
			}
		}
		inBucket(t, db, func(b *alder.Bucket) {
			require.NoError(t, b.Put([]byte("k"), []byte("v")))
			require.NoError(t, b.Put([]byte("empty"), nil))
			require.NoError(t, b.Put([]byte("large"), filled(50_000, 1)))
			mustCreate(t, b, "sub")
			test(b)
		})
		readBucket(t, db, test)
	})
}

// Ensures that GetMulti answers like as many Gets, in the order of the keys given, sorted or not, repeated or
// absent, and uses the slice that it is handed.
func TestBucket_GetMulti(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		r := rand.New(rand.NewPCG(21, 22))
		o := &oracle{}
		var values [][]byte
		test := func(b *alder.Bucket) {
			for round := range 40 {
				keys := make([][]byte, r.IntN(50))
				for i := range keys {
					keys[i] = key(r.IntN(2500))
					if i > 0 && r.IntN(10) == 0 {
						keys[i] = keys[r.IntN(i)]
					}
				}
				if round%3 == 0 {
					slices.SortFunc(keys, bytes.Compare)
				}
				if round%5 == 0 {
					keys = append(keys, nil, []byte{}, filled(40_000, 1))
				}
				if round%4 == 0 {
					values = nil
				}
				values = b.GetMulti(keys, values)
				require.Len(t, values, len(keys))
				for i, k := range keys {
					want := b.Get(k)
					require.Equal(t, want == nil, values[i] == nil, "key %.30q", k)
					requireBytes(t, want, values[i], "value of %.30q", k)
					require.Equal(t, len(values[i]), cap(values[i]))
				}
			}
			require.Empty(t, b.GetMulti(nil, nil))
		}
		inBucket(t, db, func(b *alder.Bucket) {
			var keys []string
			for i := range 2000 {
				keys = append(keys, string(key(i)))
			}
			filledBoth(t, b, o, keys)
			test(b)
		})
		readBucket(t, db, test)
		roomy := make([][]byte, 0, 100)
		readBucket(t, db, func(b *alder.Bucket) {
			got := b.GetMulti([][]byte{key(1), key(2)}, roomy)
			require.Same(t, &roomy[:1][0], &got[0], "the given slice was not used")
		})
	})
}

// Ensures that DeleteRange removes exactly the range, says how many keys there were, and gives their pages back.
func TestBucket_DeleteRange(t *testing.T) {
	t.Parallel()
	eachForm(t, func(t *testing.T, db *testDB) {
		const n = 4000
		r := rand.New(rand.NewPCG(31, 32))
		var size int64
		for round := range 10 {
			o := &oracle{}
			inBucket(t, db, func(b *alder.Bucket) {
				for _, i := range r.Perm(n) {
					k, v := key(i), filled(20+i%50, byte(i))
					switch {
					case i%501 == 0:
						v = filled(30_000, byte(i))
					case i%700 == 1:
						k = append(k, filled(9_000, 1)...)
					}
					require.NoError(t, o.put(string(k), string(v)))
					require.NoError(t, b.Put(k, v))
				}
			})
			db.check()
			for len(o.entries) > 0 {
				inBucket(t, db, func(b *alder.Bucket) {
					from, to := o.near(r.IntN), o.near(r.IntN)
					if r.IntN(4) == 0 {
						i := r.IntN(len(o.entries))
						from, to = []byte(o.entries[i].key), []byte(o.entry(min(i+r.IntN(50), len(o.entries)-1)).key)
					}
					if r.IntN(12) == 0 {
						from, to = nil, nil
					}
					want := o.deleteRange(from, to)
					got, err := b.DeleteRange(from, to)
					require.NoError(t, err)
					require.Equal(t, want, got, "[%.30q, %.30q)", from, to)
					requireOracle(t, o, b)
				})
				db.check()
				readBucket(t, db, func(b *alder.Bucket) { requireOracle(t, o, b) })
			}
			db.view(func(tx *alder.Tx) {
				if round == 4 {
					size = tx.Size()
				} else if round > 4 {
					require.LessOrEqual(t, tx.Size(), size+size/8, "ranges leak pages")
				}
			})
			if testing.Short() && round == 2 {
				return
			}
		}
	})
}

// Ensures that nested buckets in a range count as one key each and go with all that is in them, whether their
// transaction has changed them or not, and that a bucket at the bounds stays.
func TestBucket_DeleteRange_NestedBuckets(t *testing.T) {
	t.Parallel()
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, size := range []int{2, 2000} {
			for _, dirty := range []bool{false, true} {
				inBucket(t, db, func(b *alder.Bucket) {
					for i := range 300 {
						if i%25 == 0 {
							sub := mustCreate(t, b, string(key(i)))
							fill(t, sub, size, 20)
							fill(t, mustCreate(t, sub, "subsub"), size, 20)
							continue
						}
						require.NoError(t, b.Put(key(i), filled(50, byte(i))))
					}
				})
				inBucket(t, db, func(b *alder.Bucket) {
					if dirty {
						for _, i := range []int{25, 50, 75} {
							sub := b.Bucket(key(i))
							require.NoError(t, sub.Put([]byte("dirty"), filled(200, 1)))
							require.NoError(t, sub.Bucket([]byte("subsub")).Put([]byte("dirty"), filled(200, 1)))
						}
						fill(t, mustCreate(t, b, "key-00000060/new"), size, 20)
					}
					n, err := b.DeleteRange(key(26), key(75))
					require.NoError(t, err)
					want := uint64(49)
					if dirty {
						want++
					}
					require.Equal(t, want, n)
					require.Nil(t, b.Bucket(key(50)))
					require.NotNil(t, b.Bucket(key(25)))
					require.NotNil(t, b.Bucket(key(75)))
					require.EqualValues(t, 300-49, b.Len())
				})
				db.check()
				readBucket(t, db, func(b *alder.Bucket) {
					require.EqualValues(t, 300-49, b.Len())
					require.Equal(t, dirty, b.Bucket(key(25)).Get([]byte("dirty")) != nil)
					require.Equal(t, dirty, b.Bucket(key(75)).Bucket([]byte("subsub")).Get([]byte("dirty")) != nil)
				})
				inBucket(t, db, func(b *alder.Bucket) {
					n, err := b.DeleteRange(nil, nil)
					require.NoError(t, err)
					require.EqualValues(t, 300-49, n)
				})
				db.check()
			}
		}
		// All that was deleted is free again.
		db.view(func(tx *alder.Tx) {
			s := tx.Bucket([]byte("b")).Stats()
			require.Equal(t, 1, s.BucketN)
			require.Zero(t, s.KeyN)
		})
	})
}

// groupedKeys returns keys in groups of eight that share a random prefix of some length: the separators within a
// group are long, so that branches hold few of them, and the tree is deep.
func groupedKeys(r *rand.Rand, groups, prefix int) []string {
	var keys []string
	for range groups {
		p := make([]byte, prefix)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		for k := range 8 {
			keys = append(keys, string(append(p, byte(k*13), byte(r.Uint32()))))
		}
	}
	slices.Sort(keys)
	return keys
}

// Ensures that ranges cut out of deep trees leave sound ones: cuts through every level, at both edges, wide and
// narrow, in trees that were loaded in order and at random, and that lost keys one by one in between.
func TestBucket_DeleteRange_Deep(t *testing.T) {
	t.Parallel()
	seeds := uint64(24)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 52))
		db := openMemory(t, withDirtyLimit([]int{0, 8192}[seed%2]))
		keys := groupedKeys(r, 100+r.IntN(1000), []int{300, 500, 500, 700}[seed/2%4])
		o := &oracle{}
		put := func(n int) {
			inBucket(t, db, func(b *alder.Bucket) {
				order := r.Perm(len(keys))[:n]
				if r.IntN(3) == 0 {
					slices.Sort(order)
				}
				for _, i := range order {
					v := filled(r.IntN(60), byte(i))
					require.NoError(t, o.put(keys[i], string(v)))
					require.NoError(t, b.Put([]byte(keys[i]), v))
				}
			})
			db.check()
		}
		put(len(keys))
		for step := 0; step < 20 && len(o.entries) > 10; step++ {
			left := len(o.entries)
			i := r.IntN(left)
			j := min(left, i+r.IntN([]int{left, 1000, 200}[r.IntN(3)]))
			switch r.IntN(5) {
			case 0:
				i, j = 0, min(j, left/3)
			case 1:
				j = max(i, left-1-r.IntN(12)) // little is left on its right
			}
			from, to := []byte(o.entries[i].key), []byte(nil)
			if i == 0 {
				from = nil
			}
			if j < left {
				to = []byte(o.entries[j].key)
			}
			inBucket(t, db, func(b *alder.Bucket) {
				want := o.deleteRange(from, to)
				got, err := b.DeleteRange(from, to)
				require.NoError(t, err)
				require.Equal(t, want, got)
			})
			require.NoError(t, db.View(checkTx), "seed %d, step %d: %d of %d keys left", seed, step, len(o.entries), len(keys))
			if r.IntN(3) == 0 {
				put(len(keys) / 4)
			}
			if r.IntN(3) == 0 {
				inBucket(t, db, func(b *alder.Bucket) {
					for _, e := range slices.Clone(o.entries) {
						if r.IntN(10) == 0 {
							require.NoError(t, o.delete(e.key))
							require.NoError(t, b.Delete([]byte(e.key)))
						}
					}
				})
				db.check()
			}
		}
		readBucket(t, db, func(b *alder.Bucket) { requireOracle(t, o, b) })
	}
}

// Ensures that DeleteRange is refused in a read transaction.
func TestBucket_DeleteRange_NotWritable(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 10, 10) })
		readBucket(t, db, func(b *alder.Bucket) {
			n, err := b.DeleteRange(nil, nil)
			require.ErrorIs(t, err, alder.ErrTxNotWritable)
			require.Zero(t, n)
			require.EqualValues(t, 10, b.Len())
		})
	})
}

// Ensures that Len, Count, Rank, At and the iterators stay exact through a long history of puts, deletes,
// ranges, bucket operations and commits.
func TestBucket_Rank_Random(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 12
	}
	eachForm(t, func(t *testing.T, db *testDB) {
		r := rand.New(rand.NewPCG(41, 42))
		o := &oracle{}
		for range rounds {
			rollback := r.IntN(6) == 0
			saved := o.clone()
			tx := db.begin(true)
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			keys := []int{50, 500, 5000}[r.IntN(3)]
			for range r.IntN(400) {
				k := key(r.IntN(keys))
				switch p := r.IntN(100); {
				case p < 60:
					v := filled(r.IntN(200), byte(p))
					require.Equal(t, o.put(string(k), string(v)), b.Put(k, v))
				case p < 80:
					require.Equal(t, o.delete(string(k)), b.Delete(k))
				case p < 90:
					_, want := o.create(string(k))
					_, err := b.CreateBucket(k)
					require.Equal(t, want, err)
				case p < 98:
					require.Equal(t, o.deleteBucket(string(k)), b.DeleteBucket(k))
				default:
					to := key(r.IntN(keys))
					want := o.deleteRange(k, to)
					n, err := b.DeleteRange(k, to)
					require.NoError(t, err)
					require.Equal(t, want, n)
				}
			}
			require.Equal(t, uint64(len(o.entries)), b.Len())
			requireOrder(t, o, b, o.near(r.IntN), o.near(r.IntN))
			if rollback {
				require.NoError(t, tx.Rollback())
				o = saved
			} else {
				require.NoError(t, tx.Commit())
			}
			db.view(func(tx *alder.Tx) {
				b := tx.Bucket([]byte("b"))
				if b == nil {
					require.Empty(t, o.entries)
					return
				}
				requireOracle(t, o, b)
				for range 5 {
					requireOrder(t, o, b, o.near(r.IntN), o.near(r.IntN))
				}
			})
		}
		db.check()
	})
}

// Ensures that every place of a large bucket is found by At and given back by Rank.
func TestBucket_At_All(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		n := 20_000
		if testing.Short() {
			n = 3000
		}
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range n {
				require.NoError(t, b.Put(key(2*i), key(i)))
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			require.EqualValues(t, n, b.Len())
			for i := range n {
				k, v := b.At(uint64(i))
				if string(k) != string(key(2*i)) || string(v) != string(key(i)) {
					t.Fatalf("At(%d) = %q, %q", i, k, v)
				}
				if rank := b.Rank(k); rank != uint64(i) {
					t.Fatalf("Rank(%q) = %d, want %d", k, rank, i)
				}
				if rank := b.Rank(key(2*i + 1)); rank != uint64(i+1) {
					t.Fatalf("Rank(%q) = %d, want %d", key(2*i+1), rank, i+1)
				}
			}
			for _, past := range []uint64{uint64(n), uint64(n) + 1, 1 << 32, 1<<64 - 1} {
				k, v := b.At(past)
				require.Nil(t, k)
				require.Nil(t, v)
			}
			require.EqualValues(t, n, b.Rank([]byte("\xff")))
			require.Zero(t, b.Rank(nil))
		})
	})
}

// Ensures that a key lies in the range from a prefix to its end exactly if it begins with it: all prefixes and keys of up to four of the bytes that matter.
func TestPrefixEnd(t *testing.T) {
	all := [][]byte{{}}
	for shorter := 0; len(all[shorter]) < 4; shorter++ {
		for _, c := range []byte{0, 'a', 0xfe, 0xff} {
			all = append(all, append(bytes.Clone(all[shorter]), c))
		}
	}
	require.Len(t, all, 1+4+16+64+256)
	for _, prefix := range all {
		end := alder.PrefixEnd(prefix)
		for _, key := range all {
			inside := bytes.Compare(key, prefix) >= 0 && (end == nil || bytes.Compare(key, end) < 0)
			if inside != bytes.HasPrefix(key, prefix) {
				t.Fatalf("prefix %q ends at %q, key %q", prefix, end, key)
			}
		}
	}
	require.Nil(t, alder.PrefixEnd(nil))
	require.Nil(t, alder.PrefixEnd([]byte{0xff, 0xff}))
	prefix := []byte{1, 0xff}
	require.Equal(t, []byte{2}, alder.PrefixEnd(prefix))
	require.Equal(t, []byte{1, 0xff}, prefix)
}
