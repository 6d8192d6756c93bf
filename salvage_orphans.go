package alder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// How Salvage finds what nothing leads to any more. Each leaf and branch that is whole gets an entry in a bucket of the new store, which
// sorts them and takes the place of memory: by class, and the newest first. That bucket is gone in the end.

// orphan is the search for orphans: pages that are whole, and that the walk has not met.
type orphan struct {
	stage   *salvageBucket // entries; see stageKey
	parents []uint64       // has a bit for each orphan that another one leads to
	found   *salvageBucket // lost+found; nil: not needed yet
}

// orphanPage is one of them.
type orphanPage struct {
	class pageClass
	ref   pageRef
	kind  pageKind
}

const stageKeySize = 1 + 8 + 8

// stageKey orders orphans by class, then from the newest to the oldest.
func stageKey(c pageClass, r pageRef) []byte {
	k := make([]byte, 0, stageKeySize)
	k = append(k, byte(c))
	k = binary.BigEndian.AppendUint64(k, ^uint64(r.birth))
	return binary.BigEndian.AppendUint64(k, uint64(r.id))
}

func parseStage(k, v []byte) orphanPage {
	return orphanPage{
		class: pageClass(k[0]), kind: pageKind(v[0]),
		ref: pageRef{pgid(binary.BigEndian.Uint64(k[9:])), txid(^binary.BigEndian.Uint64(k[1:]))},
	}
}

// searchOrphans fills gaps from pages that nothing leads to, as far as it can.
func (s *salvager) searchOrphans() error {
	o := &orphan{parents: make([]uint64, len(s.src.claimed))}
	o.stage = s.top.inner(fmt.Appendf(nil, "salvage-%016x", rand.Uint64()))
	if err := s.out.create(o.stage, 0); err != nil {
		return err
	}
	s.sortGaps()
	if err := s.scan(o); err != nil {
		return err
	}
	if err := s.findParents(o); err != nil {
		return err
	}
	if s.src.m == nil {
		if err := s.guessRoot(o); err != nil {
			return err
		}
	}
	if err := s.nameTop(o); err != nil {
		return err
	}
	s.orphans = o
	for _, step := range []func(o *orphan) error{s.place, s.takeTrees, s.takeLoose} {
		if !s.incomplete() {
			break
		}
		s.sortGaps()
		if err := step(o); err != nil {
			return err
		}
	}
	if err := s.out.tx.DeleteBucket(o.stage.name); err != nil {
		return err
	}
	return s.tidy(o)
}

// ---- which keys are missing

// gap is a range of keys, whatever their bucket.
type gap struct{ from, to []byte }

// sortGaps prepares wanted.
func (s *salvager) sortGaps() {
	var all []gap
	for _, g := range s.gaps {
		d := g.damage
		if d.Keys == 0 {
			continue
		}
		to := d.To
		if d.Kind == DamagedKey {
			to = PrefixEnd(d.From)
		}
		all = append(all, gap{d.From, to})
	}
	slices.SortFunc(all, func(a, b gap) int { return bytes.Compare(a.from, b.from) })
	s.ranges = all[:0]
	for _, g := range all {
		if n := len(s.ranges); n > 0 {
			last := &s.ranges[n-1]
			if last.to == nil || bytes.Compare(g.from, last.to) <= 0 {
				if last.to != nil && (g.to == nil || bytes.Compare(g.to, last.to) > 0) {
					last.to = g.to
				}
				continue
			}
		}
		s.ranges = append(s.ranges, g)
	}
}

// wanted reports whether a key may be one that is lost.
func (s *salvager) wanted(key []byte) bool { return s.wantedAny(key, key) }

// wantedAny is wanted for keys from first to last.
func (s *salvager) wantedAny(first, last []byte) bool {
	if s.anyKey {
		return true
	}
	i, _ := slices.BinarySearchFunc(s.ranges, first, func(g gap, key []byte) int {
		if g.to != nil && bytes.Compare(g.to, key) <= 0 {
			return -1
		}
		return 1
	})
	return i < len(s.ranges) && bytes.Compare(s.ranges[i].from, last) <= 0
}

// ---- the search

