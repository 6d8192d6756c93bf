package alder

// A leaf is an array of key heads, an array of cell offsets, free space, and cells, each of which is key and value in one piece. What all
// cells of a leaf have in common, lengths and the absence of flags, stands once in the header.

// leafCell is a cell in its stored form: key and value as they lie in the page, overflow references included.
type leafCell struct {
	flags uint8
	key   []byte
	value []byte
}

// cell returns slot i of a leaf. The slices point into the page.
func (p page) cell(i int) leafCell {
	off := p.cellOffset(i, p.count())
	flags := p.flags()
	var c leafCell
	if flags&flagCellFlags != 0 {
		c.flags = p[off]
		off++
	}
	var klen, vlen int
	if flags&flagKeyLen != 0 {
		klen = int(le.Uint16(p[off:]))
		off += 2
	} else {
		klen = int(le.Uint16(p[offKeySize:]))
	}
	if flags&flagValueLen != 0 {
		vlen = int(le.Uint16(p[off:]))
		off += 2
	} else {
		vlen = int(le.Uint16(p[offValueSize:]))
	}
	mid, end := off+klen, off+klen+vlen
	c.key = p[off:mid:mid]
	c.value = p[mid:end:end]
	return c
}

// cellKey is cell(i).key for pages whose cells have no flags.
func (p page) cellKey(i int) []byte {
	off := p.cellOffset(i, p.count())
	flags := p.flags()
	if flags&flagCellFlags != 0 {
		off++
	}
	klen := int(le.Uint16(p[offKeySize:]))
	if flags&flagKeyLen != 0 {
		klen = int(le.Uint16(p[off:]))
		off += 2
	}
	if flags&flagValueLen != 0 {
		off += 2
	}
	return p[off : off+klen : off+klen]
}

// cellHeader is the number of bytes that a cell has in front of its key under the given leaf flags.
func cellHeader(flags uint8) int {
	n := 0
	if flags&flagCellFlags != 0 {
		n++
	}
	if flags&flagKeyLen != 0 {
		n += 2
	}
	if flags&flagValueLen != 0 {
		n += 2
	}
	return n
}

func (c *leafCell) size(flags uint8) int { return cellHeader(flags) + len(c.key) + len(c.value) }

// prefixable is the part of the stored key that the page's prefix may cover.
func (c *leafCell) prefixable() []byte {
	if c.flags&cellOverflowKey != 0 {
		return c.key[:maxOverflowPrefix]
	}
	return c.key
}

// headAfter is the head of the key behind a prefix of n bytes.
func (c *leafCell) headAfter(n int) uint32 {
	if c.flags&cellOverflowKey != 0 {
		return headAfter(c.key[:inlinePrefix], n)
	}
	return headAfter(c.key, n)
}

func (p page) putCell(off int, flags uint8, c leafCell) {
	if flags&flagCellFlags != 0 {
		p[off] = c.flags
		off++
	}
	if flags&flagKeyLen != 0 {
		le.PutUint16(p[off:], uint16(len(c.key)))
		off += 2
	}
	if flags&flagValueLen != 0 {
		le.PutUint16(p[off:], uint16(len(c.value)))
		off += 2
	}
	copy(p[off:], c.key)
	copy(p[off+len(c.key):], c.value)
}

// accepts reports whether the layout of leaf p can hold c as it stands.
func (p page) accepts(c *leafCell) bool {
	flags := p.flags()
	return (c.flags == 0 || flags&flagCellFlags != 0) &&
		(flags&flagKeyLen != 0 || int(le.Uint16(p[offKeySize:])) == len(c.key)) &&
		(flags&flagValueLen != 0 || int(le.Uint16(p[offValueSize:])) == len(c.value))
}

// insertCell puts c into slot i of a leaf, and reports whether there was room for it in the page as it is laid out. It
// may shorten the page's prefix, but moves no cell.
func (p page) insertCell(i int, c leafCell) bool {
	n := p.count()
	if n == 0 {
		// The first cell sets the layout.
		p.setLayout(layoutOf([]leafCell{c}))
		p.setCellBytes(0)
		p.setGarbage(0)
		p.setPrefixLen(len(c.prefixable()))
	} else if !p.accepts(&c) {
		return false
	}
	flags := p.flags()
	size := c.size(flags)
	if p.space() < size+leafSlot {
		return false
	}
	p.shortenPrefix(c.prefixable())
	off := len(p) - p.cellBytes() - size
	p.putCell(off, flags, c)
	p.setCellBytes(p.cellBytes() + size)
	p.openSlot(i, n)
	p.setHead(i, c.headAfter(p.prefixLen()))
	p.setCellOffset(i, n+1, off)
	return true
}

