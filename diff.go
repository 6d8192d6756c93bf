package alder

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
)

// A diff of two snapshots walks over both trees at once. Pages are never changed once a snapshot has them, so two subtrees with the same
// reference, page and birth, hold the same keys and are passed over whole. What is left are the pages that one of the
// two snapshots has and the other has not, and their neighbors as far as the walk must look at them to know where it stands.
//
// Both walks keep the keys in order, and the one behind goes on. Whoever arrives first at a subtree that both have waits there, at its first
// key, until the other arrives, and then both step over it.

// ChangeKind says what a Change does.
type ChangeKind uint8

const (
	ChangePut          ChangeKind = iota + 1 // Key of Bucket gets Value
	ChangeDelete                             // Key of Bucket, not a nested bucket, goes
	ChangeCreateBucket                       // a nested bucket Key appears in Bucket, empty
	ChangeDeleteBucket                       // the nested bucket Key of Bucket goes, with all that is in it
	ChangeSetSequence                        // the sequence number of Bucket becomes Sequence
	ChangeDeleteRange                        // the keys of Bucket from Key to End go, nested buckets too; never in a diff
	ChangeMoveBucket                         // the nested bucket Key of Bucket goes to the bucket Into, under the same name; never in a diff
	lastChangeKind     = ChangeMoveBucket
)

// String returns the name of the kind: put, delete, create bucket, delete bucket, set sequence, delete range, move bucket.
func (k ChangeKind) String() string {
	switch k {
	case ChangePut:
		return "put"
	case ChangeDelete:
		return "delete"
	case ChangeCreateBucket:
		return "create bucket"
	case ChangeDeleteBucket:
		return "delete bucket"
	case ChangeSetSequence:
		return "set sequence"
	case ChangeDeleteRange:
		return "delete range"
	case ChangeMoveBucket:
		return "move bucket"
	}
	return fmt.Sprintf("ChangeKind(%d)", uint8(k))
}

// Change is one step from one state of a store to another. Its slices are valid as long as those that transactions return, and must
// not be modified.
type Change struct {
	Kind     ChangeKind // what was done; it says which of the others count
	Bucket   [][]byte   // path of the bucket, outermost first; empty for the top level
	Key      []byte     // the key, or the name of the nested bucket; nil for ChangeSetSequence; ChangeDeleteRange: nil for no bound
	Value    []byte     // of ChangePut, not nil
	Sequence uint64     // of ChangeSetSequence
	End      []byte     // of ChangeDeleteRange: the first key behind the range, nil for no bound
	Into     [][]byte   // of ChangeMoveBucket: path of the bucket that it goes to
}

// Apply makes the change c in the transaction. It returns ErrBucketNotFound if there is no bucket at one of its paths, and else what Put,
// Delete, CreateBucket, DeleteBucket, SetSequence, DeleteRange or MoveBucket return. Changes that Tx.Diff yields, applied in their order to the
// older state, here or in another store, give the newer one; so do those of DB.Changes.
func (tx *Tx) Apply(c Change) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	b, err := tx.bucketAt(c.Bucket)
	if err != nil {
		return err
	}
	switch c.Kind {
	case ChangePut:
		return b.Put(c.Key, c.Value)
	case ChangeDelete:
		return b.Delete(c.Key)
	case ChangeCreateBucket:
		_, err := b.CreateBucket(c.Key)
		return err
	case ChangeDeleteBucket:
		return b.DeleteBucket(c.Key)
	case ChangeSetSequence:
		return b.SetSequence(c.Sequence)
	case ChangeDeleteRange:
		_, err := b.DeleteRange(c.Key, c.End)
		return err
	case ChangeMoveBucket:
		into, err := tx.bucketAt(c.Into)
		if err != nil {
			return err
		}
		return b.MoveBucket(c.Key, into)
	}
	return fmt.Errorf("alder: Apply: Change.Kind is %d, it must be from %d to %d", c.Kind, ChangePut, lastChangeKind)
}

