package alder

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// modelRun is a run that snapshots up to last may have.
type modelRun struct {
	freedRun
	last txid
}

// pinModel is what must be pending, told in the simplest way.
type pinModel struct {
	runs    []modelRun
	few     map[txid]bool
	settled map[txid]int
}

// pending is the number of pages that a pinned snapshot has, and forgets the others.
func (m *pinModel) pending() (pages int) {
	var ids []txid
	for id := range m.few {
		ids = append(ids, id)
	}
	for id := range m.settled {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	m.runs = slices.DeleteFunc(m.runs, func(r modelRun) bool {
		i, _ := slices.BinarySearch(ids, r.birth)
		return i == len(ids) || ids[i] > r.last
	})
	for _, r := range m.runs {
		pages += r.n
	}
	return pages
}

// Ensures that a pending run becomes free with the first look after the last snapshot that has it was let go of, and not before, whatever the order in
// which snapshots come and go, with most of them known only by being told of. (Invariant 14)
func TestFreelist_Pins(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		rng := rand.New(rand.NewPCG(seed, 11))
		f := newFreelist(4096, nil)
		f.highWater = 1 << 20
		freed := map[pgid]bool{}
		f.released = func(id pgid) { freed[id] = true }
		pins := pinSet{settled: &settledPins{}}
		m := pinModel{few: map[txid]bool{}, settled: map[txid]int{}}
		next := firstPage
		for tip := txid(2); tip < 400; tip++ {
			m.few = map[txid]bool{tip - 1: true, max(tip/16*16, 1): true}
			for range rng.IntN(3) { // a reader comes, at the newest snapshot, and stays
				m.settled[tip-1]++
				pins.settled.add(tip - 1)
			}
			for id, n := range m.settled {
				for ; n > 0 && rng.IntN(20+int(seed)*2) == 0; n-- {
					pins.settled.remove(id)
				}
				if m.settled[id] = n; n == 0 {
					delete(m.settled, id)
				}
			}
			pins.few = pins.few[:0]
			for id := range m.few {
				pins.few = append(pins.few, id)
			}
			slices.Sort(pins.few)
			pins.gone = pins.settled.takeGone(pins.gone[:0])
			if pages := 1 + rng.IntN(40); rng.IntN(4) == 0 {
				// Not all at once, and a transaction in between.
				more, err := f.unpin(&pins, pages)
				require.NoError(t, err)
				if more {
					require.GreaterOrEqual(t, f.pendingPages, m.pending())
					pins.gone = pins.settled.takeGone(pins.gone[:0])
				}
			}
			unpinAll(t, f, &pins)
			require.Equal(t, m.pending(), f.pendingPages, "seed %d, transaction %d", seed, tip)
			for _, r := range m.runs {
				require.False(t, freed[r.id], "seed %d, transaction %d: page %d is pinned", seed, tip, r.id)
			}
			for range rng.IntN(30) {
				r := freedRun{run{next, 1 + rng.IntN(4)}, txid(1 + rng.IntN(int(tip)))}
				next += pgid(r.n)
				if r.birth <= tip-1 {
					m.runs = append(m.runs, modelRun{r, tip - 1})
				}
				require.NoError(t, f.hold(r, tip-1))
			}
			if rng.IntN(100) == 0 { // the end of the file goes
				end := pgid(rng.IntN(int(next)) + 1)
				f.forgetPending(end)
				m.runs = slices.DeleteFunc(m.runs, func(r modelRun) bool { return r.id >= end })
			}
			checkPending(t, f)
		}
		unpinAll(t, f, &pinSet{few: []txid{9999}, gone: pins.settled.all(nil)})
		require.Zero(t, f.pendingPages)
		require.Empty(t, f.pending.lists)
	}
}

// unpinAll is unpin to the end.
func unpinAll(t testing.TB, f *freelist, pins *pinSet) {
	t.Helper()
	more, err := f.unpin(pins, math.MaxInt)
	require.NoError(t, err)
	require.False(t, more)
}