// shortenPrefix makes the prefix of leaf p one that key shares too.
func (p page) shortenPrefix(key []byte) {
	n, plen := p.count(), p.prefixLen()
	if n == 0 || plen == 0 {
		return
	}
	c := p.cell(0)
	shared := commonPrefix(c.key[:plen], key)
	if shared == plen {
		return
	}
	p.setPrefixLen(shared)
	for i := range n {
		c := p.cell(i)
		p.setHead(i, c.headAfter(shared))
	}
}

// openSlot makes room for slot i among n leaf slots.
func (p page) openSlot(i, n int) {
	heads := pageHeader
	offs := heads + n*headSize
	end := offs + n*offsetSize
	copy(p[offs+i*offsetSize+headSize+offsetSize:], p[offs+i*offsetSize:end])
	copy(p[offs+headSize:], p[offs:offs+i*offsetSize])
	copy(p[heads+(i+1)*headSize:], p[heads+i*headSize:offs])
	p.setCount(n + 1)
}

// removeCell drops slot i of a leaf.
func (p page) removeCell(i int) {
	n := p.count()
	c := p.cell(i)
	off, size := p.cellOffset(i, n), c.size(p.flags())
	if off == len(p)-p.cellBytes() {
		p.setCellBytes(p.cellBytes() - size)
	} else {
		p.setGarbage(p.garbage() + size)
	}
	heads := pageHeader
	offs := heads + n*headSize
	end := offs + n*offsetSize
	copy(p[heads+i*headSize:], p[heads+(i+1)*headSize:offs])
	copy(p[offs-headSize:], p[offs:offs+i*offsetSize])
	copy(p[offs-headSize+i*offsetSize:], p[offs+(i+1)*offsetSize:end])
	p.setCount(n - 1)
}

// replaceValue overwrites the value of slot i where the new cell has the same key, layout and size, and reports whether
// it could.
func (p page) replaceValue(i int, c leafCell) bool {
	old := p.cell(i)
	if len(old.value) != len(c.value) || c.flags != 0 && p.flags()&flagCellFlags == 0 {
		return false
	}
	if p.flags()&flagCellFlags != 0 {
		p[p.cellOffset(i, p.count())] = c.flags
	}
	copy(old.value, c.value)
	return true
}

// ---- building leaves

// leafLayout is what the header of a leaf says about its cells.
type leafLayout struct {
	flags              uint8
	keySize, valueSize int
}

// layoutOf is the tightest layout for cells.
func layoutOf(cells []leafCell) leafLayout {
	var l leafLayout
	if len(cells) == 0 {
		return l
	}
	l.keySize, l.valueSize = len(cells[0].key), len(cells[0].value)
	for i := range cells {
		c := &cells[i]
		if len(c.key) != l.keySize {
			l.flags |= flagKeyLen
		}
		if len(c.value) != l.valueSize {
			l.flags |= flagValueLen
		}
		if c.flags != 0 {
			l.flags |= flagCellFlags
		}
	}
	return l
}

func (p page) setLayout(l leafLayout) {
	p[offFlags] = l.flags
	k, v := l.keySize, l.valueSize
	if l.flags&flagKeyLen != 0 {
		k = 0
	}
	if l.flags&flagValueLen != 0 {
		v = 0
	}
	le.PutUint16(p[offKeySize:], uint16(k))
	le.PutUint16(p[offValueSize:], uint16(v))
}

// leafBytes is the size of a leaf, header excluded, that holds cells under layout l.
func leafBytes(cells []leafCell, l leafLayout) int {
	n := len(cells) * (leafSlot + cellHeader(l.flags))
	for i := range cells {
		n += len(cells[i].key) + len(cells[i].value)
	}
	return n
}

// buildLeaf fills p, whose header names it already, with cells in order. The cells must fit and must not point into p.
func (p page) buildLeaf(cells []leafCell) {
	l := layoutOf(cells)
	n := len(cells)
	p.setLayout(l)
	p.setCount(n)
	p.setGarbage(0)
	plen := 0
	if n > 0 {
		plen = commonPrefix(cells[0].prefixable(), cells[n-1].prefixable())
	}
	if l.flags&flagCellFlags != 0 && plen > maxOverflowPrefix {
		for i := range cells {
			if cells[i].flags&cellOverflowKey != 0 {
				plen = maxOverflowPrefix
			}
		}
	}
	p.setPrefixLen(plen)
	total := leafBytes(cells, l) - n*leafSlot
	p.setCellBytes(total)
	off := len(p) - total
	for i := range cells {
		c := &cells[i]
		p.putCell(off, l.flags, *c)
		p.setHead(i, c.headAfter(plen))
		p.setCellOffset(i, n, off)
		off += c.size(l.flags)
	}
	// What lies between slots and cells reaches the file: let it be zero, not what the buffer held before.
	clear(p[pageHeader+n*leafSlot : len(p)-total])
}
