package alder

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Failures on the commit path: of an append, with others waiting behind it; of the room for the log, before anything is appended; of a
// checkpoint in the background. The disk is stopped in the middle of a call, so that it is known who waits for what.

// faultyCommits is a store on a simulated disk that several goroutines commit to.
type faultyCommits struct {
	t       *testing.T
	d       *simDisk
	db      *DB
	options Options
	form    durableForm
	work    []func() // in the background, when the test lets it
	gate    *gate
	changes int // calls that write
	base    int
}

const faultyGoroutines = 6

// newFaultyCommits returns a store with some transactions of goroutine 0, f.base of them, and room in the log for more.
func newFaultyCommits(t *testing.T, o Options) *faultyCommits {
	stopLater(t)
	f := &faultyCommits{t: t, d: newSimDisk(simConfig{capacity: 4 << 20}), options: o}
	o.background, o.checkpointAge = func(fn func()) { f.work = append(f.work, fn) }, time.Hour
	var err error
	f.db, err = openStorage(f.d, &o)
	require.NoError(t, err)
	for room := int64(0); room < 64<<10; {
		f.base++
		require.NoError(t, f.form.commit(f.db, 0, f.base))
		f.background()
		f.db.pager.commitMu.Lock()
		room = f.db.pager.runBytes(f.db.pager.log.plan.run) - f.db.pager.log.plan.off
		f.db.pager.commitMu.Unlock()
		require.Less(t, f.base, 100)
	}
	f.arm(nil, nil)
	return f
}

// background does what is to be done in the background.
func (f *faultyCommits) background() {
	for len(f.work) > 0 {
		fn := f.work[0]
		f.work = f.work[1:]
		fn()
	}
}

// close closes the store, which must work.
func (f *faultyCommits) close() {
	f.t.Helper()
	f.background()
	require.NoError(f.t, f.db.Close())
	require.Empty(f.t, f.d.misuse())
}

// arm sets where the next call stops, and which ones fail.
func (f *faultyCommits) arm(stopAt func(simCall) bool, fails func(simCall) simFault) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.gate = newGate()
	g := f.gate
	f.d.onCall = func(c simCall) {
		if c.mutates() {
			f.d.mu.Lock()
			f.changes++
			f.d.mu.Unlock()
		}
		if stopAt != nil && stopAt(c) {
			g.stop()
		}
	}
	f.d.fault = fails
}

// sees requires that a reader sees what counts says, and that it is sound.
func (f *faultyCommits) sees(counts ...int) {
	f.t.Helper()
	require.NoError(f.t, f.db.View(func(tx *Tx) error {
		require.Equal(f.t, counts, durableCounts(tx, len(counts)))
		return checkWhole(tx)
	}))
}

// start commits beside the test, and returns when the transaction has joined a group.
func (f *faultyCommits) start(id, n int) chan error {
	f.t.Helper()
	tip := func() txid {
		f.db.pager.commitMu.Lock()
		defer f.db.pager.commitMu.Unlock()
		return f.db.pager.tip.id
	}
	before := tip()
	done := make(chan error, 1)
	go func() { done <- f.form.commit(f.db, id, n) }()
	waitFor(f.t, func() bool { return tip() > before })
	return done
}

// isFailed requires that err says that the store has failed, and why.
func (f *faultyCommits) isFailed(err, cause error) {
	f.t.Helper()
	require.ErrorIs(f.t, err, ErrFailed)
	require.ErrorIs(f.t, err, cause)
}

// failed requires the failed state: no writes, by nobody.
func (f *faultyCommits) failed(cause error) {
	f.t.Helper()
	f.arm(nil, nil)
	before := f.changes
	f.isFailed(f.form.commit(f.db, 0, 99), cause)
	f.isFailed(f.db.Sync(), cause)
	_, err := f.db.Begin(true)
	f.isFailed(err, cause)
	f.background()
	f.isFailed(f.db.Close(), cause)
	require.Equal(f.t, before, f.changes, "a failed store writes")
	require.Empty(f.t, f.d.misuse())
}

