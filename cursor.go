package alder

import "runtime/debug"

// Cursor walks over the keys of a bucket in order. Nested buckets appear with a nil value. A cursor belongs to one goroutine and
// is valid until its transaction ends.
//
// A cursor stays valid when its transaction changes the bucket: Next goes to the first key above the one the cursor is at, Prev to the
// last one below it, whether that key still exists or not.
//
// When Next has returned nil the cursor stays at the last key, and when Prev has, at the first, as in bbolt. Slices
// that a cursor returns are valid until the transaction ends and must not be modified. Read errors end a walk
// early; Tx.Err tells.
type Cursor struct {
	bucket *Bucket

	// In a read transaction most steps are from one cell of the window to the next. The window has filled slots of the leaf that
	// path leads to, from slot first on; while filled is not 0 the slot in path is out of date.
	window
	stride stride // how far the walk has come
	gap    bool   // see key
	part   uint16 // bytes of the next leaf's cells to ask for every few keys
	left   uint32 // bytes of them that have not been asked for
	ahead  int    // where in the mapping those begin

	path  path
	start [4]level // where path begins, so that a cursor is one allocation

	// In a write transaction, to find the place again after a change:
	key     []byte // where the cursor is, or where it was to go: with gap it is at no key, Seek has found none
	changes uint64
	evicted uint64
}

// Bucket returns the bucket that the cursor walks over.
func (c *Cursor) Bucket() *Bucket { return c.bucket }

// First moves to the first key and returns it with its value; nil, nil if the bucket is empty.
func (c *Cursor) First() (key, value []byte) { return c.edge(false) }

// Last moves to the last key and returns it with its value; nil, nil if the bucket is empty.
func (c *Cursor) Last() (key, value []byte) { return c.edge(true) }

