package alder

import (
	"math/bits"
	"slices"
)

// How a store becomes shorter, as far as the freelist is concerned: where it could end, and what of the map goes with the end. The map's shape
// follows the high water mark down as it follows it up.

// lower lets the store end behind the last page in use, and room for a new map. log are runs that are allocated but will not be needed
// any more; nothing pending may be needed either, nor the map on disk, but by the durable meta, whose pages are not touched.
func (f *freelist) lower(log []run) error {
	end, err := f.lastInUse(log)
	if err != nil {
		return err
	}
	if err := f.lowerTo(end); err != nil {
		return err
	}
	f.forgetPending(f.highWater)
	return nil
}

// lowerTo lets the store end at end, or a little behind if the next map needs the room. Nothing at or past end may be in use but pages of
// the map, which the next one leaves.
func (f *freelist) lowerTo(end pgid) error {
	span, fanout := mapSpan(f.pageSize), mapFanout(f.pageSize)
	free, err := f.freeBetween(end, f.highWater)
	if err != nil {
		return err
	}
	for end < f.highWater && f.free-free < mapRoom(end, span, fanout) {
		is, err := f.isFree(end)
		if err != nil {
			return err
		}
		if is {
			free--
		}
		end++
	}
	if end >= f.highWater {
		return nil
	}
	chunks := (int(end) + span - 1) / span
	if rest := min(int(f.highWater), chunks*span) - int(end); rest > 0 {
		if err := f.note([]mapChange{{run{end, rest}, false}}); err != nil {
			return err
		}
		c, err := f.chunk(chunks - 1)
		if err != nil {
			return err
		}
		first := int(end) % span
		gone := ^uint64(0) << uint(first%64)
		for w := first / 64; w < len(c.words); w++ {
			c.free -= bits.OnesCount64(c.words[w] & gone)
			c.words[w] &^= gone
			if c.bare != nil {
				f.holes.count -= bits.OnesCount64(c.bare[w] & gone)
				c.bare[w] &^= gone
			}
			gone = ^uint64(0)
		}
	}
	f.free -= free
	for _, c := range f.chunks[min(chunks, len(f.chunks)):] {
		if c.words == nil && f.holes.onLoad {
			f.holes.count -= c.free
		}
		for _, word := range c.bare {
			f.holes.count -= bits.OnesCount64(word)
		}
	}
	f.holes.lower(f.highWater, end)
	f.chunks = f.chunks[:min(chunks, len(f.chunks))]
	f.hint = min(f.hint, len(f.chunks))
	for i := range f.due {
		if i >= chunks {
			delete(f.due, i)
		}
	}
	f.reshape(mapShape(chunks, fanout))
	f.highWater, f.ceiling = end, end
	return nil
}

// mapRoom is the number of pages of a whole map for pages up to end.
func mapRoom(end pgid, span, fanout int) int {
	room := 0
	for _, n := range mapShape((int(end)+span-1)/span, fanout) {
		room += n
	}
	return room
}

// reshape takes out of the map what is beyond the given number of pages of each level.
func (f *freelist) reshape(shape []int) {
	for l := range f.levels {
		keep := 0
		if l < len(shape) {
			keep = shape[l]
		}
		if keep < len(f.levels[l]) {
			f.surplus = append(f.surplus, f.levels[l][keep:]...)
			f.levels[l] = f.levels[l][:keep:keep]
			f.reshaped = true
		}
	}
	f.levels = f.levels[:min(len(f.levels), len(shape))]
}

// lastInUse returns the page behind the last one that is neither free, nor pending, nor part of the map, nor in one of the runs of the log.
func (f *freelist) lastInUse(log []run) (pgid, error) {
	idle := slices.Clone(log)
	for _, r := range f.allPending() {
		idle = append(idle, r.run)
	}
	for _, refs := range f.levels {
		for _, r := range refs {
			idle = append(idle, run{r.id, 1})
		}
	}
	slices.SortFunc(idle, func(a, b run) int { return int(int64(b.id) - int64(a.id)) })
	end := f.highWater
	for end > firstPage {
		for len(idle) > 0 && idle[0].id >= end {
			idle = idle[1:]
		}
		if len(idle) > 0 && idle[0].id+pgid(idle[0].n) == end {
			end = idle[0].id
			continue
		}
		last, err := f.freeEnd(end)
		if err != nil {
			return 0, err
		}
		if last == end {
			break
		}
		end = last
	}
	return end, nil
}

// freeEnd returns the first page of the free ones that end before end; end itself if the page there is not free.
func (f *freelist) freeEnd(end pgid) (pgid, error) {
	span := mapSpan(f.pageSize)
	for end > firstPage {
		id := int(end) - 1
		c, err := f.chunk(id / span)
		if err != nil {
			return 0, err
		}
		// The bits up to that of the last page, moved to the top.
		word := c.words[id%span/64] << (63 - uint(id%64))
		n := bits.LeadingZeros64(^word)
		end -= pgid(n)
		if n <= id%64 {
			return end, nil
		}
	}
	return end, nil
}

// freeBetween is the number of free pages in from ≤ page < to.
func (f *freelist) freeBetween(from, to pgid) (int, error) {
	span := mapSpan(f.pageSize)
	n := 0
	for i := int(from) / span; i < len(f.chunks) && i*span < int(to); i++ {
		lo, hi := max(int(from), i*span), min(int(to), (i+1)*span)
		if f.chunks[i].free == 0 {
			continue
		}
		if hi-lo == span {
			n += f.chunks[i].free
			continue
		}
		c, err := f.chunk(i)
		if err != nil {
			return 0, err
		}
		for id := lo; id < hi; {
			word := c.words[id%span/64] >> uint(id%64)
			width := min(64-id%64, hi-id)
			n += bits.OnesCount64(word << (64 - uint(width)))
			id += width
		}
	}
	return n, nil
}

// pendingFrom calls fn for each pending run that reaches to from or beyond, with the snapshot on which it hangs, or logged.
func (f *freelist) pendingFrom(from pgid, fn func(s txid, r freedRun)) {
	for s, r := range f.allPending() {
		if r.id+pgid(r.n) > from {
			fn(s, r)
		}
	}
}

// pendingBehind reports whether a pending run reaches to from or beyond that a snapshot from oldest to before newest may have.
func (f *freelist) pendingBehind(from pgid, oldest, newest txid) bool {
	for s, r := range f.pending.all(1) {
		if s >= oldest && r.id+pgid(r.n) > from && r.birth < newest {
			return true
		}
	}
	return false
}
