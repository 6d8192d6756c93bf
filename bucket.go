package alder

import (
	"runtime/debug"
)

const (
	// MaxKeySize is the length in bytes of the longest key, and of the longest bucket name.
	MaxKeySize = 32768

	// MaxValueSize is the length in bytes of the longest value.
	MaxValueSize = (1 << 31) - 2

	// DefaultFillPercent is kept for source compatibility with bbolt.
	DefaultFillPercent = 0.5
)

// inlineFraction: a bucket is stored inside its parent's leaf while that takes no more than this fraction of a page.
const inlineFraction = 4

// Bucket is an ordered set of keys with values, and of nested buckets; both share one order and one set of names. It is valid until
// its transaction ends.
type Bucket struct {
	// FillPercent is kept for source compatibility with bbolt; it does nothing: pages are split where keys that come
	// in order go on, and evenly otherwise.
	FillPercent float64

	tx       *Tx
	tree     tree
	sequence uint64
	w        *bucketWriter // in a write transaction
}

// bucketWriter is what a bucket has in a write transaction.
type bucketWriter struct {
	parent   *Bucket // nil for the root
	name     []byte
	children openBuckets
	flushed  uint64 // tree.changes as the parent's cell knows it
	changed  bool   // the sequence, or the cell itself, is newer than the parent's cell
	deleted  bool
}

func (b *Bucket) init(tx *Tx, t tree, sequence uint64) {
	b.FillPercent = DefaultFillPercent
	b.tx, b.tree, b.sequence = tx, t, sequence
}

// Tx returns the transaction of the bucket.
func (b *Bucket) Tx() *Tx { return b.tx }

// Root returns the number of the bucket's root page; 0 if it is stored inside its parent's leaf.
func (b *Bucket) Root() uint64 { return uint64(b.tree.root.id) }

// Writable reports whether the bucket can be changed.
func (b *Bucket) Writable() bool { return b.tx.w != nil }

// usable returns the error of using b now.
func (b *Bucket) usable(write bool) error {
	if err := b.tx.ready(write); err != nil {
		return err
	}
	if b.w == nil {
		return nil
	}
	if b.w.deleted {
		return ErrBucketNotFound
	}
	if b.tx.w.puts.bucket == b {
		return b.tx.drain()
	}
	return nil
}

// writable returns the error of putting into b now, whatever puts have been collected.
func (b *Bucket) writable() error {
	if err := b.tx.ready(true); err != nil {
		return err
	}
	if b.w.deleted {
		return ErrBucketNotFound
	}
	return nil
}

// ---- reading

// Get returns the value of key; nil if the key does not exist or is a nested bucket. The value of a key with an empty value is
// empty but not nil. The slice is valid until the transaction ends and must not be modified.
//
// A key that cannot be read, because its page is damaged or the file was truncated, is nil as well, and then Tx.Err returns the
// error, as View and Update do at their end. Lookup returns the error at once.
//
// Cost: one page per level of the tree, usually three or four. Get does not allocate, but for values that the transaction itself
// has changed.
func (b *Bucket) Get(key []byte) (value []byte) {
	tx := b.tx
	if b.usable(false) != nil {
		return nil
	}
	defer tx.endRead(debug.SetPanicOnFault(true))
	value, err := b.get(key)
	if err != nil {
		tx.setErr(err)
		return nil
	}
	return value
}

// Lookup is Get with an error: one that matches ErrCorrupt, a *FaultError, or ErrTxClosed. The value is nil, with no error, if
// the key does not exist or is a nested bucket.
func (b *Bucket) Lookup(key []byte) (value []byte, err error) {
	if err := b.usable(false); err != nil {
		return nil, err
	}
	defer b.tx.endWrite(debug.SetPanicOnFault(true), &err)
	value, err = b.get(key)
	return value, b.tx.setErr(err)
}

func (b *Bucket) get(key []byte) ([]byte, error) {
	p, i, exact, err := b.tree.get(b.tx, key)
	if err != nil || !exact {
		return nil, err
	}
	return b.value(p, i)
}

