package round

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/workload"
)

// Level says what a round spends its time on. A header keeps it, so that a round that is resumed goes on as it began.
type Level struct {
	Number  int        `json:"number"`
	Seconds float64    `json:"seconds"` // timed, of each trial
	Warm    float64    `json:"warm"`    // before that
	Long    float64    `json:"long"`    // share of their time that workloads have that run for minutes
	Reps    [ranks]int `json:"reps"`    // of the trials of each rank
}

// levels begin with a round that has all the time; each is cheaper than the one before.
var levels = []Level{
	{Seconds: 2, Warm: 0.5, Long: 1, Reps: [ranks]int{99, 99, 99, 99, 99}},
	{Seconds: 2, Warm: 0.5, Long: 1, Reps: [ranks]int{99, 99, 99, 1, 1}},
	{Seconds: 1, Warm: 0.3, Long: 1, Reps: [ranks]int{99, 99, 99, 1, 1}},
	{Seconds: 1, Warm: 0.3, Long: 0.5, Reps: [ranks]int{99, 99, 1, 1, 1}},
	{Seconds: 0.7, Warm: 0.2, Long: 0.4, Reps: [ranks]int{99, 99, 1, 1, 1}},
	{Seconds: 0.5, Warm: 0.2, Long: 0.4, Reps: [ranks]int{99, 99, 1, 1, 1}},
	{Seconds: 0.4, Warm: 0.15, Long: 0.4, Reps: [ranks]int{99, 99, 1, 1, 1}},
	{Seconds: 0.3, Warm: 0.1, Long: 0.35, Reps: [ranks]int{99, 99, 1, 1, 1}},
	{Seconds: 0.3, Warm: 0.1, Long: 0.3, Reps: [ranks]int{99, 2, 1, 1, 1}},
	{Seconds: 0.3, Warm: 0.1, Long: 0.2, Reps: [ranks]int{99, 1, 1, 1, 1}},
	{Seconds: 0.3, Warm: 0.1, Long: 0.15, Reps: [ranks]int{99, 1, 1, 1, 0}},
	{Seconds: 0.3, Warm: 0.1, Long: 0.1, Reps: [ranks]int{99, 1, 0, 1, 0}},
	{Seconds: 0.3, Warm: 0.1, Long: 0.1, Reps: [ranks]int{2, 1, 0, 1, 0}},
	{Seconds: 0.3, Warm: 0.1, Long: 0.05, Reps: [ranks]int{1, 1, 0, 1, 0}},
	{Seconds: 0.2, Warm: 0.1, Long: 0.02, Reps: [ranks]int{1, 1, 0, 0, 0}},
	{Seconds: 0.2, Warm: 0.1, Long: 0.01, Reps: [ranks]int{1, 0, 0, 0, 0}},
}

// AllOf is a level for a round that is planned as it is and has a budget only for the case that the machine is slow.
func AllOf(seconds, warm float64) *Level {
	return &Level{Seconds: seconds, Warm: warm, Long: 1, Reps: levels[0].Reps}
}

// planned is how much of a budget a plan may fill by its estimates. They are rough, and a plan that is too long costs the
// last of the repetitions that a round can best do without, one that is too short costs all of them their time.
const planned = 1.05

// Fit chooses the level of a round with a budget, the most thorough whose estimate is within it, and spreads what is
// left over the timed seconds. A level that is set already stays.
func Fit(o Options) (Options, error) {
	if o.Budget <= 0 || o.Level != nil {
		return o, nil
	}
	limit := planned * o.Budget.Seconds()
	for i := range levels {
		level := levels[i]
		level.Number = i
		o.Level = &level
		cost, err := o.cost()
		if err != nil {
			return o, err
		}
		if cost <= limit {
			return o, o.spread(limit)
		}
	}
	return o, nil // the cheapest: what does not fit is left out on the way
}

// cost estimates the seconds of a round.
func (o Options) cost() (float64, error) {
	tasks, err := Plan(o)
	return remaining(tasks, nil), err
}

