package faultdisk

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	cutsFlag = flag.Int("disk.cuts", 0, "power cuts of each file system in TestPowerCut; 0: 25 (10 with -short)")
	seedFlag = flag.Uint64("disk.seed", 0, "seed of the disks and writers; 0: from the clock")
)

func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("-disk.seed=%d", s)
		}
	})
	return s
}

// counted tells how much of a kind was done, for scripts/laboratory.sh, which adds up.
func counted(t *testing.T, goal, what string, n int) {
	t.Logf("laboratory|%s|%s|%d", goal, what, n)
}

// times is how often a test does something, by its flag.
func times(flag, usual, short int) int {
	switch {
	case flag > 0:
		return flag
	case testing.Short():
		return short
	}
	return usual
}

const cutsPerStore = 25

// cutPower cuts the power of a lab's disk again and again, until something is wrong.
func cutPower(l *lab, cuts int, part string) error {
	enough := func() bool {
		return l.total.cuts >= cuts && (l.acknowledged() > 0 || l.total.cuts >= 20*cuts)
	}
	for !enough() {
		l.newStore()
		for range cutsPerStore {
			if err := l.liveUntilCut(part); err != nil {
				return fmt.Errorf("cut %d: %w", l.total.cuts, err)
			}
			if err := l.mountAgain(); err != nil {
				// xfs recovers by the number in the first sector of a block, which may be there without the others.
				l.t.Logf("the file system did not survive cut %d: %v", l.total.cuts, err)
				if l.total.lost++; l.total.lost > 1+l.total.cuts/50 {
					return errLost
				}
				break
			}
			if err := l.verify(); err != nil {
				return fmt.Errorf("cut %d: %w", l.total.cuts, err)
			}
			if enough() {
				break
			}
		}
	}
	l.end()
	return nil
}

// Ensures that a store on a real file system loses no acknowledged transaction, and has none in part, when the power of its disk is cut at any
// moment: while it is created, opened, written to, and while the file system recovers from the cut before.
func TestPowerCut(t *testing.T) {
	for _, f := range []fileSystem{ext4, xfs, btrfs} {
		t.Run(f.name, func(t *testing.T) {
			l := newLab(t, f, seed(t))
			require.NoError(t, cutPower(l, times(*cutsFlag, 25, 10), "writer"))
			n := l.counts()
			t.Logf("%d power cuts, %d of them while the file system recovered, of %d stores; %d transactions acknowledged, %d keys verified; the disk has seen %d writes and %d flushes, %d of %d sectors that were not flushed reached the medium; %d file systems lost",
				l.total.cuts, l.total.inMount, l.total.stores, l.total.transactions, l.total.keys, n.Writes, n.Flushes, n.Kept, n.Unsynced, l.total.lost)
			counted(t, "C1", "power cuts of a disk under ext4, xfs and btrfs", l.total.cuts)
			require.Positive(t, l.total.transactions)
			require.Positive(t, n.Flushes, "syncs of the file system do not reach the disk: nothing was tested")
			require.Positive(t, n.Kept)
			require.Less(t, n.Kept, n.Unsynced)
		})
	}
}

// Ensures that the laboratory can fail: broken promises of the store, of the file system and of the disk are noticed after some cuts.
func TestPowerCut_Notices(t *testing.T) {
	withoutBarriers := ext4
	withoutBarriers.options += ",barrier=0"
	for _, c := range []struct {
		name string
		fs   fileSystem
		part string
		lies bool
	}{
		{name: "a store that acknowledges before it syncs", fs: ext4, part: "hasty"},
		{name: "the same on xfs", fs: xfs, part: "hasty"},
		{name: "the same on btrfs", fs: btrfs, part: "hasty"},
		{name: "a file system that does not flush", fs: withoutBarriers, part: "writer"},
		{name: "a disk that does not do what it is told to flush", fs: xfs, part: "writer", lies: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, c.fs, seed(t))
			l.tell("Lie", c.lies, &Nothing{})
			err := cutPower(l, 200, c.part)
			require.Error(t, err)
			t.Logf("noticed after %d power cuts: %v", l.total.cuts, err)
			require.NotErrorIs(t, err, errLost)
			require.NotContains(t, err.Error(), "before the power was cut")
		})
	}
}