// holds opens the disk as the next process finds it, and after power cuts: each must have at least and at most so many transactions.
func (f *faultyCommits) holds(least, most []int) {
	f.t.Helper()
	rng := rand.New(rand.NewPCG(3, 3))
	for _, outcome := range append(powerCuts(rng, 20), crashKill, crashRandomKill) {
		counts, err := afterPowerCut(f.d, outcome, f.options, len(least))
		require.NoError(f.t, err, outcomeName(outcome))
		for id := range counts {
			require.GreaterOrEqual(f.t, counts[id], least[id], "goroutine %d, %s", id, outcomeName(outcome))
			require.LessOrEqual(f.t, counts[id], most[id], "goroutine %d, %s", id, outcomeName(outcome))
		}
	}
}

// isAppend reports whether c appends to the log or writes the first pages of a value, and not a meta.
func isAppend(c simCall) bool { return c.op == simWriteDurable && c.off >= 8192 }

func isMeta(c simCall) bool { return c.op == simWriteDurable && c.off < 8192 }

func isOp(op simOp) func(simCall) bool { return func(c simCall) bool { return c.op == op } }

// failOnce lets the n-th call that matches fail, 0 being the first.
func failOnce(match func(simCall) bool, n int, fault simFault) func(simCall) simFault {
	return func(c simCall) simFault {
		if !match(c) {
			return simFault{}
		}
		if n--; n == -1 {
			return fault
		}
		return simFault{}
	}
}

// Ensures that when an append fails, everybody who waits for it or for a later one gets the error with its cause; that no
// reader sees anything of theirs, those who began before go on, and nothing is written any more; and that the next open
// finds what was acknowledged, and at most the group that failed beyond, whole.
func TestGroup_AppendFails(t *testing.T) {
	for _, fault := range []simFault{
		{err: syscall.EIO, kind: simFailBefore},
		{err: syscall.EIO, kind: simFailFlush, seed: 1},
		{err: syscall.EIO, kind: simFailFlush, seed: 2},
		{err: syscall.EIO, kind: simFailFlush, seed: 3},
		{err: syscall.ENOSPC, kind: simFailShort},
		{err: syscall.EIO, kind: simFailWritten},
	} {
		for first := range 2 { // which of the appends fails
			t.Run(fmt.Sprintf("%s %d, append %d", fault.kind, fault.seed, first), func(t *testing.T) {
				f := newFaultyCommits(t, Options{})
				f.sees(f.base)
				old, err := f.db.Begin(false)
				require.NoError(t, err)
				f.arm(isAppend, failOnce(isAppend, first, fault))
				one := f.start(0, f.base+1)
				<-f.gate.reached
				// These queue up behind it, in one group.
				two := f.start(1, 1)
				var others []chan error
				for id := 2; id < faultyGoroutines; id++ {
					others = append(others, f.start(id, 1))
				}
				f.sees(f.base, 0, 0, 0, 0, 0)
				close(f.gate.open)
				if first == 0 {
					f.isFailed(<-one, fault.err)
				} else {
					require.NoError(t, <-one)
				}
				f.isFailed(<-two, fault.err)
				for _, done := range others {
					f.isFailed(<-done, fault.err)
				}
				seen := f.base + first
				f.sees(seen, 0, 0, 0, 0, 0)
				require.Equal(t, []int{f.base}, durableCounts(old, 1))
				require.NoError(t, checkWhole(old))
				require.NoError(t, old.Rollback())
				f.failed(fault.err)
				if first == 0 {
					f.holds([]int{f.base, 0, 0, 0, 0, 0}, []int{f.base + 1, 0, 0, 0, 0, 0})
				} else {
					f.holds([]int{f.base + 1, 0, 0, 0, 0, 0}, []int{f.base + 1, 1, 1, 1, 1, 1})
				}
			})
		}
	}
}

