package alder

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

type heldRun struct {
	r     run
	birth txid
}

// Ensures that no page is reused that a pinned snapshot holds, that the map on disk says what is in use after each checkpoint,
// and that undone transactions leave nothing behind: random transactions, lazy and full, over several index pages and levels.
func TestFreelist_Model(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 3; seed++ {
		runFreelistModel(t, seed)
	}
}

func runFreelistModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	ps := 4096
	disk := map[pgid]page{}
	load := func(r pageRef, k pageKind) (page, error) {
		p, ok := disk[r.id]
		if !ok || p.birth() != r.birth || p.kind() != k || !p.sealed() {
			return nil, fmt.Errorf("bad map page %d", r.id)
		}
		return p, nil
	}
	m := meta{pageSize: ps, txid: 1, highWater: initialRoot + 1}
	f := newFreelist(ps, load)
	if err := f.open(&m); err != nil {
		t.Fatal(err)
	}
	live := []heldRun{{run{initialRoot, 1}, 1}} // of the published state; map pages are not among them
	type hist struct {
		heldRun
		freed txid
	}
	var dead []hist // freed objects that may still be pinned
	published, durable := txid(1), txid(1)
	readers := map[txid]int{}
	pinnedNow := func() []txid {
		p := []txid{published, durable}
		for r, n := range readers {
			if n > 0 {
				p = append(p, r)
			}
		}
		slices.Sort(p)
		return slices.Compact(p)
	}
	overlaps := func(a, b run) bool { return a.id < b.id+pgid(b.n) && b.id < a.id+pgid(a.n) }
	big := mapSpan(ps) * mapFanout(ps)
	var mapPagesDead []hist
	lowered, reshaped := 0, 0
	for step := 0; step < 250; step++ {
		// readers
		if rng.IntN(3) == 0 {
			readers[published]++
		}
		for r := range readers {
			if rng.IntN(5) == 0 {
				delete(readers, r)
			}
		}
		pinned := pinnedNow()
		unpinAll(t, f, &pinSet{few: pinned})
		id := published + 1
		w := &txWriter{id: id, highWater: f.highWater}
		mine := []heldRun{}
		kept := slices.Clone(live)
		checkAlloc := func(r run) {
			if r.id < firstPage || r.id+pgid(r.n) > f.highWater {
				t.Fatalf("seed %d: allocated %v past the mark", seed, r)
			}
			for _, o := range append(slices.Clone(kept), mine...) {
				if overlaps(o.r, r) {
					t.Fatalf("seed %d step %d: allocated %v, in use as %v", seed, step, r, o)
				}
			}
			for _, l := range append(slices.Clone(f.levels), f.surplus) {
				for _, p := range l {
					if overlaps(run{p.id, 1}, r) {
						t.Fatalf("seed %d step %d: allocated %v, in use by the map", seed, step, r)
					}
				}
			}
			for _, d := range append(slices.Clone(dead), mapPagesDead...) {
				if !overlaps(d.r, r) {
					continue
				}
				for _, s := range pinned {
					if d.birth <= s && s < d.freed {
						t.Fatalf("seed %d step %d: allocated %v, but %v of %d..%d is pinned by %d (%v)", seed, step, r, d.r, d.birth, d.freed, s, pinned)
					}
				}
			}
		}
		var freedOld []heldRun
		for range rng.IntN(12) {
			switch k := rng.IntN(10); {
			case k < 5 || len(kept) == 0 && len(mine) == 0:
				n := 1
				switch rng.IntN(8) {
				case 0:
					n = 1 + rng.IntN(100)
				case 1:
					n = 1 + rng.IntN(3000)
				case 2:
					if rng.IntN(20) == 0 {
						n = big - rng.IntN(3)*mapSpan(ps) - rng.IntN(4)
					}
				case 3:
					if int(f.highWater) < 2*big && int(f.highWater) > 1000 && rng.IntN(10) == 0 {
						// just to the border
						n = max(1, big-int(f.highWater)%big-rng.IntN(3))
					}
				}
				p, err := f.allocate(n)
				if err != nil {
					t.Fatal(err)
				}
				checkAlloc(run{p, n})
				w.noteChange(run{p, n}, false)
				mine = append(mine, heldRun{run{p, n}, id})
			case k < 7 && len(mine) > 0:
				i := rng.IntN(len(mine))
				w.noteChange(mine[i].r, true)
				if err := f.release(mine[i].r); err != nil {
					t.Fatal(err)
				}
				mine = slices.Delete(mine, i, i+1)
			case len(kept) > 0:
				i := rng.IntN(len(kept))
				o := kept[i]
				w.noteChange(o.r, true)
				w.freed = append(w.freed, freedRun{o.r, o.birth})
				freedOld = append(freedOld, o)
				kept = slices.Delete(kept, i, i+1)
			}
		}
		noteChanges := func(changes []mapChange) {
			if err := f.note(changes); err != nil {
				t.Fatal(err)
			}
		}
		checkpoint := func(T txid, extra []mapChange, fail bool) *mapUpdate {
			mark := f.highWater
			var taken []mapChange
			alloc := func(n int) (pgid, error) {
				p, err := f.allocate(n)
				if err == nil {
					checkAlloc(run{p, n})
					taken = append(taken, mapChange{run{p, n}, false})
				}
				return p, err
			}
			u, err := f.prepare(T, extra, alloc)
			if err != nil {
				t.Fatal(err)
			}
			if fail {
				if err := f.undo(taken, mark); err != nil {
					t.Fatal(err)
				}
				return nil
			}
			for _, p := range u.pages {
				disk[p.id()] = slices.Clone(p)
			}
			return u
		}
		verify := func(u *mapUpdate, T txid, objs []heldRun) {
			g := newFreelist(ps, load)
			mm := meta{highWater: f.highWater, mapRoot: u.levels[len(u.levels)-1][0], mapLevels: len(u.levels), mapFree: u.free}
			if err := g.open(&mm); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			used := int(firstPage)
			for _, o := range objs {
				used += o.r.n
				for _, id := range []pgid{o.r.id, o.r.id + pgid(o.r.n) - 1, o.r.id + pgid(o.r.n/2)} {
					if free, err := g.isFree(id); err != nil || free {
						t.Fatalf("seed %d step %d: page %d in use is free on disk (%v)", seed, step, id, err)
					}
				}
			}
			for _, l := range u.levels {
				used += len(l)
				for _, p := range l {
					if free, err := g.isFree(p.id); err != nil || free {
						t.Fatalf("seed %d step %d: map page %d is free on disk (%v)", seed, step, p.id, err)
					}
				}
			}
			if used+g.free != int(f.highWater) {
				t.Fatalf("seed %d step %d: %d used, %d free, mark %d", seed, step, used, g.free, f.highWater)
			}
		}
		note := func(u *mapUpdate, freed txid) {
			for _, r := range u.freed {
				mapPagesDead = append(mapPagesDead, hist{heldRun{r.run, r.birth}, freed})
			}
		}
		after := append(slices.Clone(kept), mine...)
		publish := func() {
			for _, r := range w.freed {
				if err := f.hold(r, published); err != nil {
					t.Fatal(err)
				}
			}
			for _, o := range freedOld {
				dead = append(dead, hist{o, id})
			}
			published, live = id, after
		}
		switch rng.IntN(6) {
		case 0: // roll back, perhaps after a map was prepared
			if rng.IntN(2) == 0 {
				checkpoint(id, w.changes, true)
			}
			if err := f.undo(w.changes, w.highWater); err != nil {
				t.Fatal(err)
			}
		case 1, 2: // lazy
			noteChanges(w.changes)
			publish()
		case 3: // lazy, then a checkpoint
			noteChanges(w.changes)
			publish()
			pinned = pinnedNow()
			unpinAll(t, f, &pinSet{few: pinned})
			kept, mine = live, nil
			if rng.IntN(2) == 0 { // the store becomes shorter
				before, marks := f.highWater, len(f.levels)
				end, err := f.freeEnd(f.highWater)
				if err != nil {
					t.Fatal(err)
				}
				if err := f.lowerTo(end); err != nil {
					t.Fatal(err)
				}
				if rng.IntN(2) == 0 {
					f.ceiling = pgid(rng.IntN(int(f.highWater) + 1))
				}
				if f.highWater < before {
					lowered++
				}
				if len(f.levels) < marks {
					reshaped++
				}
			}
			if rng.IntN(3) == 0 {
				checkpoint(published, nil, true)
			}
			u := checkpoint(published, nil, false)
			verify(u, published, live)
			note(u, published+1) // readers of published that began before use the tree only, later ones the new map; the old map belongs to durable
			if err := f.adopt(u, published); err != nil {
				t.Fatal(err)
			}
			durable = published
		default:
			u := checkpoint(id, w.changes, false)
			verify(u, id, after)
			note(u, id)
			if err := f.adopt(u, published); err != nil {
				t.Fatal(err)
			}
			publish()
			durable = id
		}
		// What is accounted for in memory.
		n := 0
		for _, o := range live {
			n += o.r.n
		}
		if got := int(f.highWater-firstPage) - f.free - f.pendingPages - f.mapPages(); got != n {
			t.Fatalf("seed %d step %d: %d pages in use by count, %d by model", seed, step, got, n)
		}
		// Reopen now and then.
		if published == durable && rng.IntN(25) == 0 {
			g := newFreelist(ps, load)
			free := uint64(0)
			top := f.levels[len(f.levels)-1][0]
			mm := meta{highWater: f.highWater, mapRoot: top, mapLevels: len(f.levels)}
			for _, r := range f.levels[1] {
				p := disk[r.id]
				for j := range p.count() {
					free += uint64(le.Uint32(p[mapHeader+j*mapEntry+12:]))
				}
			}
			mm.mapFree = free
			if err := g.open(&mm); err != nil {
				t.Fatal(err)
			}
			f = g
			clear(readers)
			dead, mapPagesDead = nil, nil
		}
	}
	t.Logf("seed %d: mark %d, levels %d, %d objects; lowered %d times, %d times with fewer levels", seed, f.highWater, len(f.levels), len(live), lowered, reshaped)
}

