package alder

import "slices"

// dirtyPages are the pages that a write transaction has in memory: copies in buffers that are written to their places in the
// file at commit, or before, when they become too many.
type dirtyPages struct {
	pageSize int
	chunks   []*dirtyChunk // by pgid / chunkPages
	buffers  []page        // all buffers; those of ids[i] != 0 are in use
	ids      []pgid
	idle     []int32 // buffers not in use
	taken    []int32 // buffers given out since the last reset, in order; some may be idle again, and given out twice
	inUse    int
	spare    []*dirtyChunk // empty
}

const (
	chunkPages  = 512
	bufferBlock = 256 << 10 // bytes of buffers that are made at a time, at most: as many as there are, and the first time a few
	fewBuffers  = 8
	keepBuffers = 16 << 20 // bytes of buffers that are kept for the next transaction
	spareChunks = 64
)

// dirtyChunk has the number of the buffer of each of chunkPages pages, plus one; 0 is none.
type dirtyChunk struct {
	slots [chunkPages]int32
	used  int
}

// find returns the buffer of page id, or nil.
func (d *dirtyPages) find(id pgid) page {
	ci := int(id / chunkPages)
	if ci >= len(d.chunks) || d.chunks[ci] == nil {
		return nil
	}
	if i := d.chunks[ci].slots[id%chunkPages]; i != 0 {
		return d.buffers[i-1]
	}
	return nil
}

// add gives page id, which has none, a buffer with unknown content.
func (d *dirtyPages) add(id pgid) page {
	if len(d.idle) == 0 {
		n := min(max(len(d.buffers), fewBuffers), bufferBlock/d.pageSize)
		block := make([]byte, n*d.pageSize)
		for i := range n {
			d.idle = append(d.idle, int32(len(d.buffers)))
			d.buffers = append(d.buffers, block[i*d.pageSize:(i+1)*d.pageSize:(i+1)*d.pageSize])
			d.ids = append(d.ids, 0)
		}
	}
	i := d.idle[len(d.idle)-1]
	d.idle = d.idle[:len(d.idle)-1]
	d.taken = append(d.taken, i)
	d.ids[i] = id
	d.place(id, i)
	d.inUse++
	return d.buffers[i]
}

// place notes that page id has buffer i.
func (d *dirtyPages) place(id pgid, i int32) {
	ci := int(id / chunkPages)
	for len(d.chunks) <= ci {
		d.chunks = append(d.chunks, nil)
	}
	if d.chunks[ci] == nil {
		if n := len(d.spare); n > 0 {
			d.chunks[ci], d.spare = d.spare[n-1], d.spare[:n-1]
		} else {
			d.chunks[ci] = &dirtyChunk{}
		}
	}
	d.chunks[ci].slots[id%chunkPages] = i + 1
	d.chunks[ci].used++
}

// displace takes page id, if it has one, from its buffer, whose number it returns.
func (d *dirtyPages) displace(id pgid) (i int32, ok bool) {
	ci := int(id / chunkPages)
	if ci >= len(d.chunks) || d.chunks[ci] == nil {
		return 0, false
	}
	c := d.chunks[ci]
	i = c.slots[id%chunkPages]
	if i == 0 {
		return 0, false
	}
	c.slots[id%chunkPages] = 0
	if c.used--; c.used == 0 {
		d.chunks[ci] = nil
		if len(d.spare) < spareChunks {
			d.spare = append(d.spare, c)
		}
	}
	return i - 1, true
}

// drop takes the buffer of page id away, if it has one.
func (d *dirtyPages) drop(id pgid) {
	if i, ok := d.displace(id); ok {
		d.ids[i] = 0
		d.idle = append(d.idle, i)
		d.inUse--
	}
}

// renumber makes the page in buffer i page id, which has no buffer.
func (d *dirtyPages) renumber(i int32, id pgid) {
	d.displace(d.ids[i])
	d.ids[i] = id
	d.place(id, i)
}

// replace gives buffer i away and puts p in its place; its page is dropped.
func (d *dirtyPages) replace(i int, p page) {
	id := d.ids[i]
	d.buffers[i] = p
	d.drop(id)
}

// sorted returns the numbers of all dirty pages in order, appended to ids.
func (d *dirtyPages) sorted(ids []pgid) []pgid {
	for _, id := range d.ids {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// reset forgets all pages, and keeps some buffers for the next transaction.
func (d *dirtyPages) reset() {
	if len(d.buffers)*d.pageSize > keepBuffers {
		*d = dirtyPages{pageSize: d.pageSize}
		return
	}
	d.clear()
}

// clear forgets all pages and keeps their buffers.
func (d *dirtyPages) clear() {
	for _, i := range d.taken {
		if id := d.ids[i]; id != 0 {
			d.drop(id)
		}
	}
	d.taken = d.taken[:0]
}
