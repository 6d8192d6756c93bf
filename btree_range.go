package alder

// Removal of whole ranges and whole trees: subtrees that lie inside go without a look at their leaves, unless a branch entry says
// that the leaves hold cells with flags (long keys or values, nested buckets).

// dropCell frees what hangs on a cell with flags that is going away.
type dropCell func(c leafCell) error

// height is the number of branch levels above the leaves.
func (t *tree) height(r pageReader) (int, error) {
	p, err := t.rootPage(r)
	if err != nil {
		return 0, err
	}
	h := 0
	for ; p.isBranch(); h++ {
		if h == maxDepth {
			return 0, tooDeep(p)
		}
		if p, err = r.readPage(p.child(0)); err != nil {
			return 0, err
		}
	}
	return h, nil
}

// free gives up every page of the tree.
func (t *tree) free(w pageWriter, drop dropCell) error {
	if t.root.id == 0 {
		if t.inline == nil {
			return nil
		}
		return dropCells(t.inline, 0, t.inline.count(), drop)
	}
	h, err := t.height(w)
	if err != nil {
		return err
	}
	return freeSubtree(w, t.root, h, true, drop)
}

// freeSubtree gives up the pages below and including r, whose leaves are height levels down. refs is false when no leaf
// holds cells with flags.
func freeSubtree(w pageWriter, r pageRef, height int, refs bool, drop dropCell) error {
	if height == 0 && !refs {
		return w.freePage(r)
	}
	p, err := w.readPage(r)
	if err != nil {
		return err
	}
	if p.isBranch() != (height > 0) {
		return corrupt(r.id, "a %v page lies %d levels above the leaves", p.kind(), height)
	}
	if height == 0 {
		if err := dropCells(p, 0, p.count(), drop); err != nil {
			return err
		}
		return w.freePage(r)
	}
	var e branchEntry
	var arena []byte
	for i := range p.count() {
		e, arena = p.entry(i, arena[:0])
		if err := freeSubtree(w, e.child, height-1, e.refs, drop); err != nil {
			return err
		}
		if err := freeSeparator(w, e); err != nil {
			return err
		}
	}
	return w.freePage(r)
}

