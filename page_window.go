package alder

// window says where some neighboring cells of a leaf lie. It is a copy of their offsets and lengths, so that steps from one to the
// next touch no mapped memory and need no guard against faults; only who looks at a key or a value touches it.
type window struct {
	leaf   page
	first  uint32 // slot of the first cell
	filled uint32 // number of cells; 0: the window shows nothing
	at     uint32 // the current cell, counted from first

	sizeMask uint32 // 0 where one size is that of all cells, else it lets pass any index into sizes
	offsets  [windowCells * offsetSize]byte
	sizes    [windowSizes]cellSize
}

// cellSize has the lengths of a cell's key and value.
type cellSize struct{ key, value uint16 }

// Both are powers of two. A cursor is as large as a window and little more, and programs make many.
const (
	windowCells = 64 // cells of a leaf whose cells are all alike; more than a page of 4 KiB has of 50 bytes each
	windowSizes = 16 // cells of any other leaf
)

// pair returns key and value of cell k of the window.
func (w *window) pair(k uint32) (key, value []byte) {
	off := int(le.Uint16(w.offsets[k%windowCells*offsetSize:]))
	size := w.sizes[k&w.sizeMask%windowSizes]
	mid := off + int(size.key)
	end := mid + int(size.value)
	return w.leaf[off:mid:mid], w.leaf[mid:end:end]
}

// fill lets w begin with slot i of leaf p, or end with it, and stand there. It reports false where the cells have flags: such
// keys and values lie elsewhere, or are no values.
func (w *window) fill(p page, i int, backward bool) bool {
	flags, count := p.flags(), p.count()
	if flags&flagCellFlags != 0 {
		w.filled = 0
		return false
	}
	// The cells that are left are shared out evenly, so that the last window is not one of a single cell.
	n := count - i
	if backward {
		n = i + 1
	}
	room := windowSizes
	if flags == 0 {
		room = windowCells
	}
	if n > room {
		shares := (n + room - 1) / room
		n = (n + shares - 1) / shares
	}
	w.leaf, w.first, w.at, w.filled = p, uint32(i), 0, uint32(n)
	if backward {
		w.first, w.at = uint32(i+1-n), uint32(n-1)
	}
	start := pageHeader + count*headSize + int(w.first)*offsetSize
	offsets := p[start : start+n*offsetSize]
	size := cellSize{le.Uint16(p[offKeySize:]), le.Uint16(p[offValueSize:])}
	if flags == 0 {
		w.sizeMask, w.sizes[0] = 0, size
		copy(w.offsets[:], offsets)
		return true
	}
	w.sizeMask = windowSizes - 1
	for k := range w.sizes[:n] {
		off := le.Uint16(offsets[k*offsetSize:])
		if flags&flagKeyLen != 0 {
			size.key = le.Uint16(p[off:])
			off += 2
		}
		if flags&flagValueLen != 0 {
			size.value = le.Uint16(p[off:])
			off += 2
		}
		le.PutUint16(w.offsets[k*offsetSize:], off)
		w.sizes[k] = size
	}
	return true
}
