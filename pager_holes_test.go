package alder

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// punched is a store on a simulated disk that has holes: it was full, every value but one of eight was deleted, and the blocks of what is free went back.
func punched(t *testing.T, o *Options) (*simDisk, *DB) {
	t.Helper()
	d := newSimDisk(simConfig{capacity: 8 << 20})
	o.shrinkTime, o.punchLeast, o.NoAutoShrink = time.Hour, 8192, true
	o.background = func(f func()) { f() } // the tests look at the freelist
	db, err := openStorage(d, o)
	require.NoError(t, err)
	putMany(t, db, 0, 1500, 1)
	require.NoError(t, db.Sync())
	require.NoError(t, db.Update(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		for i := range 1500 {
			if i%8 != 0 || i > 700 && i < 1300 {
				if err := b.Delete(fmt.Appendf(nil, "%05d", i)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	for range 2 { // what only the last checkpoint, or the last snapshot, has is free after the next
		putMany(t, db, 0, 1, 2)
		db.pager.checkpointInBackground()
		require.NoError(t, db.View(func(*Tx) error { return nil }))
	}
	punch(t, db)
	require.Greater(t, db.pager.fl.holes.count, 300)
	require.Empty(t, d.misuse())
	return d, db
}

func punch(t *testing.T, db *DB) {
	t.Helper()
	require.NoError(t, (&shrinker{db: db, pg: db.pager, ctx: t.Context()}).punch())
}

func putMany(t *testing.T, db *DB, from, to int, version byte) {
	t.Helper()
	require.NoError(t, tryPutMany(db, from, to, version))
}

func tryPutMany(db *DB, from, to int, version byte) error {
	return db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		value := make([]byte, 2500)
		for i := range value {
			value[i] = version
		}
		for i := from; i < to; i++ {
			if err := b.Put(fmt.Appendf(nil, "%05d", i), value); err != nil {
				return err
			}
		}
		return nil
	})
}

func wholeAndClosed(t *testing.T, db *DB, d *simDisk) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}))
	require.NoError(t, db.Close())
	require.Empty(t, d.misuse())
}

// Ensures that no page is written that has no blocks, whatever is done in a store with holes: single pages, runs, the log, the free map, the end of the file,
// undone transactions; also when it was opened again, and does not know where the holes are; and that the simulated disk would notice. (Invariant 24)
func TestHoles_NothingWritten(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		for seed := range uint64(6) {
			d, db := punched(t, &Options{NoSync: seed%2 == 0})
			rng := rand.New(rand.NewPCG(seed, 14))
			for step := range 60 {
				if reopen && step%15 == 0 {
					require.NoError(t, db.Close())
					var err error
					db, err = openStorage(d.reopen(), &Options{shrinkTime: time.Hour, punchLeast: 8192, NoAutoShrink: true, background: func(f func()) { f() }})
					require.NoError(t, err)
				}
				from := rng.IntN(3000)
				switch rng.IntN(8) {
				case 0:
					require.NoError(t, db.Update(func(tx *Tx) error {
						return tx.Bucket([]byte("b")).Put([]byte("long"), make([]byte, rng.IntN(300_000)))
					}))
				case 1:
					tx, err := db.Begin(true)
					require.NoError(t, err)
					for i := range 60 {
						require.NoError(t, tx.Bucket([]byte("b")).Put(fmt.Appendf(nil, "x%05d", i), make([]byte, 3000)))
					}
					require.NoError(t, tx.Rollback())
				case 2:
					require.NoError(t, db.Update(func(tx *Tx) error {
						_, err := tx.Bucket([]byte("b")).DeleteRange(fmt.Appendf(nil, "%05d", from), fmt.Appendf(nil, "%05d", from+500))
						return err
					}))
				case 3:
					db.pager.checkpointInBackground()
				case 4:
					punch(t, db)
				case 5:
					_, err := db.Shrink(context.Background(), 0, nil)
					require.NoError(t, err)
				default:
					putMany(t, db, from, from+rng.IntN(120), byte(step))
				}
				require.Empty(t, d.misuse(), "seed %d, step %d", seed, step)
			}
			f := db.pager.fl
			bare := 0
			for i := range f.chunks {
				c, err := f.chunk(i)
				require.NoError(t, err)
				for w := range c.bare {
					require.Zero(t, c.bare[w]&^c.words[w], "a page is bare and in use")
					for b := range 64 {
						bare += int(c.bare[w] >> b & 1)
					}
				}
			}
			require.Equal(t, bare, f.holes.count)
			wholeAndClosed(t, db, d)
		}
	}
	d, db := punched(t, &Options{})
	db.pager.fl.holes = holes{} // all is forgotten
	for i := range db.pager.fl.chunks {
		db.pager.fl.chunks[i].bare = nil
	}
	putMany(t, db, 3000, 4000, 1)
	require.Contains(t, d.misuse(), "has no blocks")
}