// dropCells frees what hangs on the cells from..to of leaf p.
func dropCells(p page, from, to int, drop dropCell) error {
	if p.flags()&flagCellFlags == 0 {
		return nil
	}
	for i := from; i < to; i++ {
		if c := p.cell(i); c.flags != 0 {
			if err := drop(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeRange deletes the keys from ≤ key < to; nil is no bound. It returns how many they were.
func (t *tree) removeRange(w pageWriter, from, to []byte, drop dropCell) (uint64, error) {
	t.forget()
	n, err := t.countRange(w, from, to)
	if err != nil || n == 0 {
		return 0, err
	}
	if t.root.id == 0 {
		if err := t.unfold(w); err != nil {
			return 0, err
		}
	}
	h, err := t.height(w)
	if err != nil {
		return 0, err
	}
	t.changes++
	root, err := w.touch(t.root)
	if err != nil {
		return 0, err
	}
	t.root = root.ref()
	removed, err := cut(w, root, h, from, to, drop)
	if err != nil {
		return 0, err
	}
	if removed != n {
		return 0, corrupt(t.root.id, "a range held %d keys, the branches count %d", removed, n)
	}
	t.count -= n
	if root.count() == 0 {
		root.clearHeader(kindLeaf, root.ref())
		root.buildLeaf(nil)
	}
	// What is left beside the range lies on the paths to its ends; beside an open end nothing is left.
	for _, key := range [][]byte{from, to} {
		if key == nil {
			continue
		}
		if err := t.mendAt(w, key); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// countRange is the number of keys from ≤ key < to.
func (t *tree) countRange(r pageReader, from, to []byte) (uint64, error) {
	lo, hi := uint64(0), t.count
	var err error
	if from != nil {
		if lo, err = t.rank(r, from); err != nil {
			return 0, err
		}
	}
	if to != nil {
		if hi, err = t.rank(r, to); err != nil {
			return 0, err
		}
	}
	return hi - min(lo, hi), nil
}

// cut deletes the keys of a range below p, which may be edited, and returns how many they were. Pages along the two edges
// of the range may be left too empty.
func cut(w pageWriter, p page, height int, from, to []byte, drop dropCell) (uint64, error) {
	if p.isBranch() != (height > 0) {
		return 0, corrupt(p.id(), "a %v page lies %d levels above the leaves", p.kind(), height)
	}
	if height == 0 {
		return cutLeaf(w, p, from, to, drop)
	}
	a, b := 0, p.count()-1
	var err error
	if from != nil {
		if a, err = searchBranch(p, from, w); err != nil {
			return 0, err
		}
	}
	if to != nil {
		if b, err = searchBranch(p, to, w); err != nil {
			return 0, err
		}
	}
	var removed uint64
	gone := make([]bool, p.count())
	for i := a; i <= b; i++ {
		lo, hi := []byte(nil), []byte(nil)
		if i == a {
			lo = from
		}
		if i == b {
			hi = to
		}
		n, refs := p.childCount(i)
		if lo == nil && hi == nil {
			if err := freeSubtree(w, p.child(i), height-1, refs, drop); err != nil {
				return 0, err
			}
			removed += n
			gone[i] = true
			continue
		}
		child, err := w.touch(p.child(i))
		if err != nil {
			return 0, err
		}
		p.setChild(i, child.ref())
		k, err := cut(w, child, height-1, lo, hi, drop)
		if err != nil {
			return 0, err
		}
		removed += k
		p.setChildCount(i, n-k, refs)
		if child.count() == 0 {
			gone[i] = true
			if err := w.freePage(child.ref()); err != nil {
				return 0, err
			}
		}
	}
	if err := touchNeighbor(w, p, height, gone, a, b); err != nil {
		return 0, err
	}
	return removed, dropEntries(w, p, gone)
}

// touchNeighbor writes the pages whose bounds get wider when the children that are gone, from a to b, leave branch p, so that a page that stays
// has the bounds that it always had, or narrower ones. (Invariant 29) The neighbor on the left takes over their range; if there is none, that on
// the right. Where it is child a or b itself, the edge in question has been written already.
func touchNeighbor(w pageWriter, p page, height int, gone []bool, a, b int) error {
	switch {
	case gone[a] && a > 0:
		return touchEdge(w, p, a-1, height-1, true)
	case gone[a] && gone[b] && b+1 < p.count():
		return touchEdge(w, p, b+1, height-1, false)
	}
	return nil
}

// touchEdge makes child i of p, and the pages along one side of it down to the leaf, such that may be edited.
func touchEdge(w pageWriter, p page, i, height int, last bool) error {
	for ; ; height-- {
		child, err := w.touch(p.child(i))
		if err != nil {
			return err
		}
		if child.isBranch() != (height > 0) {
			return corrupt(child.id(), "a %v page lies %d levels above the leaves", child.kind(), height)
		}
		p.setChild(i, child.ref())
		if height == 0 {
			return nil
		}
		p, i = child, 0
		if last {
			i = child.count() - 1
		}
	}
}

func cutLeaf(w pageWriter, p page, from, to []byte, drop dropCell) (uint64, error) {
	i, j := 0, p.count()
	var err error
	if from != nil {
		if i, _, err = searchLeaf(p, from, w); err != nil {
			return 0, err
		}
	}
	if to != nil {
		if j, _, err = searchLeaf(p, to, w); err != nil {
			return 0, err
		}
	}
	if j <= i {
		return 0, nil
	}
	if err := dropCells(p, i, j, drop); err != nil {
		return 0, err
	}
	ws := w.workspace()
	src := ws.copyOf(0, p)
	ws.cells = appendCells(ws.cells[:0], src)
	ws.cells = append(ws.cells[:i], ws.cells[j:]...)
	p.buildLeaf(ws.cells)
	return uint64(j - i), nil
}

// dropEntries rebuilds branch p without the entries that are gone.
func dropEntries(w pageWriter, p page, gone []bool) error {
	ws := w.workspace()
	all := gatherEntries(ws, p, false)
	kept := all[:0]
	for i, e := range all {
		switch {
		case gone[i]:
			if err := freeSeparator(w, e); err != nil {
				return err
			}
			continue
		case len(kept) == 0 && i > 0:
			// The new first entry stands without a separator.
			if err := freeSeparator(w, e); err != nil {
				return err
			}
			e.separator, e.overflow = nil, false
		}
		kept = append(kept, e)
	}
	if len(kept) == len(gone) {
		return nil
	}
	ws.entries = kept
	p.buildBranch(kept)
	return nil
}

// mendAt repairs the pages on the path to key that a removed range has left too empty, from the root down, so that the parent of
// a page that is mended has another child to mend it with.
func (t *tree) mendAt(w pageWriter, key []byte) error {
	quarter := (w.workspace().pageSize - pageHeader) / 4
	height, err := t.height(w)
	if err != nil {
		return err
	}
	var pth path
	for h := height; h >= 0; {
		if pth, _, err = t.seek(w, pth[:0], key); err != nil {
			return err
		}
		if pth[0].p.isBranch() && pth[0].p.count() == 1 {
			old := t.root
			t.root = pth[0].p.child(0)
			if err := w.freePage(old); err != nil {
				return err
			}
			continue
		}
		lv := len(pth) - 1 - h
		h--
		if lv <= 0 || pth[lv].p.used() >= quarter {
			continue
		}
		if err := t.touchPath(w, pth); err != nil {
			return err
		}
		if lv == len(pth)-1 {
			err = t.mendLeaf(w, pth)
		} else {
			err = t.mendBranch(w, pth[:lv+1], lv)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
