package alder_test

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alderdb/alder"
)

// Micro-benchmarks for benchstat, to compare one commit with the next: scripts/bench-compare.sh BASE. Their names
// stay as they are, so that results of different commits can be compared. How alder stands beside other stores is
// measured by the module in bench/.

// benchKeys is small enough to load in an instant and large enough for a tree of three levels.
const benchKeys = 100_000

var benchBucket = []byte("records")

// benchKey makes the i-th of the keys that are spread at random.
func benchKey(i int, buf []byte) []byte {
	x := uint64(i) + 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	x ^= x >> 31
	binary.BigEndian.PutUint64(buf, x)
	binary.BigEndian.PutUint64(buf[8:], ^x)
	return buf[:16]
}

// benchNext is a cheap sequence of record numbers that look random.
type benchNext uint64

func (n *benchNext) next() int {
	*n = *n*6364136223846793005 + 1442695040888963407
	return int(uint64(*n) >> 33 % benchKeys)
}

// benchOpen opens a new store with the given number of records.
func benchOpen(b *testing.B, records int, options *alder.Options) *alder.DB {
	b.Helper()
	db, err := alder.Open(filepath.Join(b.TempDir(), "bench.db"), 0o600, options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	err = db.Update(func(tx *alder.Tx) error {
		_, err := tx.CreateBucket(benchBucket)
		return err
	})
	for i := 0; err == nil && i < records; i += 1000 {
		err = db.Update(func(tx *alder.Tx) error { return benchPut(tx, i, min(i+1000, records)) })
	}
	if err != nil {
		b.Fatal(err)
	}
	return db
}

// benchPut puts records from..to-1.
func benchPut(tx *alder.Tx, from, to int) error {
	bucket := tx.Bucket(benchBucket)
	key, value := make([]byte, 16), make([]byte, 100)
	for i := from; i < to; i++ {
		if err := bucket.Put(benchKey(i, key), value); err != nil {
			return err
		}
	}
	return nil
}

// benchView runs f inside of one read transaction, with what the transaction costs not timed.
func benchView(b *testing.B, db *alder.DB, f func(bucket *alder.Bucket)) {
	b.Helper()
	b.ReportAllocs()
	err := db.View(func(tx *alder.Tx) error {
		bucket := tx.Bucket(benchBucket)
		b.ResetTimer()
		f(bucket)
		b.StopTimer()
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkGet(b *testing.B) {
	db := benchOpen(b, benchKeys, &alder.Options{NoSync: true})
	one := func(key []byte, next *benchNext) error {
		return db.View(func(tx *alder.Tx) error {
			if tx.Bucket(benchBucket).Get(benchKey(next.next(), key)) == nil {
				return fmt.Errorf("key %x is missing", key)
			}
			return nil
		})
	}
	b.Run("OnePerTx", func(b *testing.B) {
		b.ReportAllocs()
		var next benchNext
		key := make([]byte, 16)
		for b.Loop() {
			if err := one(key, &next); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("OnePerTxParallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			next := benchNext(1)
			key := make([]byte, 16)
			for pb.Next() {
				if err := one(key, &next); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("InTx", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			var next benchNext
			key := make([]byte, 16)
			for range b.N {
				if bucket.Get(benchKey(next.next(), key)) == nil {
					b.Fatalf("key %x is missing", key)
				}
			}
		})
	})
	b.Run("Multi16", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			var next benchNext
			keys, values := make([][]byte, 16), make([][]byte, 16)
			for i := range keys {
				keys[i] = make([]byte, 16)
			}
			for range b.N {
				for _, key := range keys {
					benchKey(next.next(), key)
				}
				if values = bucket.GetMulti(keys, values); values[0] == nil {
					b.Fatal("a key is missing")
				}
			}
		})
	})
}

func BenchmarkBeginRead(b *testing.B) {
	db := benchOpen(b, 1000, &alder.Options{NoSync: true})
	empty := func() error {
		tx, err := db.Begin(false)
		if err != nil {
			return err
		}
		return tx.Rollback()
	}
	b.Run("Serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := empty(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := empty(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// One operation is one key.
func BenchmarkScan(b *testing.B) {
	db := benchOpen(b, benchKeys, &alder.Options{NoSync: true})
	b.Run("Forward", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			c := bucket.Cursor()
			for n := 0; n < b.N; {
				for k, _ := c.First(); k != nil && n < b.N; k, _ = c.Next() {
					n++
				}
			}
		})
	})
	b.Run("Reverse", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			c := bucket.Cursor()
			for n := 0; n < b.N; {
				for k, _ := c.Last(); k != nil && n < b.N; k, _ = c.Prev() {
					n++
				}
			}
		})
	})
	b.Run("All", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			for n := 0; n < b.N; {
				for range bucket.All() {
					if n++; n >= b.N {
						break
					}
				}
			}
		})
	})
}

