package alder

import (
	"context"
	"fmt"
)

// Compact copies everything in src to dst, with full pages and without free space. It returns ErrBucketExists if dst has a bucket
// that src has too. A transaction of dst is committed
// when its keys and values have more than txMaxSize bytes; 0 commits once, at the end.
func Compact(dst, src *DB, txMaxSize int64) error {
	return CompactContext(context.Background(), dst, src, txMaxSize, nil)
}

// CompactContext is Compact that stops at the next transaction boundary when ctx ends, and calls progress, if it is not nil, now and
// then with the number of keys and of their bytes copied so far.
func CompactContext(ctx context.Context, dst, src *DB, txMaxSize int64, progress func(keys, bytes int64)) error {
	from, err := src.Begin(false)
	if err != nil {
		return err
	}
	defer from.Rollback()
	c := &compaction{ctx: ctx, dst: dst, max: txMaxSize, progress: progress, left: int(from.snap.highWater)}
	if err := c.begin(); err != nil {
		return err
	}
	defer func() {
		if c.to != nil {
			_ = c.to.Rollback() // of no effect after the commit
		}
	}()
	if err := c.bucket(nil, from.root()); err != nil {
		return err
	}
	if err := from.Err(); err != nil {
		return err
	}
	return c.to.Commit()
}

type compaction struct {
	ctx         context.Context
	dst         *DB
	to          *Tx // nil after a failed commit
	max         int64
	left        int   // buckets with pages that src can still have
	size        int64 // bytes in the transaction
	keys, bytes int64
	progress    func(keys, bytes int64)
}

func (c *compaction) begin() (err error) {
	c.size = 0
	c.to, err = c.dst.BeginContext(c.ctx, true)
	return err
}

// target returns the bucket of dst at path.
func (c *compaction) target(path [][]byte) *Bucket {
	b := c.to.root()
	for _, name := range path {
		if b = b.Bucket(name); b == nil {
			return nil
		}
	}
	return b
}

// bucket copies bucket b to the bucket of dst at path.
func (c *compaction) bucket(path [][]byte, b *Bucket) error {
	if b.tree.root.id != 0 {
		c.left-- // a bucket that is not inline has a page of its own
	}
	if len(path) > maxNesting || c.left < 0 {
		return tooNested(b.tree.root.id)
	}
	to := c.target(path)
	if len(path) > 0 {
		if err := to.SetSequence(b.Sequence()); err != nil {
			return err
		}
	}
	for k, v := range b.All() {
		var err error
		if to, err = c.room(path, to, int64(len(k)+len(v))); err != nil {
			return err
		}
		if v != nil {
			if err := to.Put(k, v); err != nil {
				return err
			}
			continue
		}
		child := b.Bucket(k)
		if child == nil {
			return b.tx.Err()
		}
		if _, err := to.CreateBucket(k); err != nil {
			return fmt.Errorf("alder: compaction: bucket %q: %w", k, err)
		}
		inner := append(path[:len(path):len(path)], k)
		if err := c.bucket(inner, child); err != nil {
			return err
		}
		// The transaction may be another one now.
		if to = c.target(path); to == nil {
			return fmt.Errorf("alder: compaction: a bucket of the destination was removed meanwhile: %w", ErrBucketNotFound)
		}
	}
	return nil
}

// room counts n bytes, and begins a new transaction if the one at work is full.
func (c *compaction) room(path [][]byte, to *Bucket, n int64) (*Bucket, error) {
	c.keys++
	c.bytes += n
	if c.progress != nil && c.keys%1024 == 0 {
		c.progress(c.keys, c.bytes)
	}
	if c.keys%1024 == 0 && c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	if c.max > 0 && c.size > 0 && c.size+n > c.max {
		err := c.to.Commit()
		c.to = nil
		if err != nil {
			return nil, err
		}
		if err := c.begin(); err != nil {
			return nil, err
		}
		if to = c.target(path); to == nil {
			return nil, fmt.Errorf("alder: compaction: a bucket of the destination was removed meanwhile: %w", ErrBucketNotFound)
		}
	}
	c.size += n
	return to, nil
}
