package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder/internal/killtest"
)

const tortureLong = `Torture finds out whether a store on this disk and file system keeps what it
promises when its process is killed, or when the power fails.

Without --power it starts a writer process in a new directory inside DIR: many
goroutines with all kinds of operations on one store. It kills the process at a
random moment, opens the store, and verifies that every acknowledged transaction
is there and whole, that at most those beyond are there that were under way,
that of two the earlier is not missing alone, every key and value, and the
structure of the file. That goes on until --time is over. When a promise is
broken the exit code is 4, and the store and a report are left in the directory;
else nothing is left.

A kill leaves what the system has cached. A power cut does not, so only

  kvctl torture DIR --power --ack WHERE

tests the disk: it writes to the store DIR/torture.alder until the power fails,
and a line to WHERE for each transaction that is committed. WHERE has to survive
the power cut: tcp://HOST:PORT of another machine where "nc -l PORT >acks.txt"
runs, a file on another disk, or - for standard output, with the command run
through ssh from another machine. After the power is back,

  kvctl torture DIR --verify --ack acks.txt

verifies the store. --power can then go on with the same store, and the lines be
appended to the same file.`

const tortureExample = `  kvctl torture /mnt/disk --time 1h
  ssh box kvctl torture /mnt/disk --power >>acks.txt
  scp acks.txt box: && ssh box kvctl torture /mnt/disk --verify --ack acks.txt`

type tortureCommand struct {
	*cli
	time       time.Duration
	kills      int
	goroutines int
	seed       uint64
	power      bool
	verify     bool
	ack        string
}

const (
	tortureWriter = "torture-writer" // the hidden command of the writer process
	maxGoroutines = 1000
)

func newTortureCommand(c *cli) *cobra.Command {
	t := &tortureCommand{cli: c}
	cmd := &cobra.Command{
		Use:     "torture DIR",
		Short:   "Test whether stores on a disk survive kills and power cuts",
		Long:    tortureLong,
		Example: tortureExample,
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(exclude(cmd, "power", "verify"), exclude(cmd, "power", "kills"), exclude(cmd, "verify", "kills"), exclude(cmd, "verify", "time")); err != nil {
				return err
			}
			if !cmd.Flags().Changed("time") && t.power || t.kills > 0 && !cmd.Flags().Changed("time") {
				t.time = 0
			}
			return t.run(cmd.Context(), args[0], cmd.Flags().Changed("seed") || cmd.Flags().Changed("goroutines"))
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&t.time, "time", 10*time.Minute, "how long to go on (0: until an interrupt)")
	flags.IntVar(&t.kills, "kills", 0, "end after `N` kills (0: when --time is over)")
	flags.IntVar(&t.goroutines, "goroutines", 8, "how many write at the same time")
	flags.Uint64Var(&t.seed, "seed", 0, "what the writers do follows from this number (0: a random one)")
	flags.BoolVar(&t.power, "power", false, "write until the power fails; see --ack")
	flags.BoolVar(&t.verify, "verify", false, "verify what --power has written")
	flags.StringVar(&t.ack, "ack", "-", "`WHERE` acknowledgements go, or come from: FILE, tcp://HOST:PORT, or - for a standard stream")
	c.addJSONFlag(cmd, "print the result as a JSON object")
	return cmd
}

// newTortureWriterCommand is the process that is killed.
func newTortureWriterCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:    tortureWriter + " ROUND",
		Short:  "Write until killed, for torture",
		Hidden: true,
		Args:   between(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			round, err := killtest.ParseRound(args[0])
			if err != nil {
				return usageErrorf("%s: %w", tortureWriter, err)
			}
			if err := killtest.WriteAndReport(round, c.stdin, c.stdout, c.stderr); err != nil {
				return errSilent{err}
			}
			return nil
		},
	}
}