// value returns the value in slot i of leaf p as the user may keep it until the end of the transaction.
func (b *Bucket) value(p page, i int) ([]byte, error) {
	c := p.cell(i)
	if c.flags == 0 {
		if b.tx.own(p) {
			return bytesOf(c.value), nil
		}
		return c.value, nil
	}
	return b.flaggedValue(p, c)
}

func (b *Bucket) flaggedValue(p page, c leafCell) ([]byte, error) {
	switch {
	case c.flags&cellBucket != 0:
		return nil, nil
	case c.flags&cellOverflowValue != 0:
		r := loadRef(c.value)
		v, err := b.tx.readRun(r)
		if err == nil && b.tx.w != nil && r.birth == b.tx.w.id {
			v = bytesOf(v)
		}
		return v, err
	case b.tx.own(p):
		return bytesOf(c.value), nil
	}
	return c.value, nil
}

// bytesOf returns a copy of b that is not nil and has no spare capacity.
func bytesOf(b []byte) []byte {
	c := make([]byte, len(b))
	copy(c, b)
	return c
}

// pair returns key and value in slot i of leaf p as the user may keep them until the end of the transaction.
func (b *Bucket) pair(p page, i int) (key, value []byte, err error) {
	c := p.cell(i)
	own := b.tx.own(p)
	if c.flags == 0 {
		if own {
			both := make([]byte, len(c.key)+len(c.value))
			n := copy(both, c.key)
			copy(both[n:], c.value)
			return both[:n:n], both[n:], nil
		}
		return c.key, c.value, nil
	}
	key = c.key
	if c.flags&cellOverflowKey != 0 {
		r := keyRef(c.key)
		if key, err = b.tx.readRun(r); err != nil {
			return nil, nil, err
		}
		own = own || b.tx.w != nil && r.birth == b.tx.w.id
	}
	if own {
		key = bytesOf(key)
	}
	value, err = b.flaggedValue(p, c)
	return key, value, err
}

// Len returns the number of keys in the bucket, nested buckets included, but not what is in those. Cost: none.
func (b *Bucket) Len() uint64 {
	if b.usable(false) != nil {
		return 0
	}
	return b.tree.count
}

