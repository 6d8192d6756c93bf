package alder

import (
	"math/bits"
	"slices"
)

// The freelist knows which pages below the high water mark are in use, free, or pending: freed, but still part of a snapshot that
// somebody may read. It does not know what pages hold, and it does no I/O: it reads its on-disk form through a function
// and hands new map pages to its caller.
//
// freelist_pending.go has the pending ones.
//
// In memory and on disk the free pages are a bitmap in chunks, one chunk for each page of the on-disk map, loaded when first
// needed. On disk, pages of map bits are the leaves of a small tree of index pages; only what changed is written anew, to new
// places, at a checkpoint. The map of checkpoint T describes T: what is pending there is free in the map.

// run is n consecutive pages.
type run struct {
	id pgid
	n  int
}

// freedRun is a run that a transaction gave up, with the transaction that had written it.
type freedRun struct {
	run
	birth txid
}

// mapChange is one step from the map on disk to the map of the next checkpoint.
type mapChange struct {
	run
	free bool
}

// mapChunk is the part of the map that one page of map bits describes.
type mapChunk struct {
	words   []uint64 // bit set: page can be allocated; nil: not loaded, and as on disk
	free    int      // bits set
	longest int      // no run of free pages inside the chunk is longer
	hint    int      // no word below has a bit set
	bare    []uint64 // free pages without blocks of their own; nil: none
}

// freelist is guarded by the writer lock, but for the counters of Stats, which the pager copies out at each publish.
type freelist struct {
	pageSize int
	load     func(pageRef, pageKind) (page, error) // reads a page of the map on disk
	released func(pgid)                            // told of pages that become free; may be nil

	chunks    []mapChunk
	hint      int         // no chunk below has a free page
	free      int         // pages that can be allocated
	highWater pgid        // first page never allocated
	levels    [][]pageRef // where the map is on disk: level 0 are the pages of bits, the last has one page, the root

	pending      pendingRuns
	retainedRuns []freedRun // pending ones that the log refers to
	pendingPages int        // of both
	holes        holes
	backlog      bool // some pages are only pending because freeing them all at once would take long

	due map[int][]uint64 // bits, as the map of the next checkpoint has them, of chunks that have changed since the map on disk

	// Of a store that becomes shorter:
	ceiling  pgid      // the next map has no pages from here on; 0: anywhere
	surplus  []pageRef // pages of the map on disk that the next one does not need
	reshaped bool      // the last index pages have fewer entries than on disk
}

const (
	mapHeader = 64 // bytes of a map page before its payload
	mapEntry  = 20 // index entry: pgid and birth 48 bits each, free pages and longest run 32 bits each
)

// mapSpan is the number of pages that one page of map bits describes.
func mapSpan(pageSize int) int { return (pageSize - mapHeader) * 8 }

// mapFanout is the number of entries of a map index page.
func mapFanout(pageSize int) int { return (pageSize - mapHeader) / mapEntry }

func newFreelist(pageSize int, load func(pageRef, pageKind) (page, error)) *freelist {
	return &freelist{pageSize: pageSize, load: load, highWater: firstPage, due: map[int][]uint64{}}
}

// ---- loading

// open reads the index pages of the map of m; the bits are read when needed.
func (f *freelist) open(m *meta) error {
	f.highWater = m.highWater
	span, fanout := mapSpan(f.pageSize), mapFanout(f.pageSize)
	want := (int(m.highWater) + span - 1) / span
	sizes := mapShape(want, fanout)
	if m.mapLevels == 0 { // a new store, in which nothing is free
		_, err := f.chunk(want - 1)
		return err
	}
	if len(sizes) != m.mapLevels {
		return corrupt(m.mapRoot.id, "free map has %d levels, %d pages need %d", m.mapLevels, m.highWater, len(sizes))
	}
	f.levels = make([][]pageRef, len(sizes))
	f.levels[len(sizes)-1] = []pageRef{m.mapRoot}
	f.chunks = make([]mapChunk, want)
	for l := len(sizes) - 1; l > 0; l-- {
		f.levels[l-1] = make([]pageRef, sizes[l-1])
		for i, r := range f.levels[l] {
			p, err := f.load(r, kindMapIndex)
			if err != nil {
				return err
			}
			if err := f.readIndex(p, l, i); err != nil {
				return err
			}
		}
	}
	for i := range f.chunks {
		f.free += f.chunks[i].free
	}
	if uint64(f.free) != m.mapFree {
		return corrupt(m.mapRoot.id, "free map counts %d free pages, the meta page %d", f.free, m.mapFree)
	}
	return nil
}

