package round

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"

	"github.com/alderdb/alder/bench/internal/workload"
)

// planOf are the options of a round that could be run in a test, for plans.
func planOf(t *testing.T, budget time.Duration, workloads ...string) Options {
	o := options(t, io.Discard, workloads...)
	o.Engines, o.Reps, o.Budget, o.Params = nil, 3, budget, workload.Params{}
	return o
}

// A plan fits its budget, less of it gives less, and with enough of it a round is what it is without one.
func TestFit(t *testing.T) {
	names := []string{"S1", "R1", "R7", "W1", "W3", "R1@g=4", "R4", "W6"}
	last := -1
	for _, budget := range []time.Duration{24 * time.Hour, 22 * time.Minute, 9 * time.Minute, 6 * time.Minute} {
		o, err := Fit(planOf(t, budget, names...))
		require.NoError(t, err)
		cost, err := o.cost()
		require.NoError(t, err)
		require.LessOrEqual(t, cost, planned*budget.Seconds(), budget)
		require.Greater(t, o.Level.Number, last, budget)
		last = o.Level.Number
		tasks, err := Plan(o)
		require.NoError(t, err)
		require.Equal(t, "alder", tasks[0].Engine.Name)
		if o.Level.Number == 0 {
			for _, task := range tasks {
				_, p, err := workload.Resolve(task.Name, o.Params)
				require.NoError(t, err)
				if task.rank == needed && task.Engine.Name != "bbolt" {
					require.Equal(t, p.Seconds, task.Params.Seconds, task.Name)
				}
			}
		}
	}
	o, err := Fit(planOf(t, 0, names...))
	require.NoError(t, err)
	require.Nil(t, o.Level)
}

// What is left of a budget is spread over the timed seconds; seconds that the user has set stay.
func TestFit_Spread(t *testing.T) {
	o, err := Fit(planOf(t, 9*time.Minute, "R1", "R2", "R3", "R8", "W1", "W2", "W3"))
	require.NoError(t, err)
	require.Positive(t, o.Level.Number)
	require.Greater(t, o.Level.Seconds, levels[o.Level.Number].Seconds)
	require.Less(t, o.Level.Seconds, levels[o.Level.Number-1].Seconds)

	o = planOf(t, 9*time.Minute, "R1")
	o.Params.Seconds, o.FixedTime = 7, true
	o, err = Fit(o)
	require.NoError(t, err)
	tasks, err := Plan(o)
	require.NoError(t, err)
	require.Equal(t, 7.0, tasks[0].Params.Seconds)
}

// A plan that is printed names every workload, its engines and the whole time.
func TestPrintPlan(t *testing.T) {
	o, err := Fit(planOf(t, 10*time.Minute, "R1", "W6", "S7"))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, PrintPlan(&out, o))
	for _, want := range []string{"R1 ", "W6 ", "S7 ", "alder×3", "budget 10m0s", "estimated"} {
		require.Contains(t, out.String(), want)
	}
}

// When trials take longer than estimated, those that a round can best do without are left out, one of each pair that a
// goal needs never.
func TestClock_LeaveOut(t *testing.T) {
	o, err := Fit(planOf(t, 10*time.Minute, "R1", "W1", "R1@g=4"))
	require.NoError(t, err)
	o.Level = &levels[1]
	tasks, err := Plan(o)
	require.NoError(t, err)
	ready := map[string]string{}
	for _, task := range tasks {
		ready[baseKey(task)] = "loaded"
	}
	counts := func() (left map[rank]int) {
		left = map[rank]int{}
		for _, task := range tasks {
			if task.leftOut == "" && task.NA == "" {
				left[task.rank]++
			}
		}
		return left
	}
	whole := counts()
	c := newClock(o, time.Now())
	c.leaveOut(tasks, ready)
	require.Equal(t, whole, counts(), "there is time for all")

	c.end = time.Now().Add(time.Duration(0.8 * c.expected(tasks, ready) * float64(time.Second)))
	c.leaveOut(tasks, ready)
	some := counts()
	require.Equal(t, whole[needed], some[needed])
	require.Less(t, some[beside], whole[beside])

	c.end = time.Now().Add(time.Second)
	c.leaveOut(tasks, ready)
	for _, task := range tasks {
		require.Equal(t, task.rank == needed && task.Rep == 1, task.leftOut == "", "%s %s %d", task.Name, task.Engine.Name, task.Rep)
	}
	c.end = time.Now().Add(time.Hour)
	c.leaveOut(tasks, ready)
	require.Equal(t, whole, counts(), "there is time again")

	c.end = time.Now()
	c.leaveOut(tasks, ready)
	require.NotEmpty(t, tasks[0].leftOut)
}

// The later repetitions of a trial are expected to take what the first took, the others what the pace says.
func TestClock_Took(t *testing.T) {
	o := planOf(t, time.Hour, "R1", "R2")
	tasks, err := Plan(o)
	require.NoError(t, err)
	c := newClock(o, time.Now())
	require.Equal(t, 1.0, c.pace())
	timed := tasks[0].timed()
	require.Equal(t, 2.5, timed)
	tasks[0].estimate = timed + 1000
	c.took(tasks, timed+2000, &workload.Result{Seconds: timed + 2000})
	require.InDelta(t, 2, c.pace(), 0.05)
	again := tasks[0]
	again.Rep = 2
	require.InDelta(t, timed+2000, c.expectedOf(&again), 0.1)
	require.InDelta(t, timed+2*(tasks[1].estimate-timed), c.expectedOf(&tasks[1]), 0.1, "what is timed does not stretch")
	c.end = time.Now().Add(time.Hour)
	require.Equal(t, o.Timeout, c.timeout(100, needed), "no longer than the limit of a trial")
	c.end = time.Now().Add(time.Hour)
	require.Less(t, c.timeout(1, beside), c.timeout(1, needed))
	c.end = time.Now().Add(5 * time.Second)
	require.InDelta(t, 5, c.timeout(100, needed).Seconds(), 0.5, "and no longer than the budget")
}

