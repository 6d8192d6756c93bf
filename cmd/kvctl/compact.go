package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

const compactLong = `Compact copies a store into a new file with full pages and no free ones. The
store itself is not changed; nobody can write it meanwhile. OUT appears only
when it is complete, and has pages of the same size unless --page-size says
another one.`

const compactExample = `  kvctl compact app.alder small.alder
  kvctl compact app.alder small.alder --page-size 16KiB`

type compactCommand struct {
	*cli
	force  bool
	txSize sizeFlag
	out    storeOptions
}

type compactResult struct {
	Out    string `json:"out"`
	Keys   int    `json:"keys"`
	Before int64  `json:"size_before"`
	After  int64  `json:"size_after"`
}

func newCompactCommand(c *cli) *cobra.Command {
	m := &compactCommand{cli: c, txSize: defaultTxSize, out: storeOptions{create: true}}
	cmd := &cobra.Command{
		Use:     "compact DB OUT",
		Short:   "Copy a store into a new file without free space",
		Long:    compactLong,
		Example: compactExample,
		Args:    between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.run(cmd.Context(), args[0], args[1])
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&m.force, "force", false, "replace an existing OUT")
	flags.Var(&m.txSize, "tx-size", "size of the transactions that write OUT")
	m.out.addPageSizeFlag(cmd, "that of DB")
	c.addJSONFlag(cmd, "print the summary as a JSON object")
	return cmd
}

func (m *compactCommand) run(ctx context.Context, store, out string) error {
	if m.txSize < 1 {
		return usageErrorf("compact: --tx-size must be at least 1")
	}
	source, err := m.openForReading(ctx, store)
	if err != nil {
		return err
	}
	defer source.Close()
	output, err := newOutputFile(out, m.force, store)
	if err != nil {
		return err
	}
	defer output.discard()

	result := compactResult{Out: out}
	if err := m.copy(ctx, source, output.temp, &result); err != nil {
		if errors.Is(err, context.Canceled) {
			return interruptedErrorf("%s is not written", out)
		}
		return fmt.Errorf("compact %s to %s: %w", store, out, innermost(err))
	}
	if result.Before, err = fileSize(store); err != nil {
		return err
	}
	if result.After, err = fileSize(output.temp); err != nil {
		return err
	}
	if err := os.Chmod(output.temp, modeOf(store)); err != nil {
		return err
	}
	if err := output.commit(); err != nil {
		return err
	}
	if m.quiet {
		return nil
	}
	text := fmt.Sprintf("%s: %s, %s instead of %s", out, counted(result.Keys, "key"), formatSize(result.After), formatSize(result.Before))
	return m.printValue(result, text)
}

// copy writes everything in source to a new store at path.
func (m *compactCommand) copy(ctx context.Context, source *alder.DB, path string, result *compactResult) error {
	err := source.ViewContext(ctx, func(tx *alder.Tx) error {
		result.Keys = bucketStats(topLevel(tx).Stats()).Keys
		return nil
	})
	if err != nil {
		return err
	}
	options := m.out
	if options.pageSize == 0 {
		options.pageSize = sizeFlag(source.PageSize())
	}
	target, err := m.openForWriting(ctx, path, options)
	if err != nil {
		return err
	}
	bar := m.startProgress("compacting "+filepath.Base(source.Path()), int64(result.Keys), unitKeys)
	defer bar.finish()
	err = alder.CompactContext(ctx, target.DB, source, int64(m.txSize), func(keys, _ int64) { bar.set(keys) })
	return errors.Join(err, target.Close())
}
