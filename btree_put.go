package alder

import (
	"bytes"
	"slices"
)

// How a cell gets into a tree.

// put stores a cell under key, with the given cell flags, and reports whether key was new. It refuses to replace a bucket by a
// key or the reverse; after any other error the tree must not be used again.
func (t *tree) put(w pageWriter, key, value []byte, flags uint8) (added bool, err error) {
	if t.root.id == 0 {
		if err := t.unfold(w); err != nil {
			return false, err
		}
	}
	if t.last == nil {
		t.last = &lastPut{}
	}
	exact, ok := t.reuseHotPath(w, key)
	if !ok {
		if t.last.hot.path == nil {
			t.last.hot.path = t.last.hot.levels[:0]
		}
		pth := t.last.hot.path[:0]
		t.forget()
		if t.last.hot.path, exact, err = t.seek(w, pth, key); err != nil {
			return false, err
		}
		// Refused before anything is touched. A leaf that the hot path leads to has no cells with flags.
		if leaf := t.last.hot.path.leaf(); exact && (leaf.p.cell(leaf.i).flags^flags)&cellBucket != 0 {
			return false, ErrIncompatibleValue
		}
		if err := t.touchPath(w, t.last.hot.path); err != nil {
			return false, err
		}
		t.last.hot.rightmost = atRightEdge(t.last.hot.path[:len(t.last.hot.path)-1])
		t.last.hot.evicted = w.workspace().evicted
		t.last.hot.ok = true
	}
	pth := t.last.hot.path
	leaf := pth.leaf()
	var c leafCell
	if exact {
		old := leaf.p.cell(leaf.i)
		if err := freeValue(w, old); err != nil {
			return false, err
		}
		c.key, c.flags = old.key, old.flags&cellOverflowKey
	} else if c.key, c.flags, err = storeKey(w, key); err != nil {
		return false, err
	}
	if err := storeValue(w, &c, value, flags); err != nil {
		return false, err
	}
	t.changes++
	if !exact {
		t.count++
		t.last.run.note(leaf.p.id(), leaf.i)
	}
	if c.flags != 0 {
		for _, l := range pth[:len(pth)-1] {
			n, _ := l.p.childCount(l.i)
			l.p.setChildCount(l.i, n, true)
		}
	}
	return !exact, t.place(w, pth, c, exact)
}

// reuseHotPath decides whether key belongs to the leaf of the last put, and sets the slot there.
func (t *tree) reuseHotPath(w pageWriter, key []byte) (exact, ok bool) {
	if !t.last.hot.ok || t.last.hot.evicted != w.workspace().evicted {
		return false, false
	}
	leaf := t.last.hot.path.leaf()
	n := leaf.p.count()
	if n == 0 || leaf.p.flags()&flagCellFlags != 0 {
		return false, false
	}
	switch d := bytes.Compare(key, leaf.p.cellKey(n-1)); {
	case d > 0:
		leaf.i = n
		return false, t.last.hot.rightmost
	case d == 0:
		leaf.i = n - 1
		return true, true
	}
	// Only keys that come in descending order are likely to meet the same leaf below its last key.
	if t.last.run.falling == 0 || bytes.Compare(key, leaf.p.cellKey(0)) <= 0 {
		return false, false
	}
	i, exact, err := searchLeaf(leaf.p, key, w)
	leaf.i = i
	return exact, err == nil
}

// jumps reports whether key belongs to another place than where the last put was, or behind that.
func (t *tree) jumps(w pageWriter, key []byte) bool {
	if t.last == nil || !t.last.hot.ok || t.last.hot.evicted != w.workspace().evicted {
		return false
	}
	leaf := t.last.hot.path.leaf()
	n := leaf.p.count()
	return n == 0 || !t.last.hot.rightmost || bytes.Compare(key, leaf.p.cellKey(n-1)) <= 0
}

// unfold gives an inline tree a root page of its own.
func (t *tree) unfold(w pageWriter) error {
	p, err := w.newPage(kindLeaf)
	if err != nil {
		return err
	}
	ws := w.workspace()
	ws.cells = ws.cells[:0]
	if t.inline != nil {
		ws.cells = appendCells(ws.cells, t.inline)
	}
	p.buildLeaf(ws.cells)
	t.root, t.inline = p.ref(), nil
	t.changes++ // whatever happens next: the parent's cell does not know the page yet
	return nil
}

// touchPath makes every page of pth one that may be edited.
func (t *tree) touchPath(w pageWriter, pth path) error {
	t.changes++ // the root may move: from here on the parent's cell is out of date
	ref := t.root
	for l := range pth {
		p, err := w.touchPage(ref, pth[l].p)
		if err != nil {
			return err
		}
		if now := p.ref(); now != ref {
			if l == 0 {
				t.root = now
			} else {
				pth[l-1].p.setChild(pth[l-1].i, now)
			}
		}
		pth[l].p = p
		if l < len(pth)-1 {
			ref = p.child(pth[l].i)
		}
	}
	return nil
}

