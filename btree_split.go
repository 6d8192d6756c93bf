package alder

import "slices"

// How cells are distributed over leaves, and children over branches, when they are too many for a page or too few. Every change of
// the structure is one act: the cells or entries of some neighboring pages are gathered, divided anew, and the parent's
// entries for those pages are replaced.
//
// The overflow run of a long separator belongs to the one branch entry that names it. Moving an entry, up and down too, moves the run; only
// replaceChildren with freeOld, dropEntries and freeSubtree free one.

// split distributes workspace.cells, which are too many for the leaf at the end of pth, over several leaves. delta is the
// number of keys that the parents do not know of yet.
func (t *tree) split(w pageWriter, pth path, delta int, replace bool) error {
	ws := w.workspace()
	leaf := pth.leaf()
	room := ws.pageSize - pageHeader
	at, n := leaf.i, len(ws.cells)
	rightmost := atRightEdge(pth[:len(pth)-1])
	leftmost := !slices.ContainsFunc(pth[:len(pth)-1], func(l level) bool { return l.i != 0 })
	cut := 0 // where the leaf is cut in two because keys come in order; 0: evenly
	switch {
	case replace:
	case at == n-1 && (rightmost || t.last.run.ascending >= runLength):
		cut = n - 1
	case at == 0 && (leftmost || t.last.run.falling >= runLength):
		cut = 1
	case t.last.run.ascending >= runLength && fits(ws.cells[:at+1], room):
		cut = at + 1 // the run goes on in the left page
	case t.last.run.falling >= runLength && fits(ws.cells[at:], room):
		cut = at
	}
	if cut != 0 && (!fits(ws.cells[:cut], room) || !fits(ws.cells[cut:], room)) {
		cut = 0
	}
	from, to := 0, 1
	if len(pth) > 1 {
		from = pth[len(pth)-2].i
		to = from + 1
	}
	ws.ends = append(ws.ends[:0], cut, n)
	if cut == 0 {
		pages := 2
		if len(pth) > 1 {
			var err error
			if from, to, pages, err = t.widen(w, pth, from); err != nil {
				return err
			}
		}
		ws.ends = distribute(ws.ends[:0], ws.cells, room, pages)
	}
	if len(ws.ends) > to-from {
		ws.splits++
	}
	return t.replaceLeaves(w, pth, from, to, delta)
}

func fits(cells []leafCell, room int) bool {
	return leafBytes(cells, layoutOf(cells)) <= room
}

// Leaves that are filled at random are 69 % full if each is cut in two when it is full. They stay fuller if a full one first shares with a
// neighbor, and if two full ones become three (the idea is that of the B*-tree: Knuth, The Art of Computer Programming, vol. 3,
// 6.2.4). But a leaf that gets a few cells is full again soon, and one that this transaction does not write anyway has to be
// copied. So there must be this much room, as parts of a page, in both together:
const (
	spareDirty = 8 // in a neighbor that the transaction has written already; with less room two leaves become three
	spareOther = 4 // in any other; with less room it is left alone
)

// widen adds the cells of a neighbor to workspace.cells, which are too many for the leaf in slot from of pth's last branch, if that
// makes leaves fuller. It returns which leaves the cells come from and over how many they are to be divided, at least.
func (t *tree) widen(w pageWriter, pth path, from int) (first, end, pages int, err error) {
	ws := w.workspace()
	parent := pth[len(pth)-2].p
	birth := parent.child(from).birth
	room := ws.pageSize - pageHeader
	total := leafBytes(ws.cells, layoutOf(ws.cells))
	neighbor := roomiest(parent, from, total, len(ws.cells), room)
	if neighbor < 0 {
		return from, from + 1, 2, nil
	}
	r := parent.child(neighbor)
	p, err := readKind(w, r, kindLeaf)
	if err != nil {
		return 0, 0, 0, err
	}
	spare := 2*room - total - p.used()
	if r.birth != birth && spare < room/spareOther {
		return from, from + 1, 2, nil
	}
	pages = 2
	if spare < room/spareDirty {
		pages = 3
	}
	src := ws.copyOf(1, p)
	if neighbor > from {
		ws.cells = appendCells(ws.cells, src)
		return from, from + 2, pages, nil
	}
	own := len(ws.cells)
	ws.cells = appendCells(ws.cells, src)
	rotateCells(ws.cells, own)
	return neighbor, neighbor + 2, pages, nil
}

