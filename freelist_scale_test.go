package alder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A store as large as one likes, as far as the freelist knows: every other page is free, and the pages of its map are made when they are
// loaded. What is measured is what the freelist does in memory and which pages it asks for, not a disk.
type hugeMap struct {
	f     *freelist
	disk  map[pgid]page // what has been written since
	loads int
}

const hugePageSize = 4096

// newHugeMap makes a freelist with about the given number of free pages.
func newHugeMap(t testing.TB, free int) *hugeMap {
	t.Helper()
	h := &hugeMap{disk: map[pgid]page{}}
	span, fanout := mapSpan(hugePageSize), mapFanout(hugePageSize)
	chunks := (2*free + span - 1) / span
	chunks = max(chunks, 1)
	shape := mapShape(chunks, fanout)
	highWater := pgid(chunks * span)
	// The map's own pages are among those in use, which have odd numbers.
	first := make([]pgid, len(shape))
	next := pgid(firstPage) | 1
	for l, n := range shape {
		first[l] = next
		next += pgid(2 * n)
	}
	bitsFree := span / 2
	if free == 0 {
		bitsFree = 0
	}
	freeIn := func(i int) int {
		if i == 0 && bitsFree > 0 {
			return bitsFree - 2 // pages 0 and 2 are never free
		}
		return bitsFree
	}
	total := 0
	for i := range chunks {
		total += freeIn(i)
	}
	make48 := func(e []byte, id pgid) {
		store48(e, uint64(id))
		store48(e[6:], 1)
	}
	load := func(r pageRef, k pageKind) (page, error) {
		h.loads++
		if p := h.disk[r.id]; p != nil {
			return p, nil
		}
		l := slices.IndexFunc(first, func(id pgid) bool { return r.id < id }) - 1
		if l < 0 {
			l = len(first) - 1
		}
		i := int(r.id-first[l]) / 2
		p := make(page, hugePageSize)
		p.clearHeader(k, r)
		if l == 0 {
			for w := 0; w < span/64 && bitsFree > 0; w++ {
				le.PutUint64(p[mapHeader+8*w:], 0x5555555555555555)
			}
			if i == 0 && bitsFree > 0 {
				le.PutUint64(p[mapHeader:], 0x5555555555555555&^0b101)
			}
			return p, nil
		}
		n := min(fanout, shape[l-1]-i*fanout)
		p.setCount(n)
		for j := range n {
			e := p[mapHeader+j*mapEntry:]
			make48(e, first[l-1]+pgid(2*(i*fanout+j)))
			if l == 1 {
				le.PutUint32(e[12:], uint32(freeIn(i*fanout+j)))
				le.PutUint32(e[16:], 1)
			}
		}
		return p, nil
	}
	h.f = newFreelist(hugePageSize, load)
	top := len(shape) - 1
	m := meta{pageSize: hugePageSize, txid: 1, highWater: highWater, mapRoot: pageRef{first[top], 1}, mapLevels: len(shape), mapFree: uint64(total)}
	require.NoError(t, h.f.open(&m))
	return h
}

// commit does for transaction id what the pager asks of the freelist: some pages taken and as many given up, all over the store.
func (h *hugeMap) commit(t testing.TB, rng *rand.Rand, id txid, pinned []txid) {
	f := h.f
	unpinAll(t, f, &pinSet{few: pinned})
	var changes []mapChange
	for range 5 {
		p, err := f.allocate(1)
		require.NoError(t, err)
		changes = append(changes, mapChange{run{p, 1}, false})
	}
	var freed []freedRun
	for range 5 {
		p := pgid(rng.Int64N(int64(f.highWater)/2-1000))*2 + 1001
		freed = append(freed, freedRun{run{p, 1}, 1})
		changes = append(changes, mapChange{run{p, 1}, true})
	}
	require.NoError(t, f.note(changes))
	for _, r := range freed {
		require.NoError(t, f.hold(r, id-1))
	}
}

// checkpoint writes the map of transaction id.
func (h *hugeMap) checkpoint(t testing.TB, id txid) (pages int) {
	u, err := h.f.prepare(id, nil, h.f.allocate)
	require.NoError(t, err)
	for _, p := range u.pages {
		h.disk[p.id()] = p
	}
	require.NoError(t, h.f.adopt(u, id))
	return len(u.pages)
}

