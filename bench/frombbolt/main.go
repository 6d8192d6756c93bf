// Command frombbolt copies a bbolt database into a new alder store:
//
//	cd bench && go run ./frombbolt /abs/OLD.db /abs/NEW.alder
//
// OLD is opened read-only; nobody may have it open for writing. NEW must not exist, and appears when it is complete.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/alderdb/alder"
	bolt "go.etcd.io/bbolt"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: frombbolt OLD.db NEW.alder")
		os.Exit(2)
	}
	if err := migrate(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "frombbolt:", err)
		os.Exit(1)
	}
}

// migrate makes the store at to, with everything that is in the bbolt database at from.
func migrate(from, to string) (err error) {
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s exists", to)
	}
	old, err := bolt.Open(from, 0, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("open %s: %w", from, err)
	}
	defer old.Close()
	part := to + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := alder.Open(part, 0o600, nil)
	if err != nil {
		return err
	}
	c := copier{db: db}
	err = old.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return c.bucket([][]byte{name}, b) })
	})
	if err := errors.Join(err, c.commit(), db.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, to)
}

// copier writes in transactions of some size. A bucket is valid in its transaction only, so it is found by its path again in the next one.
type copier struct {
	db    *alder.DB
	tx    *alder.Tx
	path  [][]byte // of in
	in    *alder.Bucket
	bytes int
}

const txBytes = 32 << 20

// bucket copies b, and the buckets in it, to path.
func (c *copier) bucket(path [][]byte, b *bolt.Bucket) error {
	to, err := c.find(path)
	if err != nil {
		return err
	}
	if err := to.SetSequence(b.Sequence()); err != nil {
		return err
	}
	return b.ForEach(func(key, value []byte) error {
		if value == nil {
			return c.bucket(append(path[:len(path):len(path)], key), b.Bucket(key))
		}
		to, err := c.find(path)
		if err != nil {
			return err
		}
		c.bytes += len(key) + len(value)
		return to.Put(key, value)
	})
}

// find returns the bucket at path, which it makes if need be, in a transaction that has room.
func (c *copier) find(path [][]byte) (*alder.Bucket, error) {
	if c.bytes > txBytes {
		if err := c.commit(); err != nil {
			return nil, err
		}
	}
	if c.tx == nil {
		tx, err := c.db.Begin(true)
		if err != nil {
			return nil, err
		}
		c.tx = tx
	}
	if c.in != nil && samePath(c.path, path) {
		return c.in, nil
	}
	b, err := c.tx.CreateBucketIfNotExists(path[0])
	for _, name := range path[1:] {
		if err != nil {
			return nil, err
		}
		b, err = b.CreateBucketIfNotExists(name)
	}
	c.path, c.in = path, b
	return b, err
}

func (c *copier) commit() error {
	if c.tx == nil {
		return nil
	}
	err := c.tx.Commit()
	c.tx, c.in, c.bytes = nil, nil, 0
	return err
}

func samePath(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
