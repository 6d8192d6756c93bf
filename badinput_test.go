package alder_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// openBoth tries to open the file for writing and read-only and gives the errors to check; no attempt may take
// long, succeed, or change the file.
func openBoth(t *testing.T, file string, check func(t *testing.T, err error)) {
	t.Helper()
	before, readErr := os.ReadFile(file)
	for _, readOnly := range []bool{false, true} {
		within(t, 20*time.Second, "Open", func() {
			db, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: readOnly})
			if err == nil {
				_ = db.Close()
			}
			if err == nil || db != nil {
				t.Errorf("read-only %v: got a store (nil: %v) and error %v", readOnly, db == nil, err)
				return
			}
			check(t, err)
		})
		if readErr == nil {
			after, err := os.ReadFile(file)
			require.NoError(t, err)
			requireBytes(t, before, after, "file after a refused open, read-only %v", readOnly)
		}
	}
}

// isInvalid wants ErrInvalid and not the errors that say more than is known.
func isInvalid(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, alder.ErrInvalid)
	require.NotErrorIs(t, err, alder.ErrBoltFile)
	require.NotErrorIs(t, err, alder.ErrVersionMismatch)
}

// Ensures that a file which is no store is said to be none, and stays as it is.
func TestOpen_Foreign(t *testing.T) {
	random := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	for name, content := range map[string][]byte{
		"one byte":      {7},
		"short text":    []byte("hello\n"),
		"text":          bytes.Repeat([]byte("Lorem ipsum dolor sit amet. "), 1000),
		"almost a page": random[:4095],
		"a page":        random[:4096],
		"random":        random,
		"zeros":         make([]byte, 1<<20),
		"sqlite":        append([]byte("SQLite format 3\x00"), make([]byte, 8192)...),
		"gzip":          append([]byte{0x1f, 0x8b, 8}, random[:20_000]...),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(tempDir(t), "foreign")
			require.NoError(t, os.WriteFile(file, content, 0o600))
			openBoth(t, file, isInvalid)
		})
	}
}

// Ensures that a bbolt store is recognised, that the error says so, and that the file stays as it is.
func TestOpen_BoltFile(t *testing.T) {
	content, err := os.ReadFile("testdata/bolt.db")
	require.NoError(t, err)
	file := filepath.Join(tempDir(t), "bolt.db")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	openBoth(t, file, func(t *testing.T, err error) {
		require.ErrorIs(t, err, alder.ErrBoltFile)
		require.ErrorIs(t, err, alder.ErrInvalid)
		require.ErrorContains(t, err, "bbolt")
	})
}

// Ensures that an empty file becomes a store when it is opened for writing, and is an error read-only.
func TestOpen_EmptyFile(t *testing.T) {
	file := filepath.Join(tempDir(t), "empty")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: true})
	require.ErrorIs(t, err, alder.ErrInvalid)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Zero(t, info.Size())
	openAt(t, file).put("b", "k", "v")
}

// Ensures that a small file of zeros, which a crash while a store is made can leave, is made a store.
func TestOpen_ZeroFile(t *testing.T) {
	for _, size := range []int{1, 4096, 20_000, 32 << 10} {
		file := filepath.Join(tempDir(t), "zeros")
		require.NoError(t, os.WriteFile(file, make([]byte, size), 0o600))
		_, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: true})
		require.ErrorIs(t, err, alder.ErrInvalid)
		openAt(t, file).put("b", "k", "v")
	}
}