// spread lengthens the timed seconds up to a limit of the round's, as far as the level before has them.
func (o Options) spread(limit float64) error {
	if o.Level.Number == 0 || o.FixedTime {
		return nil
	}
	low, high := o.Level.Seconds, levels[o.Level.Number-1].Seconds
	for range 12 {
		o.Level.Seconds = (low + high) / 2
		cost, err := o.cost()
		if err != nil {
			return err
		}
		if cost <= limit {
			low = o.Level.Seconds
		} else {
			high = o.Level.Seconds
		}
	}
	o.Level.Seconds = float64(int(low*100)) / 100
	return nil
}

// loadLimit is after how many seconds a load is cut in a round with a budget. What a goal needs is given more.
func (o Options) loadLimit(prepare bool, r rank) float64 {
	patience := 1.0
	if r == needed {
		patience = 3
	}
	switch {
	case o.LoadLimit > 0:
		return o.LoadLimit.Seconds()
	case o.Budget <= 0:
		return 0
	case prepare:
		return max(20, patience*o.Budget.Seconds()/25)
	}
	return max(10, patience*o.Budget.Seconds()/100)
}

// costs are rough times of an engine, in microseconds per record of 116 bytes, with all of what stands beside them
// (making the records, warming files). They need to be right within a factor of two.
type costs struct {
	random float64 // load in random order, 1,000 in a transaction
	sorted float64 // load in order
	bulk   float64 // load of a large store in bulk
	visit  float64 // open the store and visit all of it
}

var engineCosts = map[string]costs{
	"alder":   {4, 0.6, 2.5, 0.1},
	"bbolt":   {11, 1.2, 6, 0.15},
	"lmdb":    {5, 0.6, 3.5, 0.15},
	"pebble":  {3, 2, 3, 0.4},
	"badger":  {5, 4, 5, 0.9},
	"sqlite":  {10, 3, 6, 0.7},
	"buntdb":  {3, 2, 3, 1.5},
	"append":  {0, 0, 0, 0},
	"default": {8, 4, 6, 1},
}

func costsOf(e *engine.Engine) costs {
	if c, ok := engineCosts[owner(e)]; ok {
		return c
	}
	return engineCosts["default"]
}

// records is how many records of 116 bytes a task's store counts for.
func (task Task) records() float64 {
	p := task.Params
	switch p.Data {
	case "tree":
		return 300_000 // 13,000 files
	case "words":
		return 300_000
	}
	return float64(p.Records) * max(1, float64(p.KeySize+p.ValueSize)/1000)
}

// loadCost estimates the seconds that the load of a task's store takes.
func loadCost(task Task) float64 {
	c, n := costsOf(task.Engine), task.records()
	switch {
	case task.Workload.Prepared != "":
		return n * c.random / 1e6
	case task.Params.Data == "sorted":
		return n * c.sorted / 1e6
	case task.Params.Records > 2_000_000:
		return n * c.bulk / 1e6
	}
	return n * c.random / 1e6 * max(1, float64(task.Params.PageSize)/8192)
}