// scan gives every orphan its entry.
func (s *salvager) scan(o *orphan) error {
	src := s.src
	ps := int64(src.pageSize)
	next := firstPage // pages before it lie in an overflow run
	s.done = max(s.done, int64(src.pages))
	runs := make([]byte, salvageWindow)
	end := int64(src.pages) * ps
	return src.eachPart(0, end, ps, make([]byte, salvageWindow), func(off int64, part []byte) error {
		for at := int64(0); at < int64(len(part)); at += ps {
			id := pgid((off + at) / ps)
			s.advance(1)
			if id < next || src.taken(id) {
				continue
			}
			p := page(part[at : at+ps])
			if p.id() != id || p.birth() > maxTxid {
				continue
			}
			if p.kind() == kindOverflow {
				next = id + pgid(src.skipRun(p, runs))
				continue
			}
			if !s.worthwhile(p) || src.whole(p) != nil {
				continue
			}
			if _, err := s.out.put(o.stage, stageKey(src.class(id), p.ref()), []byte{byte(p.kind())}); err != nil {
				return err
			}
		}
		return nil
	})
}

// worthwhile reports whether a page that looks like one of a tree may be of use: of older versions, only leaves whose keys may be lost are.
func (s *salvager) worthwhile(p page) bool {
	switch {
	case p.kind() == kindBranch:
		return s.src.class(p.id()) != pageOld || s.topLost
	case p.kind() != kindLeaf || !p.sealed() || p.validate() != nil || p.count() == 0:
		return false
	case s.src.class(p.id()) != pageOld || s.anyKey:
		return true
	}
	first, last := p.cell(0), p.cell(p.count()-1)
	if (first.flags|last.flags)&cellOverflowKey != 0 {
		return true
	}
	return s.wantedAny(first.key, last.key)
}

// each calls fn for the orphans in their order, but those that were taken meanwhile. fn may write.
func (s *salvager) each(o *orphan, fn func(orphanPage) error) error {
	for after := []byte{}; ; {
		stage, err := s.out.open(o.stage)
		if err != nil {
			return err
		}
		k, v := stage.Cursor().Seek(after)
		if k == nil {
			return s.out.tx.Err()
		}
		if p := parseStage(k, v); !s.src.taken(p.ref.id) {
			if after = append(bytes.Clone(k), 0); s.out.ctx.Err() != nil {
				return s.out.ctx.Err()
			}
			if err := fn(p); err != nil {
				return err
			}
			continue
		}
		after = append(bytes.Clone(k), 0)
	}
}

