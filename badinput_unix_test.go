//go:build unix

package alder_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that a named pipe is refused and not waited for.
func TestOpen_FIFO(t *testing.T) {
	file := filepath.Join(tempDir(t), "fifo")
	require.NoError(t, syscall.Mkfifo(file, 0o600))
	for _, readOnly := range []bool{false, true} {
		within(t, 20*time.Second, "opening a FIFO", func() {
			_, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: readOnly})
			if err == nil {
				t.Error("a FIFO was opened")
			}
		})
	}
}

// Ensures that a device is refused.
func TestOpen_Device(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		_, err := alder.Open("/dev/null", 0o600, &alder.Options{ReadOnly: readOnly})
		require.Error(t, err)
	}
}

// Ensures that a file without permission is the system's error, and that one that may only be read can be
// opened read-only.
func TestOpen_Permission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	db := openTemp(t)
	db.put("b", "k", "v")
	db.mustClose()
	require.NoError(t, os.Chmod(db.file, 0o000))
	for _, readOnly := range []bool{false, true} {
		_, err := alder.Open(db.file, 0o600, &alder.Options{ReadOnly: readOnly})
		require.ErrorIs(t, err, fs.ErrPermission)
	}
	require.NoError(t, os.Chmod(db.file, 0o400))
	_, err := alder.Open(db.file, 0o600, nil)
	require.ErrorIs(t, err, fs.ErrPermission)
	db.options.ReadOnly = true
	db.open()
	require.Equal(t, "v", db.get("b", "k"))
	db.mustClose()
	db.options.ReadOnly = false
	require.NoError(t, os.Chmod(db.file, 0o600))
}

// Ensures that a commit to a file that was removed or replaced says so, that reads of the open store go on, and
// that the file which took its place is left alone.
func TestDB_Removed(t *testing.T) {
	for _, replace := range []bool{false, true} {
		db := openTemp(t)
		db.leaveUnchecked()
		db.put("b", "k", "v")
		if replace {
			require.NoError(t, os.WriteFile(db.file+".new", []byte("another file"), 0o600))
			require.NoError(t, os.Rename(db.file+".new", db.file))
		} else {
			require.NoError(t, os.Remove(db.file))
		}
		err := db.Update(func(tx *alder.Tx) error { return tx.Bucket([]byte("b")).Put([]byte("k"), []byte("w")) })
		require.ErrorIs(t, err, alder.ErrRemoved)
		require.Equal(t, "v", db.get("b", "k"))
		require.ErrorIs(t, db.Sync(), alder.ErrRemoved)
		_ = db.DB.Close()
		db.DB = nil
		if replace {
			content, err := os.ReadFile(db.file)
			require.NoError(t, err)
			require.Equal(t, "another file", string(content))
		}
	}
}

// Ensures that a file truncated by somebody else while it is open gives errors, in every way of reading and
// writing, and no crash.
func TestDB_TruncatedWhileOpen(t *testing.T) {
	read := map[string]func(tx *alder.Tx, b *alder.Bucket) error{
		"Get": func(_ *alder.Tx, b *alder.Bucket) error {
			for i := range 3000 {
				b.Get(key(i))
			}
			return nil
		},
		"Lookup": func(_ *alder.Tx, b *alder.Bucket) error {
			for i := range 3000 {
				if _, err := b.Lookup(key(i)); err != nil {
					return err
				}
			}
			return nil
		},
		"Cursor": func(_ *alder.Tx, b *alder.Bucket) error { keysOf(b); return nil },
		"Backward": func(_ *alder.Tx, b *alder.Bucket) error {
			for range b.Backward() {
			}
			return nil
		},
		"ForEach": func(_ *alder.Tx, b *alder.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		},
		"At": func(_ *alder.Tx, b *alder.Bucket) error {
			for i := range uint64(3000) {
				b.At(i)
			}
			return nil
		},
		"Rank": func(_ *alder.Tx, b *alder.Bucket) error {
			for i := range 3000 {
				b.Rank(key(i))
				b.Count(key(i), nil)
			}
			return nil
		},
		"GetMulti": func(_ *alder.Tx, b *alder.Bucket) error {
			var all [][]byte
			for i := range 3000 {
				all = append(all, key(i))
			}
			b.GetMulti(all, nil)
			return nil
		},
		"WriteTo": func(tx *alder.Tx, _ *alder.Bucket) error { _, err := tx.WriteTo(io.Discard); return err },
		"Check":   func(tx *alder.Tx, _ *alder.Bucket) error { return checkTx(tx) },
		"Stats":   func(_ *alder.Tx, b *alder.Bucket) error { b.Stats(); return nil },
		"Inspect": func(tx *alder.Tx, _ *alder.Bucket) error { tx.Inspect(); return nil },
	}
	for name, use := range read {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/reader began before %v", name, before), func(t *testing.T) {
				db := truncatedWhileOpen(t, before, func(tx *alder.Tx) error {
					b := tx.Bucket([]byte("b"))
					if b == nil {
						return tx.Err()
					}
					return errors.Join(use(tx, b), tx.Err())
				})
				_ = db.DB.Close()
				db.DB = nil
			})
		}
	}
	t.Run("Update", func(t *testing.T) {
		db := openTemp(t)
		db.leaveUnchecked()
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 3000, 200) })
		require.NoError(t, os.Truncate(db.file, 3*4096))
		within(t, 30*time.Second, "Update", func() {
			err := db.Update(func(tx *alder.Tx) error {
				b := tx.Bucket([]byte("b"))
				if b == nil {
					return tx.Err()
				}
				for i := range 3000 {
					if err := b.Put(key(i), []byte("new")); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil {
				t.Error("committed into a truncated file")
			}
		})
		_ = db.DB.Close()
		db.DB = nil
	})
}

