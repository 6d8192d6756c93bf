package round

import (
	"fmt"
	"time"

	"github.com/alderdb/alder/bench/internal/workload"
)

// clock keeps a round within its budget: it compares what trials take with what was estimated, and leaves out those
// that the round can best do without when the rest would not fit.
type clock struct {
	options Options
	began   time.Time
	end     time.Time // zero without a budget
	// estimated and spent are of the trials that ran, without the seconds that were timed: those do not stretch.
	estimated, spent float64
	taken            map[pair]float64
}

// pair is what repetitions have in common.
type pair struct{ workload, engine string }

// cleanup is the share of a budget that is kept for removing stores and writing the report.
const cleanup = 0.015

func newClock(o Options, now time.Time) *clock {
	c := &clock{options: o, began: now, taken: map[pair]float64{}}
	if o.Budget > 0 {
		c.end = now.Add(o.Budget - time.Duration(cleanup*float64(o.Budget)))
	}
	return c
}

func (c *clock) over() bool { return !c.end.IsZero() && !time.Now().Before(c.end) }

func (c *clock) reason() string {
	return fmt.Sprintf("no time was left in the budget of %v", c.options.Budget)
}

// timeout is the longest that a process may take that was estimated to take so many seconds.
func (c *clock) timeout(estimate float64, r rank) time.Duration {
	if c.end.IsZero() {
		return c.options.Timeout
	}
	// A hanging trial must not take the time of all others, and a slow one that no goal needs neither.
	patience, least := 8.0, 60.0
	if r != needed {
		patience, least = 5, 30
	}
	patience *= max(1, c.pace())
	timeout := min(c.options.Timeout, time.Duration((least+patience*estimate)*float64(time.Second)))
	return max(time.Second, min(timeout, time.Until(c.end)))
}

// took notes how long the first of the tasks took; its later repetitions are expected to take as long.
func (c *clock) took(tasks []Task, seconds float64, result *workload.Result) {
	task := tasks[0]
	if result.NA != "" {
		for i := range tasks[1:] {
			if later := &tasks[1+i]; later.Name == task.Name && later.Engine == task.Engine {
				later.done = true
			}
		}
	}
	if result.NA != "" || result.LeftOut != "" {
		return
	}
	c.spent += max(0, seconds-task.timed())
	c.estimated += task.estimate - task.timed()
	if task.loads {
		c.estimated += loadCost(task)
	}
	if result.Error != "" {
		return
	}
	c.taken[pair{task.Name, task.Engine.Name}] = result.Seconds + 0.05
}

// timed are the seconds of a trial's estimate that are as long on a slow machine.
func (task Task) timed() float64 { return min(task.estimate, task.Params.Seconds+task.Params.Warm) }

// pace is how many times as long as estimated things take. It begins at 1, and the first trials say little.
func (c *clock) pace() float64 {
	const prior = 30 // seconds that count as if they had been as estimated
	return min(4, max(0.4, (c.spent+prior)/(c.estimated+prior)))
}

// expected are the seconds that tasks will take.
func (c *clock) expected(tasks []Task, ready map[string]string) float64 {
	total, loaded, pace := 0.0, map[string]bool{}, c.pace()
	for i := range tasks {
		task := &tasks[i]
		if task.NA != "" || task.leftOut != "" || task.done {
			continue
		}
		total += c.expectedOf(task)
		if key, ok := loadsFor(task, ready, loaded); ok {
			loaded[key] = true
			total += loadCost(*task) * pace
		}
	}
	return total
}

func (c *clock) expectedOf(task *Task) float64 {
	if taken, ok := c.taken[pair{task.Name, task.Engine.Name}]; ok {
		return taken
	}
	return task.timed() + (task.estimate-task.timed())*c.pace()
}

// loadsFor reports whether a store has to be loaded for a task, and which.
func loadsFor(task *Task, ready map[string]string, loaded map[string]bool) (key string, ok bool) {
	if task.Engine.Bare || task.Workload.Store == workload.Empty {
		return "", false
	}
	key = baseKey(*task)
	return key, !loaded[key] && ready[key] == "" && ready[wornKey(*task)] == ""
}

// leaveOut decides anew which tasks the round does without, so that the others fit into what is left of the budget.
// Only the first of them is about to begin: what it says of later ones may change with what trials take until then.
func (c *clock) leaveOut(tasks []Task, ready map[string]string) {
	if c.end.IsZero() {
		return
	}
	for i := range tasks {
		tasks[i].leftOut = ""
	}
	left := time.Until(c.end).Seconds()
	if left <= 0 {
		c.mark(&tasks[0])
		return
	}
	_, tasks[0].loads = loadsFor(&tasks[0], ready, nil)
	for _, class := range dispensable {
		if c.expected(tasks, ready) <= left {
			return
		}
		c.leaveOutClass(tasks, ready, class.rank, class.rep, left)
	}
}

// dispensable lists which trials a round leaves out first: those of a rank, from a repetition on. The first repetition
// of what goals need is left out by the end of the budget alone.
var dispensable = []struct {
	rank rank
	rep  int
}{
	{besideVariant, 2}, {variant, 2}, {besideDear, 2}, {beside, 3}, {besideVariant, 1}, {beside, 2},
	{besideDear, 1}, {needed, 3}, {variant, 1}, {beside, 1}, {needed, 2},
}

// leaveOutClass marks tasks of a rank, from a repetition on, until the others fit; later ones first.
func (c *clock) leaveOutClass(tasks []Task, ready map[string]string, r rank, rep int, left float64) {
	over := c.expected(tasks, ready) - left
	for i := len(tasks) - 1; i >= 0 && over > 0; i-- {
		task := &tasks[i]
		if task.rank != r || task.Rep < rep || task.NA != "" || task.leftOut != "" || task.done {
			continue
		}
		over -= c.expectedOf(task)
		c.mark(task)
		if over <= 0 || i%16 == 0 {
			over = c.expected(tasks, ready) - left // loads that nobody needs any more are gone too
		}
	}
}

func (c *clock) mark(task *Task) {
	if task.NA == "" && !task.done {
		task.leftOut = c.reason()
	}
}

// String says how much of the round's time is over.
func (c *clock) String() string {
	gone := time.Since(c.began).Round(time.Second)
	if c.end.IsZero() {
		return gone.String()
	}
	return fmt.Sprintf("%v of %v", gone, c.options.Budget)
}
