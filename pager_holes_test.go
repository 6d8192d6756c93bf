package alder

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// punched is a store on a simulated disk that has holes: it was full, every value but one of eight was deleted, and the blocks of what is free went back.
func punched(t *testing.T, o *Options) (*simDisk, *DB) {
	t.Helper()
	d := newSimDisk(simConfig{capacity: 8 << 20})
	db := punchedOn(t, d, o)
	require.Empty(t, d.misuse())
	return d, db
}

// punchedOn is punched for a disk of another kind.
func punchedOn(t *testing.T, st storage, o *Options) *DB {
	t.Helper()
	o.shrinkTime, o.punchLeast, o.NoAutoShrink = time.Hour, 8192, true
	o.background = func(f func()) { f() } // the tests look at the freelist
	db, err := openStorage(st, o)
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
	return db
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

// fillHoles has pages in the place of holes that are free again, and have blocks.
func fillHoles(t *testing.T, db *DB) {
	t.Helper()
	putMany(t, db, 3000, 3200, 1)
	require.NoError(t, db.Update(func(tx *Tx) error {
		_, err := tx.Bucket([]byte("b")).DeleteRange([]byte("03000"), nil)
		return err
	}))
	for range 2 {
		putMany(t, db, 0, 1, 3)
		db.pager.checkpointInBackground()
		require.NoError(t, db.View(func(*Tx) error { return nil }))
	}
}

// Ensures that no hole is made while a checkpoint is under way: its meta, which takes the place of the one that tells of holes, does not know of them.
func TestHoles_BesideCheckpoint(t *testing.T) {
	d := newSimDisk(simConfig{capacity: 8 << 20})
	db, err := openStorage(d, &Options{shrinkTime: time.Hour, punchLeast: 8192, NoAutoShrink: true, background: func(f func()) { f() }})
	require.NoError(t, err)
	putMany(t, db, 0, 600, 1)
	require.NoError(t, db.Update(func(tx *Tx) error {
		_, err := tx.Bucket([]byte("b")).DeleteRange([]byte("00100"), []byte("00500"))
		return err
	}))
	for range 2 {
		putMany(t, db, 0, 1, 2)
		db.pager.checkpointInBackground()
		require.NoError(t, db.View(func(*Tx) error { return nil }))
	}
	putMany(t, db, 0, 1, 3)
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.onCall = func(c simCall) {
		if c.op == simSync {
			once.Do(func() {
				close(reached)
				<-goOn
			})
		}
	}
	var all sync.WaitGroup
	all.Go(db.pager.checkpointInBackground)
	<-reached
	punched := make(chan error, 1)
	go func() { punched <- (&shrinker{db: db, pg: db.pager, ctx: context.Background()}).punch() }()
	select {
	case err := <-punched:
		punched <- err
	case <-time.After(100 * time.Millisecond):
	}
	close(goOn)
	all.Wait()
	require.NoError(t, <-punched)
	require.Greater(t, db.pager.fl.holes.count, 300)
	require.True(t, db.pager.durable.holes, "the newest meta does not tell of holes")
	d, db = afterKill(t, d)
	putMany(t, db, 1000, 1300, 1)
	wholeAndClosed(t, db, d)
}

// Ensures that a long value that was deleted keeps its blocks as long as the log refers to it: a recovery reads it.
func TestHoles_LoggedValue(t *testing.T) {
	d, db := punched(t, &Options{longValue: 4096})
	fillHoles(t, db)
	long := []byte("long")
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put(long, make([]byte, 20_000)) }))
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Delete(long) }))
	before := db.pager.fl.holes.count
	punch(t, db)
	require.Greater(t, db.pager.fl.holes.count, before)
	require.NotEmpty(t, db.pager.fl.retainedRuns)
	d, db = afterKill(t, d)
	wholeAndClosed(t, db, d)
}

// latePunch is a disk that makes a hole only after others have had time to use its pages.
type latePunch struct {
	*simDisk
	before func()
}

