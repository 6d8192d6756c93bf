package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
)

// loader puts records into a store, in transactions of bounded size. What it has committed is in done; the open
// transaction is in pending until it is.
//
// Records that come in order are put as they come. From the first one on that does not, the records of its transaction wait
// in memory and are put sorted, when it is complete: neighbors then meet in the same pages, which is several times as fast.
type loader struct {
	store  string
	base   [][]byte // the bucket that all paths of records are inside of
	cli    *cli
	open   storeOptions
	limits txLimits

	db      *writtenStore // opened for the first record, so that an input without any record creates nothing too early
	tx      *alder.Tx
	done    loadProgress
	pending loadProgress
	target  target
	waiting []waitingRecord
	memory  arena // of the keys and values that wait
	at      int   // position of the record that is being read or put
}

// waitingRecord is a record that waits for its turn, and its position in the source.
type waitingRecord struct {
	kvformat.Record
	at int
}

// loadProgress is how much was loaded.
type loadProgress struct {
	records      int64
	bytes        int64
	transactions int
	sorted       bool   // every record came after those before it in its bucket
	last         string // where the last record stood; of what is done
}

func (p loadProgress) String() string {
	return fmt.Sprintf("%s, %s, in %s", counted(p.records, "record"), formatSize(p.bytes), counted(p.transactions, "transaction"))
}

// target is the bucket of the last record. Records of one bucket mostly follow each other.
type target struct {
	path   [][]byte // relative to base
	bucket *alder.Bucket
	last   []byte // the greatest key of the bucket, while keys come in order
}

// errOfStore marks errors that are not about a record: opening, beginning and committing.
var errOfStore = errors.New("store")

func newLoader(l *loadCommand, store string, base [][]byte) *loader {
	fresh := loadProgress{sorted: true}
	return &loader{store: store, base: base, cli: l.cli, open: l.store, limits: l.limits, done: fresh, pending: fresh}
}

// loadAll loads every record of source and closes the store. On an error the transactions that were committed remain.
func (l *loader) loadAll(ctx context.Context, source recordSource) error {
	err := l.copyRecords(ctx, source)
	if err != nil {
		l.rollback()
		err = l.failure(source, err)
	}
	switch {
	case l.db == nil:
		return err
	case err != nil:
		return errors.Join(err, l.db.DB.Close())
	}
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("load %s: %w; committed: %s", l.store, err, l.done)
	}
	return nil
}

func (l *loader) copyRecords(ctx context.Context, source recordSource) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, err := source.Read()
		l.at = source.position()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := l.begin(ctx); err != nil {
			return err
		}
		if err := l.add(record); err != nil {
			return err
		}
		if l.pending.bytes >= int64(l.limits.bytes) || l.pending.records >= int64(l.limits.records) {
			if err := l.commit(ctx, source); err != nil {
				return err
			}
		}
	}
	// Also for an empty input: the store and the bucket exist afterwards.
	if l.tx == nil && l.done.transactions == 0 {
		if err := l.begin(ctx); err != nil {
			return err
		}
		if len(l.base) > 0 {
			if _, err := createBucket(l.tx, l.base); err != nil {
				return err
			}
		}
	}
	return l.commit(ctx, source)
}

// begin opens the store and a transaction where that has not been done.
func (l *loader) begin(ctx context.Context) (err error) {
	if l.tx != nil {
		return nil
	}
	if l.db == nil {
		if l.db, err = l.cli.openForWriting(ctx, l.store, l.open); err != nil {
			return storeError{err}
		}
	}
	if l.tx, err = l.db.BeginContext(ctx, true); err != nil {
		return storeError{err}
	}
	return nil
}

// commit ends the transaction, if there is one, and counts what was in it as done.
func (l *loader) commit(ctx context.Context, source recordSource) error {
	if l.tx == nil {
		return nil
	}
	last := source.where(source.position())
	if err := l.putWaiting(ctx); err != nil {
		return err
	}
	if err := l.tx.Commit(); err != nil {
		return storeError{err}
	}
	l.done.records += l.pending.records
	l.done.bytes += l.pending.bytes
	l.done.transactions++
	l.done.sorted = l.done.sorted && l.pending.sorted
	l.done.last = last
	l.pending = loadProgress{sorted: true}
	l.tx, l.target = nil, target{}
	return nil
}

