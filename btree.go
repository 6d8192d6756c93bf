package alder

import (
	"bytes"
)

// This layer knows how pages form an ordered tree: it seeks, inserts, deletes, splits and merges. It does not know where pages come
// from, what a transaction is, or what values mean (a value with cellBucket is bytes like any other).
//
// Invariants (docs/invariants.md has all, numbered; check.go verifies them):
//   - all leaves of a tree lie at the same depth;
//   - a separator is above every key of the subtrees before it and at or below every key of its own;
//   - a branch entry has the pgid and birth of its child and the number of keys below;
//   - every branch but a root has at least two children, and a root has at least two or is a leaf.

// pageReader is all that a lookup is given: with it nothing can be allocated or changed.
type pageReader interface {
	// readPage returns a validated leaf or branch page. It is not to be changed.
	readPage(r pageRef) (page, error)
	// readRun returns the data of an overflow run.
	readRun(r overflowRef) ([]byte, error)
}

// pageWriter is what the operations that change a tree are given.
type pageWriter interface {
	pageReader
	// touch returns the version of r that this transaction may edit; if r is older, that is a copy in a new place, whose
	// reference the caller must store in the parent.
	touch(r pageRef) (page, error)
	// touchPage is touch of a page that the caller has read: p.
	touchPage(r pageRef, p page) (page, error)
	newPage(k pageKind) (page, error)
	freePage(r pageRef) error
	// writeRun stores data as an overflow run.
	writeRun(data []byte) (overflowRef, error)
	freeRun(r overflowRef) error
	workspace() *workspace
}

// Limits that follow from the page size.
func maxInlineKey(pageSize int) int { return pageSize / 8 }

// maxCell is the largest cell, header included, that is stored in a leaf: two always fit.
func maxCell(pageSize int) int {
	return (pageSize-pageHeader)/2 - leafSlot
}

// tree is one ordered set of cells. A small one may be inline: a leaf image inside the value of the parent's cell.
type tree struct {
	root   pageRef // id 0: inline
	inline page    // with root.id 0: the image, nil when empty
	count  uint64  // keys

	movedAt txid // of a bucket's tree: the transaction that moved it to its place, 0 if it was created there

	changes uint64   // counts the changes; a cursor whose count differs seeks its place anew
	last    *lastPut // nil before the first put
}

// lastPut is what put remembers for the next put.
type lastPut struct {
	hot hotPath
	run keyRun
}

// forget makes the next put seek its place from the root.
func (t *tree) forget() {
	if t.last != nil {
		t.last.hot.ok = false
	}
}

// hotPath remembers where the last put went, for keys that come in order.
type hotPath struct {
	path      path
	levels    [5]level // memory for path, unless the tree is deeper
	rightmost bool
	evicted   uint64
	ok        bool
}

// keyRun detects keys that come in ascending or descending order, so that pages are split where they go on.
type keyRun struct {
	leaf      pgid
	slot      int
	ascending int
	falling   int
}

// note records an insert at slot i of leaf.
func (k *keyRun) note(leaf pgid, i int) {
	switch {
	case leaf == k.leaf && i == k.slot+1:
		k.ascending, k.falling = k.ascending+1, 0
	case leaf == k.leaf && i == k.slot:
		k.ascending, k.falling = 0, k.falling+1
	default:
		k.ascending, k.falling = 0, 0
	}
	k.leaf, k.slot = leaf, i
}

// runLength is the number of keys in a row that make a run.
const runLength = 4

// level is one step of a path: a page and the slot taken in it.
type level struct {
	p page
	i int
}

// path leads from the root, levels[0], to a leaf.
type path []level

func (p path) leaf() *level { return &p[len(p)-1] }

// maxDepth bounds every descent: no tree of 2^47 keys is as deep, so a deeper one is damaged.
const maxDepth = 48

var emptyLeaf = func() page {
	p := make(page, pageHeader)
	p.setKind(kindLeaf)
	return p
}()

func (t *tree) rootPage(r pageReader) (page, error) {
	if t.root.id != 0 {
		return r.readPage(t.root)
	}
	if t.inline != nil {
		return t.inline, nil
	}
	return emptyLeaf, nil
}

// ---- search

// compareCell orders key against the key of cell c: negative if key is smaller.
func compareCell(key []byte, c leafCell, r pageReader) (int, error) {
	if c.flags&cellOverflowKey == 0 {
		return bytes.Compare(key, c.key), nil
	}
	return compareStored(key, c.key, r)
}