func (d *latePunch) punch(off, n int64) (bool, error) {
	d.before()
	return d.simDisk.punch(off, n)
}

// Ensures that nobody is given a page in which a hole is just being made, which would take what he writes there away.
func TestHoles_BesideCommit(t *testing.T) {
	d := &latePunch{simDisk: newSimDisk(simConfig{capacity: 8 << 20}), before: func() {}}
	db := punchedOn(t, d, &Options{})
	fillHoles(t, db)
	done := make(chan error, 1)
	begun := false
	d.before = func() {
		if begun {
			return
		}
		begun = true
		go func() { done <- tryPutMany(db, 4000, 4200, 4) }()
		select {
		case err := <-done:
			done <- err
		case <-time.After(100 * time.Millisecond):
		}
	}
	punch(t, db)
	require.True(t, begun, "no hole was made")
	require.NoError(t, <-done)
	require.NoError(t, db.View(func(tx *Tx) error {
		require.Len(t, tx.Bucket([]byte("b")).Get([]byte("04199")), 2500)
		return nil
	}))
	wholeAndClosed(t, db, d.simDisk)
}

// loweredOverHoles is a store of which the high water mark was lowered over holes, and whose file was not cut, as after a crash in the middle of a shrink.
func loweredOverHoles(t *testing.T) (d *simDisk, db *DB, before pgid) {
	t.Helper()
	d, db = punched(t, &Options{})
	require.NoError(t, db.Update(func(tx *Tx) error {
		_, err := tx.Bucket([]byte("b")).DeleteRange([]byte("00600"), nil)
		return err
	}))
	require.NoError(t, db.View(func(*Tx) error { return nil }))
	putMany(t, db, 0, 1, 3)
	db.pager.checkpointInBackground()
	require.NoError(t, db.View(func(*Tx) error { return nil }))
	punch(t, db)
	before = db.pager.fl.highWater
	require.NoError(t, (&shrinker{db: db, pg: db.pager, ctx: t.Context(), limit: before / 2}).lowCheckpoint())
	require.NoError(t, db.pager.checkpointWith(t.Context(), func() (bool, error) { return true, db.pager.lowerTail(0) }))
	require.Less(t, db.pager.fl.highWater, before*3/4)
	return d, db, before
}

// afterKill opens the store that a kill would leave now, without the end of an orderly close, which would cut the file.
func afterKill(t *testing.T, d *simDisk) (*simDisk, *DB) {
	t.Helper()
	return afterCrash(t, d, crashKill)
}

func afterCrash(t *testing.T, d *simDisk, outcome uint64) (*simDisk, *DB) {
	t.Helper()
	next := d.crash(simCall{}, outcome)
	db, err := openStorage(next, &Options{shrinkTime: time.Hour, NoAutoShrink: true, background: func(f func()) { f() }})
	require.NoError(t, err)
	return next, db
}

// Ensures that holes at the end of the file are known when the high water mark has been lowered over them, and goes up again.
func TestHoles_End(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		d, db, before := loweredOverHoles(t)
		if reopen {
			d, db = afterKill(t, d)
		}
		putMany(t, db, 2000, 3200, 1)
		require.Greater(t, db.pager.fl.highWater, before*3/4)
		wholeAndClosed(t, db, d)
	}
}

// Ensures that they are known when the mark goes up over them with the log, in a recovery. What lay before a run of the log was free then, and taken for pages with
// blocks; but the blocks that transactions had got for it may be gone after a power cut, for only the run was written durably.
func TestHoles_EndInRecovery(t *testing.T) {
	d, _, _ := loweredOverHoles(t)
	d, db := afterKill(t, d)
	putMany(t, db, 0, 1, 4) // commits by a checkpoint, for it is the first
	putMany(t, db, 0, 1, 5)
	pg := db.pager
	mark := pg.durable.highWater
	require.Equal(t, mark, pg.fl.highWater)
	// Neither the value nor, after that, the log for its record finds so many pages together in front.
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("run"), make([]byte, 60_000)) }))
	require.Equal(t, mark, pg.durable.highWater, "a checkpoint has come between")
	require.Greater(t, pg.logRuns[len(pg.logRuns)-1].id, mark+10)
	d, db = afterCrash(t, d, crashFirstPower) // nothing is left but what was durable
	require.Empty(t, d.misuse())
	putMany(t, db, 10_000, 10_400, 1)
	wholeAndClosed(t, db, d)
}

