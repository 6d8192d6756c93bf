package alder

import "errors"

// Where a shrink finds what it is to move: a walk over all trees of a snapshot in the order of keys, in parts, so that no snapshot is kept for
// long. What it finds are places, a bucket and a key, not pages: until their turn comes in a write transaction the tree may have changed.

// shrinkTarget leads to a page on the path to a key in a bucket.
type shrinkTarget struct {
	bucket [][]byte
	key    []byte // not a copy: it may be part of the snapshot, or of a path
	level  int    // of the page, from the root
	inline bool   // the bucket has no page of its own
	leaves int    // to be packed: so many, from the one to which key belongs on
}

// shrinkWork is what a walk looks for.
type shrinkWork uint8

const (
	packLeaves shrinkWork = iota // neighboring leaves that would be fewer if they were full
	moveValues                   // pages that refer to overflow runs behind the limit
	movePages                    // pages behind the limit
)

const (
	shrinkLook    = 8192 // pages that a walk looks at before its snapshot is given up
	shrinkTargets = 256  // targets that a walk collects before
	packWidth     = 64   // leaves that are packed together, at most
	packPages     = 12   // full leaves that come of that, about: of few the last one would be half empty
	minSaved      = 4    // one of so many leaves must be saved
)

// errWalkPaused ends a walk that has looked at enough for now.
var errWalkPaused = errors.New("alder: walk paused")

// shrinkWalk is a walk over the trees of one snapshot.
type shrinkWalk struct {
	tx      *Tx
	work    shrinkWork
	limit   pgid
	left    int
	met     int // pages that it may still meet; guards against damage
	targets []shrinkTarget
	next    [][]byte // where to go on: names of buckets, one inside the other, and a key; nil at the end
}

// look collects targets from position from on, and returns the position behind them, nil at the end.
func (w *shrinkWalk) look(from [][]byte) error {
	w.left, w.met = shrinkLook, 2*int(w.tx.snap.highWater)
	root := w.tx.root()
	err := guarded(w.tx.snap.data, func() error { return w.tree(&root.tree, nil, from) })
	if err == errWalkPaused {
		err = nil
	}
	for i := range w.targets {
		w.targets[i].key = bytesOf(w.targets[i].key)
	}
	return err
}

// pause ends the part at key of the bucket at path, if it has been long enough. What has been done cannot be the whole of a part: the walk
// would not get on.
func (w *shrinkWalk) pause(path [][]byte, key []byte) error {
	if w.left--; w.left > 0 && len(w.targets) < shrinkTargets {
		return nil
	}
	for _, name := range path {
		w.next = append(w.next, bytesOf(name))
	}
	w.next = append(w.next, bytesOf(key))
	return errWalkPaused
}

// inside is path with one more name; path stays as it is.
func inside(path [][]byte, name []byte) [][]byte {
	return append(path[:len(path):len(path)], name)
}

// tree walks over the tree of the bucket at path, from the position on whose first part is a key of it.
func (w *shrinkWalk) tree(t *tree, path, from [][]byte) error {
	if len(path) > maxNesting {
		return tooNested(t.root.id)
	}
	if t.root.id == 0 {
		if w.work == moveValues && t.inline != nil && anyRun(t.inline, w.behind) {
			w.targets = append(w.targets, shrinkTarget{bucket: path, inline: true})
		}
		return nil
	}
	h, err := t.height(w.tx)
	if err != nil {
		return err
	}
	return w.subtree(t.root, h, 0, true, nil, path, from)
}

func (w *shrinkWalk) behind(r overflowRef) bool {
	return r.id+pgid(runPages(r.length, w.tx.pager.pageSize)) > w.limit
}

// subtree walks over what is below r, no key of which is below lower.
func (w *shrinkWalk) subtree(r pageRef, height, level int, refs bool, lower []byte, path, from [][]byte) error {
	if w.work == movePages && r.id >= w.limit {
		w.targets = append(w.targets, shrinkTarget{bucket: path, key: lower, level: level})
	}
	if height == 0 && !refs {
		return nil
	}
	if w.met--; w.met < 0 {
		return tooManyPages(r.id)
	}
	p, err := w.tx.readPage(r)
	if err != nil {
		return err
	}
	if p.isBranch() != (height > 0) {
		return corrupt(r.id, "a %v page lies %d levels above the leaves", p.kind(), height)
	}
	if w.work == moveValues && anyRun(p, w.behind) {
		w.targets = append(w.targets, shrinkTarget{bucket: path, key: lower, level: level})
	}
	if height == 0 {
		return w.leaf(p, path, from)
	}
	first := 0
	if len(from) > 0 {
		if first, err = searchBranch(p, from[0], w.tx); err != nil {
			return err
		}
	}
	if w.work == packLeaves && height == 1 {
		if err := w.sparse(p, first, lower, path); err != nil {
			return err
		}
	}
	for i := first; i < p.count(); i++ {
		_, refs := p.childCount(i)
		if height == 1 && !refs && w.work != movePages {
			continue
		}
		key, err := w.lowerKey(p, i, lower)
		if err != nil {
			return err
		}
		if i > first {
			from = nil
			if err := w.pause(path, key); err != nil {
				return err
			}
		}
		if err := w.subtree(p.child(i), height-1, level+1, refs, key, path, from); err != nil {
			return err
		}
	}
	return nil
}

// lowerKey is a key that leads to child i of branch p.
func (w *shrinkWalk) lowerKey(p page, i int, lower []byte) ([]byte, error) {
	if i == 0 {
		return lower, nil
	}
	e, _ := p.entry(i, nil)
	if e.overflow {
		return w.tx.readRun(keyRef(e.separator))
	}
	return e.separator, nil
}

// leaf goes into the nested buckets of a leaf.
func (w *shrinkWalk) leaf(p page, path, from [][]byte) error {
	if p.flags()&flagCellFlags == 0 {
		return nil
	}
	first, exact := 0, false
	if len(from) > 0 {
		var err error
		if first, exact, err = searchLeaf(p, from[0], w.tx); err != nil {
			return err
		}
	}
	for i := first; i < p.count(); i++ {
		c := p.cell(i)
		if c.flags&cellBucket == 0 {
			continue
		}
		name, err := wholeKey(w.tx, c)
		if err != nil {
			return err
		}
		var rest [][]byte
		if i == first && exact && len(from) > 1 {
			rest = from[1:]
		} else if i > first {
			if err := w.pause(path, name); err != nil {
				return err
			}
		}
		t, _ := decodeBucket(c.value)
		if err := w.tree(&t, inside(path, bytesOf(name)), rest); err != nil {
			return err
		}
	}
	return nil
}

// sparse finds the neighbors among the leaves below branch p, from child first on, that are worth being packed.
func (w *shrinkWalk) sparse(p page, first int, lower []byte, path [][]byte) error {
	room := w.tx.pager.pageSize - pageHeader
	for i := first; i < p.count(); {
		n, used := 0, 0
		for ; n < packWidth && used < packPages*room && i+n < p.count(); n++ {
			leaf, err := readKind(w.tx, p.child(i+n), kindLeaf)
			if err != nil {
				return err
			}
			used += leaf.used()
		}
		if need := (used + room - 1) / room; n-need >= max(n/minSaved, 1) {
			key, err := w.lowerKey(p, i, lower)
			if err != nil {
				return err
			}
			w.targets = append(w.targets, shrinkTarget{bucket: path, key: key, leaves: n})
		}
		w.left -= n
		i += n
	}
	return nil
}