// readIndex reads index page i of level l.
func (f *freelist) readIndex(p page, l, i int) error {
	fanout := mapFanout(f.pageSize)
	below := f.levels[l-1]
	lo := i * fanout
	n := min(fanout, len(below)-lo)
	if p.count() != n {
		return corrupt(p.id(), "map index has %d entries, must have %d", p.count(), n)
	}
	for j := range n {
		e := p[mapHeader+j*mapEntry:]
		below[lo+j] = pageRef{pgid(load48(e)), txid(load48(e[6:]))}
		if l == 1 {
			c := &f.chunks[lo+j]
			c.free, c.longest = int(le.Uint32(e[12:])), int(le.Uint32(e[16:]))
			if c.free > mapSpan(f.pageSize) {
				return corrupt(p.id(), "map index entry %d: %d free pages in %d", j, c.free, mapSpan(f.pageSize))
			}
		}
	}
	return nil
}

// mapShape is the number of pages of each level of a map with n pages of bits; the levels above level 0 are index pages, at
// least one.
func mapShape(n, fanout int) []int {
	sizes := []int{n}
	for {
		n = (n + fanout - 1) / fanout
		sizes = append(sizes, n)
		if n == 1 {
			return sizes
		}
	}
}

// chunk returns chunk i with its bits in memory.
func (f *freelist) chunk(i int) (*mapChunk, error) {
	for len(f.chunks) <= i {
		f.chunks = append(f.chunks, mapChunk{words: make([]uint64, mapSpan(f.pageSize)/64)})
	}
	c := &f.chunks[i]
	if c.words != nil {
		return c, nil
	}
	p, err := f.load(f.levels[0][i], kindMapBits)
	if err != nil {
		return nil, err
	}
	words := make([]uint64, mapSpan(f.pageSize)/64)
	n := 0
	for w := range words {
		words[w] = le.Uint64(p[mapHeader+8*w:])
		n += bits.OnesCount64(words[w])
	}
	if n != c.free {
		return nil, corrupt(p.id(), "map page has %d free pages, its index says %d", n, c.free)
	}
	if err := f.checkChunk(i, words, p.id()); err != nil {
		return nil, err
	}
	c.words = words
	if f.holes.onLoad {
		c.bare = slices.Clone(words)
	}
	return c, nil
}

// checkChunk refuses map bits that would hand out pages that are never free.
func (f *freelist) checkChunk(i int, words []uint64, at pgid) error {
	span := mapSpan(f.pageSize)
	if i == 0 && words[0]&(1<<firstPage-1) != 0 {
		return corrupt(at, "map marks a meta page free")
	}
	for w := len(words) - 1; w >= 0; w-- {
		if words[w] == 0 {
			continue
		}
		if last := pgid(i*span + w*64 + bits.Len64(words[w]) - 1); last >= f.highWater {
			return corrupt(at, "map marks page %d free, pages end at %d", last, f.highWater)
		}
		break
	}
	return nil
}

// ---- allocation

