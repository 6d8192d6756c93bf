package alder

// How a cell gets out of a tree, and how pages that have become too empty are mended.

// remove deletes the cell at the end of pth, which seek has found, with its overflow runs.
func (t *tree) remove(w pageWriter, pth path) error {
	t.forget()
	if t.root.id == 0 {
		if err := t.unfold(w); err != nil {
			return err
		}
		p, err := w.readPage(t.root)
		if err != nil {
			return err
		}
		pth[0].p = p
	}
	if err := t.touchPath(w, pth); err != nil {
		return err
	}
	t.changes++
	leaf := pth.leaf()
	if err := freeCell(w, leaf.p.cell(leaf.i)); err != nil {
		return err
	}
	leaf.p.removeCell(leaf.i)
	t.count--
	addCounts(pth, -1)
	if len(pth) > 1 && leaf.p.used() < (w.workspace().pageSize-pageHeader)/4 {
		return t.mendLeaf(w, pth)
	}
	return nil
}

// mendLeaf merges the leaf at the end of pth, which has become less than a quarter full, with a neighbor, or takes cells from
// one.
func (t *tree) mendLeaf(w pageWriter, pth path) error {
	parent := pth[len(pth)-2]
	i, n := parent.i, parent.p.count()
	if n < 2 {
		return nil
	}
	from := i
	if i == n-1 {
		from = i - 1
	}
	ws := w.workspace()
	ws.merges++
	cells := ws.cells[:0]
	for k := range 2 {
		p, err := readKind(w, parent.p.child(from+k), kindLeaf)
		if err != nil {
			return err
		}
		cells = appendCells(cells, ws.copyOf(k, p))
	}
	ws.cells = cells
	ws.ends = distribute(ws.ends[:0], cells, ws.pageSize-pageHeader, 1)
	return t.replaceLeaves(w, pth, from, from+2, 0)
}

// mendBranch does the same for the branch at level lv > 0 of pth.
func (t *tree) mendBranch(w pageWriter, pth path, lv int) error {
	parent := pth[lv-1]
	i, n := parent.i, parent.p.count()
	if n < 2 {
		return nil
	}
	from := i
	if i == n-1 {
		from = i - 1
	}
	ws := w.workspace()
	ws.merges++
	for k := range 2 {
		p, err := readKind(w, parent.p.child(from+k), kindBranch)
		if err != nil {
			return err
		}
		at := len(ws.entries)
		gatherEntries(ws, p, k == 1)
		if k == 1 {
			// The separator between the two pages comes down to stand before the second one's first child.
			var e branchEntry
			e, ws.arena = parent.p.entry(from+1, ws.arena)
			ws.entries[at].separator, ws.entries[at].overflow = e.separator, e.overflow
		}
	}
	return t.writeBranches(w, pth, lv, from, 2, ws.entries, 0)
}
