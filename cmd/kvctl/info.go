package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

const infoLong = `Info prints what the file says about itself: identity, sizes, last transaction,
the identity of the snapshot that it makes, which kvctl backup --since takes,
and how many buckets are at the top level. It reads only a few pages. See stats
for what is inside.`

const infoExample = `  kvctl info app.alder
  kvctl info app.alder --json`

type infoResult struct {
	Path     string `json:"path"`
	ID       string `json:"id"`
	PageSize int    `json:"page_size"`
	Size     int64  `json:"size"`   // of the file
	InUse    int64  `json:"in_use"` // what a backup would write
	TxID     uint64 `json:"txid"`
	Snapshot string `json:"snapshot"` // identity of what the store holds, for kvctl backup --since
	Buckets  uint64 `json:"buckets"`
}

func newInfoCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "info DB",
		Short:             "Print identity, sizes and last transaction of a store",
		Long:              infoLong,
		Example:           infoExample,
		Args:              between(1, 1),
		ValidArgsFunction: c.completeArguments,
		RunE:              func(cmd *cobra.Command, args []string) error { return c.runInfo(cmd.Context(), args[0]) },
	}
	c.addJSONFlag(cmd, "print a JSON object")
	return cmd
}

func (c *cli) runInfo(ctx context.Context, store string) error {
	var r infoResult
	err := c.view(ctx, store, func(tx *alder.Tx) error {
		db := tx.DB()
		r = infoResult{
			Path: db.Path(), ID: db.ID(), PageSize: db.PageSize(), InUse: tx.Size(),
			TxID: tx.Snapshot().TxID, Snapshot: tx.Snapshot().String(), Buckets: topLevel(tx).Len(),
		}
		var err error
		r.Size, err = fileSize(store)
		return err
	})
	if err != nil {
		return err
	}
	return c.printFacts(r,
		fact{"path", r.Path}, fact{"identity", r.ID}, fact{"page size", r.PageSize}, fact{"file size", sizeFact(r.Size)},
		fact{"in use", sizeFact(r.InUse)}, fact{"last transaction", r.TxID}, fact{"snapshot", r.Snapshot}, fact{"top-level buckets", grouped(r.Buckets)})
}