func (c *Cursor) edge(last bool) (key, value []byte) {
	b := c.bucket
	c.filled, c.stride, c.left = 0, 0, 0
	if b.usable(false) != nil {
		return nil, nil
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	pth, err := b.tree.edge(b.tx, c.reset(), last)
	if err != nil {
		return c.fail(err)
	}
	c.path = pth
	if pth.leaf().p.count() == 0 {
		c.path = nil
		return nil, nil
	}
	return c.take()
}

// Seek moves to the first key that is not below key and returns it with its value; nil, nil if there is none.
func (c *Cursor) Seek(seek []byte) (key, value []byte) {
	b := c.bucket
	c.filled, c.stride, c.left = 0, 0, 0
	if b.usable(false) != nil {
		return nil, nil
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	if err := c.seek(seek); err != nil {
		return c.fail(err)
	}
	leaf := c.path.leaf()
	if leaf.i < leaf.p.count() {
		return c.take()
	}
	pth, ok, err := nextLeaf(b.tx, c.path)
	if err != nil {
		return c.fail(err)
	}
	if !ok {
		c.note(seek)
		c.gap = true
		return nil, nil
	}
	c.path = pth
	return c.take()
}

// Next moves to the next key and returns it with its value; nil, nil at the end.
func (c *Cursor) Next() (key, value []byte) {
	if k := c.at + 1; k < c.filled && c.bucket.tx.state.Load() == txOpen {
		c.at = k
		c.pace(k)
		return c.pair(k)
	}
	return c.next()
}

// next is Next where the window does not help.
func (c *Cursor) next() (key, value []byte) {
	b := c.bucket
	if len(c.path) == 0 || b.usable(false) != nil {
		return nil, nil
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	c.leave()
	step := 1
	if c.stale() {
		exact, err := c.again()
		if err != nil {
			return c.fail(err)
		}
		if !exact || c.gap {
			step = 0 // the key is gone, and the cursor stands at the one after it
		}
	}
	leaf := c.path.leaf()
	if leaf.i+step < leaf.p.count() {
		leaf.i += step
		return c.show(1, false)
	}
	pth, ok, err := nextLeaf(b.tx, c.path)
	if err != nil {
		return c.fail(err)
	}
	if !ok {
		if step == 0 {
			c.changes-- // still behind the last key: the next call looks again
		}
		return nil, nil
	}
	c.path = pth
	return c.show(1, true)
}

// Prev moves to the previous key and returns it with its value; nil, nil at the start.
func (c *Cursor) Prev() (key, value []byte) {
	if k := c.at - 1; k < c.filled && c.bucket.tx.state.Load() == txOpen {
		c.at = k
		c.pace(k)
		return c.pair(k)
	}
	return c.prev()
}

// prev is Prev where the window does not help.
func (c *Cursor) prev() (key, value []byte) {
	b := c.bucket
	if len(c.path) == 0 || b.usable(false) != nil {
		return nil, nil
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	c.leave()
	exact := true
	if c.stale() {
		var err error
		if exact, err = c.again(); err != nil {
			return c.fail(err)
		}
	}
	leaf := c.path.leaf()
	if leaf.i > 0 {
		leaf.i--
		return c.show(-1, false)
	}
	pth, ok, err := prevLeaf(b.tx, c.path)
	if err != nil {
		return c.fail(err)
	}
	if !ok {
		if !exact {
			c.changes-- // still between keys: the next call looks again
		}
		return nil, nil
	}
	c.path = pth
	return c.show(-1, true)
}

// Delete removes the key the cursor is at. The cursor stays between its neighbors: Next goes to the key after the deleted one, Prev to
// the one before. It returns ErrIncompatibleValue at a nested bucket, ErrTxNotWritable, ErrTxClosed, and ErrKeyRequired if
// the cursor is at no key.
func (c *Cursor) Delete() error {
	if err := c.bucket.usable(true); err != nil {
		return err
	}
	if len(c.path) == 0 || c.key == nil || c.gap {
		return ErrKeyRequired
	}
	return c.bucket.Delete(c.key)
}

// ---- places

// show returns the pair that the path leads to after a step in direction dir, and lets the window begin there; crossed tells that the
// step was to another leaf.
func (c *Cursor) show(dir stride, crossed bool) (key, value []byte) {
	if c.bucket.w != nil {
		return c.take()
	}
	c.lookAhead(dir, crossed)
	if leaf := c.path.leaf(); !c.window.fill(leaf.p, leaf.i, dir < 0) {
		return c.take()
	}
	return c.pair(c.at)
}

// leave brings the path up to date and empties the window.
func (c *Cursor) leave() {
	if c.filled > 0 {
		c.path.leaf().i = int(c.first + c.at)
		c.filled = 0
	}
}

// reset empties the path. In a read transaction its memory is used again; in a write transaction too, for no page is kept.
func (c *Cursor) reset() path {
	if c.path == nil {
		return c.start[:0]
	}
	return c.path[:0]
}

func (c *Cursor) seek(key []byte) error {
	pth, _, err := c.bucket.tree.seek(c.bucket.tx, c.reset(), key)
	c.path = pth
	return err
}

// stale reports whether the bucket has changed since the path was taken.
func (c *Cursor) stale() bool {
	b := c.bucket
	return b.w != nil && (c.changes != b.tree.changes || c.evicted != b.tx.pager.ws.evicted)
}

// again finds the cursor's key in the changed bucket, or the place where it would be.
func (c *Cursor) again() (exact bool, err error) {
	c.path, exact, err = c.bucket.tree.seek(c.bucket.tx, c.reset(), c.key)
	c.note(c.key)
	return exact, err
}

// note remembers key, or a copy if it is the caller's, as the cursor's place in the bucket as it is now.
func (c *Cursor) note(key []byte) {
	b := c.bucket
	if b.w == nil {
		return
	}
	c.changes, c.evicted = b.tree.changes, b.tx.pager.ws.evicted
	if len(key) == 0 || len(c.key) == 0 || &key[0] != &c.key[0] {
		c.key = bytesOf(key)
	}
}

// take returns the pair the path leads to.
func (c *Cursor) take() (key, value []byte) {
	b := c.bucket
	leaf := c.path.leaf()
	key, value, err := b.pair(leaf.p, leaf.i)
	if err != nil {
		return c.fail(err)
	}
	if b.w != nil {
		// Valid until the transaction ends, so that no copy is needed.
		c.gap = false
		c.key, c.changes, c.evicted = key, b.tree.changes, b.tx.pager.ws.evicted
	}
	return key, value
}

// fail remembers the error of a read and ends the walk.
func (c *Cursor) fail(err error) (key, value []byte) {
	c.bucket.tx.setErr(err)
	c.path, c.filled = nil, 0
	return nil, nil
}
