package alder

// Changes to the pages of a tree that change nothing of what it holds: neighbors that are not full become fewer pages, and overflow runs are
// referred to in new places.

// pack divides the cells of up to n neighboring leaves, from the one to which key belongs on, over as few leaves as hold them. It returns how many
// leaves are saved; if none would be, nothing is changed.
func (t *tree) pack(w pageWriter, key []byte, n int) (saved int, err error) {
	if t.root.id == 0 {
		return 0, nil
	}
	pth, _, err := t.seek(w, nil, key)
	if err != nil || len(pth) < 2 {
		return 0, err
	}
	parent := pth[len(pth)-2]
	from := parent.i
	to := min(from+n, parent.p.count())
	ws := w.workspace()
	cells := ws.cells[:0]
	for j := from; j < to; j++ {
		p, err := readKind(w, parent.p.child(j), kindLeaf)
		if err != nil {
			return 0, err
		}
		cells = appendCells(cells, ws.copyOf(j-from, p))
	}
	ws.cells = cells
	ws.ends = distribute(ws.ends[:0], cells, ws.pageSize-pageHeader, 1)
	if saved = to - from - len(ws.ends); saved <= 0 {
		return 0, nil
	}
	t.forget()
	if err := t.touchPath(w, pth); err != nil {
		return 0, err
	}
	ws.merges++
	return saved, t.replaceLeaves(w, pth, from, to, 0)
}

// runMover returns where an overflow run lies from now on.
type runMover func(r overflowRef) (overflowRef, error)

// moveRuns gives every overflow run that leaf or branch p, which may be edited, refers to its new place.
func moveRuns(p page, move runMover) error {
	n := p.count()
	if p.isBranch() {
		for i := 1; i < n; i++ {
			var buf [headSize]byte
			if rest, overflow := p.separatorRest(i, n, &buf); overflow {
				if err := moveReference(rest[inlinePrefix-p.prefixLen():], move); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if p.flags()&flagCellFlags == 0 {
		return nil
	}
	for i := range n {
		c := p.cell(i)
		if c.flags&cellOverflowKey != 0 {
			if err := moveReference(c.key[inlinePrefix:], move); err != nil {
				return err
			}
		}
		if c.flags&cellOverflowValue != 0 {
			if err := moveReference(c.value, move); err != nil {
				return err
			}
		}
	}
	return nil
}

func moveReference(stored []byte, move runMover) error {
	r := loadRef(stored)
	now, err := move(r)
	if err == nil && now != r {
		now.store(stored)
	}
	return err
}

// anyRun reports whether leaf or branch p refers to an overflow run for which found is true.
func anyRun(p page, found func(r overflowRef) bool) (any bool) {
	_ = moveRuns(p, func(r overflowRef) (overflowRef, error) {
		any = any || found(r)
		return r, nil
	})
	return any
}
