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

const shrinkLong = `Shrink makes the file of a store shorter in place: what lies at its end moves to
free places in front, pages that are not full are joined, and then the file is
cut. It needs no room beside the store. It can be interrupted at any time, and
goes on where it was when it is called again.

With --punch, free pages that are left in the middle give their room on the disk
back too, where the system can do that; the length of the file does not show it.
What is printed is what this run has given back, and what the file takes now.

Compact makes a copy that is smaller still, with every page full, and needs the
room for it.`

const shrinkExample = `  kvctl shrink app.alder
  kvctl shrink app.alder --target 2GiB`

type shrinkCommand struct {
	*cli
	target sizeFlag
	punch  bool
}

type shrinkResult struct {
	Before int64 `json:"size_before"`
	After  int64 `json:"size_after"`
	Moved  int64 `json:"moved_bytes"`
	Packed int64 `json:"packed_pages"`

	Punched *int64 `json:"punched_bytes,omitempty"` // by this run, with --punch
	Disk    int64  `json:"disk_bytes,omitempty"`    // what the file takes on the disk, where the system says it
}

func newShrinkCommand(c *cli) *cobra.Command {
	s := &shrinkCommand{cli: c}
	cmd := &cobra.Command{
		Use:     "shrink DB",
		Short:   "Make the file of a store shorter in place",
		Long:    shrinkLong,
		Example: shrinkExample,
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().Var(&s.target, "target", "stop when the file is no longer than this (0: make it as short as it can be)")
	cmd.Flags().BoolVar(&s.punch, "punch", false, "give back the room of free pages in the middle of the file too")
	c.addJSONFlag(cmd, "print the summary as a JSON object")
	return cmd
}

func (s *shrinkCommand) run(ctx context.Context, store string) error {
	before, err := fileSize(store)
	if err != nil {
		return err
	}
	db, err := s.openForWriting(ctx, store, storeOptions{punch: s.punch})
	if err != nil {
		return err
	}
	bar := s.startProgress("shrinking "+filepath.Base(store), 1, unitBytes)
	out, err := db.Shrink(ctx, int64(s.target), func(now alder.Shrinkage) {
		bar.resize(now.Moved + now.ToMove)
		bar.set(now.Moved)
	})
	bar.finish()
	err = errors.Join(err, db.Close())
	if errors.Is(err, context.Canceled) {
		return interruptedErrorf("%s is not as short as it can be; nothing in it is lost", store)
	}
	if err != nil {
		return fmt.Errorf("shrink %s: %w", store, innermost(err))
	}
	result := shrinkResult{Before: before, Moved: out.Moved, Packed: out.Packed}
	fi, err := os.Stat(store)
	if err != nil {
		return err
	}
	result.After, result.Disk = fi.Size(), diskUsage(fi)
	if s.quiet {
		return nil
	}
	text := fmt.Sprintf("%s: %s instead of %s", store, formatSize(result.After), formatSize(result.Before))
	if s.punch {
		result.Punched = &out.Punched
		text += fmt.Sprintf(", %s in the middle given back now", formatSize(out.Punched))
		if result.Disk > 0 {
			text += fmt.Sprintf(", %s on the disk", formatSize(result.Disk))
		}
	}
	return s.printValue(result, text)
}