// compareStored orders key against an overflow key in its stored form.
func compareStored(key, stored []byte, r pageReader) (int, error) {
	n := min(len(key), inlinePrefix)
	if d := bytes.Compare(key[:n], stored[:inlinePrefix]); d != 0 {
		return d, nil
	}
	whole, err := r.readRun(keyRef(stored))
	if err != nil {
		return 0, err
	}
	return bytes.Compare(key, whole), nil
}

// equalRun is the end of the slots from i on whose head is h.
func (p page) equalRun(i, n int, h uint32) int {
	j := i
	for ; j < n && j < i+4; j++ {
		if p.head(j) != h {
			return j
		}
	}
	if h == 1<<32-1 {
		return n
	}
	return p.lowerHead(j, n, h+1)
}

// searchLeaf returns the slot of key, or the slot where it would be inserted.
func searchLeaf(p page, key []byte, r pageReader) (i int, exact bool, err error) {
	return searchLeafFrom(p, key, p.lowerHead(0, p.count(), headAfter(key, p.prefixLen())), r)
}

// searchLeafFrom is searchLeaf where lo is known to be the first slot whose head is not below that of key.
func searchLeafFrom(p page, key []byte, lo int, r pageReader) (i int, exact bool, err error) {
	n := p.count()
	plen := p.prefixLen()
	h := headAfter(key, plen)
	if lo < n && p.head(lo) == h {
		hi := lo + 1
		if hi < n && p.head(hi) == h {
			hi = p.equalRun(hi, n, h)
		}
		for lo < hi {
			m := int(uint(lo+hi) >> 1)
			d, err := compareCell(key, p.cell(m), r)
			if err != nil {
				return 0, false, err
			}
			if d == 0 {
				return m, true, nil
			}
			if d > 0 {
				lo = m + 1
			} else {
				hi = m
			}
		}
	}
	// Heads say where key belongs only if it shares the page's prefix; if not, it lies outside all keys of the page.
	if plen > 0 && n > 0 {
		prefix := p.cell(0).key[:plen]
		if d := bytes.Compare(key[:min(len(key), plen)], prefix); d < 0 {
			lo = 0
		} else if d > 0 {
			lo = n
		}
	}
	return lo, false, nil
}

// searchBranch returns the slot of the child whose subtree key belongs to.
func searchBranch(p page, key []byte, r pageReader) (int, error) {
	n := p.count()
	plen := p.prefixLen()
	if plen > 0 {
		if d := bytes.Compare(key[:min(len(key), plen)], p.prefix()); d < 0 {
			return 0, nil
		} else if d > 0 {
			return n - 1, nil
		}
	}
	h := headAfter(key, plen)
	lo := p.lowerHead(1, n, h)
	if lo >= n || p.head(lo) != h {
		return lo - 1, nil
	}
	hi := p.equalRun(lo, n, h)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		d, err := p.compareSeparator(key, m, n, plen, r)
		if err != nil {
			return 0, err
		}
		if d >= 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo - 1, nil
}

// compareSeparator orders key, which shares the page's prefix, against separator i.
func (p page) compareSeparator(key []byte, i, n, plen int, r pageReader) (int, error) {
	var buf [headSize]byte
	rest, overflow := p.separatorRest(i, n, &buf)
	if !overflow {
		return bytes.Compare(key[plen:], rest), nil
	}
	k := min(len(key)-plen, inlinePrefix-plen)
	if d := bytes.Compare(key[plen:plen+k], rest[:inlinePrefix-plen]); d != 0 {
		return d, nil
	}
	whole, err := r.readRun(loadRef(rest[inlinePrefix-plen:]))
	if err != nil {
		return 0, err
	}
	return bytes.Compare(key, whole), nil
}

// get returns the leaf and slot of key.
func (t *tree) get(r pageReader, key []byte) (p page, i int, exact bool, err error) {
	if p, err = t.rootPage(r); err != nil {
		return nil, 0, false, err
	}
	for depth := 0; p.isBranch(); depth++ {
		i, err := searchBranch(p, key, r)
		if err != nil {
			return nil, 0, false, err
		}
		if depth == maxDepth {
			return nil, 0, false, tooDeep(p)
		}
		if p, err = r.readPage(p.child(i)); err != nil {
			return nil, 0, false, err
		}
	}
	i, exact, err = searchLeaf(p, key, r)
	return p, i, exact, err
}

// readKind is readPage of a page that must be of kind k, as all others of its level are.
func readKind(r pageReader, ref pageRef, k pageKind) (page, error) {
	p, err := r.readPage(ref)
	if err == nil && p.kind() != k {
		return nil, corrupt(ref.id, "found a %v among %v pages of the same level", p.kind(), k)
	}
	return p, err
}