// bucketAt returns the bucket at the end of a path.
func (tx *Tx) bucketAt(path [][]byte) (*Bucket, error) {
	b := tx.root()
	for _, name := range path {
		if b = b.Bucket(name); b == nil {
			if err := tx.Err(); err != nil {
				return nil, err
			}
			return nil, ErrBucketNotFound
		}
	}
	return b, nil
}

// errDiffStopped ends a diff whose caller has left the loop.
var errDiffStopped = errors.New("alder: diff was stopped")

// Diff returns an iterator over what changed from the snapshot of since to that of tx, both read transactions of the same DB; either
// may be the older one. Within a bucket the changes come in the order of keys, and those inside a nested bucket where its name stands.
// A key that was put with the value that it had is no change, nor is a bucket that was deleted and made anew with the same content. What
// was moved appears as deleted in one place and created in the other, with all that is in it.
//
// A diff that cannot go on yields a last pair with the error: one that matches ErrCorrupt, a *FaultError, ErrTxClosed, ErrTxNotReadOnly or
// ErrDifferentDB. Else errors are nil. Keys of ChangeDelete and ChangeDeleteBucket are valid until since ends, everything
// else until tx does.
//
// Cost: a few page reads for each page that only one of the two snapshots has; it does not depend on the size of the store.
func (tx *Tx) Diff(since *Tx) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := &differ{from: since, to: tx, yield: yield}
		err := d.usable()
		if err == nil {
			err = guarded(since.snap.data, func() error { return guarded(tx.snap.data, d.run) })
		}
		if err != nil && err != errDiffStopped {
			yield(Change{}, err)
		}
	}
}

// ErrTxNotReadOnly is returned where a read transaction is needed and a write transaction was given.
var ErrTxNotReadOnly = errors.New("tx is not read-only")

// differ is one diff at work.
type differ struct {
	from, to *Tx
	yield    func(Change, error) bool
	path     [][]byte // of the bucket at work; never changed in place, for changes have been handed out with it

	leftFrom, leftTo int // pages that the walks may still meet
}

func (d *differ) usable() error {
	for _, tx := range []*Tx{d.from, d.to} {
		if err := tx.ready(false); err != nil {
			return err
		}
		if tx.w != nil {
			return ErrTxNotReadOnly
		}
	}
	if d.from.db != d.to.db {
		return ErrDifferentDB
	}
	return nil
}

func (d *differ) run() error {
	d.leftFrom, d.leftTo = int(d.from.snap.highWater), int(d.to.snap.highWater)
	a, b := d.from.root(), d.to.root()
	return d.buckets(&a.tree, &b.tree, a.sequence, b.sequence)
}

// emit hands a change of the bucket at work to the caller.
func (d *differ) emit(c Change) error {
	c.Bucket = d.path
	if !d.yield(c, nil) {
		return errDiffStopped
	}
	// The loop body may have ended the transactions, whose pages are somebody else's then.
	if d.from.state.Load() != txOpen || d.to.state.Load() != txOpen {
		return ErrTxClosed
	}
	return nil
}

// inside runs fn with the nested bucket name as the one at work.
func (d *differ) inside(name []byte, id pgid, fn func() error) error {
	if len(d.path) > maxNesting {
		return tooNested(id)
	}
	outer := d.path
	d.path = append(outer[:len(outer):len(outer)], name)
	err := fn()
	d.path = outer
	return err
}

// buckets yields what changed from bucket a to bucket b.
func (d *differ) buckets(a, b *tree, sequenceA, sequenceB uint64) error {
	if sequenceA != sequenceB {
		if err := d.emit(Change{Kind: ChangeSetSequence, Sequence: sequenceB}); err != nil {
			return err
		}
	}
	from, to := diffWalk{r: d.from, left: &d.leftFrom}, diffWalk{r: d.to, left: &d.leftTo}
	if err := from.begin(a); err != nil {
		return err
	}
	if err := to.begin(b); err != nil {
		return err
	}
	for {
		from.settle()
		to.settle()
		if from.done() && to.done() {
			return nil
		}
		if h := from.shared(&to); h >= 0 {
			from.skip(h)
			to.skip(h)
			continue
		}
		// The taller subtree is opened first: the smaller one may be inside.
		if hf, ht := from.unopened(), to.unopened(); hf >= 0 || ht >= 0 {
			if hf >= ht {
				if err := from.open(); err != nil {
					return err
				}
			}
			if ht >= hf {
				if err := to.open(); err != nil {
					return err
				}
			}
			continue
		}
		if err := d.leaves(&from, &to); err != nil {
			return err
		}
	}
}

