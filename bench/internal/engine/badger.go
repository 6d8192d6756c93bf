package engine

import (
	"context"
	"errors"

	"github.com/dgraph-io/badger/v4"

	"github.com/alderdb/alder/bench/internal/data"
)

// background is for engines whose long calls want a context.
var background = context.Background()

func init() {
	Register(&Engine{
		Name:    "badger",
		Version: moduleVersion("github.com/dgraph-io/badger/v4"),
		Settings: "DefaultOptions; SyncWrites where the workload is durable; a block cache that holds the data; " +
			"metrics off",
		LazyMeans: "SyncWrites off: a crash of the machine loses the latest writes",
		Open:      openBadger,
	})
}

type badgerStore struct{ db *badger.DB }

func openBadger(c Config) (Store, error) {
	options := badger.DefaultOptions(c.Dir).
		WithSyncWrites(c.Durability == Full).
		WithBlockCacheSize(c.CacheBytes).
		WithMetricsEnabled(false).
		WithLogger(quiet{})
	db, err := badger.Open(options)
	if err != nil {
		return nil, err
	}
	return &badgerStore{db: db}, nil
}

func (s *badgerStore) Sync() error             { return s.db.Sync() }
func (s *badgerStore) Close() error            { return s.db.Close() }
func (s *badgerStore) Writer() (Writer, error) { return &badgerWriter{db: s.db}, nil }

// Settle compacts what a load left in the upper levels, as Badger's documentation advises after a bulk load.
func (s *badgerStore) Settle() error { return s.db.Flatten(2) }

func (s *badgerStore) Shrink() error {
	if err := s.db.Flatten(2); err != nil {
		return err
	}
	for {
		if err := s.db.RunValueLogGC(0.5); err != nil {
			if errors.Is(err, badger.ErrNoRewrite) {
				return nil
			}
			return err
		}
	}
}

func (s *badgerStore) Reader() (Reader, error) {
	r := &badgerReader{db: s.db}
	r.see = func(value []byte) error {
		r.check.See(value)
		return nil
	}
	r.once = func(tx *badger.Txn) error { return r.get(tx, r.key) }
	return r, nil
}

type badgerReader struct {
	db    *badger.DB
	tx    *badger.Txn
	key   []byte
	check *data.Check
	see   func([]byte) error
	once  func(*badger.Txn) error
}

func (r *badgerReader) Once(key []byte, check *data.Check) error {
	r.key, r.check = key, check
	return r.db.View(r.once)
}

func (r *badgerReader) Begin() error {
	r.tx = r.db.NewTransaction(false)
	return nil
}

func (r *badgerReader) Get(key []byte, check *data.Check) error {
	r.check = check
	return r.get(r.tx, key)
}

func (r *badgerReader) get(tx *badger.Txn, key []byte) error {
	item, err := tx.Get(key)
	if err != nil {
		if errors.Is(err, badger.ErrKeyNotFound) {
			r.check.See(nil)
			return nil
		}
		return err
	}
	return item.Value(r.see)
}

func (r *badgerReader) Scan(from []byte, limit int, reverse bool, sum *data.Sum) error {
	n := 0
	return r.iterate(from, limit, reverse, func(key, value []byte) bool {
		sum.Add(key, value)
		n++
		return n != limit
	})
}

func (r *badgerReader) Visit(from []byte, visit func(key, value []byte) bool) error {
	return r.iterate(from, 0, false, visit)
}

func (r *badgerReader) iterate(from []byte, limit int, reverse bool, visit func(key, value []byte) bool) error {
	options := badger.DefaultIteratorOptions
	options.Reverse = reverse
	if limit > 0 {
		options.PrefetchSize = min(limit, options.PrefetchSize)
	}
	it := r.tx.NewIterator(options)
	defer it.Close()
	more := true
	var key []byte
	see := func(value []byte) error {
		more = visit(key, value)
		return nil
	}
	if from == nil {
		it.Rewind()
	} else {
		it.Seek(from)
	}
	for ; it.Valid() && more; it.Next() {
		item := it.Item()
		key = item.Key()
		if err := item.Value(see); err != nil {
			return err
		}
	}
	return nil
}

func (r *badgerReader) End() error   { r.tx.Discard(); return nil }
func (r *badgerReader) Close() error { return nil }

// badgerWriter copies keys and values: Badger keeps the caller's slices until the transaction ends.
type badgerWriter struct {
	db    *badger.DB
	tx    *badger.Txn
	arena arena
}

func (w *badgerWriter) Once(key, value []byte) error {
	return w.db.Update(func(tx *badger.Txn) error { return tooBig(tx.Set(key, value)) })
}

func (w *badgerWriter) Begin() error {
	w.arena.reset()
	w.tx = w.db.NewTransaction(true)
	return nil
}

func (w *badgerWriter) Put(key, value []byte) error {
	return tooBig(w.tx.Set(w.arena.keep(key), w.arena.keep(value)))
}

func (w *badgerWriter) Delete(key []byte) error { return tooBig(w.tx.Delete(w.arena.keep(key))) }

// tooBig says that a limit of Badger's was met: a transaction has to fit into a part of the memtable.
func tooBig(err error) error {
	if errors.Is(err, badger.ErrTxnTooBig) {
		return NA("a transaction of Badger has to fit into its memtable")
	}
	return err
}

func (w *badgerWriter) Commit() error   { return w.tx.Commit() }
func (w *badgerWriter) Rollback() error { w.tx.Discard(); return nil }
func (w *badgerWriter) Close() error    { return nil }