func tooDeep(p page) error {
	return corrupt(p.id(), "tree is deeper than %d levels", maxDepth)
}

// seek appends to pth the path to the slot of key, or where it would be inserted.
func (t *tree) seek(r pageReader, pth path, key []byte) (path, bool, error) {
	p, err := t.rootPage(r)
	if err != nil {
		return pth, false, err
	}
	for p.isBranch() {
		i, err := searchBranch(p, key, r)
		if err != nil {
			return pth, false, err
		}
		pth = append(pth, level{p, i})
		if len(pth) > maxDepth {
			return pth, false, tooDeep(p)
		}
		if p, err = r.readPage(p.child(i)); err != nil {
			return pth, false, err
		}
	}
	i, exact, err := searchLeaf(p, key, r)
	return append(pth, level{p, i}), exact, err
}

// edge appends to pth the path to the first slot, or to the last; in an empty tree the leaf's slot is 0 or -1.
func (t *tree) edge(r pageReader, pth path, last bool) (path, error) {
	p, err := t.rootPage(r)
	if err != nil {
		return pth, err
	}
	return descendEdge(r, pth, p, last)
}

func descendEdge(r pageReader, pth path, p page, last bool) (path, error) {
	for {
		i := 0
		if last {
			i = p.count() - 1
		}
		if !p.isBranch() && p.count() == 0 && len(pth) > 0 {
			return pth, corrupt(p.id(), "leaf below a branch is empty")
		}
		pth = append(pth, level{p, i})
		if !p.isBranch() {
			return pth, nil
		}
		if len(pth) > maxDepth {
			return pth, tooDeep(p)
		}
		var err error
		if p, err = r.readPage(p.child(i)); err != nil {
			return pth, err
		}
	}
}

// nextLeaf moves pth, whose last level is a leaf, to the first slot of the next leaf; false at the end.
func nextLeaf(r pageReader, pth path) (path, bool, error) {
	for l := len(pth) - 2; l >= 0; l-- {
		if pth[l].i+1 >= pth[l].p.count() {
			continue
		}
		pth[l].i++
		p, err := r.readPage(pth[l].p.child(pth[l].i))
		if err != nil {
			return pth, false, err
		}
		pth, err = descendEdge(r, pth[:l+1], p, false)
		return pth, err == nil, err
	}
	return pth, false, nil
}

// prevLeaf moves pth to the last slot of the leaf before; false at the start.
func prevLeaf(r pageReader, pth path) (path, bool, error) {
	for l := len(pth) - 2; l >= 0; l-- {
		if pth[l].i == 0 {
			continue
		}
		pth[l].i--
		p, err := r.readPage(pth[l].p.child(pth[l].i))
		if err != nil {
			return pth, false, err
		}
		pth, err = descendEdge(r, pth[:l+1], p, true)
		return pth, err == nil, err
	}
	return pth, false, nil
}

// rank is the number of keys below key.
func (t *tree) rank(r pageReader, key []byte) (uint64, error) {
	p, err := t.rootPage(r)
	if err != nil {
		return 0, err
	}
	var n uint64
	for depth := 0; p.isBranch(); depth++ {
		i, err := searchBranch(p, key, r)
		if err != nil {
			return 0, err
		}
		n += sumCounts(p, i)
		if depth == maxDepth {
			return 0, tooDeep(p)
		}
		if p, err = r.readPage(p.child(i)); err != nil {
			return 0, err
		}
	}
	i, _, err := searchLeaf(p, key, r)
	return n + uint64(i), err
}

// sumCounts is the number of keys below the first k children of p.
func sumCounts(p page, k int) uint64 {
	var n uint64
	for i := range k {
		c, _ := p.childCount(i)
		n += c
	}
	return n
}

// at returns the leaf and slot of the key of rank n, which must be below t.count.
func (t *tree) at(r pageReader, n uint64) (p page, i int, err error) {
	if p, err = t.rootPage(r); err != nil {
		return nil, 0, err
	}
	for depth := 0; p.isBranch(); depth++ {
		i := 0
		for ; i < p.count()-1; i++ {
			c, _ := p.childCount(i)
			if n < c {
				break
			}
			n -= c
		}
		if depth == maxDepth {
			return nil, 0, tooDeep(p)
		}
		if p, err = r.readPage(p.child(i)); err != nil {
			return nil, 0, err
		}
	}
	if n >= uint64(p.count()) {
		return nil, 0, corrupt(p.id(), "leaf has %d keys, fewer than the branches above count", p.count())
	}
	return p, int(n), nil
}