// storeFile makes a small store with a bit of everything, closes it and returns its file with its content.
func storeFile(t *testing.T, opts ...option) (file string, content []byte, o *oracle) {
	t.Helper()
	db := openTemp(t, append(opts, withNoSync())...)
	db.leaveUnchecked()
	o = &oracle{}
	db.update(func(tx *alder.Tx) {
		for _, name := range []string{"a", "b"} {
			sub, err := o.create(name)
			require.NoError(t, err)
			b, err := tx.CreateBucket([]byte(name))
			require.NoError(t, err)
			for i := range 300 {
				v := filled(i%120, byte(i))
				if i%100 == 50 {
					v = filled(9000, byte(i))
				}
				require.NoError(t, sub.put(string(key(i)), string(v)))
				require.NoError(t, b.Put(key(i), v))
			}
		}
	})
	db.update(func(tx *alder.Tx) {
		for i := range 100 {
			require.NoError(t, o.at("a").sub.delete(string(key(2*i))))
			require.NoError(t, tx.Bucket([]byte("a")).Delete(key(2*i)))
		}
		small, err := o.at("b").sub.create("small")
		require.NoError(t, err)
		require.NoError(t, small.put("k", "v"))
		require.NoError(t, mustCreate(t, tx.Bucket([]byte("b")), "small").Put([]byte("k"), []byte("v")))
	})
	db.mustClose()
	content, err := os.ReadFile(db.file)
	require.NoError(t, err)
	return db.file, content, o
}

// Ensures that a file of another format version is refused with both versions named.
func TestOpen_OtherVersion(t *testing.T) {
	file, content, _ := storeFile(t)
	magic := []byte("alderkv\x00")
	found := 0
	for at := 0; ; {
		i := bytes.Index(content[at:], magic)
		if i < 0 {
			break
		}
		at += i + len(magic)
		require.EqualValues(t, 3, binary.LittleEndian.Uint32(content[at:]))
		binary.LittleEndian.PutUint32(content[at:], 77)
		found++
	}
	require.Positive(t, found)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	openBoth(t, file, func(t *testing.T, err error) {
		require.ErrorIs(t, err, alder.ErrVersionMismatch)
		require.ErrorContains(t, err, "77")
		require.ErrorContains(t, err, "versions 1 to 3")
	})
}

// readAll opens the file and reads everything in it, and says what went wrong on the way. It must never panic,
// hang, or return other content than the oracle's without an error.
func readAll(t *testing.T, file string, readOnly bool, o *oracle) (failed error) {
	t.Helper()
	within(t, 20*time.Second, "reading a damaged store", func() {
		db, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: readOnly, NoSync: true})
		if err != nil {
			failed = err
			return
		}
		defer func() {
			if err := db.Close(); err != nil && failed == nil {
				failed = err
			}
		}()
		failed = db.View(func(tx *alder.Tx) error {
			for err := range tx.Check() {
				return err // the rest of the check must end quietly
			}
			if err := o.compareRoot(tx); err != nil {
				if tx.Err() == nil {
					t.Errorf("wrong answer without an error: %v", err)
				}
				return err
			}
			return nil
		})
	})
	return failed
}

