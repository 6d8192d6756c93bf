package alder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// How Salvage walks over a tree and puts what it can read into the new store. The walk goes around what is damaged, and notes it. Below
// a damaged branch it goes on to those children whose references can still be made out: a child proves by its own number,
// birth and checksum that it is the one that is meant.

// salvageBucket is a bucket of the new store.
type salvageBucket struct {
	parent *salvageBucket // nil: the top
	name   []byte
	path   [][]byte
	absent bool // only keys that are not there yet are put
	wanted bool // only keys that are lost, or may be

	handle *Bucket
	gen    int // transaction of the handle
}

func (b *salvageBucket) inner(name []byte) *salvageBucket {
	name = bytes.Clone(name)
	return &salvageBucket{parent: b, name: name, path: append(b.path[:len(b.path):len(b.path)], name), absent: b.absent}
}

// salvageWriter puts keys into the new store, in transactions of bounded size. Without a store it only says yes.
type salvageWriter struct {
	ctx  context.Context
	dst  *DB // nil: there is none
	tx   *Tx
	gen  int
	size int64 // bytes in the transaction
	max  int64
}

func (w *salvageWriter) begin() (err error) {
	if w.dst == nil {
		return w.ctx.Err()
	}
	w.size = 0
	w.gen++
	w.tx, err = w.dst.BeginContext(w.ctx, true)
	return err
}

func (w *salvageWriter) commit() error {
	if w.dst == nil {
		return nil
	}
	tx := w.tx
	w.tx = nil
	return tx.Commit()
}

func (w *salvageWriter) rollback() {
	if w.tx != nil {
		_ = w.tx.Rollback() // after an error, which is the one that counts
	}
}

// room counts n bytes, and begins a new transaction if the one at work is full.
func (w *salvageWriter) room(n int) error {
	const overhead = 64 // of a key in memory and in its page
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if w.size += int64(n) + overhead; w.size <= w.max || w.size == int64(n)+overhead || w.dst == nil {
		return nil
	}
	if err := w.commit(); err != nil {
		return err
	}
	err := w.begin()
	w.size = int64(n) + overhead
	return err
}

// open returns the handle of a bucket that exists, in the transaction at work.
func (w *salvageWriter) open(b *salvageBucket) (*Bucket, error) {
	if b.handle != nil && b.gen == w.gen {
		return b.handle, nil
	}
	b.gen = w.gen
	if b.parent == nil {
		b.handle = w.tx.root()
		return b.handle, nil
	}
	in, err := w.open(b.parent)
	if err != nil {
		return nil, err
	}
	if b.handle = in.Bucket(b.name); b.handle == nil {
		return nil, errors.Join(fmt.Errorf("alder: salvage: a bucket of the new store was removed meanwhile: %w", ErrBucketNotFound), w.tx.Err())
	}
	return b.handle, nil
}

