package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
)

var dumpLong = `Dump writes the buckets, keys, values and sequence numbers of a store, or of
BUCKET and everything inside it, as text. kvctl load makes the same store of it
again.

The formats of --format:

` + kvformat.Describe() + `
Every record names its bucket by a path, relative to BUCKET where that is
given. A bucket that holds nothing or has a sequence number is declared by a
line without a key. The dump is one snapshot, whatever is written meanwhile.`

const dumpExample = `  kvctl dump app.alder | kvctl load copy.alder
  kvctl dump app.alder users --format csv --output users.csv
  kvctl dump app.alder --format jsonl | gzip > app.jsonl.gz
  kvctl dump app.alder users --format lmdb | mdb_load env`

type dumpCommand struct {
	*cli
	format string
	output string
	force  bool
}

func newDumpCommand(c *cli) *cobra.Command {
	d := &dumpCommand{cli: c}
	cmd := &cobra.Command{
		Use:               "dump DB [BUCKET]",
		Short:             "Write a store or a bucket as text",
		Long:              dumpLong,
		Example:           dumpExample,
		Args:              between(1, 2),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.run(cmd.Context(), args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&d.format, "format", "", "format of the text (default: by the name of --output, else tsv): "+strings.Join(kvformat.Formats(), ", "))
	completeFlag(cmd, "format", kvformat.Formats())
	flags.StringVarP(&d.output, "output", "o", "", "write to `FILE` (-: standard output)")
	flags.BoolVar(&d.force, "force", false, "replace an existing --output file")
	return cmd
}

func (d *dumpCommand) run(ctx context.Context, store string, rest []string) error {
	path, err := optionalBucket(rest)
	if err != nil {
		return err
	}
	format := d.format
	if format == "" {
		if format = kvformat.ByExtension(d.output); format == "" {
			format = "tsv"
		}
	}
	if _, err := kvformat.NewWriter(format, io.Discard, kvformat.Options{}); err != nil {
		return usageErrorf("dump: --format: %w", err)
	}
	return d.view(ctx, store, func(tx *alder.Tx) error {
		bucket, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		return d.writeTo(ctx, d.output, d.force, store, modeOf(store), func(out io.Writer) error {
			w, err := kvformat.NewWriter(format, out, kvformat.Options{MapSize: lmdbMapSize(tx.Size())})
			if err != nil {
				return err
			}
			total := 0
			if d.showsProgress() {
				total = bucketStats(bucket.Stats()).Keys // reads every page; too dear when nobody looks
			}
			dumper := &dumper{ctx: ctx, writer: w, bar: d.startProgress("dumping "+filepath.Base(store), int64(total), unitKeys)}
			defer dumper.bar.finish()
			if err := dumper.dump(bucket, nil, len(path) == 0); err != nil {
				return err
			}
			if err := tx.Err(); err != nil {
				return err // before Close: what cannot be read in full shall not look complete
			}
			return w.Close()
		})
	})
}

// lmdbMapSize is a size for LMDB's map that surely holds what a store of this size holds.
func lmdbMapSize(storeSize int64) int64 {
	const granularity = 1 << 20
	return (4*storeSize/granularity + 16) * granularity
}

// dumper writes buckets as records.
type dumper struct {
	ctx    context.Context
	writer kvformat.Writer
	bar    *progress
	keys   int64
}

// dump writes a bucket: its declaration where it needs one, its keys, then the buckets inside it. The top level
// needs none.
func (d *dumper) dump(bucket *alder.Bucket, path [][]byte, top bool) error {
	if !top && (bucket.Sequence() != 0 || bucket.Len() == 0) {
		declaration := kvformat.Record{Path: path, Declaration: true, Sequence: bucket.Sequence()}
		if err := d.writer.Write(declaration); err != nil {
			return err
		}
	}
	var inner [][]byte
	for key, value := range bucket.All() {
		if value == nil {
			inner = append(inner, key)
			continue
		}
		if err := d.writer.Write(kvformat.Record{Path: path, Key: key, Value: value}); err != nil {
			return err
		}
		d.keys++
		d.bar.set(d.keys)
	}
	for _, name := range inner {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		b, err := innerBucket(bucket, name)
		if err != nil {
			return err
		}
		if err := d.dump(b, append(path[:len(path):len(path)], name), false); err != nil {
			return err
		}
	}
	return nil
}
