package round

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
	"github.com/alderdb/alder/bench/internal/workload"
)

// TestMain lets the test's own binary be the process of a trial.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == TrialCommand {
		if err := RunTrial(); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func options(t *testing.T, output io.Writer, workloads ...string) Options {
	return Options{
		Name: "run", Workloads: workloads, Engines: []string{"alder", "bbolt"}, Reps: 2, Dir: t.TempDir(),
		Timeout: time.Minute, Output: output, Progress: io.Discard,
		Params: workload.Params{Records: 2000, Seconds: 0.05, Warm: 0.01},
	}
}

func results(t *testing.T, text []byte) (header Header, trials []workload.Result) {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	require.NoError(t, json.Unmarshal(lines[0], &header))
	require.Equal(t, "round", header.Type)
	for _, line := range lines[1:] {
		var r workload.Result
		require.NoError(t, json.Unmarshal(line, &r))
		require.Equal(t, "trial", r.Type)
		trials = append(trials, r)
	}
	return header, trials
}

// Engines take turns, repetition by repetition, and nothing is left behind.
func TestRun_Interleaved(t *testing.T) {
	var output bytes.Buffer
	o := options(t, &output, "R1", "W4", "S7")
	require.NoError(t, Run(context.Background(), o))
	header, trials := results(t, output.Bytes())
	require.Len(t, header.Engines, 2)
	require.NotEmpty(t, header.Engines[1].Version)
	var order []string
	for _, r := range trials {
		require.Empty(t, r.Error)
		order = append(order, r.Workload+" "+r.Engine)
	}
	require.Equal(t, []string{
		"R1 alder", "R1 bbolt", "R1 alder", "R1 bbolt",
		"W4 alder", "W4 bbolt", "W4 alder", "W4 bbolt",
		"S7 alder", "S7 bbolt", "S7 alder", "S7 bbolt",
	}, order)
	left, err := os.ReadDir(o.Dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// An interrupted round goes on where it was, and a failed trial is tried again.
func TestRun_Resume(t *testing.T) {
	var first, second bytes.Buffer
	o := options(t, &first, "R1")
	require.NoError(t, Run(context.Background(), o))
	_, trials := results(t, first.Bytes())
	trials[2].Error = "the machine was restarted"
	o.Done, o.Output = trials, &second
	require.NoError(t, Run(context.Background(), o))
	_, again := results(t, second.Bytes())
	require.Len(t, again, 4)
	for i := range again {
		require.Equal(t, i != 2, again[i].Began.Equal(trials[i].Began), i)
		require.Empty(t, again[i].Error)
	}
}

// A trial that does not end is ended, and the round goes on to its end and says so.
func TestRun_Timeout(t *testing.T) {
	var output bytes.Buffer
	o := options(t, &output, "S7", "R6@seconds=30")
	o.Engines, o.Reps, o.Timeout = []string{"alder"}, 1, 3*time.Second
	err := Run(context.Background(), o)
	require.ErrorIs(t, err, ErrFailedTrials)
	_, trials := results(t, output.Bytes())
	require.Len(t, trials, 2)
	require.Empty(t, trials[0].Error)
	require.Contains(t, trials[1].Error, "not done after 3s")
}

// An engine that has no such thing, or is missing here, says why, once.
func TestPlan_NotApplicable(t *testing.T) {
	o := options(t, io.Discard, "S2", "R4")
	o.Engines, o.Params.Records = []string{"alder", "pebble", "buntdb"}, 1_000_000
	tasks, err := Plan(o)
	require.NoError(t, err)
	reasons := map[string]int{}
	for _, task := range tasks {
		if task.NA != "" {
			reasons[task.Name+" "+task.Engine.Name+": "+task.NA]++
		}
	}
	require.Equal(t, 1, reasons["S2 pebble: log-structured: no free pages"])
	require.Equal(t, 1, reasons["R4 buntdb: keeps all records in memory and reads its whole log at open"])
	_, err = Plan(options(t, io.Discard, "R99"))
	require.Error(t, err)
}

// Engines that only some workloads name take part in those alone.
func TestPlan_OnDemand(t *testing.T) {
	o := options(t, io.Discard, "W1", "W3")
	o.Engines = nil
	tasks, err := Plan(o)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, task := range tasks {
		seen[task.Name+" "+task.Engine.Name] = true
	}
	require.True(t, seen["W1 append"])
	require.False(t, seen["W3 append"])
	require.True(t, seen["W3 bbolt-batch"])
	require.False(t, seen["W1 bbolt-batch"])
}

// patient are limits of a round without a budget.
func patient(Task, bool) (time.Duration, float64) { return time.Minute, 0 }

// Stores are shared by the trials that may share them, and dropped with the last one that needs them.
func TestStores_Keep(t *testing.T) {
	o := options(t, io.Discard, "R1", "W1", "R2")
	tasks, err := Plan(o)
	require.NoError(t, err)
	s := newStores(t.TempDir(), o, patient)
	var dirs []string
	for i, task := range tasks {
		s.keepFor(tasks[i:])
		dir, release, err := s.take(context.Background(), task)
		require.NoError(t, err)
		require.DirExists(t, dir)
		dirs = append(dirs, dir)
		require.NoError(t, release(false))
	}
	require.Equal(t, dirs[0], dirs[2], "two repetitions read one store")
	require.NotEqual(t, dirs[0], dirs[1], "each engine has its own")
	require.Equal(t, dirs[4], dirs[6], "writers wear one store")
	require.NotEqual(t, dirs[0], dirs[4], "and not the readers', who come again")
	require.Equal(t, dirs[0], dirs[8])
	s.keepFor(nil)
	for _, dir := range dirs {
		require.NoDirExists(t, dir)
	}
}

// A worn store that a failed trial left is not used again.
func TestStores_DropFailed(t *testing.T) {
	o := options(t, io.Discard, "W1")
	tasks, err := Plan(o)
	require.NoError(t, err)
	s := newStores(t.TempDir(), o, patient)
	dir, release, err := s.take(context.Background(), tasks[0])
	require.NoError(t, err)
	require.NoError(t, release(true))
	again, _, err := s.take(context.Background(), tasks[0])
	require.NoError(t, err)
	require.NotEqual(t, dir, again)
}

// A spec that no engine takes comes back as an error in the result, not as a broken round.
func TestSpawn_BadSpec(t *testing.T) {
	result, err := Spawn(context.Background(), workload.Spec{Workload: "R1", Engine: "nosuch"}, time.Minute)
	require.NoError(t, err)
	require.Contains(t, result.Error, "nosuch")
}

// A copy has the same bytes, and holes stay holes.
func TestCopyTree(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	require.NoError(t, os.Mkdir(filepath.Join(from, "sub"), 0o755))
	sparse, err := os.Create(filepath.Join(from, "sub", "sparse"))
	require.NoError(t, err)
	_, err = sparse.WriteAt([]byte("end"), 64<<20)
	require.NoError(t, err)
	require.NoError(t, sparse.Close())
	require.NoError(t, os.WriteFile(filepath.Join(from, "full"), bytes.Repeat([]byte("x"), 100_000), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(from, "empty"), nil, 0o600))
	require.NoError(t, copyTree(to, from))
	for _, name := range []string{"sub/sparse", "full", "empty"} {
		a, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(to, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(a, b), name)
	}
	_, allocatedFrom, err := measure.Size(from)
	require.NoError(t, err)
	_, allocatedTo, err := measure.Size(to)
	require.NoError(t, err)
	require.InDelta(t, allocatedFrom, allocatedTo, 64<<10)
}

// What goes wrong is said in one line.
func TestOneLine(t *testing.T) {
	w, err := workload.Find("R1")
	require.NoError(t, err)
	e, err := engine.Find("bbolt")
	require.NoError(t, err)
	task := Task{Name: "R1", Workload: w, Engine: e, Rep: 1}
	require.Contains(t, oneLine(task, &workload.Result{Error: "no"}), "FAILED: no")
	require.Contains(t, oneLine(task, &workload.Result{NA: "none"}), "n/a: none")
	require.True(t, strings.HasSuffix(oneLine(task, &workload.Result{}), `no figure named "ns/op"`))
}
