package engine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder/bench/internal/data"
)

// Every adapter keeps the contract that the workloads build on; each test runs on all that can run here.
func eachEngine(t *testing.T, test func(t *testing.T, e *Engine)) {
	for _, e := range All() {
		t.Run(e.Name, func(t *testing.T) {
			if why := e.Missing(); why != "" {
				t.Skip(why)
			}
			if e.Open == nil || e.Bare {
				t.Skip("holds no records of its own")
			}
			test(t, e)
		})
	}
}

func open(t *testing.T, e *Engine, dir string, durability Durability) Store {
	store, err := e.Open(Config{Dir: dir, Durability: durability, CacheBytes: 8 << 20, MapBytes: 1 << 30})
	require.NoError(t, err)
	return store
}

const records = 3000

func testSet(t *testing.T) *data.Synthetic {
	set, err := data.NewSynthetic(records, 16, 100, false, 1, 0)
	require.NoError(t, err)
	return set
}

// fill loads the set, 500 records per transaction, using the same buffers again and again.
func fill(t *testing.T, store Store, set data.Set) {
	w, err := store.Writer()
	require.NoError(t, err)
	var key, value []byte
	for i := 0; i < set.Len(); {
		require.NoError(t, w.Begin())
		for range 500 {
			key, value = set.Key(i, key), set.Value(i, 0, value)
			require.NoError(t, w.Put(key, value))
			i++
		}
		require.NoError(t, w.Commit())
	}
	require.NoError(t, w.Close())
}

// What is put is found, by itself and in a transaction, in order and in reverse, also after reopening.
func TestEngine_PutAndRead(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *Engine) {
		dir, set := t.TempDir(), testSet(t)
		store := open(t, e, dir, Lazy)
		fill(t, store, set)
		verify(t, store, set)
		require.NoError(t, store.Sync())
		if s, ok := store.(Settler); ok {
			require.NoError(t, s.Settle())
		}
		require.NoError(t, store.Close())
		store = open(t, e, dir, Full)
		verify(t, store, set)
		require.NoError(t, store.Close())
	})
}

func verify(t *testing.T, store Store, set data.Set) {
	r, err := store.Reader()
	require.NoError(t, err)
	var check data.Check
	for i := 0; i < set.Len(); i += 7 {
		set.Expect(i, &check)
		require.NoError(t, r.Once(set.Key(i, nil), &check))
	}
	require.NoError(t, r.Begin())
	for i := 0; i < set.Len(); i += 5 {
		set.Expect(i, &check)
		require.NoError(t, r.Get(set.Key(i, nil), &check))
	}
	require.Zero(t, check.Wrong())
	for _, reverse := range []bool{false, true} {
		var sum data.Sum
		require.NoError(t, r.Scan(nil, 0, reverse, &sum))
		require.Equal(t, data.SumOf(set, 0, set.Len()), sum)
	}
	var keys [][]byte
	require.NoError(t, r.Visit(nil, func(k, v []byte) bool {
		keys = append(keys, append([]byte(nil), k...))
		return true
	}))
	verifyRanges(t, r, set, keys)
	require.NoError(t, r.End())
	require.NoError(t, r.Close())
}