// allocate takes n consecutive pages, the lowest that are free, or new ones at the high water mark.
func (f *freelist) allocate(n int) (pgid, error) {
	f.holes.taken = f.holes.taken[:0]
	if n == 1 {
		for ; f.hint < len(f.chunks); f.hint++ {
			if f.chunks[f.hint].free == 0 {
				continue
			}
			c, err := f.chunk(f.hint)
			if err != nil {
				return 0, err
			}
			for ; c.words[c.hint] == 0; c.hint++ {
			}
			b := bits.TrailingZeros64(c.words[c.hint])
			c.words[c.hint] &^= 1 << b
			c.free--
			f.free--
			id := pgid(f.hint*mapSpan(f.pageSize) + c.hint*64 + b)
			f.takeBare(c, id, c.hint, uint(b))
			return id, nil
		}
	} else if f.free >= n {
		id, err := f.findRun(n)
		if err != nil {
			return 0, err
		}
		if id != 0 {
			return id, f.take(run{id, n})
		}
	}
	id := f.highWater
	f.highWater += pgid(n)
	f.holes.raise(id, f.highWater)
	// The chunks that describe the new pages exist from now on, with nothing free in them.
	for i := len(f.chunks); i*mapSpan(f.pageSize) < int(f.highWater); i++ {
		if _, err := f.chunk(i); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// findRun looks for n consecutive free pages, the lowest; 0 if there are none. A chunk that was searched in vain remembers what it
// lacks, so that the next search passes over it.
func (f *freelist) findRun(n int) (pgid, error) {
	span := mapSpan(f.pageSize)
	length := 0 // free pages that end where the search stands
	for i := f.hint; i < len(f.chunks); i++ {
		if f.chunks[i].free == 0 || length == 0 && f.chunks[i].longest < n && n <= span/4 {
			length = 0 // a short run across the border of two chunks may be missed; a new one is found at the end
			continue
		}
		c, err := f.chunk(i)
		if err != nil {
			return 0, err
		}
		longest := 0
		for w, word := range c.words {
			switch word {
			case 0:
				length = 0
			case ^uint64(0):
				length += 64
				longest = max(longest, length)
				if length >= n {
					return pgid(i*span + (w+1)*64 - length), nil
				}
			default:
				for b := 0; b < 64; {
					if word>>b&1 == 0 {
						length = 0
						b += bits.TrailingZeros64(word >> b)
						continue
					}
					k := bits.TrailingZeros64(^(word >> b))
					b += k
					length += k
					longest = max(longest, length)
					if length >= n {
						return pgid(i*span + w*64 + b - length), nil
					}
				}
			}
		}
		c.longest = min(longest, span)
	}
	return 0, nil
}

// take removes free pages from the bitmap; they must all be free.
func (f *freelist) take(r run) error {
	span := mapSpan(f.pageSize)
	for k := range r.n {
		id := int(r.id) + k
		c, err := f.chunk(id / span)
		if err != nil {
			return err
		}
		w, b := id%span/64, uint(id%64)
		if c.words[w]>>b&1 == 0 {
			panic("alder: a page was allocated twice")
		}
		c.words[w] &^= 1 << b
		c.free--
		f.free--
		f.takeBare(c, pgid(id), w, b)
	}
	return nil
}

// release makes pages free now. Pages that are free already stay so: an undone transaction may name a page twice. Pages
// at or past the high water mark are none.
func (f *freelist) release(r run) error {
	span := mapSpan(f.pageSize)
	// All of it or none: after an error the whole run is tried again, when some of its pages could have been taken.
	for i, end := int(r.id)/span, min(r.id+pgid(r.n), f.highWater); pgid(i*span) < end; i++ {
		if _, err := f.chunk(i); err != nil {
			return err
		}
	}
	for k := range r.n {
		id := int(r.id) + k
		if pgid(id) >= f.highWater {
			return nil
		}
		ci := id / span
		c, err := f.chunk(ci)
		if err != nil {
			return err
		}
		w, b := id%span/64, uint(id%64)
		if c.words[w]>>b&1 != 0 {
			continue
		}
		c.words[w] |= 1 << b
		c.free++
		f.free++
		c.longest = span
		c.hint = min(c.hint, w)
		f.hint = min(f.hint, ci)
		if f.released != nil {
			f.released(pgid(id))
		}
	}
	return nil
}

// claim keeps pages that the map on disk has as free, or beyond the high water mark, from being allocated. They stay free in the map.
func (f *freelist) claim(r run) error {
	if end := r.id + pgid(r.n); end > f.highWater {
		raised := run{f.highWater, int(end - f.highWater)}
		f.highWater = end
		if err := f.release(raised); err != nil {
			return err
		}
		if err := f.raiseFree(raised); err != nil {
			return err
		}
		if err := f.note([]mapChange{{raised, true}}); err != nil {
			return err
		}
	}
	for k := range r.n {
		if free, err := f.isFree(r.id + pgid(k)); err != nil {
			return err
		} else if !free {
			return corrupt(r.id+pgid(k), "a page of the redo log, but the free map has it in use")
		}
	}
	return f.take(r) // they have been written, so they have blocks
}

// undo takes back the changes of a transaction that does not happen, whose high water mark was the given one before.
func (f *freelist) undo(changes []mapChange, highWater pgid) error {
	span := mapSpan(f.pageSize)
	f.highWater = highWater
	given := map[pgid]bool{} // given up after they were taken: the log, or a map, may have them now
	for _, c := range slices.Backward(changes) {
		for k := range c.n {
			id := int(c.id) + k
			if pgid(id) < highWater {
				switch {
				case c.free:
					given[pgid(id)] = true
				case given[pgid(id)]:
					delete(given, pgid(id))
				default:
					if err := f.release(run{pgid(id), 1}); err != nil {
						return err
					}
				}
				continue
			}
			// Given up again inside the transaction: it must not be found free when the mark passes it the next time.
			ch, err := f.chunk(id / span)
			if err != nil {
				return err
			}
			w, b := id%span/64, uint(id%64)
			if ch.words[w]>>b&1 != 0 {
				ch.words[w] &^= 1 << b
				ch.free--
				f.free--
			}
		}
	}
	return nil
}

// isFree reports whether the map in memory has id free; it is for checks.
func (f *freelist) isFree(id pgid) (bool, error) {
	span := mapSpan(f.pageSize)
	c, err := f.chunk(int(id) / span)
	if err != nil {
		return false, err
	}
	return c.words[int(id)%span/64]>>(uint(id)%64)&1 != 0, nil
}