// Ensures that they get blocks too when a run of pages finds no other place.
func TestHoles_EndByRun(t *testing.T) {
	d, db, _ := loweredOverHoles(t)
	pg := db.pager
	pg.writing <- struct{}{}
	require.NoError(t, pg.haveSolid(60)) // so that nobody asks for more
	<-pg.writing
	require.Less(t, pg.fl.holes.bareFrom, pg.fl.holes.bareTo)
	before := pg.fl.highWater
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("run"), make([]byte, 60_000)) }))
	require.Greater(t, pg.fl.highWater, before)
	wholeAndClosed(t, db, d)
}

// Ensures that they are known when pages there could not be had, for the file would have had to grow.
func TestHoles_EndCannotGrow(t *testing.T) {
	d, db, before := loweredOverHoles(t)
	pg := db.pager
	d.cfg.capacity = d.sizeNow
	pg.writing <- struct{}{}
	_, err := pg.allocate(int(pgid(d.sizeNow>>pg.shift)-pg.fl.highWater) + 1)
	<-pg.writing
	require.ErrorIs(t, err, syscall.ENOSPC)
	for i := 0; pg.fl.highWater < before*3/4; i++ {
		putMany(t, db, 2000+20*i, 2020+20*i, 1)
		require.Empty(t, d.misuse())
	}
	wholeAndClosed(t, db, d)
}

// Ensures that on a full disk transactions that need blocks for holes are rolled back, that those that find pages with blocks commit, that checkpoints have what they need, that the
// store stays whole, and goes on when there is room.
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
		for i := range 60 {
			from := 3000 + 40*i
			err := tryPutMany(db, from, from+[]int{40, 1, 4}[i%3], 1)
			if err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC)
				failed++
			}
			require.NoError(t, db.Failed())
			db.pager.checkpointInBackground()
			require.Equal(t, db.pager.tip.id, db.pager.durable.txid, "a checkpoint has met the full disk")
			require.Empty(t, d.misuse())
		}
		require.Greater(t, failed, 20)
		d.cfg.full = false
		putMany(t, db, 8000, 8100, 1)
		wholeAndClosed(t, db, d)
	}
}

// Ensures that pages for which there are no blocks are not given out, that they are holes as before, and that others which have some are taken if there are
// so many together.
func TestHoles_NoBlocks(t *testing.T) {
	d, db := punched(t, &Options{})
	pg, f := db.pager, db.pager.fl
	d.cfg.full = true
	pg.writing <- struct{}{}
	for _, n := range []int{1, 40} {
		r, err := f.nextFree(firstPage, f.highWater, n, true)
		require.NoError(t, err)
		if r.n < n { // no more than 7 are together
			r, err = f.nextFree(firstPage, f.highWater, 7, true)
			require.NoError(t, err)
		}
		r.n = min(r.n, n)
		require.Positive(t, r.n)
		bare, free := f.holes.count, f.free
		f.holes.taken = f.holes.taken[:0]
		require.NoError(t, f.take(r))
		require.Equal(t, bare-r.n, f.holes.count)
		id, err := pg.solidify(r, f.highWater)
		require.Equal(t, bare, f.holes.count)
		if n > 1 {
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.Equal(t, free, f.free)
			continue
		}
		require.NoError(t, err)
		require.NotEqual(t, r.id, id)
		require.False(t, d.holes[int64(id)])
		require.NoError(t, f.release(run{id, 1}))
	}
	<-pg.writing
	d.cfg.full = false
	wholeAndClosed(t, db, d)
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