// verifyRanges compares scans from a key with the list of all keys in order.
func verifyRanges(t *testing.T, r Reader, set data.Set, keys [][]byte) {
	require.Len(t, keys, set.Len())
	for _, at := range []int{0, 1, 1000, len(keys) - 1} {
		if at > 0 {
			require.Less(t, string(keys[at-1]), string(keys[at]))
		}
		var ahead, back data.Sum
		require.NoError(t, r.Scan(keys[at], 20, false, &ahead))
		require.EqualValues(t, min(20, len(keys)-at), ahead.Count)
		require.NoError(t, r.Scan(keys[at], 20, true, &back))
		require.EqualValues(t, min(20, at+1), back.Count)
		between := append(append([]byte(nil), keys[at]...), 0) // sorts right behind the key
		back = data.Sum{}
		require.NoError(t, r.Scan(between, 1, true, &back))
		require.EqualValues(t, 1, back.Count)
		first := []byte(nil)
		require.NoError(t, r.Visit(between, func(k, _ []byte) bool {
			first = append(first, k...)
			return false
		}))
		if at+1 < len(keys) {
			require.Equal(t, keys[at+1], first)
		} else {
			require.Empty(t, first)
		}
	}
	if c, ok := r.(Counter); ok {
		n, err := c.Count(keys[100], keys[300])
		require.NoError(t, err)
		require.EqualValues(t, 200, n)
		key, err := c.At(123)
		require.NoError(t, err)
		require.Equal(t, keys[123], key)
	}
	if m, ok := r.(MultiGetter); ok {
		wanted, checks := make([][]byte, 16), make([]data.Check, 16)
		for i := range wanted {
			wanted[i] = set.Key(i*3, nil)
			set.Expect(i*3, &checks[i])
		}
		require.NoError(t, m.GetMulti(wanted, checks))
		for i := range checks {
			require.EqualValues(t, 1, checks[i].Seen())
			require.Zero(t, checks[i].Wrong())
		}
	}
}

// A missing key is seen as nil, which is a wrong answer.
func TestEngine_Missing(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *Engine) {
		set := testSet(t)
		store := open(t, e, t.TempDir(), Full)
		r, err := store.Reader()
		require.NoError(t, err)
		var check data.Check
		set.Expect(0, &check)
		require.NoError(t, r.Once(set.Key(0, nil), &check))
		require.NoError(t, r.Begin())
		require.NoError(t, r.Get(set.Key(0, nil), &check))
		require.NoError(t, r.End())
		require.EqualValues(t, 2, check.Wrong())
		require.NoError(t, r.Close())
		require.NoError(t, store.Close())
	})
}

// A single put overwrites, a rollback drops, a delete removes.
func TestEngine_Write(t *testing.T) {
	eachEngine(t, func(t *testing.T, e *Engine) {
		set := testSet(t)
		store := open(t, e, t.TempDir(), Full)
		w, err := store.Writer()
		require.NoError(t, err)
		require.NoError(t, w.Once(set.Key(1, nil), set.Value(2, 0, nil)))
		require.NoError(t, w.Once(set.Key(1, nil), set.Value(1, 5, nil)))
		require.NoError(t, w.Begin())
		require.NoError(t, w.Put(set.Key(3, nil), set.Value(3, 0, nil)))
		require.NoError(t, w.Rollback())
		require.NoError(t, w.Once(set.Key(4, nil), set.Value(4, 0, nil)))
		require.NoError(t, w.Begin())
		require.NoError(t, w.Delete(set.Key(4, nil)))
		require.NoError(t, w.Commit())
		require.NoError(t, w.Close())

		r, err := store.Reader()
		require.NoError(t, err)
		require.NoError(t, r.Begin())
		n := 0
		require.NoError(t, r.Visit(nil, func(k, v []byte) bool {
			n++
			require.Equal(t, set.Key(1, nil), k)
			require.NoError(t, set.Verify(1, v))
			return true
		}))
		require.Equal(t, 1, n)
		require.NoError(t, r.End())
		require.NoError(t, r.Close())
		require.NoError(t, store.Close())
	})
}

// An arena keeps values apart, whatever their sizes, and uses its memory again.
func TestArena(t *testing.T) {
	var a arena
	for range 3 {
		a.reset()
		var kept [][]byte
		for i := range 5000 {
			value := make([]byte, 1+i%1000)
			value[0] = byte(i)
			kept = append(kept, a.keep(value))
			value[0] = 255
		}
		for i, v := range kept {
			require.Equal(t, byte(i), v[0])
			require.Len(t, v, 1+i%1000)
		}
		require.Len(t, a.chunks, 3)
	}
	require.Len(t, a.keep(make([]byte, arenaChunk)), arenaChunk)
}

// Reasons pass through wrapping, other errors are none.
func TestReason(t *testing.T) {
	reason, ok := Reason(NA("no %s", "such thing"))
	require.True(t, ok)
	require.Equal(t, "no such thing", reason)
	_, ok = Reason(nil)
	require.False(t, ok)
	_, err := Find("nosuch")
	require.ErrorContains(t, err, "alder")
}
