package alder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that a transaction that has ended says so in every call that can return an error.
func TestTx_Closed(t *testing.T) {
	for _, end := range []string{"commit", "rollback"} {
		eachForm(t, func(t *testing.T, db *testDB) {
			db.put("b", "k", "v")
			db.update(func(tx *alder.Tx) {
				_, err := tx.Bucket([]byte("b")).CreateBucket([]byte("sub"))
				require.NoError(t, err)
			})
			tx := db.begin(true)
			b := tx.Bucket([]byte("b"))
			c := b.Cursor()
			c.First()
			if end == "commit" {
				require.NoError(t, tx.Commit())
			} else {
				require.NoError(t, tx.Rollback())
			}

			name := []byte("x")
			_, err := tx.CreateBucket(name)
			require.ErrorIs(t, err, alder.ErrTxClosed)
			_, err = tx.CreateBucketIfNotExists(name)
			require.ErrorIs(t, err, alder.ErrTxClosed)
			require.ErrorIs(t, tx.DeleteBucket([]byte("b")), alder.ErrTxClosed)
			require.ErrorIs(t, tx.MoveBucket([]byte("sub"), b, nil), alder.ErrTxClosed)
			require.ErrorIs(t, tx.ForEach(func([]byte, *alder.Bucket) error { return nil }), alder.ErrTxClosed)
			require.ErrorIs(t, tx.Commit(), alder.ErrTxClosed)
			require.ErrorIs(t, tx.Rollback(), alder.ErrTxClosed)
			_, err = tx.Page(0)
			require.ErrorIs(t, err, alder.ErrTxClosed)

			require.ErrorIs(t, b.Put(name, nil), alder.ErrTxClosed)
			require.ErrorIs(t, b.Delete([]byte("k")), alder.ErrTxClosed)
			_, err = b.CreateBucket(name)
			require.ErrorIs(t, err, alder.ErrTxClosed)
			_, err = b.CreateBucketIfNotExists(name)
			require.ErrorIs(t, err, alder.ErrTxClosed)
			require.ErrorIs(t, b.DeleteBucket([]byte("sub")), alder.ErrTxClosed)
			require.ErrorIs(t, b.MoveBucket([]byte("sub"), b), alder.ErrTxClosed)
			_, err = b.NextSequence()
			require.ErrorIs(t, err, alder.ErrTxClosed)
			require.ErrorIs(t, b.SetSequence(1), alder.ErrTxClosed)
			require.ErrorIs(t, b.ForEach(func(_, _ []byte) error { return nil }), alder.ErrTxClosed)
			require.ErrorIs(t, b.ForEachBucket(func([]byte) error { return nil }), alder.ErrTxClosed)
			require.ErrorIs(t, c.Delete(), alder.ErrTxClosed)
		})
	}
}