// Ensures that holes at the end of the file are known when the high water mark has been lowered over them and the file was not cut, as after a crash in
// the middle of a shrink, and goes up again.
func TestHoles_End(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		d, db := punched(t, &Options{})
		require.NoError(t, db.Update(func(tx *Tx) error {
			_, err := tx.Bucket([]byte("b")).DeleteRange([]byte("00600"), nil)
			return err
		}))
		require.NoError(t, db.View(func(*Tx) error { return nil }))
		putMany(t, db, 0, 1, 3)
		db.pager.checkpointInBackground()
		require.NoError(t, db.View(func(*Tx) error { return nil }))
		punch(t, db)
		before := db.pager.fl.highWater
		require.NoError(t, (&shrinker{db: db, pg: db.pager, ctx: t.Context(), limit: before / 2}).lowCheckpoint())
		require.NoError(t, db.pager.checkpointWith(t.Context(), func() (bool, error) { return true, db.pager.lowerTail(0) }))
		require.Less(t, db.pager.fl.highWater, before*3/4)
		if reopen { // without the end of an orderly close, which would cut the file
			d.mu.Lock()
			next := d.killed(simCall{}, false, 0)
			d.mu.Unlock()
			d = next
			var err error
			db, err = openStorage(d, &Options{shrinkTime: time.Hour, NoAutoShrink: true, background: func(f func()) { f() }})
			require.NoError(t, err)
		}
		putMany(t, db, 2000, 3200, 1)
		require.Greater(t, db.pager.fl.highWater, before*3/4)
		wholeAndClosed(t, db, d)
	}
}

// Ensures that on a full disk transactions that need blocks for holes are rolled back, that those that find pages with blocks commit, that the store stays whole, and goes on
// when there is room.
func TestHoles_FullDisk(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		d, db := punched(t, &Options{})
		if reopen {
			require.NoError(t, db.Close())
			var err error
			db, err = openStorage(d.reopen(), &Options{shrinkTime: time.Hour, NoAutoShrink: true, background: func(f func()) { f() }})
			require.NoError(t, err)
		}
		d.cfg.full = true
		d.cfg.capacity = d.sizeNow
		failed := 0
		for i := range 40 {
			err := tryPutMany(db, 3000+40*i, 3040+40*i, 1)
			if err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC)
				failed++
			}
			require.NoError(t, db.Failed())
			db.pager.checkpointInBackground()
			require.Empty(t, d.misuse())
		}
		require.Greater(t, failed, 20)
		d.cfg.full = false
		putMany(t, db, 4000, 4100, 1)
		wholeAndClosed(t, db, d)
	}
}

// Ensures that a file really takes less room on the disk, keeps its length and its content, takes the room again when it is used, and that the mark in
// the meta is gone when there are no holes any more.
func TestDB_Shrink_PunchHoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, &Options{NoSync: true, NoAutoShrink: true, PunchHoles: true})
	require.NoError(t, err)
	putMany(t, db, 0, 6000, 1)
	require.NoError(t, db.Sync())
	tx, err := db.Begin(false) // it holds the end of the file, so that this cannot be cut
	require.NoError(t, err)
	for i := range 12 {
		putMany(t, db, 500*i, 500*i+500, 2)
	}
	require.NoError(t, db.Update(func(tx *Tx) error {
		_, err := tx.Bucket([]byte("b")).DeleteRange([]byte("00100"), []byte("05900"))
		return err
	}))
	require.NoError(t, db.Sync())
	out, err := db.Shrink(t.Context(), 1<<40, nil) // nothing is moved
	require.NoError(t, err)
	if blocks, ok := roomOf(t, path); ok && out.Punched > 0 {
		require.Less(t, blocks, out.File-out.Punched+1<<20)
		require.Greater(t, out.Punched, int64(4<<20))
		require.True(t, db.pager.durable.holes)
	} else {
		t.Skip("no holes can be punched here")
	}
	require.Equal(t, byte(1), tx.Bucket([]byte("b")).Get([]byte("00200"))[0])
	require.NoError(t, tx.Rollback())
	require.NoError(t, db.Close())
	db, err = Open(path, 0o600, &Options{NoSync: true, NoAutoShrink: true, background: func(f func()) { f() }})
	require.NoError(t, err)
	require.True(t, db.pager.fl.holes.possible)
	putMany(t, db, 0, 6000, 3)
	out, err = db.Shrink(t.Context(), 0, nil)
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}))
	require.NoError(t, db.Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	blocks, _ := roomOf(t, path)
	require.InDelta(t, info.Size(), blocks, 2<<20)
}

// roomOf is the room that a file takes on the disk.
func roomOf(t *testing.T, path string) (int64, bool) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	return allocatedBytes(t, f)
}
