package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder/bench/internal/round"
	"github.com/alderdb/alder/bench/internal/workload"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == round.TrialCommand {
		os.Exit(run(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// A round from the command line leaves its results and both reports, and resumes from them.
func TestRun_Command(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	args := []string{"run", "-engines", "alder,bbolt", "-reps", "1", "-n", "2k", "-seconds", "0.05", "-dir", t.TempDir()}
	require.Equal(t, 0, run(context.Background(), append(args, "-profile", "-out", out, "R1", "R1@g=2")))
	for _, name := range []string{"results.jsonl", "report.md", "report.html", "profiles/R1@g=2-bbolt-1.pprof"} {
		info, err := os.Stat(filepath.Join(out, name))
		require.NoError(t, err)
		require.Positive(t, info.Size())
	}
	results := filepath.Join(out, "results.jsonl")
	header, trials, err := readResults(results)
	require.NoError(t, err)
	require.Equal(t, "run", header.Name)
	require.Len(t, trials, 4)

	again := filepath.Join(t.TempDir(), "again")
	require.Equal(t, 0, run(context.Background(), append(args, "-out", again, "-resume", results, "R1", "R1@g=2")))
	_, resumed, err := readResults(filepath.Join(again, "results.jsonl"))
	require.NoError(t, err)
	require.Equal(t, trials, resumed)
	require.Equal(t, 0, run(context.Background(), []string{"report", "-out", t.TempDir(), results}))
}

// A results file whose last line an interruption cut short is read up to there; other damage is an error.
func TestReadResults_Damaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.jsonl")
	require.NoError(t, os.WriteFile(path, []byte("{\"type\":\"round\",\"name\":\"x\"}\n{\"type\":\"trial\"}\n{\"type\":\"tri"), 0o600))
	header, trials, err := readResults(path)
	require.NoError(t, err)
	require.Equal(t, "x", header.Name)
	require.Len(t, trials, 1)
	require.NoError(t, os.WriteFile(path, []byte("not json\n"), 0o600))
	_, _, err = readResults(path)
	require.ErrorContains(t, err, ":1:")
}

// A command line that does not fit ends with 2 and runs nothing.
func TestRun_Usage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"nosuch"}, {"run"}, {"run", "R99"}, {"run", "-engines", "nosuch", "R1"}, {"run", "-n", "many", "R1"},
		{"run", "-cache", "hot", "R1"}, {"run", "-reps", "0", "R1"}, {"run", "R1@g=x"}, {"quick", "R1"}, {"full", "R1"},
		{"report"}, {"list", "x"}, {"run", "-nosuch"}, {"memory", "x"}, {"memory", "-n", ","}, {"memory", "-n", "many"},
		{"memory", "-seconds", "0"},
	} {
		require.Equal(t, 2, run(context.Background(), args), args)
	}
	require.Equal(t, 0, run(context.Background(), []string{"run", "-h"}))
	require.Equal(t, 0, run(context.Background(), []string{"list"}))
}

// A dry run prints the plan and leaves nothing; a budget that makes no sense is refused.
func TestRun_DryRun(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.Equal(t, 0, run(context.Background(), []string{"full", "-budget", "30m", "-dry-run"}))
	require.Equal(t, 2, run(context.Background(), []string{"full", "-budget", "-1m"}))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// The quick round has five minutes, in which it does what it would do without a limit, if it can.
func TestQuick_Budget(t *testing.T) {
	c := config{reps: 3}
	o, err := c.options("quick", quickWorkloads)
	require.NoError(t, err)
	fitted, err := round.Fit(o)
	require.NoError(t, err)
	require.Equal(t, o.Level, fitted.Level)
	tasks, err := round.Plan(fitted)
	require.NoError(t, err)
	fitted.Level = nil
	plain, err := round.Plan(fitted)
	require.NoError(t, err)
	require.Len(t, tasks, len(plain))
	for i := range tasks {
		require.Equal(t, plain[i].Params, tasks[i].Params)
	}
	require.Less(t, o.Budget, 5*time.Minute+time.Second)
}

// A resumed round has the level and, unless it is given another, the budget of the first.
func TestResume_Level(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.jsonl")
	header := `{"type":"round","name":"full","reps":3,"budget_seconds":600,"level":{"number":4,"seconds":0.7,"reps":[3,3,1,1,1]}}`
	require.NoError(t, os.WriteFile(path, []byte(header+"\n"), 0o600))
	c := config{resume: path}
	var o round.Options
	require.NoError(t, c.earlier(&o))
	require.Equal(t, 0.7, o.Level.Seconds)
	require.Equal(t, 10*time.Minute, o.Budget)
	o = round.Options{Budget: time.Minute}
	require.NoError(t, c.earlier(&o))
	require.Equal(t, time.Minute, o.Budget)
}

// The rounds name workloads that exist.
func TestRounds(t *testing.T) {
	for _, names := range [][]string{quickWorkloads, fullRound()} {
		c := config{reps: 3}
		_, err := c.options("full", names)
		require.NoError(t, err)
	}
}

// The full round runs the workloads on the same loaded records one after the other.
func TestFullRound_Grouped(t *testing.T) {
	names := fullRound()
	seen := map[string]bool{}
	last := ""
	for _, name := range names {
		w, p, err := workload.Resolve(name, workload.Params{})
		require.NoError(t, err)
		key := ""
		if w.Store != workload.Empty {
			key = w.StoreKey(p)
		}
		require.True(t, key == last || !seen[key], "%s goes back to %q", name, key)
		seen[key], last = true, key
	}
	require.Len(t, names, len(workload.All())+len(variants))
}

// What memory costs is printed for each size, and no file stays.
func TestMemory_Command(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	dir := t.TempDir()
	var printed bytes.Buffer
	require.NoError(t, printChases(&printed, dir, []int{100, 1000}, 160, time.Millisecond))
	require.Regexp(t, `(?m)^ *1000 +0\.2( +\d+){4}$`, printed.String())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
