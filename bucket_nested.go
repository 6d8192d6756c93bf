package alder

import (
	"bytes"
	"runtime/debug"
)

// Buckets inside buckets: the value of their cell, and how they are opened, made, removed and moved.

// Cursor returns a new cursor over the bucket, at no key yet.
func (b *Bucket) Cursor() *Cursor {
	if b.tx.w != nil {
		b.tx.w.stats.CursorCount++
	}
	return &Cursor{bucket: b}
}

// Bucket returns the nested bucket of that name; nil if there is none.
func (b *Bucket) Bucket(name []byte) (child *Bucket) {
	if b.usable(false) != nil {
		return nil
	}
	if b.w != nil {
		if c := b.w.children.get(name); c != nil {
			return c // collected puts stay collected
		}
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	p, i, exact, err := b.tree.get(b.tx, name)
	if err != nil {
		b.tx.setErr(err)
		return nil
	}
	if !exact {
		return nil
	}
	c := p.cell(i)
	if c.flags&cellBucket == 0 {
		return nil
	}
	return b.open(name, c.value, b.tx.own(p))
}

// open returns the nested bucket that value describes. changing says that the value lies in a page that may be edited.
func (b *Bucket) open(name, value []byte, changing bool) *Bucket {
	child := b.tx.open(value)
	if changing && child.tree.inline != nil {
		child.tree.inline = bytesOf(child.tree.inline)
	}
	if b.w != nil {
		if child.w == nil {
			child.w = &bucketWriter{}
		}
		child.w.parent, child.w.name = b, bytesOf(name)
		b.w.children.add(child)
	}
	return child
}

func decodeBucket(v []byte) (tree, uint64) {
	t := tree{
		root:    pageRef{pgid(load48(v[offBucketRoot:])), txid(load48(v[offBucketBirth:]))},
		count:   load48(v[offBucketCount:]),
		movedAt: bucketMoved(v),
	}
	if len(v) > bucketHeader {
		t.inline = page(v[bucketHeader:len(v):len(v)])
	}
	return t, le.Uint64(v[offBucketSequence:])
}

func encodeBucket(t *tree, sequence uint64) []byte {
	v := make([]byte, bucketHeader+len(t.inline))
	store48(v[offBucketRoot:], uint64(t.root.id))
	store48(v[offBucketBirth:], uint64(t.root.birth))
	store48(v[offBucketCount:], t.count)
	setBucketMoved(v, t.movedAt)
	le.PutUint64(v[offBucketSequence:], sequence)
	copy(v[bucketHeader:], t.inline)
	return v
}

func checkName(name []byte) error {
	switch {
	case len(name) == 0:
		return ErrBucketNameRequired
	case len(name) > MaxKeySize:
		return ErrKeyTooLarge
	}
	return nil
}

// CreateBucket creates a nested bucket. It returns ErrBucketExists, ErrIncompatibleValue if the name is a key,
// ErrBucketNameRequired, ErrKeyTooLarge, ErrBucketTooDeep, ErrTxNotWritable or ErrTxClosed.
func (b *Bucket) CreateBucket(name []byte) (child *Bucket, err error) {
	if err := b.usable(true); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if b.depth() >= MaxBucketDepth {
		return nil, ErrBucketTooDeep
	}
	err = b.write(func() error {
		p, i, exact, err := b.tree.get(b.tx, name)
		switch {
		case err != nil:
			return err
		case exact && p.cell(i).flags&cellBucket != 0:
			return ErrBucketExists
		case exact:
			return ErrIncompatibleValue
		}
		v := encodeBucket(&tree{}, 0)
		if _, err := b.tree.put(b.tx, name, v, cellBucket); err != nil {
			return err
		}
		child = b.open(name, v, false)
		b.noteOperation(operationCreateBucket, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return child, nil
}

// CreateBucketIfNotExists returns the nested bucket of that name, which it creates if there is none. Errors are those of CreateBucket but
// for ErrBucketExists.
func (b *Bucket) CreateBucketIfNotExists(name []byte) (*Bucket, error) {
	if err := b.usable(true); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if child := b.Bucket(name); child != nil {
		return child, nil
	}
	if err := b.tx.Err(); err != nil {
		return nil, err
	}
	return b.CreateBucket(name)
}

// DeleteBucket removes a nested bucket with all that is in it. It returns ErrBucketNotFound, ErrIncompatibleValue if the name is a key,
// ErrTxNotWritable or ErrTxClosed. Pages are given up without a look at the keys in them, as DeleteRange does.
func (b *Bucket) DeleteBucket(name []byte) error {
	return b.write(func() error {
		if err := b.abandon(name); err != nil {
			return err
		}
		pth, c, err := b.seekBucket(name)
		if err != nil {
			return err
		}
		t, _ := decodeBucket(c.value)
		if err := t.free(b.tx, b.dropper(0)); err != nil {
			return err
		}
		if err := b.tree.remove(b.tx, pth); err != nil {
			return err
		}
		b.noteOperation(operationDeleteBucket, name)
		return nil
	})
}

// dropper returns the function that frees what hangs on a cell that goes away: long keys and values, and whole nested buckets.
func (b *Bucket) dropper(depth int) dropCell {
	return func(c leafCell) error {
		if c.flags&cellBucket != 0 {
			if depth > maxNesting {
				return tooNested(b.tree.root.id)
			}
			t, _ := decodeBucket(c.value)
			if err := t.free(b.tx, b.dropper(depth+1)); err != nil {
				return err
			}
		}
		return freeCell(b.tx, c)
	}
}

// MaxBucketDepth is the number of levels to which buckets can be nested.
const MaxBucketDepth = 1000

// maxNesting bounds every walk over nested buckets: a file in which they go deeper is damaged. Moving buckets can nest them deeper
// than creating them can.
const maxNesting = 10 * MaxBucketDepth

func tooNested(id pgid) error {
	return corrupt(id, "buckets are nested deeper than %d levels", maxNesting)
}

// depth is the number of buckets around b.
func (b *Bucket) depth() int {
	n := 0
	for p := b.w.parent; p != nil; p = p.w.parent {
		n++
	}
	return n
}

// settle brings the cell of a nested bucket that has been opened up to date.
func (b *Bucket) settle(name []byte) error {
	if child := b.w.children.get(name); child != nil {
		return child.flush()
	}
	return nil
}

// abandon prepares the removal of a nested bucket: its cell is brought up to date, so that it leads to all its pages, and the Bucket
// that was given out for it cannot be used any more.
func (b *Bucket) abandon(name []byte) error {
	if err := b.settle(name); err != nil {
		return err
	}
	if child := b.w.children.get(name); child != nil {
		child.markDeleted()
		b.w.children.remove(name)
	}
	return nil
}

// seekBucket returns the path to the cell of a nested bucket.
func (b *Bucket) seekBucket(name []byte) (path, leafCell, error) {
	pth, exact, err := b.tree.seek(b.tx, nil, name)
	if err != nil {
		return nil, leafCell{}, err
	}
	if !exact {
		return nil, leafCell{}, ErrBucketNotFound
	}
	c := pth.leaf().p.cell(pth.leaf().i)
	if c.flags&cellBucket == 0 {
		return nil, leafCell{}, ErrIncompatibleValue
	}
	return pth, c, nil
}

func (b *Bucket) markDeleted() {
	b.w.deleted = true
	for c := range b.w.children.sorted() {
		c.markDeleted()
	}
}

// MoveBucket moves a nested bucket, with all that is in it, into bucket dst under the same name. It returns ErrBucketNotFound,
// ErrIncompatibleValue if the name is a key here or there, ErrBucketExists if dst has such a bucket, ErrSameBuckets if dst is b, or
// lies inside the bucket that is to be moved, ErrBucketTooDeep, ErrDifferentDB, ErrTxNotWritable or ErrTxClosed. No page of the bucket is touched.
func (b *Bucket) MoveBucket(name []byte, dst *Bucket) error {
	if err := b.usable(true); err != nil {
		return err
	}
	if err := dst.usable(true); err != nil {
		return err
	}
	if b.tx.db != dst.tx.db {
		return ErrDifferentDB
	}
	return b.write(func() error {
		if _, _, err := b.seekBucket(name); err != nil {
			return err
		}
		for d := dst; d != nil; d = d.w.parent {
			if dst == b || d.w.parent == b && bytes.Equal(d.w.name, name) {
				return ErrSameBuckets
			}
		}
		if dst.depth() >= MaxBucketDepth {
			return ErrBucketTooDeep
		}
		if err := b.settle(name); err != nil {
			return err
		}
		switch p, i, exact, err := dst.tree.get(b.tx, name); {
		case err != nil:
			return err
		case exact && p.cell(i).flags&cellBucket != 0:
			return ErrBucketExists
		case exact:
			return ErrIncompatibleValue
		}
		pth, c, err := b.seekBucket(name)
		if err != nil {
			return err
		}
		value := bytesOf(c.value)
		setBucketMoved(value, b.tx.w.id)
		if err := b.tree.remove(b.tx, pth); err != nil {
			return err
		}
		if _, err := dst.tree.put(b.tx, name, value, cellBucket); err != nil {
			return err
		}
		if child := b.w.children.get(name); child != nil {
			b.w.children.remove(name)
			child.w.parent = dst
			child.tree.movedAt = b.tx.w.id
			dst.w.children.add(child)
		}
		b.noteMove(name, dst)
		return nil
	})
}
