package alder

import (
	"maps"
	"math/bits"
	"slices"
)

// The free map on disk: what the next version says, where its pages go, and how they are filled.

// mapUpdate is a new version of the map on disk, prepared but not yet in force.
type mapUpdate struct {
	levels [][]pageRef
	pages  []page     // to be written, sealed
	freed  []freedRun // pages of the old version
	free   uint64
}

// mapBuild is the state of prepare.
type mapBuild struct {
	f       *freelist
	t       txid
	changes []mapChange
	dirty   []map[int]bool // by level: pages that must be written anew; true once they have their new place
	u       *mapUpdate
}

// prepare makes the map of transaction t, the newest whose changes have been noted, plus extra changes not noted yet. It
// allocates the pages of the new version through alloc, which must be undone by the caller if the update does not come into
// force.
func (f *freelist) prepare(t txid, extra []mapChange, alloc func(n int) (pgid, error)) (*mapUpdate, error) {
	b := &mapBuild{f: f, t: t, changes: slices.Clone(extra), u: &mapUpdate{}}
	if err := b.place(alloc); err != nil {
		return nil, err
	}
	return b.u, b.fill()
}

// place decides which map pages change and gives each a new place. Placing a page changes the map itself, so that this goes
// on until nothing new is touched.
func (b *mapBuild) place(alloc func(n int) (pgid, error)) error {
	f, u := b.f, b.u
	span, fanout := mapSpan(f.pageSize), mapFanout(f.pageSize)
	b.dirty = []map[int]bool{{}}
	mark := func(r run) {
		for i := int(r.id) / span; i <= (int(r.id)+r.n-1)/span; i++ {
			b.touch(0, i)
		}
	}
	for _, c := range b.changes {
		mark(c.run)
	}
	for i := range f.due {
		b.touch(0, i)
	}
	for i := len(f.levelZero()); i*span < int(f.highWater); i++ {
		b.touch(0, i)
	}
	b.leave(mark)
	for {
		shape := mapShape((int(f.highWater)+span-1)/span, fanout)
		for len(b.dirty) < len(shape) {
			b.dirty = append(b.dirty, map[int]bool{})
		}
		moved := false
		for l, size := range shape {
			for len(u.levels) <= l {
				u.levels = append(u.levels, nil)
			}
			if u.levels[l] == nil && l < len(f.levels) {
				u.levels[l] = slices.Clone(f.levels[l])
			}
			for len(u.levels[l]) < size {
				b.touch(l, len(u.levels[l]))
				u.levels[l] = append(u.levels[l], pageRef{})
			}
			// In order, so that the same commit always takes the same pages.
			for _, i := range slices.Sorted(maps.Keys(b.dirty[l])) {
				if l+1 < len(shape) {
					b.touch(l+1, i/fanout)
				}
				if b.dirty[l][i] {
					continue
				}
				id, err := alloc(1)
				if err != nil {
					return err
				}
				moved = true
				b.dirty[l][i] = true
				b.changes = append(b.changes, mapChange{run{id, 1}, false})
				mark(run{id, 1})
				if old := u.levels[l][i]; old.id != 0 {
					b.abandon(old, mark)
				}
				u.levels[l][i] = pageRef{id, b.t}
			}
		}
		if !moved {
			return nil
		}
	}
}

// leave marks the pages that a store which becomes shorter must move, or write with fewer entries, and gives up those that it does not
// need.
func (b *mapBuild) leave(mark func(run)) {
	f := b.f
	for l, refs := range f.levels {
		for i, r := range refs {
			if f.ceiling > 0 && r.id >= f.ceiling || f.reshaped && l > 0 && i == len(refs)-1 {
				b.touch(l, i)
			}
		}
	}
	for _, r := range f.surplus {
		b.abandon(r, mark)
	}
}

// abandon gives a page of the old version up. Behind the high water mark there is nothing to be given back.
func (b *mapBuild) abandon(r pageRef, mark func(run)) {
	if r.id >= b.f.highWater {
		return
	}
	b.u.freed = append(b.u.freed, freedRun{run{r.id, 1}, r.birth})
	b.changes = append(b.changes, mapChange{run{r.id, 1}, true})
	mark(run{r.id, 1})
}

// touch marks a page of the map as one that changes.
func (b *mapBuild) touch(level, i int) {
	for len(b.dirty) <= level {
		b.dirty = append(b.dirty, map[int]bool{})
	}
	if _, ok := b.dirty[level][i]; !ok {
		b.dirty[level][i] = false
	}
}

func (f *freelist) levelZero() []pageRef {
	if len(f.levels) == 0 {
		return nil
	}
	return f.levels[0]
}

