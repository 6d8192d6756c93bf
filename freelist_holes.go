package alder

import "math/bits"

// Free pages whose blocks have been given back to the file system. Such a page is bare until it has blocks again, which whoever takes it sees to, at a call
// that can fail. (Invariant 24) In a store that has ever been punched, and was opened since, each free page of the map on disk may be bare.
//
// A page in use is never bare. Behind the high water mark pages may be bare if the mark was lowered over them: those from bareFrom to bareTo.

// holes is what the freelist knows of bare pages.
type holes struct {
	possible bool // there may be bare pages
	onLoad   bool // those that are free in a chunk that is loaded are
	count    int  // bare pages below the high water mark
	bareFrom pgid
	bareTo   pgid
	taken    []run // bare pages among those that were taken last
}

// openHoles is for a store whose map does not say which pages are bare. end is the first page behind its file.
func (f *freelist) openHoles(end pgid) {
	f.holes = holes{possible: true, onLoad: true, count: f.free, bareFrom: f.highWater, bareTo: end}
}

// solidFree is the number of free pages that have blocks.
func (f *freelist) solidFree() int { return f.free - f.holes.count }

// takeBare notes that page id, bit b of word w of c, has been taken.
func (f *freelist) takeBare(c *mapChunk, id pgid, w int, b uint) {
	if c.bare == nil || c.bare[w]>>b&1 == 0 {
		return
	}
	c.bare[w] &^= 1 << b
	f.holes.count--
	f.holes.note(run{id, 1})
}

// note adds r to what was taken.
func (h *holes) note(r run) {
	if n := len(h.taken); n > 0 && h.taken[n-1].id+pgid(h.taken[n-1].n) == r.id {
		h.taken[n-1].n += r.n
		return
	}
	h.taken = append(h.taken, r)
}

// raise notes that the high water mark goes up from one page to another.
func (h *holes) raise(from, to pgid) {
	if lo, hi := max(from, h.bareFrom), min(to, h.bareTo); h.possible && lo < hi {
		h.note(run{lo, int(hi - lo)})
		h.bareFrom = hi
	}
}

// back notes that the high water mark goes back to a page, for the pages that were to be taken there cannot be had.
func (h *holes) back(to pgid) { h.bareFrom = min(h.bareFrom, to) }

// raiseFree notes that the high water mark has gone up over pages that are free.
func (f *freelist) raiseFree(r run) error {
	h := &f.holes
	lo, hi := max(r.id, h.bareFrom), min(r.id+pgid(r.n), h.bareTo)
	if !h.possible || lo >= hi {
		return nil
	}
	h.bareFrom = hi
	return f.setBare(run{lo, int(hi - lo)})
}

// lower notes that the high water mark goes down to a page.
func (h *holes) lower(from, to pgid) {
	if h.possible {
		h.bareFrom, h.bareTo = to, max(h.bareTo, from)
	}
}

// setBare makes free pages bare.
func (f *freelist) setBare(r run) error {
	span := mapSpan(f.pageSize)
	for k := range r.n {
		id := int(r.id) + k
		c, err := f.chunk(id / span)
		if err != nil {
			return err
		}
		if c.bare == nil {
			c.bare = make([]uint64, len(c.words))
		}
		w, b := id%span/64, uint(id%64)
		if c.words[w]>>b&1 != 0 && c.bare[w]>>b&1 == 0 {
			c.bare[w] |= 1 << b
			f.holes.count++
		}
	}
	return nil
}

// setSolid notes that free pages have blocks again.
func (f *freelist) setSolid(r run) error {
	span := mapSpan(f.pageSize)
	for k := range r.n {
		id := int(r.id) + k
		c, err := f.chunk(id / span)
		if err != nil {
			return err
		}
		if w, b := id%span/64, uint(id%64); c.bare != nil && c.bare[w]>>b&1 != 0 {
			c.bare[w] &^= 1 << b
			f.holes.count--
		}
	}
	return nil
}

// bareFollowing returns the bare pages that follow page id, at most n.
func (f *freelist) bareFollowing(id pgid, n int) run {
	span := mapSpan(f.pageSize)
	r := run{id + 1, 0}
	for ; r.n < n; r.n++ {
		next := int(r.id) + r.n
		if next/span >= len(f.chunks) {
			break
		}
		c := &f.chunks[next/span]
		if c.bare == nil || c.bare[next%span/64]>>uint(next%64)&1 == 0 {
			break
		}
	}
	return r
}

// nextFree returns the first run of at least n free pages, in from ≤ page < to, in one word of the bitmap after the other, that match; n == 0: there is
// none. bare: they must be bare; else they must not be. As in findRun, a run across the border of two chunks may be missed.
func (f *freelist) nextFree(from, to pgid, n int, bare bool) (run, error) {
	span := mapSpan(f.pageSize)
	r := run{}
	for id := from; id < to; {
		ci := int(id) / span
		if ci >= len(f.chunks) {
			break
		}
		if s := &f.chunks[ci]; s.free == 0 || r.n == 0 && s.longest < n && n <= span/4 {
			if r.n >= n {
				return r, nil
			}
			r, id = run{}, pgid((ci+1)*span)
			continue
		}
		c, err := f.chunk(ci)
		if err != nil {
			return run{}, err
		}
		w := int(id) % span / 64
		word := c.words[w]
		switch {
		case bare && c.bare == nil:
			word = 0
		case bare:
			word &= c.bare[w]
		case c.bare != nil:
			word &^= c.bare[w]
		}
		word >>= uint(id % 64)
		left := pgid(64 - id%64)
		if ones := pgid(bits.TrailingZeros64(^word)); ones > 0 {
			ones = min(ones, left, to-id)
			if r.n == 0 {
				r.id = id
			}
			r.n, id = r.n+int(ones), id+ones
			continue
		}
		if r.n >= n {
			return r, nil
		}
		r, id = run{}, id+min(left, pgid(bits.TrailingZeros64(word)))
	}
	if r.n >= n {
		return r, nil
	}
	return run{}, nil
}