// Ensures that a group is there whole or not at all, when its append has failed, and in the order of its transactions where other frames
// would separate them.
func TestGroup_FailedGroupIsWhole(t *testing.T) {
	for seed := range uint64(12) {
		f := newFaultyCommits(t, Options{})
		f.arm(isAppend, failOnce(isAppend, 1, simFault{err: syscall.EIO, kind: simFailFlush, seed: seed}))
		one := f.start(0, f.base+1)
		<-f.gate.reached
		two, three := f.start(1, 1), f.start(2, 1)
		close(f.gate.open)
		require.NoError(t, <-one)
		f.isFailed(<-two, syscall.EIO)
		f.isFailed(<-three, syscall.EIO)
		f.failed(syscall.EIO)
		for _, outcome := range []uint64{crashFirstPower, crashFirstPower + 1, crashKill} {
			counts, err := afterPowerCut(f.d, outcome, f.options, 3)
			require.NoError(t, err)
			require.Equal(t, f.base+1, counts[0])
			require.Equal(t, counts[1], counts[2], "half of a group")
		}
	}
}

// Ensures that lazy transactions whose sync fails are reported by the next commit, and by Sync and Close, and are not seen by readers of
// a store in full durability.
func TestGroup_LazyAppendFails(t *testing.T) {
	f := newFaultyCommits(t, Options{SyncInterval: time.Hour})
	lazy := func(id, n int) error {
		return f.db.Update(func(tx *Tx) error {
			return errors.Join(tx.SetDurability(DurabilityLazy), tx.Bucket([]byte("b")).Put([]byte{byte(id)}, fmt.Append(nil, n)))
		})
	}
	require.NoError(t, lazy(1, 1))
	require.NoError(t, lazy(1, 2))
	f.sees(f.base, 0)
	f.arm(nil, failOnce(isAppend, 0, simFault{err: syscall.EIO, kind: simFailBefore}))
	f.isFailed(f.form.commit(f.db, 0, f.base+1), syscall.EIO)
	f.isFailed(lazy(1, 3), syscall.EIO)
	f.sees(f.base, 0)
	f.failed(syscall.EIO)
	f.holds([]int{f.base, 0}, []int{f.base, 0})
}

// Ensures that in a lazy store the failed state neither shows nor hides anything: what had joined a group was seen, transactions in full
// durability too, which get the error and stay visible; one that comes to its commit later is not seen.
func TestGroup_AppendFailsInLazyStore(t *testing.T) {
	f := newFaultyCommits(t, Options{SyncInterval: time.Hour})
	f.db.NoSync, f.form.full = true, true
	f.arm(isAppend, failOnce(isAppend, 0, simFault{err: syscall.EIO, kind: simFailFlush}))
	one := f.start(0, f.base+1)
	<-f.gate.reached
	two := f.start(1, 1)
	f.sees(f.base+1, 1, 0)
	late, err := f.db.Begin(true)
	require.NoError(t, err)
	require.NoError(t, late.Bucket([]byte("b")).Put([]byte{2}, []byte("1")))
	close(f.gate.open)
	f.isFailed(<-one, syscall.EIO)
	f.sees(f.base+1, 1, 0)
	f.isFailed(<-two, syscall.EIO)
	f.sees(f.base+1, 1, 0)
	f.isFailed(late.Commit(), syscall.EIO)
	f.sees(f.base+1, 1, 0)
	f.failed(syscall.EIO)
	f.holds([]int{f.base, 0, 0}, []int{f.base + 1, 0, 0})
}

