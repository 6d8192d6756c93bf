package alder

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pacedDisk is a disk that can write parts of what it has cached. It notes which, and when it was synced.
type pacedDisk struct {
	*simDisk
	calls [][2]int64 // 0, 0: a sync
	err   error      // of writeBack
}

func (d *pacedDisk) writeBack(off, n int64) (bool, error) {
	d.calls = append(d.calls, [2]int64{off, n})
	return true, d.err
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

// Ensures that a page that could not be written back puts the store into the failed state, and no meta is written: before Linux 4.13 the sync that
// follows is not told of it, and succeeds.
func TestCheckpoint_WriteBackFails(t *testing.T) {
	d := &pacedDisk{simDisk: newSimDisk(simConfig{capacity: 64 << 20})}
	db, err := openStorage(d, &Options{background: func(func()) {}})
	require.NoError(t, err)
	putAtOnce(t, db, 300, 100)
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("x"), []byte("y")) }))
	sequence := db.pager.durable.sequence
	d.err = syscall.EIO
	db.pager.checkpointInBackground()
	require.Equal(t, sequence, db.pager.durable.sequence)
	err = db.Update(func(*Tx) error { return nil })
	require.ErrorIs(t, err, ErrFailed)
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorContains(t, err, "writing back")
	require.ErrorIs(t, db.Close(), ErrFailed)
}

// Ensures that the age of a commit beside a checkpoint is looked at again: the one under way is of an earlier state, and nobody else may ever
// commit.
func TestCheckpoint_AgeBesideAnother(t *testing.T) {
	db, err := openStorage(newSimDisk(simConfig{capacity: 64 << 20}), &Options{background: func(f func()) { f() }, checkpointAge: time.Hour})
	require.NoError(t, err)
	defer db.Close()
	putAtOnce(t, db, 10, 10)
	pg := db.pager
	pg.checkpointInBackground()
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("x"), []byte("y")) }))
	require.NotEqual(t, pg.tip.id, pg.durable.txid)
	armed := func() (n int, aging bool) {
		pg.commitMu.Lock()
		defer pg.commitMu.Unlock()
		return len(pg.timers), pg.aging
	}
	pg.commitMu.Lock()
	running := pg.running
	pg.running = &checkpointRun{done: make(chan struct{})} // one of an earlier state
	pg.commitMu.Unlock()
	before, _ := armed()
	pg.age()
	after, aging := armed()
	pg.commitMu.Lock()
	pg.running = running
	pg.commitMu.Unlock()
	require.True(t, aging)
	require.Equal(t, before+1, after)
	pg.age()
	require.Equal(t, pg.tip.id, pg.durable.txid)
}
