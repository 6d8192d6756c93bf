// Package round runs trials: each (engine, workload, repetition) in a fresh process, the engines of a workload in
// turn (A B C A B C), over stores that are loaded once and shared as far as their workloads allow.
package round

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
	"github.com/alderdb/alder/bench/internal/workload"
)

// Options say what a round runs.
type Options struct {
	Name      string // "quick", "full", "run"
	Workloads []string
	Engines   []string // empty: all that take part by themselves
	Without   []string // of those, which are left out
	Reps      int
	Params    workload.Params
	Dir       string        // where temporary directories are made
	Timeout   time.Duration // of one trial
	Profiles  string        // directory for CPU profiles of the timed parts; empty: none
	Output    io.Writer     // JSON lines
	Progress  io.Writer
	Done      []workload.Result // trials of an earlier, interrupted round that need not run again
	Budget    time.Duration     // that the round ends within; 0: it takes what it takes
	Level     *Level            // what a round with a budget spends its time on, see Fit
	FixedTime bool              // the timed seconds are the user's, not the level's
	LoadLimit time.Duration     // after which a load is cut; 0: as the budget has it, or never
}

// Header is the first JSON line of a round.
type Header struct {
	Type    string          `json:"type"` // "round"
	Name    string          `json:"name"`
	Command []string        `json:"command"`
	Machine measure.Machine `json:"machine"`
	Reps    int             `json:"reps"`
	// BudgetSeconds and Level are those of a round with a budget.
	BudgetSeconds float64      `json:"budget_seconds,omitempty"`
	Level         *Level       `json:"level,omitempty"`
	Spends        string       `json:"spends,omitempty"` // the level in words
	Engines       []EngineInfo `json:"engines"`
}

// EngineInfo is what a report says of an engine.
type EngineInfo struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Settings  string `json:"settings"`
	LazyMeans string `json:"lazy_means,omitempty"`
	Missing   string `json:"missing,omitempty"`
}

// ErrFailedTrials says that the round ran to its end, but not every trial did.
var ErrFailedTrials = errors.New("some trials failed; their errors are in the output")

// Run runs a round. Results go to the output as they come. A trial that fails or hangs is recorded with its reason, and
// the round goes on; with a budget it ends in time, and says of each trial that it left out why.
func Run(ctx context.Context, o Options) error {
	tasks, err := Plan(o)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Dir, "alder-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out := json.NewEncoder(o.Output)
	if err := out.Encode(header(o, dir, tasks)); err != nil {
		return err
	}
	keep := filepath.Join(dir, "keep")
	if err := os.MkdirAll(keep, 0o755); err != nil {
		return err
	}
	r := &runner{options: o, dir: dir, keep: keep, out: out, clock: newClock(o, time.Now())}
	r.stores = newStores(filepath.Join(dir, "stores"), o, r.limits)
	r.takeEarlier(tasks)
	for i := range tasks {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		task := &tasks[i]
		if task.done && r.earlier(*task) == nil {
			continue // an engine that has no such thing says so once
		}
		r.stores.keepFor(tasks[i:])
		result := r.earlier(*task)
		if result == nil {
			r.clock.leaveOut(tasks[i:], r.stores.ready)
			began := time.Now()
			result = r.task(ctx, *task)
			r.clock.took(tasks[i:], time.Since(began).Seconds(), result)
		}
		if ctx.Err() != nil {
			return ctx.Err() // the trial was interrupted, it did not fail
		}
		if err := out.Encode(result); err != nil {
			return err
		}
		fmt.Fprintf(o.Progress, "[%d/%d %s] %s\n", i+1, len(tasks), r.clock, oneLine(*task, result))
		if result.Error != "" {
			r.failed = append(r.failed, fmt.Sprintf("%s %s: %s", task.Name, task.Engine.Name, firstLine(result.Error)))
		}
	}
	return r.verdict(len(tasks))
}

