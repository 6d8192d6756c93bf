package alder_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Golden files: stores as each format version has written them, in testdata/golden, compressed, each with a list of
// what it holds. They are opened for ever. With -update the ones of the current version that are missing are
// made; an existing file is never rewritten. (Before 1.0 the format may change: delete the files of the
// current version then, and make them anew.)

const goldenVersion = 3

// goldenStores are the stores that are made for each format version.
var goldenStores = []struct {
	name string
	make func(t *testing.T, file string) []byte
}{
	{"new", func(t *testing.T, file string) []byte {
		db := goldenOpen(t, file, 0)
		require.NoError(t, db.Close())
		return goldenRead(t, file)
	}}, // a store into which nothing was put
	{"closed", func(t *testing.T, file string) []byte {
		db := goldenOpen(t, file, 0)
		goldenFill(t, db)
		require.NoError(t, db.Close())
		return goldenRead(t, file)
	}}, // all kinds of content, closed in order
	{"killed", func(t *testing.T, file string) []byte {
		db := goldenOpen(t, file, 0)
		goldenFill(t, db)
		goldenLog(t, db)
		image := goldenRead(t, file)
		require.NoError(t, db.Close())
		return image
	}}, // the same, of a process that was killed: what came after the first transaction is in the log, in several runs
	{"checkpointed", func(t *testing.T, file string) []byte {
		db, err := alder.Open(file, 0o600, &alder.Options{LogSize: 64 << 10})
		require.NoError(t, err)
		goldenFill(t, db)
		for i := range 100 {
			require.NoError(t, db.Update(func(tx *alder.Tx) error {
				return tx.Bucket([]byte("words")).Put(fmt.Appendf(nil, "more %d", i), bytes.Repeat([]byte{byte(i)}, 1000))
			}))
		}
		time.Sleep(time.Second) // until the checkpoints in the background are done
		goldenLog(t, db)
		time.Sleep(time.Second)
		image := goldenRead(t, file)
		require.NoError(t, db.Close())
		return image
	}}, // the same, after checkpoints: the log begins in the middle of a run
	{"copy", func(t *testing.T, file string) []byte {
		db := goldenOpen(t, file, 0)
		goldenFill(t, db)
		copied := file + ".copy"
		require.NoError(t, db.View(func(tx *alder.Tx) error { return tx.CopyFile(copied, 0o600) }))
		require.NoError(t, db.Close())
		return goldenRead(t, copied)
	}}, // the same, as a backup
	{"pages16384", func(t *testing.T, file string) []byte {
		db := goldenOpen(t, file, 16384)
		goldenFill(t, db)
		require.NoError(t, db.Close())
		return goldenRead(t, file)
	}}, // the same, with pages of 16 KiB
}

func goldenOpen(t *testing.T, file string, pageSize int) *alder.DB {
	t.Helper()
	db, err := alder.Open(file, 0o600, &alder.Options{PageSize: pageSize})
	require.NoError(t, err)
	return db
}

func goldenRead(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return b
}

// goldenFill puts in what the format has forms for: inline and grown buckets, nested ones, long keys and values,
// branches of two levels, sequences, free pages.
func goldenFill(t *testing.T, db *alder.DB) {
	t.Helper()
	update := func(fn func(tx *alder.Tx) error) { require.NoError(t, db.Update(fn)) }
	update(func(tx *alder.Tx) error {
		words, err := tx.CreateBucket([]byte("words"))
		if err != nil {
			return err
		}
		for i := range 3000 {
			if err := words.Put(fmt.Appendf(nil, "word %05d", i*7919%3000), fmt.Appendf(nil, "value of %d", i)); err != nil {
				return err
			}
		}
		_, err = tx.CreateBucket([]byte("empty"))
		return err
	})
	update(func(tx *alder.Tx) error {
		mixed, err := tx.CreateBucket([]byte("mixed"))
		if err != nil {
			return err
		}
		small, err := mixed.CreateBucket([]byte("small"))
		if err != nil {
			return err
		}
		deep, err := mixed.CreateBucket([]byte("deep"))
		if err != nil {
			return err
		}
		deeper, err := deep.CreateBucket([]byte("deeper"))
		if err != nil {
			return err
		}
		return errors.Join(
			small.Put([]byte("inline"), []byte("stays in its parent's leaf")),
			small.SetSequence(42),
			deeper.Put([]byte{0}, []byte{}),
			deeper.Put([]byte{0xFF, 0}, []byte{0, 1, 2}),
			mixed.Put([]byte("large"), bytes.Repeat([]byte("large value. "), 4000)),
			mixed.Put(bytes.Repeat([]byte("long key "), 900), []byte("of a long key")),
			mixed.Put(bytes.Repeat([]byte("long key "), 901), bytes.Repeat([]byte("both "), 2000)),
			mixed.SetSequence(1<<63),
		)
	})
	update(func(tx *alder.Tx) error {
		_, err := tx.Bucket([]byte("words")).DeleteRange([]byte("word 01000"), []byte("word 01900"))
		return errors.Join(err, tx.Bucket([]byte("mixed")).Put([]byte("large"), bytes.Repeat([]byte("rewritten. "), 3000)))
	})
}

