package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvpath"
)

const delLong = `Del deletes one of

  a key            DB BUCKET KEY
  a range of keys  DB BUCKET with --prefix, --from or --to, or --all for every key
  a bucket         DB BUCKET --bucket; with keys or buckets inside it also --recursive

in one transaction. A range includes the buckets whose names lie in it, and is
refused where there are any, unless --recursive is given. Deleting a key or
bucket that does not exist is an error (exit code 1); a range may be empty.`

const delExample = `  kvctl del app.alder users alice
  kvctl del app.alder log/2026 --from 01 --to 07
  kvctl del app.alder sessions --all
  kvctl del app.alder log/2025 --bucket --recursive`

type delCommand struct {
	*cli
	all, bucket, recursive bool
	keyFormat              *encodingFlag
	bounds                 *boundsFlags
}

func newDelCommand(c *cli) *cobra.Command {
	d := &delCommand{cli: c}
	cmd := &cobra.Command{
		Use:               "del DB BUCKET [KEY]",
		Short:             "Delete a key, a range of keys, or a bucket",
		Long:              delLong,
		Example:           delExample,
		Args:              between(2, 3),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.run(cmd.Context(), args[0], args[1], args[2:])
		},
	}
	d.keyFormat = addKeyFormatFlag(cmd)
	d.bounds = addBoundsFlags(cmd, d.keyFormat)
	flags := cmd.Flags()
	flags.BoolVar(&d.all, "all", false, "all keys of the bucket")
	flags.BoolVar(&d.bucket, "bucket", false, "the bucket itself")
	flags.BoolVar(&d.recursive, "recursive", false, "buckets too, with everything inside them")
	c.addJSONFlag(cmd, "print the number of deleted entries as a JSON object")
	return cmd
}

type delResult struct {
	Deleted uint64 `json:"deleted"`
}

func (d *delCommand) run(ctx context.Context, store, bucketText string, rest []string) error {
	path, err := parseBucket(bucketText)
	if err != nil {
		return err
	}
	deletion, err := d.plan(path, rest)
	if err != nil {
		return err
	}
	var result delResult
	err = d.update(ctx, store, storeOptions{}, func(tx *alder.Tx) (err error) {
		result.Deleted, err = deletion(tx)
		return err
	})
	if err != nil || d.quiet {
		return err
	}
	if d.json || len(rest) == 0 && !d.bucket {
		return d.printFacts(result, fact{"deleted", counted(result.Deleted, "key")})
	}
	return nil
}

// plan returns what to do in the transaction, after checking that the command line asks for exactly one thing.
func (d *delCommand) plan(path [][]byte, rest []string) (func(*alder.Tx) (uint64, error), error) {
	ways := 0
	for _, given := range []bool{len(rest) > 0, d.bounds.given(), d.all, d.bucket} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 0:
		return nil, usageErrorf("del: nothing to delete is named; give KEY, --prefix, --from, --to, --all or --bucket")
	case ways > 1:
		return nil, usageErrorf("del: give only one of KEY, a range (--prefix, --from, --to), --all and --bucket")
	case len(rest) > 0:
		key, err := parseKey(rest[0], d.keyFormat)
		if err != nil {
			return nil, err
		}
		return func(tx *alder.Tx) (uint64, error) { return 1, d.deleteKey(tx, path, key) }, nil
	case d.bucket:
		return func(tx *alder.Tx) (uint64, error) { return 1, d.deleteBucket(tx, path) }, nil
	default:
		r, err := d.bounds.parse()
		if err != nil {
			return nil, err
		}
		return func(tx *alder.Tx) (uint64, error) { return d.deleteRange(tx, path, r) }, nil
	}
}

func (d *delCommand) deleteKey(tx *alder.Tx, path [][]byte, key []byte) error {
	bucket, err := findBucket(tx, path)
	if err != nil {
		return err
	}
	value, err := bucket.Lookup(key)
	switch {
	case err != nil:
		return err
	case value != nil:
		return bucket.Delete(key)
	case bucket.Bucket(key) != nil:
		return usageErrorf("%s: %s is a bucket; delete it with --bucket", storeName(tx), keyName(path, key))
	}
	return notFoundErrorf("%s: no %s", storeName(tx), keyName(path, key))
}

func (d *delCommand) deleteBucket(tx *alder.Tx, path [][]byte) error {
	bucket, err := findBucket(tx, path)
	if err != nil {
		return err
	}
	if n := bucket.Len(); n > 0 && !d.recursive {
		return usageErrorf("%s: bucket %s holds %s; delete them too with --recursive", storeName(tx), kvpath.Format(path), entries(n))
	}
	name := path[len(path)-1]
	if len(path) == 1 {
		return tx.DeleteBucket(name)
	}
	outer, err := findBucket(tx, path[:len(path)-1])
	if err != nil {
		return err
	}
	return outer.DeleteBucket(name)
}

func (d *delCommand) deleteRange(tx *alder.Tx, path [][]byte, r keyRange) (uint64, error) {
	bucket, err := findBucket(tx, path)
	if err != nil || r.empty {
		return 0, err
	}
	if !d.recursive {
		for name, value := range bucket.Range(r.from, r.to) {
			if value == nil {
				return 0, usageErrorf("%s: the range includes bucket %s; delete buckets too with --recursive",
					storeName(tx), kvpath.Format(append(path[:len(path):len(path)], name)))
			}
		}
		if err := tx.Err(); err != nil {
			return 0, err
		}
	}
	return bucket.DeleteRange(r.from, r.to)
}

func entries(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return grouped(n) + " entries"
}
