package alder_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// mount mounts a tmpfs of a size for one test.
func mount(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	dir := tempDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Logf("unmount: %v", err)
		}
	})
	return dir
}

// Ensures that a full disk fails the transaction with ENOSPC, that nothing else is lost, that the store goes
// on with what fits, and goes on fully once there is room.
func TestTx_Commit_FullDisk(t *testing.T) {
	for _, batch := range []int{1, 40, 4000} {
		dir := mount(t, "size=2m")
		db := openAt(t, filepath.Join(dir, "store.db"))
		db.put("b", "first", "1")
		reader := db.begin(false)
		committed := 0
		var full error
		for full == nil {
			full = db.Update(func(tx *alder.Tx) error {
				b := tx.Bucket([]byte("b"))
				for i := range batch {
					if err := b.Put(key(committed+i), filled(3000, byte(committed+i))); err != nil {
						return err
					}
				}
				return nil
			})
			if full == nil {
				committed += batch
			}
			require.Less(t, committed, 2000, "the disk does not get full")
		}
		require.ErrorIs(t, full, syscall.ENOSPC, "after %d puts", committed)
		require.NotErrorIs(t, full, alder.ErrFailed)
		db.check()
		readBucket(t, db, func(b *alder.Bucket) {
			require.Equal(t, "1", string(b.Get([]byte("first"))))
			for i := range committed {
				requireBytes(t, filled(3000, byte(i)), b.Get(key(i)), "value %d", i)
			}
			require.EqualValues(t, committed+1, b.Len())
		})
		require.Equal(t, []string{"first"}, keysOf(reader.Bucket([]byte("b"))))
		require.NoError(t, reader.Rollback())

		// Deleting makes room again, and may itself need some.
		for range 3 {
			err := db.Update(func(tx *alder.Tx) error {
				_, err := tx.Bucket([]byte("b")).DeleteRange(key(0), nil)
				return err
			})
			if err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC)
			}
		}
		readBucket(t, db, func(b *alder.Bucket) { require.Equal(t, []string{"first"}, keysOf(b)) })
		inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 100, 3000) })
		db.reopen()
		readBucket(t, db, func(b *alder.Bucket) {
			require.EqualValues(t, 101, b.Len())
		})
	}
}

// Ensures that a full disk at the very first open is an error that leaves no half store in the way of the next.
func TestOpen_FullDisk(t *testing.T) {
	dir := mount(t, "size=1m")
	filler := filepath.Join(dir, "filler")
	require.NoError(t, fillDisk(filler))
	file := filepath.Join(dir, "store.db")
	_, err := alder.Open(file, 0o600, nil)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, os.Remove(filler))
	openAt(t, file).put("b", "k", "v")
}

func fillDisk(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Ensures that a store on a read-only file system can be read, and says what is the matter when it is to be
// written.
func TestOpen_ReadOnlyFileSystem(t *testing.T) {
	dir := mount(t, "size=2m")
	file := filepath.Join(dir, "store.db")
	db := openAt(t, file)
	db.put("b", "k", "v")
	db.mustClose()
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err := alder.Open(file, 0o600, nil)
	require.ErrorIs(t, err, syscall.EROFS)
	_, err = alder.Open(filepath.Join(dir, "new.db"), 0o600, nil)
	require.ErrorIs(t, err, syscall.EROFS)
	db.options.ReadOnly = true
	db.open()
	require.Equal(t, "v", db.get("b", "k"))
}