// rotateCells lets cells begin with cells[k].
func rotateCells(cells []leafCell, k int) {
	slices.Reverse(cells[:k])
	slices.Reverse(cells[k:])
	slices.Reverse(cells)
}

// roomiest returns the neighbor of child i that seems best to share cells with, judged by what its parent knows of it: no page is read.
// n cells of total bytes are too many for child i. -1: none of them is worth it.
func roomiest(parent page, i, total, n, room int) int {
	best, most := -1, 0
	birth := parent.child(i).birth
	for _, j := range [2]int{i - 1, i + 1} {
		if j < 0 || j >= parent.count() {
			continue
		}
		keys, _ := parent.childCount(j)
		spare := 2*room - total - int(min(keys, uint64(room))*uint64(total)/uint64(n)) // taken to be of the same size as those
		worth := spare - room/spareOther
		if parent.child(j).birth == birth {
			worth = max(spare, 0) + 1
		}
		if worth >= 0 && worth >= most {
			best, most = j, worth
		}
	}
	return best
}

// distribute divides cells over as few pages as it can, but for at least that many, about equally full. It appends the end of each page's
// cells to ends.
func distribute(ends []int, cells []leafCell, room, pages int) []int {
	l := layoutOf(cells)
	per := leafSlot + cellHeader(l.flags)
	n := len(cells)
	if l.flags&(flagKeyLen|flagValueLen) == 0 {
		// All of one size.
		fit := room / (per + l.keySize + l.valueSize)
		pages = max(min(pages, n), (n+fit-1)/fit)
		for g := 1; g <= pages; g++ {
			ends = append(ends, n*g/pages)
		}
		return ends
	}
	total := leafBytes(cells, l)
	return distributeSizes(ends, n, total, room, pages, func(i int) int { return per + len(cells[i].key) + len(cells[i].value) })
}

// distributeSizes divides n things with the given sizes over as few pages of room bytes as an even division allows, but for at least
// that many.
func distributeSizes(ends []int, n, total, room, pages int, size func(i int) int) []int {
	for pages = max(pages, (total+room-1)/room); ; pages++ {
		ends = ends[:0]
		left, sum := total, 0
		ok := true
		for i := range n {
			s := size(i)
			target := left / (pages - len(ends))
			// A page ends before thing i if the target is nearer without it, or if it does not fit.
			if sum > 0 && len(ends) < pages-1 && (sum+s > room || sum+s-target > target-sum) {
				ends = append(ends, i)
				left -= sum
				sum = 0
			}
			sum += s
			if sum > room {
				ok = false
				break
			}
		}
		if ok {
			return append(ends, n)
		}
	}
}

// replaceLeaves writes workspace.cells, divided at workspace.ends, in place of the leaves from..to of pth's last branch (or of the root
// leaf). The cells must not point into those leaves.
func (t *tree) replaceLeaves(w pageWriter, pth path, from, to int, delta int) error {
	ws := w.workspace()
	cells, ends := ws.cells, ws.ends
	entries := ws.fresh[:0]
	ws.cuts = ws.cuts[:0]
	start := 0
	for g, end := range ends {
		p, err := t.leafFor(w, pth, from+g, to)
		if err != nil {
			return err
		}
		group := cells[start:end]
		p.buildLeaf(group)
		e := branchEntry{child: p.ref(), count: uint64(len(group)), refs: p.flags()&flagCellFlags != 0}
		if g > 0 {
			if e.separator, e.overflow, err = separate(w, cells[start-1], cells[start]); err != nil {
				return err
			}
		}
		entries = append(entries, e)
		start = end
	}
	ws.fresh = entries
	if len(pth) == 1 {
		return t.growRoot(w, entries)
	}
	for j := from + len(ends); j < to; j++ {
		if err := w.freePage(pth[len(pth)-2].p.child(j)); err != nil {
			return err
		}
	}
	return t.replaceChildren(w, pth, len(pth)-2, from, to-from, entries, true, delta)
}

