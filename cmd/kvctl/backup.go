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
made last, or the number of the transaction that it was made of.`

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
	Out   string `json:"out"`
	Bytes int64  `json:"bytes"`
	TxID  int    `json:"txid"`
	Since uint64 `json:"since,omitempty"` // transaction of the older backup
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
		result.TxID = tx.ID()
		var since alder.SnapshotID
		total := tx.Size()
		if b.since != "" {
			var err error
			if since, err = b.identity(ctx, tx, b.since); err != nil {
				return err
			}
			result.Since, total = since.TxID, -1
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
	if b.since != "" {
		return b.printValue(result, fmt.Sprintf("%s: %s, from transaction %d to %d", out, formatSize(result.Bytes), result.Since, result.TxID))
	}
	return b.printValue(result, fmt.Sprintf("%s: %s, transaction %d", out, formatSize(result.Bytes), result.TxID))
}

// identity returns which snapshot base means: the number of a transaction of the store, a backup, or a diff.
func (c *cli) identity(ctx context.Context, tx *alder.Tx, base string) (alder.SnapshotID, error) {
	if n, err := strconv.ParseUint(base, 10, 64); err == nil {
		id := tx.Snapshot()
		id.TxID = n
		return id, nil
	}
	f, err := os.Open(base)
	if errors.Is(err, fs.ErrNotExist) {
		return alder.SnapshotID{}, usageErrorf("backup: --since %s: there is no such file; give a backup, a diff, or the number of a transaction", base)
	}
	if err != nil {
		return alder.SnapshotID{}, err
	}
	defer f.Close()
	_, id, err := alder.DiffRange(f)
	if err == nil {
		return id, nil
	}
	if errors.Is(err, alder.ErrDiffInvalid) {
		err = c.view(ctx, base, func(tx *alder.Tx) error {
			id = tx.Snapshot()
			return nil
		})
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