// Ensures that what a commit costs does not depend on how many pages are free, up to a hundred million (a store of 800 GB): it loads
// no more pages of the map than it changes, and its time stays what it is; and that an open reads only the index of the map.
func TestFreelist_Huge(t *testing.T) {
	type cost struct {
		open, commit  time.Duration
		loads, chunks int
	}
	measure := func(free, commits int) (c cost) {
		rng := rand.New(rand.NewPCG(1, 5))
		start := time.Now()
		h := newHugeMap(t, free)
		c.open, c.chunks = time.Since(start), len(h.f.chunks)
		require.LessOrEqual(t, h.loads, 2+c.chunks/mapFanout(hugePageSize)*2, "an open reads the index")
		h.loads = 0
		start = time.Now()
		for i := range commits {
			id := txid(i + 2)
			h.commit(t, rng, id, []txid{id - 1})
		}
		c.commit, c.loads = time.Since(start)/time.Duration(commits), h.loads
		return c
	}
	commits := 20_000
	if testing.Short() {
		commits = 4000
	}
	small, large := measure(1_000_000, commits), measure(100_000_000, commits)
	t.Logf("1 M free: open %v, commit %v, %d pages of the map loaded; 100 M free: open %v, commit %v, %d pages loaded",
		small.open, small.commit, small.loads, large.open, large.commit, large.loads)
	require.LessOrEqual(t, large.loads, 2*large.chunks, "each page of the map is read once to be changed, and once for the next map")
	// Each of the commits touches five random chunks. With few chunks they are all in memory soon; with many, a part of the commits makes
	// copies. A walk over all chunks in each commit would take a millisecond and more, on any machine.
	if !testing.Short() {
		require.Less(t, large.commit, 10*small.commit+time.Millisecond)
	}
}

// Ensures that pages which an old reader holds cost nothing while it stays, however many they are, and that each is looked at once when
// it ends.
func TestFreelist_OldReader(t *testing.T) {
	const old = 1_000_000
	h := newHugeMap(t, 2_000_000)
	f := h.f
	for i := range old {
		require.NoError(t, f.hold(freedRun{run{pgid(2*i + 1001), 1}, 3}, 5)) // the reader's snapshot is 5
	}
	rng := rand.New(rand.NewPCG(1, 6))
	start := time.Now()
	const commits = 2000
	for i := range commits {
		id := txid(i + 10)
		h.commit(t, rng, id, []txid{5, id - 1})
	}
	beside := time.Since(start) / commits
	// What the commits gave up was born at 1, before the reader began: it is the reader's too.
	require.Equal(t, old+5*commits, f.pendingPages)
	start = time.Now()
	unpinAll(t, f, &pinSet{few: []txid{9999}})
	t.Logf("a commit beside %d pending pages: %v; the end of the reader: %v", old, beside, time.Since(start))
	require.Less(t, beside, 2*time.Millisecond, "a look at a million pages takes longer")
	require.Zero(t, f.pendingPages)
	require.Empty(t, f.pending.lists)
}

func BenchmarkFreelist_Commit(b *testing.B) {
	for _, free := range []int{0, 500_000, 10_000_000, 100_000_000} {
		b.Run(fmt.Sprintf("free=%d", free), func(b *testing.B) {
			h := newHugeMap(b, free)
			rng := rand.New(rand.NewPCG(1, 7))
			// All of the map in memory, as after a while.
			for i := range h.f.chunks {
				_, err := h.f.chunk(i)
				require.NoError(b, err)
			}
			id := txid(1)
			for b.Loop() {
				id++
				h.commit(b, rng, id, []txid{id - 1})
				if len(h.f.due) > 500 {
					b.StopTimer()
					h.checkpoint(b, id)
					b.StartTimer()
				}
			}
		})
	}
}

// One operation is a checkpoint after ten commits.
func BenchmarkFreelist_Checkpoint(b *testing.B) {
	for _, free := range []int{500_000, 10_000_000, 100_000_000} {
		b.Run(fmt.Sprintf("free=%d", free), func(b *testing.B) {
			h := newHugeMap(b, free)
			rng := rand.New(rand.NewPCG(1, 8))
			id, pages, n := txid(1), 0, 0
			for b.Loop() {
				b.StopTimer()
				for range 10 {
					id++
					h.commit(b, rng, id, []txid{id - 1})
				}
				b.StartTimer()
				pages += h.checkpoint(b, id)
				n++
			}
			b.ReportMetric(float64(pages)/float64(n), "pages/op")
		})
	}
}

// One operation is a search for a run of pages in vain, where every other page is free.
func BenchmarkFreelist_FindRun(b *testing.B) {
	for _, free := range []int{500_000, 100_000_000} {
		b.Run(fmt.Sprintf("free=%d", free), func(b *testing.B) {
			h := newHugeMap(b, free)
			for b.Loop() {
				id, err := h.f.findRun(10)
				require.NoError(b, err)
				require.Zero(b, id)
			}
		})
	}
}

// Ensures that looking for runs of free pages that are worth a hole reads no part of the map whose summary says that it has none: in a store of
// a terabyte with scattered free pages they are thousands, and the writer lock is held meanwhile.
func TestFreelist_NextFree_Scattered(t *testing.T) {
	h := newHugeMap(t, 1_000_000)
	span := mapSpan(hugePageSize)
	require.Greater(t, len(h.f.chunks), 50)
	before := h.loads
	r, err := h.f.nextFree(firstPage, h.f.highWater, 2, false)
	require.NoError(t, err)
	require.Zero(t, r.n)
	require.Equal(t, before, h.loads)

	// One that there is, in the middle, is found, and nothing else is read for it.
	page := pgid(40*span + 1001)
	require.NoError(t, h.f.release(run{page, 1}))
	before = h.loads
	r, err = h.f.nextFree(firstPage, h.f.highWater, 2, false)
	require.NoError(t, err)
	require.Equal(t, run{page - 1, 3}, r)
	require.Equal(t, before, h.loads)
}
