package alder

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// shownDisk is what a read-only open makes of a disk: changes are its own, and only the medium is the disk's.
type shownDisk struct {
	*simDisk
	medium *simDisk
}

func (s shownDisk) readMedium(p []byte, off int64) (bool, error) { return s.medium.readMedium(p, off) }

// keysOn opens a store, and returns what is in its bucket.
func keysOn(t *testing.T, st storage, o *Options) (keys []string) {
	t.Helper()
	db, err := openStorage(st, o)
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, _ []byte) error {
			keys = append(keys, string(k))
			return nil
		})
	}))
	return keys
}

// Ensures that what a read-only open shows cannot be lost later, whatever a failed write has left in the page cache.
//
// A failed append may leave its frame in pages that the system calls clean. A read-only open found it there, after a sync that
// succeeded, and showed the transaction; then the power failed, and it was gone. The same came of a meta page that a failed write had left in
// the page cache: that of an orderly close, with transactions that were in no log. Found by TestDiskErrors of faultdisk, on ext4 and xfs.
func TestOpen_ShowsWhatTheMediumHas(t *testing.T) {
	differ := 0 // cases in which the page cache has more than the medium
	for call := range 8 {
		for seed := range uint64(24) {
			d := newSimDisk(simConfig{})
			db, err := openStorage(d, &Options{NoSync: seed%2 == 0, background: func(func()) {}})
			require.NoError(t, err)
			d.failing(failOnce(isOp(simWriteDurable), call, simFault{err: syscall.EIO, kind: simFailFlush, seed: seed}))
			acknowledged := []string(nil)
			for i := range 6 {
				key := fmt.Sprintf("k%d", i)
				err := db.Update(func(tx *Tx) error {
					b, err := tx.CreateBucketIfNotExists([]byte("b"))
					return errors.Join(err, b.Put([]byte(key), []byte("value")))
				})
				if err != nil {
					require.ErrorIs(t, err, ErrFailed)
					break
				}
				if !db.NoSync {
					acknowledged = append(acknowledged, key)
				}
			}
			_ = db.Close() // it may have failed
			d.reopen()
			require.NoError(t, d.sync())

			shown := keysOn(t, shownDisk{loadSimDisk(simConfig{}, d.image()), d}, &Options{ReadOnly: true})
			left := d.crash(simCall{}, crashFirstPower)
			there := keysOn(t, left, &Options{})
			if cached := keysOn(t, loadSimDisk(simConfig{}, d.image()), &Options{}); len(cached) > len(there) {
				differ++
			}
			require.Subset(t, there, shown, "call %d, seed %d", call, seed)
			require.Subset(t, there, acknowledged, "call %d, seed %d", call, seed)
			for _, disk := range []*simDisk{d, left} {
				require.Empty(t, disk.misuse())
				disk.release()
			}
		}
	}
	require.Positive(t, differ)
}

// Ensures that a store that has failed leaves word for the next open, which has the page cache dropped before it writes anything, and that this
// comes to an end with it. What that is good for is seen on a disk that fails: TestDiskErrors_WrittenAgain of faultdisk.
func TestOpen_AfterFailure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.alder")
	hasFailed := func() bool {
		st, _, err := openFileStorage(file, 0, fileOptions{readOnly: true})
		require.NoError(t, err)
		defer st.close()
		c, err := readMetas(st)
		require.NoError(t, err)
		buf := make([]byte, c.meta.pageSize)
		require.NoError(t, st.readAt(buf, int64(ownerPage)*int64(c.meta.pageSize)))
		return ownerFailed(buf)
	}
	put := func(db *DB, key string) error {
		return db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			return errors.Join(err, b.Put([]byte(key), make([]byte, 10_000)))
		})
	}
	for i := range 3 {
		db, err := Open(file, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, put(db, fmt.Sprint(i)))
		require.False(t, db.pager.hasFailed(db.pager.pageSize))
		require.ErrorIs(t, db.pager.fail("testing", syscall.EIO), ErrFailed)
		require.ErrorIs(t, put(db, "lost"), ErrFailed)
		require.ErrorIs(t, db.Close(), ErrFailed)
		require.True(t, hasFailed())
	}
	db, err := Open(file, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.False(t, hasFailed())
	st, _, err := openFileStorage(file, 0, fileOptions{})
	require.NoError(t, err)
	require.NoError(t, st.dropCache())
	require.NoError(t, st.close())
	st, _, err = openFileStorage(file, 0, fileOptions{readOnly: true})
	require.NoError(t, err)
	require.Equal(t, []string{"0", "1", "2"}, keysOn(t, st, &Options{ReadOnly: true}))
}
