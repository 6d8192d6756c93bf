package alder

import (
	"errors"
	"fmt"
	"slices"
)

// How operations on buckets get into the redo log, and how they are done again.

// record returns the record of b's transaction, ready for an operation on b; nil if there is none to be kept.
func (b *Bucket) record() *recordWriter {
	r := &b.tx.pager.record
	if r.in != any(b) && !r.tooLong {
		r.in = b
		r.add(operationBucket)
		r.path(b.names())
	}
	if r.tooLong {
		return nil
	}
	return r
}

// names is the path to b from the root; empty for the root itself.
func (b *Bucket) names() [][]byte {
	var names [][]byte
	for ; b.w.parent != nil; b = b.w.parent {
		names = append(names, b.w.name)
	}
	slices.Reverse(names)
	return names
}

// noteOperation records an operation that has only names or keys.
func (b *Bucket) noteOperation(kind operationKind, fields ...[]byte) {
	if r := b.record(); r != nil {
		r.add(kind, fields...)
	}
}

// noteMove records that the nested bucket of that name has moved.
func (b *Bucket) noteMove(name []byte, dst *Bucket) {
	if r := b.record(); r != nil {
		r.add(operationMoveBucket, name)
		r.path(dst.names())
		r.in = nil // other paths may mean other buckets now
	}
}

// replayer does again what records say, in one write transaction.
type replayer struct {
	tx *Tx
	in *Bucket
	r  recordReader
}

// apply does the operations of one record.
func (p *replayer) apply(id txid, record []byte) error {
	p.in, p.r.b, p.r.bad = &p.tx.w.root, record, false
	var o operation
	for p.r.next(&o) {
		if err := p.do(&o); isMistake(err) {
			// What is in the log has been done once: the tree is not the one that it was done to, or the record says something else.
			return corrupt(0, "redo log: transaction %d cannot be done again: %v", id, err)
		} else if err != nil {
			return fmt.Errorf("replaying transaction %d of the redo log: %w", id, err)
		}
	}
	if p.r.bad {
		return corrupt(0, "redo log: the record of transaction %d makes no sense", id)
	}
	return nil
}

// isMistake reports whether err says that an operation is impossible, whatever the disk does.
func isMistake(err error) bool {
	return slices.ContainsFunc([]error{
		ErrBucketNotFound, ErrBucketExists, ErrBucketNameRequired, ErrBucketTooDeep, ErrSameBuckets, ErrIncompatibleValue,
		ErrKeyRequired, ErrKeyTooLarge, ErrValueTooLarge,
	}, func(mistake error) bool { return errors.Is(err, mistake) })
}

func (p *replayer) do(o *operation) (err error) {
	b := p.in
	switch o.kind {
	case operationBucket:
		p.in, err = p.find(o.path)
	case operationPut:
		err = b.Put(o.key, o.value)
	case operationPutRun:
		err = b.putRun(o.key, loadRef(o.value))
	case operationDelete:
		err = b.Delete(o.key)
	case operationDeleteRange:
		from, to := o.key, o.value
		if o.bounds&boundFrom == 0 {
			from = nil
		}
		if o.bounds&boundTo == 0 {
			to = nil
		}
		_, err = b.DeleteRange(from, to)
	case operationCreateBucket:
		_, err = b.CreateBucket(o.key)
	case operationDeleteBucket:
		err = b.DeleteBucket(o.key)
	case operationMoveBucket:
		var dst *Bucket
		if dst, err = p.find(o.path); err == nil {
			err = b.MoveBucket(o.key, dst)
		}
	case operationSequence:
		err = b.SetSequence(o.number)
	}
	return err
}

// find returns the bucket at the end of a path.
func (p *replayer) find(path [][]byte) (*Bucket, error) {
	b := &p.tx.w.root
	for _, name := range path {
		if b = b.Bucket(name); b == nil {
			if err := p.tx.Err(); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %q", ErrBucketNotFound, name)
		}
	}
	return b, nil
}
