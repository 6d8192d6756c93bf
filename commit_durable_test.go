package alder

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a commit promises when it returns, and what a reader may see: both are held against a power cut in that very moment, in
// which the simulated disk loses what was not made durable.

// durableForm is a way to commit that promises durability.
type durableForm struct {
	name    string
	options Options
	full    bool // by Tx.SetDurability, in a lazy store
	sync    bool // by DB.Sync after lazy commits
	bytes   int  // of the value that is written besides
}

var durableForms = []durableForm{
	{name: "log"},
	{name: "checkpoints", options: Options{LogSize: 4096}},
	{name: "long values", options: Options{longValue: 8192}, bytes: 10_000},
	{name: "no memory", options: Options{LogSize: 16 << 10, DirtyLimit: 4096}, bytes: 3000},
	{name: "full in a lazy store", options: Options{NoSync: true, SyncInterval: time.Hour, LogSize: 8192}, full: true},
	{name: "sync in a lazy store", options: Options{NoSync: true, SyncInterval: time.Hour, longValue: 8192}, sync: true, bytes: 10_000},
	{name: "sync in a full store", options: Options{SyncInterval: time.Hour}, sync: true},
}

// commit is the n-th transaction of goroutine id. When it returns nil the transaction must be durable.
func (f *durableForm) commit(db *DB, id, n int) error {
	err := db.Update(func(tx *Tx) error {
		level := DurabilityDefault
		if f.full {
			level = DurabilityFull
		} else if f.sync {
			level = DurabilityLazy
		}
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		value := bytes.Repeat([]byte{byte(n)}, f.bytes)
		return errors.Join(tx.SetDurability(level), b.Put([]byte{byte(id)}, fmt.Append(nil, n)), b.Put([]byte{'v', byte(id)}, value))
	})
	if err == nil && f.sync {
		err = db.Sync()
	}
	return err
}

// durableCounts reads the number of the last transaction of each goroutine.
func durableCounts(tx *Tx, goroutines int) []int {
	counts := make([]int, goroutines)
	if b := tx.Bucket([]byte("b")); b != nil {
		for id := range counts {
			fmt.Sscan(string(b.Get([]byte{byte(id)})), &counts[id])
		}
	}
	return counts
}

// afterPowerCut returns what is left of d by a power cut now.
func afterPowerCut(d *simDisk, outcome uint64, o Options, goroutines int) (counts []int, err error) {
	image := d.crash(simCall{op: simSync}, outcome)
	defer image.release()
	o.background, o.checkpointAge = func(f func()) { f() }, time.Hour
	db, err := openStorage(image, &o)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *Tx) error {
		counts = durableCounts(tx, goroutines)
		return checkWhole(tx)
	})
	return counts, errors.Join(err, db.Close())
}

// powerCuts are the outcomes to try: nothing of what is not durable is left, everything, and a choice.
func powerCuts(rng *rand.Rand, n int) []uint64 {
	list := []uint64{crashFirstPower, crashFirstPower + 1}
	for range n {
		list = append(list, crashRandomPower+rng.Uint64N(1<<31))
	}
	return list
}

// mustHold takes images of d and requires of each that it has at least what counts says.
func mustHold(t *testing.T, d *simDisk, o Options, what string, counts []int, outcomes []uint64) bool {
	for _, outcome := range outcomes {
		got, err := afterPowerCut(d, outcome, o, len(counts))
		if err != nil {
			t.Errorf("%s: %s: %v", what, outcomeName(outcome), err)
			return false
		}
		for id := range counts {
			if got[id] < counts[id] {
				t.Errorf("%s: after a power cut (%s) transaction %d of goroutine %d is the last one, %d was promised", what, outcomeName(outcome), got[id], id, counts[id])
				return false
			}
		}
	}
	return true
}

// Ensures that a transaction is durable at the moment at which its commit returns.
func TestCommit_DurableOnReturn(t *testing.T) {
	for _, form := range durableForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			stopLater(t)
			d := newSimDisk(simConfig{})
			defer d.release()
			db, err := openStorage(d, &form.options)
			require.NoError(t, err)
			rng := rand.New(rand.NewPCG(1, 1))
			for n := 1; n <= 40; n++ {
				require.NoError(t, form.commit(db, 0, n))
				require.True(t, mustHold(t, d, form.options, "commit", []int{n}, powerCuts(rng, 6)))
			}
			require.NoError(t, db.Close())
			require.Empty(t, d.misuse())
		})
	}
}