// estimate returns the seconds that a trial takes, its store loaded.
func estimate(task Task) float64 {
	if task.NA != "" {
		return 0
	}
	p, c, n := task.Params, costsOf(task.Engine), task.records()
	const begin = 0.15               // a process, its counters, its end
	warm := n * 0.1 / 1e6            // reading the files, and making the records to compare with
	visit := warm + n*c.visit/1e6    // and all of the store
	write := 0.3 + min(1, n*0.3/1e6) // what was written reaches the disk
	timed, load := p.Seconds+p.Warm, n*c.random/1e6
	if p.Data == "sorted" {
		load = n * c.sorted / 1e6
	}
	switch task.Workload.ID {
	case "S1", "S7":
		return begin
	case "W7", "W8", "W8-append", "GO-load", "WORDS-load", "S1-sorted", "S1-append", "GO-space", "WORDS-space":
		return begin + load + visit + write
	case "W9", "W9-lazy", "S6":
		return begin + timed + 1.5
	case "W10":
		return begin + load + 2*visit + n/1e6 + write
	case "R9":
		return begin + 2*timed + 2*visit + write
	case "R7", "R7-sorted":
		return begin + max(timed, 2*visit) + visit
	case "R10":
		return begin + timed + n*0.2/1e6
	case "R11":
		return begin + max(p.Seconds, 3*visit) + visit
	case "S2":
		return begin + 2*timed + 1
	case "S3":
		if !shrinks(task.Engine) {
			return begin
		}
		return begin + n*25/1e6
	case "S4":
		return begin + 200*load
	case "S5", "S5-free":
		return begin + 1 + warm
	case "S5-kill":
		return begin + 3*(1.2+visit)
	}
	if task.Workload.Store == workload.Worn {
		visit += write
	}
	return begin + timed + visit
}

// shrinks reports whether an engine can make its files shorter while they are used; S3 asks the store itself.
func shrinks(e *engine.Engine) bool {
	return !slices.Contains([]string{"bbolt", "lmdb"}, owner(e))
}

// remaining estimates the seconds that tasks take, with the loads of stores that are not ready yet.
func remaining(tasks []Task, ready map[string]string) float64 {
	total, loaded := 0.0, map[string]bool{}
	for i := range tasks {
		task := &tasks[i]
		if task.NA != "" {
			continue
		}
		total += task.estimate
		if task.Engine.Bare || task.Workload.Store == workload.Empty {
			continue
		}
		key := baseKey(*task)
		if !loaded[key] && ready[key] == "" && ready[wornKey(*task)] == "" {
			loaded[key] = true
			total += loadCost(*task)
		}
	}
	return total
}

// PrintPlan writes what a round would run, and how long that would take.
func PrintPlan(w io.Writer, o Options) error {
	tasks, err := Plan(o)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%-24s %-60s %6s %8s\n", "workload", "engines (repetitions)", "timed", "estimate")
	loaded := map[string]bool{}
	trials := 0
	for i := 0; i < len(tasks); {
		j := i
		for j < len(tasks) && tasks[j].Name == tasks[i].Name {
			j++
		}
		cost := 0.0
		reps, order := map[string]int{}, []string{}
		for _, task := range tasks[i:j] {
			if task.NA != "" {
				continue
			}
			cost += task.estimate
			if key := baseKey(task); !task.Engine.Bare && task.Workload.Store != workload.Empty && !loaded[key] {
				loaded[key] = true
				cost += loadCost(task)
			}
			if reps[task.Engine.Name] == 0 {
				order = append(order, task.Engine.Name)
			}
			reps[task.Engine.Name]++
			trials++
		}
		text := ""
		for _, name := range order {
			text += fmt.Sprintf("%s×%d ", name, reps[name])
		}
		fmt.Fprintf(w, "%-24s %-60s %5.1fs %7.0fs\n", tasks[i].Name, text, tasks[i].Params.Seconds, cost)
		i = j
	}
	total := remaining(tasks, nil)
	fmt.Fprintf(w, "\n%d trials, estimated %v", trials, time.Duration(total*float64(time.Second)).Round(time.Second))
	if o.Budget > 0 {
		fmt.Fprintf(w, ", budget %v", o.Budget)
	}
	fmt.Fprintln(w)
	if l := o.Level; l != nil {
		fmt.Fprintf(w, "level %d of %d: %s\n", l.Number, len(levels)-1, l.describe(o.Reps))
	}
	return nil
}

// describe says what a level gives.
func (l *Level) describe(reps int) string {
	text := fmt.Sprintf("%.2f s timed, %.0f %% of their time for workloads of minutes, repetitions", l.Seconds, 100*l.Long)
	for r := range ranks {
		text += fmt.Sprintf(" %d (%v)", min(reps, l.Reps[r]), r)
		if r < ranks-1 {
			text += ","
		}
	}
	return text
}
