package alder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/alderdb/alder"
)

// Tasks that come up later in the life of a store.

// Tell a missing key from one that cannot be read: Get returns nil for both.
func ExampleBucket_Lookup() {
	db := exampleStore("apple", "3")
	defer db.Close()

	err := db.View(func(tx *alder.Tx) error {
		items := tx.Bucket([]byte("items"))
		for _, name := range []string{"apple", "plum"} {
			value, err := items.Lookup([]byte(name))
			switch {
			case err != nil:
				return err // a damaged page, or a disk that fails
			case value == nil:
				fmt.Println(name, "is missing")
			default:
				fmt.Printf("%s: %s\n", name, value)
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// apple: 3
	// plum is missing
}

// Move a nested bucket with all that is in it.
func ExampleBucket_MoveBucket() {
	db := exampleStore()
	defer db.Close()

	err := db.Update(func(tx *alder.Tx) error {
		items := tx.Bucket([]byte("items"))
		fruit, err := items.CreateBucket([]byte("fruit"))
		if err != nil {
			return err
		}
		if err := fruit.Put([]byte("apple"), []byte("3")); err != nil {
			return err
		}
		archive, err := tx.CreateBucket([]byte("archive"))
		if err != nil {
			return err
		}
		return items.MoveBucket([]byte("fruit"), archive)
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = db.View(func(tx *alder.Tx) error {
		fmt.Println(tx.Bucket([]byte("items")).Bucket([]byte("fruit")) == nil)
		fmt.Printf("%s\n", tx.Bucket([]byte("archive")).Bucket([]byte("fruit")).Get([]byte("apple")))
		return nil
	})
	// Output:
	// true
	// 3
}

// Delete a bucket, and tell one that is not there from a failure.
func ExampleTx_DeleteBucket() {
	db := exampleStore("apple", "3")
	defer db.Close()

	for range 2 {
		err := db.Update(func(tx *alder.Tx) error { return tx.DeleteBucket([]byte("items")) })
		if errors.Is(err, alder.ErrBucketNotFound) {
			fmt.Println("not there")
		} else if err != nil {
			log.Fatal(err)
		} else {
			fmt.Println("deleted")
		}
	}
	// Output:
	// deleted
	// not there
}

// See what changed between two snapshots.
func ExampleTx_Diff() {
	db := exampleStore("apple", "3", "plum", "7")
	defer db.Close()

	before, err := db.Begin(false)
	if err != nil {
		log.Fatal(err)
	}
	defer before.Rollback()
	err = db.Update(func(tx *alder.Tx) error {
		items := tx.Bucket([]byte("items"))
		return errors.Join(items.Put([]byte("apple"), []byte("4")), items.Delete([]byte("plum")))
	})
	if err != nil {
		log.Fatal(err)
	}
	err = db.View(func(tx *alder.Tx) error {
		for change, err := range tx.Diff(before) {
			if err != nil {
				return err
			}
			fmt.Printf("%v %s %s %s\n", change.Kind, change.Bucket, change.Key, change.Value)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// put [items] apple 4
	// delete [items] plum
}

// Make a full backup, later one of what has changed since, and a store of both.
func ExampleTx_WriteDiff() {
	path, remove := exampleFile()
	defer remove()
	db, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	put := func(key, value string) {
		err := db.Update(func(tx *alder.Tx) error {
			items, err := tx.CreateBucketIfNotExists([]byte("items"))
			if err != nil {
				return err
			}
			return items.Put([]byte(key), []byte(value))
		})
		if err != nil {
			log.Fatal(err)
		}
	}

	put("apple", "3")
	var full, diff bytes.Buffer // files, or connections
	var saved alder.SnapshotID
	err = db.View(func(tx *alder.Tx) error {
		saved = tx.Snapshot()
		_, err := tx.WriteTo(&full)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	put("plum", "7")
	err = db.View(func(tx *alder.Tx) error {
		_, err := tx.WriteDiff(&diff, saved)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}

	restored := filepath.Join(filepath.Dir(path), "restored.db")
	if _, err := alder.Restore(restored, 0o600, &full, &diff); err != nil {
		log.Fatal(err)
	}
	copied, err := alder.Open(restored, 0o600, &alder.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer copied.Close()
	_ = copied.View(func(tx *alder.Tx) error {
		for key, value := range tx.Bucket([]byte("items")).All() {
			fmt.Printf("%s: %s\n", key, value)
		}
		return nil
	})
	// Output:
	// apple: 3
	// plum: 7
}

// Rebuild what can be read of a damaged store.
func ExampleSalvage() {
	path, remove := exampleFile()
	defer remove()
	damaged, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	err = damaged.Update(func(tx *alder.Tx) error {
		items, err := tx.CreateBucket([]byte("items"))
		if err != nil {
			return err
		}
		return items.Put([]byte("apple"), []byte("3"))
	})
	if err := errors.Join(err, damaged.Close()); err != nil {
		log.Fatal(err)
	}
	// Imagine the damage.

	rebuilt, err := alder.Open(filepath.Join(filepath.Dir(path), "rebuilt.db"), 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer rebuilt.Close()
	report, err := alder.Salvage(context.Background(), path, rebuilt, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Keys, "key,", report.Lost, "lost,", len(report.Damage), "damaged pages")
	// Output: 1 key, 0 lost, 0 damaged pages
}

// Give the disk back what deleted keys have taken, while the store is in use.
func ExampleDB_Shrink() {
	path, remove := exampleFile()
	defer remove()
	db, err := alder.Open(path, 0o600, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *alder.Tx) error {
		b, err := tx.CreateBucket([]byte("pictures"))
		if err != nil {
			return err
		}
		return b.Put([]byte("large"), make([]byte, 16<<20))
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := db.Update(func(tx *alder.Tx) error { return tx.DeleteBucket([]byte("pictures")) }); err != nil {
		log.Fatal(err)
	}

	result, err := db.Shrink(context.Background(), 0, nil)
	if err != nil {
		log.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Before > 16<<20, fi.Size() < 1<<20)
	// Output: true true
}