// Ensures that every group of cells fits a page under the layout that the group has by itself.
func TestDistribute_Fit(t *testing.T) {
	t.Parallel()
	for seed := uint64(0); seed < 2_000; seed++ {
		rng := rand.New(rand.NewPCG(seed, 1))
		ps := 4096
		if seed%5 == 0 {
			ps = 65536
		}
		room := ps - pageHeader
		var cells []leafCell
		total := room + rng.IntN(2*room)
		style := rng.IntN(6)
		for sum := 0; sum < total; {
			var c leafCell
			switch style {
			case 0:
				c.key = make([]byte, 1+rng.IntN(4))
				c.value = make([]byte, rng.IntN(3))
			case 1:
				c.key = make([]byte, 8)
				c.value = make([]byte, 8)
				if rng.IntN(30) == 0 {
					c.value = make([]byte, maxCell(ps)-5-8)
				}
			case 2:
				c.key = make([]byte, 1+rng.IntN(maxInlineKey(ps)))
				c.value = make([]byte, rng.IntN(maxCell(ps)-5-len(c.key)+1))
			case 3:
				c.key = make([]byte, maxInlineKey(ps))
				c.value = make([]byte, maxCell(ps)-5-len(c.key))
			case 4:
				c.key = make([]byte, 4)
				if rng.IntN(40) == 0 {
					c.key, c.flags = make([]byte, inlinePrefix+refSize), cellOverflowKey
				}
			case 5:
				c.key = make([]byte, 1)
				if rng.IntN(2) == 0 {
					c.value = make([]byte, maxCell(ps)-5-1-rng.IntN(20))
				}
			}
			cells = append(cells, c)
			sum += c.size(leafFlagsMask) + leafSlot
		}
		ends := distribute(nil, cells, room, 1+rng.IntN(3))
		start := 0
		for _, e := range ends {
			if e <= start {
				t.Fatalf("seed %d: empty group in %v", seed, ends)
			}
			if !fits(cells[start:e], room) {
				t.Fatalf("seed %d: group does not fit", seed)
			}
			start = e
		}
		if start != len(cells) {
			t.Fatal("lost cells")
		}
	}
}