// rollback drops the transaction, if there is one.
func (l *loader) rollback() {
	if l.tx != nil {
		_ = l.tx.Rollback() // it is given up because of an earlier error, which is the one to report
		l.tx = nil
	}
}

// storeError is an error of the store as a whole; its text names the file.
type storeError struct{ error }

func (e storeError) Is(target error) bool { return target == errOfStore }
func (e storeError) Unwrap() error        { return e.error }

// add takes one record into the open transaction.
func (l *loader) add(record kvformat.Record) error {
	switch {
	case record.Declaration:
		return l.declare(record)
	case len(record.Key) > alder.MaxKeySize:
		return usageErrorf("the key has %d bytes; the limit is %d", len(record.Key), alder.MaxKeySize)
	case len(record.Value) > alder.MaxValueSize:
		return usageErrorf("the value has %d bytes; the limit is %d", len(record.Value), int64(alder.MaxValueSize))
	}
	l.pending.records++
	l.pending.bytes += int64(len(record.Key) + len(record.Value))
	if l.pending.sorted {
		if err := l.aim(record.Path); err != nil {
			return err
		}
		if l.target.last == nil || bytes.Compare(record.Key, l.target.last) > 0 {
			l.target.last = append(l.target.last[:0], record.Key...)
			return l.put(record)
		}
		l.pending.sorted = false
	}
	record.Key, record.Value = l.memory.keep(record.Key), l.memory.keep(record.Value)
	l.waiting = append(l.waiting, waitingRecord{record, l.at})
	return nil
}

// before orders records by bucket and key. Of several records with one key the last is put last.
func (r waitingRecord) before(other waitingRecord) int {
	if c := slices.CompareFunc(r.Path, other.Path, bytes.Compare); c != 0 {
		return c
	}
	if c := bytes.Compare(r.Key, other.Key); c != 0 {
		return c
	}
	return cmp.Compare(r.at, other.at)
}

// putWaiting puts the records that wait.
func (l *loader) putWaiting(ctx context.Context) error {
	slices.SortFunc(l.waiting, waitingRecord.before)
	for _, record := range l.waiting {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.at = record.at
		if err := l.aim(record.Path); err != nil {
			return err
		}
		if err := l.put(record.Record); err != nil {
			return err
		}
	}
	clear(l.waiting)
	l.waiting, l.memory = l.waiting[:0], arena{}
	return nil
}

// put puts one record into the target, which is its bucket.
func (l *loader) put(record kvformat.Record) error {
	err := l.target.bucket.Put(record.Key, record.Value)
	if errors.Is(err, alder.ErrIncompatibleValue) {
		return usageErrorf("%s is a bucket, not a key", keyName(l.full(record.Path), record.Key))
	}
	return err
}

func (l *loader) declare(record kvformat.Record) error {
	if len(l.base)+len(record.Path) == 0 && record.Sequence == 0 {
		return nil // the top level of a store exists
	}
	if err := l.aim(record.Path); err != nil {
		return err
	}
	if record.Sequence == 0 {
		return nil
	}
	return l.target.bucket.SetSequence(record.Sequence)
}

func (l *loader) full(path [][]byte) [][]byte {
	return append(l.base[:len(l.base):len(l.base)], path...)
}

// aim makes the bucket at path, inside base, the target.
func (l *loader) aim(path [][]byte) error {
	if l.target.bucket != nil && slices.EqualFunc(l.target.path, path, bytes.Equal) {
		return nil
	}
	full := l.full(path)
	if len(full) == 0 {
		return usageErrorf("the record names no bucket; give BUCKET on the command line")
	}
	bucket, err := createBucket(l.tx, full)
	if err != nil {
		return err
	}
	l.target = target{path: path, bucket: bucket}
	if last, _ := bucket.Cursor().Last(); last != nil {
		l.target.last = bytes.Clone(last)
	}
	return nil
}

// arena keeps many small byte strings in few allocations.
type arena struct{ free []byte }

// keep returns a copy of b.
func (a *arena) keep(b []byte) []byte {
	const block = 256 << 10
	if len(b) > block/8 {
		return bytes.Clone(b)
	}
	if cap(a.free)-len(a.free) < len(b) {
		a.free = make([]byte, 0, block)
	}
	start := len(a.free)
	a.free = append(a.free, b...)
	return a.free[start:len(a.free):len(a.free)]
}
