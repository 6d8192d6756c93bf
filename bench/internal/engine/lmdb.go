package engine

import (
	"sync"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/lmdb"
)

func init() {
	Register(lmdbEngine("lmdb", false, "defaults; MDB_NOTLS; read transactions renewed, not begun anew; through cgo"))
	Register(lmdbEngine("lmdb-writemap", true, "MDB_WRITEMAP, otherwise as lmdb; through cgo"))
}

func lmdbEngine(name string, writeMap bool, settings string) *Engine {
	lazy := "MDB_NOSYNC: a crash of the machine can corrupt the file"
	of := ""
	if writeMap {
		of = "lmdb"
	}
	return &Engine{
		Name: name, Version: lmdb.Version, Settings: settings, LazyMeans: lazy,
		DataOf: of, OnDemand: writeMap, BulkBytes: bulkBytes,
		Missing: func() string {
			if err := lmdb.Available(); err != nil {
				return err.Error()
			}
			return ""
		},
		Open: func(c Config) (Store, error) {
			env, err := lmdb.Open(c.Dir, lmdb.Config{
				MapBytes: c.MapBytes, NoSync: c.Durability == Lazy, WriteMap: writeMap, NoReadAhead: c.Cold,
			})
			if err != nil {
				return nil, err
			}
			return &lmdbStore{env: env, append: c.Append}, nil
		},
	}
}

type lmdbStore struct {
	env    *lmdb.Env
	append bool
	// writer makes waiting writers wait in Go, instead of each blocking a thread in LMDB's own lock.
	writer sync.Mutex
}

func (s *lmdbStore) Sync() error             { return s.env.Sync() }
func (s *lmdbStore) Close() error            { s.env.Close(); return nil }
func (s *lmdbStore) Writer() (Writer, error) { return &lmdbWriter{store: s}, nil }

func (s *lmdbStore) Reader() (Reader, error) {
	tx, err := s.env.NewReadTx()
	if err != nil {
		return nil, err
	}
	return &lmdbReader{tx: tx}, nil
}

type lmdbReader struct{ tx *lmdb.ReadTx }

func (r *lmdbReader) Once(key []byte, check *data.Check) error {
	if err := r.tx.Begin(); err != nil {
		return err
	}
	err := r.Get(key, check)
	r.tx.End()
	return err
}

func (r *lmdbReader) Begin() error { return r.tx.Begin() }

func (r *lmdbReader) Get(key []byte, check *data.Check) error {
	value, err := r.tx.Get(key)
	if err == nil {
		check.See(value)
	}
	return err
}

func (r *lmdbReader) Scan(from []byte, limit int, reverse bool, sum *data.Sum) error {
	move := r.tx.Next
	k, v, err := r.start(from, reverse)
	if reverse {
		move = r.tx.Prev
	}
	for n := 0; k != nil && err == nil; k, v, err = move() {
		sum.Add(k, v)
		if n++; n == limit {
			break
		}
	}
	return err
}

func (r *lmdbReader) start(from []byte, reverse bool) (k, v []byte, err error) {
	switch {
	case from == nil && !reverse:
		return r.tx.First()
	case from == nil:
		return r.tx.Last()
	}
	k, v, err = r.tx.Seek(from)
	if !reverse || err != nil {
		return k, v, err
	}
	if k == nil {
		return r.tx.Last()
	}
	if string(k) != string(from) {
		return r.tx.Prev()
	}
	return k, v, nil
}

func (r *lmdbReader) Visit(from []byte, visit func(key, value []byte) bool) error {
	k, v, err := r.start(from, false)
	for k != nil && err == nil && visit(k, v) {
		k, v, err = r.tx.Next()
	}
	return err
}

func (r *lmdbReader) End() error   { r.tx.End(); return nil }
func (r *lmdbReader) Close() error { r.tx.Close(); return nil }

type lmdbWriter struct {
	store *lmdbStore
	tx    lmdb.WriteTx
}

func (w *lmdbWriter) Once(key, value []byte) error { return onceByTx(w, key, value) }

func (w *lmdbWriter) Begin() (err error) {
	w.store.writer.Lock()
	if w.tx, err = w.store.env.BeginWrite(); err != nil {
		w.store.writer.Unlock()
	}
	return err
}

func (w *lmdbWriter) Put(key, value []byte) error { return w.tx.Put(key, value, w.store.append) }
func (w *lmdbWriter) Delete(key []byte) error     { return w.tx.Delete(key) }

func (w *lmdbWriter) Commit() error {
	defer w.store.writer.Unlock()
	return w.tx.Commit()
}

func (w *lmdbWriter) Rollback() error {
	defer w.store.writer.Unlock()
	w.tx.Abort()
	return nil
}

func (w *lmdbWriter) Close() error { return nil }

// onceByTx is Once for engines whose single put is a transaction like any other.
func onceByTx(w Writer, key, value []byte) error {
	if err := w.Begin(); err != nil {
		return err
	}
	if err := w.Put(key, value); err != nil {
		return errorAfterRollback(w, err)
	}
	return w.Commit()
}

func errorAfterRollback(w Writer, err error) error {
	if undo := w.Rollback(); undo != nil {
		return undo
	}
	return err
}
