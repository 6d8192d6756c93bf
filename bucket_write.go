package alder

import (
	"bytes"
	"runtime/debug"
	"slices"
)

// How the keys of a bucket change, and how a bucket's own state gets into its parent's leaf.

// ---- writing keys

// write runs a change of b. If it fails in a way that may leave the tree half changed, the transaction can only be rolled back.
func (b *Bucket) write(change func() error) (err error) {
	if err := b.usable(true); err != nil {
		return err
	}
	tx := b.tx
	defer tx.endWrite(debug.SetPanicOnFault(true), &err)
	if err = tx.spill(); err == nil {
		err = change()
	}
	return tx.writeError(err)
}

// writeError remembers an error that makes the transaction worthless; those of the caller's making do not.
func (tx *Tx) writeError(err error) error {
	switch err {
	case nil, ErrIncompatibleValue, ErrBucketExists, ErrBucketNotFound, ErrSameBuckets, ErrBucketTooDeep:
		return err
	}
	return tx.setErr(err)
}

// Put sets the value of key, which both may be reused at once. It returns ErrTxNotWritable or ErrTxClosed, ErrKeyRequired for an
// empty key, ErrKeyTooLarge or ErrValueTooLarge, ErrIncompatibleValue if the key is a nested bucket, and, if the disk is full
// or Options.MaxSize is reached, an error after which the transaction can only be rolled back. In a transaction larger than Options.DirtyLimit
// that last error may come from a later call, at the latest from Commit.
func (b *Bucket) Put(key, value []byte) (err error) {
	switch {
	case b.tx.w == nil || b.tx.state.Load() != txOpen:
		return b.usable(true)
	case len(key) == 0:
		return ErrKeyRequired
	case len(key) > MaxKeySize:
		return ErrKeyTooLarge
	case len(value) > MaxValueSize:
		return ErrValueTooLarge
	}
	if err := b.writable(); err != nil {
		return err
	}
	tx := b.tx
	collected := false
	if tx.w.stats.Spill > 0 {
		if collected, err = b.collect(key, value); err != nil {
			return err
		}
	}
	if !collected {
		if err := b.putNow(key, value); err != nil {
			return err
		}
	}
	if r := b.record(); r != nil {
		if len(value) >= tx.pager.opts.longValue && tx.w.valueRun.length == len(value) {
			var ref [refSize]byte
			tx.w.valueRun.store(ref[:])
			tx.w.valueRun = overflowRef{}
			r.add(operationPutRun, key, ref[:])
		} else {
			r.put(key, value)
		}
	}
	return nil
}

// putNow is the part of Put that changes the tree.
func (b *Bucket) putNow(key, value []byte) (err error) {
	tx := b.tx
	defer tx.endWrite(debug.SetPanicOnFault(true), &err)
	if err = tx.spill(); err == nil {
		_, err = b.tree.put(tx, key, value, 0)
	}
	return tx.writeError(err)
}

// putRun is Put of a value that lies in an overflow run already.
func (b *Bucket) putRun(key []byte, r overflowRef) error {
	return b.write(func() error {
		if err := b.tx.adoptRun(r); err != nil {
			return err
		}
		var ref [refSize]byte
		r.store(ref[:])
		_, err := b.tree.put(b.tx, key, ref[:], cellOverflowValue)
		return err
	})
}

// Delete removes key; a key that does not exist is no error. It returns ErrTxNotWritable or ErrTxClosed, and ErrIncompatibleValue if the
// key is a nested bucket.
func (b *Bucket) Delete(key []byte) error {
	return b.write(func() error {
		pth, exact, err := b.tree.seek(b.tx, nil, key)
		if err != nil || !exact {
			return err
		}
		if leaf := pth.leaf(); leaf.p.cell(leaf.i).flags&cellBucket != 0 {
			return ErrIncompatibleValue
		}
		if err := b.tree.remove(b.tx, pth); err != nil {
			return err
		}
		b.noteOperation(operationDelete, key)
		return nil
	})
}