// requireDamage fails the test if the error is not one of those that a damaged file may give.
func requireDamage(t *testing.T, err error, what string, args ...any) {
	t.Helper()
	if err == nil {
		return
	}
	var fault *alder.FaultError
	if !errors.Is(err, alder.ErrCorrupt) && !errors.Is(err, alder.ErrInvalid) && !errors.Is(err, alder.ErrVersionMismatch) &&
		!errors.Is(err, alder.ErrChecksum) && !errors.As(err, &fault) {
		require.FailNow(t, "not an error of damage", "%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// Ensures that a file cut off at any page, or in the middle of one, is an error and not a smaller store.
func TestOpen_Truncated(t *testing.T) {
	file, content, o := storeFile(t)
	for _, readOnly := range []bool{false, true} {
		for n := 1; n < len(content); n += 2048 {
			require.NoError(t, os.WriteFile(file, content[:n], 0o600))
			err := readAll(t, file, readOnly, o)
			requireDamage(t, err, "cut to %d of %d bytes", n, len(content))
			if n < len(content)/2 {
				require.Error(t, err, "cut to %d of %d bytes", n, len(content))
			}
		}
	}
}

// Ensures that a file damaged anywhere, by flipped bytes, zeroed, exchanged or repeated pages, gives an error
// or its true content, and that damage to a page in use is found by the check.
func TestOpen_Damaged(t *testing.T) {
	file, content, o := storeFile(t)
	const page = 4096
	pages := len(content) / page
	r := rand.New(rand.NewPCG(2, 2))
	damages := map[string]func(c []byte, at int){
		"flipped": func(c []byte, at int) { c[at*page+r.IntN(page)] ^= 1 << r.IntN(8) },
		"zeroed":  func(c []byte, at int) { clear(c[at*page : (at+1)*page]) },
		"random": func(c []byte, at int) {
			for i := range page {
				c[at*page+i] = byte(r.Uint32())
			}
		},
		"exchanged": func(c []byte, at int) {
			other := r.IntN(pages)
			copy(c[at*page:(at+1)*page], content[other*page:])
			copy(c[other*page:(other+1)*page], content[at*page:])
		},
		"repeated": func(c []byte, at int) { copy(c[at*page:(at+1)*page], content[r.IntN(pages)*page:]) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			found := 0
			for at := range pages {
				c := bytes.Clone(content)
				damage(c, at)
				if bytes.Equal(c, content) {
					continue
				}
				require.NoError(t, os.WriteFile(file, c, 0o600))
				err := readAll(t, file, at%2 == 0, o)
				requireDamage(t, err, "page %d of %d", at, pages)
				if err != nil {
					found++
				}
			}
			require.Greater(t, found, pages/4, "most pages are in use")
		})
	}
}

// Ensures that a store is not harmed by writing after damage was met: the transaction fails, what was
// readable stays readable.
func TestTx_Commit_DamagedPage(t *testing.T) {
	file, content, o := storeFile(t)
	const page = 4096
	for at := 3; at < len(content)/page; at++ {
		c := bytes.Clone(content)
		c[at*page+page/2] ^= 0x40
		c[at*page+10] ^= 0x01
		require.NoError(t, os.WriteFile(file, c, 0o600))
		before := readable(t, file)
		db, err := alder.Open(file, 0o600, &alder.Options{NoSync: true})
		if err != nil {
			requireDamage(t, err, "page %d", at)
			continue
		}
		err = db.Update(func(tx *alder.Tx) error {
			for _, e := range o.entries {
				b := tx.Bucket([]byte(e.key))
				if b == nil {
					continue
				}
				for i := range 300 {
					if err := b.Put(key(i), []byte("new")); err != nil {
						return err
					}
				}
			}
			return tx.Err()
		})
		requireDamage(t, err, "page %d", at)
		closeErr := db.Close()
		requireDamage(t, closeErr, "page %d, close", at)
		if err != nil {
			require.Equal(t, before, readable(t, file), "page %d: a transaction that failed changed what can be read", at)
		}
	}
}

// Ensures that a store in strict mode finds damage at the next commit, wherever it is, and panics.
func TestDB_StrictMode_Damaged(t *testing.T) {
	file, content, _ := storeFile(t)
	const page = 4096
	panics := 0
	for at := 3; at < len(content)/page; at++ {
		c := bytes.Clone(content)
		c[at*page+page/2] ^= 0x40
		require.NoError(t, os.WriteFile(file, c, 0o600))
		db, err := alder.Open(file, 0o600, &alder.Options{NoSync: true})
		if err != nil {
			requireDamage(t, err, "page %d", at)
			continue
		}
		db.StrictMode = true
		func() {
			defer func() {
				if p := recover(); p != nil {
					require.Contains(t, fmt.Sprint(p), "check fail")
					panics++
				}
			}()
			err := db.Update(func(tx *alder.Tx) error {
				_, err := tx.CreateBucketIfNotExists([]byte("c"))
				return err
			})
			requireDamage(t, err, "page %d", at)
		}()
		_ = db.Close()
	}
	require.Greater(t, panics, len(content)/page/4, "most pages are in use")
}

// Ensures that a copy onto the store's own file is refused, whatever name it is given, and that a copy which
// fails leaves the file that is there.
func TestTx_CopyFile_OntoItself(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", string(filled(100_000, 1)))
	dir := filepath.Dir(db.file)
	db.view(func(tx *alder.Tx) {
		require.Error(t, tx.CopyFile(db.file, 0o600))
		require.Error(t, tx.CopyFile(filepath.Join(dir, ".", "x", "..", filepath.Base(db.file)), 0o600))
	})
	if err := os.Symlink(db.file, filepath.Join(dir, "link")); err == nil {
		db.view(func(tx *alder.Tx) { _ = tx.CopyFile(filepath.Join(dir, "link"), 0o600) })
	}
	db.put("b", "after", "v")
	requireBytes(t, filled(100_000, 1), []byte(db.get("b", "k")), "value")
	db.reopen()
	require.Equal(t, "v", db.get("b", "after"))
}

// readable returns what Lookup still finds in the two buckets of storeFile.
func readable(t *testing.T, file string) map[string]string {
	t.Helper()
	found := map[string]string{}
	db, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: true})
	if err != nil {
		return found
	}
	defer func() { _ = db.Close() }()
	for _, name := range []string{"a", "b"} {
		for i := range 300 {
			_ = db.View(func(tx *alder.Tx) error {
				if b := tx.Bucket([]byte(name)); b != nil {
					if v, err := b.Lookup(key(i)); err == nil && v != nil {
						found[name+"/"+string(key(i))] = string(v)
					}
				}
				return nil
			})
		}
	}
	return found
}

