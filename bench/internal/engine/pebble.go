package engine

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/alderdb/alder/bench/internal/data"
)

func init() {
	Register(&Engine{
		Name:    "pebble",
		Version: moduleVersion("github.com/cockroachdb/pebble/v2"),
		Settings: "the options of Pebble's own benchmark tool (64 MB memtables, L0 thresholds 2/1000, " +
			"10-bit bloom filters, 1 to 3 compactions) and a block cache that holds the data",
		LazyMeans: "NoSync: a crash of the machine loses the latest writes",
		Open:      openPebble,
	})
}

// quiet drops what an engine would print beside the results.
type quiet struct{}

func (quiet) Infof(string, ...any)    {}
func (quiet) Errorf(string, ...any)   {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Debugf(string, ...any)   {}
func (quiet) Fatalf(format string, args ...any) {
	panic(NA(format, args...))
}

type pebbleStore struct {
	db    *pebble.DB
	write *pebble.WriteOptions
}

func openPebble(c Config) (Store, error) {
	cache := pebble.NewCache(c.CacheBytes)
	defer cache.Unref()
	options := &pebble.Options{
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatNewest,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                16384,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 3 },
		Logger:                      quiet{},
	}
	for i := range options.Levels {
		level := &options.Levels[i]
		level.BlockSize = 32 << 10
		level.IndexBlockSize = 256 << 10
		level.FilterPolicy = bloom.FilterPolicy(10)
		level.FilterType = pebble.TableFilter
	}
	db, err := pebble.Open(c.Dir, options)
	if err != nil {
		return nil, err
	}
	write := pebble.Sync
	if c.Durability == Lazy {
		write = pebble.NoSync
	}
	return &pebbleStore{db: db, write: write}, nil
}

// Sync makes the log durable by a write of its own that is.
func (s *pebbleStore) Sync() error             { return s.db.LogData(nil, pebble.Sync) }
func (s *pebbleStore) Close() error            { return s.db.Close() }
func (s *pebbleStore) Reader() (Reader, error) { return &pebbleReader{db: s.db}, nil }
func (s *pebbleStore) Writer() (Writer, error) { return &pebbleWriter{store: s}, nil }

// Settle waits for flushes and compactions to end, a minute at most.
func (s *pebbleStore) Settle() error {
	if err := s.db.Flush(); err != nil {
		return err
	}
	idle := 0
	for deadline := time.Now().Add(time.Minute); idle < 5 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		if idle++; s.db.Metrics().Compact.NumInProgress > 0 {
			idle = 0
		}
	}
	return nil
}

// Shrink rewrites the whole key range; what was deleted is dropped on the way.
func (s *pebbleStore) Shrink() error {
	return s.db.Compact(background, []byte{0}, bytes.Repeat([]byte{0xff}, 64), true)
}

type pebbleReader struct {
	db       *pebble.DB
	snapshot *pebble.Snapshot
	iter     *pebble.Iterator
}

func (r *pebbleReader) Once(key []byte, check *data.Check) error {
	value, closer, err := r.db.Get(key)
	return see(check, value, closer, err)
}

func (r *pebbleReader) Begin() error {
	r.snapshot = r.db.NewSnapshot()
	return nil
}

func (r *pebbleReader) Get(key []byte, check *data.Check) error {
	value, closer, err := r.snapshot.Get(key)
	return see(check, value, closer, err)
}

// see takes the results of a Get and lets go of the value.
func see(check *data.Check, value []byte, closer io.Closer, err error) error {
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			check.See(nil)
			return nil
		}
		return err
	}
	check.See(value)
	return closer.Close()
}

func (r *pebbleReader) open() (_ *pebble.Iterator, err error) {
	if r.iter == nil {
		r.iter, err = r.snapshot.NewIter(nil)
	}
	return r.iter, err
}

func (r *pebbleReader) Scan(from []byte, limit int, reverse bool, sum *data.Sum) error {
	iter, err := r.open()
	if err != nil {
		return err
	}
	n := 0
	if reverse {
		for ok := pebbleLast(iter, from); ok; ok = iter.Prev() {
			sum.Add(iter.Key(), iter.Value())
			if n++; n == limit {
				break
			}
		}
		return iter.Error()
	}
	for ok := pebbleFirst(iter, from); ok; ok = iter.Next() {
		sum.Add(iter.Key(), iter.Value())
		if n++; n == limit {
			break
		}
	}
	return iter.Error()
}

func (r *pebbleReader) Visit(from []byte, visit func(key, value []byte) bool) error {
	iter, err := r.open()
	if err != nil {
		return err
	}
	for ok := pebbleFirst(iter, from); ok && visit(iter.Key(), iter.Value()); ok = iter.Next() {
	}
	return iter.Error()
}

func pebbleFirst(iter *pebble.Iterator, from []byte) bool {
	if from == nil {
		return iter.First()
	}
	return iter.SeekGE(from)
}

func pebbleLast(iter *pebble.Iterator, from []byte) bool {
	if from == nil {
		return iter.Last()
	}
	return iter.SeekLT(append(bytes.Clone(from), 0))
}

func (r *pebbleReader) End() error {
	if r.iter != nil {
		if err := r.iter.Close(); err != nil {
			return err
		}
		r.iter = nil
	}
	return r.snapshot.Close()
}

func (r *pebbleReader) Close() error { return nil }

type pebbleWriter struct {
	store *pebbleStore
	batch *pebble.Batch
}

func (w *pebbleWriter) Once(key, value []byte) error {
	return w.store.db.Set(key, value, w.store.write)
}

func (w *pebbleWriter) Begin() error {
	w.batch = w.store.db.NewBatch()
	return nil
}

func (w *pebbleWriter) Put(key, value []byte) error { return w.batch.Set(key, value, nil) }
func (w *pebbleWriter) Delete(key []byte) error     { return w.batch.Delete(key, nil) }

func (w *pebbleWriter) Commit() error {
	if err := w.batch.Commit(w.store.write); err != nil {
		return err
	}
	return w.batch.Close()
}

func (w *pebbleWriter) Rollback() error { return w.batch.Close() }
func (w *pebbleWriter) Close() error    { return nil }