// verdict is the error of a round with failed trials. Wrong answers and broken promises of durability come first.
func (r *runner) verdict(trials int) error {
	if len(r.failed) == 0 {
		return nil
	}
	grave := func(text string) bool {
		return strings.Contains(text, workload.WrongAnswers) || strings.Contains(text, workload.NotDurable)
	}
	slices.SortStableFunc(r.failed, func(a, b string) int {
		switch {
		case grave(a) == grave(b):
			return 0
		case grave(a):
			return -1
		}
		return 1
	})
	return fmt.Errorf("%d of %d: %w:\n  %s", len(r.failed), trials, ErrFailedTrials, strings.Join(r.failed, "\n  "))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func header(o Options, dir string, tasks []Task) Header {
	h := Header{Type: "round", Name: o.Name, Command: os.Args[1:], Machine: measure.Describe(dir), Reps: o.Reps}
	h.BudgetSeconds, h.Level = o.Budget.Seconds(), o.Level
	if o.Level != nil {
		h.Spends = o.Level.describe(o.Reps)
	}
	seen := map[string]bool{}
	for _, task := range tasks {
		e := task.Engine
		if seen[e.Name] {
			continue
		}
		seen[e.Name] = true
		info := EngineInfo{Name: e.Name, Settings: e.Settings, LazyMeans: e.LazyMeans, Missing: e.Missing()}
		if info.Missing == "" {
			info.Version = e.Version()
		}
		h.Engines = append(h.Engines, info)
	}
	return h
}

type runner struct {
	options Options
	dir     string
	keep    string // what trials make once for all of them
	out     *json.Encoder
	stores  *stores
	clock   *clock
	failed  []string
}

// limits are how long the next process may take, and after how many seconds it has to cut a load.
func (r *runner) limits(task Task, prepare bool) (timeout time.Duration, load float64) {
	estimate := task.estimate
	if prepare {
		estimate = loadCost(task)
	}
	return r.clock.timeout(estimate, task.rank), r.options.loadLimit(prepare, task.rank)
}

// takeEarlier tells the clock that the trials of an earlier round take no time.
func (r *runner) takeEarlier(tasks []Task) {
	for i := range tasks {
		if r.earlier(tasks[i]) != nil {
			tasks[i].estimate = 0
			tasks[i].done = true
		}
	}
}

// earlier returns the result that an interrupted round already has for a task.
func (r *runner) earlier(task Task) *workload.Result {
	for i := range r.options.Done {
		d := &r.options.Done[i]
		if d.LeftOut == "" && d.Workload == task.Name && d.Engine == task.Engine.Name && d.Rep == task.Rep && d.Error == "" &&
			d.Params == task.Params {
			return d
		}
	}
	return nil
}

// task runs one trial.
func (r *runner) task(ctx context.Context, task Task) *workload.Result {
	result := &workload.Result{
		Type: "trial", Workload: task.Name, Engine: task.Engine.Name, Rep: task.Rep, Params: task.Params,
		Began: time.Now().UTC(), NA: task.NA,
	}
	if task.NA != "" {
		return result
	}
	if task.leftOut != "" {
		result.LeftOut = task.leftOut
		return result
	}
	dir, release, err := r.stores.take(ctx, task)
	if reason, na := engine.Reason(err); na {
		result.NA = reason
		return result
	}
	if err != nil {
		r.fail(result, err)
		return result
	}
	scratch, err := os.MkdirTemp(r.dir, "scratch-")
	if err != nil {
		result.Error = err.Error()
		return result
	}
	defer os.RemoveAll(scratch)
	spec := workload.Spec{
		Workload: task.Name, Engine: task.Engine.Name, Rep: task.Rep, Params: task.Params, Dir: dir, Scratch: scratch,
		Keep: r.keep,
	}
	timeout, limit := r.limits(task, false)
	spec.LoadLimit = limit
	if dir := r.options.Profiles; dir != "" {
		spec.Profile = filepath.Join(dir, fmt.Sprintf("%s-%s-%d.pprof", task.Name, task.Engine.Name, task.Rep))
	}
	got, err := Spawn(ctx, spec, timeout)
	if err != nil {
		r.fail(result, err)
		got = result
	}
	if err := release(got.Error != "" || got.LeftOut != ""); err != nil && got.Error == "" {
		got.Error = err.Error()
	}
	return got
}

// fail records why there is no result. What was ended because the budget was is no failure of the engine's.
func (r *runner) fail(result *workload.Result, err error) {
	if errors.Is(err, errNotDone) && r.clock.over() {
		result.LeftOut = r.clock.reason()
		return
	}
	result.Error = err.Error()
}

// oneLine says how a trial ended.
func oneLine(task Task, r *workload.Result) string {
	head := fmt.Sprintf("%-10s %-14s #%d  ", r.Workload, r.Engine, r.Rep)
	switch {
	case r.Error != "":
		return head + "FAILED: " + r.Error
	case r.NA != "":
		return head + "n/a: " + r.NA
	case r.LeftOut != "":
		return head + "left out: " + r.LeftOut
	}
	value, ok := r.Value(task.Workload.Main)
	if !ok {
		return head + fmt.Sprintf("no figure named %q", task.Workload.Main)
	}
	tail := ""
	if r.Cut != "" {
		tail = "  " + r.Cut
	}
	return head + fmt.Sprintf("%s = %.6g  (%.1f s)%s", task.Workload.Main, value, r.Seconds, tail)
}
