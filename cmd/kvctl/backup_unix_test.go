//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that a diff since the identity of a backup fits that backup also when the store has been killed in between.
//
// --since took the number of a transaction for one of the store's present epoch, which a kill raises: the diff was made without a complaint, fitted nothing, and
// restore found that out.
func TestBackup_SinceAfterKill(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	store := in("s.alder")
	kvctl := func(code int, args ...string) string {
		t.Helper()
		cmd := exec.Command("kvctl", args...)
		out, _ := cmd.CombinedOutput()
		require.NotNil(t, cmd.ProcessState)
		require.Equal(t, code, cmd.ProcessState.ExitCode(), string(out))
		return string(out)
	}
	snapshot := func() (id alder.SnapshotID) {
		var info struct{ Snapshot string }
		require.NoError(t, json.Unmarshal([]byte(kvctl(0, "info", store, "--json")), &info))
		id, err := alder.ParseSnapshotID(info.Snapshot)
		require.NoError(t, err)
		return id
	}
	p := start(t, "load", store, "b", "--quiet")
	p.feed(0, 1000)
	require.NoError(t, p.stdin.Close())
	require.Equal(t, 0, p.wait(), p.stderr.String())
	kvctl(0, "backup", store, in("base.alder"))
	since := snapshot()

	p = start(t, "load", store, "b", "--tx-records", "1000")
	p.feed(5000, 2500)
	waitForKey(t, store, 6500)
	require.NoError(t, p.cmd.Process.Kill())
	p.wait()
	kvctl(0, "put", store, "b", "later", "v")
	require.Greater(t, snapshot().Epoch, since.Epoch, "the kill was not noticed")

	kvctl(0, "backup", store, in("d.diff"), "--since", since.String())
	kvctl(0, "restore", in("base.alder"), in("d.diff"), in("out.alder"))
	require.Equal(t, kvctl(0, "dump", store), kvctl(0, "dump", in("out.alder")))
	require.Contains(t, kvctl(2, "backup", store, in("bad.diff"), "--since", fmt.Sprint(since.TxID)), "a number alone does not name a state")
	require.NoFileExists(t, in("bad.diff"))
}
