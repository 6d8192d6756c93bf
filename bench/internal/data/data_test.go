package data

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func synthetic(t *testing.T, n int, sorted bool) *Synthetic {
	s, err := NewSynthetic(n, 16, 100, sorted, 1, 0)
	require.NoError(t, err)
	return s
}

// Two sets of the same seed are the same, so every engine's process makes the same records.
func TestSynthetic_SameForAll(t *testing.T) {
	a, b := synthetic(t, 1000, false), synthetic(t, 1000, false)
	for i := range 1000 {
		require.Equal(t, a.Key(i, nil), b.Key(i, nil))
		require.Equal(t, a.Value(i, 3, nil), b.Value(i, 3, nil))
	}
	require.Equal(t, SumOf(a, 0, 1000), SumOf(b, 0, 1000))
	other, err := NewSynthetic(1000, 16, 100, false, 2, 0)
	require.NoError(t, err)
	require.NotEqual(t, a.Key(0, nil), other.Key(0, nil))
}

// The first record is pinned: results of different versions of the harness stay comparable.
func TestSynthetic_Pinned(t *testing.T) {
	s := synthetic(t, 10, false)
	require.Equal(t, "5e41ab087439611e7badd00087a239ee", hex(s.Key(0, nil)))
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var out []byte
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// Keys are distinct, and those of a sorted set ascend.
func TestSynthetic_Keys(t *testing.T) {
	for _, size := range []int{8, 11, 16, 100} {
		random, err := NewSynthetic(20_000, size, 20, false, 7, 0)
		require.NoError(t, err)
		sorted, err := NewSynthetic(20_000, size, 20, true, 7, 0)
		require.NoError(t, err)
		seen := map[string]bool{}
		var last []byte
		for i := range 20_000 {
			key := random.Key(i, nil)
			require.Len(t, key, size)
			require.False(t, seen[string(key)])
			seen[string(key)] = true
			next := sorted.Key(i, nil)
			require.Negative(t, bytes.Compare(last, next))
			last = next
		}
	}
}

// Verify takes every version of a record's value and refuses another record's, a damaged and a cut one.
func TestSynthetic_Verify(t *testing.T) {
	for _, size := range []int{stampSize, 100, largeValue + 1} {
		s, err := NewSynthetic(100, 16, size, false, 1, 0)
		require.NoError(t, err)
		for version := range uint64(3) {
			require.NoError(t, s.Verify(5, s.Value(5, version, nil)))
		}
		require.Error(t, s.Verify(6, s.Value(5, 0, nil)))
		value := s.Value(5, 1, nil)
		require.Error(t, s.Verify(5, value[:len(value)-1]))
		if size > stampSize {
			value[len(value)-1] ^= 1
			require.Error(t, s.Verify(5, value))
		}
	}
}

// A look-up is right only with the record's own value.
func TestCheck(t *testing.T) {
	s := synthetic(t, 100, false)
	var c Check
	s.Expect(3, &c)
	c.See(s.Value(3, 9, nil))
	require.EqualValues(t, 0, c.Wrong())
	c.See(s.Value(4, 0, nil))
	c.See(nil)
	c.See(s.Value(3, 0, nil)[:50])
	require.EqualValues(t, 3, c.Wrong())
	require.EqualValues(t, 4, c.Seen())
}

// A digest tells a set from one with a record missing, doubled or exchanged, and does not depend on the order.
func TestSum(t *testing.T) {
	s := synthetic(t, 100, false)
	sumOf := func(order ...int) (sum Sum) {
		for _, i := range order {
			sum.Add(s.Key(i, nil), s.Value(i, 0, nil))
		}
		return sum
	}
	require.Equal(t, sumOf(1, 2, 3), sumOf(3, 2, 1))
	require.NotEqual(t, sumOf(1, 2, 3), sumOf(1, 2))
	require.NotEqual(t, sumOf(1, 2, 3), sumOf(1, 2, 2))
	require.NotEqual(t, sumOf(1, 2, 3), sumOf(1, 2, 4))
}

// The share that a compressor can remove is as asked for.
func TestSynthetic_Compressible(t *testing.T) {
	for _, share := range []float64{0, 0.5, 1} {
		s, err := NewSynthetic(100, 16, 64*100, false, 1, share)
		require.NoError(t, err)
		zeros := bytes.Count(s.Value(1, 0, nil), []byte{0})
		require.InDelta(t, share*6400, zeros, 100)
	}
	_, err := NewSynthetic(100, 16, 100, false, 1, 1.5)
	require.Error(t, err)
	_, err = NewSynthetic(100, 4, 100, false, 1, 0)
	require.Error(t, err)
}

// A zipfian picker prefers few records, as much as its exponent says; a latest one prefers the last.
func TestPicker_Zipfian(t *testing.T) {
	const n, draws = 1000, 200_000
	counts := func(name string) []int {
		p, err := NewPicker(name, n, 1)
		require.NoError(t, err)
		seen := make([]int, n)
		for range draws {
			i := p.Next()
			require.True(t, i >= 0 && i < n)
			seen[i]++
		}
		return seen
	}
	zipfian := counts("zipfian")
	slices.Sort(zipfian)
	zeta := computeZipf(n).zeta
	require.InEpsilon(t, draws/zeta, zipfian[n-1], 0.1, "the most popular record")
	latest := counts("latest")
	require.InEpsilon(t, draws/zeta, latest[n-1], 0.1, "the last record is the most popular")
	uniform := counts("uniform")
	slices.Sort(uniform)
	require.Less(t, uniform[n-1], 2*draws/n)
}

// The same seed picks the same records, another seed others, and a sequential picker visits all.
func TestPicker_Seeds(t *testing.T) {
	for _, name := range Distributions {
		a, err := NewPicker(name, 1000, 5)
		require.NoError(t, err)
		b, err := NewPicker(name, 1000, 5)
		require.NoError(t, err)
		for range 100 {
			require.Equal(t, a.Next(), b.Next())
		}
	}
	p, err := NewPicker("sequential", 10, 3)
	require.NoError(t, err)
	seen := map[int]bool{}
	for range 10 {
		seen[p.Next()] = true
	}
	require.Len(t, seen, 10)
	_, err = NewPicker("normal", 10, 1)
	require.ErrorContains(t, err, "uniform")
	_, err = NewPicker("uniform", 0, 1)
	require.Error(t, err)
}

// A tree becomes path → content, and its words are counted.
func TestTable(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "a"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "a", "x.go"), []byte("package x // x y_1"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "empty"), nil, 0o644))
	tree, err := Tree(root)
	require.NoError(t, err)
	tree.Sort()
	require.Equal(t, 2, tree.Len())
	require.Equal(t, "a/x.go", string(tree.Key(0, nil)))
	require.NoError(t, tree.Verify(0, []byte("package x // x y_1")))
	require.NotNil(t, tree.Value(1, 0, nil), "an empty value is not a missing one")
	var c Check
	tree.Expect(1, &c)
	c.See([]byte{})
	require.EqualValues(t, 0, c.Wrong())

	words, err := Words(root)
	require.NoError(t, err)
	require.Equal(t, 3, words.Len())
	require.Equal(t, "x", string(words.Key(1, nil)))
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 2}, words.Value(1, 0, nil))
	before := words.Key(0, nil)
	words.Shuffle(1)
	words.Sort()
	require.Equal(t, before, words.Key(0, nil))
	_, err = Tree(filepath.Join(root, "none"))
	require.Error(t, err)
}

// The words of a tree are read once and then found in the cache; half a file there is an error and not half a set.
func TestCachedWords(t *testing.T) {
	root, cache := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "x.go"), []byte("package x // x y_1"), 0o644))
	first, err := CachedWords(root, cache)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(root, "x.go")))
	again, err := CachedWords(root, cache)
	require.NoError(t, err)
	require.Equal(t, first, again)
	path := filepath.Join(cache, "words.gob")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, whole[:len(whole)/2], 0o644))
	_, err = CachedWords(root, cache)
	require.Error(t, err)
	_, err = CachedWords(root, "")
	require.ErrorContains(t, err, "no words")
}

// The first records of a set are a set.
func TestFirst(t *testing.T) {
	set, err := NewSynthetic(100, 16, 100, false, 1, 0)
	require.NoError(t, err)
	part := First(set, 10)
	require.Equal(t, 10, part.Len())
	require.Equal(t, set.Key(7, nil), part.Key(7, nil))
	require.Equal(t, SumOf(set, 0, 10), SumOf(part, 0, 10))
}
