package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
	"github.com/alderdb/alder/bench/internal/report"
	"github.com/alderdb/alder/bench/internal/round"
	"github.com/alderdb/alder/bench/internal/workload"
)

// quickWorkloads are those of the round of every day. The size of the files is taken first, before anybody has
// opened the loaded stores again.
var quickWorkloads = []string{"S1", "R1", "R2", "R7", "W1", "W3", "W4"}

// variants are workloads that the full round runs with other knobs too: for the charts of scaling, and for both
// states of the page cache.
var variants = []string{
	"R1@g=2", "R1@g=4", "R1@g=16",
	"R1@n=0.01x", "R1@n=0.1x", "R1@n=10x", "R2@n=0.01x", "R2@n=0.1x", "R3@n=0.01x", "R3@n=0.1x", "R3@n=10x",
	"R1@n=0.01x,v=16", "R1@n=0.01x,v=1000", "R1@n=0.01x,v=10000", "R1@n=0.01x,v=65536",
	"R2@n=0.01x,v=16", "R2@n=0.01x,v=1000", "R2@n=0.01x,v=10000", "R2@n=0.01x,v=65536",
	"R3@n=0.01x,v=16", "R3@n=0.01x,v=1000", "R3@n=0.01x,v=10000", "R3@n=0.01x,v=65536",
	"R1@n=0.1x,page=16384", "R1@n=0.1x,page=65536", "R3@n=0.1x,page=16384", "R3@n=0.1x,page=65536",
	"W1@g=4", "W1@g=16",
	"W4@n=0.01x", "W4@n=0.1x", "W4@n=10x",
	"R2@n=0.1x,v=20", "R2@n=0.1x,v=1000", "R2@n=0.1x,v=10000",
	"W4@n=0.1x,v=20", "W4@n=0.1x,v=1000", "W4@n=0.1x,v=10000",
	"R2@n=0.1x,page=16384", "R2@n=0.1x,page=65536",
	"W4@n=0.1x,page=16384", "W4@n=0.1x,page=65536",
	"W1@cache=small", "W1@cache=large", "W4@cache=small", "W4@cache=large",
}

// quickWithout are engines that the quick round leaves out unless they are asked for: they take long to open or
// to settle, and no goal of its workloads is measured against them.
var quickWithout = []string{"badger", "bbolt-hashmap", "buntdb"}

// quickParams make the quick round quick.
var quickParams = workload.Params{Records: 1_000_000, Seconds: 0.5, Warm: 0.2}

// quickBudget is what the quick round promises to stay below.
const quickBudget = 5 * time.Minute

// config are the flags of a round.
type config struct {
	engines, skip, records string
	params                 workload.Params
	reps                   int
	dir, out, resume       string
	timeout, budget        time.Duration
	loadLimit              time.Duration
	cache                  string
	profile, dryRun        bool
}

func (c *config) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.StringVar(&c.engines, "engines", "", "engines to run, separated by commas (default: all that the workload asks for)")
	f.StringVar(&c.skip, "skip", "", "workloads to leave out, separated by commas")
	f.StringVar(&c.records, "n", "", "records of a store, such as 100k, 1M (default) or 10M; workloads of ten times the keys scale with it")
	f.IntVar(&c.params.KeySize, "key", 0, "bytes of a key (default 16)")
	f.IntVar(&c.params.ValueSize, "value", 0, "bytes of a value (default 100)")
	f.Float64Var(&c.params.Compressible, "compressible", 0, "share of each value that a compressor can remove, 0 to 1")
	f.StringVar(&c.params.Distribution, "dist", "", "which records are picked: uniform (default), zipfian, latest, sequential")
	f.StringVar(&c.params.Root, "tree", "", "directory of the real data (default: the Go source tree)")
	f.Float64Var(&c.params.Seconds, "seconds", 0, "timed seconds of a trial (default 2; of the quick round 0.5)")
	f.Float64Var(&c.params.Rate, "rate", 0, "operations per second of an open loop, latencies from when each was due (default: closed loop)")
	f.StringVar(&c.cache, "cache", "", "state of the page cache before a trial: as-is (default), small, large (folios)")
	f.Int64Var(&c.params.CacheBytes, "cache-bytes", 0, "cache of the engines that have one of their own (default 1 GiB)")
	f.Uint64Var(&c.params.Seed, "seed", 0, "seed of all keys, values and choices (default 1)")
	f.IntVar(&c.reps, "reps", 3, "repetitions of each trial")
	f.StringVar(&c.dir, "dir", os.TempDir(), "directory for stores; everything in it is removed at the end")
	f.StringVar(&c.out, "out", "", "directory for the results (default: results/NAME-TIME)")
	f.StringVar(&c.resume, "resume", "", "results.jsonl of an interrupted round: trials that are in it are not run again")
	f.BoolVar(&c.profile, "profile", false, "keep a CPU profile of each timed part beside the results; it costs a little")
	f.DurationVar(&c.budget, "budget", 0, "time that the whole round may take, such as 60m; what each trial gets is planned (default: as long as it takes)")
	f.BoolVar(&c.dryRun, "dry-run", false, "print the plan with its estimated times, and run nothing")
	f.DurationVar(&c.loadLimit, "load-limit", 0, "time after which a load is cut and reported as such (default: never; of a round with a budget, a part of it)")
	f.DurationVar(&c.timeout, "timeout", 20*time.Minute, "longest that one trial may take")
	return f
}

