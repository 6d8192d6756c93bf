package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvpath"
)

const statsLong = `Stats counts keys, buckets, pages and bytes of a store, or of BUCKET and
everything inside it. It visits every page of the tree.`

const statsExample = `  kvctl stats app.alder
  kvctl stats app.alder log/2026 --json`

// statsResult is about one bucket with everything inside it; the fields of the store are left out for a named bucket.
type statsResult struct {
	Path        string      `json:"path"`
	Bucket      string      `json:"bucket,omitempty"`
	Store       *storeStats `json:"store,omitempty"`
	Buckets     int         `json:"buckets"`        // inside it, at any depth
	Inline      int         `json:"inline_buckets"` // stored inside the leaf of their parent
	Keys        int         `json:"keys"`
	Depth       int         `json:"depth"`
	BranchPages int         `json:"branch_pages"`
	LeafPages   int         `json:"leaf_pages"`
	Overflow    int         `json:"overflow_pages"`
	Allocated   int64       `json:"allocated_bytes"`
	Used        int64       `json:"used_bytes"`
}

type storeStats struct {
	PageSize int    `json:"page_size"`
	Size     int64  `json:"size"`   // of the file
	InUse    int64  `json:"in_use"` // what a backup would write
	Free     int    `json:"free_pages"`
	Pinned   int64  `json:"pinned"` // given up, but in a snapshot that somebody reads
	Log      int64  `json:"log"`
	TxID     uint64 `json:"txid"`
}

func newStatsCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "stats DB [BUCKET]",
		Short:             "Count keys, buckets, pages and bytes",
		Long:              statsLong,
		Example:           statsExample,
		Args:              between(1, 2),
		ValidArgsFunction: c.completeArguments,
		RunE:              func(cmd *cobra.Command, args []string) error { return c.runStats(cmd.Context(), args[0], args[1:]) },
	}
	c.addJSONFlag(cmd, "print a JSON object")
	return cmd
}

func (c *cli) runStats(ctx context.Context, store string, rest []string) error {
	path, err := optionalBucket(rest)
	if err != nil {
		return err
	}
	var result statsResult
	err = c.view(ctx, store, func(tx *alder.Tx) error {
		bucket, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		result = bucketStats(bucket.Stats())
		result.Path = store
		if len(path) > 0 {
			result.Bucket = kvpath.Format(path)
			return nil
		}
		db := tx.DB()
		space := db.Space()
		result.Store = &storeStats{
			PageSize: db.PageSize(), InUse: tx.Size(), Free: db.Stats().FreePageN, Pinned: space.Pinned, Log: space.Log, TxID: tx.Snapshot().TxID,
		}
		result.Store.Size, err = fileSize(store)
		return err
	})
	if err != nil {
		return err
	}
	return c.printFacts(result, result.facts()...)
}

// bucketStats puts the counts into the user's terms: the bucket itself is not among the buckets, and buckets are no keys.
func bucketStats(s alder.BucketStats) statsResult {
	inside := s.BucketN - 1
	return statsResult{
		Buckets: inside, Inline: s.InlineBucketN, Keys: s.KeyN - inside, Depth: s.Depth,
		BranchPages: s.BranchPageN, LeafPages: s.LeafPageN, Overflow: s.BranchOverflowN + s.LeafOverflowN,
		Allocated: int64(s.BranchAlloc) + int64(s.LeafAlloc), Used: int64(s.BranchInuse) + int64(s.LeafInuse),
	}
}

func (r statsResult) facts() []fact {
	facts := []fact{{"path", r.Path}}
	if r.Bucket != "" {
		facts = append(facts, fact{"bucket", r.Bucket})
	}
	if s := r.Store; s != nil {
		facts = append(facts,
			fact{"file size", sizeFact(s.Size)}, fact{"in use", sizeFact(s.InUse)}, fact{"page size", s.PageSize},
			fact{"free pages", grouped(s.Free)}, fact{"pinned", formatSize(s.Pinned)}, fact{"log", formatSize(s.Log)},
			fact{"last transaction", s.TxID})
	}
	used := formatSize(r.Used)
	if r.Allocated > 0 {
		used += fmt.Sprintf(" (%.1f %%)", 100*float64(r.Used)/float64(r.Allocated))
	}
	return append(facts,
		fact{"buckets", fmt.Sprintf("%s (%s inline)", grouped(r.Buckets), grouped(r.Inline))}, fact{"keys", grouped(r.Keys)},
		fact{"depth", r.Depth}, fact{"branch pages", grouped(r.BranchPages)}, fact{"leaf pages", grouped(r.LeafPages)},
		fact{"overflow pages", grouped(r.Overflow)}, fact{"allocated", formatSize(r.Allocated)}, fact{"used", used})
}