// DeleteRange removes the keys from ≤ key < to, nil standing for no bound, and returns how many they were;
// DeleteRange(p, PrefixEnd(p)) removes those that begin with p. Nested buckets in the range
// count as one key each and go with all that is in them. Whole subtrees are given up without a look at their leaves, unless
// these hold long keys, long values or buckets. Errors are those of Delete but for ErrIncompatibleValue.
func (b *Bucket) DeleteRange(from, to []byte) (n uint64, err error) {
	err = b.write(func() error {
		if from != nil && to != nil && bytes.Compare(from, to) >= 0 {
			return nil
		}
		for child := range b.w.children.sorted() {
			name := child.w.name
			if bytes.Compare(name, from) < 0 || to != nil && bytes.Compare(name, to) >= 0 {
				continue
			}
			if err := b.abandon(name); err != nil {
				return err
			}
		}
		n, err = b.tree.removeRange(b.tx, from, to, b.dropper(0))
		return err
	})
	if err != nil {
		return 0, err
	}
	if r := b.record(); r != nil && n > 0 {
		r.deleteRange(from, to)
	}
	return n, nil
}

// NextSequence raises the bucket's sequence number by one and returns it.
func (b *Bucket) NextSequence() (uint64, error) {
	if err := b.SetSequence(b.sequence + 1); err != nil {
		return 0, err
	}
	return b.sequence, nil
}

// SetSequence sets the bucket's sequence number.
func (b *Bucket) SetSequence(v uint64) error {
	if err := b.usable(true); err != nil {
		return err
	}
	b.sequence = v
	b.w.changed = true
	if r := b.record(); r != nil {
		r.number(operationSequence, v)
	}
	return nil
}

// ---- commit

// flush writes the state of b's opened nested buckets into b's cells, and b's own state into its parent's cell.
func (b *Bucket) flush() error {
	if b.tx.w.puts.bucket == b {
		if err := b.tx.drain(); err != nil {
			return err
		}
	}
	for child := range b.w.children.sorted() {
		if err := child.flush(); err != nil {
			return err
		}
	}
	w := b.w
	if w.parent == nil || w.flushed == b.tree.changes && !w.changed {
		return nil
	}
	if err := b.fold(); err != nil {
		return err
	}
	state := encodeBucket(&b.tree, b.sequence)
	// Pages of the same group are changed under their own numbers, and then nothing has changed here, if no key is new.
	if same, err := w.parent.holds(w.name, state); err != nil {
		return err
	} else if !same {
		if _, err := w.parent.tree.put(b.tx, w.name, state, cellBucket); err != nil {
			return err
		}
	}
	w.flushed, w.changed = b.tree.changes, false
	return nil
}

// holds reports whether the cell of the nested bucket of that name has that value.
func (b *Bucket) holds(name, value []byte) (bool, error) {
	p, i, exact, err := b.tree.get(b.tx, name)
	if err != nil || !exact {
		return false, err
	}
	c := p.cell(i)
	return c.flags == cellBucket && bytes.Equal(c.value, value), nil
}

// fold makes a bucket with few bytes and no nested buckets an inline one.
func (b *Bucket) fold() error {
	t := &b.tree
	if t.root.id == 0 {
		return nil
	}
	p, err := b.tx.readPage(t.root)
	if err != nil {
		return err
	}
	limit := b.tx.pager.pageSize/inlineFraction - bucketHeader - pageHeader
	if p.isBranch() || p.used() > limit {
		return nil
	}
	ws := b.tx.workspace()
	cells := appendCells(ws.cells[:0], p)
	ws.cells = cells
	if slices.ContainsFunc(cells, func(c leafCell) bool { return c.flags&cellBucket != 0 }) {
		return nil
	}
	size := leafBytes(cells, layoutOf(cells))
	if size > limit {
		return nil
	}
	image := make(page, pageHeader+size)
	image.setKind(kindLeaf)
	image.buildLeaf(cells)
	if err := b.tx.freePage(t.root); err != nil {
		return err
	}
	t.root, t.inline = pageRef{}, image
	if len(cells) == 0 {
		t.inline = nil
	}
	t.changes++ // cursors must not keep to the page
	t.forget()
	return nil
}
