package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

const backupLong = `Backup writes a copy of one snapshot of a store to OUT, or to standard output
for -. The copy is a store of its own. OUT appears only when it is complete;
what goes to standard output is complete when the exit code is 0.

With --since it writes only what has changed since an older backup, which kvctl
restore puts together with that. BASE is the older backup, or the diff that was
made last, or, where neither is at hand, the identity of the snapshot that it
holds, as this command printed it then. A diff is read to its end first.`

const backupExample = `  kvctl backup app.alder app-2026-07-01.alder
  kvctl backup app.alder - | gzip > app.alder.gz
  kvctl backup app.alder monday.alder
  kvctl backup app.alder tuesday.diff --since monday.alder
  kvctl backup app.alder wednesday.diff --since tuesday.diff`

type backupCommand struct {
	*cli
	force bool
	since string
}

type backupResult struct {
	Out      string `json:"out"`
	Bytes    int64  `json:"bytes"`
	TxID     uint64 `json:"txid"`
	Snapshot string `json:"snapshot"`        // its identity
	Since    string `json:"since,omitempty"` // that of the older backup
}

func newBackupCommand(c *cli) *cobra.Command {
	b := &backupCommand{cli: c}
	cmd := &cobra.Command{
		Use:     "backup DB OUT|-",
		Short:   "Write a consistent copy of a store",
		Long:    backupLong,
		Example: backupExample,
		Args:    between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return b.run(cmd.Context(), args[0], args[1])
		},
	}
	cmd.Flags().BoolVar(&b.force, "force", false, "replace an existing OUT")
	cmd.Flags().StringVar(&b.since, "since", "", "write only what has changed since an older backup `BASE`")
	c.addJSONFlag(cmd, "print the summary as a JSON object; not with -")
	return cmd
}

func (b *backupCommand) run(ctx context.Context, store, out string) error {
	toStdout := out == "-"
	if toStdout && b.json {
		return usageErrorf("backup: --json and - would both write to standard output")
	}
	if toStdout && isTerminal(b.stdout) {
		return usageErrorf("backup: will not write a store to a terminal; redirect standard output or name a file")
	}
	result := backupResult{Out: out}
	err := b.view(ctx, store, func(tx *alder.Tx) error {
		now := tx.Snapshot()
		result.TxID, result.Snapshot = now.TxID, now.String()
		var since alder.SnapshotID
		total := tx.Size()
		if b.since != "" {
			var err error
			if since, err = b.identity(ctx, b.since); err != nil {
				return err
			}
			result.Since, total = since.String(), -1
		}
		bar := b.startProgress("backing up "+filepath.Base(store), total, unitBytes)
		defer bar.finish()
		return b.writeTo(ctx, out, b.force, store, modeOf(store), func(w io.Writer) (err error) {
			w = &countingWriter{out: w, bar: bar}
			if b.since != "" {
				result.Bytes, err = tx.WriteDiff(w, since)
			} else {
				result.Bytes, err = tx.WriteTo(w)
			}
			return err
		})
	})
	if errors.Is(err, context.Canceled) {
		return interruptedErrorf("%s is not complete", outputName(out))
	}
	if err != nil || b.quiet || toStdout {
		return err
	}
	text := fmt.Sprintf("%s: %s, snapshot %s", out, formatSize(result.Bytes), result.Snapshot)
	if b.since != "" {
		text += " since " + result.Since
	}
	return b.printValue(result, text)
}

// identity returns which snapshot base means: a backup, a diff, or the identity itself. A file of that name comes first.
func (c *cli) identity(ctx context.Context, base string) (alder.SnapshotID, error) {
	f, err := os.Open(base)
	if err != nil {
		// The text of an identity is no name of a file everywhere, so the error may be another one.
		if id, e := alder.ParseSnapshotID(base); e == nil {
			return id, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return alder.SnapshotID{}, err
		}
		const give = "give a backup, a diff, or the identity of a snapshot as kvctl backup and kvctl info print it"
		if _, e := strconv.ParseUint(base, 10, 64); e == nil {
			return alder.SnapshotID{}, usageErrorf("backup: --since %s: a number alone does not name a state of the store, for a crash may have taken its transaction back; %s", base, give)
		}
		return alder.SnapshotID{}, usageErrorf("backup: --since %s: there is no such file; %s", base, give)
	}
	defer f.Close()
	_, id, err := alder.CheckDiff(interruptible(ctx, f))
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, alder.ErrVersionMismatch):
		return id, &codedError{exitFailure, advisedError{fmt.Errorf("backup: --since %s: %w; %s", base, err, otherDiffVersion)}}
	case errors.Is(err, alder.ErrDiffInvalid) && !isDiff(base):
		err = c.view(ctx, base, func(tx *alder.Tx) error {
			id = tx.Snapshot()
			return nil
		})
		return id, err
	case errors.Is(err, alder.ErrDiffInvalid):
		err = fmt.Errorf("backup: --since %s: %w; it cannot be restored, so nothing can follow it: give the backup or the diff before it", base, err)
		return id, &codedError{exitUsage, advisedError{err}}
	}
	return id, err
}

func outputName(out string) string {
	if out == "-" {
		return "standard output"
	}
	return out
}

// countingWriter shows on a bar how much went through it.
type countingWriter struct {
	out io.Writer
	bar *progress
	n   int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	w.n += int64(n)
	w.bar.set(w.n)
	return n, err
}