// Ensures that reading through a transaction that has ended finds nothing or stops with a clear message, and
// never touches memory that is gone. Unlike bbolt, which dereferences nil in some of them.
func TestTx_Closed_Reads(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for i := range 300 {
			db.put("b", string(key(i)), string(filled(100, 1)))
			if i == 2 {
				db.NoSync = true
			}
		}
		for _, writable := range []bool{false, true} {
			tx := db.begin(writable)
			b := tx.Bucket([]byte("b"))
			c := b.Cursor()
			c.First()
			require.NoError(t, tx.Rollback())
			for name, call := range map[string]func(){
				"Tx.Bucket":     func() { require.Nil(t, tx.Bucket([]byte("b"))) },
				"Tx.Cursor":     func() { tx.Cursor().First() },
				"Tx.Size":       func() { tx.Size() },
				"Tx.ID":         func() { tx.ID() },
				"Tx.Writable":   func() { tx.Writable() },
				"Tx.Stats":      func() { tx.Stats() },
				"Tx.Inspect":    func() { tx.Inspect() },
				"Tx.WriteTo":    func() { _, err := tx.WriteTo(io.Discard); require.Error(t, err) },
				"Tx.Check":      func() { require.Error(t, checkTx(tx)) },
				"Bucket.Get":    func() { require.Nil(t, b.Get(key(1))) },
				"Bucket.Bucket": func() { require.Nil(t, b.Bucket(key(1))) },
				"Bucket.Len":    func() { b.Len() },
				"Bucket.Count":  func() { b.Count(nil, nil) },
				"Bucket.Rank":   func() { b.Rank(key(5)) },
				"Bucket.At":     func() { k, _ := b.At(5); require.Nil(t, k) },
				"Bucket.Stats":  func() { b.Stats() },
				"Bucket.Lookup": func() {
					_, err := b.Lookup(key(1))
					require.ErrorIs(t, err, alder.ErrTxClosed)
				},
				"Bucket.GetMulti": func() {
					require.Equal(t, [][]byte{nil}, b.GetMulti([][]byte{key(1)}, nil))
				},
				"Bucket.DeleteRange": func() {
					_, err := b.DeleteRange(nil, nil)
					require.ErrorIs(t, err, alder.ErrTxClosed)
				},
				"Bucket.All": func() {
					for range b.All() {
						t.Error("a key from a closed transaction")
					}
				},
				"Cursor.First": func() { k, _ := c.First(); require.Nil(t, k) },
				"Cursor.Next":  func() { k, _ := c.Next(); require.Nil(t, k) },
				"Cursor.Seek":  func() { k, _ := c.Seek(key(7)); require.Nil(t, k) },
			} {
				func() {
					defer func() {
						if p := recover(); p != nil {
							_, isFault := p.(runtime.Error)
							require.False(t, isFault, "%s: %v", name, p)
							require.Contains(t, fmt.Sprint(p), "closed", name)
						}
					}()
					call()
				}()
			}
		}
	})
}

// Ensures that a read transaction refuses to write and cannot be committed.
func TestTx_NotWritable(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v")
		db.update(func(tx *alder.Tx) {
			_, err := tx.Bucket([]byte("b")).CreateBucket([]byte("sub"))
			require.NoError(t, err)
		})
		tx := db.begin(false)
		b := tx.Bucket([]byte("b"))
		require.False(t, tx.Writable())
		require.False(t, b.Writable())
		name := []byte("x")
		_, err := tx.CreateBucket(name)
		require.ErrorIs(t, err, alder.ErrTxNotWritable)
		_, err = tx.CreateBucketIfNotExists([]byte("b"))
		require.ErrorIs(t, err, alder.ErrTxNotWritable)
		require.ErrorIs(t, tx.DeleteBucket([]byte("b")), alder.ErrTxNotWritable)
		require.ErrorIs(t, tx.MoveBucket([]byte("sub"), b, nil), alder.ErrTxNotWritable)
		require.ErrorIs(t, b.Put([]byte("k"), name), alder.ErrTxNotWritable)
		require.ErrorIs(t, b.Delete([]byte("k")), alder.ErrTxNotWritable)
		_, err = b.CreateBucket(name)
		require.ErrorIs(t, err, alder.ErrTxNotWritable)
		_, err = b.CreateBucketIfNotExists([]byte("sub"))
		require.ErrorIs(t, err, alder.ErrTxNotWritable)
		require.ErrorIs(t, b.DeleteBucket([]byte("sub")), alder.ErrTxNotWritable)
		_, err = b.NextSequence()
		require.ErrorIs(t, err, alder.ErrTxNotWritable)
		require.ErrorIs(t, b.SetSequence(9), alder.ErrTxNotWritable)
		c := b.Cursor()
		c.First()
		require.ErrorIs(t, c.Delete(), alder.ErrTxNotWritable)
		require.ErrorIs(t, tx.Commit(), alder.ErrTxNotWritable)
		require.NoError(t, tx.Rollback(), "a refused commit does not end the transaction")
	})
}

