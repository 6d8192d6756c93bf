package alder

import "runtime/debug"

// Stats walks over the whole bucket and returns facts about it and the buckets nested in it. Cost: a read of every page.
func (b *Bucket) Stats() (s BucketStats) {
	if b.usable(false) != nil {
		return s
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	w := statsWalk{left: int(b.tx.snap.highWater)}
	s, err := w.bucket(b, 0)
	b.tx.setErr(err)
	return s
}

// statsWalk is a walk over a bucket and all that is nested in it. It ends when it has met more pages than there are.
type statsWalk struct{ left int }

func (w *statsWalk) bucket(b *Bucket, nesting int) (BucketStats, error) {
	s := BucketStats{BucketN: 1}
	if nesting > maxNesting {
		return s, tooNested(b.tree.root.id)
	}
	p, err := b.tree.rootPage(b.tx)
	if err != nil {
		return s, err
	}
	inline := b.tree.root.id == 0
	if inline {
		s.InlineBucketN++
		s.InlineBucketInuse += pageHeader + p.used()
	}
	var nested BucketStats
	err = w.below(b, p, 1, nesting, inline, &s, &nested)
	ps := b.tx.pager.pageSize
	s.BranchAlloc = (s.BranchPageN + s.BranchOverflowN) * ps
	s.LeafAlloc = (s.LeafPageN + s.LeafOverflowN) * ps
	s.Depth += nested.Depth
	nested.Depth = 0
	s.Add(nested)
	return s, err
}

func (w *statsWalk) below(b *Bucket, p page, depth, nesting int, inline bool, s, nested *BucketStats) error {
	s.Depth = max(s.Depth, depth)
	if !inline {
		if w.left--; w.left < 0 {
			return tooManyPages(p.id())
		}
	}
	if depth > maxDepth {
		return tooDeep(p)
	}
	if p.isBranch() {
		s.BranchPageN++
		s.BranchInuse += pageHeader + p.used()
		var e branchEntry
		var arena []byte
		for i := range p.count() {
			e, arena = p.entry(i, arena[:0])
			if e.overflow {
				s.BranchOverflowN += runPages(keyRef(e.separator).length, b.tx.pager.pageSize)
			}
			child, err := b.tx.readPage(e.child)
			if err != nil {
				return err
			}
			if err := w.below(b, child, depth+1, nesting, false, s, nested); err != nil {
				return err
			}
		}
		return nil
	}
	s.KeyN += p.count()
	if !inline {
		s.LeafPageN++
		s.LeafInuse += pageHeader + p.used()
	}
	if p.flags()&flagCellFlags == 0 {
		return nil
	}
	for i := range p.count() {
		c := p.cell(i)
		if c.flags&cellOverflowKey != 0 {
			b.statsRun(keyRef(c.key), s)
		}
		if c.flags&cellOverflowValue != 0 {
			b.statsRun(loadRef(c.value), s)
		}
		if c.flags&cellBucket != 0 {
			child, err := b.childAt(p, i)
			if err != nil {
				return err
			}
			sub, err := w.bucket(child, nesting+1)
			if err != nil {
				return err
			}
			nested.Add(sub)
		}
	}
	return nil
}

func (b *Bucket) statsRun(r overflowRef, s *BucketStats) {
	s.LeafOverflowN += runPages(r.length, b.tx.pager.pageSize)
	s.LeafInuse += pageHeader + r.length
}

// childAt returns the nested bucket in slot i of leaf p.
func (b *Bucket) childAt(p page, i int) (*Bucket, error) {
	c := p.cell(i)
	name, err := wholeKey(b.tx, c)
	if err != nil {
		return nil, err
	}
	if b.w != nil {
		if child := b.w.children.get(name); child != nil {
			return child, child.usable(false)
		}
	}
	return b.open(name, c.value, b.tx.own(p)), nil
}

// Inspect returns which buckets lie in this one, and how many keys each has. Cost: a read of every leaf that holds buckets.
func (b *Bucket) Inspect() BucketStructure {
	s := BucketStructure{Name: "root"}
	if b.w != nil && b.w.parent != nil {
		s.Name = string(b.w.name)
	}
	left := int(b.tx.snap.highWater)
	b.inspect(&s, 0, &left)
	return s
}

func (b *Bucket) inspect(s *BucketStructure, nesting int, left *int) {
	if b.tree.root.id != 0 {
		*left-- // a bucket that is not inline has a page of its own
	}
	if nesting > maxNesting || *left < 0 {
		b.tx.setErr(tooNested(b.tree.root.id))
		return
	}
	s.KeyN = int(b.Len())
	_ = b.ForEachBucket(func(name []byte) error {
		child := b.Bucket(name)
		if child == nil {
			return b.tx.Err()
		}
		s.KeyN--
		sub := BucketStructure{Name: string(name)}
		child.inspect(&sub, nesting+1, left)
		if err := b.tx.Err(); err != nil {
			return err
		}
		s.Children = append(s.Children, sub)
		return nil
	})
}

// Inspect returns the structure of all buckets; the outermost one has the name "root".
func (tx *Tx) Inspect() BucketStructure { return tx.root().Inspect() }

// PageInfo says what a page is, as Tx.Page returns it.
type PageInfo struct {
	ID            int    // its number
	Type          string // meta, owner, branch, leaf, overflow, map index, map bits, or free
	Count         int    // slots
	OverflowCount int    // further pages of an overflow run
}

// Page returns what page id is; nil, nil past the last page. For tools: the answer for a page that is free, or inside an overflow
// run, is made of whatever lies there.
func (tx *Tx) Page(id int) (info *PageInfo, err error) {
	if err := tx.ready(false); err != nil {
		return nil, err
	}
	if id < 0 || pgid(id) >= tx.snap.highWater {
		return nil, nil
	}
	defer tx.endWrite(debug.SetPanicOnFault(true), &err)
	p := tx.snap.raw(pgid(id), 1)
	info = &PageInfo{ID: id, Type: p.kind().String()}
	switch k := p.kind(); {
	case p.id() != pgid(id):
		info.Type = "free"
	case k == kindLeaf || k == kindBranch || k == kindMapIndex:
		info.Count = p.count()
	case k == kindOverflow:
		if n := p.runLength(); n >= 0 && n <= MaxValueSize {
			info.OverflowCount = runPages(int(n), tx.pager.pageSize) - 1
		}
	}
	return info, nil
}