// goldenLog does, in small transactions that end up in the log, what the log has operations for.
func goldenLog(t *testing.T, db *alder.DB) {
	t.Helper()
	mixed := func(tx *alder.Tx) *alder.Bucket { return tx.Bucket([]byte("mixed")) }
	for _, fn := range []func(tx *alder.Tx) error{
		func(tx *alder.Tx) error { return mixed(tx).Put([]byte("logged"), []byte("put")) },
		func(tx *alder.Tx) error { return tx.Bucket([]byte("words")).Delete([]byte("word 00001")) },
		func(tx *alder.Tx) error {
			_, err := tx.Bucket([]byte("words")).DeleteRange([]byte("word 02990"), nil)
			return err
		},
		func(tx *alder.Tx) error {
			b, err := mixed(tx).CreateBucket([]byte("created"))
			if err != nil {
				return err
			}
			return errors.Join(b.Put([]byte("k"), []byte("v")), b.SetSequence(7))
		},
		func(tx *alder.Tx) error { return tx.MoveBucket([]byte("created"), mixed(tx), nil) },
		func(tx *alder.Tx) error { return mixed(tx).DeleteBucket([]byte("small")) },
		func(tx *alder.Tx) error { _, err := mixed(tx).NextSequence(); return err },
		func(tx *alder.Tx) error { return mixed(tx).Put([]byte("frames"), bytes.Repeat([]byte("block "), 3000)) },
		func(tx *alder.Tx) error {
			return mixed(tx).Put([]byte("large"), bytes.Repeat([]byte("by reference. "), 8000))
		},
		func(tx *alder.Tx) error { return nil },
		func(tx *alder.Tx) error {
			if err := tx.SetDurability(alder.DurabilityLazy); err != nil {
				return err
			}
			return mixed(tx).Put([]byte("lazy"), bytes.Repeat([]byte("by reference too. "), 8000))
		},
	} {
		require.NoError(t, db.Update(fn))
	}
	for i := range 20 {
		require.NoError(t, db.Update(func(tx *alder.Tx) error { return mixed(tx).Put(fmt.Appendf(nil, "small %d", i), []byte("put")) }))
	}
}

// goldenList lists a content, one line for each key: long ones by their hash.
func goldenList(t *testing.T, db *alder.DB) string {
	t.Helper()
	var w strings.Builder
	short := func(b []byte) string {
		if len(b) <= 40 {
			return fmt.Sprintf("%q", b)
		}
		return fmt.Sprintf("%d bytes, sha256 %x", len(b), sha256.Sum256(b))
	}
	var bucket func(name []byte, b *alder.Bucket, indent string) error
	bucket = func(name []byte, b *alder.Bucket, indent string) error {
		fmt.Fprintf(&w, "%sbucket %s, sequence %d, %d keys\n", indent, short(name), b.Sequence(), b.Len())
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return bucket(k, b.Bucket(k), indent+"  ")
			}
			fmt.Fprintf(&w, "%s  %s: %s\n", indent, short(k), short(v))
			return nil
		})
	}
	require.NoError(t, db.View(func(tx *alder.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return tx.ForEach(func(name []byte, b *alder.Bucket) error { return bucket(name, b, "") })
	}))
	return w.String()
}

// goldenPack compresses b; the same bytes give the same result.
func goldenPack(t *testing.T, b []byte) []byte {
	t.Helper()
	var w bytes.Buffer
	z, err := gzip.NewWriterLevel(&w, gzip.BestCompression)
	require.NoError(t, err)
	_, err = z.Write(b)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return w.Bytes()
}

func goldenUnpack(t *testing.T, file string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(goldenRead(t, file)))
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = b.ReadFrom(z)
	require.NoError(t, err)
	return b.Bytes()
}

// Ensures that stores of every format version so far open, hold what they held when they were written, and can be
// written to.
func TestGolden(t *testing.T) {
	dir := filepath.Join("testdata", "golden")
	if *update {
		goldenUpdate(t, dir)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.db.gz"))
	require.NoError(t, err)
	for _, s := range goldenStores {
		require.Contains(t, files, goldenFile(dir, s.name)+".gz", "run the test with -update")
	}
	for _, packed := range files {
		base := strings.TrimSuffix(packed, ".gz")
		t.Run(filepath.Base(base), func(t *testing.T) {
			want := string(goldenUnpack(t, base+".txt.gz"))
			file := filepath.Join(tempDir(t), "golden.db")
			require.NoError(t, os.WriteFile(file, goldenUnpack(t, packed), 0o600))

			db, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: true})
			require.NoError(t, err)
			require.Equal(t, want, goldenList(t, db), "read-only")
			require.NoError(t, db.Close())

			db = goldenOpen(t, file, 0)
			require.Equal(t, want, goldenList(t, db))
			require.NoError(t, db.Update(func(tx *alder.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("words"))
				if err != nil {
					return err
				}
				return b.Put([]byte("one more"), []byte("yes"))
			}))
			require.NoError(t, db.Close())
			require.Equal(t, "yes", openAt(t, file).get("words", "one more"))
		})
	}
}

func goldenFile(dir, name string) string {
	return filepath.Join(dir, fmt.Sprintf("v%d-%s.db", goldenVersion, name))
}

// goldenUpdate makes the missing files of the current version.
func goldenUpdate(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, s := range goldenStores {
		base := goldenFile(dir, s.name)
		if _, err := os.Stat(base + ".gz"); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		image := s.make(t, filepath.Join(tempDir(t), "store.db"))
		copied := filepath.Join(tempDir(t), "copy.db")
		require.NoError(t, os.WriteFile(copied, image, 0o600))
		db := goldenOpen(t, copied, 0)
		list := goldenList(t, db)
		require.NoError(t, db.Close())
		require.NoError(t, os.WriteFile(base+".gz", goldenPack(t, image), 0o644))
		require.NoError(t, os.WriteFile(base+".txt.gz", goldenPack(t, []byte(list)), 0o644))
	}
}