// Count returns the number of keys from ≤ key < to, as Len counts them; nil stands for no bound. Count(p, PrefixEnd(p)) counts those
// that begin with p. Cost: that of two Gets.
func (b *Bucket) Count(from, to []byte) (n uint64) {
	if b.usable(false) != nil {
		return 0
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	n, err := b.tree.countRange(b.tx, from, to)
	if err != nil {
		b.tx.setErr(err)
		return 0
	}
	return n
}

// Rank returns the number of keys below key, which need not exist. Cost: that of one Get.
func (b *Bucket) Rank(key []byte) (n uint64) {
	if b.usable(false) != nil {
		return 0
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	n, err := b.tree.rank(b.tx, key)
	if err != nil {
		b.tx.setErr(err)
		return 0
	}
	return n
}

// At returns the i-th key in order, counted from 0, with its value, which is nil for a nested bucket; nil, nil if the bucket has
// no more than i keys. At(Rank(p) + i) is the i-th key from p on, and the i-th that begins with p if i < Count(p, PrefixEnd(p)). Cost: that of one Get.
func (b *Bucket) At(i uint64) (key, value []byte) {
	if b.usable(false) != nil || i >= b.tree.count {
		return nil, nil
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	p, slot, err := b.tree.at(b.tx, i)
	if err == nil {
		key, value, err = b.pair(p, slot)
	}
	if err != nil {
		b.tx.setErr(err)
		return nil, nil
	}
	return key, value
}

// Sequence returns the bucket's sequence number.
func (b *Bucket) Sequence() uint64 { return b.sequence }

// ForEach calls fn for each key in order, with a nil value for a nested bucket, until fn returns an error, which it returns.
// fn must not change the bucket; use a Cursor for that.
func (b *Bucket) ForEach(fn func(k, v []byte) error) error {
	if err := b.usable(false); err != nil {
		return err
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return b.tx.Err()
}

// ForEachBucket calls fn with the name of each nested bucket in order, until fn returns an error, which it returns.
func (b *Bucket) ForEachBucket(fn func(k []byte) error) error {
	if err := b.usable(false); err != nil {
		return err
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if v == nil {
			if err := fn(k); err != nil {
				return err
			}
		}
	}
	return b.tx.Err()
}

// ---- buckets of the transaction

// root returns the bucket of the top-level buckets.
func (tx *Tx) root() *Bucket {
	if tx.w != nil {
		return &tx.w.root
	}
	b := &Bucket{}
	b.init(tx, tree{root: tx.snap.root, count: tx.snap.count}, tx.snap.sequence)
	return b
}

// Bucket returns the top-level bucket of that name; nil if there is none.
func (tx *Tx) Bucket(name []byte) (b *Bucket) {
	if tx.w != nil {
		return tx.w.root.Bucket(name)
	}
	if tx.state.Load() != txOpen {
		return nil
	}
	if o := tx.snap.recall(name); o != nil {
		b = tx.newBucket()
		b.init(tx, tree{root: o.root, count: o.count, movedAt: o.movedAt}, o.sequence)
		return b
	}
	return tx.findBucket(name)
}

// findBucket is Bucket for a read transaction, by a look into the tree.
func (tx *Tx) findBucket(name []byte) (b *Bucket) {
	defer tx.endRead(debug.SetPanicOnFault(true))
	t := tree{root: tx.snap.root, count: tx.snap.count}
	p, i, exact, err := t.get(tx, name)
	if err != nil {
		tx.setErr(err)
		return nil
	}
	if !exact {
		return nil
	}
	c := p.cell(i)
	if c.flags&cellBucket == 0 {
		return nil
	}
	b = tx.open(c.value)
	tx.snap.remember(name, openedBucket{root: b.tree.root, count: b.tree.count, movedAt: b.tree.movedAt, sequence: b.sequence})
	return b
}

// open returns the bucket that value describes.
func (tx *Tx) open(value []byte) *Bucket {
	b := tx.newBucket()
	t, sequence := decodeBucket(value)
	t.last = b.tree.last // memory that came with the transaction
	b.init(tx, t, sequence)
	return b
}

// CreateBucket creates a top-level bucket; see Bucket.CreateBucket.
func (tx *Tx) CreateBucket(name []byte) (*Bucket, error) { return tx.root().CreateBucket(name) }

// CreateBucketIfNotExists returns the top-level bucket of that name, which it creates if there is none; see
// Bucket.CreateBucketIfNotExists.
func (tx *Tx) CreateBucketIfNotExists(name []byte) (*Bucket, error) {
	return tx.root().CreateBucketIfNotExists(name)
}

// DeleteBucket removes a top-level bucket; see Bucket.DeleteBucket.
func (tx *Tx) DeleteBucket(name []byte) error { return tx.root().DeleteBucket(name) }

// MoveBucket moves the bucket of that name from src to dst; nil is the top level. See Bucket.MoveBucket.
func (tx *Tx) MoveBucket(name []byte, src, dst *Bucket) error {
	if src == nil {
		src = tx.root()
	}
	if dst == nil {
		dst = tx.root()
	}
	return src.MoveBucket(name, dst)
}

// Cursor returns a cursor over the names of the top-level buckets; its values are all nil.
func (tx *Tx) Cursor() *Cursor { return tx.root().Cursor() }

// ForEach calls fn for each top-level bucket in order, until fn returns an error, which it returns.
func (tx *Tx) ForEach(fn func(name []byte, b *Bucket) error) error {
	return tx.root().ForEach(func(k, _ []byte) error {
		b := tx.Bucket(k)
		if err := tx.Err(); err != nil {
			return err
		}
		return fn(k, b) // nil for a key that a program has put there through Cursor().Bucket()
	})
}
