package alder

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// pacedDisk is a disk that can write parts of what it has cached. It notes which, and when it was synced.
type pacedDisk struct {
	*simDisk
	calls [][2]int64 // 0, 0: a sync
}

func (d *pacedDisk) writeBack(off, n int64) bool {
	d.calls = append(d.calls, [2]int64{off, n})
	return true
}

func (d *pacedDisk) sync() error {
	d.calls = append(d.calls, [2]int64{})
	return d.simDisk.sync()
}

// Ensures that a checkpoint beside commits writes the whole store back in parts before it syncs, in order, and that one which nobody appends
// beside does not.
func TestCheckpoint_Paced(t *testing.T) {
	d := &pacedDisk{simDisk: newSimDisk(simConfig{capacity: 64 << 20})}
	db, err := openStorage(d, &Options{background: func(func()) {}})
	require.NoError(t, err)
	putAtOnce(t, db, 3000, 1000)
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("x"), []byte("y")) }))
	d.calls = nil
	db.pager.checkpointInBackground()
	require.Greater(t, len(d.calls), 3)
	end := int64(0)
	for _, c := range d.calls[:len(d.calls)-1] {
		require.Equal(t, end, c[0])
		require.LessOrEqual(t, c[1], int64(paceBytes))
		end += c[1]
	}
	require.Equal(t, d.size(), end)
	require.Zero(t, d.calls[len(d.calls)-1])

	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("x"), []byte("z")) }))
	d.calls = nil
	require.NoError(t, db.Close())
	for _, c := range d.calls {
		require.Zero(t, c)
	}
}
