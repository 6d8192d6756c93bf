// Kvctl reads and writes alder stores from the command line.
//
// Its form is
//
//	kvctl COMMAND DB [BUCKET [KEY [VALUE]]]
//
// Each command has a file of its own name. What they share: root.go (the command line), openstore.go (the store and its
// buckets), bounds.go (--prefix, --from, --to), input.go and output.go (bytes in, bytes and facts out), outputfile.go (files
// that appear whole or not at all), progress.go, and exitcode.go (how an error becomes a line and a code). Only main calls
// os.Exit. The text formats are in internal/kvformat, bucket paths in internal/kvpath.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(int(run(os.Args[1:])))
}

// run executes one command line and returns the exit code.
func run(args []string) exitCode {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks the command to stop at a place where it can say what was done. A second one ends the
	// process at once, as it would have without us.
	context.AfterFunc(ctx, stop)

	// A closed pipe shall be an error of the write, so that temporary files are removed.
	signal.Ignore(syscall.SIGPIPE)

	c := &cli{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	root := newRootCommand(c)
	root.SetArgs(args)
	return c.report(root.ExecuteContext(ctx))
}
