package round

import (
	"slices"
	"strings"

	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/workload"
)

// Task is one trial of a plan.
type Task struct {
	Name     string // of the workload, with its variant
	Workload *workload.Workload
	Params   workload.Params
	Engine   *engine.Engine
	Rep      int
	NA       string // why it is not run
	rank     rank
	estimate float64 // seconds, without the load of its store
	leftOut  string  // why a round with a budget does not come to it
	done     bool    // by an earlier round
	loads    bool    // its store was not there when it began
}

// rank says how soon a round with little time does without a trial.
type rank int

const (
	needed        rank = iota // a goal's verdict depends on it
	beside                    // another engine
	besideDear                // another engine, where a trial takes long
	variant                   // other knobs, for the charts; engines that goals need
	besideVariant             // other knobs, other engines
	ranks
)

func (r rank) String() string {
	return [...]string{"goals", "other engines", "other engines, where a trial takes long", "variants", "variants, other engines"}[r]
}

// dear is how many seconds a trial takes that is repeated for the engines alone that goals need, if time is short.
const dear = 3

func rankOf(task Task) rank {
	isVariant, isNeeded := strings.Contains(task.Name, "@"), task.Workload.Needs(task.Engine.Name)
	switch {
	case isVariant && isNeeded:
		return variant
	case isVariant:
		return besideVariant
	case isNeeded:
		return needed
	case task.Workload.Scale > 1 || estimate(task) > dear+task.Params.Seconds+task.Params.Warm:
		return besideDear
	}
	return beside
}

// Plan lists the trials of a round in the order in which they run, as its level and its options have them.
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
		for rep := 1; rep <= o.Reps; rep++ {
			for _, e := range engines {
				task := Task{Name: name, Workload: w, Params: params, Engine: e, Rep: rep}
				task.rank = rankOf(task)
				if rep > o.reps(task) {
					continue
				}
				task.Params = o.timed(task)
				if ok, why := w.TakesPart(e, params); !ok {
					task.NA = why
				} else if why := e.Missing(); why != "" {
					task.NA = why
				}
				if task.NA != "" && rep > 1 {
					continue // said once
				}
				task.estimate = estimate(task)
				tasks = append(tasks, task)
			}
		}
	}
	return tasks, nil
}

// reps is how often a task's trial is repeated.
func (o Options) reps(task Task) int {
	reps := o.Reps
	if task.Workload.Once {
		reps = 1
	}
	if o.Level != nil {
		reps = min(reps, o.Level.Reps[task.rank])
	}
	return reps
}

// timed returns a task's parameters with the times of the round's level.
func (o Options) timed(task Task) workload.Params {
	p := task.Params
	if o.Level == nil {
		return p
	}
	if !o.FixedTime {
		if task.Workload.Long {
			p.Seconds = max(leastLong, p.Seconds*o.Level.Long)
			if task.Params.Seconds >= minutes && (task.rank != needed || !task.wantsMinutes()) {
				p.Seconds = max(leastLong, p.Seconds*o.Level.Long*shareOfOthers)
			}
		} else {
			p.Seconds = o.Level.Seconds
		}
	}
	if o.Params.Warm == 0 {
		p.Warm = o.Level.Warm
	}
	return p
}

const (
	leastLong     = 4  // seconds of a workload that has its own time, at least
	minutes       = 60 // seconds from which on only those engines have them that a goal names
	shareOfOthers = 0.2
)

// wantsMinutes reports whether an engine's own goal is in what a workload does for minutes.
func (task Task) wantsMinutes() bool {
	return task.Engine.Name == "alder" || slices.Contains(task.Workload.Peers, task.Engine.Name)
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