func (c *config) options(name string, workloads []string) (round.Options, error) {
	o := round.Options{
		Name: name, Reps: c.reps, Params: c.params, Dir: c.dir, Timeout: c.timeout, Progress: os.Stderr,
		Budget: c.budget, LoadLimit: c.loadLimit, FixedTime: c.params.Seconds != 0,
	}
	if c.records != "" {
		n, err := workload.Count(c.records)
		if err != nil {
			return o, fmt.Errorf("%w: -n: %v", errUsage, err)
		}
		o.Params.Records = n
	}
	if c.cache != "" {
		if err := o.Params.Set("cache", c.cache); err != nil {
			return o, fmt.Errorf("%w: -%v", errUsage, err)
		}
	}
	if name == "quick" {
		o.Params, o.Without = quickParams.Over(o.Params), quickWithout
		if o.Budget == 0 {
			// On a busy machine it leaves repetitions out rather than last longer.
			o.Budget, o.Level = quickBudget, round.AllOf(o.Params.Seconds, o.Params.Warm)
			o.LoadLimit = cmp.Or(o.LoadLimit, quickBudget/4)
		}
	}
	o.Engines = split(c.engines)
	for _, e := range o.Engines {
		if _, err := engine.Find(e); err != nil {
			return o, fmt.Errorf("%w: %v", errUsage, err)
		}
	}
	skip := map[string]bool{}
	for _, w := range split(c.skip) {
		skip[w] = true
	}
	for _, w := range workloads {
		if _, _, err := workload.Resolve(w, o.Params); err != nil {
			return o, fmt.Errorf("%w: %v", errUsage, err)
		}
		if !skip[w] {
			o.Workloads = append(o.Workloads, w)
		}
	}
	if o.Reps < 1 {
		return o, fmt.Errorf("%w: -reps must be 1 at least", errUsage)
	}
	if c.budget < 0 || c.loadLimit < 0 {
		return o, fmt.Errorf("%w: times must not be negative", errUsage)
	}
	return o, nil
}

func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func roundCommand(name string) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		var c config
		f := c.flags(name)
		if err := f.Parse(args); err != nil {
			return parseError(err)
		}
		workloads := f.Args()
		switch {
		case name == "run" && len(workloads) == 0:
			return fmt.Errorf("%w: run needs the names of workloads, see list", errUsage)
		case name != "run" && len(workloads) > 0:
			return fmt.Errorf("%w: %s takes no arguments; use run for workloads by name", errUsage, name)
		case name == "quick":
			workloads = quickWorkloads
		case name == "full":
			workloads = fullRound()
		}
		options, err := c.options(name, workloads)
		if err != nil {
			return err
		}
		if options.Params.Root, err = treeRoot(options.Params.Root); err != nil {
			return err
		}
		if err := c.earlier(&options); err != nil {
			return err
		}
		if options, err = round.Fit(options); err != nil {
			return err
		}
		if c.dryRun {
			return round.PrintPlan(os.Stdout, options)
		}
		return c.runRound(ctx, options)
	}
}

// earlier takes over the trials of the round that is resumed, and what it spent its time on.
func (c *config) earlier(o *round.Options) error {
	if c.resume == "" {
		return nil
	}
	header, trials, err := readResults(c.resume)
	if err != nil {
		return err
	}
	o.Done, o.Level = trials, header.Level
	if o.Level != nil && o.Budget == 0 {
		// Without a budget of its own it has the time that the first one had.
		o.Budget = time.Duration(header.BudgetSeconds * float64(time.Second))
	}
	return nil
}

func parseError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%w: %v", errUsage, err)
}

// fullRound is every workload and then the variants; those on the same records stand together, so that few stores
// are kept at a time, and those that overwrite records behind those that read them, so that few stores are copied.
func fullRound() []string {
	names := []string{"S1"} // before the loaded stores are opened again
	for _, w := range workload.All() {
		if w.ID != "S1" {
			names = append(names, w.ID)
		}
	}
	names = append(names, variants...)
	first := map[string]int{} // where the records of a workload are used for the first time
	wears := map[string]int{} // 1 for those that overwrite records
	content := map[string]string{}
	for i, name := range names {
		w, p, err := workload.Resolve(name, workload.Params{})
		if err == nil && w.Store != workload.Empty {
			content[name] = w.StoreKey(p)
			if w.Store == workload.Worn {
				wears[name] = 1
			}
		}
		if _, ok := first[content[name]]; !ok {
			first[content[name]] = i
		}
	}
	first[""] = slices.Index(names, "S7") // new stores last of what goals are about: there is nothing to share
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Or(first[content[a]]-first[content[b]], wears[a]-wears[b])
	})
	return names
}

