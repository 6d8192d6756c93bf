package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

const manLong = `Man writes a manual page for kvctl and one for each command to DIR, which is
created if it does not exist. Set SOURCE_DATE_EPOCH for pages that do not
differ from one run to the next.`

// newManCommand is hidden: it is for those who package kvctl.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write manual pages",
		Long:    manLong,
		Example: "  kvctl man /usr/local/share/man/man1",
		Hidden:  true,
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Title: "KVCTL", Section: "1", Source: "alder", Manual: "Alder"}, args[0])
		},
	}
}
