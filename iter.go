package alder

import (
	"bytes"
	"iter"
	"runtime/debug"
)

// All returns an iterator over all keys in order, with their values, nil for nested buckets. The bucket may be changed in the loop
// body: the next key is always the first one above the current.
//
// This and the other iterators end early when a page cannot be read; Tx.Err, and the result of View and Update, tell.
func (b *Bucket) All() iter.Seq2[[]byte, []byte] { return b.Range(nil, nil) }

// Backward is All from the last key to the first.
func (b *Bucket) Backward() iter.Seq2[[]byte, []byte] { return b.RangeBackward(nil, nil) }

// Range returns an iterator over the keys from ≤ key < to in order; nil stands for no bound.
func (b *Bucket) Range(from, to []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		c := b.Cursor()
		var k, v []byte
		if from == nil {
			k, v = c.First()
		} else {
			k, v = c.Seek(from)
		}
		for k != nil && c.inside(k, nil, to) {
			if !yield(k, v) || !c.rest(to, yield) {
				return
			}
			k, v = c.Next()
		}
	}
}

// RangeBackward returns an iterator over the keys from ≤ key < to, from the last to the first; nil stands for no bound.
func (b *Bucket) RangeBackward(from, to []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		c := b.Cursor()
		var k, v []byte
		if to == nil {
			k, v = c.Last()
		} else if c.Seek(to); b.tx.Err() == nil {
			// The cursor stands at the first key that is too large, or behind the last one.
			k, v = c.Prev()
		}
		for k != nil && c.inside(k, from, nil) {
			if !yield(k, v) || !c.restBackward(from, yield) {
				return
			}
			k, v = c.Prev()
		}
	}
}

// inside reports whether from ≤ key < to. It is false as well if key cannot be read; that ends the walk, and Tx.Err tells.
func (c *Cursor) inside(key, from, to []byte) (is bool) {
	if from == nil && to == nil {
		return true
	}
	defer c.bucket.tx.endRead(debug.SetPanicOnFault(true))
	return bytes.Compare(key, from) >= 0 && (to == nil || bytes.Compare(key, to) < 0)
}

// rest yields what the window shows behind the current cell, if all of it is below to: one comparison for many keys. It reports whether
// the iteration goes on.
func (c *Cursor) rest(to []byte, yield func([]byte, []byte) bool) bool {
	if c.at+1 >= c.filled {
		return true
	}
	if last, _ := c.pair(c.filled - 1); !c.inside(last, nil, to) {
		return true
	}
	tx := c.bucket.tx
	for k, n := c.at+1, c.filled; k < n && tx.state.Load() == txOpen; k++ {
		c.at = k
		c.pace(k)
		if !yield(c.pair(k)) {
			return false
		}
	}
	return true
}

// restBackward is rest for what the window shows before the current cell, if all of it is at from or above.
func (c *Cursor) restBackward(from []byte, yield func([]byte, []byte) bool) bool {
	if c.filled == 0 {
		return true
	}
	if first, _ := c.pair(0); !c.inside(first, from, nil) {
		return true
	}
	tx := c.bucket.tx
	for k := c.at - 1; k < c.filled && tx.state.Load() == txOpen; k-- {
		c.at = k
		c.pace(k)
		if !yield(c.pair(k)) {
			return false
		}
	}
	return true
}

// Prefix returns an iterator over the keys that begin with p, in order.
func (b *Bucket) Prefix(p []byte) iter.Seq2[[]byte, []byte] { return b.Range(p, PrefixEnd(p)) }

// PrefixBackward is Prefix from the last key to the first.
func (b *Bucket) PrefixBackward(p []byte) iter.Seq2[[]byte, []byte] {
	return b.RangeBackward(p, PrefixEnd(p))
}

// PrefixEnd returns the smallest key above all keys that begin with prefix, so that prefix and PrefixEnd(prefix) are the bounds of a range of
// exactly those: for Count, DeleteRange, Range and their like. It is nil, which stands for no bound there, if no key is above them: when prefix is empty, which
// every key begins with, or nothing but bytes 0xff. The result is a slice of its own.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}