// A round with too little time ends within it, without an error, and says what it left out and why.
func TestRun_Budget(t *testing.T) {
	var output bytes.Buffer
	o := options(t, &output, "R1", "R2@seconds=60", "W1", "W2", "W3")
	o.Budget, o.FixedTime, o.Params.Seconds = 3*time.Second, true, 0.5 // however fast the machine is, not all fit
	began := time.Now()
	require.NoError(t, Run(context.Background(), o))
	require.Less(t, time.Since(began), 8*time.Second, "the budget and what it takes to end a process")
	header, trials := results(t, output.Bytes())
	require.Equal(t, 3.0, header.BudgetSeconds)
	require.Len(t, trials, 20)
	require.Empty(t, trials[0].LeftOut)
	require.Equal(t, "no time was left in the budget of 3s", trials[19].LeftOut)
	o.Done, o.Budget = trials, 0
	o.Workloads = []string{"R1", "W1"}
	output.Reset()
	require.NoError(t, Run(context.Background(), o))
	_, trials = results(t, output.Bytes())
	for _, r := range trials {
		require.Empty(t, r.LeftOut, "what was left out is done when the round is resumed")
	}
}

// An engine that has no such thing says so once, whether that is known before or found out.
func TestRun_NotApplicableOnce(t *testing.T) {
	var output bytes.Buffer
	o := options(t, &output, "R5")
	o.Reps = 3
	require.NoError(t, Run(context.Background(), o))
	_, trials := results(t, output.Bytes())
	require.Len(t, trials, 4, "three of alder, one of bbolt")
	require.Equal(t, "has no call that looks up several keys", trials[1].NA)
}

// A trial that is ended takes the programs with it that it has started.
func TestSpawn_EndsGroup(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no process groups")
	}
	_, p, err := workload.Resolve("S5-kill", workload.Params{Records: 2000})
	require.NoError(t, err)
	spec := workload.Spec{
		Workload: "S5-kill", Engine: "alder", Rep: 1, Params: p, Dir: t.TempDir(), Scratch: t.TempDir(), Prepare: true,
	}
	_, err = Spawn(context.Background(), spec, time.Minute)
	require.NoError(t, err)
	spec.Prepare = false
	_, err = Spawn(context.Background(), spec, 900*time.Millisecond) // while its burst writes, which takes a second
	require.ErrorIs(t, err, errNotDone)
	db, err := alder.Open(filepath.Join(spec.Dir, "alder.db"), 0o600, &alder.Options{Timeout: 5 * time.Second})
	require.NoError(t, err, "nobody has the store open any more")
	require.NoError(t, db.Close())
}

// A round with a wrong answer names it before everything else.
func TestRun_Verdict(t *testing.T) {
	r := runner{failed: []string{"R1 a: not done after 5s", "R2 b: WRONG ANSWERS: 1 of 2", "W1 c: NOT DURABLE: none"}}
	err := r.verdict(9)
	require.ErrorIs(t, err, ErrFailedTrials)
	require.Equal(t, []string{
		"3 of 9: some trials failed; their errors are in the output:",
		"  R2 b: WRONG ANSWERS: 1 of 2", "  W1 c: NOT DURABLE: none", "  R1 a: not done after 5s",
	}, strings.Split(err.Error(), "\n"))
	require.NoError(t, (&runner{}).verdict(9))
}

// A trial that cannot load its store is recorded, and the round goes on.
func TestRun_Failures(t *testing.T) {
	var output bytes.Buffer
	o := options(t, &output, "GO-get", "S7")
	o.Params.Root = filepath.Join(t.TempDir(), "nosuch")
	err := Run(context.Background(), o)
	require.ErrorIs(t, err, ErrFailedTrials)
	require.ErrorContains(t, err, "GO-get bbolt: loading the store")
	_, trials := results(t, output.Bytes())
	require.Len(t, trials, 8)
	for _, r := range trials {
		require.Equal(t, r.Workload == "GO-get", strings.Contains(r.Error, "nosuch"), r.Error)
	}
}

// The last trials that use a loaded store may wear it: it is not copied for them.
func TestStores_LastUse(t *testing.T) {
	o := options(t, io.Discard, "R1", "W1", "W2")
	tasks, err := Plan(o)
	require.NoError(t, err)
	s := newStores(t.TempDir(), o, patient)
	var dirs []string
	for i, task := range tasks {
		s.keepFor(tasks[i:])
		dir, release, err := s.take(context.Background(), task)
		require.NoError(t, err)
		dirs = append(dirs, dir)
		require.NoError(t, release(false))
	}
	require.Equal(t, dirs[0], dirs[4], "W1 of alder wears what R1 has read")
	require.Equal(t, dirs[0], dirs[10])
}
