package alder

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// headSets are key sets as lowerHead meets them: spread evenly, and all that interpolation is bad at.
var headSets = map[string]func(rng *rand.Rand, i, n int) uint32{
	"even":        func(rng *rand.Rand, i, n int) uint32 { return rng.Uint32() },
	"exponential": func(rng *rand.Rand, i, n int) uint32 { return uint32(1) << rng.IntN(32) },
	"few":         func(rng *rand.Rand, i, n int) uint32 { return rng.Uint32N(3) * 0x7fffffff },
	"same":        func(rng *rand.Rand, i, n int) uint32 { return 0xdeadbeef },
	"all ones":    func(rng *rand.Rand, i, n int) uint32 { return 1<<32 - 1 - rng.Uint32N(2) },
	"one far off": func(rng *rand.Rand, i, n int) uint32 {
		if i == 0 {
			return 1<<32 - 1
		}
		return rng.Uint32N(1000)
	},
	"two ends": func(rng *rand.Rand, i, n int) uint32 {
		if i%2 == 0 {
			return 1<<32 - 1 - rng.Uint32N(1000)
		}
		return rng.Uint32N(1000)
	},
	"digits": func(rng *rand.Rand, i, n int) uint32 { return 0x30303030 + uint32(i/10)<<8 + uint32(i%10) },
}

// Ensures that the search among heads finds the first that is not smaller, in pages of every size, from every slot on, whatever the heads
// are.
func TestPage_LowerHead(t *testing.T) {
	for name, head := range headSets {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			for n := range 150 {
				heads := make([]uint32, n)
				for i := range heads {
					heads[i] = head(rng, i, n)
				}
				slices.Sort(heads)
				p := page(make([]byte, 4096))
				for i, h := range heads {
					p.setHead(i, h)
				}
				for _, from := range []int{0, 1, n / 2, n} {
					if from > n {
						continue
					}
					ask := []uint32{0, 1, 1<<32 - 1, rng.Uint32()}
					for _, h := range heads {
						ask = append(ask, h-1, h, h+1)
					}
					for _, h := range ask {
						want, _ := slices.BinarySearch(heads[from:], h)
						if got := p.lowerHead(from, n, h); got != from+want {
							t.Fatalf("%d heads, from %d: %#x is at %d, found %d", n, from, h, from+want, got)
						}
					}
				}
			}
		})
	}
}

// countingRuns is a pageReader that has overflow keys and counts how often one is read whole.
type countingRuns struct {
	keys  map[pgid][]byte
	reads int
}

func (c *countingRuns) readPage(pageRef) (page, error) { return nil, errors.New("no pages here") }

func (c *countingRuns) readRun(r overflowRef) ([]byte, error) {
	c.reads++
	return c.keys[r.id], nil
}

// Ensures that among keys that no head tells apart the search compares whole keys no more often than a binary search does; in leaves
// and in branches.
func TestSearch_EqualHeads(t *testing.T) {
	for n := 1; n <= 36; n++ {
		runs := &countingRuns{keys: map[pgid][]byte{}}
		var cells []leafCell
		entries := []branchEntry{{child: pageRef{1000, 1}}}
		for i := range n {
			key := make([]byte, 600)
			binary.BigEndian.PutUint16(key[590:], uint16(2*i+1)) // far behind what is inline
			id := pgid(100 + i)
			runs.keys[id] = key
			stored := append(slices.Clone(key[:inlinePrefix]), make([]byte, refSize)...)
			overflowRef{pageRef{id, 1}, len(key)}.store(stored[inlinePrefix:])
			cells = append(cells, leafCell{key: stored, flags: cellOverflowKey})
			entries = append(entries, branchEntry{separator: stored, overflow: true, child: pageRef{id, 1}})
		}
		leaf, branch := page(make([]byte, 4096)), page(make([]byte, 8192))
		leaf.clearHeader(kindLeaf, pageRef{5, 5})
		leaf.buildLeaf(cells)
		branch.clearHeader(kindBranch, pageRef{6, 5})
		branch.buildBranch(entries)
		for ask := range 2*n + 1 {
			key := make([]byte, 600)
			binary.BigEndian.PutUint16(key[590:], uint16(ask))
			runs.reads = 0
			i, exact, err := searchLeaf(leaf, key, runs)
			require.NoError(t, err)
			require.Equal(t, ask/2, i)
			require.Equal(t, ask%2 == 1, exact)
			require.LessOrEqual(t, runs.reads, bits.Len(uint(n)), "leaf of %d keys", n)
			runs.reads = 0
			i, err = searchBranch(branch, key, runs)
			require.NoError(t, err)
			require.Equal(t, (ask+1)/2, i)
			require.LessOrEqual(t, runs.reads, bits.Len(uint(n)), "branch of %d separators", n)
		}
	}
}
