// Package workload defines what is measured: each workload of GOALS.md, YCSB's, and some over real data. A
// workload runs in a process of its own, over one store of one engine, and fills in a Result.
package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
)

// Spec is what a trial's process is told, as JSON.
type Spec struct {
	Workload string `json:"workload"` // may have a variant: R1@g=4
	Engine   string `json:"engine"`
	Rep      int    `json:"rep"`
	Params   Params `json:"params"`
	Dir      string `json:"dir"`     // of the store
	Scratch  string `json:"scratch"` // for whatever else the trial writes
	Prepare  bool   `json:"prepare,omitempty"`
	Helper   string `json:"helper,omitempty"`  // a part of a trial that needs a process of its own
	Profile  string `json:"profile,omitempty"` // file for a CPU profile of the timed part
	// Keep is a directory for what the trials of a round make once for all of them; empty: there is none.
	Keep string `json:"keep,omitempty"`
	// LoadLimit is the seconds after which a load is cut; 0 = never.
	LoadLimit float64 `json:"load_limit,omitempty"`
}

// Trial is a workload that is being run.
type Trial struct {
	Spec
	Engine  *engine.Engine
	Set     data.Set
	Result  *Result
	disk    *measure.Disk
	usage   measure.Usage
	count   measure.DiskCount
	memory  *measure.Memory
	ready   io.Writer // of a helper: where it says that it has begun
	profile *os.File
}

// Run runs a spec to its end. What goes wrong is in the result.
func Run(spec Spec) *Result {
	began := time.Now()
	result := &Result{
		Type: "trial", Workload: spec.Workload, Engine: spec.Engine, Rep: spec.Rep, Params: spec.Params,
		Began: began.UTC(),
	}
	err := run(spec, result)
	if reason, na := engine.Reason(err); na {
		result.NA = reason
	} else if err != nil {
		result.Error = err.Error()
	}
	result.Seconds = time.Since(began).Seconds()
	return result
}

func run(spec Spec, result *Result) error {
	t, err := newTrial(spec, result)
	if err != nil {
		return err
	}
	if spec.Prepare {
		return t.prepare()
	}
	w, err := Find(spec.Workload)
	if err != nil {
		return err
	}
	if err := measure.Warm(spec.Dir, spec.Params.Cache); err != nil {
		return fmt.Errorf("warming the page cache: %w", err)
	}
	if result.State.Folios, err = measure.Folios(spec.Dir); err != nil {
		t.note("the state of the page cache is unknown: %v", err)
	}
	t.start() // workloads with a part that is not to be counted start anew behind it
	err = w.Run(t)
	t.finish()
	return err
}

// newTrial finds the engine and makes the records of a spec.
func newTrial(spec Spec, result *Result) (*Trial, error) {
	e, err := engine.Find(spec.Engine)
	if err != nil {
		return nil, err
	}
	if why := e.Missing(); why != "" {
		return nil, engine.NA("%s", why)
	}
	t := &Trial{Spec: spec, Engine: e, Result: result}
	if t.Set, err = spec.Params.Content(spec.Keep); err != nil {
		return nil, err
	}
	if t.disk, err = measure.FindDisk(spec.Dir); err != nil {
		result.State.DiskNA = err.Error()
		t.disk = nil
	}
	return t, nil
}

// start marks the beginning of what is measured; a second call begins anew.
func (t *Trial) start() {
	if t.memory != nil {
		t.memory.Stop()
	}
	t.memory = measure.WatchMemory()
	if t.disk != nil {
		var err error
		if t.count, err = t.disk.Read(); err != nil {
			t.Result.State.DiskNA, t.disk = err.Error(), nil
		}
	}
	t.startProfile()
	t.usage = measure.ReadUsage()
}

// startProfile begins the CPU profile, or begins it anew.
func (t *Trial) startProfile() {
	if t.Spec.Profile == "" {
		return
	}
	t.stopProfile()
	var err error
	if t.profile, err = os.Create(t.Spec.Profile); err == nil {
		err = pprof.StartCPUProfile(t.profile)
	}
	if err != nil {
		t.note("no profile: %v", err)
	}
}