// Ensures that a checkpoint in the background that fails, at its sync or at its meta, puts the store into the failed state, also when it
// fails while an append is under way, and that every transaction that was acknowledged is found again.
func TestCheckpoint_FailsInBackground(t *testing.T) {
	faults := []simFault{{err: syscall.EIO, kind: simFailBefore}, {err: syscall.EIO, kind: simFailWritten}}
	for seed := range uint64(6) {
		faults = append(faults, simFault{err: syscall.EIO, kind: simFailFlush, seed: seed})
	}
	for name, match := range map[string]func(simCall) bool{"sync": isOp(simSync), "meta": isMeta} {
		for _, fault := range faults {
			for _, beside := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s %d, append %v", name, fault.kind, fault.seed, beside), func(t *testing.T) {
					f := newFaultyCommits(t, Options{})
					require.NoError(t, f.form.commit(f.db, 0, f.base+1))
					f.sees(f.base+1, 0)
					f.arm(match, failOnce(match, 0, fault))
					checkpoint := make(chan struct{})
					go func() {
						defer close(checkpoint)
						f.db.pager.checkpointInBackground()
					}()
					<-f.gate.reached
					// The next one commits beside the checkpoint.
					require.NoError(t, f.form.commit(f.db, 0, f.base+2))
					failing := f.gate
					var late chan error
					if beside {
						f.arm(isAppend, f.d.fault)
						late = f.start(1, 1)
						<-f.gate.reached
					}
					close(failing.open)
					<-checkpoint
					most := []int{f.base + 2, 0}
					if beside {
						close(f.gate.open)
						if err := <-late; err != nil {
							f.isFailed(err, syscall.EIO)
						}
						most[1] = 1
					}
					// A reader sees what is durable, or is told that it is lost to this process.
					if err := f.db.View(func(tx *Tx) error {
						got := durableCounts(tx, 1)
						if err := tx.Err(); err != nil {
							return err
						}
						require.Equal(t, f.base+2, got[0])
						return nil
					}); err != nil {
						require.ErrorIs(t, err, ErrCorrupt)
						require.Equal(t, simFailFlush, fault.kind)
					}
					f.failed(syscall.EIO)
					f.holds([]int{f.base + 2, 0}, most)
				})
			}
		}
	}
}

// Ensures that a checkpoint in the background that cannot write pages leaves the store as it was, and that the next one works.
func TestCheckpoint_CannotWrite(t *testing.T) {
	for n := range 4 { // which of its writes fails
		f := newFaultyCommits(t, Options{})
		require.NoError(t, f.form.commit(f.db, 0, f.base+1))
		f.arm(nil, failOnce(isOp(simWriteAt), n, simFault{err: syscall.EIO, kind: simFailBefore}))
		f.db.pager.checkpointInBackground()
		f.arm(nil, nil)
		f.sees(f.base+1, 0)
		f.holds([]int{f.base + 1, 0}, []int{f.base + 1, 0})
		require.NoError(t, f.form.commit(f.db, 0, f.base+2))
		f.db.pager.checkpointInBackground()
		require.Equal(t, f.db.pager.tip.id, f.db.pager.durable.txid)
		require.NoError(t, f.form.commit(f.db, 1, 1))
		f.sees(f.base+2, 1)
		f.holds([]int{f.base + 2, 1}, []int{f.base + 2, 1})
		f.close()
		f.holds([]int{f.base + 2, 1}, []int{f.base + 2, 1})
	}
}

// Ensures that a reader that cannot bring pages into the file gets the error, and the next one what was committed.
func TestCommit_ReaderCannotWrite(t *testing.T) {
	f := newFaultyCommits(t, Options{})
	f.arm(nil, failOnce(isOp(simWriteAt), 0, simFault{err: syscall.EIO, kind: simFailShort}))
	err := f.db.View(func(*Tx) error { return nil })
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, ErrFailed)
	f.sees(f.base)
	require.NoError(t, f.form.commit(f.db, 0, f.base+1))
	f.sees(f.base + 1)
	f.close()
}

// Ensures that a run of the log that cannot be made ready fails the store where it was written to, and that what was
// acknowledged stays.
func TestLog_RunCannotBeCleared(t *testing.T) {
	for _, fault := range []simFault{{err: syscall.EIO, kind: simFailBefore}, {err: syscall.ENOSPC, kind: simFailShort}, {err: syscall.EIO, kind: simFailFlush, seed: 1}} {
		f := newFaultyCommits(t, Options{})
		n := f.base
		isClear := func(c simCall) bool { return isAppend(c) && c.len > logBlock }
		f.arm(nil, failOnce(isClear, 0, fault))
		var err error
		for err == nil {
			if err = f.form.commit(f.db, 0, n+1); err == nil {
				n++
			}
			require.Less(t, n, 1000, "no run is made ready")
		}
		f.isFailed(err, fault.err)
		f.sees(n)
		f.failed(fault.err)
		f.holds([]int{n}, []int{n})
	}
}

