// Command bench measures alder beside its peers: see its -h, and docs/performance.md for what came out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alderdb/alder/bench/internal/round"
)

const usage = `bench measures alder beside other embedded stores.

  go run . quick [flags]                 the round of every day: W1 W3 W4 R1 R2 R7 S1, under five minutes
  go run . full [flags]                  every workload; takes hours, or -budget 60m
  go run . run [flags] WORKLOAD...       the workloads named; R1@g=4,n=100k is R1 with other knobs
  go run . report [flags] RESULTS.jsonl  the tables and charts of results that are there
  go run . list                          the workloads and the engines
  go run . memory [flags]                what it takes to wait for memory, the least that a look-up in a mapped file costs
  go run . churn CHURN.csv               a drawing of what TestChurn of the root package has measured

Flags of a command: go run . COMMAND -h
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	commands := map[string]func(context.Context, []string) error{
		"quick":            roundCommand("quick"),
		"full":             roundCommand("full"),
		"run":              roundCommand("run"),
		"report":           reportCommand,
		"list":             listCommand,
		"memory":           memoryCommand,
		"churn":            churnCommand,
		round.TrialCommand: func(context.Context, []string) error { return round.RunTrial() },
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	command, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: no command %q\n\n%s", args[0], usage)
		return 2
	}
	err := command(ctx, args[1:])
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// errUsage is the error of a command line that does not fit.
var errUsage = errors.New("usage")