// treeRoot finds the Go source tree.
func treeRoot(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	output, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("finding the Go source tree: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(output)), "src"), nil
}

func (c *config) runRound(ctx context.Context, o round.Options) (err error) {
	if c.out == "" {
		c.out = filepath.Join("results", o.Name+"-"+time.Now().UTC().Format("20060102-150405"))
	}
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(c.out, "results.jsonl")
	if c.resume != "" && sameFile(path, c.resume) {
		return fmt.Errorf("%w: -resume must not be the file that is written, %s", errUsage, path)
	}
	if c.profile {
		if o.Profiles, err = filepath.Abs(filepath.Join(c.out, "profiles")); err != nil {
			return err
		}
		if err := os.MkdirAll(o.Profiles, 0o755); err != nil {
			return err
		}
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	began := time.Now()
	o.Output = file
	failed := round.Run(ctx, o)
	if err := file.Close(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", path, time.Since(began).Round(time.Second))
	if failed != nil && !errors.Is(failed, round.ErrFailedTrials) && !errors.Is(failed, context.Canceled) {
		return failed
	}
	// Also of a round that was interrupted: what it has may be enough.
	return errors.Join(failed, writeReport(path, c.out, os.Stdout))
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// readResults reads a file of results. A last line that was cut short by an interruption is left out.
func readResults(path string) (header round.Header, trials []workload.Result, err error) {
	file, err := os.Open(path)
	if err != nil {
		return header, nil, err
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return header, trials, nil
		}
		if err != nil {
			return header, nil, err
		}
		var kind struct{ Type string }
		if err := json.Unmarshal(line, &kind); err != nil {
			return header, nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		switch kind.Type {
		case "round":
			err = json.Unmarshal(line, &header)
		case "trial":
			trials = append(trials, workload.Result{})
			err = json.Unmarshal(line, &trials[len(trials)-1])
		}
		if err != nil {
			return header, nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
}

func reportCommand(_ context.Context, args []string) error {
	f := flag.NewFlagSet("report", flag.ContinueOnError)
	out := f.String("out", ".", "directory for report.md and report.html")
	if err := f.Parse(args); err != nil {
		return parseError(err)
	}
	if f.NArg() != 1 {
		return fmt.Errorf("%w: report needs one file of results", errUsage)
	}
	return writeReport(f.Arg(0), *out, os.Stdout)
}

// writeReport writes report.md and report.html, and prints where alder stands.
func writeReport(results, dir string, print io.Writer) error {
	header, trials, err := readResults(results)
	if err != nil {
		return err
	}
	r := report.New(header, trials)
	if err := writeFile(filepath.Join(dir, "report.md"), r.Markdown); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "report.html"), r.HTML); err != nil {
		return err
	}
	return r.Summary(print)
}

// churnCommand draws the CSV that TestChurn has written.
func churnCommand(_ context.Context, args []string) error {
	f := flag.NewFlagSet("churn", flag.ContinueOnError)
	out := f.String("o", "churn.svg", "file of the drawing")
	if err := f.Parse(args); err != nil {
		return parseError(err)
	}
	if f.NArg() != 1 {
		return fmt.Errorf("%w: churn needs one file of measurements", errUsage)
	}
	measured, err := os.Open(f.Arg(0))
	if err != nil {
		return err
	}
	defer measured.Close()
	return writeFile(*out, func(w io.Writer) error {
		if err := report.Churn(w, measured); err != nil {
			return fmt.Errorf("%s: %w", f.Arg(0), err)
		}
		return nil
	})
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffered := bufio.NewWriter(file)
	return errors.Join(write(buffered), buffered.Flush())
}

func listCommand(_ context.Context, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: list takes no arguments", errUsage)
	}
	fmt.Println("Workloads:")
	for _, w := range workload.All() {
		fmt.Printf("  %-12s %s\n", w.ID, w.Title)
	}
	fmt.Println("\nEngines:")
	for _, e := range engine.All() {
		state := ""
		switch missing := e.Missing(); {
		case missing != "":
			state = " [missing: " + missing + "]"
		case e.OnDemand:
			state = " [only where a workload names it]"
		}
		fmt.Printf("  %-14s %s%s\n", e.Name, e.Settings, state)
	}
	machine := measure.Describe(os.TempDir())
	fmt.Printf("\nTemporary directory: %s on %s\n", machine.FileSystem, machine.Device)
	return nil
}
