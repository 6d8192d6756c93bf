package main

import (
	"bufio"
	"bytes"
	"context"
	"iter"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
	"github.com/alderdb/alder/internal/kvpath"
)

const scanLong = `Scan prints the keys of a bucket in order, each with its value, one a line with
a tab between them. Keys and values that could be misunderstood are quoted, so
that kvctl load --format tsv reads the lines back; --format chooses another
form for the values, --key-format for the keys.

A bucket inside the bucket is a line with its path and two tabs, which load
reads as an empty bucket; with --keys-only it is its path and a slash, and
--values-only leaves it out. Without BUCKET the top-level buckets are listed.

--offset skips in O(log n), however large it is. --limit and --offset count
buckets too.`

const scanExample = `  kvctl scan app.alder users --prefix a --limit 10
  kvctl scan app.alder log/2026 --from 03 --to 04 --keys-only
  kvctl scan app.alder log/2026 --reverse --limit 1
  kvctl scan app.alder users --offset 1000000 --limit 10 --json
  kvctl scan app.alder users | kvctl load copy.alder users`

type scanCommand struct {
	*cli
	keyFormat, format    *encodingFlag
	bounds               *boundsFlags
	reverse              bool
	limit, offset        countFlag
	keysOnly, valuesOnly bool
}

func newScanCommand(c *cli) *cobra.Command {
	s := &scanCommand{cli: c, limit: noLimit}
	cmd := &cobra.Command{
		Use:               "scan DB [BUCKET]",
		Short:             "Print the keys and values of a bucket in order",
		Long:              scanLong,
		Example:           scanExample,
		Args:              between(1, 2),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := exclude(cmd, "keys-only", "values-only"); err != nil {
				return err
			}
			return s.run(cmd.Context(), args[0], args[1:])
		},
	}
	s.keyFormat = addKeyFormatFlag(cmd)
	s.format = addEncodingFlag(cmd, "format", kvformat.Quoted, "how values are printed")
	s.bounds = addBoundsFlags(cmd, s.keyFormat)
	flags := cmd.Flags()
	flags.BoolVar(&s.reverse, "reverse", false, "from the last key to the first")
	flags.Var(&s.limit, "limit", "print at most `N` entries")
	flags.Var(&s.offset, "offset", "skip the first `N` entries")
	flags.BoolVar(&s.keysOnly, "keys-only", false, "print no values")
	flags.BoolVar(&s.valuesOnly, "values-only", false, "print no keys")
	c.addJSONFlag(cmd, "print a JSON object a line, as kvctl load --format jsonl reads them")
	return cmd
}

func (s *scanCommand) run(ctx context.Context, store string, rest []string) error {
	path, err := optionalBucket(rest)
	if err != nil {
		return err
	}
	r, err := s.bounds.parse()
	if err != nil {
		return err
	}
	return s.view(ctx, store, func(tx *alder.Tx) error {
		bucket, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		return s.withStdout(func(out *bufio.Writer) error { return s.print(ctx, out, bucket, r) })
	})
}

// optionalBucket reads the BUCKET argument of a command that can do without; the top level is the empty path.
func optionalBucket(rest []string) ([][]byte, error) {
	if len(rest) == 0 {
		return nil, nil
	}
	return parseBucketOrTop(rest[0])
}

func (s *scanCommand) print(ctx context.Context, out *bufio.Writer, bucket *alder.Bucket, r keyRange) error {
	const interruptEvery = 1024
	var left = s.limit
	var line []byte
	for key, value := range s.entries(bucket, r) {
		if left == 0 {
			break
		}
		if left--; left%interruptEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line = s.appendEntry(line[:0], key, value)
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// entries yields the entries of the range from the offset on, in the order asked for. It finds the first by its index.
func (s *scanCommand) entries(b *alder.Bucket, r keyRange) iter.Seq2[[]byte, []byte] {
	none := func(func(key, value []byte) bool) {}
	if r.empty {
		return none
	}
	if s.offset == 0 {
		if s.reverse {
			return b.RangeBackward(r.from, r.to)
		}
		return b.Range(r.from, r.to)
	}
	count := b.Count(r.from, r.to)
	if uint64(s.offset) >= count {
		return none
	}
	var before uint64 // how many keys precede the range
	if r.from != nil {
		before = b.Rank(r.from)
	}
	at := before + uint64(s.offset)
	if s.reverse {
		at = before + count - 1 - uint64(s.offset)
	}
	first, _ := b.At(at)
	if first == nil || b.Tx().Err() != nil {
		return none // the transaction has the error; nil would be no bound
	}
	if s.reverse {
		return b.RangeBackward(r.from, append(bytes.Clone(first), 0)) // up to and including first
	}
	return b.Range(first, r.to)
}

// appendEntry appends the line for one entry. A nil value is a bucket.
func (s *scanCommand) appendEntry(line, key, value []byte) []byte {
	if s.json {
		return append(s.appendJSON(line, key, value), '\n')
	}
	switch {
	case value == nil && s.valuesOnly:
		return line
	case value == nil && s.keysOnly:
		line = append(append(line, kvpath.Format([][]byte{key})...), '/')
	case value == nil:
		line = append(append(line, kvpath.Format([][]byte{key})...), "\t\t"...)
	case s.keysOnly:
		line = s.keyFormat.Append(line, key)
	case s.valuesOnly:
		line = s.format.Append(line, value)
	default:
		line = append(s.keyFormat.Append(line, key), '\t')
		line = s.format.Append(line, value)
	}
	return append(line, '\n')
}

func (s *scanCommand) appendJSON(line, key, value []byte) []byte {
	switch {
	case value == nil:
		line = kvformat.AppendJSON(append(line, `{"bucket":`...), []byte(kvpath.Format([][]byte{key})))
	case s.keysOnly:
		line = kvformat.AppendJSON(append(line, `{"key":`...), key)
	case s.valuesOnly:
		line = kvformat.AppendJSON(append(line, `{"value":`...), value)
	default:
		line = kvformat.AppendJSON(append(line, `{"key":`...), key)
		line = kvformat.AppendJSON(append(line, `,"value":`...), value)
	}
	return append(line, '}')
}
