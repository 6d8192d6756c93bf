package alder

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// forgetfulDisk is a disk whose page cache can be dropped: what a failed write has left there alone is gone then.
type forgetfulDisk struct{ *simDisk }

func (d forgetfulDisk) dropCache() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.cache) - 1; i >= 0; i-- { // the last one takes the place of one that goes
		if s := d.cache[i]; !s.dirty {
			d.dropIf(s, true)
		}
	}
	return nil
}

func (d forgetfulDisk) keepInMemory() error { return nil }

// Ensures that an open after a failure goes on from a meta page that is on the medium, and that no crash in the open or in the first commits after it
// loses what was acknowledged.
//
// A failed write of a meta page may leave it in the page cache only. The open chose it there, and then had the cache dropped; what was read again to be
// confirmed was the slot's older meta, which the medium had too. So the store went on from a meta that was nowhere any more: it wrote
// to pages of the one that was really there, and then over that.
func TestOpen_ChosenMetaIsNotDropped(t *testing.T) {
	put := func(db *DB, key string) error {
		return db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			return errors.Join(err, b.Put([]byte(key), make([]byte, 3000)))
		})
	}
	dropped := 0 // cases in which a meta page was in the page cache only
	for call := range 12 {
		for seed := range uint64(12) {
			d := newSimDisk(simConfig{})
			db, err := openStorage(forgetfulDisk{d}, &Options{background: func(func()) {}})
			require.NoError(t, err)
			d.failing(failOnce(isOp(simWriteDurable), call, simFault{err: syscall.EIO, kind: simFailFlush, seed: seed}))
			var acknowledged []string
			for i := range 6 {
				key := fmt.Sprintf("k%d", i)
				if put(db, key) != nil {
					break
				}
				acknowledged = append(acknowledged, key)
				if i%2 == 1 && db.Sync() == nil {
					db.pager.checkpointInBackground()
				}
			}
			_ = db.Close() // it may have failed
			d.reopen()

			look := func(c simCall) {
				left := d.crash(c, crashFirstPower)
				there := keysOn(t, left, &Options{})
				require.Subset(t, there, acknowledged, "call %d, seed %d, crash at %v", call, seed, c)
				left.release()
			}
			d.onCall = func(c simCall) {
				if c.mutates() {
					look(c)
				}
			}
			was, err := readMetas(d)
			require.NoError(t, err)
			db, err = openStorage(forgetfulDisk{d}, &Options{background: func(func()) {}})
			require.NoError(t, err)
			slot := make([]byte, metaSize)
			_, err = d.readMedium(slot, db.pager.offset(pgid(db.pager.slot)))
			require.NoError(t, err)
			m, err := decodeMeta(slot, db.pager.slot)
			require.NoError(t, err, "call %d, seed %d", call, seed)
			require.Equal(t, db.pager.durable, *m, "call %d, seed %d", call, seed)
			if was.meta.sequence > m.sequence {
				dropped++
			}
			for i := range 4 {
				key := fmt.Sprintf("later%d", i)
				require.NoError(t, put(db, key))
				acknowledged = append(acknowledged, key)
			}
			d.onCall = nil
			require.NoError(t, db.Close())
			require.Empty(t, d.misuse())
			d.release()
		}
	}
	require.Positive(t, dropped)
}

// forgottenDisk is a forgetfulDisk that counts how often its cache is dropped before anything is written.
type forgottenDisk struct {
	forgetfulDisk
	drops int
}

func (d *forgottenDisk) dropCache() error {
	if d.seq == 0 {
		d.drops++
	}
	return d.forgetfulDisk.dropCache()
}

// Ensures that the creation of a store that has failed begins anew with a cache that was dropped, as after any other failure: it wrote to the same
// pages again, and on ext4 those, the root and what the first commit puts behind it, could have read as zeros after a restart.
func TestCreate_AfterFailure(t *testing.T) {
	failed := 0
	for _, op := range []simOp{simSync, simWriteDurable} {
		for call := range 3 {
			d := newSimDisk(simConfig{})
			d.fault = failOnce(isOp(op), call, simFault{err: syscall.EIO, kind: simFailFlush, seed: 1})
			_, err := openStorage(forgetfulDisk{d}, &Options{})
			if err == nil || d.reopen().size() == 0 {
				continue
			}
			if fresh, err := unfinishedStore(d); err != nil || !fresh {
				continue
			}
			failed++
			d.seq = 0 // nothing is written yet
			again := &forgottenDisk{forgetfulDisk: forgetfulDisk{d}}
			db, err := openStorage(again, &Options{})
			require.NoError(t, err)
			require.Equal(t, 1, again.drops, "%v %d", op, call)
			require.NoError(t, db.Close())
		}
	}
	require.Greater(t, failed, 2)
}

// Ensures that an open whose first sync fails has the cache dropped: what could not be written is called clean now, and the next open will not be told.
func TestOpen_SyncFails(t *testing.T) {
	d := newSimDisk(simConfig{})
	db, err := openStorage(d, &Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	d.reopen()
	d.fault = failOnce(isOp(simSync), 0, simFault{err: syscall.EIO, kind: simFailFlush, seed: 1})
	d.seq = 0 // nothing is written yet
	st := &forgottenDisk{forgetfulDisk: forgetfulDisk{d}}
	_, err = openStorage(st, &Options{})
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, 1, st.drops)
}