// leafFor returns a page to build a leaf in: that of child j where there is one, else a new one.
func (t *tree) leafFor(w pageWriter, pth path, j, to int) (page, error) {
	if len(pth) == 1 {
		if j == 0 {
			return pth[0].p, nil
		}
		return w.newPage(kindLeaf)
	}
	if j < to {
		return w.touch(pth[len(pth)-2].p.child(j))
	}
	return w.newPage(kindLeaf)
}

// separate returns the shortest separator between the keys of two neighboring cells, in stored form.
func separate(w pageWriter, a, b leafCell) ([]byte, bool, error) {
	ka, err := wholeKey(w, a)
	if err != nil {
		return nil, false, err
	}
	kb, err := wholeKey(w, b)
	if err != nil {
		return nil, false, err
	}
	s := kb[:commonPrefix(ka, kb)+1]
	if ws := w.workspace(); len(s) <= maxInlineKey(ws.pageSize) {
		at := len(ws.cuts)
		ws.cuts = append(ws.cuts, s...)
		return ws.cuts[at:len(ws.cuts):len(ws.cuts)], false, nil
	}
	r, err := w.writeRun(s)
	if err != nil {
		return nil, false, err
	}
	stored := make([]byte, inlinePrefix+refSize)
	copy(stored, s[:inlinePrefix])
	r.store(stored[inlinePrefix:])
	return stored, true, nil
}

func wholeKey(r pageReader, c leafCell) ([]byte, error) {
	if c.flags&cellOverflowKey == 0 {
		return c.key, nil
	}
	return r.readRun(keyRef(c.key))
}

// growRoot puts a new root above entries, if they are more than one.
func (t *tree) growRoot(w pageWriter, entries []branchEntry) error {
	t.forget()
	if len(entries) == 1 {
		t.root = entries[0].child
		return nil
	}
	p, err := w.newPage(kindBranch)
	if err != nil {
		return err
	}
	p.buildBranch(entries)
	t.root = p.ref()
	return nil
}

// replaceChildren writes entries in place of m entries from index from of the branch at level lv of pth, and carries on upwards.
// The first new entry takes over the separator of the first old one. freeOld says whether the separators of the other
// old entries are not used any more. delta keys are new to the levels above.
func (t *tree) replaceChildren(w pageWriter, pth path, lv, from, m int, entries []branchEntry, freeOld bool, delta int) error {
	ws := w.workspace()
	p := pth[lv].p
	t.forget()
	if p.replaceEntries(from, m, entries) {
		addCounts(pth[:lv+1], delta)
		return nil
	}
	all := gatherEntries(ws, p, false)
	if freeOld {
		for _, e := range all[from+1 : from+m] {
			if err := freeSeparator(w, e); err != nil {
				return err
			}
		}
	}
	entries[0].separator, entries[0].overflow = all[from].separator, all[from].overflow
	all = slices.Replace(all, from, from+m, entries...)
	ws.entries = all
	return t.writeBranches(w, pth, lv, pth[lv].i, 1, all, delta)
}

// gatherEntries collects the entries of p in the workspace. Their separators are copies.
// With keep they are added to those gathered before.
func gatherEntries(ws *workspace, p page, keep bool) []branchEntry {
	if !keep {
		ws.entries = ws.entries[:0]
		ws.arena = ws.arena[:0]
	}
	// Separators stay valid when the arena moves: the old array lives on.
	for i := range p.count() {
		var e branchEntry
		e, ws.arena = p.entry(i, ws.arena)
		ws.entries = append(ws.entries, e)
	}
	return ws.entries
}

