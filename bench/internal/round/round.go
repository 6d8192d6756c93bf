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
}

// Header is the first JSON line of a round.
type Header struct {
	Type    string          `json:"type"` // "round"
	Name    string          `json:"name"`
	Command []string        `json:"command"`
	Machine measure.Machine `json:"machine"`
	Reps    int             `json:"reps"`
	Engines []EngineInfo    `json:"engines"`
}

// EngineInfo is what a report says of an engine.
type EngineInfo struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Settings  string `json:"settings"`
	LazyMeans string `json:"lazy_means,omitempty"`
	Missing   string `json:"missing,omitempty"`
}

// Task is one trial of a plan.
type Task struct {
	Name     string // of the workload, with its variant
	Workload *workload.Workload
	Params   workload.Params
	Engine   *engine.Engine
	Rep      int
	NA       string // why it is not run
}

// Plan lists the trials of a round in the order in which they run.
func Plan(o Options) ([]Task, error) {
	var tasks []Task
	for _, name := range o.Workloads {
		w, params, err := workload.Resolve(name, o.Params)
		if err != nil {
			return nil, err
		}
		engines, err := taking(w, o)
		if err != nil {
			return nil, err
		}
		reps := o.Reps
		if w.Once {
			reps = 1
		}
		for rep := 1; rep <= reps; rep++ {
			for _, e := range engines {
				task := Task{Name: name, Workload: w, Params: params, Engine: e, Rep: rep}
				if ok, why := w.TakesPart(e, params); !ok {
					task.NA = why
				} else if why := e.Missing(); why != "" {
					task.NA = why
				}
				if task.NA != "" && rep > 1 {
					continue // said once
				}
				tasks = append(tasks, task)
			}
		}
	}
	return tasks, nil
}

// taking returns the engines that run a workload.
func taking(w *workload.Workload, o Options) ([]*engine.Engine, error) {
	if len(o.Engines) == 0 {
		var engines []*engine.Engine
		for _, e := range engine.All() {
			takesPart := !e.OnDemand || slices.Contains(w.With, e.Name)
			if takesPart && !slices.Contains(o.Without, e.Name) {
				engines = append(engines, e)
			}
		}
		return engines, nil
	}
	var engines []*engine.Engine
	for _, name := range o.Engines {
		e, err := engine.Find(name)
		if err != nil {
			return nil, err
		}
		engines = append(engines, e)
	}
	return engines, nil
}

// ErrFailedTrials says that the round ran to its end, but not every trial did.
var ErrFailedTrials = errors.New("some trials failed; their errors are in the output")

// Run runs a round. Results go to the output as they come.
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
	r := &runner{options: o, dir: dir, out: out, stores: newStores(filepath.Join(dir, "stores"), o)}
	for i, task := range tasks {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.stores.keepFor(tasks[i:])
		result := r.earlier(task)
		if result == nil {
			result = r.task(ctx, task)
		}
		if ctx.Err() != nil {
			return ctx.Err() // the trial was interrupted, it did not fail
		}
		if err := out.Encode(result); err != nil {
			return err
		}
		fmt.Fprintf(o.Progress, "[%d/%d] %s\n", i+1, len(tasks), oneLine(task, result))
		if result.Error != "" {
			r.failed++
		}
	}
	if r.failed > 0 {
		return fmt.Errorf("%d of %d: %w", r.failed, len(tasks), ErrFailedTrials)
	}
	return nil
}

func header(o Options, dir string, tasks []Task) Header {
	h := Header{Type: "round", Name: o.Name, Command: os.Args[1:], Machine: measure.Describe(dir), Reps: o.Reps}
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
	out     *json.Encoder
	stores  *stores
	failed  int
}

// earlier returns the result that an interrupted round already has for a task.
func (r *runner) earlier(task Task) *workload.Result {
	for i := range r.options.Done {
		d := &r.options.Done[i]
		if d.Workload == task.Name && d.Engine == task.Engine.Name && d.Rep == task.Rep && d.Error == "" &&
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
	dir, release, err := r.stores.take(ctx, task)
	if reason, na := engine.Reason(err); na {
		result.NA = reason
		return result
	}
	if err != nil {
		result.Error = err.Error()
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
	}
	if dir := r.options.Profiles; dir != "" {
		spec.Profile = filepath.Join(dir, fmt.Sprintf("%s-%s-%d.pprof", task.Name, task.Engine.Name, task.Rep))
	}
	got, err := Spawn(ctx, spec, r.options.Timeout)
	if err != nil {
		result.Error = err.Error()
		got = result
	}
	if err := release(got.Error != ""); err != nil && got.Error == "" {
		got.Error = err.Error()
	}
	return got
}

// oneLine says how a trial ended.
func oneLine(task Task, r *workload.Result) string {
	head := fmt.Sprintf("%-10s %-14s #%d  ", r.Workload, r.Engine, r.Rep)
	switch {
	case r.Error != "":
		return head + "FAILED: " + r.Error
	case r.NA != "":
		return head + "n/a: " + r.NA
	}
	value, ok := r.Value(task.Workload.Main)
	if !ok {
		return head + fmt.Sprintf("no figure named %q", task.Workload.Main)
	}
	return head + fmt.Sprintf("%s = %.6g  (%.1f s)", task.Workload.Main, value, r.Seconds)
}
