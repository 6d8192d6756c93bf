package alder_test

// What the tests of the public API share: opening a store that is checked when the test ends, the forms a
// store comes in, small shorthands. Nothing here knows what a test is about.

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// testDB is an open store that belongs to one test. When the test ends, the store is checked, closed,
// opened again and checked again, and must hold the same content both times.
type testDB struct {
	*alder.DB
	t       testing.TB
	file    string // "" for a store in memory
	options alder.Options
	damaged bool // the test broke the file on purpose; see leaveUnchecked
}

// option changes the options a store is opened with.
type option = func(*alder.Options)

func withPageSize(n int) option { return func(o *alder.Options) { o.PageSize = n } }
func withNoSync() option        { return func(o *alder.Options) { o.NoSync = true } }
func withMaxSize(n int) option  { return func(o *alder.Options) { o.MaxSize = n } }

// withDirtyLimit makes a transaction write its pages out before the commit, and come back to them, as soon as
// there are more than n bytes of them: with a few pages, all the time.
func withDirtyLimit(n int) option { return func(o *alder.Options) { o.DirtyLimit = n } }

// tempDir makes a directory that is removed when the test ends. It is not t.TempDir, whose removal fails
// the test where the system cannot remove a directory yet (under wine it never can).
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "alder-test-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("left behind: %v", err)
		}
	})
	return dir
}

// openTemp opens a new store in a temporary file.
func openTemp(t testing.TB, opts ...option) *testDB {
	t.Helper()
	return openAt(t, filepath.Join(tempDir(t), "store.db"), opts...)
}

// openAt opens the store in the file, which may exist.
func openAt(t testing.TB, file string, opts ...option) *testDB {
	t.Helper()
	db := &testDB{t: t, file: file}
	for _, opt := range opts {
		opt(&db.options)
	}
	db.open()
	t.Cleanup(db.finish)
	return db
}

// openMemory opens a store that has no file.
func openMemory(t testing.TB, opts ...option) *testDB {
	t.Helper()
	db := &testDB{t: t}
	for _, opt := range opts {
		opt(&db.options)
	}
	db.open()
	t.Cleanup(db.finish)
	return db
}

func (db *testDB) open() {
	db.t.Helper()
	var err error
	options := db.options
	if db.file == "" {
		db.DB, err = alder.OpenMemory(&options)
	} else {
		db.DB, err = alder.Open(db.file, 0o600, &options)
	}
	require.NoError(db.t, err)
}

// mustClose closes the store in the middle of a test; reopen opens it again.
func (db *testDB) mustClose() {
	db.t.Helper()
	require.NoError(db.t, db.DB.Close())
	db.DB = nil
}

// reopen closes the store, unless that has been done, and opens it again. A store in memory would lose its
// content, so it stays as it is.
func (db *testDB) reopen(opts ...option) {
	db.t.Helper()
	for _, opt := range opts {
		opt(&db.options)
	}
	if db.file == "" {
		return
	}
	if db.DB != nil {
		db.mustClose()
	}
	db.open()
}

// leaveUnchecked says that the test damages the store, so that the checks at its end would fail.
func (db *testDB) leaveUnchecked() { db.damaged = true }

// finish runs at the end of the test.
func (db *testDB) finish() {
	if db.t.Failed() || db.damaged {
		// Close waits for open transactions, and a test that failed may have left one.
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			if db.DB != nil {
				_ = db.DB.Close()
			}
		}()
		select {
		case <-closed:
		case <-time.After(5 * time.Second):
			db.t.Log("the store did not close: a transaction of the failed test is still open")
		}
		return
	}
	if db.DB == nil {
		if _, err := os.Stat(db.file); err != nil {
			return // the test closed and removed it
		}
		db.open()
	}
	db.check()
	before := fingerprint(db.t, db.DB)
	readOnly := db.IsReadOnly()
	db.mustClose()
	if db.file == "" {
		return
	}
	db.options.ReadOnly = readOnly
	db.open()
	db.check()
	require.Equal(db.t, before, fingerprint(db.t, db.DB), "closing and opening changed the content")
	db.mustClose()
}

// check fails the test if the store is not sound.
func (db *testDB) check() {
	db.t.Helper()
	checkDB(db.t, db.DB)
}

func checkDB(t testing.TB, db *alder.DB) {
	t.Helper()
	require.NoError(t, db.View(func(tx *alder.Tx) error { return checkTx(tx) }), "check of the store")
}

