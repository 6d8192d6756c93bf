package alder

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that a page of the free map that cannot be read when pending pages become free, once, leaves them as they were: none is forgotten, none
// is noted twice, and no run is free in part. It comes as the panic of a fault, since the map is read through the mapping; the begin of
// the transaction fails, and the store goes on.
//
// Retained runs were noted twice then: freed with the first note, used again, and freed under their new owner with the second. Snapshots that had been
// let go of were forgotten, and with them all that hung there.
func TestFreelist_Fault(t *testing.T) {
	const ps, chunks = 4096, 4
	span := mapSpan(ps)
	bad := -1 // the chunk that cannot be read
	f := newFreelist(ps, func(r pageRef, k pageKind) (page, error) {
		if int(r.id) == 100+bad {
			panic("fault")
		}
		p := make(page, ps)
		p.clearHeader(k, r)
		return p, nil
	})
	f.highWater = pgid(chunks * span)
	f.chunks = make([]mapChunk, chunks)
	f.levels = [][]pageRef{nil, {{99, 1}}}
	for i := range chunks {
		f.levels[0] = append(f.levels[0], pageRef{pgid(100 + i), 1})
	}
	at := func(chunk, n int, birth txid) freedRun { return freedRun{run{pgid(chunk*span + 1000), n}, birth} }
	free := func(r freedRun) bool {
		is, err := f.isFree(r.id)
		require.NoError(t, err)
		return is
	}

	// Retained ones: the first is let go of, the second stays, the third meets the fault.
	f.retain(at(0, 2, 5))
	f.retain(at(0, 3, 9))
	f.retain(at(1, 4, 6))
	bad = 1
	require.PanicsWithValue(t, "fault", func() { _ = f.letGo(7, 4) })
	require.Equal(t, []freedRun{at(0, 3, 9), at(1, 4, 6)}, f.retainedRuns)
	require.Equal(t, 7, f.pendingPages)
	bad = -1
	require.NoError(t, f.letGo(7, 4))
	require.Equal(t, []freedRun{at(0, 3, 9)}, f.retainedRuns)
	require.True(t, free(at(0, 2, 5)) && free(at(1, 4, 6)))
	require.NoError(t, f.letGo(9, 4))
	require.Zero(t, f.pendingPages)

	// Pending ones, on snapshots that are looked at each time, and on others whose end is told once.
	for s := txid(20); s < 30; s++ {
		require.NoError(t, f.hold(freedRun{run{pgid(2*span) - 50 + pgid(s), 1}, s}, s))
	}
	border := freedRun{run{pgid(2*span) - 1, 2}, 30}
	require.NoError(t, f.hold(border, 30))
	f.pending.loose = slices.DeleteFunc(f.pending.loose, func(s txid) bool { return s%2 == 0 })
	pins := pinSet{few: []txid{40}, settled: &settledPins{}, gone: []txid{20, 22, 30, 24, 26, 28}}
	bad = 2
	require.PanicsWithValue(t, "fault", func() { _, _ = f.unpin(&pins, math.MaxInt) })
	require.False(t, free(border), "free in part")
	bad = -1
	pins.gone = nil
	more, err := f.unpin(&pins, math.MaxInt)
	require.NoError(t, err)
	require.False(t, more)
	require.Zero(t, f.pendingPages)
	require.Empty(t, f.pending.lists)
	require.True(t, free(border))
}

// Ensures that runs of the log that cannot be given back, for a page of the free map cannot be read, are given back when it can. They were forgotten until
// the next open.
func TestLog_RunsCannotBeFreed(t *testing.T) {
	d := newSimDisk(simConfig{})
	db, err := openStorage(d, &Options{background: func(f func()) { f() }})
	require.NoError(t, err)
	put := func() error {
		return db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			return errors.Join(err, b.Put([]byte("key"), make([]byte, 3000)))
		})
	}
	for range 3 {
		require.NoError(t, put())
	}
	pg := db.pager
	pg.checkpointInBackground()
	require.NotEmpty(t, pg.fl.levels)
	pg.fewRuns = true // none is kept to be used again
	var runs []run
	for range 2 {
		r, err := pg.allocateLog(3, 3)
		require.NoError(t, err)
		runs = append(runs, r)
	}
	pg.log.retired = slices.Clone(runs)

	load, chunk := pg.fl.load, pg.fl.chunks[0]
	bad := errors.New("bad page")
	pg.fl.load = func(pageRef, pageKind) (page, error) { return nil, bad }
	pg.fl.chunks[0].words = nil
	require.ErrorIs(t, put(), bad)
	require.Equal(t, runs, pg.log.retired)
	pg.fl.load, pg.fl.chunks[0] = load, chunk
	require.NoError(t, put())
	for _, r := range runs {
		require.NotContains(t, pg.logRuns, r)
	}
	require.NotContains(t, pg.log.retired, runs[0])
	require.NotContains(t, pg.log.retired, runs[1])
	wholeAndClosed(t, db, d)
}

// Ensures that a store that fails while a transaction joins, for a page of the free map cannot be read, leaves word of it for the next open when it holds no lock:
// others wait for this one, readers too. It was held while the word was written.
func TestJoin_FreeMapFails(t *testing.T) {
	d := newSimDisk(simConfig{})
	db, err := openStorage(forgetfulDisk{d}, &Options{background: func(func()) {}})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			return errors.Join(err, b.Put([]byte("key"), make([]byte, 3000)))
		}))
	}
	pg := db.pager
	pg.checkpointInBackground()
	bad := errors.New("bad page")
	pg.fl.load = func(pageRef, pageKind) (page, error) { return nil, bad }
	written, held := 0, 0
	d.onCall = func(c simCall) {
		if c.op != simWriteAt {
			return
		}
		written++
		if pg.commitMu.TryLock() {
			pg.commitMu.Unlock()
		} else {
			held++
		}
	}
	pg.writing <- struct{}{}
	next := pg.tip
	next.id++
	_, err = pg.join(&joining{state: next, record: []byte{0}, changes: []mapChange{{run{firstPage + 1, 1}, true}}})
	<-pg.writing
	require.ErrorIs(t, err, bad)
	require.ErrorIs(t, db.Failed(), bad)
	require.ErrorIs(t, db.Failed(), ErrFailed)
	require.Equal(t, 1, written)
	require.Zero(t, held)
	d.onCall = nil
	require.True(t, pg.hasFailed(pg.pageSize))
	require.ErrorIs(t, db.Close(), ErrFailed)
}