// leaves compares the cells at which both walks stand, and takes the smaller one, or both.
func (d *differ) leaves(from, to *diffWalk) error {
	order := 0
	switch {
	case from.done():
		order = 1
	case to.done():
		order = -1
	default:
		var err error
		if order, err = compareCells(d.from, from.cell(), d.to, to.cell()); err != nil {
			return err
		}
	}
	switch {
	case order < 0:
		if err := d.gone(from.cell()); err != nil {
			return err
		}
		from.next()
	case order > 0:
		if err := d.come(to.cell()); err != nil {
			return err
		}
		to.next()
	default:
		if err := d.both(from.cell(), to.cell()); err != nil {
			return err
		}
		from.next()
		to.next()
	}
	return nil
}

// compareCells orders the keys of two cells.
func compareCells(ra pageReader, a leafCell, rb pageReader, b leafCell) (int, error) {
	if a.flags&b.flags&cellOverflowKey != 0 && bytes.Equal(a.key, b.key) {
		return 0, nil // the same run
	}
	ka, err := wholeKey(ra, a)
	if err != nil {
		return 0, err
	}
	kb, err := wholeKey(rb, b)
	return bytes.Compare(ka, kb), err
}

// gone yields the removal of a cell.
func (d *differ) gone(c leafCell) error {
	key, err := wholeKey(d.from, c)
	if err != nil {
		return err
	}
	if c.flags&cellBucket != 0 {
		return d.emit(Change{Kind: ChangeDeleteBucket, Key: key})
	}
	return d.emit(Change{Kind: ChangeDelete, Key: key})
}

// come yields a new cell; for a bucket, all that is in it.
func (d *differ) come(c leafCell) error {
	key, err := wholeKey(d.to, c)
	if err != nil {
		return err
	}
	if c.flags&cellBucket == 0 {
		value, err := wholeValue(d.to, c)
		if err != nil {
			return err
		}
		return d.emit(Change{Kind: ChangePut, Key: key, Value: value})
	}
	if err := d.emit(Change{Kind: ChangeCreateBucket, Key: key}); err != nil {
		return err
	}
	t, sequence := decodeBucket(c.value)
	return d.inside(key, t.root.id, func() error { return d.buckets(&tree{}, &t, 0, sequence) })
}

// both yields the changes of a key that both snapshots have.
func (d *differ) both(a, b leafCell) error {
	if bucketA, bucketB := a.flags&cellBucket != 0, b.flags&cellBucket != 0; bucketA != bucketB {
		if err := d.gone(a); err != nil {
			return err
		}
		return d.come(b)
	} else if bucketA {
		ta, sequenceA := decodeBucket(a.value)
		tb, sequenceB := decodeBucket(b.value)
		if sequenceA == sequenceB && ta.root.id == tb.root.id && ta.root.birth == tb.root.birth && bytes.Equal(ta.inline, tb.inline) {
			return nil
		}
		key, err := wholeKey(d.to, b)
		if err != nil {
			return err
		}
		return d.inside(key, tb.root.id, func() error { return d.buckets(&ta, &tb, sequenceA, sequenceB) })
	}
	if (a.flags^b.flags)&cellOverflowValue == 0 && bytes.Equal(a.value, b.value) {
		return nil // the same bytes, or the same run
	}
	va, err := wholeValue(d.from, a)
	if err != nil {
		return err
	}
	vb, err := wholeValue(d.to, b)
	if err != nil || bytes.Equal(va, vb) {
		return err
	}
	key, err := wholeKey(d.to, b)
	if err != nil {
		return err
	}
	return d.emit(Change{Kind: ChangePut, Key: key, Value: vb})
}

