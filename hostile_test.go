package alder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// craftedFile makes a store with what fill puts, and returns its bytes' path.
func craftedFile(t *testing.T, fill func(tx *Tx) error) string {
	path := filepath.Join(t.TempDir(), "s.db")
	db, err := Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(fill); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// craft changes page id and seals it.
func craft(t *testing.T, path string, id int, edit func(p page)) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := page(data[id*4096 : (id+1)*4096])
	edit(p)
	p.seal()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each crafted file must give errors, never a panic.
func TestHostile_MetaOverflow(t *testing.T) {
	path := craftedFile(t, func(tx *Tx) error { _, err := tx.CreateBucket([]byte("b")); return err })
	data, _ := os.ReadFile(path)
	for i := range 2 {
		p := page(data[i*4096 : i*4096+metaBytes])
		if !p.sealed() {
			continue
		}
		le.PutUint32(p[offMetaPageSize:], 65536)
		le.PutUint64(p[offMetaHighWater:], 1<<48-1)
		le.PutUint64(p[offMetaFileLength:], 0)
		span := int64(mapSpan(65536))
		n := mapShape(int((1<<48-1+span-1)/span), mapFanout(65536))
		le.PutUint32(p[offMetaMapLevels:], uint32(len(n)))
		le.PutUint64(p[offMetaMapPgid:], 1<<40)
		le.PutUint64(p[offMetaRootPgid:], 1<<40)
		p.seal()
	}
	os.WriteFile(path, data, 0o600)
	db, err := Open(path, 0o600, &Options{ReadOnly: true})
	t.Log(err)
	if err == nil {
		db.Close()
		t.Fatal("opened")
	}
}

// Ensures that no field of the metas, under a valid checksum, makes Open or anything after it panic, hang, or fail without saying that the
// file is damaged: absurd page sizes, lengths, roots, a store of many pages that says it has no free map.
func TestHostile_MetaFields(t *testing.T) {
	path := craftedFile(t, func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; err == nil && i < 300; i++ {
			err = b.Put(fmt.Appendf(nil, "key %d", i), make([]byte, 60))
		}
		return err
	})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for off := offMetaMagic; off+4 <= metaBytes; off += 4 {
		for _, value := range []uint32{0, 3, 1 << 31, 1<<32 - 1} {
			image := bytes.Clone(whole)
			for slot := range 2 {
				if p := page(image[slot*4096 : slot*4096+metaBytes]); p.sealed() {
					le.PutUint32(p[off:], value)
					p.seal()
				}
			}
			openFuzzed(t, image)
			if off == offMetaMapLevels && value == 0 {
				d := loadSimDisk(simConfig{}, image)
				_, err := openStorage(d, &Options{})
				d.release()
				if err == nil || !strings.Contains(err.Error(), "no free map, but it is not a new store") {
					t.Fatal(err)
				}
			}
		}
	}
}

func rootOf(t *testing.T, path string) (root pageRef, slot int) {
	db, err := Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return db.pager.durable.root, db.pager.slot
}

func TestHostile_RunAsPage(t *testing.T) {
	path := craftedFile(t, func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("a"))
		if err != nil {
			return err
		}
		if err := b.Put([]byte("long"), bytes.Repeat([]byte{0xff}, 5000)); err != nil {
			return err
		}
		c, err := tx.CreateBucket([]byte("c"))
		if err != nil {
			return err
		}
		return c.Put([]byte("x"), make([]byte, 1500))
	})
	root, _ := rootOf(t, path)
	craft(t, path, int(root.id), func(p page) {
		a, _ := decodeBucket(p.cell(0).value)
		r := loadRef(a.inline.cell(0).value)
		le.PutUint64(p.cell(1).value[offBucketRoot:], uint64(r.id))
		le.PutUint64(p.cell(1).value[offBucketBirth:], uint64(r.birth))
	})
	db, err := Open(path, 0o600, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *Tx) error {
		tx.Bucket([]byte("a")).Get([]byte("long")) // verifies the run
		tx.Bucket([]byte("c")).Get([]byte("x"))    // and now it is taken for a leaf
		return nil
	})
	t.Log(err)
	if err == nil {
		t.Fatal("no error")
	}
}

