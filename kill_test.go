package alder_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder/internal/killtest"
)

// Real kills: the test binary runs itself as a writer process, several goroutines with all kinds of operations on one store, and kills
// it at a random moment, again and again. See internal/killtest, which kvctl torture shares.
//
// A kill leaves the page cache as it was, so this tests the order of writes and the recovery, not the syncs: those are
// for the simulated disk.

var (
	killsFlag    = flag.Int("alder.kills", 0, "number of kills of the writer process; 0: 20 (5 with -short)")
	killSeedFlag = flag.Uint64("alder.killseed", 0, "seed of the writers; 0: from the clock")
)

const killEnv = "ALDER_TEST_KILL_WRITER" // the round, in the writer's environment

func init() {
	if text := os.Getenv(killEnv); text != "" {
		round, err := killtest.ParseRound(text)
		if err == nil {
			err = killtest.WriteAndReport(round, os.Stdin, os.Stdout, os.Stderr)
		}
		if err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
}

// Ensures that a process that is killed at any moment loses no acknowledged transaction and leaves no partial one.
func TestKill(t *testing.T) { killWriters(t, 20, false) }

// Ensures the same where the file cannot become longer, most of the time: transactions that find no room are rolled back, and recovery works
// with what there is.
func TestKill_Full(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no limit on the length of files")
	}
	killWriters(t, 12, true)
}

func killWriters(t *testing.T, kills int, full bool) {
	switch {
	case *killsFlag > 0:
		kills = *killsFlag
	case testing.Short() && !full:
		kills = 5
	}
	seed := *killSeedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	self, err := os.Executable()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "alder-kill-")
	require.NoError(t, err)
	loop := killtest.Loop{
		Config: killtest.Config{Goroutines: 8, Seed: seed},
		Dir:    dir,
		Full:   full,
		Command: func(r killtest.Round) *exec.Cmd {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), killEnv+"="+r.String())
			return cmd
		},
		Until: func(total killtest.Totals) bool {
			// On a slow machine it takes some lives until the store has grown to the limit.
			return total.Kills >= kills && (!full || total.Full > 0) || total.Kills >= 50*kills
		},
	}
	total, err := loop.Run(context.Background())
	require.NoError(t, err, "-alder.killseed=%d; the store is left as it was found", seed)
	t.Logf("%d kills of %d stores, %d transactions acknowledged, %d keys verified, %d lives without room", total.Kills, total.Stores, total.Transactions, total.Keys, total.Full)
	t.Logf("laboratory|C2|kills of a writer|%d", total.Kills)
	require.Positive(t, total.Transactions)
	if full {
		require.Positive(t, total.Full)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, os.Remove(dir))
}