// Ensures that a transaction sees the state of its beginning for as long as it lives, whatever is
// committed meanwhile, and that its number tells states apart.
func TestTx_Snapshot(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		const versions = 12
		var readers []*alder.Tx
		for v := range versions {
			db.update(func(tx *alder.Tx) {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				require.NoError(t, err)
				for i := range 200 {
					require.NoError(t, b.Put(key(i), filled(50+v, byte(v))))
				}
				require.NoError(t, b.Put([]byte("large"), filled(20_000, byte(v))))
				require.NoError(t, b.Put(fmt.Appendf(nil, "only-%d", v), nil))
				require.NoError(t, b.Delete(fmt.Appendf(nil, "only-%d", v-1)))
			})
			// Not every snapshot has a reader, so that pages between them become free.
			if v%3 != 1 {
				readers = append(readers, db.begin(false))
			} else {
				readers = append(readers, nil)
			}
		}
		for v, tx := range readers {
			if tx == nil {
				continue
			}
			b := tx.Bucket([]byte("b"))
			for i := range 200 {
				requireBytes(t, filled(50+v, byte(v)), b.Get(key(i)), "version %d, key %d", v, i)
			}
			requireBytes(t, filled(20_000, byte(v)), b.Get([]byte("large")), "version %d, large", v)
			require.NotNil(t, b.Get(fmt.Appendf(nil, "only-%d", v)))
			require.Nil(t, b.Get(fmt.Appendf(nil, "only-%d", v-1)))
			require.Nil(t, b.Get(fmt.Appendf(nil, "only-%d", v+1)))
			require.NoError(t, tx.Rollback())
		}
	})
}

// Ensures that write transactions are numbered consecutively, that a rolled back number is used again, and
// that a read transaction has the number of the state that it reads.
func TestTx_ID(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		start := db.lastTxID()
		for i := 1; i <= 3; i++ {
			rolledBack := db.begin(true)
			require.Equal(t, start+i, rolledBack.ID())
			require.NoError(t, rolledBack.Rollback())
			tx := db.begin(true)
			require.Equal(t, start+i, tx.ID())
			require.NoError(t, tx.Commit())
			require.Equal(t, start+i, db.lastTxID())
		}
	})
}

// Ensures that a transaction knows its store and its kind, and its buckets know their transaction.
func TestTx_DB(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, writable := range []bool{true, false} {
			tx := db.begin(writable)
			require.Same(t, db.DB, tx.DB())
			require.Equal(t, writable, tx.Writable())
			if writable {
				b, err := tx.CreateBucket([]byte("b"))
				require.NoError(t, err)
				require.Same(t, tx, b.Tx())
				require.NoError(t, tx.Commit())
				continue
			}
			b := tx.Bucket([]byte("b"))
			require.Same(t, tx, b.Tx())
			require.Equal(t, writable, b.Writable())
			require.Same(t, b, b.Cursor().Bucket())
			require.NoError(t, tx.Rollback())
		}
	})
}

// Ensures that a rollback leaves nothing behind: no key, no bucket, no sequence, and no page.
func TestTx_Rollback(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v")
		before := fingerprint(t, db.DB)
		var size int64
		for round := range 20 {
			tx := db.begin(true)
			b := tx.Bucket([]byte("b"))
			for i := range 300 {
				require.NoError(t, b.Put(key(i), filled(200, 0)))
			}
			require.NoError(t, b.Put([]byte("large"), filled(300_000, 0)))
			require.NoError(t, b.Delete([]byte("k")))
			require.NoError(t, b.SetSequence(77))
			_, err := tx.CreateBucket([]byte("c"))
			require.NoError(t, err)
			require.NoError(t, tx.Rollback())
			require.Equal(t, before, fingerprint(t, db.DB))
			db.check()
			db.put("b", "k", "v")
			db.view(func(tx *alder.Tx) {
				if round == 2 {
					size = tx.Size()
				} else if round > 2 {
					require.LessOrEqual(t, tx.Size(), size, "rollbacks leak pages")
				}
			})
		}
	})
}

