package alder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"syscall"
	"testing"
	"time"
)

func regressionCheck(t testing.TB, db *DB, what string) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Long separators make deep trees; ranges are deleted and everything is checked.
func TestRegression_DeepRanges(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 40; seed++ {
		rng := rand.New(rand.NewPCG(seed, 7))
		db, err := OpenMemory(&Options{})
		if err != nil {
			t.Fatal(err)
		}
		plen := []int{60, 300, 500, 700}[seed%4]
		var keys [][]byte
		groups := 200 + rng.IntN(1200)
		if plen == 700 {
			groups = 100 + rng.IntN(200)
		}
		for g := 0; g < groups; g++ {
			pre := make([]byte, plen)
			for i := range pre {
				pre[i] = byte(rng.IntN(256))
			}
			for k := 0; k < 8; k++ {
				keys = append(keys, append(bytes.Clone(pre), byte(k*13), byte(rng.IntN(256))))
			}
		}
		model := map[string]bool{}
		put := func(n int) {
			err := db.Update(func(tx *Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				if err != nil {
					return err
				}
				order := rng.Perm(len(keys))
				if rng.IntN(3) == 0 {
					sort.Slice(keys, func(i, j int) bool { return bytes.Compare(keys[i], keys[j]) < 0 })
					sort.Ints(order)
				}
				for _, i := range order[:n] {
					if err := b.Put(keys[i], make([]byte, rng.IntN(60))); err != nil {
						return err
					}
					model[string(keys[i])] = true
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		put(len(keys))
		regressionCheck(t, db, fmt.Sprint("seed ", seed, " after load"))
		for round := 0; round < 30; round++ {
			sorted := make([]string, 0, len(model))
			for k := range model {
				sorted = append(sorted, k)
			}
			sort.Strings(sorted)
			if len(sorted) < 10 {
				break
			}
			i := rng.IntN(len(sorted))
			var j int
			switch rng.IntN(4) {
			case 0:
				j = i + rng.IntN(len(sorted)-i+1)
			case 1:
				j = min(len(sorted), i+rng.IntN(200))
			case 2:
				j = min(len(sorted), i+rng.IntN(1000))
			case 3:
				j = max(i, len(sorted)-1-rng.IntN(12))
			}
			from, to := []byte(sorted[i]), []byte(nil)
			if j < len(sorted) {
				to = []byte(sorted[j])
			}
			if rng.IntN(8) == 0 {
				from = nil
				i = 0
				j = min(j, len(sorted)/3)
				to = []byte(sorted[j])
			}
			var n uint64
			err := db.Update(func(tx *Tx) (err error) {
				n, err = tx.Bucket([]byte("b")).DeleteRange(from, to)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if int(n) != j-i {
				t.Fatalf("seed %d: removed %d, want %d", seed, n, j-i)
			}
			for _, k := range sorted[i:j] {
				delete(model, k)
			}
			regressionCheck(t, db, fmt.Sprint("seed ", seed, " round ", round, " of plen ", plen, " keys left ", len(model)))
			if rng.IntN(3) == 0 {
				put(len(keys) / 4)
				regressionCheck(t, db, "after put")
			}
			if rng.IntN(3) == 0 {
				err := db.Update(func(tx *Tx) error {
					b := tx.Bucket([]byte("b"))
					for k := range model {
						if rng.IntN(10) == 0 {
							if err := b.Delete([]byte(k)); err != nil {
								return err
							}
							delete(model, k)
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				regressionCheck(t, db, "after deletes")
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// failingStorage lets sync and durable writes fail.
type failingStorage struct {
	storage
	fail error
}

func (f *failingStorage) sync() error {
	if f.fail != nil {
		return f.fail
	}
	return f.storage.sync()
}

func (f *failingStorage) writeDurable(p []byte, off int64) error {
	if f.fail != nil {
		return f.fail
	}
	return f.storage.writeDurable(p, off)
}

func TestRegression_CloseOfFailedLazyStore(t *testing.T) {
	st, err := newMemoryStorage(0)
	if err != nil {
		t.Fatal(err)
	}
	f := &failingStorage{storage: st}
	db, err := openStorage(f, &Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(*Tx) error { return nil }); err != nil { // from here on there is a log
		t.Fatal(err)
	}
	f.fail = syscall.EIO
	if err := db.Update(func(tx *Tx) error { _, err := tx.CreateBucket([]byte("b")); return err }); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the sync in the background fails
	if db.pager.failed() == nil {
		t.Fatal("not failed")
	}
	if err := db.Close(); err == nil {
		t.Fatal("Close returned nil, but a committed transaction was lost")
	}
}

// What a lazy commit has accepted must be possible to make durable.
func TestRegression_LazyAtMaxSize(t *testing.T) {
	for _, size := range []int{100, 700, 1500, 3000} {
		db, err := OpenMemory(&Options{NoSync: true, MaxSize: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			err = db.Update(func(tx *Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				if err != nil {
					return err
				}
				return b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, size))
			})
			if err != nil {
				break
			}
		}
		if !errors.Is(err, ErrMaxSizeReached) {
			t.Fatal(err)
		}
		if err := db.Sync(); err != nil {
			t.Errorf("value size %d: lazily committed, and cannot be made durable: %v", size, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRegression_WriteToRace(t *testing.T) {
	db, err := OpenMemory(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	go func() {
		defer cancel()
		for i := 0; i < 2000; i++ {
			_ = db.Update(func(tx *Tx) error {
				b, _ := tx.CreateBucketIfNotExists([]byte("b"))
				return b.Put(fmt.Appendf(nil, "%d", i), nil)
			})
		}
	}()
	for ctx.Err() == nil {
		if err := db.View(func(tx *Tx) error { _, err := tx.WriteTo(io.Discard); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRegression_CopyFileOntoItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	db, err := Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}
		for i := range 1000 {
			if err := b.Put(fmt.Appendf(nil, "%d", i), make([]byte, 100)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *Tx) error { return tx.CopyFile(path, 0o600) })
	t.Log("CopyFile:", err)
	fi, e := os.Stat(path)
	t.Log(fi, e)
	if e != nil || fi.Size() < 100000 {
		t.Error("the store itself was destroyed")
	}
}
