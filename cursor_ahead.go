package alder

import "github.com/alderdb/alder/internal/prefetch"

// A walk over a tree larger than the processor's cache waits for memory at every leaf: for its header, then for its slots, then for
// the cells, which lie in the order in which they were put. The parent knows where the next leaves lie; a cursor that walks asks
// for their memory ahead of time (docs/decisions/0007). It asks for more the longer the walk is, so that a short one, which is
// the most frequent, pays for little:
//
//	first step             headers and slots of the next two leaves, from here on of one more at each leaf
//	one leaf further       the cells of this leaf
//	two leaves and more    the cells of the next leaf, little by little
//
// Only read transactions do so: in others pages may lie in buffers.

// stride says how far a walk has come: it counts the first step and the leaves passed since, up to fullStride, and is negative
// for a walk backward.
type stride int8

const fullStride stride = 3

// stepped is the stride after a step in direction dir, to another leaf if crossed.
func (s stride) stepped(dir stride, crossed bool) stride {
	switch {
	case s*dir <= 0:
		return dir
	case crossed && s*dir < fullStride:
		return s + dir
	}
	return s
}

// lookAhead asks for the memory that the walk will need soon. The path leads to where it is now; crossed tells that it has come from
// the neighboring leaf.
func (c *Cursor) lookAhead(dir stride, crossed bool) {
	was := c.stride
	c.stride = was.stepped(dir, crossed)
	if crossed && c.stride*dir > 1 && c.bucket.tx.snap.cold.active() {
		c.announce(int(dir), c.stride != was)
	}
	if !prefetch.Works || len(c.path) < 2 {
		return
	}
	d := int(dir)
	if was == 0 {
		c.askSlots(d)
		c.askSlots(2 * d)
		return
	}
	if !crossed {
		c.pace(uint32(c.path.leaf().i))
		return
	}
	c.askSlots(2 * d)
	if leaf := c.path.leaf().p; c.stride != was && c.stride*dir > 1 {
		prefetch.Bytes(leaf[len(leaf)-min(leaf.cellBytes(), maxAsk):])
	}
	c.left = 0
	if c.stride*dir == fullStride {
		c.planCells(d)
	}
}

const (
	askedSlots = 256  // bytes of header and slots: all of a leaf of 36 keys
	maxAsk     = 4096 // bytes that are asked for at a time
	askEvery   = 4    // keys

	maxLeafKeys = maxPageSize / leafSlot // a parent that says more is damaged
)

// neighbor returns the number of the leaf that is d slots away below the same parent, and how many keys it has according to the
// parent; 0 if there is none.
func (c *Cursor) neighbor(d int) (id pgid, keys int) {
	up := &c.path[len(c.path)-2]
	i, n := up.i+d, up.p.count()
	if uint(i) >= uint(n) {
		return 0, 0
	}
	id = up.p.child(i).id
	if id >= c.bucket.tx.snap.highWater {
		return 0, 0
	}
	k, _ := up.p.childCount(i)
	return id, int(min(k, maxLeafKeys))
}

// askSlots asks for header and slots of the leaf that is d slots away. That also brings its address into the processor's
// tables, which the later request for its cells would have to wait for.
func (c *Cursor) askSlots(d int) {
	if id, _ := c.neighbor(d); id != 0 {
		prefetch.Bytes(c.bucket.tx.snap.raw(id, 1)[:askedSlots])
	}
}

// announce lets the system read the next leaves while these are walked over; begin tells that the walk has just become one.
func (c *Cursor) announce(d int, begin bool) {
	if len(c.path) < 2 {
		return
	}
	if up := &c.path[len(c.path)-2]; begin || up.i%announceEvery == 0 || d < 0 && up.i == up.p.count()-1 {
		c.bucket.tx.snap.announceChildren(up.p, up.i+d, d)
	}
}

// planCells lets the steps over this leaf ask for the cells of the one that is d slots away, a part every few keys. All at once would
// be too many for the processor, which can wait for ten or twenty lines and then does nothing else. Where the
// cells begin would have to be read there; that they are as large as here on average is a good guess.
func (c *Cursor) planCells(d int) {
	id, keys := c.neighbor(d)
	if id == 0 {
		return
	}
	leaf := c.path.leaf().p
	n := leaf.count()
	size := min(keys*leaf.cellBytes()/n, len(leaf))
	c.ahead = (int(id)+1)<<c.bucket.tx.snap.shift - size
	c.left = uint32(size)
	c.part = uint16(min(size*askEvery/n+64, maxAsk))
	c.askCells()
}

// askCells asks for the part of the next leaf's cells that is due.
func (c *Cursor) askCells() {
	n := min(uint32(c.part), c.left)
	prefetch.Bytes(c.bucket.tx.snap.data[c.ahead : c.ahead+int(n)])
	c.ahead += int(n)
	c.left -= n
}

// pace is to be called when the cursor goes to cell k of the window.
func (c *Cursor) pace(k uint32) {
	if k%askEvery == 0 && c.left != 0 {
		c.askCells()
	}
}
