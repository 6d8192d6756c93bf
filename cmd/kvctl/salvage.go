package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

const salvageLong = `Salvage rebuilds a store from a damaged one. It takes everything that the newest
intact meta page leads to, what of the rest can still be found in the file, and
what its redo log says. The damaged store is only read. OUT appears when it is
complete.

Nothing is taken whose checksum is wrong, and outside of the bucket lost+found
OUT has keys of the last state only. In lost+found are

  page-N   trees of which nobody knows the bucket, one for each, named by the
           number of their root page
  loose    of keys that are lost, the newest version that was found: it may be
           an old one, or have been deleted since

For each damaged page a line says what it held, and how many keys of which
range are still lost. The exit code is 4 if any are; OUT is there all the same.
Without a damaged page, OUT is a copy.`

const salvageExample = `  kvctl salvage app.alder rescued.alder
  kvctl salvage app.alder --dry-run
  kvctl scan rescued.alder lost+found/loose`

type salvageCommand struct {
	*cli
	force  bool
	dryRun bool
	txSize sizeFlag
	out    storeOptions
}

type salvageResult struct {
	Out     string         `json:"out,omitempty"`
	Pages   int64          `json:"pages"`
	TxID    uint64         `json:"txid"`
	Buckets int64          `json:"buckets"`
	Keys    int64          `json:"keys"`
	Bytes   int64          `json:"bytes"`
	Placed  int64          `json:"placed"`
	Log     int            `json:"replayed"` // transactions
	Damage  []damageResult `json:"damage"`
	More    int64          `json:"more_damage,omitempty"`
	Lost    int64          `json:"lost_keys"`
	Unknown bool           `json:"lost_uncounted,omitempty"`

	LostAndFound string   `json:"lost_and_found,omitempty"` // name of the bucket
	FoundTrees   int64    `json:"found_trees"`
	FoundKeys    int64    `json:"found_keys"`
	LooseKeys    int64    `json:"loose_keys"`
	Notes        []string `json:"notes,omitempty"`
}

