package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that a shrink with --punch that finds the holes made says how little it has given back itself, and how much less room the file takes than it is long.
//
// It said "0 B of it without room on the disk", as if there were no holes.
func TestShrink_PunchTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.alder")
	kvctl := func(input string, args ...string) string {
		cmd := exec.Command("kvctl", args...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	var lines strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&lines, "key%08d\t%s\n", i, strings.Repeat("v", 100))
	}
	kvctl(lines.String(), "load", path, "b", "--quiet")
	kvctl("", "del", path, "b", "--from", "key00005000", "--to", "key00015000", "--quiet")
	shrink := func() (r struct {
		After   int64  `json:"size_after"`
		Punched *int64 `json:"punched_bytes"`
		Disk    int64  `json:"disk_bytes"`
	}) {
		require.NoError(t, json.Unmarshal([]byte(kvctl("", "shrink", path, "--punch", "--target", "1GiB", "--json")), &r))
		require.NotNil(t, r.Punched)
		return r
	}
	first := shrink()
	if *first.Punched == 0 {
		t.Skip("this file system has no holes")
	}
	require.Less(t, first.Disk, first.After)
	second := shrink()
	require.Less(t, *second.Punched, *first.Punched/2, "what the log and the free map have taken meanwhile, at most")
	require.LessOrEqual(t, second.Disk, second.After-*first.Punched/2)
	require.Regexp(t, "^"+path+": .* instead of .*, [0-9.]+ ([KM]i)?B in the middle given back now, [0-9.]+ [KM]iB on the disk\n$", kvctl("", "shrink", path, "--punch", "--target", "1GiB"))
}