func (t *tortureCommand) run(ctx context.Context, dir string, configured bool) error {
	if t.goroutines < 1 || t.goroutines > maxGoroutines || t.kills < 0 || t.time < 0 {
		return usageErrorf("torture: want --goroutines from 1 to %d, and no negative numbers", maxGoroutines)
	}
	if t.ack != "-" && !t.power && !t.verify {
		return usageErrorf("torture: --ack goes with --power or --verify")
	}
	if fi, err := os.Stat(dir); err != nil {
		return err
	} else if !fi.IsDir() {
		return usageErrorf("torture: %s is not a directory", dir)
	}
	if t.seed == 0 {
		t.seed = rand.Uint64()
	}
	store := filepath.Join(dir, "torture.alder")
	switch {
	case t.power:
		return t.runPower(ctx, store, configured)
	case t.verify:
		return t.runVerify(ctx, store)
	}
	return t.runKills(ctx, dir)
}

func (t *tortureCommand) config() killtest.Config {
	return killtest.Config{Goroutines: t.goroutines, Seed: t.seed}
}

// tortureResult is the verdict.
type tortureResult struct {
	OK bool `json:"ok"`
	killtest.Totals
	Seed       uint64  `json:"seed"`
	Goroutines int     `json:"goroutines"`
	Seconds    float64 `json:"seconds"`
	Error      string  `json:"error,omitempty"`
	Left       string  `json:"left,omitempty"` // the directory with the store and the report
}

func (t *tortureCommand) runKills(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err = os.MkdirTemp(dir, "kvctl-torture-*")
	if err != nil {
		return err
	}
	start := time.Now()
	bar := t.startTimer("torture", t.time)
	loop := killtest.Loop{
		Config: t.config(), Dir: dir,
		Command: func(r killtest.Round) *exec.Cmd {
			cmd := exec.Command(self, tortureWriter, r.String())
			cmd.Args[0] = os.Args[0]
			return cmd
		},
		Until: func(total killtest.Totals) bool {
			return t.kills > 0 && total.Kills >= t.kills || t.time > 0 && time.Since(start) >= t.time
		},
		Progress: func(total killtest.Totals) {
			bar.describe("torture: "+counted(total.Kills, "kill")+", "+counted(total.Transactions, "transaction"), time.Since(start))
		},
	}
	total, err := loop.Run(ctx)
	bar.finish()
	result := tortureResult{OK: err == nil, Totals: total, Seed: t.seed, Goroutines: t.goroutines, Seconds: time.Since(start).Seconds()}
	did := fmt.Sprintf("%s of %s, %s acknowledged, %s verified, seed %d",
		counted(total.Kills, "kill"), counted(total.Stores, "store"), counted(total.Transactions, "transaction"), counted(total.Keys, "key"), t.seed)
	if err != nil {
		return t.failed(result, dir, did, err)
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return interruptedErrorf("until then: %s: no fault", did)
	}
	if t.quiet {
		return nil
	}
	return t.printValue(result, did+": no fault")
}

// failed reports a failure, and leaves a report beside the store.
func (t *tortureCommand) failed(result tortureResult, dir, did string, err error) error {
	var f *killtest.Failure
	if !errors.As(err, &f) {
		return err
	}
	result.Error, result.Left = err.Error(), dir
	report := filepath.Join(dir, "report.txt")
	text := fmt.Sprintf("%s\n\n%v\n\n%v\n%s\nwriter: %s\n\nits standard error:\n%s",
		time.Now().Format(time.RFC3339), err, readVersion(), did, f.Round, f.Stderr)
	if e := os.WriteFile(report, []byte(text), 0o644); e != nil {
		err = errors.Join(err, e)
	}
	if t.json {
		if e := t.printValue(result, nil); e != nil {
			return e
		}
	}
	code := exitFailure
	if f.Broken {
		code = exitCorrupt
	}
	return &codedError{code, advisedError{fmt.Errorf("torture: %w; the store is left as it was found, with a report in %s", err, report)}}
}

// headerPrefix begins the line before acknowledgements, which says what they are of.
const headerPrefix = "# kvctl torture "

func headerLine(c killtest.Config) string {
	text, err := json.Marshal(c)
	if err != nil {
		panic("kvctl: " + err.Error()) // there is nothing in it that could not be written
	}
	return headerPrefix + string(text) + "\n"
}

// parseHeader reads such a line.
func parseHeader(line string) (c killtest.Config, ok bool, err error) {
	text, ok := strings.CutPrefix(line, headerPrefix)
	if !ok {
		return c, false, nil
	}
	return c, true, json.Unmarshal([]byte(text), &c)
}