// Ensures that the handlers run after the commit, in the order of their registration, when the writer's lock
// is free again, and see the new state.
func TestTx_OnCommit(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		var order []int
		within(t, 10*time.Second, "commit with handlers", func() {
			db.update(func(tx *alder.Tx) {
				_, err := tx.CreateBucket([]byte("b"))
				require.NoError(t, err)
				for i := range 3 {
					tx.OnCommit(func() {
						order = append(order, i)
						if err := db.Update(func(tx *alder.Tx) error {
							return tx.Bucket([]byte("b")).Put(key(i), nil)
						}); err != nil {
							t.Error(err)
						}
					})
				}
				require.Empty(t, order)
			})
		})
		require.Equal(t, []int{0, 1, 2}, order)
	})
}

// Ensures that no handler runs when the transaction does not commit.
func TestTx_OnCommit_NotCommitted(t *testing.T) {
	db := openTemp(t)
	called := func() { t.Error("handler called") }
	refused := errors.New("refused")
	require.ErrorIs(t, db.Update(func(tx *alder.Tx) error { tx.OnCommit(called); return refused }), refused)
	tx := db.begin(true)
	tx.OnCommit(called)
	require.NoError(t, tx.Rollback())
	require.Panics(t, func() {
		_ = db.Update(func(tx *alder.Tx) error { tx.OnCommit(called); panic("omg") })
	})
}

// Ensures that the root's buckets come in order, each with itself, and that an error stops the walk.
func TestTx_ForEach(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for _, name := range []string{"c", "a", "b"} {
			db.put(name, "name", name)
		}
		db.view(func(tx *alder.Tx) {
			var names []string
			require.NoError(t, tx.ForEach(func(name []byte, b *alder.Bucket) error {
				require.Equal(t, string(name), string(b.Get([]byte("name"))))
				names = append(names, string(name))
				return nil
			}))
			require.Equal(t, []string{"a", "b", "c"}, names)

			stop, calls := errors.New("stop"), 0
			require.Equal(t, stop, tx.ForEach(func([]byte, *alder.Bucket) error { calls++; return stop }))
			require.Equal(t, 1, calls)
		})
	})
}

// Ensures that the cursor over the root visits the buckets, with nil as their values.
func TestTx_Cursor(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("widgets", "k", "v")
		db.put("woojits")
		db.view(func(tx *alder.Tx) {
			c := tx.Cursor()
			k, v := c.First()
			require.Equal(t, "widgets", string(k))
			require.Nil(t, v)
			k, v = c.Next()
			require.Equal(t, "woojits", string(k))
			require.Nil(t, v)
			k, v = c.Next()
			require.Nil(t, k)
			require.Nil(t, v)
		})
	})
}

