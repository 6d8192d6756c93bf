package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

type versionResult struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes that are in no revision
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of kvctl",
		Example: "  kvctl version\n  kvctl version --json",
		Args:    between(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return c.printValue(v, v.String())
		},
	}
	c.addJSONFlag(cmd, "print a JSON object")
	return cmd
}

// readVersion returns what the Go command recorded when it built this program.
func readVersion() versionResult {
	v := versionResult{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Revision = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
	return v
}

func (v versionResult) String() string {
	words := []string{"kvctl", v.Version}
	if v.Revision != "" {
		words = append(words, v.Revision[:min(12, len(v.Revision))])
	}
	if v.Modified {
		words = append(words, "modified")
	}
	return strings.Join(append(words, v.Go, v.Platform), " ")
}