func freeSeparator(w pageWriter, e branchEntry) error {
	if !e.overflow {
		return nil
	}
	return w.freeRun(keyRef(e.separator))
}

// writeBranches writes entries, whose separators do not point into any page, in place of the branch at level lv of pth and those
// of its neighbors that were gathered with it: m pages from slot first of the level above.
func (t *tree) writeBranches(w pageWriter, pth path, lv, at, m int, entries []branchEntry, delta int) error {
	ws := w.workspace()
	room := ws.pageSize - pageHeader
	p := pth[lv].p
	if lv == 0 && len(entries) == 1 {
		// The root has a single child left, which becomes the root.
		t.root = entries[0].child
		return w.freePage(p.ref())
	}
	first := 0
	if lv > 0 {
		first = pth[lv-1].i
		if m > 1 {
			first = at
		}
	}
	if m == 1 && branchBytes(entries) <= room {
		p.buildBranch(entries)
		addCounts(pth[:lv+1], delta)
		if lv > 0 && p.used() < room/4 {
			return t.mendBranch(w, pth, lv)
		}
		return nil
	}
	ends := distributeEntries(entries, room, m == 1 && atRightEdge(pth[:lv+1]))
	groups := make([]branchEntry, 0, len(ends))
	start := 0
	for g, end := range ends {
		q := p
		var err error
		switch {
		case lv == 0 && g > 0 || lv > 0 && g >= m:
			q, err = w.newPage(kindBranch)
		case lv > 0:
			q, err = w.touch(pth[lv-1].p.child(first + g))
		}
		if err != nil {
			return err
		}
		group := entries[start:end]
		e := branchEntry{child: q.ref(), separator: group[0].separator, overflow: group[0].overflow}
		for i := range group {
			e.count += group[i].count
			e.refs = e.refs || group[i].refs
		}
		q.buildBranch(group)
		groups = append(groups, e)
		start = end
	}
	if lv == 0 {
		return t.growRoot(w, groups)
	}
	for j := first + len(ends); j < first+m; j++ {
		if err := w.freePage(pth[lv-1].p.child(j)); err != nil {
			return err
		}
	}
	// The workspace is used again one level up: groups have separators that live in its arena.
	for i := range groups {
		groups[i].separator = slices.Clone(groups[i].separator)
	}
	return t.replaceChildren(w, pth, lv-1, first, m, groups, false, delta)
}

// atRightEdge reports whether pth takes the last slot of every page.
func atRightEdge(pth path) bool {
	return !slices.ContainsFunc(pth, func(l level) bool { return l.i != l.p.count()-1 })
}

// distributeEntries divides the entries of branches that are too full, or too empty. growing says that a page at the right edge of
// the tree is split: keys that come in order go on there, so the left page stays full.
func distributeEntries(entries []branchEntry, room int, growing bool) []int {
	n := len(entries)
	if total := branchBytes(entries); total > room && growing && n > 3 && branchBytes(entries[:n-2]) <= room {
		return []int{n - 2, n}
	}
	total := 0
	size := func(i int) int {
		if i == 0 {
			return branchSlot
		}
		// Without the saving of a prefix, which each page finds for itself.
		return branchSlot + entries[i].cellSize(0)
	}
	for i := range entries {
		total += size(i)
	}
	if branchBytes(entries) <= room {
		return []int{n}
	}
	ends := distributeSizes(nil, n, total, room, 1, size)
	// No page with a single child: its neighbor has enough.
	for g := len(ends) - 1; g >= 0; g-- {
		start := 0
		if g > 0 {
			start = ends[g-1]
		}
		if ends[g]-start == 1 && g > 0 {
			ends[g-1]--
		}
	}
	if len(ends) > 1 && ends[0] < 2 {
		ends[0] = 2
	}
	return ends
}