// Ensures that WriteTo writes Size bytes that are a store with the transaction's state, whatever is
// committed since and meanwhile.
func TestTx_WriteTo(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for i := range 20 {
			db.put("b", string(key(i)), string(filled(i*500, byte(i))))
		}
		db.update(func(tx *alder.Tx) { require.NoError(t, tx.Bucket([]byte("b")).SetSequence(42)) })
		tx := db.begin(false)
		want := fingerprint(t, db.DB)
		db.NoSync = true
		for i := range 50 {
			db.put("b", string(key(i%25)), string(filled(i*100, byte(i))))
		}
		var buf bytes.Buffer
		// A writer that commits between two pieces of the copy.
		n, err := tx.WriteTo(writerFunc(func(p []byte) (int, error) {
			db.put("b", "meanwhile", fmt.Sprint(buf.Len()))
			return buf.Write(p)
		}))
		require.NoError(t, err)
		require.Equal(t, tx.Size(), n)
		require.EqualValues(t, buf.Len(), n)
		require.NoError(t, tx.Rollback())

		file := filepath.Join(tempDir(t), "copy.db")
		require.NoError(t, os.WriteFile(file, buf.Bytes(), 0o600))
		backup := openAt(t, file)
		require.Equal(t, want, fingerprint(t, backup.DB))
		backup.check()
		backup.put("b", "written", "in the copy")
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Ensures that a writer's error ends the copy and is returned, wherever it happens.
func TestTx_WriteTo_Error(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", string(filled(200_000, 0)))
	tx := db.begin(false)
	full := errors.New("full")
	for _, limit := range []int64{0, 1, 4096, 5000, 100_000} {
		var written int64
		n, err := tx.WriteTo(writerFunc(func(p []byte) (int, error) {
			if room := limit - written; int64(len(p)) > room {
				written += room
				return int(room), full
			}
			written += int64(len(p))
			return len(p), nil
		}))
		require.ErrorContains(t, err, "full", "limit %d", limit)
		require.Equal(t, limit, n)
	}
	require.NoError(t, tx.Rollback())
}

// Ensures that Copy and CopyFile make stores, the latter with the given mode.
func TestTx_CopyFile(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v", "large", string(filled(100_000, 9)))
		want := fingerprint(t, db.DB)
		file := filepath.Join(tempDir(t), "copy.db")
		var buf bytes.Buffer
		db.view(func(tx *alder.Tx) {
			require.NoError(t, tx.CopyFile(file, 0o640))
			require.NoError(t, tx.Copy(&buf))
		})
		info, err := os.Stat(file)
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			require.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
		}
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		requireBytes(t, data, buf.Bytes(), "Copy against CopyFile")
		require.Equal(t, want, fingerprint(t, openAt(t, file).DB))

		db.view(func(tx *alder.Tx) {
			require.ErrorIs(t, tx.CopyFile(filepath.Join(tempDir(t), "no", "dir.db"), 0o600), fs.ErrNotExist)
		})
	})
}

// Ensures that the pages of a store can be listed, and that there is none past the end.
func TestTx_Page(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			for i := range 2000 {
				require.NoError(t, b.Put(key(i), filled(150, 0)))
			}
			require.NoError(t, b.Put([]byte("large"), filled(200_000, 0)))
		})
		db.view(func(tx *alder.Tx) {
			pages := 0
			kinds := map[string]int{}
			for {
				p, err := tx.Page(pages)
				require.NoError(t, err, "page %d", pages)
				if p == nil {
					break
				}
				require.Equal(t, pages, p.ID)
				kinds[p.Type]++
				pages += 1 + p.OverflowCount
			}
			require.Greater(t, pages*db.Info().PageSize, 2000*150+200_000)
			require.Positive(t, kinds["meta"], "%v", kinds)
			require.Positive(t, kinds["leaf"], "%v", kinds)
			require.Positive(t, kinds["branch"], "%v", kinds)
			p, err := tx.Page(pages + 1000)
			require.NoError(t, err)
			require.Nil(t, p)
		})
	})
}

// Ensures that the structure of the buckets can be shown.
func TestTx_Inspect(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("a", "1", "", "2", "")
		db.update(func(tx *alder.Tx) {
			sub, err := tx.Bucket([]byte("a")).CreateBucket([]byte("sub"))
			require.NoError(t, err)
			require.NoError(t, sub.Put([]byte("x"), []byte("y")))
		})
		db.put("b")
		db.view(func(tx *alder.Tx) {
			require.Equal(t, alder.BucketStructure{
				Name: "root",
				Children: []alder.BucketStructure{
					{Name: "a", KeyN: 2, Children: []alder.BucketStructure{{Name: "sub", KeyN: 1}}},
					{Name: "b"},
				},
			}, tx.Inspect())
		})
	})
}

