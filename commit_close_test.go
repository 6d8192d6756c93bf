package alder

import (
	"errors"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Close beside work that is on its way to the disk: tests with a disk that can be stopped in the middle of a call.

// gate stops one call of a simulated disk.
type gate struct {
	reached chan struct{}
	open    chan struct{}
	passed  atomic.Bool
}

func newGate() *gate { return &gate{reached: make(chan struct{}), open: make(chan struct{})} }

// stop holds up the first who comes until the gate is opened; others pass.
func (g *gate) stop() {
	if g.passed.CompareAndSwap(false, true) {
		close(g.reached)
		<-g.open
	}
}

// increment commits a transaction that changes one page.
func increment(db *DB) error {
	return db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		_, err = b.NextSequence()
		return err
	})
}

// stopLater ends everything, with the stacks of all goroutines, if the test takes too long.
func stopLater(t *testing.T) {
	t.Helper()
	hang := time.AfterFunc(2*time.Minute, func() {
		debug.SetTraceback("all")
		panic(t.Name() + ": the store hangs")
	})
	t.Cleanup(func() { hang.Stop() })
}

// Ensures that a reader that is bringing pages into the file when Close begins does not come back to a store that is closed: it
// made the snapshot available again that Close had taken away, and then read from a mapping that was gone.
func TestDB_Close_WhileReaderPublishes(t *testing.T) {
	stopLater(t)
	d := newSimDisk(simConfig{})
	db, err := openStorage(d, &Options{})
	require.NoError(t, err)
	for range 2 { // the second is in the log only
		require.NoError(t, increment(db))
	}
	g := newGate()
	d.onCall = func(c simCall) {
		if c.op == simWriteAt {
			g.stop()
		}
	}
	viewed, closed := make(chan error, 1), make(chan error, 1)
	go func() { viewed <- db.View(func(*Tx) error { return nil }) }()
	<-g.reached
	go func() { closed <- db.Close() }()
	time.Sleep(20 * time.Millisecond) // so that Close comes as far as it can
	close(g.open)
	if err := <-viewed; err != nil {
		require.ErrorIs(t, err, ErrDatabaseNotOpen)
	}
	require.NoError(t, <-closed)
	_, err = db.Begin(false)
	require.ErrorIs(t, err, ErrDatabaseNotOpen)
	require.Empty(t, d.misuse())
}

// Ensures that Close of a failed store waits for an append that is under way: it would come down on a file that somebody else
// has opened meanwhile.
func TestDB_Close_FailedDuringAppend(t *testing.T) {
	stopLater(t)
	d := newSimDisk(simConfig{})
	checkpoint := make(chan func(), 100)
	db, err := openStorage(d, &Options{LogSize: 4096, background: func(f func()) { checkpoint <- f }})
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, increment(db))
	}
	syncing, appending := newGate(), newGate()
	d.onCall = func(c simCall) {
		switch c.op {
		case simSync:
			syncing.stop()
		case simWriteDurable:
			appending.stop()
		}
	}
	d.failing(func(c simCall) simFault {
		if c.op == simSync {
			return simFault{err: syscall.EIO, kind: simFailBefore}
		}
		return simFault{}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		(<-checkpoint)()
	}()
	<-syncing.reached
	committed, closed := make(chan error, 1), make(chan error, 1)
	go func() { committed <- increment(db) }()
	<-appending.reached
	close(syncing.open)
	<-done
	go func() { closed <- db.Close() }()
	select {
	case <-closed:
		t.Error("Close has returned before the append")
	case <-time.After(50 * time.Millisecond):
	}
	close(appending.open)
	err = <-committed
	if err != nil {
		require.ErrorIs(t, err, ErrFailed)
	}
	if !t.Failed() {
		err := <-closed
		require.True(t, errors.Is(err, ErrFailed) && errors.Is(err, syscall.EIO), "%v", err)
	}
	require.Empty(t, d.misuse())
}

// Ensures that a snapshot that was published before its checkpoint gets a mapping that reaches to the free map of the checkpoint. It
// kept the mapping that it had, and where mappings do not grow in place, the map lay past its end.
func TestCheckpoint_MapPastMapping(t *testing.T) {
	stopLater(t)
	d := newSimDisk(simConfig{mapStep: 16384})
	db, err := openStorage(d, &Options{background: func(f func()) { f() }, checkpointAge: time.Hour})
	require.NoError(t, err)
	for i := range 40 {
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put([]byte{1, byte(i)}, make([]byte, 3000))
		}))
		check := func() error { return db.View(checkWhole) }
		require.NoError(t, check()) // publishes
		db.pager.checkpointInBackground()
		require.NoError(t, check())
	}
	require.NoError(t, db.Close())
}
