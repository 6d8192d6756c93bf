package alder

import (
	"bytes"
	"fmt"
	"testing"
)

// fuzzBase is a store with a tree of several levels, an inline bucket, a nested one and a large value.
func fuzzBase(t testing.TB) *DB {
	db, err := OpenMemory(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	err = db.Update(func(tx *Tx) error {
		for _, name := range []string{"deep", "inline", "nested"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		for i := range 600 {
			if err := tx.Bucket([]byte("deep")).Put(fmt.Appendf(nil, "%03d", i), bytes.Repeat([]byte{byte(i)}, 20)); err != nil {
				return err
			}
		}
		inner, err := tx.Bucket([]byte("nested")).CreateBucket([]byte("inner"))
		if err != nil {
			return err
		}
		if err := inner.Put([]byte("large"), make([]byte, 5000)); err != nil {
			return err
		}
		return tx.Bucket([]byte("inline")).Put([]byte("k"), []byte("v"))
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// framed is a diff with the given records.
func framed(records []byte) []byte {
	var diff bytes.Buffer
	out := newDiffOutput(&diff, SnapshotID{}, SnapshotID{TxID: 1})
	out.raw(records)
	if err := out.finish(); err != nil {
		panic(err)
	}
	return diff.Bytes()
}

// records returns what is in the blocks of a diff.
func records(t testing.TB, diff []byte) []byte {
	in, err := newDiffInput(bytes.NewReader(diff))
	var all []byte
	for err == nil && !in.last {
		if err = in.next(); err == nil {
			all = append(all, in.block...)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// FuzzApplyDiff applies records of any kind to a store: they are applied or refused, and if they are applied the store is sound. The
// checksums around them would keep a fuzzer out, so they are made here; the second argument puts the records in without them.
func FuzzApplyDiff(f *testing.F) {
	db := fuzzBase(f)
	since, err := db.Begin(false)
	if err != nil {
		f.Fatal(err)
	}
	defer since.Rollback()
	for _, change := range []func(tx *Tx) error{
		func(*Tx) error { return nil },
		func(tx *Tx) error { return tx.Bucket([]byte("deep")).Put([]byte("3001"), []byte("new")) },
		func(tx *Tx) error { return tx.Bucket([]byte("inline")).SetSequence(1 << 40) },
		func(tx *Tx) error {
			return tx.Bucket([]byte("nested")).Bucket([]byte("inner")).Put([]byte("beside"), []byte("v"))
		},
		func(tx *Tx) error {
			if err := tx.DeleteBucket([]byte("inline")); err != nil {
				return err
			}
			_, err := tx.Bucket([]byte("nested")).CreateBucketIfNotExists([]byte("new"))
			return err
		},
	} {
		if err := db.Update(change); err != nil {
			f.Fatal(err)
		}
		err := db.View(func(tx *Tx) error {
			var diff bytes.Buffer
			_, err := tx.WriteDiff(&diff, since.Snapshot())
			f.Add(records(f, diff.Bytes()), true)
			f.Add(diff.Bytes(), false)
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	base := fuzzBase(f)
	f.Fuzz(func(t *testing.T, data []byte, frame bool) {
		if frame {
			data = framed(data)
		}
		in, err := newDiffInput(bytes.NewReader(data))
		if err != nil {
			return
		}
		tx, err := base.Begin(true)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if err := tx.applyRecords(in); err != nil {
			return
		}
		for err := range tx.Check() {
			t.Fatal(err)
		}
	})
}
