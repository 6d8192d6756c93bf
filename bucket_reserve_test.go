package alder

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that a transaction which gets no memory to collect its puts does them at once, with the memory for pages that it had: Put returned the
// system's error, and left less of it each time. And that the buffer is as large as it may be, whatever the first put: after a short one
// a twentieth of it was used.
func TestBucket_CollectWithoutMemory(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		t.Skip("half of the addresses may be had")
	}
	db, err := OpenMemory(&Options{DirtyLimit: 1 << 20})
	require.NoError(t, err)
	tx, err := db.Begin(true)
	require.NoError(t, err)
	b, err := tx.CreateBucket([]byte("b"))
	require.NoError(t, err)
	key := func(i int) []byte { return fmt.Appendf(nil, "%08x", uint32(i)*2654435761) }
	n := 0
	put := func(value int) {
		require.NoError(t, b.Put(key(n), make([]byte, value)))
		n++
	}
	for tx.w.stats.Spill == 0 {
		put(100)
	}
	limit, most := tx.w.dirtyLimit, db.pager.opts.dirtyLimit
	db.pager.opts.dirtyLimit = math.MaxInt // for which there is no memory
	for range 100 {
		put(100)
	}
	require.Equal(t, limit, tx.w.dirtyLimit)
	require.Nil(t, tx.w.puts.arena)

	db.pager.opts.dirtyLimit = most
	put(0)
	for range 600 {
		put(1000)
	}
	require.Greater(t, len(tx.w.puts.arena), most/2)
	require.NoError(t, tx.Commit())
	require.NoError(t, db.View(func(tx *Tx) error {
		require.Equal(t, uint64(n), tx.Bucket([]byte("b")).Len())
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}))
	require.NoError(t, db.Close())
}

// Ensures that nothing leads to the memory of collected puts when it has been given back: where the heap can take the same addresses, as with 32
// bits, the garbage collector ends the program that has such a pointer.
func TestBucket_CollectedMemoryIsForgotten(t *testing.T) {
	db, err := OpenMemory(&Options{DirtyLimit: 1 << 20})
	require.NoError(t, err)
	for _, commit := range []bool{true, false} {
		tx, err := db.Begin(true)
		require.NoError(t, err)
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		require.NoError(t, err)
		for i := range 30_000 {
			require.NoError(t, b.Put(fmt.Appendf(nil, "%08x", uint32(i)*2654435761), make([]byte, 100)))
		}
		require.NotNil(t, tx.w.puts.memory)
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
		cells := db.pager.ws.cells
		for _, c := range cells[:cap(cells)] {
			require.Nil(t, c.key)
			require.Nil(t, c.value)
		}
	}
	require.NoError(t, db.Close())
}
