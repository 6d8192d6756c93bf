package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
)

const putLong = `Put stores VALUE under KEY and replaces the value that is there. The file and
the bucket are created if they do not exist. It returns when the value is
durable.

The value is VALUE, the content of --file, or standard input where VALUE is -
or missing. --format says how it is written; the default, raw, takes its bytes
as they are.`

const putExample = `  kvctl put app.alder users alice '{"name": "Alice"}'
  kvctl put app.alder images logo.png --file logo.png
  date | kvctl put app.alder log/2026 started
  kvctl put app.alder bin --key-format hex 00ff --format base64 aGVsbG8=`

type putCommand struct {
	*cli
	file      string
	keyFormat *encodingFlag
	format    *encodingFlag
	store     storeOptions
}

func newPutCommand(c *cli) *cobra.Command {
	p := &putCommand{cli: c, store: storeOptions{create: true}}
	cmd := &cobra.Command{
		Use:               "put DB BUCKET KEY [VALUE]",
		Short:             "Store a value under a key",
		Long:              putLong,
		Example:           putExample,
		Args:              between(3, 4),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.run(cmd.Context(), args[0], args[1], args[2], args[3:])
		},
	}
	cmd.Flags().StringVarP(&p.file, "file", "f", "", "read the value from `FILE` (-: standard input)")
	p.keyFormat = addKeyFormatFlag(cmd)
	p.format = addEncodingFlag(cmd, "format", kvformat.Raw, "how the value is written")
	p.store.addPageSizeFlag(cmd, "4096")
	return cmd
}

func (p *putCommand) run(ctx context.Context, store, bucketText, keyText string, rest []string) error {
	path, err := parseBucket(bucketText)
	if err != nil {
		return err
	}
	key, err := parseKey(keyText, p.keyFormat)
	if err != nil {
		return err
	}
	value, err := p.value(ctx, rest)
	if err != nil {
		return err
	}
	return p.update(ctx, store, p.store, func(tx *alder.Tx) error {
		bucket, err := createBucket(tx, path)
		if err != nil {
			return err
		}
		err = bucket.Put(key, value)
		if errors.Is(err, alder.ErrIncompatibleValue) {
			return usageErrorf("%s: %s is a bucket, not a key", store, keyName(path, key))
		}
		return err
	})
}

// value returns the bytes to store, from wherever the command line says.
func (p *putCommand) value(ctx context.Context, rest []string) ([]byte, error) {
	var text []byte
	switch {
	case len(rest) > 0 && p.file != "":
		return nil, usageErrorf("put: both VALUE and --file are given")
	case len(rest) > 0 && rest[0] != "-":
		text = []byte(rest[0])
	default:
		file := p.file
		if file == "" {
			file = "-"
			if len(rest) == 0 && isTerminal(p.stdin) {
				return nil, usageErrorf("put: no value; give VALUE or --file, or - to type it here")
			}
		}
		in, name, size, err := p.openInput(file)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		if text, err = readValue(ctx, in, name, size); err != nil {
			return nil, err
		}
	}
	value, err := p.format.Decode(text)
	if err != nil {
		return nil, usageErrorf("the value: %w; see --format", err)
	}
	return value, nil
}
