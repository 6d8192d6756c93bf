package engine

import (
	"errors"
	"math"
	"path/filepath"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/alderdb/alder/bench/internal/data"
)

func init() {
	const module = "go.etcd.io/bbolt"
	for _, e := range []struct {
		name, settings string
		freelist       bbolt.FreelistType
		batch          bool
	}{
		{"bbolt", "default options (array freelist)", bbolt.FreelistArrayType, false},
		{"bbolt-hashmap", "FreelistType hashmap", bbolt.FreelistMapType, false},
		{"bbolt-batch", "default options, single puts through DB.Batch", bbolt.FreelistArrayType, true},
	} {
		of := ""
		if e.name != "bbolt" {
			of = "bbolt"
		}
		Register(&Engine{
			Name:      e.name,
			Version:   moduleVersion(module),
			Settings:  e.settings,
			LazyMeans: "NoSync: a crash of the machine can corrupt the file",
			DataOf:    of,
			OnDemand:  of != "",
			PageSizes: true,
			BulkBytes: bulkBytes,
			Open: func(c Config) (Store, error) {
				return openBolt(c, e.freelist, e.batch)
			},
		})
	}
}

var boltBucket = []byte("records")

type boltStore struct {
	db     *bbolt.DB
	batch  bool
	append bool
}

func openBolt(c Config, freelist bbolt.FreelistType, batch bool) (Store, error) {
	options := &bbolt.Options{FreelistType: freelist, NoSync: c.Durability == Lazy, PageSize: c.PageSize}
	if c.LongReaders {
		// bbolt's advice against a deadlock: growing beyond the map waits for all readers.
		options.InitialMmapSize = int(min(int64(16<<30), math.MaxInt/2))
	}
	db, err := bbolt.Open(filepath.Join(c.Dir, "bolt.db"), 0o600, options)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(boltBucket) == nil {
			return bolterrors.ErrBucketNotFound
		}
		return nil
	})
	if errors.Is(err, bolterrors.ErrBucketNotFound) {
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket(boltBucket)
			return err
		})
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return &boltStore{db: db, batch: batch, append: c.Append}, nil
}

func (s *boltStore) Sync() error             { return s.db.Sync() }
func (s *boltStore) Close() error            { return s.db.Close() }
func (s *boltStore) Reader() (Reader, error) { return newBoltReader(s), nil }
func (s *boltStore) Writer() (Writer, error) { return &boltWriter{store: s}, nil }

// boltReader's once is made once, so that a look-up pays for no closure.
type boltReader struct {
	store  *boltStore
	tx     *bbolt.Tx
	bucket *bbolt.Bucket
	cursor *bbolt.Cursor
	once   func(*bbolt.Tx) error
	key    []byte
	check  *data.Check
}

func newBoltReader(s *boltStore) *boltReader {
	r := &boltReader{store: s}
	r.once = func(tx *bbolt.Tx) error {
		r.check.See(tx.Bucket(boltBucket).Get(r.key))
		return nil
	}
	return r
}

func (r *boltReader) Once(key []byte, check *data.Check) error {
	r.key, r.check = key, check
	return r.store.db.View(r.once)
}

// Begin takes no more than the snapshot; the bucket is opened by the first read.
func (r *boltReader) Begin() (err error) {
	r.tx, err = r.store.db.Begin(false)
	return err
}

func (r *boltReader) open() *bbolt.Bucket {
	if r.bucket == nil {
		r.bucket = r.tx.Bucket(boltBucket)
	}
	return r.bucket
}

func (r *boltReader) openCursor() *bbolt.Cursor {
	if r.cursor == nil {
		r.cursor = r.open().Cursor()
	}
	return r.cursor
}

func (r *boltReader) Get(key []byte, check *data.Check) error {
	check.See(r.open().Get(key))
	return nil
}

func (r *boltReader) Scan(from []byte, limit int, reverse bool, sum *data.Sum) error {
	c := r.openCursor()
	n := 0
	if reverse {
		for k, v := boltLast(c, from); k != nil; k, v = c.Prev() {
			sum.Add(k, v)
			if n++; n == limit {
				break
			}
		}
		return nil
	}
	for k, v := boltFirst(c, from); k != nil; k, v = c.Next() {
		sum.Add(k, v)
		if n++; n == limit {
			break
		}
	}
	return nil
}

func (r *boltReader) Visit(from []byte, visit func(key, value []byte) bool) error {
	c := r.openCursor()
	for k, v := boltFirst(c, from); k != nil && visit(k, v); k, v = c.Next() {
	}
	return nil
}

func boltFirst(c *bbolt.Cursor, from []byte) (k, v []byte) {
	if from == nil {
		return c.First()
	}
	return c.Seek(from)
}

func boltLast(c *bbolt.Cursor, from []byte) (k, v []byte) {
	if from == nil {
		return c.Last()
	}
	k, v = c.Seek(from)
	if k == nil {
		return c.Last()
	}
	if string(k) != string(from) {
		return c.Prev()
	}
	return k, v
}

func (r *boltReader) End() error {
	r.bucket, r.cursor = nil, nil
	return r.tx.Rollback()
}

func (r *boltReader) Close() error { return nil }

type boltWriter struct {
	store  *boltStore
	tx     *bbolt.Tx
	bucket *bbolt.Bucket
	arena  arena
}

func (w *boltWriter) Once(key, value []byte) error {
	put := func(tx *bbolt.Tx) error { return tx.Bucket(boltBucket).Put(key, value) }
	if w.store.batch {
		return w.store.db.Batch(put)
	}
	return w.store.db.Update(put)
}

func (w *boltWriter) Begin() (err error) {
	if w.tx, err = w.store.db.Begin(true); err != nil {
		return err
	}
	w.bucket = w.tx.Bucket(boltBucket)
	if w.store.append {
		w.bucket.FillPercent = 1
	}
	w.arena.reset()
	return nil
}

// Put copies the value: bbolt keeps the caller's slice until the commit.
func (w *boltWriter) Put(key, value []byte) error { return w.bucket.Put(key, w.arena.keep(value)) }
func (w *boltWriter) Delete(key []byte) error     { return w.bucket.Delete(key) }
func (w *boltWriter) Commit() error               { return w.tx.Commit() }
func (w *boltWriter) Rollback() error             { return w.tx.Rollback() }
func (w *boltWriter) Close() error                { return nil }
