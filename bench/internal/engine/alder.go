package engine

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/alderdb/alder"

	"github.com/alderdb/alder/bench/internal/data"
)

func init() {
	Register(&Engine{
		Name:      "alder",
		Version:   alderVersion,
		Settings:  "default options; NoAutoShrink where free pages are what is measured",
		LazyMeans: "NoSync: a crash of the machine loses the latest transactions",
		Open:      openAlder,
		PageSizes: true,
		BulkBytes: bulkBytes,
	})
}

// alderVersion is the commit of the checkout that this program was built in.
func alderVersion() string {
	output, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "work tree"
	}
	return strings.TrimSpace(string(output))
}

var alderBucket = []byte("records")

type alderStore struct {
	db     *alder.DB
	append bool
}

func openAlder(c Config) (Store, error) {
	db, err := alder.Open(filepath.Join(c.Dir, "alder.db"), 0o600, &alder.Options{
		NoSync: c.Durability == Lazy, PageSize: c.PageSize, NoAutoShrink: c.KeepFree,
	})
	if err != nil {
		return nil, err
	}
	missing := false
	err = db.View(func(tx *alder.Tx) error {
		missing = tx.Bucket(alderBucket) == nil
		return nil
	})
	if err == nil && missing {
		err = db.Update(func(tx *alder.Tx) error {
			_, err := tx.CreateBucket(alderBucket)
			return err
		})
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return &alderStore{db: db, append: c.Append}, nil
}

func (s *alderStore) Sync() error  { return s.db.Sync() }
func (s *alderStore) Close() error { return s.db.Close() }
func (s *alderStore) Shrink() error {
	_, err := s.db.Shrink(context.Background(), 0, nil)
	return err
}
func (s *alderStore) Reader() (Reader, error) { return newAlderReader(s), nil }
func (s *alderStore) Writer() (Writer, error) { return &alderWriter{store: s}, nil }

// alderReader's once is made once, so that a look-up pays for no closure.
type alderReader struct {
	store  *alderStore
	tx     *alder.Tx
	bucket *alder.Bucket
	cursor *alder.Cursor
	once   func(*alder.Tx) error
	key    []byte
	check  *data.Check
	values [][]byte
}

func newAlderReader(s *alderStore) *alderReader {
	r := &alderReader{store: s}
	r.once = func(tx *alder.Tx) error {
		r.check.See(tx.Bucket(alderBucket).Get(r.key))
		return nil
	}
	return r
}

func (r *alderReader) Once(key []byte, check *data.Check) error {
	r.key, r.check = key, check
	return r.store.db.View(r.once)
}

// Begin takes no more than the snapshot; the bucket is opened by the first read.
func (r *alderReader) Begin() (err error) {
	r.tx, err = r.store.db.Begin(false)
	return err
}

func (r *alderReader) open() *alder.Bucket {
	if r.bucket == nil {
		r.bucket = r.tx.Bucket(alderBucket)
	}
	return r.bucket
}

func (r *alderReader) openCursor() *alder.Cursor {
	if r.cursor == nil {
		r.cursor = r.open().Cursor()
	}
	return r.cursor
}

func (r *alderReader) Get(key []byte, check *data.Check) error {
	check.See(r.open().Get(key))
	return nil
}

func (r *alderReader) GetMulti(keys [][]byte, checks []data.Check) error {
	r.values = r.open().GetMulti(keys, r.values)
	for i := range checks {
		checks[i].See(r.values[i])
	}
	return nil
}

func (r *alderReader) Count(from, to []byte) (uint64, error) { return r.open().Count(from, to), nil }

func (r *alderReader) At(i uint64) ([]byte, error) {
	key, _ := r.open().At(i)
	return key, nil
}

func (r *alderReader) Scan(from []byte, limit int, reverse bool, sum *data.Sum) error {
	c := r.openCursor()
	n := 0
	if reverse {
		for k, v := alderLast(c, from); k != nil; k, v = c.Prev() {
			sum.Add(k, v)
			if n++; n == limit {
				break
			}
		}
		return r.tx.Err()
	}
	for k, v := alderFirst(c, from); k != nil; k, v = c.Next() {
		sum.Add(k, v)
		if n++; n == limit {
			break
		}
	}
	return r.tx.Err()
}

func (r *alderReader) Visit(from []byte, visit func(key, value []byte) bool) error {
	c := r.openCursor()
	for k, v := alderFirst(c, from); k != nil && visit(k, v); k, v = c.Next() {
	}
	return r.tx.Err()
}

func alderFirst(c *alder.Cursor, from []byte) (k, v []byte) {
	if from == nil {
		return c.First()
	}
	return c.Seek(from)
}

func alderLast(c *alder.Cursor, from []byte) (k, v []byte) {
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

func (r *alderReader) End() error {
	r.bucket, r.cursor = nil, nil
	return r.tx.Rollback()
}

func (r *alderReader) Close() error { return nil }

type alderWriter struct {
	store  *alderStore
	tx     *alder.Tx
	bucket *alder.Bucket
}

func (w *alderWriter) Once(key, value []byte) error {
	return w.store.db.Update(func(tx *alder.Tx) error { return tx.Bucket(alderBucket).Put(key, value) })
}

func (w *alderWriter) Begin() (err error) {
	if w.tx, err = w.store.db.Begin(true); err != nil {
		return err
	}
	w.bucket = w.tx.Bucket(alderBucket)
	if w.store.append {
		w.bucket.FillPercent = 1
	}
	return nil
}

func (w *alderWriter) Put(key, value []byte) error { return w.bucket.Put(key, value) }
func (w *alderWriter) Delete(key []byte) error     { return w.bucket.Delete(key) }
func (w *alderWriter) Commit() error               { return w.tx.Commit() }
func (w *alderWriter) Rollback() error             { return w.tx.Rollback() }
func (w *alderWriter) Close() error                { return nil }