// Ensures that a transaction counts what it does.
func TestTx_Stats(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		tx := db.begin(true)
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		for i := range 3000 {
			require.NoError(t, b.Put(key(i), filled(100, 0)))
		}
		during := tx.Stats()
		require.NoError(t, tx.Commit())
		total := db.Stats().TxStats
		require.Positive(t, total.GetWrite())
		require.GreaterOrEqual(t, total.GetPageAlloc(), int64(300_000))
		require.Equal(t, total.GetPageAlloc(), total.GetPageCount()*int64(db.Info().PageSize))
		require.GreaterOrEqual(t, total.GetPageCount(), during.GetPageCount())
	})
}

// Ensures that the counters can be read and subtracted.
func TestTxStats_Sub(t *testing.T) {
	a := alder.TxStats{PageCount: 1, PageAlloc: 2, CursorCount: 3, NodeCount: 100, NodeDeref: 101,
		Rebalance: 1000, RebalanceTime: 1001 * time.Second, Split: 10000, Spill: 10001,
		SpillTime: 10001 * time.Second, Write: 100000, WriteTime: 100001 * time.Second}
	b := alder.TxStats{PageCount: 2, PageAlloc: 3, CursorCount: 4, NodeCount: 101, NodeDeref: 102,
		Rebalance: 1100, RebalanceTime: 1101 * time.Second, Split: 11000, Spill: 11001,
		SpillTime: 11001 * time.Second, Write: 110000, WriteTime: 110001 * time.Second}
	require.Equal(t, alder.TxStats{PageCount: 1, PageAlloc: 1, CursorCount: 1, NodeCount: 1, NodeDeref: 1,
		Rebalance: 100, RebalanceTime: 100 * time.Second, Split: 1000, Spill: 1000,
		SpillTime: 1000 * time.Second, Write: 10000, WriteTime: 10000 * time.Second}, b.Sub(&a))
	require.EqualValues(t, 1, a.GetPageCount())
	require.EqualValues(t, 1001*time.Second, a.GetRebalanceTime())
}

// Ensures that the check of a sound store yields nothing in a read transaction, in a write transaction with
// changes, and with the options of bbolt.
func TestTx_Check(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for i := range 50 {
			db.put(string(key(i%5)), string(key(i)), string(filled(i*97, byte(i))))
		}
		db.update(func(tx *alder.Tx) {
			require.NoError(t, checkTx(tx))
		})
		db.view(func(tx *alder.Tx) {
			require.NoError(t, checkTx(tx))
			for range tx.Check(alder.WithKVStringer(alder.HexKVStringer())) {
				t.Error("an error in a sound store")
			}
			// Not each page that looks like part of a tree: a free one holds what was written there, which leads to pages that others are now.
			roots := []uint64{tx.Cursor().Bucket().Root()}
			require.NoError(t, tx.ForEach(func(_ []byte, b *alder.Bucket) error {
				roots = append(roots, b.Root())
				return nil
			}))
			require.Len(t, roots, 6)
			for _, id := range roots {
				p, err := tx.Page(int(id))
				require.NoError(t, err)
				require.Contains(t, []string{"leaf", "branch"}, p.Type)
				for err := range tx.Check(alder.WithPageId(id)) {
					t.Errorf("page %d: %v", id, err)
				}
			}
		})
		require.Equal(t, "6b6579", alder.HexKVStringer().KeyToString([]byte("key")))
		require.Equal(t, "76", alder.HexKVStringer().ValueToString([]byte("v")))
	})
}

// Ensures that a check may run inside a write transaction, over changes that are not committed yet, and that
// it reports its progress up to the total. Beyond bbolt.
func TestTx_Check_Progress(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for i := range 40 {
			db.put(string(key(i%5)), string(key(i)), string(filled(i*500, byte(i))))
		}
		check := func(tx *alder.Tx) {
			var last, end int64
			calls := 0
			for err := range tx.Check(alder.WithProgress(func(done, total int64) {
				require.GreaterOrEqual(t, done, last)
				require.LessOrEqual(t, done, total)
				last, end = done, total
				calls++
			})) {
				t.Error(err)
			}
			require.Positive(t, calls)
			require.Equal(t, end, last)
		}
		db.view(check)
		db.update(func(tx *alder.Tx) {
			b := tx.Bucket(key(1))
			for i := range 500 {
				require.NoError(t, b.Put(key(i+1000), filled(300, 2)))
			}
			require.NoError(t, tx.DeleteBucket(key(2)))
			check(tx)
		})
	})
}

