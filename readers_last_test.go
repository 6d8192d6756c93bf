package alder

import (
	"bytes"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ensures that Close waits for no read transaction that the program has lost, be there one or very many, tracked or not, and that the store is whole then: it hung
// for ever.
func TestDB_Close_LostReaders(t *testing.T) {
	for _, n := range []int{1, 1000} {
		for _, track := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "store")
			db, err := Open(path, 0o600, &Options{TrackReaders: track, MaxReaderAge: time.Millisecond})
			require.NoError(t, err)
			putLarge(t, db, 1)
			for range n {
				forgetReader(t, db)
			}
			putLarge(t, db, 2)
			require.GreaterOrEqual(t, db.Stats().OpenTxN, 1)
			closed := make(chan error, 1)
			go func() { closed <- db.Close() }()
			select {
			case err := <-closed:
				require.NoError(t, err)
			case <-time.After(time.Minute):
				t.Fatalf("Close waits for %d lost readers (tracked: %v)", n, track)
			}
			db, err = Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.View(func(tx *Tx) error {
				require.Equal(t, large(2), tx.Bucket([]byte("b")).Get([]byte("k")))
				for err := range tx.Check() {
					t.Error(err)
				}
				return nil
			}))
			require.NoError(t, db.Close())
		}
	}
}

func large(version byte) []byte { return bytes.Repeat([]byte{version}, 100_000) }

func putLarge(t *testing.T, db *DB, version byte) {
	require.NoError(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), large(version))
	}))
}

// Ensures that a read transaction is not taken for lost while anything leads to it: the transaction itself, a bucket, a cursor; and
// that Close goes on waiting for it, although the garbage collector runs again and again, until it ends.
func TestDB_Close_WaitsForHeldReaders(t *testing.T) {
	holders := map[string]func(tx *Tx) (use func() []byte, end func()){
		"transaction": func(tx *Tx) (func() []byte, func()) {
			return func() []byte { return tx.Bucket([]byte("b")).Get([]byte("k")) }, func() { _ = tx.Rollback() }
		},
		"bucket": func(tx *Tx) (func() []byte, func()) {
			b := tx.Bucket([]byte("b"))
			return func() []byte { return b.Get([]byte("k")) }, func() { _ = b.Tx().Rollback() }
		},
		"cursor": func(tx *Tx) (func() []byte, func()) {
			c := tx.Bucket([]byte("b")).Cursor()
			return func() []byte { _, v := c.First(); return v }, func() { _ = c.Bucket().Tx().Rollback() }
		},
	}
	for name, hold := range holders {
		for _, n := range []int{1, 3 * readersNear} { // of many, most are settled
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				db, err := Open(filepath.Join(t.TempDir(), "store"), 0o600, nil)
				require.NoError(t, err)
				putLarge(t, db, 1)
				var uses []func() []byte
				var ends []func()
				for range n {
					tx, err := db.Begin(false)
					require.NoError(t, err)
					use, end := hold(tx)
					uses, ends = append(uses, use), append(ends, end)
				}
				putLarge(t, db, 2)
				closed := make(chan error, 1)
				go func() { closed <- db.Close() }()
				for until := time.Now().Add(20 * lostAfter); time.Now().Before(until); time.Sleep(lostAfter / 2) {
					runtime.GC()
					for _, use := range uses {
						require.Equal(t, large(1), use())
					}
				}
				for i, end := range ends {
					select {
					case err := <-closed:
						t.Fatalf("Close did not wait for %d readers: %v", n-i, err)
					default:
					}
					end()
				}
				require.NoError(t, <-closed)
				runtime.KeepAlive(uses)
			})
		}
	}
}
