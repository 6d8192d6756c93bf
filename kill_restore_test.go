package alder_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Kills of a process that restores: what it replaces must be the old file or the new one.

const killRestoreEnv = "ALDER_TEST_KILL_RESTORE" // the directory, in the environment of the process that is killed

func init() {
	if dir := os.Getenv(killRestoreEnv); dir != "" {
		fmt.Fprintln(os.Stderr, restoreForEver(dir))
		os.Exit(3)
	}
}

// restoreForEver restores the backup in dir and brings it up to date, again and again, with a line of output for each step.
func restoreForEver(dir string) error {
	target := filepath.Join(dir, "store.db")
	for {
		full, err := os.Open(filepath.Join(dir, "full"))
		if err != nil {
			return err
		}
		diff, err := os.Open(filepath.Join(dir, "diff"))
		if err != nil {
			return err
		}
		_, err = alder.Restore(target, 0o600, full)
		fmt.Println("restored")
		if err == nil {
			_, err = alder.ApplyDiff(target, diff)
			fmt.Println("up to date")
		}
		if err := errors.Join(err, full.Close(), diff.Close()); err != nil {
			return err
		}
	}
}

// Ensures that a process that is killed while it restores a backup, or applies a diff to one, leaves the old file or the new one, whole.
func TestKill_Restore(t *testing.T) {
	t.Parallel()
	kills := 30
	switch {
	case *killsFlag > 0:
		kills = *killsFlag
	case testing.Short():
		kills = 8
	}
	db, base, diff := history(t)
	full, err := os.ReadFile(base.file)
	require.NoError(t, err)
	newer := db.snapshot()
	dir := tempDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "full"), full, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "diff"), diff, 0o600))
	target := filepath.Join(dir, "store.db")
	old := openAt(t, copyFile(t, base.file))
	want := map[alder.SnapshotID]uint64{base.id: fingerprint(t, old.DB), newer: fingerprint(t, db.DB)}
	self, err := os.Executable()
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	found, unfinished := map[alder.SnapshotID]int{}, 0
	for range kills {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), killRestoreEnv+"="+dir)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 1 + rng.IntN(4) {
			require.True(t, lines.Scan(), "the process ended by itself: %s", &said)
		}
		go func() { // it must not wait for who reads
			for lines.Scan() {
			}
		}()
		time.Sleep(time.Duration(rng.IntN(20_000)) * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()

		store, err := alder.Open(target, 0, &alder.Options{ReadOnly: true})
		require.NoError(t, err)
		var id alder.SnapshotID
		require.NoError(t, store.View(func(tx *alder.Tx) error {
			id = tx.Snapshot()
			return checkTx(tx)
		}))
		require.Contains(t, want, id)
		found[id]++
		require.Equal(t, want[id], fingerprint(t, store))
		require.NoError(t, store.Close())
		temporary, err := filepath.Glob(target + ".*.tmp")
		require.NoError(t, err)
		unfinished += len(temporary)
		for _, name := range temporary {
			require.NoError(t, os.Remove(name))
		}
	}
	t.Logf("%d kills: %d left the backup, %d what it becomes with the diff, %d temporary files", kills, found[base.id], found[newer], unfinished)
	require.Positive(t, found[base.id])
	require.Positive(t, unfinished)
}