// Ensures that a check ends soon when its context does, with the cause of that and nothing after it, wherever it is: a sound store gives the loop no
// occasion to leave. Beyond bbolt.
//
// kvctl left a check by a panic in the progress function.
func TestTx_Check_Context(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for i := range 40 {
			db.put(string(key(i%5)), string(key(i)), string(filled(i*500, byte(i))))
		}
		stopped := errors.New("stopped")
		check := func(tx *alder.Tx) {
			// after is the number of calls of progress after which the context ends; 0: it has ended before.
			check := func(after int) (calls int, found []error) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if after == 0 {
					cancel(stopped)
				}
				for err := range tx.Check(alder.WithContext(ctx), alder.WithProgress(func(int64, int64) {
					if calls++; calls == after {
						cancel(stopped)
					}
				})) {
					found = append(found, err)
				}
				return calls, found
			}
			all, found := check(-1)
			require.Empty(t, found)
			for after := range all {
				calls, found := check(after)
				require.Equal(t, []error{stopped}, found, "after %d of %d", after, all)
				require.Equal(t, after, calls)
			}
			_, found = check(all)
			require.Empty(t, found, "it was complete")
			for err := range tx.Check(alder.WithContext(context.Background())) {
				t.Error(err)
			}
		}
		db.view(check)
		db.update(check)
	})
}

// Ensures that a transaction without read errors has none, in all its states. Beyond bbolt.
func TestTx_Err(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v")
		tx := db.begin(true)
		require.NoError(t, tx.Err())
		require.Nil(t, tx.Bucket([]byte("none")))
		require.Nil(t, tx.Bucket([]byte("b")).Get([]byte("none")))
		require.NoError(t, tx.Err())
		require.NoError(t, tx.Commit())
	})
}

// Ensures that many buckets and keys written in one transaction commit, in any order, and are found again.
func TestTx_Commit_Large(t *testing.T) {
	n := 50_000
	if testing.Short() {
		n = 5_000
	}
	for name, order := range map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return n - 1 - i },
		"scattered":  func(i int) int { return i * 7919 % n },
	} {
		t.Run(name, func(t *testing.T) {
			db := openMemory(t)
			db.update(func(tx *alder.Tx) {
				b, err := tx.CreateBucket([]byte("b"))
				require.NoError(t, err)
				for i := range n {
					require.NoError(t, b.Put(key(order(i)), key(order(i)+1)))
				}
			})
			db.view(func(tx *alder.Tx) {
				i := 0
				require.NoError(t, tx.Bucket([]byte("b")).ForEach(func(k, v []byte) error {
					if !bytes.Equal(k, key(i)) || !bytes.Equal(v, key(i+1)) {
						return fmt.Errorf("entry %d is %q = %q", i, k, v)
					}
					i++
					return nil
				}))
				require.Equal(t, n, i)
			})
		})
	}
}

// Ensures that a read and a write transaction of one goroutine do not stop each other when the file grows.
// Unlike bbolt, which must map anew and waits for the reader.
func TestTx_Commit_GrowsUnderReader(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v")
		tx := db.begin(false)
		within(t, time.Minute, "writing beside a reader", func() {
			for i := range 6 {
				db.put("b", string(key(i)), string(filled(1<<(16+i), byte(i))))
			}
		})
		require.Equal(t, []string{"k"}, keysOf(tx.Bucket([]byte("b"))))
		require.NoError(t, tx.Rollback())
		db.view(func(tx *alder.Tx) {
			for i := range 6 {
				requireBytes(t, filled(1<<(16+i), byte(i)), tx.Bucket([]byte("b")).Get(key(i)), "value %d", i)
			}
		})
	})
}