// truncatedWhileOpen cuts an open store's file to its first pages, before or after a reader begins, and wants an
// error that says so from the reader.
func truncatedWhileOpen(t *testing.T, before bool, read func(tx *alder.Tx) error) *testDB {
	t.Helper()
	db := openTemp(t)
	db.leaveUnchecked()
	inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 3000, 200) })
	cut := func() {
		if err := os.Truncate(db.file, 3*4096); err != nil {
			t.Error(err)
		}
	}
	within(t, 30*time.Second, "reading", func() {
		if !before {
			cut()
		}
		err := db.View(func(tx *alder.Tx) error {
			if before {
				cut()
			}
			return read(tx)
		})
		var fault *alder.FaultError
		if !errors.Is(err, alder.ErrCorrupt) && !errors.As(err, &fault) {
			t.Errorf("reading a truncated file: %v", err)
		}
	})
	return db
}

// Ensures that a store which another process has open is refused with that process's number, and that it
// opens, whole, when that process is killed.
func TestOpen_LockedByProcess(t *testing.T) {
	const fileVar = "ALDER_TEST_HOLD"
	if file := os.Getenv(fileVar); file != "" {
		holdStore(file)
		return
	}
	db := openTemp(t)
	db.put("b", "k", "v")
	db.mustClose()
	child := exec.Command(os.Args[0], "-test.run=^TestOpen_LockedByProcess$")
	child.Env = append(os.Environ(), fileVar+"="+db.file)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	ended := false
	defer func() {
		if !ended {
			_ = child.Process.Kill()
			_ = child.Wait()
		}
	}()
	for lines := bufio.NewScanner(out); ; {
		require.True(t, lines.Scan(), "the child ended early")
		if strings.Contains(lines.Text(), "holding") {
			break
		}
	}
	for _, readOnly := range []bool{false, true} {
		_, err = alder.Open(db.file, 0o600, &alder.Options{ReadOnly: readOnly})
		var lock *alder.LockError
		require.ErrorAs(t, err, &lock)
		require.Contains(t, lock.Holder, strconv.Itoa(child.Process.Pid))
	}
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	ended = true
	db.open()
	require.Equal(t, "held", db.get("b", "k"))
}

// holdStore is the child's part: it opens the store, commits, leaves a transaction open and waits to be killed.
func holdStore(file string) {
	db, err := alder.Open(file, 0o600, &alder.Options{Timeout: 10 * time.Second})
	if err == nil {
		err = db.Update(func(tx *alder.Tx) error { return tx.Bucket([]byte("b")).Put([]byte("k"), []byte("held")) })
	}
	if err != nil {
		panic(err)
	}
	tx, err := db.Begin(true)
	if err != nil {
		panic(err)
	}
	_ = tx.Bucket([]byte("b")).Put([]byte("k"), []byte("never committed"))
	_, _ = os.Stdout.WriteString("holding\n")
	time.Sleep(time.Minute)
}
