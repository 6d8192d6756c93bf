package engine

import (
	"errors"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/tidwall/buntdb"

	"github.com/alderdb/alder/bench/internal/data"
)

func init() {
	Register(&Engine{
		Name:       "buntdb",
		Version:    moduleVersion("github.com/tidwall/buntdb"),
		Settings:   "defaults; SyncPolicy Always where the workload is durable, else EverySecond; all data in memory",
		LazyMeans:  "EverySecond: a crash of the machine loses the last second",
		MaxRecords: 2_000_000,
		MaxReason:  "keeps all records in memory and reads its whole log at open",
		Open:       openBunt,
	})
}

type buntStore struct{ db *buntdb.DB }

func openBunt(c Config) (Store, error) {
	db, err := buntdb.Open(filepath.Join(c.Dir, "bunt.db"))
	if err != nil {
		return nil, err
	}
	var config buntdb.Config
	if err := db.ReadConfig(&config); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	config.SyncPolicy = buntdb.EverySecond
	if c.Durability == Full {
		config.SyncPolicy = buntdb.Always
	}
	if err := db.SetConfig(config); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &buntStore{db: db}, nil
}

// Sync has no call of its own in buntdb: closing is what flushes, and within a second everything is.
func (s *buntStore) Sync() error             { return nil }
func (s *buntStore) Close() error            { return s.db.Close() }
func (s *buntStore) Writer() (Writer, error) { return &buntWriter{db: s.db}, nil }

// Shrink waits for the shrinking that buntdb begins by itself, and then shrinks what has come since.
func (s *buntStore) Shrink() error {
	for {
		err := s.db.Shrink()
		if !errors.Is(err, buntdb.ErrShrinkInProcess) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *buntStore) Reader() (Reader, error) {
	r := &buntReader{db: s.db}
	r.once = func(tx *buntdb.Tx) error { return buntGet(tx, r.key, r.check) }
	return r, nil
}

type buntReader struct {
	db    *buntdb.DB
	tx    *buntdb.Tx
	key   []byte
	check *data.Check
	once  func(*buntdb.Tx) error
}

func (r *buntReader) Once(key []byte, check *data.Check) error {
	r.key, r.check = key, check
	return r.db.View(r.once)
}

func (r *buntReader) Begin() (err error) {
	r.tx, err = r.db.Begin(false)
	return err
}

func (r *buntReader) Get(key []byte, check *data.Check) error { return buntGet(r.tx, key, check) }

func buntGet(tx *buntdb.Tx, key []byte, check *data.Check) error {
	value, err := tx.Get(string(key))
	if err != nil {
		if errors.Is(err, buntdb.ErrNotFound) {
			check.See(nil)
			return nil
		}
		return err
	}
	check.See(bytesOf(value))
	return nil
}

// bytesOf views a string as bytes, for functions that only read them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (r *buntReader) Scan(from []byte, limit int, reverse bool, sum *data.Sum) error {
	n := 0
	visit := func(key, value string) bool {
		sum.Add(bytesOf(key), bytesOf(value))
		n++
		return n != limit
	}
	switch {
	case reverse && from == nil:
		return r.tx.Descend("", visit)
	case reverse:
		return r.tx.DescendLessOrEqual("", string(from), visit)
	case from == nil:
		return r.tx.Ascend("", visit)
	}
	return r.tx.AscendGreaterOrEqual("", string(from), visit)
}

func (r *buntReader) Visit(from []byte, visit func(key, value []byte) bool) error {
	return r.tx.AscendGreaterOrEqual("", string(from), func(key, value string) bool {
		return visit(bytesOf(key), bytesOf(value))
	})
}

func (r *buntReader) End() error   { return r.tx.Rollback() }
func (r *buntReader) Close() error { return nil }

type buntWriter struct {
	db *buntdb.DB
	tx *buntdb.Tx
}

func (w *buntWriter) Once(key, value []byte) error {
	return w.db.Update(func(tx *buntdb.Tx) error {
		_, _, err := tx.Set(string(key), string(value), nil)
		return err
	})
}

func (w *buntWriter) Begin() (err error) {
	w.tx, err = w.db.Begin(true)
	return err
}

func (w *buntWriter) Put(key, value []byte) error {
	_, _, err := w.tx.Set(string(key), string(value), nil)
	return err
}

func (w *buntWriter) Delete(key []byte) error {
	_, err := w.tx.Delete(string(key))
	if errors.Is(err, buntdb.ErrNotFound) {
		return nil
	}
	return err
}

func (w *buntWriter) Commit() error   { return w.tx.Commit() }
func (w *buntWriter) Rollback() error { return w.tx.Rollback() }
func (w *buntWriter) Close() error    { return nil }