// Ensures that every group of branch entries fits a page under its own prefix, has two entries, and reads back as it was built.
func TestDistributeEntries_Fit(t *testing.T) {
	t.Parallel()
	for seed := uint64(0); seed < 5_000; seed++ {
		rng := rand.New(rand.NewPCG(seed, 1))
		ps := 4096
		room := ps - pageHeader
		var entries []branchEntry
		total := room/2 + rng.IntN(2*room)
		style := rng.IntN(5)
		common := make([]byte, 2+rng.IntN(400))
		for sum := 0; sum < total || len(entries) < 2; {
			e := branchEntry{child: pageRef{9, 9}, count: 1}
			switch style {
			case 0:
				e.separator = make([]byte, 1+rng.IntN(6))
			case 1:
				e.separator = append(slices.Clone(common), byte(rng.IntN(256)))
			case 2:
				e.separator = make([]byte, 1+rng.IntN(maxInlineKey(ps)))
				for i := range e.separator {
					e.separator[i] = byte(rng.IntN(256))
				}
			case 3:
				e.separator = make([]byte, inlinePrefix+refSize)
				e.overflow = true
			case 4:
				e.separator = append(slices.Clone(common), byte(rng.IntN(256)))
				if rng.IntN(10) == 0 {
					e.separator = []byte{0xff, 1, 2, 3, 4, 5, 6}
				}
			}
			entries = append(entries, e)
			sum += branchSlot + e.cellSize(0)
		}
		entries[0].separator, entries[0].overflow = nil, false
		// separators must be sorted
		slices.SortFunc(entries[1:], func(a, b branchEntry) int { return slices.Compare(a.separator, b.separator) })
		ends := distributeEntries(entries, room, rng.IntN(2) == 0)
		start := 0
		for _, e := range ends {
			if e-start < 2 && len(entries) > 1 {
				t.Fatalf("seed %d: group of %d in %v of %d", seed, e-start, ends, len(entries))
			}
			if b := branchBytes(entries[start:e]); b > room {
				t.Fatalf("seed %d: group of %d bytes", seed, b)
			}
			q := page(make([]byte, ps))
			q.clearHeader(kindBranch, pageRef{5, 5})
			q.buildBranch(entries[start:e])
			if err := q.validate(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			var arena []byte
			for i := range q.count() {
				var g branchEntry
				g, arena = q.entry(i, arena)
				if i > 0 && (!slices.Equal(g.separator, entries[start+i].separator) || g.overflow != entries[start+i].overflow) {
					t.Fatalf("seed %d: entry %d differs", seed, i)
				}
			}
			start = e
		}
	}
}
