package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvpath"
)

const bucketsLong = `Buckets prints the buckets of a store as a tree, each with the number of its
keys and, unless it is zero, its sequence number. With BUCKET only what is
inside that bucket is listed.`

const bucketsExample = `  kvctl buckets app.alder
  kvctl buckets app.alder log --depth 1
  kvctl buckets app.alder --json`

type bucketsCommand struct {
	*cli
	depth countFlag
}

func newBucketsCommand(c *cli) *cobra.Command {
	b := &bucketsCommand{cli: c}
	cmd := &cobra.Command{
		Use:               "buckets DB [BUCKET]",
		Short:             "Print the tree of buckets",
		Long:              bucketsLong,
		Example:           bucketsExample,
		Args:              between(1, 2),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return b.run(cmd.Context(), args[0], args[1:])
		},
	}
	cmd.Flags().Var(&b.depth, "depth", "print at most `N` levels (0: all)")
	c.addJSONFlag(cmd, "print a JSON object a line, one for each bucket")
	return cmd
}

type bucketsResult struct {
	Bucket   string `json:"bucket"`
	Keys     uint64 `json:"keys"`
	Buckets  uint64 `json:"buckets"`
	Sequence uint64 `json:"sequence"`
}

func (b *bucketsCommand) run(ctx context.Context, store string, rest []string) error {
	path, err := optionalBucket(rest)
	if err != nil {
		return err
	}
	return b.view(ctx, store, func(tx *alder.Tx) error {
		bucket, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		return b.withStdout(func(out *bufio.Writer) error { return b.printInside(ctx, out, bucket, path, 0) })
	})
}

// printInside prints the buckets inside outer, which is at path.
func (b *bucketsCommand) printInside(ctx context.Context, out *bufio.Writer, outer *alder.Bucket, path [][]byte, level int) error {
	return eachBucket(outer, func(name []byte, inner *alder.Bucket) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		innerPath := append(path[:len(path):len(path)], name)
		result := bucketsResult{Bucket: kvpath.Format(innerPath), Sequence: inner.Sequence()}
		if err := inner.ForEachBucket(func([]byte) error { result.Buckets++; return nil }); err != nil {
			return err
		}
		result.Keys = inner.Len() - result.Buckets
		if err := b.printBucket(out, result, name, level); err != nil {
			return err
		}
		if b.depth > 0 && countFlag(level+1) == b.depth {
			return nil
		}
		return b.printInside(ctx, out, inner, innerPath, level+1)
	})
}

func (b *bucketsCommand) printBucket(out *bufio.Writer, result bucketsResult, name []byte, level int) error {
	if b.json {
		return writeJSON(out, result)
	}
	line := strings.Repeat("  ", level) + kvpath.Format([][]byte{name}) + "  " + counted(result.Keys, "key")
	if result.Buckets > 0 {
		line += ", " + counted(result.Buckets, "bucket")
	}
	if result.Sequence > 0 {
		line += fmt.Sprintf(", sequence %d", result.Sequence)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}