func TestHostile_EmptyLeaf(t *testing.T) {
	path := craftedFile(t, func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("a"))
		if err != nil {
			return err
		}
		for i := range 100 {
			if err := b.Put([]byte{byte(i)}, make([]byte, 100+i)); err != nil {
				return err
			}
		}
		return nil
	})
	var leaf pgid
	db, _ := Open(path, 0o600, nil)
	db.View(func(tx *Tx) error {
		p, _ := tx.readPage(tx.Bucket([]byte("a")).tree.root)
		if !p.isBranch() {
			t.Fatal("not a branch")
		}
		leaf = p.child(1).id
		return nil
	})
	db.Close()
	craft(t, path, int(leaf), func(p page) {
		p.setCount(0)
		p.setGarbage(p.cellBytes())
		le.PutUint16(p[pageHeader-2:], 0xffff)
		le.PutUint16(p[pageHeader:], 0xffff)
		le.PutUint16(p[pageHeader+2:], 0xffff)
	})
	db, err := Open(path, 0o600, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, back := range []bool{false, true} {
		err = db.View(func(tx *Tx) error {
			b := tx.Bucket([]byte("a"))
			seq := b.All()
			if back {
				seq = b.Backward()
			}
			n := 0
			for range seq {
				n++
			}
			t.Log(n, b.Len())
			return nil
		})
		t.Log(err)
		if err == nil {
			t.Error("no error")
		}
	}
}

// Ensures that a bucket that contains itself ends every walk with an error, not with an exhausted stack.
func TestHostile_BucketCycle(t *testing.T) {
	walks := map[string]func(db *DB) error{
		"stats":   func(db *DB) error { return db.View(func(tx *Tx) error { tx.Bucket([]byte("a")).Stats(); return nil }) },
		"inspect": func(db *DB) error { return db.View(func(tx *Tx) error { tx.Inspect(); return nil }) },
		"delete":  func(db *DB) error { return db.Update(func(tx *Tx) error { return tx.DeleteBucket([]byte("a")) }) },
		"copy": func(db *DB) error {
			return db.View(func(tx *Tx) error { _, err := tx.WriteTo(io.Discard); return err })
		},
		"compact": func(db *DB) error {
			dst, err := OpenMemory(nil)
			if err != nil {
				return err
			}
			defer dst.Close()
			return Compact(dst, db, 0)
		},
	}
	for name, walk := range walks {
		t.Run(name, func(t *testing.T) {
			path := craftedFile(t, func(tx *Tx) error {
				b, err := tx.CreateBucket([]byte("a"))
				if err != nil {
					return err
				}
				return b.Put([]byte("x"), make([]byte, 1500))
			})
			root, _ := rootOf(t, path)
			craft(t, path, int(root.id), func(p page) {
				le.PutUint64(p.cell(0).value[offBucketRoot:], uint64(root.id))
				le.PutUint64(p.cell(0).value[offBucketBirth:], uint64(root.birth))
			})
			db, err := Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := walk(db); err == nil {
				t.Fatal("no error")
			}
		})
	}
}

// Ensures that a log which cannot be done again, because the tree is not the one that it was written for, is corruption.
//
// It was "bucket not found", as if the caller had asked for a bucket that does not exist: errors.Is(err, ErrCorrupt) was false, and kvctl
// ended with the code for a missing key.
func TestHostile_ReplayOfWrongTree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("bucket-one"))
			if err != nil {
				return err
			}
			return b.Put([]byte{'k', byte(i)}, []byte("v"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	root := int(db.pager.durable.root.id) * db.PageSize()
	image, err := os.ReadFile(path) // as a kill leaves it, with a log
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	p := page(image[root : root+4096])
	i := bytes.Index(p, []byte("bucket-one"))
	if i < 0 {
		t.Fatal("the root has no such bucket")
	}
	p[i+len("bucket-one")-1] = 'f'
	p.seal()
	for _, readOnly := range []bool{true, false} {
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(path, 0o600, &Options{ReadOnly: readOnly})
		if err == nil {
			db.Close()
			t.Fatal("opened")
		}
		if !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrBucketNotFound) || !strings.Contains(err.Error(), "redo log: transaction 3") {
			t.Fatal(err)
		}
	}
}