func BenchmarkSeek(b *testing.B) {
	db := benchOpen(b, benchKeys, &alder.Options{NoSync: true})
	b.Run("Next50", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			var next benchNext
			key := make([]byte, 16)
			c := bucket.Cursor()
			for range b.N {
				k, _ := c.Seek(benchKey(next.next(), key))
				for i := 0; i < 50 && k != nil; i++ {
					k, _ = c.Next()
				}
			}
		})
	})
	b.Run("Count", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			from, to := []byte{0x40}, []byte{0xc0}
			for range b.N {
				if bucket.Count(from, to) == 0 {
					b.Fatal("no keys in the range")
				}
			}
		})
	})
	b.Run("At", func(b *testing.B) {
		benchView(b, db, func(bucket *alder.Bucket) {
			var next benchNext
			for range b.N {
				if key, _ := bucket.At(uint64(next.next())); key == nil {
					b.Fatal("no key at the position")
				}
			}
		})
	})
}

// One operation is one put, with its share of the commit.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		name  string
		lazy  bool
		perTx int
	}{
		{"Durable", false, 1}, {"Durable100PerTx", false, 100}, {"Lazy", true, 1}, {"Lazy1000PerTx", true, 1000},
	} {
		b.Run(c.name, func(b *testing.B) {
			db := benchOpen(b, benchKeys, &alder.Options{NoSync: c.lazy})
			var next benchNext
			key, value := make([]byte, 16), make([]byte, 100)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				err := db.Update(func(tx *alder.Tx) error {
					bucket := tx.Bucket(benchBucket)
					for i := 0; i < c.perTx && n < b.N; i++ {
						if err := bucket.Put(benchKey(next.next(), key), value); err != nil {
							return err
						}
						n++
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("DurableParallel8", func(b *testing.B) {
		db := benchOpen(b, benchKeys, nil)
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			next := benchNext(1)
			key, value := make([]byte, 16), make([]byte, 100)
			for pb.Next() {
				err := db.Update(func(tx *alder.Tx) error {
					return tx.Bucket(benchBucket).Put(benchKey(next.next(), key), value)
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// One operation is one durable put of one of many goroutines, with Update and with Batch.
func BenchmarkBatch(b *testing.B) {
	for _, goroutines := range []int{1, 8, 64} {
		for _, batch := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/%d", map[bool]string{false: "Update", true: "Batch"}[batch], goroutines), func(b *testing.B) {
				db := benchOpen(b, benchKeys, nil)
				call := db.Update
				if batch {
					call = db.Batch
				}
				b.ReportAllocs()
				b.ResetTimer()
				var done atomic.Int64
				var wg sync.WaitGroup
				for g := range goroutines {
					wg.Go(func() {
						next := benchNext(g)
						key, value := make([]byte, 16), make([]byte, 100)
						for done.Add(1) <= int64(b.N) {
							if err := call(func(tx *alder.Tx) error {
								return tx.Bucket(benchBucket).Put(benchKey(next.next(), key), value)
							}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// One operation is one key of a new store.
func BenchmarkLoad(b *testing.B) {
	b.Run("Random", func(b *testing.B) {
		benchLoad(b, func(i int, key []byte) { benchKey(i, key) })
	})
	b.Run("Sorted", func(b *testing.B) {
		benchLoad(b, func(i int, key []byte) { binary.BigEndian.PutUint64(key, uint64(i)) })
	})
}

func benchLoad(b *testing.B, makeKey func(i int, key []byte)) {
	db := benchOpen(b, 0, &alder.Options{NoSync: true})
	key, value := make([]byte, 16), make([]byte, 100)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		err := db.Update(func(tx *alder.Tx) error {
			bucket := tx.Bucket(benchBucket)
			for end := min(n+1000, b.N); n < end; n++ {
				makeKey(n, key)
				if err := bucket.Put(key, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bench.db")
	reopen := func() {
		db, err := alder.Open(path, 0o600, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	reopen()
	b.Run("CleanAndClose", func(b *testing.B) {
		for b.Loop() {
			reopen()
		}
	})
}