// Ensures that where there is no room for the log, a transaction commits by a checkpoint if there is room for that, and is rolled
// back if not; the store goes on either way, also for those that commit at the same time, and works when there is room again.
func TestLog_NoRoom(t *testing.T) {
	full := func(limit int64) func(simCall) simFault {
		return func(c simCall) simFault {
			if c.op == simGrow && c.off > limit {
				return simFault{err: syscall.ENOSPC, kind: simFailBefore}
			}
			return simFault{}
		}
	}
	for _, maxSize := range []bool{false, true} {
		t.Run(fmt.Sprintf("MaxSize %v", maxSize), func(t *testing.T) {
			f := newFaultyCommits(t, Options{LogSize: 1 << 20})
			limit := f.d.size() + 40<<10
			noRoom := error(syscall.ENOSPC)
			if maxSize {
				f.db.MaxSize, noRoom = int(limit), ErrMaxSizeReached
			} else {
				f.arm(nil, full(limit))
			}
			n, byCheckpoint := f.base, 0
			f.form.bytes = 3000
			for k := 0; ; k++ {
				before := f.db.pager.durable.sequence
				// A new key each time, until nothing fits any more.
				err := f.db.Update(func(tx *Tx) error {
					b := tx.Bucket([]byte("b"))
					return errors.Join(b.Put([]byte{0}, fmt.Append(nil, n+1)), b.Put(fmt.Appendf(nil, "key %d", k), make([]byte, 1000)))
				})
				if err != nil {
					require.ErrorIs(t, err, noRoom)
					require.NotErrorIs(t, err, ErrFailed)
					break
				}
				n++
				if f.db.pager.durable.sequence != before {
					byCheckpoint++
				}
				require.Less(t, k, 1000)
			}
			require.Positive(t, byCheckpoint, "no transaction has committed by a checkpoint")
			f.sees(n)
			f.holds([]int{n}, []int{n})
			// What needs no more room than there was before still works, several at once too.
			var waiting []chan error
			for id := 1; id < 4; id++ {
				done := make(chan error, 1)
				go func() {
					done <- f.db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte{byte(id)}, []byte("1")) })
				}()
				waiting = append(waiting, done)
			}
			counts := []int{n, 0, 0, 0}
			for i, done := range waiting {
				if err := <-done; err == nil {
					counts[i+1] = 1
				} else {
					require.ErrorIs(t, err, noRoom)
					require.NotErrorIs(t, err, ErrFailed)
				}
			}
			f.sees(counts...)
			f.holds(counts, counts)
			// With room again all is well.
			f.db.MaxSize = 0
			f.arm(nil, nil)
			require.NoError(t, f.form.commit(f.db, 0, n+1))
			counts[0]++
			f.sees(counts...)
			f.close()
			f.holds(counts, counts)
		})
	}
}