// checkPending ensures that what is noted of blocks and lists is right, that none is forgotten, and that blocks are not many.
func checkPending(t *testing.T, f *freelist) {
	t.Helper()
	pages, blocks, runs := 0, 0, 0
	for s, l := range f.pending.lists {
		require.NotEmpty(t, l.blocks)
		blocks += len(l.blocks)
		for _, b := range l.blocks {
			runs += len(b.runs)
			for _, r := range b.runs {
				pages += r.n
				if r.birth > s || r.birth > b.young || r.birth > l.young {
					t.Fatalf("run %v on %d, in a block up to %d of a list up to %d", r, s, b.young, l.young)
				}
			}
		}
	}
	require.Equal(t, f.pendingPages, pages)
	require.LessOrEqual(t, blocks, 2*runs/pendingBlockRuns+2*len(f.pending.lists)+20)
}

// Ensures that a look after the pinned snapshots does not take longer for those that stay, or for the runs that wait for them: one that ends, with
// ten thousand that stay and a million runs that older ones have too, costs what a few do.
func TestFreelist_ManyReaders(t *testing.T) {
	const readers, each = 10_000, 100
	h := newHugeMap(t, 2_000_000)
	pins := pinSet{few: []txid{1 << 20}, settled: &settledPins{}}
	for i := range readers {
		id := txid(10 + i)
		pins.settled.add(id)
		for k := range each {
			require.NoError(t, h.f.hold(freedRun{run{pgid(2*(each*i+k) + 1001), 1}, 3}, id)) // the oldest has them too
		}
	}
	look := func() time.Duration {
		start := time.Now()
		pins.gone = pins.settled.takeGone(pins.gone[:0])
		unpinAll(t, h.f, &pins)
		return time.Since(start)
	}
	first := look()
	idle := time.Duration(1 << 62)
	for range 100 {
		idle = min(idle, look())
	}
	// The newest first: all that hangs on each moves to the one before.
	var longest, sum time.Duration
	for i := readers - 1; i > 0; i-- {
		pins.settled.remove(txid(10 + i))
		d := look()
		longest, sum = max(longest, d), sum+d
	}
	require.Equal(t, readers*each, h.f.pendingPages)
	require.Len(t, h.f.pending.lists, 1)
	t.Logf("the first look %v, one at nothing new %v, one after an end %v, at most %v", first, idle, sum/(readers-1), longest)
	require.Less(t, idle, 50*time.Microsecond, "looks at all")
	require.Less(t, sum/(readers-1), 500*time.Microsecond, "moves all")
	pins.settled.remove(10)
	t.Logf("the end of the last, with %d runs: %v", readers*each, look())
	require.Zero(t, h.f.pendingPages)
}

// One operation is what the begin of a write transaction does with many readers that stay, each at a snapshot of its own with pages of its own, of which
// one ends and another comes.
func BenchmarkFreelist_Readers(b *testing.B) {
	for _, readers := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(readers), func(b *testing.B) {
			h := newHugeMap(b, 20_000_000)
			rng := rand.New(rand.NewPCG(1, 10))
			pins := pinSet{few: []txid{1 << 40}, settled: &settledPins{}}
			ids := make([]txid, readers)
			for i := range ids {
				ids[i] = txid(10 + i)
				pins.settled.add(ids[i])
				for k := range 100 {
					require.NoError(b, h.f.hold(freedRun{run{pgid(2*(100*i+k) + 1001), 1}, 3}, ids[i]))
				}
			}
			next := ids[readers-1] + 1
			for b.Loop() {
				i := rng.IntN(readers)
				pins.settled.remove(ids[i])
				ids[i] = next
				pins.settled.add(next)
				next++
				pins.gone = pins.settled.takeGone(pins.gone[:0])
				unpinAll(b, h.f, &pins)
			}
		})
	}
}
