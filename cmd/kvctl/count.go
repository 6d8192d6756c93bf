package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

const countLong = `Count prints how many keys a bucket holds, within the bounds. It takes O(log n)
time, however many they are. Buckets directly inside the bucket count like
keys. Without BUCKET the top-level buckets are counted.`

const countExample = `  kvctl count app.alder users
  kvctl count app.alder log/2026 --from 03 --to 04
  kvctl count src.alder go --prefix net/http/`

type countCommand struct {
	*cli
	bounds *boundsFlags
}

func newCountCommand(c *cli) *cobra.Command {
	n := &countCommand{cli: c}
	cmd := &cobra.Command{
		Use:               "count DB [BUCKET]",
		Short:             "Print the number of keys in a bucket or a range",
		Long:              countLong,
		Example:           countExample,
		Args:              between(1, 2),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return n.run(cmd.Context(), args[0], args[1:])
		},
	}
	n.bounds = addBoundsFlags(cmd, addKeyFormatFlag(cmd))
	c.addJSONFlag(cmd, "print the count as a JSON object")
	return cmd
}

type countResult struct {
	Count uint64 `json:"count"`
}

func (n *countCommand) run(ctx context.Context, store string, rest []string) error {
	path, err := optionalBucket(rest)
	if err != nil {
		return err
	}
	r, err := n.bounds.parse()
	if err != nil {
		return err
	}
	var result countResult
	err = n.view(ctx, store, func(tx *alder.Tx) error {
		bucket, err := findBucket(tx, path)
		if err == nil && !r.empty {
			result.Count = bucket.Count(r.from, r.to)
		}
		return err
	})
	if err != nil {
		return err
	}
	return n.printValue(result, result.Count)
}
