package alder

import (
	"bytes"
	"encoding/binary"
)

// A branch is an array of separator heads, an array of cell offsets, an array of children, free space, and what of the separators does not
// fit in their heads. Entries are added in place or the whole page is built anew; no entry is removed in place.

// branchEntry is one child as its parent describes it. separator is the whole separator (no prefix removed), or the stored
// form of an overflow key; the first entry of a page has none. Every key below the child is at or above its separator
// and below that of the next.
type branchEntry struct {
	separator []byte
	overflow  bool // separator is a stored overflow key
	child     pageRef
	count     uint64 // keys below
	refs      bool   // leaves below may hold cells with flags
}

func (p page) childOffset(i, n int) int { return pageHeader + n*leafSlot + i*childSize }

func (p page) child(i int) pageRef {
	o := p.childOffset(i, p.count())
	return pageRef{pgid(load48(p[o:])), txid(load48(p[o+6:]))}
}

func (p page) setChild(i int, r pageRef) {
	o := p.childOffset(i, p.count())
	store48(p[o:], uint64(r.id))
	store48(p[o+6:], uint64(r.birth))
}

// childCount is the number of keys below child i, and whether they may include cells with flags.
func (p page) childCount(i int) (n uint64, refs bool) {
	v := load48(p[p.childOffset(i, p.count())+12:])
	return v &^ countRefs, v&countRefs != 0
}

func (p page) setChildCount(i int, n uint64, refs bool) {
	if refs {
		n |= countRefs
	}
	store48(p[p.childOffset(i, p.count())+12:], n)
}

// Branch separators are stored without the page's prefix, which stands once at the end of the page. What is left after
// the prefix is in the head alone when it is at most four bytes: the offset is then its length. A longer one is a
// cell: its length in two bytes, with separatorOverflow set for the stored form of an overflow key, and its bytes.
const separatorOverflow = 0x8000

// separatorRest is slot i's separator behind the prefix; for short ones it is unpacked into buf.
func (p page) separatorRest(i, n int, buf *[headSize]byte) (rest []byte, overflow bool) {
	off := p.cellOffset(i, n)
	if off <= headSize {
		binary.BigEndian.PutUint32(buf[:], p.head(i))
		return buf[:off], false
	}
	l := int(le.Uint16(p[off:]))
	overflow = l&separatorOverflow != 0
	l &^= separatorOverflow
	return p[off+2 : off+2+l : off+2+l], overflow
}

func (p page) prefix() []byte { return p[len(p)-p.prefixLen():] }

// entry returns slot i of a branch. The separator is appended to arena, which is returned grown.
func (p page) entry(i int, arena []byte) (branchEntry, []byte) {
	n := p.count()
	var e branchEntry
	e.child = p.child(i)
	e.count, e.refs = p.childCount(i)
	if i > 0 {
		var buf [headSize]byte
		rest, overflow := p.separatorRest(i, n, &buf)
		e.overflow = overflow
		start := len(arena)
		arena = append(arena, p.prefix()...)
		arena = append(arena, rest...)
		e.separator = arena[start:len(arena):len(arena)]
	}
	return e, arena
}

func (e *branchEntry) prefixable() []byte {
	if e.overflow {
		return e.separator[:maxOverflowPrefix]
	}
	return e.separator
}

func (e *branchEntry) headAfter(n int) uint32 {
	if e.overflow {
		return headAfter(e.separator[:inlinePrefix], n)
	}
	return headAfter(e.separator, n)
}

// branchPrefix is the length of the prefix that a branch with entries takes out of its separators: what they share, unless
// that makes the page larger. The first entry has no separator to share.
func branchPrefix(entries []branchEntry) int {
	if len(entries) < 3 {
		return 0
	}
	n := commonPrefix(entries[1].prefixable(), entries[len(entries)-1].prefixable())
	if n == 0 {
		return 0
	}
	for i := range entries {
		if entries[i].overflow {
			n = min(n, maxOverflowPrefix)
		}
	}
	saved := -n
	for i := 1; i < len(entries); i++ {
		saved += entries[i].cellSize(0) - entries[i].cellSize(n)
	}
	if saved < 0 {
		return 0
	}
	return n
}

func (e *branchEntry) cellSize(plen int) int {
	rest := len(e.separator) - plen
	if rest <= headSize && !e.overflow {
		return 0
	}
	return 2 + rest
}

// branchBytes is the size of a branch, header excluded, that holds entries, the first without its separator.
func branchBytes(entries []branchEntry) int {
	plen := branchPrefix(entries)
	n := len(entries)*branchSlot + plen
	for i := 1; i < len(entries); i++ {
		n += entries[i].cellSize(plen)
	}
	return n
}