// wholeValue is the value of a cell that is no bucket.
func wholeValue(r pageReader, c leafCell) ([]byte, error) {
	if c.flags&cellOverflowValue == 0 {
		return c.value, nil
	}
	return r.readRun(loadRef(c.value))
}

// ---- walks that can step over subtrees

// diffWalk is a walk over one tree that opens a subtree only when told to.
type diffWalk struct {
	r     pageReader
	left  *int // pages that all walks over this snapshot may still meet
	steps []diffStep
	root  pageRef
}

// diffStep is a page and a slot of it: the child that comes next, or the cell. The first step of a tree that is not inline is no page; its only
// child is the root.
type diffStep struct {
	p      page
	i, n   int
	height int // of the page, 0 for a leaf
}

// begin puts the walk in front of the tree.
func (w *diffWalk) begin(t *tree) error {
	if t.root.id == 0 {
		if t.inline != nil {
			w.steps = append(w.steps, diffStep{p: t.inline, n: t.inline.count()})
		}
		return nil
	}
	h, err := t.height(w.r)
	if err != nil {
		return err
	}
	w.root = t.root
	w.steps = append(w.steps, diffStep{n: 1, height: h + 1})
	return nil
}

// settle leaves pages whose last slot has been passed.
func (w *diffWalk) settle() {
	for n := len(w.steps); n > 0; n-- {
		if s := &w.steps[n-1]; s.i < s.n {
			return
		}
		w.steps = w.steps[:n-1]
		if n > 1 {
			w.steps[n-2].i++
		}
	}
}

func (w *diffWalk) done() bool { return len(w.steps) == 0 }

// child is the subtree that comes next below step k.
func (w *diffWalk) child(k int) pageRef {
	if s := &w.steps[k]; s.p != nil {
		return s.p.child(s.i)
	}
	return w.root
}

// shared returns the height of the tallest subtree at whose start both walks stand; -1 if there is none.
func (w *diffWalk) shared(o *diffWalk) int {
	best := -1
	k, l := len(w.steps)-1, len(o.steps)-1
	for k >= 0 && l >= 0 {
		h, g := w.steps[k].height, o.steps[l].height
		if h > 0 && h == g {
			if w.child(k) == o.child(l) {
				best = h - 1
			}
		}
		// Outwards in the walk that is further inside, as long as it stands at the start of the page.
		if h <= g {
			if w.steps[k].i > 0 {
				break
			}
			k--
		}
		if g <= h {
			if o.steps[l].i > 0 {
				break
			}
			l--
		}
	}
	return best
}

// skip steps over the subtree of the given height at whose start the walk stands.
func (w *diffWalk) skip(height int) {
	k := len(w.steps) - 1
	for w.steps[k].height != height+1 {
		k--
	}
	w.steps = w.steps[:k+1]
	w.steps[k].i++
}

// unopened is the height of the subtree that comes next; -1 if the walk stands at a cell, or at the end.
func (w *diffWalk) unopened() int {
	if len(w.steps) == 0 {
		return -1
	}
	return w.steps[len(w.steps)-1].height - 1
}

// open goes into the subtree that comes next.
func (w *diffWalk) open() error {
	k := len(w.steps) - 1
	ref, h := w.child(k), w.steps[k].height-1
	if *w.left--; *w.left < 0 {
		return tooManyPages(ref.id)
	}
	p, err := w.r.readPage(ref)
	if err != nil {
		return err
	}
	if p.isBranch() != (h > 0) {
		return corrupt(ref.id, "a %v page lies %d levels above the leaves", p.kind(), h)
	}
	w.steps = append(w.steps, diffStep{p: p, n: p.count(), height: h})
	return nil
}

// cell is the cell at which the walk stands.
func (w *diffWalk) cell() leafCell {
	s := &w.steps[len(w.steps)-1]
	return s.p.cell(s.i)
}

func (w *diffWalk) next() { w.steps[len(w.steps)-1].i++ }