// Ensures that a transaction that meets a full disk, makes a checkpoint to get at pages that wait for one, and is rolled back after all, leaves
// that checkpoint's free map alone. Its pages were given out again, for the high water mark went back to where it was when the
// transaction began.
func TestCommit_FullDiskThenRollback(t *testing.T) {
	for seed := range uint64(150) {
		stopLater(t)
		rng := rand.New(rand.NewPCG(seed, 5))
		d := newSimDisk(simConfig{capacity: 20*4096 + rng.Int64N(8)*4096})
		o := Options{background: func(f func()) { f() }, checkpointAge: time.Hour, SyncInterval: time.Hour, NoSync: rng.IntN(4) == 0,
			LogSize: rng.IntN(2) * 4096 << rng.IntN(4), longValue: rng.IntN(2) * 4096, DirtyLimit: rng.IntN(2) * 8192}
		db, err := openStorage(d, &o)
		require.NoError(t, err)
		full := 0
		for range 150 {
			tx, err := db.Begin(true)
			require.NoError(t, err)
			require.NoError(t, checkWhole(tx), "seed %d", seed)
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for k := 0; err == nil && k < 1+rng.IntN(6); k++ {
				if key := []byte{byte(rng.IntN(12))}; rng.IntN(3) == 0 {
					err = b.Delete(key)
				} else {
					err = b.Put(key, make([]byte, rng.IntN(6000)))
				}
			}
			if err == nil && rng.IntN(2) == 0 {
				err = tx.Commit()
			} else {
				require.NoError(t, tx.Rollback())
			}
			if err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC, "seed %d", seed)
				full++
			}
			require.NoError(t, db.View(checkWhole), "seed %d", seed)
		}
		require.Positive(t, full)
		require.NoError(t, db.Close(), "seed %d", seed)
		db, err = openStorage(d.reopen(), &o)
		require.NoError(t, err, "seed %d", seed)
		require.NoError(t, db.View(checkWhole), "seed %d", seed)
		require.NoError(t, db.Close())
		require.Empty(t, d.misuse())
		d.release()
	}
}

// Ensures that a checkpoint writes no meta when a page that the system could not write was reported to an append beside its sync, which
// then succeeds: the system takes such a page for written. The meta led to pages that were not on the medium.
func TestCheckpoint_PageReportedElsewhere(t *testing.T) {
	for seed := range uint64(20) {
		f := newFaultyCommits(t, Options{})
		require.NoError(t, f.form.commit(f.db, 0, f.base+1))
		f.arm(isOp(simSync), failOnce(isAppend, 0, simFault{err: syscall.EIO, kind: simWriteBack, seed: seed}))
		checkpoint := make(chan struct{})
		go func() {
			defer close(checkpoint)
			f.db.pager.checkpointInBackground()
		}()
		<-f.gate.reached
		f.isFailed(f.form.commit(f.db, 0, f.base+2), syscall.EIO)
		before := f.db.pager.durable.sequence
		close(f.gate.open)
		<-checkpoint
		require.Equal(t, before, f.db.pager.durable.sequence, "a failed store writes a meta")
		f.failed(syscall.EIO)
		f.holds([]int{f.base + 1}, []int{f.base + 2})
	}
}

// Ensures the same where the append is still under way when the sync has returned.
func TestCheckpoint_PageReportedLate(t *testing.T) {
	for seed := range uint64(20) {
		f := newFaultyCommits(t, Options{})
		require.NoError(t, f.form.commit(f.db, 0, f.base+1))
		c, err := func() (*checkpointRun, error) {
			f.db.pager.writing <- struct{}{}
			defer f.db.pager.unlock()
			return f.db.pager.beginCheckpoint(false)
		}()
		require.NoError(t, err)
		// The pages are written; the append stops, has been told already, and nobody knows.
		f.arm(isAppend, failOnce(isAppend, 0, simFault{err: syscall.EIO, kind: simWriteBack, seed: seed}))
		f.db.pager.publishMu.Lock()
		require.NoError(t, f.db.pager.writeDue(c.state.id))
		f.db.pager.publishMu.Unlock()
		late := f.start(0, f.base+2)
		<-f.gate.reached
		before := f.db.pager.durable.sequence
		checkpoint := make(chan error, 1)
		go func() { checkpoint <- f.db.pager.endCheckpoint(c) }()
		time.Sleep(2 * time.Millisecond)
		close(f.gate.open)
		f.isFailed(<-late, syscall.EIO)
		f.isFailed(<-checkpoint, syscall.EIO)
		require.Equal(t, before, f.db.pager.durable.sequence, "a failed store writes a meta")
		f.failed(syscall.EIO)
		f.holds([]int{f.base + 1}, []int{f.base + 2})
	}
}