// storeKey returns the stored form of key.
func storeKey(w pageWriter, key []byte) ([]byte, uint8, error) {
	ws := w.workspace()
	if len(key) <= maxInlineKey(ws.pageSize) {
		return key, 0, nil
	}
	r, err := w.writeRun(key)
	if err != nil {
		return nil, 0, err
	}
	ws.key = append(ws.key[:0], key[:inlinePrefix]...)
	ws.key = append(ws.key, make([]byte, refSize)...)
	r.store(ws.key[inlinePrefix:])
	return ws.key, cellOverflowKey, nil
}

// storeValue completes c with the stored form of value.
func storeValue(w pageWriter, c *leafCell, value []byte, flags uint8) error {
	c.value = value
	c.flags |= flags
	if c.size(leafFlagsMask) <= maxCell(w.workspace().pageSize) {
		return nil
	}
	r, err := w.writeRun(value)
	if err != nil {
		return err
	}
	c.value = make([]byte, refSize)
	r.store(c.value)
	c.flags |= cellOverflowValue
	return nil
}

func freeValue(w pageWriter, c leafCell) error {
	if c.flags&cellOverflowValue == 0 {
		return nil
	}
	return w.freeRun(loadRef(c.value))
}

// freeCell frees the overflow runs of a cell that is going away.
func freeCell(w pageWriter, c leafCell) error {
	if c.flags&cellOverflowKey != 0 {
		if err := w.freeRun(keyRef(c.key)); err != nil {
			return err
		}
	}
	return freeValue(w, c)
}

// place puts c into the leaf at the end of pth, in place of the cell there if replace.
func (t *tree) place(w pageWriter, pth path, c leafCell, replace bool) error {
	leaf := pth.leaf()
	if replace {
		if leaf.p.replaceValue(leaf.i, c) {
			return nil
		}
	} else if leaf.p.insertCell(leaf.i, c) {
		addCounts(pth, 1)
		return nil
	}
	if !replace && leaf.i == leaf.p.count() && leaf.p.garbage() == 0 && leaf.p.accepts(&c) && atRightEdge(pth[:len(pth)-1]) {
		return t.appendLeaf(w, pth, c)
	}
	// Rebuild the leaf: without its garbage, or in another layout, or as several.
	ws := w.workspace()
	src := ws.copyOf(0, leaf.p)
	cells := appendCells(ws.cells[:0], src)
	if replace {
		// The key may point into the page that is about to be rebuilt.
		c.key = cells[leaf.i].key
		cells[leaf.i] = c
	} else {
		cells = slices.Insert(cells, leaf.i, c)
	}
	ws.cells = cells
	if leafBytes(cells, layoutOf(cells)) <= ws.pageSize-pageHeader {
		leaf.p.buildLeaf(cells)
		if !replace {
			addCounts(pth, 1)
		}
		return nil
	}
	delta := 1
	if replace {
		delta = 0
	}
	return t.split(w, pth, delta, replace)
}

// appendLeaf puts c, which comes after all keys of the tree, into a new leaf behind the last one, which is full and stays as it is. Keys that come in
// order meet the new leaf without another look from the root.
func (t *tree) appendLeaf(w pageWriter, pth path, c leafCell) error {
	ws := w.workspace()
	last := pth.leaf().p
	p, err := w.newPage(kindLeaf)
	if err != nil {
		return err
	}
	ws.cells = append(ws.cells[:0], c)
	p.buildLeaf(ws.cells)
	ws.cuts = ws.cuts[:0]
	right := branchEntry{child: p.ref(), count: 1, refs: c.flags != 0}
	if right.separator, right.overflow, err = separate(w, last.cell(last.count()-1), c); err != nil {
		return err
	}
	left := branchEntry{child: last.ref(), count: uint64(last.count()), refs: last.flags()&flagCellFlags != 0}
	ws.fresh = append(ws.fresh[:0], left, right)
	ws.splits++
	if len(pth) == 1 {
		return t.growRoot(w, ws.fresh)
	}
	up := &pth[len(pth)-2]
	if !up.p.replaceEntries(up.i, 1, ws.fresh) {
		return t.replaceChildren(w, pth, len(pth)-2, up.i, 1, ws.fresh, true, 1)
	}
	addCounts(pth[:len(pth)-1], 1)
	up.i++
	pth[len(pth)-1] = level{p, 0}
	t.last.run.leaf, t.last.run.slot = p.id(), 0
	return nil
}

// addCounts adds delta keys to every branch entry on pth.
func addCounts(pth path, delta int) {
	for _, l := range pth[:len(pth)-1] {
		n, refs := l.p.childCount(l.i)
		l.p.setChildCount(l.i, n+uint64(int64(delta)), refs)
	}
}

func appendCells(cells []leafCell, p page) []leafCell {
	for i := range p.count() {
		cells = append(cells, p.cell(i))
	}
	return cells
}
