package main

import (
	"bufio"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
	"github.com/alderdb/alder/internal/kvpath"
)

const getLong = `Get prints the value of KEY.

Its bytes are written exactly, with nothing added, except on a terminal: there
a value that is not printable text is quoted, and a line break ends it.
--format raw writes the exact bytes to a terminal too; the other formats end in
a line break everywhere.`

const getExample = `  kvctl get app.alder users alice
  kvctl get app.alder images logo.png > logo.png
  kvctl get app.alder images logo.png --output logo.png
  kvctl get app.alder bin --key-format hex 00ff --format hex`

type getCommand struct {
	*cli
	output    string
	force     bool
	keyFormat *encodingFlag
	format    *encodingFlag
	formatSet bool
}

func newGetCommand(c *cli) *cobra.Command {
	g := &getCommand{cli: c}
	cmd := &cobra.Command{
		Use:               "get DB BUCKET KEY",
		Short:             "Print the value of a key",
		Long:              getLong,
		Example:           getExample,
		Args:              between(3, 3),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			g.formatSet = cmd.Flags().Changed("format")
			return g.run(cmd.Context(), args[0], args[1], args[2])
		},
	}
	cmd.Flags().StringVarP(&g.output, "output", "o", "", "write the value to `FILE`")
	cmd.Flags().BoolVar(&g.force, "force", false, "replace an existing --output file")
	g.keyFormat = addKeyFormatFlag(cmd)
	g.format = addEncodingFlag(cmd, "format", kvformat.Raw, "how the value is printed")
	c.addJSONFlag(cmd, "print bucket, key, size and value as a JSON object")
	return cmd
}

type getResult struct {
	Bucket string         `json:"bucket"`
	Key    kvformat.Bytes `json:"key"`
	Size   int            `json:"size"`
	Value  kvformat.Bytes `json:"value"`
}

func (g *getCommand) run(ctx context.Context, store, bucketText, keyText string) error {
	path, err := parseBucket(bucketText)
	if err != nil {
		return err
	}
	key, err := parseKey(keyText, g.keyFormat)
	if err != nil {
		return err
	}
	return g.view(ctx, store, func(tx *alder.Tx) error {
		bucket, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		value, err := bucket.Lookup(key)
		if err != nil {
			return err
		}
		if value == nil {
			if bucket.Bucket(key) != nil {
				return notFoundErrorf("%s: %s is a bucket, not a key; list it with kvctl scan", store, keyName(path, key))
			}
			return notFoundErrorf("%s: no %s", store, keyName(path, key))
		}
		return g.print(ctx, store, getResult{Bucket: kvpath.Format(path), Key: key, Size: len(value), Value: value})
	})
}

func (g *getCommand) print(ctx context.Context, store string, result getResult) error {
	return g.writeTo(ctx, g.output, g.force, store, 0o644, func(w io.Writer) error {
		if g.json {
			return writeJSON(w, result)
		}
		format, lineBreak := g.format.Encoding, g.format.Encoding != kvformat.Raw
		if !g.formatSet && g.output == "" && isTerminal(g.stdout) {
			format, lineBreak = kvformat.Quoted, true
		}
		if format == kvformat.Raw {
			_, err := w.Write(result.Value) // a slice of the mapped file, so nothing is copied
			return err
		}
		out := bufio.NewWriter(w)
		out.Write(format.Append(nil, result.Value))
		if lineBreak {
			out.WriteByte('\n')
		}
		return out.Flush()
	})
}