// Ensures that a directory is not opened.
func TestOpen_Directory(t *testing.T) {
	dir := tempDir(t)
	for _, readOnly := range []bool{false, true} {
		_, err := alder.Open(dir, 0o600, &alder.Options{ReadOnly: readOnly})
		var path *fs.PathError
		require.ErrorAs(t, err, &path)
	}
}

// Ensures that a value above the limit is refused without being looked at.
func TestBucket_Put_ValueTooLarge(t *testing.T) {
	if strconv.IntSize == 32 {
		t.Skip("no slice is that long in 32 bits")
	}
	if testing.Short() {
		t.Skip("reserves 2 GiB of address space")
	}
	db := openMemory(t)
	inBucket(t, db, func(b *alder.Bucket) {
		require.ErrorIs(t, b.Put([]byte("k"), make([]byte, alder.MaxValueSize+1)), alder.ErrValueTooLarge)
		require.NoError(t, b.Put([]byte("k"), []byte("v")))
	})
	require.Equal(t, "v", db.get("b", "k"))
}

// Ensures that a store which is open already is refused at once, with an error that says who has it.
func TestOpen_Locked(t *testing.T) {
	db := openTemp(t)
	host, err := os.Hostname()
	require.NoError(t, err)
	for _, readOnly := range []bool{false, true} {
		begin := time.Now()
		_, err = alder.Open(db.file, 0o600, &alder.Options{ReadOnly: readOnly})
		require.Less(t, time.Since(begin), 5*time.Second)
		require.ErrorIs(t, err, alder.ErrLocked)
		require.ErrorIs(t, err, alder.ErrTimeout)
		var lock *alder.LockError
		require.ErrorAs(t, err, &lock)
		require.Equal(t, db.file, lock.Path)
		require.Equal(t, readOnly, lock.ReadOnly)
		require.ErrorContains(t, err, db.file)
		require.ErrorContains(t, err, strconv.Itoa(os.Getpid()))
		require.Contains(t, lock.Holder, strconv.Itoa(os.Getpid()))
		require.Contains(t, lock.Holder, host)
	}
	db.put("b", "k", "v")
}

// Ensures that the errors which name a kind match that kind, and say what is known.
func TestErrors(t *testing.T) {
	corrupt := error(&alder.CorruptionError{Page: 7, Detail: "count is 9000"})
	require.ErrorIs(t, corrupt, alder.ErrCorrupt)
	require.ErrorContains(t, corrupt, "7")
	require.ErrorContains(t, corrupt, "count is 9000")
	cause := errors.New("cause")
	fault := error(&alder.FaultError{Op: "read", Offset: 8192, Err: cause})
	require.ErrorIs(t, fault, cause)
	require.ErrorContains(t, fault, "8192")
	lock := error(&alder.LockError{Path: "x.db", Holder: "process 12"})
	require.ErrorIs(t, lock, alder.ErrLocked)
	require.ErrorIs(t, lock, alder.ErrTimeout)
	require.NotErrorIs(t, lock, alder.ErrCorrupt)
}