// refused reports whether err says that a store cannot hold what was to be put, whatever its state.
func refused(err error) bool {
	for _, e := range []error{ErrKeyRequired, ErrKeyTooLarge, ErrValueTooLarge, ErrIncompatibleValue, ErrBucketNameRequired, ErrBucketTooDeep} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// create makes bucket b, unless it exists, and sets its sequence. An error that is refused leaves everything as it was.
func (w *salvageWriter) create(b *salvageBucket, sequence uint64) error {
	if len(b.path) > MaxBucketDepth {
		return ErrBucketTooDeep
	}
	if w.dst == nil {
		return nil
	}
	if err := w.room(len(b.name)); err != nil {
		return err
	}
	in, err := w.open(b.parent)
	if err != nil {
		return err
	}
	if b.handle, err = in.CreateBucketIfNotExists(b.name); err != nil {
		return err
	}
	b.gen = w.gen
	if sequence == 0 || b.absent && b.handle.Sequence() != 0 {
		return nil
	}
	return b.handle.SetSequence(sequence)
}

// has reports whether b, which exists, has a bucket of that name.
func (w *salvageWriter) has(b *salvageBucket, name []byte) bool {
	if w.dst == nil {
		return false
	}
	in, err := w.open(b)
	return err == nil && in.Bucket(name) != nil
}

// put puts a key, and reports whether it did: a bucket that takes only what is absent may have it.
func (w *salvageWriter) put(b *salvageBucket, key, value []byte) (bool, error) {
	if w.dst == nil {
		return true, w.ctx.Err()
	}
	if err := w.room(len(key) + len(value)); err != nil {
		return false, err
	}
	in, err := w.open(b)
	if err != nil {
		return false, err
	}
	if b.absent {
		switch had, err := in.Lookup(key); {
		case err != nil:
			return false, err
		case had != nil || in.Bucket(key) != nil:
			return false, nil
		}
	}
	return true, in.Put(key, value)
}

// salvageTree is the walk over one tree.
type salvageTree struct {
	s         *salvager
	to        *salvageBucket
	leafDepth int // -1 until the first leaf
	guessed   int // damaged branches above, whose references were not proved by a checksum
}

// subtree is what is known of a page before it is read.
type subtree struct {
	ref    pageRef
	depth  int
	keys   int64 // -1: not counted
	lo, hi []byte
	plain  bool // nothing hangs on the leaves below: no long keys or values, no buckets
}

// page takes what is below r and returns how many keys of its tree that was.
func (w *salvageTree) page(r subtree) (got int64, err error) {
	s := w.s
	p := s.buffer()
	defer s.release()
	bad := error(corrupt(r.ref.id, "tree is deeper than %d levels", maxDepth))
	if r.depth <= maxDepth {
		bad = s.src.readPage(r.ref, p)
	}
	if bad == nil && !s.src.claim(r.ref.id, 1) {
		bad = corrupt(r.ref.id, "page is in use twice")
	}
	s.advance(1)
	if bad != nil {
		s.src.isStale(r.ref, p)
		if r.depth <= maxDepth {
			if got, err = w.below(r, p); err != nil {
				return got, err
			}
		}
		return got, w.lose(r, got, bad)
	}
	if p.isBranch() {
		return w.branch(r, p)
	}
	if w.guessed > 0 && !w.fits(r, p) {
		s.src.unclaim(r.ref.id)
		return 0, nil
	}
	return w.leaf(r, p)
}

// fits reports whether all keys of a leaf are within the bounds.
func (w *salvageTree) fits(r subtree, p page) bool {
	for i := range p.count() {
		c := p.cell(i)
		key, long := c.key, c.flags&cellOverflowKey != 0
		if long {
			key = key[:inlinePrefix] // good enough for a second opinion
		}
		if bytes.Compare(key, r.lo) < 0 && !(long && bytes.HasPrefix(r.lo, key)) || r.hi != nil && bytes.Compare(key, r.hi) >= 0 {
			return false
		}
	}
	return true
}

// below takes what hangs on a damaged page that was a branch, as far as its references can be made out.
func (w *salvageTree) below(r subtree, p page) (got int64, err error) {
	src := w.s.src
	n := p.count()
	switch {
	case p.kind() != kindBranch || p.id() != r.ref.id || n == 0 || n > (len(p)-pageHeader)/branchSlot:
		return 0, nil
	case p.birth() != r.ref.birth && src.class(r.ref.id) == pageUnknown:
		return 0, nil // an older version, and nothing tells which of its children are still in use
	}
	w.guessed++
	defer func() { w.guessed-- }()
	probe := w.s.buffer()
	defer w.s.release()
	for i := range n {
		child := p.child(i)
		if child.birth > r.ref.birth || child.id == r.ref.id || src.class(child.id) == pageOld || child.id >= src.pages || src.readPage(child, probe) != nil {
			continue
		}
		k, err := w.page(subtree{ref: child, depth: r.depth + 1, keys: -1, lo: r.lo, hi: r.hi})
		if got += k; err != nil {
			return got, err
		}
	}
	return got, nil
}

func (w *salvageTree) kindAt(depth int) DamageKind {
	switch {
	case w.leafDepth < 0:
		return DamagedTree
	case depth < w.leafDepth:
		return DamagedBranch
	}
	return DamagedLeaf
}

// lose notes a page that is lost, of whose keys got were found all the same.
func (w *salvageTree) lose(r subtree, got int64, cause error) error {
	keys := r.keys
	if keys >= 0 {
		keys = max(keys-got, 0)
	}
	return w.s.lose(lostKeys{
		damage: &Damage{Page: uint64(r.ref.id), Kind: w.kindAt(r.depth), Bucket: w.to.path, From: bytes.Clone(r.lo), To: bytes.Clone(r.hi), Keys: keys, Err: cause},
		to:     w.to, birth: r.ref.birth, plain: r.plain,
	})
}

// loseCell notes that a part of a leaf is lost. to is nil where the key itself is, of which from is the beginning.
func (w *salvageTree) loseCell(kind DamageKind, id pgid, from, to []byte, c leafCell, cause error) error {
	return w.s.lose(lostKeys{
		damage: &Damage{Page: uint64(id), Kind: kind, Bucket: w.to.path, From: bytes.Clone(from), To: bytes.Clone(to), Keys: 1, Err: cause},
		to:     w.to, birth: maxTxid, plain: c.flags&cellBucket == 0,
	})
}

func (w *salvageTree) branch(r subtree, p page) (got int64, err error) {
	lower, upper, err := w.bounds(r, p)
	if err != nil {
		return 0, err
	}
	for i := range p.count() {
		want, refs := p.childCount(i)
		k, err := w.page(subtree{ref: p.child(i), depth: r.depth + 1, keys: int64(want), lo: lower[i], hi: upper[i], plain: !refs})
		if got += k; err != nil {
			return got, err
		}
	}
	return got, nil
}

// bounds returns the bounds of the children of branch p.
func (w *salvageTree) bounds(r subtree, p page) (lower, upper [][]byte, err error) {
	n := p.count()
	lower, upper = make([][]byte, n), make([][]byte, n)
	lower[0], upper[n-1] = r.lo, r.hi
	for i := 1; i < n; i++ {
		e, _ := p.entry(i, nil)
		if e.overflow {
			ref := keyRef(e.separator)
			data, bad := w.s.readKey(ref)
			if e.separator = bytes.Clone(data); bad != nil {
				// Nothing is lost by it: the children are all there.
				e.separator = nil
				d := &Damage{Page: uint64(ref.id), Kind: DamagedSeparator, Bucket: w.to.path, From: r.lo, To: r.hi, Err: bad}
				if err := w.s.lose(lostKeys{damage: d, to: w.to, plain: true}); err != nil {
					return nil, nil, err
				}
			}
		}
		lower[i], upper[i-1] = e.separator, e.separator
		if e.separator == nil {
			lower[i] = lower[i-1]
		}
	}
	for i := n - 2; i >= 0; i-- {
		if upper[i] == nil {
			upper[i] = upper[i+1]
		}
	}
	return lower, upper, nil
}

// leaf takes the cells of a leaf, or of an inline bucket.
func (w *salvageTree) leaf(r subtree, p page) (got int64, err error) {
	w.leafDepth = max(w.leafDepth, r.depth)
	for i := range p.count() {
		c := p.cell(i)
		ok, err := w.cell(p, c)
		if err != nil {
			return got, err
		}
		if ok {
			got++
		}
	}
	return got, nil
}

// cell takes one cell and reports whether it could.
func (w *salvageTree) cell(p page, c leafCell) (bool, error) {
	s := w.s
	key, value := c.key, c.value
	if c.flags&cellOverflowKey != 0 {
		r := keyRef(c.key)
		data, bad := s.readKey(r)
		if bad != nil {
			return false, w.loseCell(DamagedKey, r.id, c.key[:inlinePrefix], nil, c, bad)
		}
		key = data
	}
	if w.to.wanted && !s.wanted(key) {
		return false, nil
	}
	if c.flags&cellBucket != 0 {
		return w.nested(p, key, value)
	}
	if c.flags&cellOverflowValue != 0 {
		r := loadRef(value)
		data, bad := s.readValue(r)
		if bad != nil {
			return false, w.loseCell(DamagedValue, r.id, key, append(bytes.Clone(key), 0), c, bad)
		}
		value = data
	}
	if w.to.parent == nil {
		err := corrupt(p.id(), "a key at the top, where only buckets can be")
		return false, w.loseCell(DamagedLeaf, p.id(), key, append(bytes.Clone(key), 0), c, err)
	}
	ok, err := s.out.put(w.to, key, value)
	if refused(err) {
		return false, w.loseCell(DamagedLeaf, p.id(), key, append(bytes.Clone(key), 0), c, fmt.Errorf("%w: %w", corrupt(p.id(), "no store can hold the key"), err))
	}
	if ok && err == nil {
		s.noteKey(len(key) + len(value))
	}
	return ok, err
}

// nested takes a bucket inside this one.
func (w *salvageTree) nested(p page, name, value []byte) (bool, error) {
	s := w.s
	t, sequence := decodeBucket(value)
	b := w.to.inner(name)
	if b.absent && t.inline == nil && (t.root.id == 0 || s.src.readPage(t.root, s.probe()) != nil) {
		return false, nil // an older version of which nothing is left
	}
	if w.to.wanted && !s.topLost && s.out.has(s.top, name) {
		return false, nil // an older version of a page of the top bucket, where nothing is lost
	}
	if err := s.out.create(b, sequence); refused(err) {
		cause := fmt.Errorf("%w: %w", corrupt(p.id(), "no store can hold the bucket"), err)
		return false, w.loseCell(DamagedLeaf, p.id(), name, append(bytes.Clone(name), 0), leafCell{flags: cellBucket}, cause)
	} else if err != nil {
		return false, err
	}
	if s.counter == &s.report.Keys {
		s.report.Buckets++
	}
	return true, s.tree(&t, b)
}

// tree takes a bucket whose cell has been read, into b, which exists.
func (s *salvager) tree(t *tree, b *salvageBucket) error {
	w := &salvageTree{s: s, to: b, leafDepth: -1}
	var err error
	switch {
	case t.root.id != 0:
		_, err = w.page(subtree{ref: t.root, keys: int64(min(t.count, maxCount))})
	case t.inline != nil:
		_, err = w.leaf(subtree{}, t.inline)
	}
	return err
}