// checkTx returns the first few errors of a check of the transaction's snapshot.
func checkTx(tx *alder.Tx) error {
	var errs []error
	for err := range tx.Check() {
		if len(errs) < 10 {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// begin starts a transaction that is rolled back at the end of the test if the test has not ended it.
func (db *testDB) begin(writable bool) *alder.Tx {
	db.t.Helper()
	tx, err := db.Begin(writable)
	require.NoError(db.t, err)
	db.t.Cleanup(func() {
		if err := tx.Rollback(); err != nil && !errors.Is(err, alder.ErrTxClosed) {
			db.t.Errorf("rollback: %v", err)
		}
	})
	return tx
}

// update runs fn in a write transaction that must succeed.
func (db *testDB) update(fn func(tx *alder.Tx)) {
	db.t.Helper()
	require.NoError(db.t, db.Update(func(tx *alder.Tx) error {
		fn(tx)
		return nil
	}))
}

// view runs fn in a read transaction that must succeed.
func (db *testDB) view(fn func(tx *alder.Tx)) {
	db.t.Helper()
	require.NoError(db.t, db.View(func(tx *alder.Tx) error {
		fn(tx)
		return nil
	}))
}

// put stores pairs (key, value, key, value …) in a top-level bucket, which is created if need be.
func (db *testDB) put(bucket string, pairs ...string) {
	db.t.Helper()
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		require.NoError(db.t, err)
		for i := 0; i < len(pairs); i += 2 {
			require.NoError(db.t, b.Put([]byte(pairs[i]), []byte(pairs[i+1])))
		}
	})
}

// get returns the value of a key in a top-level bucket, "" if it is absent.
func (db *testDB) get(bucket, key string) (value string) {
	db.t.Helper()
	db.view(func(tx *alder.Tx) {
		b := tx.Bucket([]byte(bucket))
		require.NotNil(db.t, b, "bucket %q", bucket)
		value = string(b.Get([]byte(key)))
	})
	return value
}

// eachForm runs the same test over the forms a store comes in: in a file and in memory, with small and
// large pages, and with transactions that do not fit into the memory they may use.
func eachForm(t *testing.T, test func(t *testing.T, db *testDB)) {
	t.Helper()
	t.Run("file", func(t *testing.T) { test(t, openTemp(t)) })
	t.Run("memory", func(t *testing.T) { test(t, openMemory(t)) })
	t.Run("memory/spilling", func(t *testing.T) { test(t, openMemory(t, withDirtyLimit(8192))) })
	if testing.Short() {
		return
	}
	t.Run("file/page=16384", func(t *testing.T) { test(t, openTemp(t, withPageSize(16384), withDirtyLimit(100_000))) })
	t.Run("memory/page=65536", func(t *testing.T) { test(t, openMemory(t, withPageSize(65536))) })
}

// fingerprint is a hash of everything a program can read from the store.
func fingerprint(t testing.TB, db *alder.DB) uint64 {
	t.Helper()
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	err := db.View(func(tx *alder.Tx) error {
		return tx.ForEach(func(name []byte, b *alder.Bucket) error {
			fmt.Fprintf(&h, "%d:%s", len(name), name)
			return hashBucket(&h, b)
		})
	})
	require.NoError(t, err)
	return h.Sum64()
}

var fingerprintSeed = maphash.MakeSeed()

func hashBucket(h *maphash.Hash, b *alder.Bucket) error {
	fmt.Fprintf(h, "{%d ", b.Sequence())
	err := b.ForEach(func(k, v []byte) error {
		fmt.Fprintf(h, "%d:%s", len(k), k)
		if v == nil {
			return hashBucket(h, b.Bucket(k))
		}
		fmt.Fprintf(h, "=%d:%s", len(v), v)
		return nil
	})
	fmt.Fprint(h, "}")
	return err
}

// key returns the i-th of many keys that sort by i.
func key(i int) []byte { return fmt.Appendf(nil, "key-%08d", i) }

// filled returns n bytes that tell position and seed apart, so that a shifted or swapped value shows.
func filled(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8)*31 ^ byte(i)*7 ^ seed
	}
	return b
}

// keysOf collects the keys of a bucket, in its order.
func keysOf(b *alder.Bucket) []string {
	var keys []string
	c := b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		keys = append(keys, string(k))
	}
	return keys
}

// fileSize is the length of the store's file.
func (db *testDB) fileSize() int64 {
	db.t.Helper()
	info, err := os.Stat(db.file)
	require.NoError(db.t, err)
	return info.Size()
}

// requireBytes compares long byte slices without printing them whole.
func requireBytes(t testing.TB, want, got []byte, what string, args ...any) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	require.FailNow(t, fmt.Sprintf(what, args...),
		"want %d bytes, got %d (nil: %v); first difference at %d", len(want), len(got), got == nil, at)
}

// within fails the test if fn does not return in time: it would otherwise hang the whole run.
func within(t testing.TB, limit time.Duration, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		require.FailNow(t, fmt.Sprintf("%s did not return within %v", what, limit))
	}
}
