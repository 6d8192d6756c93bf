package faultdisk

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alderdb/alder/internal/killtest"
)

var killsFlag = flag.Int("disk.kills", 0, "kills of a writer on each file system in TestKill and TestKill_Full; 0: 20 (4 with -short)")

func killWriters(t *testing.T, loop killtest.Loop) {
	kills := times(*killsFlag, 20, 4)
	loop.Config = killtest.Config{Goroutines: 8, Seed: seed(t)}
	loop.Command = func(r killtest.Round) *exec.Cmd { return self("writer", r.String()) }
	loop.Until = func(total killtest.Totals) bool {
		seen := total.Transactions > 0 && (total.Full > 0 || !loop.Tight)
		return total.Kills >= kills && (seen || total.Kills >= 20*kills)
	}
	total, err := loop.Run(context.Background())
	var failure *killtest.Failure
	if errors.As(err, &failure) {
		t.Logf("the writer said: %s", failure.Stderr)
	}
	require.NoError(t, err)
	t.Logf("%d kills of %d stores, %d transactions acknowledged, %d keys verified, %d lives without room", total.Kills, total.Stores, total.Transactions, total.Keys, total.Full)
	counted(t, "C2", "kills on other file systems", total.Kills)
	require.Positive(t, total.Transactions)
	if loop.Tight {
		require.Positive(t, total.Full)
	}
}

// Ensures that a process that is killed at any moment loses no acknowledged transaction and leaves no partial one, on file systems of each
// kind.
func TestKill(t *testing.T) {
	for _, f := range []fileSystem{ext4, xfs, btrfs, tmpfs} {
		t.Run(f.name, func(t *testing.T) {
			f.need(t)
			killWriters(t, killtest.Loop{Dir: f.mounted(t, f.size)})
		})
	}
}

// Ensures the same on small file systems that have little room, or none: the system says so, and no limit on the length of files.
func TestKill_Full(t *testing.T) {
	for _, f := range []fileSystem{ext4, xfs, btrfs, tmpfs} {
		t.Run(f.name, func(t *testing.T) {
			f.need(t)
			dir := f.mounted(t, f.small)
			killWriters(t, killtest.Loop{Dir: dir, Tight: true, CopyOnWrite: f.name == "btrfs", Before: func(r killtest.Round, rng *rand.Rand) error {
				room := rng.Int64N(4) * rng.Int64N(f.spare)
				if fi, err := os.Stat(r.File); err != nil || fi.Size() < newStore {
					room = 3 * f.spare
				}
				return leaveRoom(filepath.Join(dir, "ballast"), room)
			}})
			require.NoError(t, os.Remove(filepath.Join(dir, "ballast")))
		})
	}
}

const newStore = 64 << 10 // a shorter file may be a store whose making was interrupted, and must have room

// leaveRoom makes a file so long that so many bytes of its file system are free.
func leaveRoom(name string, room int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var at unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &at); err != nil {
		return err
	}
	length := int64(at.Bfree)*at.Bsize - room
	for length > 0 { // the file's own description takes room too
		err := unix.Fallocate(int(f.Fd()), 0, 0, length)
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		length -= 256 << 10
	}
	return nil
}
