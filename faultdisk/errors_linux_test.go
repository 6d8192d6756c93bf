package faultdisk

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder/internal/killtest"
)

var errorsFlag = flag.Int("disk.errors", 0, "errors of the disk under each file system in TestDiskErrors; 0: 25 (10 with -short)")

// liveWithErrors lets a writer write while a write or a flush of the disk fails, and looks at what it says then.
func (l *lab) liveWithErrors() error {
	l.round.Vary(l.rng)
	if fi, err := os.Stat(l.round.File); err == nil && fi.Size() > 0 {
		l.round.PageSize = 0 // it has one, and asking for it may fail
	}
	f := Fault{More: l.rng.IntN(2) * l.rng.IntN(10), Sticky: l.rng.IntN(2) == 0, Seed: l.rng.Uint64()}
	n := 1 << l.rng.IntN(8)
	if n += l.rng.IntN(n); l.rng.IntN(2) == 0 {
		f.Flush = n
	} else {
		f.Write = n
	}
	l.tell("Fail", f, &Nothing{})
	before := l.counts()
	p := l.start("failing")
	hung := time.AfterFunc(time.Minute, p.kill)
	ended := time.AfterFunc(time.Duration(l.rng.Int64N(int64(400*time.Millisecond))), func() { _ = p.stdin.Close() })
	stop := l.stir()
	wrong := l.wait(p)
	stop()
	ended.Stop()
	after := l.counts()
	l.total.errors += after.FailedWrites + after.FailedFlushes - before.FailedWrites - before.FailedFlushes
	switch {
	case wrong != nil:
		return wrong
	case !hung.Stop():
		return errors.New("the writer hangs")
	case p.verdict == nil || p.stderr.Len() > 0:
		return fmt.Errorf("the writer has come to a bad end: %s", p.stderr.String())
	case p.verdict.Broken != "":
		return errors.New(p.verdict.Broken)
	}
	if p.verdict.Failed {
		l.total.failed++
	}
	l.note("fault %+v: %+v", f, *p.verdict)
	if p.verdict.Err != "" {
		l.total.complaints++
	}
	return nil
}

// survive looks at the store after the disk has failed: perhaps as it is, with a page cache in which the pages that could not be written may be
// taken for clean; and when the disk was repaired, after a power cut or an orderly end.
func (l *lab) survive() error {
	before := "not looked at before"
	if l.rng.IntN(2) == 0 && l.works() {
		if err := l.verify(); err != nil && !isOfDisk(err) {
			return fmt.Errorf("opened without a restart: %w", err)
		}
		before = "before: " + l.looked
	}
	if l.rng.IntN(3) > 0 {
		l.cut()
	} else {
		l.unmount()
		l.tell("Fail", Fault{}, &Nothing{})
	}
	if err := l.mountAgain(); err != nil {
		l.t.Logf("the file system is lost: %v", err)
		l.total.lost++
		return errLost
	}
	if err := l.verify(); err != nil {
		return fmt.Errorf("opened after a restart (%s): %w", before, err)
	}
	return nil
}

// works reports whether files can still be made. When ext4 has met an error of its own it takes nothing more, and its fsync says nothing and does
// nothing: what can be read then is not known to be durable, by nobody.
func (l *lab) works() bool {
	f, err := os.CreateTemp(l.mounted, "probe")
	if err != nil {
		return false
	}
	err = errors.Join(f.Sync(), f.Close(), os.Remove(f.Name()))
	return err == nil
}

var errLost = errors.New("the file system is lost")

// failDisk lets the disk fail again and again, until something is wrong.
func failDisk(l *lab, failures int) error {
	rounds := 0
	enough := func() bool {
		return rounds >= failures && (l.total.failed > 0 && l.acknowledged() > 0 || rounds >= 20*failures)
	}
	for !enough() {
		l.newStore()
		for range cutsPerStore {
			rounds++
			if err := l.liveWithErrors(); err != nil {
				return fmt.Errorf("round %d: %w", rounds, err)
			}
			err := l.survive()
			if errors.Is(err, errLost) {
				break
			}
			if err != nil {
				return fmt.Errorf("round %d: %w", rounds, err)
			}
			if enough() {
				break
			}
		}
	}
	l.end()
	return nil
}

// Ensures that a store on a real file system, some writes or flushes of whose disk fail, says so, stops to write, and has lost nothing that it
// has acknowledged: neither as the page cache has it, nor when the disk was repaired.
func TestDiskErrors(t *testing.T) {
	for _, f := range []fileSystem{ext4, xfs} {
		t.Run(f.name, func(t *testing.T) {
			l := newLab(t, f, seed(t))
			require.NoError(t, failDisk(l, times(*errorsFlag, 25, 10)))
			t.Logf("%d failed writes and flushes, after which %d lives ended with an error and %d in the failed state, of %d stores; %d power cuts; %d transactions acknowledged, %d keys verified; %d file systems lost",
				l.total.errors, l.total.complaints, l.total.failed, l.total.stores, l.total.cuts, l.total.transactions, l.total.keys, l.total.lost)
			counted(t, "C3", "failures of a disk under ext4 and xfs", l.total.errors)
			require.Positive(t, l.total.errors)
			require.Positive(t, l.total.failed)
			require.Positive(t, l.total.transactions)
		})
	}
}

// Ensures that what is written again after a failed write is there after the next power cut: a write of the recovery fails, one of all that it
// makes; the store is opened again, without a restart of the system, and that succeeds; and then the power fails.
//
// On ext4 a block that was only reserved stays so when the first write to it fails, whatever is written there later and synced with
// success. The recovery that succeeded had written the same pages again, and they were zeros when the cache was gone. Since then an open after a
// failure has the cache dropped first.
func TestDiskErrors_WrittenAgain(t *testing.T) {
	for _, f := range []fileSystem{ext4, xfs} {
		t.Run(f.name, func(t *testing.T) {
			l := newLab(t, f, seed(t))
			failed := 0
			for n := 1; n <= times(0, 12, 4) || failed == 0 && n < 100; n++ {
				l.newStore()
				require.NoError(t, l.liveUntilCut("writer"))
				require.NoError(t, l.mountAgain())
				l.tell("Fail", Fault{Write: 1 + n%12, Seed: l.rng.Uint64()}, &Nothing{})
				_, err := killtest.Look(l.round, l.verifier, true)
				l.note("with the fault: %v", err)
				if err != nil && l.works() {
					failed++
					require.True(t, isOfDisk(err), "%v", err)
					_, err := killtest.Look(l.round, l.verifier, true)
					require.NoError(t, err)
				}
				l.tell("Freeze", Nothing{}, &Nothing{})
				l.cut()
				require.NoError(t, l.mountAgain())
				require.NoError(t, l.verify())
			}
			l.end()
			require.Positive(t, failed)
			t.Logf("%d opens failed, and all is there after the next", failed)
		})
	}
}