// findParents notes which orphans other ones lead to. What is only an older version leads to nothing that counts.
func (s *salvager) findParents(o *orphan) error {
	note := func(r pageRef) error {
		if r.id < firstPage || r.id >= s.src.pages {
			return nil
		}
		stage, err := s.out.open(o.stage)
		if err != nil {
			return err
		}
		known, err := stage.Lookup(stageKey(s.src.class(r.id), r))
		if known != nil {
			o.parents[r.id/64] |= 1 << (r.id % 64)
		}
		return err
	}
	return s.each(o, func(q orphanPage) error {
		if q.class == pageOld {
			return nil
		}
		p := s.buffer()
		defer s.release()
		if s.src.readPage(q.ref, p) != nil {
			return nil
		}
		for i := range p.count() {
			var r pageRef
			if p.isBranch() {
				r = p.child(i)
			} else if c := p.cell(i); c.flags&cellBucket != 0 {
				t, _ := decodeBucket(c.value)
				r = t.root
			}
			if err := note(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *orphan) hasParent(r pageRef) bool { return o.parents[r.id/64]>>(r.id%64)&1 != 0 }

// maxOldTops is how many older versions of the top bucket are looked at.
const maxOldTops = 1000

// nameTop finds the names of lost top buckets in older versions of the pages that had them. It does so only where nothing but the top
// bucket is damaged: else a bucket inside another one, whose page is lost too, could be taken for one at the top.
func (s *salvager) nameTop(o *orphan) error {
	if !s.topLost || s.src.m == nil || slices.ContainsFunc(s.gaps, func(g *lostKeys) bool { return g.to != s.top }) {
		return nil
	}
	tried := 0
	err := s.each(o, func(q orphanPage) error {
		if q.class != pageOld || s.hasBuckets(q.ref, 0) <= 0 {
			return nil
		}
		if tried++; tried > maxOldTops || s.report.Lost == 0 {
			return errFound
		}
		return s.namesFrom(q.ref, o)
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// ---- the root, where no meta tells it

// guessRoot takes the newest tree that nothing leads to, and that has buckets only, for the whole store.
func (s *salvager) guessRoot(o *orphan) error {
	root := pageRef{}
	err := s.each(o, func(q orphanPage) error {
		if !o.hasParent(q.ref) && s.hasBuckets(q.ref, 0) > 0 {
			root = q.ref
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return err
	}
	if root.id == 0 {
		s.report.Notes = append(s.report.Notes, "no page was found that could be the root of the store")
		return nil
	}
	s.report.TxID = uint64(root.birth)
	s.report.Notes = append(s.report.Notes,
		fmt.Sprintf("page %d of transaction %d was taken for the root, for nothing newer could be it", root.id, root.birth))
	s.noRoot, s.anyKey = false, false
	w := &salvageTree{s: s, to: s.top, leafDepth: -1}
	_, err = w.page(subtree{ref: root, keys: -1})
	return err
}

// hasBuckets counts the buckets in a tree, as far as it can be read; negative if there is anything else.
func (s *salvager) hasBuckets(r pageRef, depth int) int {
	p := s.buffer()
	defer s.release()
	if depth > maxDepth || s.src.readPage(r, p) != nil {
		return 0
	}
	n := 0
	for i := range p.count() {
		below := 1
		if p.isBranch() {
			below = s.hasBuckets(p.child(i), depth+1)
		} else if p.cell(i).flags&cellBucket == 0 {
			below = -1
		}
		if below < 0 {
			return -1
		}
		n += below
	}
	return n
}

// ---- trees that fill a gap

// maxPlaced is how many trees are kept in mind in order to be placed.
const maxPlaced = 1 << 16

// orphanTree is a tree in use without a parent.
type orphanTree struct {
	ref         pageRef
	keys        int64
	first, last []byte
}

// place puts trees in use into the gaps that they belong to: the keys of the trees fit into this gap and into no other one, they do not
// overlap, and together they are as many as it lacks. They may be fewer where buckets are lost nowhere, of which they might be.
func (s *salvager) place(o *orphan) error {
	var open []*lostKeys
	for _, g := range s.gaps {
		if g.damage.Keys > 0 && (g.damage.Kind == DamagedBranch || g.damage.Kind == DamagedTree) {
			open = append(open, g)
		}
	}
	if len(open) == 0 || len(open) > 100 {
		return nil // with so many, few trees would fit into one only
	}
	fits := make([][]orphanTree, len(open))
	n := 0
	err := s.each(o, func(q orphanPage) error {
		if q.class != pageInUse || o.hasParent(q.ref) || n > maxPlaced {
			return nil
		}
		t, ok := s.span(q.ref)
		if !ok {
			return nil
		}
		at := -1
		for i, g := range open {
			if g.has(t.first) && g.has(t.last) && t.ref.birth <= g.birth {
				if at >= 0 {
					return nil
				}
				at = i
			}
		}
		if at >= 0 {
			n++
			fits[at] = append(fits[at], t)
		}
		return nil
	})
	if err != nil || n > maxPlaced {
		return err
	}
	s.counter = &s.report.Keys
	buckets := slices.ContainsFunc(s.gaps, func(g *lostKeys) bool { return !g.plain && g.damage.Kind != DamagedValue })
	for i, g := range open {
		if err := s.fill(o, g, fits[i], !buckets); err != nil {
			return err
		}
	}
	return nil
}

// fill puts trees into a gap if they fill it, or a part of it if part says so.
func (s *salvager) fill(o *orphan, g *lostKeys, trees []orphanTree, part bool) error {
	slices.SortFunc(trees, func(a, b orphanTree) int { return bytes.Compare(a.first, b.first) })
	var sum int64
	for i, t := range trees {
		if sum += t.keys; i > 0 && bytes.Compare(trees[i-1].last, t.first) >= 0 {
			return nil
		}
	}
	if sum > g.damage.Keys || sum < g.damage.Keys && !part {
		return nil
	}
	// What is lost inside them counts as anywhere.
	s.orphans = nil
	defer func() { s.orphans = o }()
	g.damage.Keys -= sum
	s.report.Lost -= sum
	before := s.report.Keys
	for _, t := range trees {
		w := &salvageTree{s: s, to: g.to, leafDepth: -1}
		if _, err := w.page(subtree{ref: t.ref, keys: t.keys, lo: g.damage.From, hi: g.damage.To}); err != nil {
			return err
		}
	}
	s.report.Placed += s.report.Keys - before
	return nil
}

// span finds the first and the last key of a tree, and how many there are.
func (s *salvager) span(r pageRef) (t orphanTree, ok bool) {
	t.ref = r
	p := s.buffer()
	defer s.release()
	if s.src.readPage(r, p) != nil {
		return t, false
	}
	t.keys = int64(p.count())
	if p.isBranch() {
		t.keys = 0
		for i := range p.count() {
			n, _ := p.childCount(i)
			t.keys += int64(n)
		}
	}
	t.first = s.edge(r, false, 0)
	t.last = s.edge(r, true, 0)
	return t, t.first != nil && t.last != nil
}

// edge returns the first, or the last, key of a tree; nil if it cannot be read.
func (s *salvager) edge(r pageRef, last bool, depth int) []byte {
	p := s.buffer()
	defer s.release()
	if depth > maxDepth || s.src.readPage(r, p) != nil || p.count() == 0 {
		return nil
	}
	i := 0
	if last {
		i = p.count() - 1
	}
	if p.isBranch() {
		return s.edge(p.child(i), last, depth+1)
	}
	c := p.cell(i)
	if c.flags&cellOverflowKey == 0 {
		return bytes.Clone(c.key)
	}
	ref := keyRef(c.key)
	key, err := s.readKey(ref)
	if err != nil {
		return nil
	}
	for k := range runPages(ref.length, s.src.pageSize) {
		s.src.unclaim(ref.id + pgid(k)) // it was but a look
	}
	return bytes.Clone(key)
}

// ---- lost+found

// lostAndFound is the bucket for what has no place, under a name that the damaged store does not have.
func (s *salvager) lostAndFound(o *orphan) (*salvageBucket, error) {
	if o.found != nil {
		return o.found, nil
	}
	top, err := s.out.open(s.top)
	if err != nil {
		return nil, err
	}
	name := "lost+found"
	for i := 2; top.Bucket([]byte(name)) != nil || s.logNames(name); i++ {
		name = fmt.Sprintf("lost+found-%d", i)
	}
	b := s.top.inner([]byte(name))
	if err := s.out.create(b, 0); err != nil {
		return nil, err
	}
	o.found, s.report.LostAndFound = b, name
	return b, nil
}

// takeTree puts a tree into a bucket of its own.
func (s *salvager) takeTree(o *orphan, r pageRef) error {
	found, err := s.lostAndFound(o)
	if err != nil {
		return err
	}
	b := found.inner(fmt.Appendf(nil, "page-%d", r.id))
	if err := s.out.create(b, 0); err != nil {
		return err
	}
	s.counter = &s.report.FoundKeys
	s.report.FoundTrees++
	w := &salvageTree{s: s, to: b, leafDepth: -1}
	_, err = w.page(subtree{ref: r, keys: -1})
	return err
}

// takeTrees takes the trees without a parent, the newest first.
func (s *salvager) takeTrees(o *orphan) error {
	return s.each(o, func(q orphanPage) error {
		switch {
		case q.class == pageOld || o.hasParent(q.ref):
			return nil
		case q.class == pageUnknown && (q.kind != kindBranch || !s.current(q.ref)):
			return nil
		}
		return s.takeTree(o, q.ref)
	})
}

// current reports whether a branch of which no map tells whether it is in use may be: all its children are there, and part of nothing else.
// The branches above a page are written anew with it, so that an older version of a branch has lost a child to a newer one.
func (s *salvager) current(r pageRef) bool {
	p, child := s.buffer(), s.buffer()
	defer s.release()
	defer s.release()
	if s.src.readPage(r, p) != nil {
		return false
	}
	for i := range p.count() {
		if s.src.readPage(p.child(i), child) != nil {
			return false
		}
	}
	return true
}

// takeLoose takes the leaves that are left. Of what is not known to be in use, the newest version of each key counts.
func (s *salvager) takeLoose(o *orphan) error {
	var loose *salvageBucket
	return s.each(o, func(q orphanPage) error {
		switch {
		case q.kind != kindLeaf:
			return nil
		case q.class == pageInUse:
			return s.takeTree(o, q.ref)
		}
		if loose == nil {
			found, err := s.lostAndFound(o)
			if err != nil {
				return err
			}
			loose = found.inner([]byte("loose"))
			loose.absent, loose.wanted = true, true
			if err := s.out.create(loose, 0); err != nil {
				return err
			}
		}
		s.counter = &s.report.LooseKeys
		w := &salvageTree{s: s, to: loose, leafDepth: -1}
		_, err := w.page(subtree{ref: q.ref, keys: -1})
		return err
	})
}

// tidy removes the buckets of lost+found that were not needed.
func (s *salvager) tidy(o *orphan) error {
	if o.found == nil {
		return nil
	}
	found, err := s.out.open(o.found)
	if err != nil {
		return err
	}
	if loose := found.Bucket([]byte("loose")); loose != nil && loose.Len() == 0 {
		if err := found.DeleteBucket([]byte("loose")); err != nil {
			return err
		}
	}
	if found.Len() > 0 {
		return s.out.tx.Err()
	}
	s.report.LostAndFound = ""
	return s.out.tx.DeleteBucket(o.found.name)
}
