package alder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/alderdb/alder"
)

// exampleStore opens a store in memory for an example; a program would call alder.Open with a path.
func exampleStore(pairs ...string) *alder.DB {
	db, err := alder.OpenMemory(nil)
	if err != nil {
		log.Fatal(err)
	}
	err = db.Update(func(tx *alder.Tx) error {
		b, err := tx.CreateBucket([]byte("items"))
		if err != nil {
			return err
		}
		for i := 0; i < len(pairs); i += 2 {
			if err := b.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	return db
}

// exampleFile returns a path in a new temporary directory.
func exampleFile() (path string, remove func()) {
	dir, err := os.MkdirTemp("", "alder-example-")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(dir, "my.db"), func() { _ = os.RemoveAll(dir) }
}

// Open a store, put a key and get it back.
func Example() {
	path, remove := exampleFile()
	defer remove()

	db, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	err = db.Update(func(tx *alder.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("config"))
		if err != nil {
			return err
		}
		return b.Put([]byte("color"), []byte("green"))
	})
	if err != nil {
		log.Fatal(err) // nothing was changed
	}

	err = db.View(func(tx *alder.Tx) error {
		value := tx.Bucket([]byte("config")).Get([]byte("color"))
		fmt.Printf("color is %s\n", value)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: color is green
}

// Wait a second for a store that another process has open, and say who has it.
func ExampleOpen_timeout() {
	path, remove := exampleFile()
	defer remove()
	first, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()

	_, err = alder.Open(path, 0o600, &alder.Options{Timeout: 50 * time.Millisecond})
	var locked *alder.LockError
	if errors.As(err, &locked) {
		fmt.Println("in use:", locked.Holder != "")
	}
	// Output: in use: true
}

// Several processes may read a store at once if all open it read-only.
func ExampleOpen_readOnly() {
	path, remove := exampleFile()
	defer remove()
	db, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Close(); err != nil {
		log.Fatal(err)
	}

	reader, err := alder.Open(path, 0, &alder.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	err = reader.Update(func(*alder.Tx) error { return nil })
	fmt.Println(err)
	// Output: database is in read-only mode
}

// A store without a file, for tests and caches.
func ExampleOpenMemory() {
	db, err := alder.OpenMemory(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *alder.Tx) error {
		b, err := tx.CreateBucket([]byte("cache"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	})
	fmt.Printf("%q %v\n", db.Path(), err)
	// Output: "" <nil>
}

// All changes of an Update are made, or none.
func ExampleDB_Update() {
	db := exampleStore("apple", "3", "pear", "5")
	defer db.Close()

	err := db.Update(func(tx *alder.Tx) error {
		b := tx.Bucket([]byte("items"))
		if err := b.Put([]byte("apple"), []byte("2")); err != nil {
			return err
		}
		return errors.New("no more pears")
	})
	fmt.Println(err)

	_ = db.View(func(tx *alder.Tx) error {
		fmt.Printf("%s apples\n", tx.Bucket([]byte("items")).Get([]byte("apple")))
		return nil
	})
	// Output:
	// no more pears
	// 3 apples
}

// A View sees one state of the store, whatever is written meanwhile.
func ExampleDB_View() {
	db := exampleStore("apple", "3")
	defer db.Close()

	err := db.View(func(tx *alder.Tx) error {
		if err := db.Update(func(tx *alder.Tx) error {
			return tx.Bucket([]byte("items")).Put([]byte("apple"), []byte("4"))
		}); err != nil {
			return err
		}
		fmt.Printf("still %s\n", tx.Bucket([]byte("items")).Get([]byte("apple")))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: still 3
}

// A transaction that a program ends itself.
func ExampleDB_Begin() {
	db := exampleStore()
	defer db.Close()

	tx, err := db.Begin(true)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback() // does nothing after the commit

	if err := tx.Bucket([]byte("items")).Put([]byte("plum"), []byte("7")); err != nil {
		log.Fatal(err)
	}
	tx.OnCommit(func() { fmt.Println("committed") })
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
	// Output: committed
}

// Give up waiting for the writer when a request's context ends.
func ExampleDB_UpdateContext() {
	db := exampleStore()
	defer db.Close()
	writer, err := db.Begin(true)
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Rollback()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err = db.UpdateContext(ctx, func(tx *alder.Tx) error {
		return tx.Bucket([]byte("items")).Put([]byte("fig"), nil)
	})
	fmt.Println(err)
	// Output: context deadline exceeded
}

// Many goroutines that each write a little share transactions.
func ExampleDB_Batch() {
	db := exampleStore()
	defer db.Close()

	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			// The function may be called more than once; only its last call counts.
			if err := db.Batch(func(tx *alder.Tx) error {
				return tx.Bucket([]byte("items")).Put(fmt.Appendf(nil, "berry %02d", i), nil)
			}); err != nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()
	_ = db.View(func(tx *alder.Tx) error {
		fmt.Println(tx.Bucket([]byte("items")).Len())
		return nil
	})
	// Output: 100
}

// Events of which the last second may be lost are written without waiting for the disk; what must not be lost waits, and takes all before it along.
func ExampleTx_SetDurability() {
	path, remove := exampleFile()
	defer remove()
	db, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	record := func(level alder.Durability, key string) error {
		return db.Update(func(tx *alder.Tx) error {
			if err := tx.SetDurability(level); err != nil {
				return err
			}
			b, err := tx.CreateBucketIfNotExists([]byte("events"))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), nil)
		})
	}
	for i := range 1000 {
		if err := record(alder.DurabilityLazy, fmt.Sprintf("click %03d", i)); err != nil {
			log.Fatal(err)
		}
	}
	if err := record(alder.DurabilityFull, "order"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("a power cut would lose nothing now")
	// Output: a power cut would lose nothing now
}

// A bulk load need not wait for the disk each time, but once at its end.
func ExampleDB_Sync() {
	path, remove := exampleFile()
	defer remove()
	db, err := alder.Open(path, 0o600, &alder.Options{Durability: alder.DurabilityLazy})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	for i := range 100 {
		err := db.Update(func(tx *alder.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("numbers"))
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "%03d", i), fmt.Append(nil, i*i))
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := db.Sync(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("all of it is durable")
	// Output: all of it is durable
}

// Follow what happens in a store from a known state on.
func ExampleDB_Changes() {
	path, remove := exampleFile()
	defer remove()
	db, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	update := func(fn func(b *alder.Bucket) error) {
		if err := db.Update(func(tx *alder.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("stock"))
			if err != nil {
				return err
			}
			return fn(b)
		}); err != nil {
			log.Fatal(err)
		}
	}
	update(func(b *alder.Bucket) error { return b.Put([]byte("apple"), []byte("3")) })

	// What the store holds now is read in one transaction; its identity is where the changes begin.
	var since alder.SnapshotID
	_ = db.View(func(tx *alder.Tx) error {
		since = tx.Snapshot()
		return nil
	})
	update(func(b *alder.Bucket) error { return b.Put([]byte("apple"), []byte("2")) })
	update(func(b *alder.Bucket) error {
		if err := b.Delete([]byte("apple")); err != nil {
			return err
		}
		return b.Put([]byte("pear"), []byte("9"))
	})

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n := 0
	for set, err := range db.Changes(ctx, since) {
		switch {
		case errors.Is(err, alder.ErrHistoryGone):
			fmt.Println("begin again with a new snapshot")
			return
		case err != nil:
			log.Fatal(err)
		case set.Gap:
			fmt.Println("a transaction that is not listed: begin again with a new snapshot")
			return
		}
		n++
		for c, err := range set.Changes() {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%d: %s %s/%s %q\n", n, c.Kind, bytes.Join(c.Bucket, []byte("/")), c.Key, c.Value)
		}
		since = set.Snapshot // to go on from here another time
		if n == 2 {
			break
		}
	}
	// Output:
	// 1: put stock/apple "2"
	// 2: delete stock/apple ""
	// 2: put stock/pear "9"
}

// Write something only if nobody else is writing.
func ExampleDB_TryBegin() {
	db := exampleStore()
	defer db.Close()

	tx, err := db.TryBegin()
	if errors.Is(err, alder.ErrBusy) {
		return // another time
	}
	if err != nil {
		log.Fatal(err)
	}
	_, err = db.TryBegin()
	fmt.Println(err)
	if err := tx.Rollback(); err != nil {
		log.Fatal(err)
	}
	// Output: another write transaction is open
}

// Buckets hold keys and other buckets.
func ExampleBucket_CreateBucketIfNotExists() {
	db := exampleStore()
	defer db.Close()

	err := db.Update(func(tx *alder.Tx) error {
		users, err := tx.CreateBucketIfNotExists([]byte("users"))
		if err != nil {
			return err
		}
		ann, err := users.CreateBucketIfNotExists([]byte("ann"))
		if err != nil {
			return err
		}
		return ann.Put([]byte("mail"), []byte("ann@example.org"))
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = db.View(func(tx *alder.Tx) error {
		ann := tx.Bucket([]byte("users")).Bucket([]byte("ann"))
		fmt.Printf("%s\n", ann.Get([]byte("mail")))
		return nil
	})
	// Output: ann@example.org
}

// Give new records numbers that never come twice.
func ExampleBucket_NextSequence() {
	db := exampleStore()
	defer db.Close()

	for range 3 {
		err := db.Update(func(tx *alder.Tx) error {
			b := tx.Bucket([]byte("items"))
			id, err := b.NextSequence()
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "%08d", id), []byte("a record"))
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	_ = db.View(func(tx *alder.Tx) error {
		for k := range tx.Bucket([]byte("items")).All() {
			fmt.Printf("%s ", k)
		}
		return nil
	})
	// Output: 00000001 00000002 00000003
}

// Walk over all keys in order.
func ExampleBucket_All() {
	db := exampleStore("pear", "5", "apple", "3", "fig", "9")
	defer db.Close()

	_ = db.View(func(tx *alder.Tx) error {
		for k, v := range tx.Bucket([]byte("items")).All() {
			fmt.Printf("%s=%s\n", k, v)
		}
		return tx.Err() // why the walk ended early, if it did
	})
	// Output:
	// apple=3
	// fig=9
	// pear=5
}

// Walk over the keys from one to another, the second excluded.
func ExampleBucket_Range() {
	db := exampleStore("2024-01-30", "cold", "2024-02-01", "rain", "2024-02-14", "sun", "2024-03-01", "wind")
	defer db.Close()

	_ = db.View(func(tx *alder.Tx) error {
		for k, v := range tx.Bucket([]byte("items")).Range([]byte("2024-02"), []byte("2024-03")) {
			fmt.Printf("%s %s\n", k, v)
		}
		return tx.Err()
	})
	// Output:
	// 2024-02-01 rain
	// 2024-02-14 sun
}

// Walk over the keys that begin with something, the last one first.
func ExampleBucket_PrefixBackward() {
	db := exampleStore("apple/green", "3", "apple/red", "4", "pear/green", "5")
	defer db.Close()

	_ = db.View(func(tx *alder.Tx) error {
		for k, v := range tx.Bucket([]byte("items")).PrefixBackward([]byte("apple/")) {
			fmt.Printf("%s %s\n", k, v)
		}
		return tx.Err()
	})
	// Output:
	// apple/red 4
	// apple/green 3
}

// Show the third page of a long list, and where in the list it is, without walking there.
func ExampleBucket_At() {
	db := exampleStore()
	defer db.Close()
	err := db.Update(func(tx *alder.Tx) error {
		for i := range 95 {
			if err := tx.Bucket([]byte("items")).Put(fmt.Appendf(nil, "kind %03d", i), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}

	const perPage = 10
	_ = db.View(func(tx *alder.Tx) error {
		b := tx.Bucket([]byte("items"))
		pages := (b.Len() + perPage - 1) / perPage
		first, _ := b.At(2 * perPage)
		fmt.Printf("page 3 of %d begins with %s\n", pages, first)
		fmt.Printf("kind 077 is on page %d\n", b.Rank([]byte("kind 077"))/perPage+1)
		last, _ := b.At(b.Len() - 1)
		fmt.Printf("the last is %s\n", last)
		return nil
	})
	// Output:
	// page 3 of 10 begins with kind 020
	// kind 077 is on page 8
	// the last is kind 094
}

// Count the keys of a range without walking over them.
func ExampleBucket_Count() {
	db := exampleStore("a1", "", "a2", "", "b1", "", "b2", "", "b3", "", "c1", "")
	defer db.Close()

	_ = db.View(func(tx *alder.Tx) error {
		b := tx.Bucket([]byte("items"))
		fmt.Println(b.Count([]byte("b"), []byte("c")), "of", b.Len())
		fmt.Println(b.Count([]byte("b2"), nil), "from b2 on")
		return nil
	})
	// Output:
	// 3 of 6
	// 3 from b2 on
}

// Count, find and delete the keys that begin with a prefix.
func ExamplePrefixEnd() {
	db := exampleStore("car", "", "cart", "", "cat", "", "dog", "")
	defer db.Close()

	from := []byte("car")
	to := alder.PrefixEnd(from)
	fmt.Printf("%s ≤ key < %s\n", from, to)
	err := db.Update(func(tx *alder.Tx) error {
		b := tx.Bucket([]byte("items"))
		fmt.Println(b.Count(from, to), "keys")
		second, _ := b.At(b.Rank(from) + 1)
		fmt.Printf("the second is %s\n", second)
		n, err := b.DeleteRange(from, to)
		fmt.Println(n, "deleted,", b.Len(), "left")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// car ≤ key < cas
	// 2 keys
	// the second is cart
	// 2 deleted, 2 left
}

// Get many keys at once, which is faster than one after the other.
func ExampleBucket_GetMulti() {
	db := exampleStore("apple", "3", "fig", "9", "pear", "5")
	defer db.Close()

	_ = db.View(func(tx *alder.Tx) error {
		keys := [][]byte{[]byte("pear"), []byte("lemon"), []byte("apple")}
		for i, v := range tx.Bucket([]byte("items")).GetMulti(keys, nil) {
			fmt.Printf("%s=%q absent: %v\n", keys[i], v, v == nil)
		}
		return tx.Err()
	})
	// Output:
	// pear="5" absent: false
	// lemon="" absent: true
	// apple="3" absent: false
}

// Delete a range of keys at once.
func ExampleBucket_DeleteRange() {
	db := exampleStore("2022", "", "2023", "", "2024", "", "2025", "")
	defer db.Close()

	err := db.Update(func(tx *alder.Tx) error {
		n, err := tx.Bucket([]byte("items")).DeleteRange(nil, []byte("2024"))
		fmt.Println(n, "deleted")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: 2 deleted
}

// Walk over a bucket and delete what is not wanted; nothing is skipped.
func ExampleCursor_Delete() {
	db := exampleStore("a", "keep", "b", "drop", "c", "drop", "d", "keep", "e", "drop")
	defer db.Close()

	err := db.Update(func(tx *alder.Tx) error {
		c := tx.Bucket([]byte("items")).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if bytes.Equal(v, []byte("drop")) {
				if err := c.Delete(); err != nil {
					return err
				}
			}
		}
		for k := range tx.Bucket([]byte("items")).All() {
			fmt.Printf("%s ", k)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: a d
}

// Find the first key at or after some key, and look around from there.
func ExampleCursor_Seek() {
	db := exampleStore("apple", "3", "fig", "9", "pear", "5")
	defer db.Close()

	_ = db.View(func(tx *alder.Tx) error {
		c := tx.Bucket([]byte("items")).Cursor()
		k, _ := c.Seek([]byte("b"))
		fmt.Printf("%s\n", k)
		k, _ = c.Prev()
		fmt.Printf("before it %s\n", k)
		return nil
	})
	// Output:
	// fig
	// before it apple
}

// Back up a store while it is in use.
func ExampleTx_WriteTo() {
	db := exampleStore("apple", "3")
	defer db.Close()
	path, remove := exampleFile()
	defer remove()

	err := db.View(func(tx *alder.Tx) error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = tx.WriteTo(f)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		log.Fatal(err)
	}

	backup, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer backup.Close()
	_ = backup.View(func(tx *alder.Tx) error {
		fmt.Printf("%s\n", tx.Bucket([]byte("items")).Get([]byte("apple")))
		return nil
	})
	// Output: 3
}

// Copy a store into a new one without free space.
func ExampleCompact() {
	db := exampleStore("apple", "3")
	defer db.Close()
	path, remove := exampleFile()
	defer remove()

	small, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer small.Close()
	if err := alder.Compact(small, db, 64<<20); err != nil {
		log.Fatal(err)
	}
	_ = small.View(func(tx *alder.Tx) error {
		fmt.Println(tx.Bucket([]byte("items")).Len())
		return nil
	})
	// Output: 1
}

// Verify a whole store.
func ExampleTx_Check() {
	db := exampleStore("apple", "3")
	defer db.Close()

	err := db.View(func(tx *alder.Tx) error {
		for err := range tx.Check() {
			return err
		}
		fmt.Println("sound")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: sound
}

// Load much data: sorted, in transactions of some size, made durable once at the end.
func Example_bulkLoad() {
	path, remove := exampleFile()
	defer remove()
	db, err := alder.Open(path, 0o600, &alder.Options{NoSync: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	const total, perTx = 20_000, 5_000
	for from := 0; from < total; from += perTx {
		err := db.Update(func(tx *alder.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("numbers"))
			if err != nil {
				return err
			}
			for i := from; i < from+perTx; i++ {
				if err := b.Put(fmt.Appendf(nil, "%08d", i), fmt.Appendf(nil, "%d squared is %d", i, i*i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := db.Sync(); err != nil {
		log.Fatal(err)
	}
	_ = db.View(func(tx *alder.Tx) error {
		fmt.Println(tx.Bucket([]byte("numbers")).Len(), "keys")
		return nil
	})
	// Output: 20000 keys
}