func (t *Trial) stopProfile() {
	if t.profile == nil {
		return
	}
	pprof.StopCPUProfile()
	if err := t.profile.Close(); err != nil {
		t.note("the profile is not complete: %v", err)
	}
	t.profile = nil
}

// stop marks the end of what is measured and keeps the counters. What is written later (by a flush, by Close) is
// added to the bytes by finish.
func (t *Trial) stop() measure.Usage {
	used := measure.ReadUsage().Sub(t.usage)
	t.stopProfile()
	s := &t.Result.State
	s.CPUUserSeconds, s.CPUSystemSeconds = used.User.Seconds(), used.System.Seconds()
	s.MajorFaults, s.Allocs, s.AllocBytes = used.MajorFaults, used.Allocs, used.AllocBytes
	if t.memory != nil {
		s.PeakAnonBytes, s.PeakRSSBytes = t.memory.Stop()
		t.memory = nil
	}
	if t.disk != nil {
		if now, err := t.disk.Read(); err == nil {
			s.Disk = now.Sub(t.count)
		}
	}
	return used
}

func (t *Trial) finish() {
	if t.memory != nil { // the workload did not stop the clock itself, or failed
		t.stop()
	}
	s := &t.Result.State
	if length, allocated, err := measure.Size(t.Dir); err == nil {
		s.FileBytes, s.AllocatedBytes = length, allocated
	}
	const cold = 1000
	if s.MajorFaults > cold {
		t.note("%d major faults: this was a cold run", s.MajorFaults)
	}
}

// flushed makes everything reach the disk and returns what was written since start.
func (t *Trial) flushed() (measure.DiskCount, error) {
	if t.disk == nil {
		return measure.DiskCount{}, errors.New(t.Result.State.DiskNA)
	}
	if err := measure.Flush(t.Dir); err != nil {
		return measure.DiskCount{}, err
	}
	now, err := t.disk.Read()
	if err != nil {
		return measure.DiskCount{}, err
	}
	t.Result.State.Disk = now.Sub(t.count)
	return t.Result.State.Disk, nil
}

// measure adds a figure to the result.
func (t *Trial) measure(name string, value float64, unit string) {
	t.Result.Measures = append(t.Result.Measures, Measure{name, value, unit})
}

func (t *Trial) note(format string, args ...any) {
	t.Result.Notes = append(t.Result.Notes, fmt.Sprintf(format, args...))
}

// mapBytes is far more than any workload fills.
const mapBytes = 1 << 40

// open opens the trial's store with the durability of its parameters.
func (t *Trial) open() (engine.Store, error) { return t.openAt(t.Dir, t.Params.Durability, false) }

func (t *Trial) openAt(dir string, durability engine.Durability, appending bool) (engine.Store, error) {
	return t.openFor(engine.Config{Dir: dir, Durability: durability, Append: appending})
}

// openFor opens a store; it sets what is the same for all.
func (t *Trial) openFor(c engine.Config) (engine.Store, error) {
	if t.Engine.Open == nil {
		return nil, engine.NA("%s is a program that only reads", t.Engine.Name)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	if w, err := Find(t.Workload); err == nil {
		c.KeepFree = w.Prepared == freePages
	}
	c.CacheBytes, c.MapBytes, c.PageSize = t.Params.CacheBytes, mapBytes, t.Params.PageSize
	store, err := t.Engine.Open(c)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", t.Engine.Name, err)
	}
	return store, nil
}

// settle waits for what earlier work left in the background.
func settle(store engine.Store) error {
	if s, ok := store.(engine.Settler); ok {
		return s.Settle()
	}
	return nil
}

// with opens the trial's store, lets f use it, and closes it.
func (t *Trial) with(f func(engine.Store) error) error {
	store, err := t.open()
	if err != nil {
		return err
	}
	if err := f(store); err != nil {
		// The first error is what counts; a store in trouble may refuse to close.
		return errors.Join(err, closeAfter(store))
	}
	return store.Close()
}

func closeAfter(store engine.Store) error {
	closed := make(chan error, 1)
	go func() { closed <- store.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(10 * time.Second):
		return errors.New("the store does not close")
	}
}
