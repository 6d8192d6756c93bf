package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

const restoreLong = `Restore makes a store at OUT from a backup and the diffs that follow it, in the
order in which they were made. BASE or one of the diffs may be - for standard
input. The backup is checked. OUT appears only when it is complete; BASE and the
diffs stay as they are.

With --dry-run nothing is written, and OUT is left out: BASE is checked, each
diff is read to its end, and each must begin where the one before ends.`

const restoreExample = `  kvctl restore monday.alder tuesday.diff wednesday.diff app.alder
  kvctl restore monday.alder tuesday.diff wednesday.diff --dry-run
  kvctl backup app.alder - | ssh host kvctl restore - app.alder
  gunzip < app.alder.gz | kvctl restore - app.alder`

type restoreCommand struct {
	*cli
	force  bool
	dryRun bool
}

type restoreResult struct {
	Out      string `json:"out,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"`
	TxID     uint64 `json:"txid"`
	Snapshot string `json:"snapshot"` // its identity
	Diffs    int    `json:"diffs"`
}

func newRestoreCommand(c *cli) *cobra.Command {
	r := &restoreCommand{cli: c}
	cmd := &cobra.Command{
		Use:     "restore BASE|- [DIFF...] OUT",
		Short:   "Make a store from a backup and diffs",
		Long:    restoreLong,
		Example: restoreExample,
		Args:    between(1, 1<<20),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.dryRun {
				return r.verify(cmd.Context(), args[0], args[1:])
			}
			if err := between(2, 1<<20)(cmd, args); err != nil {
				return err
			}
			last := len(args) - 1
			return r.run(cmd.Context(), args[0], args[1:last], args[last])
		},
	}
	cmd.Flags().BoolVar(&r.force, "force", false, "replace an existing OUT")
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "write nothing; only verify that BASE and the diffs are whole and fit")
	c.addJSONFlag(cmd, "print the summary as a JSON object")
	return cmd
}

func (r *restoreCommand) run(ctx context.Context, base string, diffs []string, out string) error {
	if out == "-" {
		return usageErrorf("restore: OUT cannot be standard output; kvctl backup writes a store there")
	}
	named := ""
	if base != "-" {
		named = base
	}
	output, err := newOutputFile(out, r.force, named)
	if err != nil {
		return err
	}
	defer output.discard()
	in, err := r.openInputs(ctx, base, diffs)
	if err != nil {
		return err
	}
	defer in.close()
	result := restoreResult{Out: out, Diffs: len(diffs)}
	mode := os.FileMode(newStoreMode)
	if named != "" {
		mode = modeOf(base)
	}
	in.bar = r.startProgress("restoring "+filepath.Base(out), in.total, unitBytes)
	id, err := alder.Restore(output.temp, mode, in.base, in.diffs...)
	in.bar.finish()
	if ctx.Err() != nil {
		return interruptedErrorf("%s is not written", out)
	}
	if err != nil {
		var named *inputError
		if errors.As(err, &named) {
			return named.error
		}
		err = fmt.Errorf("restore %s: %w", out, innermost(err))
		if errors.Is(err, alder.ErrVersionMismatch) && in.atDiffs {
			return advisedError{fmt.Errorf("%w; %s", err, otherDiffVersion)}
		}
		return err
	}
	result.TxID, result.Snapshot = id.TxID, id.String()
	if result.Bytes, err = fileSize(output.temp); err != nil {
		return err
	}
	if err := output.commit(); err != nil {
		return err
	}
	if r.quiet {
		return nil
	}
	return r.printValue(result, fmt.Sprintf("%s: %s, snapshot %s", out, formatSize(result.Bytes), result.Snapshot))
}

// otherDiffVersion says what to do about a diff of another version: unlike a store it cannot be dumped by the program that wrote it.
const otherDiffVersion = "restore it with a kvctl of the version that made it, or make a new diff with this one"

// verify does everything that run does but write.
func (r *restoreCommand) verify(ctx context.Context, base string, diffs []string) error {
	if base == "-" {
		return usageErrorf("restore: --dry-run needs BASE as a file, which can be checked without a copy")
	}
	in, err := r.openDiffs(ctx, base, diffs)
	if err != nil {
		return err
	}
	defer in.close()
	id, err := r.checkBase(ctx, base)
	if err != nil {
		return baseError(base, err)
	}
	in.bar = r.startProgress("reading the diffs", in.total, unitBytes)
	defer in.bar.finish()
	for i, diff := range in.diffs {
		from, to, err := alder.CheckDiff(diff)
		var named *inputError
		switch name := diff.(*restoreReader).name; {
		case errors.Is(err, context.Canceled):
			return interruptedErrorf("not all of the diffs are read")
		case errors.As(err, &named):
			return named.error
		case errors.Is(err, alder.ErrVersionMismatch):
			return advisedError{fmt.Errorf("%s: %w; %s", name, err, otherDiffVersion)}
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case from != id:
			before := base
			if i > 0 {
				before = diffs[i-1]
			}
			return fmt.Errorf("%s: %w: it begins at %v, %s ends at %v", name, alder.ErrDiffMismatch, from, before, id)
		}
		id = to
	}
	if r.quiet {
		return nil
	}
	text := base + ": whole"
	if len(diffs) > 0 {
		text = fmt.Sprintf("%s and %s: whole, and fit", base, counted(len(diffs), "diff"))
	}
	result := restoreResult{TxID: id.TxID, Snapshot: id.String(), Diffs: len(diffs)}
	return r.printValue(result, text+", snapshot "+result.Snapshot)
}

