package alder

import (
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