// fill writes the pages that place has placed.
func (b *mapBuild) fill() error {
	f, u := b.f, b.u
	span, fanout := mapSpan(f.pageSize), mapFanout(f.pageSize)
	type summary struct{ free, longest int }
	sums := map[int]summary{}
	byChunk := map[int][]mapChange{}
	for _, c := range b.changes {
		for i := int(c.id) / span; i <= (int(c.id)+c.n-1)/span; i++ {
			byChunk[i] = append(byChunk[i], c)
		}
	}
	for _, i := range slices.Sorted(maps.Keys(b.dirty[0])) {
		// What is loaded later comes from the old version; what has pending pages must be loaded before the new
		// version, in which they are free, comes into force.
		if _, err := f.chunk(i); err != nil {
			return err
		}
		words, ok := slices.Clone(f.due[i]), f.due[i] != nil
		if !ok {
			var err error
			if words, err = f.diskWords(i); err != nil {
				return err
			}
		}
		for _, c := range byChunk[i] {
			c.apply(words, i, span)
		}
		p := page(make([]byte, f.pageSize))
		p.clearHeader(kindMapBits, u.levels[0][i])
		n := 0
		for w, word := range words {
			le.PutUint64(p[mapHeader+8*w:], word)
			n += bits.OnesCount64(word)
		}
		sums[i] = summary{n, span}
		p.seal()
		u.pages = append(u.pages, p)
	}
	for l := 1; l < len(u.levels); l++ {
		for _, i := range slices.Sorted(maps.Keys(b.dirty[l])) {
			p := page(make([]byte, f.pageSize))
			p.clearHeader(kindMapIndex, u.levels[l][i])
			lo := i * fanout
			n := min(fanout, len(u.levels[l-1])-lo)
			p.setCount(n)
			var old page
			if l == 1 && l < len(f.levels) && i < len(f.levels[l]) {
				var err error
				if old, err = f.load(f.levels[l][i], kindMapIndex); err != nil {
					return err
				}
			}
			for j := range n {
				e := p[mapHeader+j*mapEntry:]
				store48(e, uint64(u.levels[l-1][lo+j].id))
				store48(e[6:], uint64(u.levels[l-1][lo+j].birth))
				if l > 1 {
					continue
				}
				if s, ok := sums[lo+j]; ok {
					le.PutUint32(e[12:], uint32(s.free))
					le.PutUint32(e[16:], uint32(s.longest))
				} else {
					copy(e[12:mapEntry], old[mapHeader+j*mapEntry+12:mapHeader+(j+1)*mapEntry])
				}
				u.free += uint64(le.Uint32(e[12:]))
			}
			p.seal()
			u.pages = append(u.pages, p)
		}
	}
	// Index pages that did not change count too.
	if len(u.levels) > 1 {
		for i, r := range u.levels[1] {
			if _, ok := b.dirty[1][i]; ok {
				continue
			}
			p, err := f.load(r, kindMapIndex)
			if err != nil {
				return err
			}
			for j := range p.count() {
				u.free += uint64(le.Uint32(p[mapHeader+j*mapEntry+12:]))
			}
		}
	}
	return nil
}

// diskWords reads the bits of chunk i as the map on disk has them.
func (f *freelist) diskWords(i int) ([]uint64, error) {
	words := make([]uint64, mapSpan(f.pageSize)/64)
	if i >= len(f.levelZero()) {
		return words, nil
	}
	p, err := f.load(f.levels[0][i], kindMapBits)
	if err != nil {
		return nil, err
	}
	for w := range words {
		words[w] = le.Uint64(p[mapHeader+8*w:])
	}
	return words, nil
}

// apply changes the bits of chunk i.
func (c mapChange) apply(words []uint64, i, span int) {
	lo, hi := max(int(c.id), i*span), min(int(c.id)+c.n, (i+1)*span)
	for id := lo; id < hi; id++ {
		if c.free {
			words[id%span/64] |= 1 << (uint(id) % 64)
		} else {
			words[id%span/64] &^= 1 << (uint(id) % 64)
		}
	}
}

// note adds the changes of a transaction that has been committed without a checkpoint.
func (f *freelist) note(changes []mapChange) error {
	span := mapSpan(f.pageSize)
	var words []uint64
	at := -1 // the chunk that they belong to
	for _, c := range changes {
		for i := int(c.id) / span; i <= (int(c.id)+c.n-1)/span; i++ {
			if i != at {
				if words = f.due[i]; words == nil {
					var err error
					if words, err = f.diskWords(i); err != nil {
						return err
					}
					f.due[i] = words
				}
				at = i
			}
			c.apply(words, i, span)
		}
	}
	return nil
}

func (f *freelist) markChunks(chunks map[int]bool, changes []mapChange) {
	span := mapSpan(f.pageSize)
	for _, c := range changes {
		for i := int(c.id) / span; i <= (int(c.id)+c.n-1)/span; i++ {
			chunks[i] = true
		}
	}
}

// updatePagesAtMost is a number of pages that suffices for the update of a map that has changed everywhere.
func (f *freelist) updatePagesAtMost() int {
	all := (int(f.highWater)+mapSpan(f.pageSize)-1)/mapSpan(f.pageSize) + 1
	return 4*all + maxMapLevels
}

// updatePages is a number of pages that always suffices for the update of the map that is due, with extra changes.
func (f *freelist) updatePages(extra []mapChange) int {
	chunks := map[int]bool{}
	f.markChunks(chunks, extra)
	d := len(chunks) + len(f.due)
	// Each page that is placed may change another chunk, each chunk lies below one index page of each level, and the map may
	// have to grow by a page of each level for the pages that it takes itself.
	all := (int(f.highWater)+mapSpan(f.pageSize)-1)/mapSpan(f.pageSize) + 1
	return min(4*d+2, all)*2 + maxMapLevels
}

// adopt makes u the map on disk; the pages of the old version are pending until newest is let go.
func (f *freelist) adopt(u *mapUpdate, newest txid) error {
	f.levels = u.levels
	clear(f.due)
	f.ceiling, f.surplus, f.reshaped = 0, nil, false
	for _, r := range u.freed {
		if err := f.hold(r, newest); err != nil {
			return err
		}
	}
	return nil
}

// mapPages is the number of pages of the map on disk.
func (f *freelist) mapPages() int {
	n := len(f.surplus)
	for _, l := range f.levels {
		n += len(l)
	}
	return n
}
