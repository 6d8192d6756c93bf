package alder

import "encoding/binary"

// What a transaction did, as the redo log keeps it: its operations in order, by names and keys, not by pages. This file knows how they
// are written down and read; what they mean is for buckets (bucket_replay.go).
//
// A record is a sequence of operations: a kind, and fields of bytes with their length before them or of numbers, as
// varints. operationBucket says which bucket those that follow belong to, until the next.

type operationKind uint8

const (
	operationBucket       operationKind = iota + 1 // path: number of names, names
	operationPut                                   // key, value
	operationDelete                                // key
	operationDeleteRange                           // bounds, from, to
	operationCreateBucket                          // name
	operationDeleteBucket                          // name
	operationMoveBucket                            // name, path of the bucket it goes to
	operationSequence                              // number
	operationPutRun                                // key, reference to an overflow run that holds the value
)

// Bounds of operationDeleteRange.
const (
	boundFrom = 1 << iota
	boundTo
)

// recordWriter collects what a transaction does. Beyond a limit it gives up, and the transaction must be made durable in another way.
type recordWriter struct {
	b       []byte
	limit   int
	tooLong bool
	in      any // the bucket of the last operationBucket
}

// maxKeptRecord is the size of a buffer that is kept for the next transaction.
const maxKeptRecord = 1 << 20

func (w *recordWriter) reset(limit int) {
	if cap(w.b) > maxKeptRecord {
		w.b = nil
	}
	*w = recordWriter{b: w.b[:0], limit: limit}
}

// add appends an operation with fields of bytes.
func (w *recordWriter) add(kind operationKind, fields ...[]byte) {
	w.room(1, fields)
	if w.tooLong {
		return
	}
	w.b = append(w.b, byte(kind))
	for _, f := range fields {
		w.field(f)
	}
}

// deleteRange appends operationDeleteRange; nil stands for no bound.
func (w *recordWriter) deleteRange(from, to []byte) {
	w.room(2, [][]byte{from, to})
	if w.tooLong {
		return
	}
	bounds := byte(0)
	if from != nil {
		bounds |= boundFrom
	}
	if to != nil {
		bounds |= boundTo
	}
	w.b = append(w.b, byte(operationDeleteRange), bounds)
	w.field(from)
	w.field(to)
}

// put is add for the one operation that matters.
func (w *recordWriter) put(key, value []byte) {
	if w.tooLong = w.tooLong || len(w.b)+len(key)+len(value) > w.limit; w.tooLong {
		w.b = nil
		return
	}
	w.b = append(w.b, byte(operationPut))
	w.b = binary.AppendUvarint(w.b, uint64(len(key)))
	w.b = append(w.b, key...)
	w.b = binary.AppendUvarint(w.b, uint64(len(value)))
	w.b = append(w.b, value...)
}

// room sees to it that the limit is kept.
func (w *recordWriter) room(n int, fields [][]byte) {
	for _, f := range fields {
		n += len(f) + binary.MaxVarintLen32
	}
	if w.tooLong = w.tooLong || len(w.b)+n > w.limit; w.tooLong {
		w.b = nil
	}
}

func (w *recordWriter) field(f []byte) {
	w.b = binary.AppendUvarint(w.b, uint64(len(f)))
	w.b = append(w.b, f...)
}

// number appends an operation that has only a number.
func (w *recordWriter) number(kind operationKind, v uint64) {
	w.room(1+binary.MaxVarintLen64, nil)
	if !w.tooLong {
		w.b = binary.AppendUvarint(append(w.b, byte(kind)), v)
	}
}

// path appends the names of a path, for operationBucket and operationMoveBucket.
func (w *recordWriter) path(names [][]byte) {
	w.room(binary.MaxVarintLen32, names)
	if w.tooLong {
		return
	}
	w.b = binary.AppendUvarint(w.b, uint64(len(names)))
	for _, n := range names {
		w.field(n)
	}
}

// operation is one decoded operation. Its slices point into the record.
type operation struct {
	kind       operationKind
	key, value []byte // or name; or from, to
	bounds     uint64
	number     uint64
	path       [][]byte
}

// recordReader decodes a record.
type recordReader struct {
	b    []byte
	path [][]byte // memory for operation.path
	bad  bool
}

func (r *recordReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) field() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	f := r.b[:n:n]
	r.b = r.b[n:]
	return f
}

func (r *recordReader) names() [][]byte {
	r.path = r.path[:0]
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.path = append(r.path, r.field())
	}
	return r.path
}

// next decodes the next operation; false at the end of the record and where it makes no sense, which bad tells apart.
func (r *recordReader) next(o *operation) bool {
	if len(r.b) == 0 {
		return false
	}
	*o = operation{kind: operationKind(r.b[0])}
	r.b = r.b[1:]
	switch o.kind {
	case operationBucket:
		o.path = r.names()
	case operationPut, operationPutRun:
		o.key, o.value = r.field(), r.field()
		r.bad = r.bad || o.kind == operationPutRun && len(o.value) != refSize
	case operationDelete, operationCreateBucket, operationDeleteBucket:
		o.key = r.field()
	case operationDeleteRange:
		o.bounds = r.uvarint()
		o.key, o.value = r.field(), r.field()
	case operationMoveBucket:
		o.key = r.field()
		o.path = r.names()
	case operationSequence:
		o.number = r.uvarint()
	default:
		r.bad = true
	}
	return !r.bad
}
