package round

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/workload"
)

// stores keeps the loaded stores of a round. Each is loaded once per engine and content, by a process of its own,
// and removed when no later trial needs it.
type stores struct {
	dir     string
	options Options
	ready   map[string]string // key → directory
	failed  map[string]error  // content that an engine could not load
	rest    []Task            // that come later
	limits  func(task Task, prepare bool) (timeout time.Duration, load float64)
	serial  int
}

func newStores(dir string, o Options, limits func(Task, bool) (time.Duration, float64)) *stores {
	return &stores{dir: dir, options: o, ready: map[string]string{}, failed: map[string]error{}, limits: limits}
}

// owner is the engine that writes the files that an engine reads.
func owner(e *engine.Engine) string {
	if e.DataOf != "" {
		return e.DataOf
	}
	return e.Name
}

func baseKey(task Task) string { return owner(task.Engine) + "-" + task.Workload.StoreKey(task.Params) }

// wornKey is the engine's own: what it leaves in a store is not measured with another that reads the same files.
func wornKey(task Task) string {
	return task.Engine.Name + "-" + task.Workload.StoreKey(task.Params) + "-worn"
}

// keepFor removes the stores that none of the tasks to come needs.
func (s *stores) keepFor(tasks []Task) {
	needed := map[string]bool{}
	s.rest = nil
	if len(tasks) > 0 {
		s.rest = tasks[1:]
	}
	for _, task := range tasks {
		switch {
		case task.NA != "" || task.done || task.Engine.Bare || task.Workload.Store == workload.Empty:
		case task.Workload.Store == workload.Worn && s.ready[wornKey(task)] != "":
			needed[wornKey(task)] = true
		case task.Workload.Store == workload.Worn:
			needed[wornKey(task)], needed[baseKey(task)] = true, true
		default:
			needed[baseKey(task)] = true
		}
	}
	for key, dir := range s.ready {
		if !needed[key] {
			os.RemoveAll(dir)
			delete(s.ready, key)
		}
	}
}

// take returns the directory of the store that a task runs on. release is told whether the trial failed, since
// then nobody knows what it left.
func (s *stores) take(ctx context.Context, task Task) (dir string, release func(failed bool) error, err error) {
	keep := func(bool) error { return nil }
	kind := task.Workload.Store
	if task.Engine.Bare {
		kind = workload.Empty
	}
	switch kind {
	case workload.Empty:
		dir, err := s.newDir("empty")
		return dir, func(bool) error { return os.RemoveAll(dir) }, err
	case workload.Own:
		base, err := s.loaded(ctx, task)
		if err != nil {
			return "", nil, err
		}
		dir, err := s.copyOf(base)
		return dir, func(bool) error { return os.RemoveAll(dir) }, err
	case workload.Worn:
		dir, err := s.worn(ctx, task)
		return dir, func(failed bool) error {
			if failed {
				return s.drop(wornKey(task))
			}
			return nil
		}, err
	}
	dir, err = s.loaded(ctx, task)
	return dir, keep, err
}

func (s *stores) drop(key string) error {
	dir := s.ready[key]
	delete(s.ready, key)
	return os.RemoveAll(dir)
}

func (s *stores) worn(ctx context.Context, task Task) (string, error) {
	key := wornKey(task)
	if dir, ok := s.ready[key]; ok {
		return dir, nil
	}
	base, err := s.loaded(ctx, task)
	if err != nil {
		return "", err
	}
	if s.lastUse(task) {
		delete(s.ready, baseKey(task))
		s.ready[key] = base
		return base, nil
	}
	dir, err := s.copyOf(base)
	if err == nil {
		s.ready[key] = dir
	}
	return dir, err
}

// lastUse reports whether nobody else needs the loaded store that a task is about to wear, so that it need not be
// copied.
func (s *stores) lastUse(task Task) bool {
	key, worn := baseKey(task), wornKey(task)
	for _, other := range s.rest {
		if other.NA != "" || other.done || other.Engine.Bare ||
			other.Workload.Store == workload.Empty || baseKey(other) != key {
			continue
		}
		if other.Workload.Store != workload.Worn || wornKey(other) != worn {
			return false
		}
	}
	return true
}

// loaded returns the directory of a loaded store, which is loaded now if it is not there.
func (s *stores) loaded(ctx context.Context, task Task) (string, error) {
	key := baseKey(task)
	if dir, ok := s.ready[key]; ok {
		return dir, nil
	}
	if err, ok := s.failed[key]; ok {
		return "", err
	}
	dir, err := s.newDir(key)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(s.options.Progress, "loading %s\n", key)
	spec := workload.Spec{
		Workload: task.Name, Engine: owner(task.Engine), Params: task.Params, Dir: dir, Prepare: true,
	}
	if spec.Scratch, err = s.newDir("scratch"); err != nil {
		return "", err
	}
	defer os.RemoveAll(spec.Scratch)
	timeout, limit := s.limits(task, true)
	spec.LoadLimit = limit
	result, err := Spawn(ctx, spec, timeout)
	switch {
	case err != nil:
	case result.NA != "":
		err = engine.NA("%s", result.NA)
	case result.Error != "":
		err = errors.New(result.Error)
	}
	if err != nil {
		os.RemoveAll(dir)
		err = fmt.Errorf("loading the store: %w", err)
		if ctx.Err() == nil {
			s.failed[key] = err
		}
		return "", err
	}
	s.ready[key] = dir
	return dir, nil
}

func (s *stores) newDir(name string) (string, error) {
	s.serial++
	dir := filepath.Join(s.dir, fmt.Sprintf("%s-%d", strings.ReplaceAll(name, "/", "_"), s.serial))
	return dir, os.MkdirAll(dir, 0o755)
}

func (s *stores) copyOf(base string) (string, error) {
	dir, err := s.newDir("copy")
	if err != nil {
		return "", err
	}
	if err := copyTree(dir, base); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}