// buildBranch fills p, whose header names it already, with entries in order. They must fit and must not point into p.
func (p page) buildBranch(entries []branchEntry) {
	n := len(entries)
	plen := branchPrefix(entries)
	p[offFlags] = 0
	le.PutUint16(p[offKeySize:], 0)
	le.PutUint16(p[offValueSize:], 0)
	p.setCount(n)
	p.setPrefixLen(plen)
	p.setGarbage(0)
	total := branchBytes(entries) - n*branchSlot
	p.setCellBytes(total)
	off := len(p) - total
	clear(p[pageHeader+n*branchSlot : off])
	for i := range entries {
		e := &entries[i]
		p.setChild(i, e.child)
		p.setChildCount(i, e.count, e.refs)
		if i == 0 {
			p.setHead(0, 0)
			p.setCellOffset(0, n, 0)
			continue
		}
		rest := e.separator[plen:]
		p.setHead(i, e.headAfter(plen))
		size := e.cellSize(plen)
		if size == 0 {
			p.setCellOffset(i, n, len(rest))
			continue
		}
		l := len(rest)
		if e.overflow {
			l |= separatorOverflow
		}
		le.PutUint16(p[off:], uint16(l))
		copy(p[off+2:], rest)
		p.setCellOffset(i, n, off)
		off += size
	}
	if plen > 0 {
		copy(p[len(p)-plen:], entries[1].separator[:plen])
	}
}

// insertEntry puts e into slot i > 0 of a branch in place, and reports whether it could: the separator must share
// the page's prefix and there must be room.
func (p page) insertEntry(i int, e branchEntry) bool {
	n, plen := p.count(), p.prefixLen()
	if !bytes.HasPrefix(e.prefixable(), p.prefix()) {
		return false
	}
	size := e.cellSize(plen)
	if n < 3 || p.space() < branchSlot+size {
		return false // a page with few separators is rebuilt, and finds its prefix then
	}
	rest := e.separator[plen:]
	// The cell area ends with the prefix, so cells are added at its start.
	off := len(p) - p.cellBytes() - size
	heads := pageHeader
	offs := heads + n*headSize
	kids := offs + n*offsetSize
	end := kids + n*childSize
	copy(p[kids+i*childSize+branchSlot:], p[kids+i*childSize:end])
	copy(p[kids+headSize+offsetSize:], p[kids:kids+i*childSize])
	copy(p[offs+i*offsetSize+headSize+offsetSize:], p[offs+i*offsetSize:kids])
	copy(p[offs+headSize:], p[offs:offs+i*offsetSize])
	copy(p[heads+(i+1)*headSize:], p[heads+i*headSize:offs])
	n++
	p.setCount(n)
	p.setHead(i, e.headAfter(plen))
	p.setChild(i, e.child)
	p.setChildCount(i, e.count, e.refs)
	if size == 0 {
		p.setCellOffset(i, n, len(rest))
		return true
	}
	l := len(rest)
	if e.overflow {
		l |= separatorOverflow
	}
	le.PutUint16(p[off:], uint16(l))
	copy(p[off+2:], rest)
	p.setCellOffset(i, n, off)
	p.setCellBytes(p.cellBytes() + size)
	return true
}

// replaceEntries puts entries in place of the m slots from slot i on, and reports whether it could in place: one entry that becomes two, or two
// that stay two or become three. If it could not, the page is to be built anew with them. The first of them keeps the separator of slot i.
func (p page) replaceEntries(i, m int, entries []branchEntry) bool {
	if m < 1 || m > 2 || len(entries) < 2 || len(entries) > m+1 {
		return false
	}
	if m == 2 && !p.replaceSeparator(i+1, entries[1]) {
		return false
	}
	if len(entries) > m && !p.insertEntry(i+m, entries[m]) {
		return false
	}
	for k, e := range entries[:m] {
		p.setChild(i+k, e.child)
		p.setChildCount(i+k, e.count, e.refs)
	}
	return true
}

// replaceSeparator gives slot i > 0 the separator of e, and reports whether it could without moving other cells.
func (p page) replaceSeparator(i int, e branchEntry) bool {
	n, plen := p.count(), p.prefixLen()
	var buf [headSize]byte
	old, overflow := p.separatorRest(i, n, &buf)
	if overflow || e.overflow || !bytes.HasPrefix(e.separator, p.prefix()) {
		return false
	}
	rest := e.separator[plen:]
	if inHead := len(old) <= headSize; inHead != (len(rest) <= headSize) || !inHead && len(old) != len(rest) {
		return false
	}
	p.setHead(i, e.headAfter(plen))
	if len(rest) <= headSize {
		p.setCellOffset(i, n, len(rest))
	} else {
		copy(old, rest)
	}
	return true
}