// Ensures the same of commits that share groups, and that no reader of a store in full durability sees what a power cut then
// takes back.
func TestCommit_DurableInGroups(t *testing.T) {
	const goroutines = 6
	for _, form := range durableForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			stopLater(t)
			d := newSimDisk(simConfig{capacity: 8 << 20})
			db, err := openStorage(d, &form.options)
			require.NoError(t, err)
			commits := 25
			if testing.Short() || raceDetector() {
				commits = 4
			}
			// Appends take some time, so that others queue up meanwhile and readers begin.
			d.onCall = func(c simCall) {
				if c.op == simWriteDurable || c.op == simSync {
					time.Sleep(100 * time.Microsecond)
				}
			}
			var wg, readers sync.WaitGroup
			stop := make(chan struct{})
			for id := range goroutines {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(2, uint64(id)))
					counts := make([]int, goroutines)
					for n := 1; n <= commits && !t.Failed(); n++ {
						if err := form.commit(db, id, n); err != nil {
							t.Error(err)
							return
						}
						counts[id] = n
						mustHold(t, d, form.options, "commit", counts, powerCuts(rng, 0))
					}
				})
			}
			if !form.options.NoSync {
				readers.Go(func() { readDurably(t, d, db, form.options, goroutines, stop) })
			}
			wg.Wait()
			close(stop)
			readers.Wait()
			require.NoError(t, db.Close())
			require.Empty(t, d.misuse())
		})
	}
}

// readDurably reads, and cuts the power.
func readDurably(t *testing.T, d *simDisk, db *DB, o Options, goroutines int, stop chan struct{}) {
	for !t.Failed() {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		var counts []int
		if err := db.View(func(tx *Tx) error {
			counts = durableCounts(tx, goroutines)
			return nil
		}); err != nil {
			t.Error(err)
			return
		}
		mustHold(t, d, o, "read", counts, []uint64{crashFirstPower})
	}
}

// Ensures that while an append is under way, readers see what was durable before it, whether they begin before or after others have
// asked for the newest state; and that the writer that comes next works on its result meanwhile.
func TestCommit_NotSeenBeforeDurable(t *testing.T) {
	stopLater(t)
	d := newSimDisk(simConfig{})
	db, err := openStorage(d, &Options{})
	require.NoError(t, err)
	form := durableForm{}
	require.NoError(t, form.commit(db, 0, 1))
	require.NoError(t, form.commit(db, 0, 2))
	g := newGate()
	d.onCall = func(c simCall) {
		if c.op == simWriteDurable {
			g.stop()
		}
	}
	see := func(want int) {
		require.NoError(t, db.View(func(tx *Tx) error {
			require.Equal(t, []int{want, 0}, durableCounts(tx, 2))
			return checkWhole(tx)
		}))
	}
	done := make(chan error, 2)
	go func() { done <- form.commit(db, 0, 3) }()
	<-g.reached
	see(2)
	tx, err := db.Begin(true)
	require.NoError(t, err, "the next writer waits for the disk")
	require.Equal(t, []int{3, 0}, durableCounts(tx, 2), "the next writer works on the result of the one before")
	rolledBack := make(chan error, 1)
	go func() { rolledBack <- tx.Rollback() }() // it has read what is not durable, and waits for that
	go func() { done <- form.commit(db, 1, 1) }()
	waitFor(t, func() bool { return groupsOf(db) >= 2 })
	see(2)
	select {
	case err := <-done:
		t.Fatalf("a commit has returned before it is durable: %v", err)
	case err := <-rolledBack:
		t.Fatalf("a rollback has returned before what its transaction read is durable: %v", err)
	default:
	}
	close(g.open)
	require.NoError(t, <-rolledBack)
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.NoError(t, db.View(func(tx *Tx) error {
		require.Equal(t, []int{3, 1}, durableCounts(tx, 2))
		return nil
	}))
	require.NoError(t, db.Close())
}

func groupsOf(db *DB) int {
	db.pager.commitMu.Lock()
	defer db.pager.commitMu.Unlock()
	return len(db.pager.groups)
}

// waitFor returns when cond holds.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatal("what the test waits for does not happen")
		}
	}
}
