package alder

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// fillOf returns the share of the leaves of a bucket that cells and their slots take, and the number of leaves.
func fillOf(t *testing.T, db *DB, name string) (fill float64, leaves int) {
	require.NoError(t, db.View(func(tx *Tx) error {
		s := tx.Bucket([]byte(name)).Stats()
		leaves = s.LeafPageN
		fill = float64(s.LeafInuse-leaves*pageHeader) / float64(leaves*(db.PageSize()-pageHeader))
		return nil
	}))
	return fill, leaves
}

// Ensures that leaves are as full as they are said to be, whatever order keys come in, how many a transaction brings, and how large
// values are; and what that costs: pages that are written beyond those that would be anyway.
func TestTree_Fill(t *testing.T) {
	t.Parallel()
	const n = 30_000
	rng := rand.New(rand.NewPCG(7, 7))
	random := func(i int) uint64 { return rng.Uint64() }
	ascending := func(i int) uint64 { return uint64(i) }
	descending := func(i int) uint64 { return uint64(n - i) }
	two := func(i int) uint64 { return uint64(i%2)<<40 + uint64(i) }
	groups := func(i int) uint64 { return uint64(i*7919%100)<<40 + uint64(i) }
	fixed := func(int) int { return 100 }
	mixed := func(int) int { return rng.IntN(300) }
	for _, c := range []struct {
		name  string
		key   func(i int) uint64
		value func(i int) int
		perTx int
		least float64
	}{
		{"random", random, fixed, 1000, 0.78},
		{"random, one per transaction", random, fixed, 1, 0.78},
		{"random, one transaction", random, fixed, n, 0.80},
		{"random, mixed sizes", random, mixed, 1000, 0.76},
		{"ascending", ascending, fixed, 1000, 0.97},
		{"descending", descending, fixed, 1000, 0.97},
		{"two ascending runs", two, fixed, 1000, 0.70},
		{"ascending in a hundred groups", groups, fixed, 1000, 0.70},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := OpenMemory(nil)
			require.NoError(t, err)
			pages, splits := 0, 0
			for i := 0; i < n; {
				require.NoError(t, db.Update(func(tx *Tx) error {
					b, err := tx.CreateBucketIfNotExists([]byte("b"))
					if err != nil {
						return err
					}
					for end := min(i+c.perTx, n); i < end; i++ {
						var key [16]byte
						binary.BigEndian.PutUint64(key[:], c.key(i))
						if err := b.Put(key[:], make([]byte, c.value(i))); err != nil {
							return err
						}
					}
					tx.OnCommit(func() { s := tx.Stats(); pages += int(s.PageCount); splits += int(s.Split) })
					return nil
				}))
			}
			fill, leaves := fillOf(t, db, "b")
			t.Logf("fill %.3f, %d leaves, %d splits, %.3f pages written a put", fill, leaves, splits, float64(pages)/n)
			require.Greater(t, fill, c.least, fmt.Sprint(leaves, " leaves"))
			require.NoError(t, db.View(func(tx *Tx) error {
				for err := range tx.Check() {
					return err
				}
				return nil
			}))
			require.NoError(t, db.Close())
		})
	}
}

// Ensures that entries replaced in place leave a valid page with exactly the entries that a page built anew has, and that what cannot be
// done in place leaves the page as good as before for building it anew.
func TestPage_ReplaceEntries(t *testing.T) {
	inPlace, grown := 0, 0
	for seed := range uint64(4000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		common := make([]byte, rng.IntN(3)*10)
		longest := 1 + rng.IntN(9)
		separators := map[string]bool{}
		want := 3 + rng.IntN(60)
		for len(separators) < want+3 {
			s := append(bytes.Clone(common), make([]byte, 1+rng.IntN(longest))...)
			for i := len(common); i < len(s); i++ {
				s[i] = byte(rng.IntN(256))
			}
			if longest > 1 || len(separators) > 200 {
				s = append(s, byte(len(separators)))
			}
			separators[string(s)] = true
		}
		sorted := slices.Sorted(maps.Keys(separators))
		var entries []branchEntry
		for i := range want + 3 {
			entries = append(entries, branchEntry{separator: []byte(sorted[i]), child: pageRef{pgid(i + 10), txid(i + 1)}, count: uint64(i), refs: i%3 == 0})
		}
		entries[0].separator = nil
		// m of them, from slot i on, are what the page has before; with replaces them.
		m := 1 + rng.IntN(2)
		with := m + rng.IntN(2)
		i := rng.IntN(len(entries) - with)
		before := slices.Concat(entries[:i+1], entries[i+with-m+1:])
		if m == 2 {
			// The separator between the two was another one.
			s := bytes.Clone(entries[i+with-1].separator)
			s[len(s)-1]++
			before[i+1].separator = s
		}
		before = slices.Clone(before)
		before[i].child = pageRef{99, 99}
		before[i].count = 1 << 40

		p := page(make([]byte, 4096))
		p.clearHeader(kindBranch, pageRef{5, 5})
		p.buildBranch(before)
		if !p.replaceEntries(i, m, entries[i:i+with]) {
			continue
		}
		inPlace++
		if with > m {
			grown++
		}
		require.NoError(t, p.validate(), "seed %d", seed)
		require.Equal(t, len(entries), p.count())
		for k := range entries {
			e, _ := p.entry(k, nil)
			require.Equal(t, entries[k], e, "seed %d: entry %d of %d, %d for %d from %d on", seed, k, len(entries), with, m, i)
		}
	}
	require.Greater(t, inPlace, 1000)
	require.Greater(t, grown, 500)
}
