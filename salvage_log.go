package alder

import (
	"bytes"
	"errors"
	"fmt"
)

// How Salvage brings the redo log in. The log says by names and keys what transactions after the meta have done, so that it can be done
// again in the new store, whatever has become of the pages. It ends where it is damaged: what later transactions have done
// cannot be known without those before.

// readLog reads the log of the meta that was chosen, as far as it goes.
func (s *salvager) readLog() {
	m := s.src.m
	if m.clean || m.logBegin == 0 {
		return
	}
	data := s.src.st.mapping().data
	r := logReader{pageSize: s.src.pageSize, end: s.src.pages, read: func(r run) []byte {
		return data[int64(r.id)<<s.src.shift : int64(r.id+pgid(r.n))<<s.src.shift]
	}}
	err := guarded(data, func() (err error) {
		s.log, err = r.scan(m)
		return err
	})
	if err != nil {
		var bad *CorruptionError
		at := uint64(m.logBegin)
		if errors.As(err, &bad) && bad.Page != 0 {
			at = bad.Page
		}
		s.note(&Damage{Page: at, Kind: DamagedLog, Keys: -1, Err: err})
		s.logLost = true
	}
	if s.log != nil {
		s.report.TxID = uint64(s.log.next) - 1
	}
}

// logReplay does again what the log says.
type logReplay struct {
	s       *salvager
	to      *salvageBucket // what the operations that follow concern
	skipped int            // operations on what is lost
}

// replayLog applies the log to what has been salvaged.
func (s *salvager) replayLog() error {
	if s.log == nil || len(s.log.frames) == 0 || s.out.dst == nil {
		return nil
	}
	l := &logReplay{s: s}
	var failed error // of the new store
	err := guarded(s.src.st.mapping().data, func() error {
		for i := range s.log.frames {
			err := s.log.frames[i].records(func(id txid, record []byte) error {
				s.report.Replayed++
				var bad error
				bad, failed = l.apply(id, record)
				return errors.Join(bad, failed)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		s.note(&Damage{Page: uint64(s.src.m.logBegin), Kind: DamagedLog, Keys: -1, Err: err})
		s.logLost = true
	}
	if l.skipped > 0 {
		s.report.Notes = append(s.report.Notes,
			fmt.Sprintf("%d operations of transactions in the redo log concern what is lost, and could not be done again", l.skipped))
	}
	if s.report.Lost > 0 {
		s.report.Notes = append(s.report.Notes, "of the lost keys, those that transactions in the redo log have put are there")
	}
	return s.recount()
}

// apply does the operations of one record. bad is a record that makes no sense, err a failure of the new store.
func (l *logReplay) apply(id txid, record []byte) (bad, err error) {
	l.to = l.s.top
	r := recordReader{b: record}
	var o operation
	for r.next(&o) {
		err := l.do(&o)
		if refused(err) || errors.Is(err, ErrBucketNotFound) || errors.Is(err, ErrBucketExists) || errors.Is(err, ErrSameBuckets) {
			l.skipped++
		} else if err != nil {
			return nil, err
		}
	}
	if r.bad {
		return corrupt(0, "redo log: the record of transaction %d makes no sense", id), nil
	}
	return nil, nil
}

func (l *logReplay) do(o *operation) error {
	out := l.s.out
	if o.kind == operationBucket {
		l.to = l.bucketAt(o.path)
		return nil
	}
	if err := out.room(len(o.key) + len(o.value)); err != nil {
		return err
	}
	switch o.kind {
	case operationPut:
		return l.put(o.key, o.value)
	case operationPutRun:
		return l.putRun(o)
	case operationCreateBucket:
		if err := l.restore(l.to); err != nil {
			return err
		}
		return out.create(l.to.inner(o.key), 0)
	}
	b, err := l.find(l.to)
	if err != nil {
		return err
	}
	switch o.kind {
	case operationDelete:
		return b.Delete(o.key)
	case operationDeleteRange:
		from, to := o.key, o.value
		if o.bounds&boundFrom == 0 {
			from = nil
		}
		if o.bounds&boundTo == 0 {
			to = nil
		}
		_, err = b.DeleteRange(from, to)
	case operationDeleteBucket:
		err = b.DeleteBucket(o.key)
	case operationMoveBucket:
		var dst *Bucket
		if dst, err = l.find(l.bucketAt(o.path)); err == nil {
			err = b.MoveBucket(o.key, dst)
		}
	case operationSequence:
		if l.to != l.s.top {
			err = b.SetSequence(o.number)
		}
	}
	return err
}

func (l *logReplay) bucketAt(path [][]byte) *salvageBucket {
	b := l.s.top
	for _, name := range path {
		b = b.inner(name)
	}
	return b
}

// find returns the handle of a bucket, or ErrBucketNotFound.
func (l *logReplay) find(b *salvageBucket) (*Bucket, error) {
	tx := l.s.out.tx
	in := tx.root()
	for _, name := range b.path {
		if in = in.Bucket(name); in == nil {
			return nil, errors.Join(ErrBucketNotFound, tx.Err())
		}
	}
	return in, nil
}

// restore makes sure that a bucket is there: what is put into one that was lost is known all the same.
func (l *logReplay) restore(b *salvageBucket) error {
	if b == l.s.top {
		return nil
	}
	if err := l.restore(b.parent); err != nil {
		return err
	}
	return l.s.out.create(b, 0)
}

func (l *logReplay) put(key, value []byte) error {
	if l.to == l.s.top {
		return ErrIncompatibleValue // there are only buckets
	}
	if err := l.restore(l.to); err != nil {
		return err
	}
	in, err := l.s.out.open(l.to)
	if err != nil {
		return err
	}
	return in.Put(key, value)
}

// putRun puts a long value that lies in the file.
func (l *logReplay) putRun(o *operation) error {
	if len(o.value) != refSize {
		return corrupt(0, "redo log: reference to a long value of %d bytes", len(o.value))
	}
	r := loadRef(o.value)
	value, bad := l.s.readValue(r)
	if bad == nil {
		return l.put(o.key, value)
	}
	w := &salvageTree{s: l.s, to: l.to}
	return w.loseCell(DamagedValue, r.id, o.key, append(bytes.Clone(o.key), 0), leafCell{}, bad)
}

// logNames reports whether the log may speak of a bucket of that name.
func (s *salvager) logNames(name string) bool {
	if s.log == nil {
		return false
	}
	for _, f := range s.log.frames {
		if bytes.Contains(f.body, []byte(name)) {
			return true
		}
	}
	return false
}

// recount counts what is in the new store, after changes that nobody has counted.
func (s *salvager) recount() error {
	r := s.report
	r.Buckets, r.Keys, r.Bytes = 0, 0, 0
	top, err := s.out.open(s.top)
	if err != nil {
		return err
	}
	for name := range top.All() {
		if string(name) == r.LostAndFound {
			continue
		}
		if err := s.countBucket(top.Bucket(name)); err != nil {
			return err
		}
	}
	return s.out.tx.Err()
}

func (s *salvager) countBucket(b *Bucket) error {
	if b == nil || s.out.ctx.Err() != nil {
		return errors.Join(s.out.tx.Err(), s.out.ctx.Err())
	}
	s.report.Buckets++
	for k, v := range b.All() {
		if v == nil {
			if err := s.countBucket(b.Bucket(k)); err != nil {
				return err
			}
			continue
		}
		s.report.Keys++
		s.report.Bytes += int64(len(k) + len(v))
	}
	return nil
}