func newSalvageCommand(c *cli) *cobra.Command {
	s := &salvageCommand{cli: c, txSize: defaultTxSize, out: storeOptions{create: true}}
	cmd := &cobra.Command{
		Use:     "salvage DB OUT",
		Short:   "Rebuild a store from a damaged one",
		Long:    salvageLong,
		Example: salvageExample,
		Args:    between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.dryRun != (len(args) == 1) {
				return usageErrorf("salvage: give OUT, or --dry-run without it")
			}
			return s.run(cmd.Context(), args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&s.force, "force", false, "replace an existing OUT")
	flags.BoolVar(&s.dryRun, "dry-run", false, "write nothing; only say what a walk over the store does not find")
	flags.Var(&s.txSize, "tx-size", "size of the transactions that write OUT")
	s.out.addPageSizeFlag(cmd, "4096")
	c.addJSONFlag(cmd, "print the report as a JSON object")
	return cmd
}

func (s *salvageCommand) run(ctx context.Context, store string, rest []string) error {
	if s.txSize < 1 {
		return usageErrorf("salvage: --tx-size must be at least 1")
	}
	var report *alder.SalvageReport
	result := salvageResult{}
	var err error
	if s.dryRun {
		report, err = s.salvage(ctx, store, nil)
	} else {
		result.Out = rest[0]
		report, err = s.write(ctx, store, rest[0])
	}
	if errors.Is(err, context.Canceled) {
		return interruptedErrorf("%s", map[bool]string{true: "the store is not read in full", false: result.Out + " is not written"}[s.dryRun])
	}
	if err != nil {
		return err
	}
	result.fill(report)
	if err := s.print(store, result, report); err != nil {
		return err
	}
	if report.Lost > 0 || report.Unknown {
		return errSilent{&codedError{exitCorrupt, errors.New("keys are lost")}}
	}
	return nil
}

// write salvages into a new file at out.
func (s *salvageCommand) write(ctx context.Context, store, out string) (*alder.SalvageReport, error) {
	if _, err := os.Stat(store); err != nil {
		return nil, err
	}
	output, err := newOutputFile(out, s.force, store)
	if err != nil {
		return nil, err
	}
	defer output.discard()
	target, err := s.openForWriting(ctx, output.temp, s.out)
	if err != nil {
		return nil, err
	}
	report, err := s.salvage(ctx, store, target.DB)
	if err := errors.Join(err, target.Close()); err != nil {
		return nil, err
	}
	if err := os.Chmod(output.temp, modeOf(store)); err != nil {
		return nil, err
	}
	return report, output.commit()
}

// salvage reads the store, and waits for its lock as open does.
func (s *salvageCommand) salvage(ctx context.Context, store string, target *alder.DB) (*alder.SalvageReport, error) {
	const turn = 100 * time.Millisecond
	start := time.Now()
	var bar *progress
	defer func() { bar.finish() }()
	advance := func(done, total int64) {
		if bar == nil {
			bar = s.startProgress("salvaging "+filepath.Base(store), total, unitPages)
		}
		bar.set(done)
	}
	for {
		report, err := alder.Salvage(ctx, store, target, &alder.SalvageOptions{
			Timeout: min(turn, max(0, s.timeout-time.Since(start))), TxMaxSize: int64(s.txSize), Progress: advance,
		})
		var locked *alder.LockError
		if !errors.As(err, &locked) {
			return report, err
		}
		if locked.Waited = time.Since(start); locked.Waited >= s.timeout {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, interruptedErrorf("still waiting: %v", err)
		}
	}
}

func (r *salvageResult) fill(report *alder.SalvageReport) {
	r.Pages, r.TxID, r.Buckets, r.Keys, r.Bytes = report.Pages, report.TxID, report.Buckets, report.Keys, report.Bytes
	r.Placed, r.Log, r.More, r.Lost, r.Unknown = report.Placed, report.Replayed, report.More, report.Lost, report.Unknown
	r.LostAndFound, r.FoundTrees, r.FoundKeys, r.LooseKeys = report.LostAndFound, report.FoundTrees, report.FoundKeys, report.LooseKeys
	r.Notes = report.Notes
	r.Damage = []damageResult{}
	for _, d := range report.Damage {
		r.Damage = append(r.Damage, newDamageResult(d))
	}
}

func (s *salvageCommand) print(store string, r salvageResult, report *alder.SalvageReport) error {
	return s.withStdout(func(out *bufio.Writer) error {
		if s.json {
			return writeJSON(out, r)
		}
		for _, d := range report.Damage {
			fmt.Fprintln(out, damageLine(d))
		}
		if r.More > 0 {
			fmt.Fprintf(out, "%s more\n", counted(r.More, "damaged page"))
		}
		if s.quiet {
			return nil
		}
		name := r.Out
		if s.dryRun {
			name = store
		}
		fmt.Fprintf(out, "%s: %s in %s, %s, of transaction %d; %s\n",
			name, counted(r.Keys, "key"), counted(r.Buckets, "bucket"), formatSize(r.Bytes), r.TxID, lostKeys(r.Lost, r.Unknown))
		if r.Log > 0 {
			fmt.Fprintf(out, "%s of the redo log done again\n", counted(r.Log, "transaction"))
		}
		if r.Placed > 0 {
			fmt.Fprintf(out, "%s of them found in pages that nothing leads to; where they belong follows from their keys and their number\n", counted(r.Placed, "key"))
		}
		if r.LostAndFound != "" {
			fmt.Fprintf(out, "%s: %s with %s, and %s\n", r.LostAndFound, counted(r.FoundTrees, "tree"), counted(r.FoundKeys, "key"), counted(r.LooseKeys, "loose key"))
		}
		for _, text := range r.Notes {
			fmt.Fprintln(out, "note:", text)
		}
		return nil
	})
}