// checkBase returns the identity of a backup without faults.
func (r *restoreCommand) checkBase(ctx context.Context, base string) (id alder.SnapshotID, err error) {
	bar := r.startProgress("checking "+filepath.Base(base), -1, unitPages)
	defer bar.finish()
	err = r.view(ctx, base, func(tx *alder.Tx) error {
		id = tx.Snapshot()
		for err := range tx.Check(alder.WithContext(ctx), alder.WithProgress(func(done, total int64) {
			bar.resize(total)
			bar.set(done)
		})) {
			if errors.Is(err, context.Canceled) {
				return interruptedErrorf("%s is not checked in full", base)
			}
			return err
		}
		return nil
	})
	return id, err
}

// restoreInputs are what a store is restored from.
type restoreInputs struct {
	ctx     context.Context
	base    io.Reader
	diffs   []io.Reader
	total   int64 // bytes of all; -1 if that is not known
	read    int64
	atDiffs bool // the base has been read
	bar     *progress

	closers []func()
}

func (in *restoreInputs) close() {
	for _, fn := range in.closers {
		fn()
	}
}

// openInputs opens the backup, as a store so that nobody writes to it meanwhile, and the diffs.
func (r *restoreCommand) openInputs(ctx context.Context, base string, diffs []string) (*restoreInputs, error) {
	in, err := r.openDiffs(ctx, base, diffs)
	if err != nil {
		return nil, err
	}
	if base == "-" {
		in.base = &restoreReader{in: in, r: interruptible(ctx, r.stdin), name: "standard input"}
		in.total = -1
	} else if err := in.openBase(r.cli, base); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// openDiffs opens the diffs.
func (r *restoreCommand) openDiffs(ctx context.Context, base string, diffs []string) (_ *restoreInputs, err error) {
	in := &restoreInputs{ctx: ctx}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	standard := 0
	for _, name := range append([]string{base}, diffs...) {
		if name == "-" {
			standard++
		}
	}
	if standard > 1 {
		return nil, usageErrorf("restore: only one of the inputs can be standard input")
	}
	if standard > 0 && isTerminal(r.stdin) {
		return nil, usageErrorf("restore: will not read a backup from a terminal; redirect standard input or name a file")
	}
	for _, name := range diffs {
		if name == "-" {
			in.diffs = append(in.diffs, &restoreReader{in: in, r: interruptible(ctx, r.stdin), name: "standard input", diff: true})
			in.total = -1
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		in.closers = append(in.closers, func() { f.Close() })
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		in.diffs = append(in.diffs, &restoreReader{in: in, r: f, name: name, diff: true})
		if in.total >= 0 {
			in.total += info.Size()
		}
	}
	return in, nil
}

// openBase lets the backup be read as Tx.WriteTo writes it.
func (in *restoreInputs) openBase(c *cli, path string) error {
	db, err := c.openForReading(in.ctx, path)
	if err != nil {
		return baseError(path, err)
	}
	in.closers = append(in.closers, func() { db.Close() })
	tx, err := db.Begin(false)
	if err != nil {
		return err
	}
	if in.total >= 0 {
		in.total += tx.Size()
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := tx.WriteTo(w)
		w.CloseWithError(err) // nil is the end of what is read
	}()
	// The pipe first, so that the goroutine ends, then its transaction, then the store.
	in.closers = append([]func(){func() {
		r.Close()
		<-done
		_ = tx.Rollback()
	}}, in.closers...)
	in.base = &restoreReader{in: in, r: r, name: path}
	return nil
}

// baseError is the error of opening a backup.
func baseError(path string, err error) error {
	if errors.Is(err, alder.ErrInvalid) && isDiff(path) {
		return usageErrorf("restore: %s is a diff; the backup that it follows comes first", path)
	}
	return err
}

func isDiff(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	_, _, err = alder.DiffRange(f)
	return err == nil
}

// restoreReader shows on the bar how much was read, stops when the command is interrupted, and names the input in errors.
type restoreReader struct {
	in   *restoreInputs
	r    io.Reader
	name string
	diff bool
}

func (r *restoreReader) Read(p []byte) (int, error) {
	if err := r.in.ctx.Err(); err != nil {
		return 0, err
	}
	r.in.atDiffs = r.diff
	n, err := r.r.Read(p)
	r.in.read += int64(n)
	r.in.bar.set(r.in.read)
	if err != nil && err != io.EOF {
		var system *fs.PathError
		if !errors.As(err, &system) {
			err = fmt.Errorf("%s: %w", r.name, err)
		}
		err = &inputError{err}
	}
	return n, err
}

// inputError is the error of an input, which names it.
type inputError struct{ error }

func (e *inputError) Unwrap() error { return e.error }
