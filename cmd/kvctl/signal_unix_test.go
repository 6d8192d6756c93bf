//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// process is a kvctl that runs while a test goes on.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// start runs kvctl with its standard input open. TestMain has put the program into the PATH.
func start(t *testing.T, args ...string) *process {
	p := &process{t: t, cmd: exec.Command("kvctl", args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

// wait waits for the end, at most as long as a test may take, and returns the exit code.
func (p *process) wait() int {
	killer := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
	defer killer.Stop()
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// feed writes lines of tsv with keys from number first on.
func (p *process) feed(first, count int) {
	var text strings.Builder
	for i := first; i < first+count; i++ {
		fmt.Fprintf(&text, "key%08d\tvalue\n", i)
	}
	_, err := io.WriteString(p.stdin, text.String())
	require.NoError(p.t, err)
}

// waitForKey waits until the file holds the key that feed wrote for line i: until a load works on the transaction of that line,
// so that all before it are committed.
func waitForKey(t *testing.T, path string, i int) {
	key := fmt.Appendf(nil, "key%08d", i)
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(path)
		return err == nil && bytes.Contains(data, key)
	}, 30*time.Second, 5*time.Millisecond)
}

// keysIn counts the keys of bucket b, after a check of the store.
func keysIn(t *testing.T, path string) (n uint64) {
	db, err := alder.Open(path, 0, &alder.Options{ReadOnly: true, Timeout: 10 * time.Second})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(tx *alder.Tx) error {
		for err := range tx.Check() {
			require.NoError(t, err)
		}
		if b := tx.Bucket([]byte("b")); b != nil {
			n = b.Len()
		}
		return nil
	}))
	return n
}

// Ensures that an interrupt, of either kind, ends a load that waits for its input at a transaction boundary, that it says
// what was committed, and that exactly that is there.
func TestLoad_Interrupt(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.alder")
			p := start(t, "load", path, "b", "--tx-records", "1000")
			p.feed(0, 2500)
			waitForKey(t, path, 1500)
			require.NoError(t, p.cmd.Process.Signal(signal))
			require.Equal(t, 130, p.wait())
			require.Empty(t, p.stdout.String())
			// The second transaction may have been just before or just behind its end.
			keys := keysIn(t, path)
			require.Contains(t, []uint64{1000, 2000}, keys)
			require.Equal(t, fmt.Sprintf("kvctl: interrupted; committed: %s, %s, in %s (up to standard input, line %d); "+
				"load the same input again to complete it\n",
				counted(keys, "record"), formatSize(int64(keys)*16), counted(keys/1000, "transaction"), keys), p.stderr.String())
		})
	}
}

// Ensures that an interrupt before anything is committed says so, and creates nothing.
func TestLoad_InterruptAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.alder")
	p := start(t, "load", path, "b")
	time.Sleep(200 * time.Millisecond) // the program has to install its handler; nothing outside tells when it has
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, 130, p.wait())
	require.Equal(t, "kvctl: interrupted; nothing is committed; load the same input again to complete it\n", p.stderr.String())
	require.NoFileExists(t, path)
}

// Ensures that an interrupt ends the wait for a lock.
func TestOpen_InterruptWhileLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.alder")
	db, err := alder.Open(path, 0o644, nil)
	require.NoError(t, err)
	defer db.Close()
	p := start(t, "get", path, "b", "k", "--timeout", "10m")
	time.Sleep(300 * time.Millisecond) // see above
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, 130, p.wait())
	require.Contains(t, p.stderr.String(), "kvctl: interrupted; still waiting: open "+path+": database is locked")
}

// Ensures that an interrupt of a command that writes a file leaves neither the file nor a temporary one. Its output is a pipe into
// which the backup stops writing once it is full, so that the interrupt surely comes while it runs; the file is that of a dump
// whose store is large enough to be still going on.
func TestOutput_Interrupt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.alder")
	p := start(t, "load", path, "b", "--quiet")
	p.feed(0, 200_000)
	require.NoError(t, p.stdin.Close())
	require.Equal(t, 0, p.wait(), p.stderr.String())

	t.Run("backup to a pipe", func(t *testing.T) {
		read, write, err := os.Pipe()
		require.NoError(t, err)
		defer read.Close()
		cmd := exec.Command("kvctl", "backup", path, "-")
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = write, &stderr
		require.NoError(t, cmd.Start())
		require.NoError(t, write.Close())
		_, err = io.ReadFull(read, make([]byte, 4096))
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		time.Sleep(100 * time.Millisecond) // the signal before the pipe has room again
		_, err = io.Copy(io.Discard, read)
		require.NoError(t, err)
		cmd.Wait()
		require.Equal(t, 130, cmd.ProcessState.ExitCode())
		require.Equal(t, "kvctl: interrupted; standard output is not complete\n", stderr.String())
	})

	for _, args := range [][]string{{"dump", path, "--output"}, {"compact", path}, {"backup", path}} {
		t.Run(args[0]+" to a file", func(t *testing.T) {
			out := filepath.Join(dir, "out-"+args[0])
			p := start(t, append(args, out)...)
			// The temporary directory is there as soon as the output has been begun, and gone when the output is complete: on a busy
			// machine, before anybody has seen it.
			require.Eventually(t, func() bool {
				temporary, _ := filepath.Glob(filepath.Join(dir, ".kvctl-*"))
				_, err := os.Stat(out)
				return len(temporary) > 0 || err == nil
			}, 10*time.Second, 100*time.Microsecond)
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			code := p.wait()
			temporary, err := filepath.Glob(filepath.Join(dir, ".kvctl-*"))
			require.NoError(t, err)
			require.Empty(t, temporary)
			if code == 0 { // it was faster than the signal, and then it is complete
				require.FileExists(t, out)
				return
			}
			require.Equal(t, 130, code, p.stderr.String())
			require.NoFileExists(t, out)
		})
	}
}

// Ensures that a load notices that its store was deleted, or replaced by another file, before it claims that something is
// committed.
func TestLoad_StoreRemovedOrReplaced(t *testing.T) {
	for name, remove := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return os.WriteFile(path+".new", nil, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.alder")
			p := start(t, "load", path, "b", "--tx-records", "1000")
			p.feed(0, 2000)
			waitForKey(t, path, 1500)
			require.NoError(t, remove(path))
			if name == "replaced" {
				require.NoError(t, os.Rename(path+".new", path))
			}
			p.feed(2000, 1000)
			require.NoError(t, p.stdin.Close())
			require.Equal(t, 3, p.wait())
			require.Contains(t, p.stderr.String(), "removed or replaced")
			require.Contains(t, p.stderr.String(), "committed before it: ")
			require.Contains(t, p.stderr.String(), "; do not move, replace or delete the file while it is in use")
		})
	}
}

// Ensures that a load whose store was renamed away does not claim success: it says that the file is not where it was, whether or not another one is there now, and how
// much went into it.
//
// The store goes on with the file that it has open, which still has a name, so nothing complained.
func TestLoad_StoreMovedAway(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		t.Run(fmt.Sprintf("replaced=%t", replaced), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.alder")
			p := start(t, "load", path, "b", "--tx-records", "1000")
			p.feed(0, 2000)
			waitForKey(t, path, 1500)
			require.NoError(t, os.Rename(path, path+".moved"))
			what := "it was moved away"
			if replaced {
				require.NoError(t, os.WriteFile(path, nil, 0o644))
				what = "another file has its name now"
			}
			p.feed(2000, 1000)
			require.NoError(t, p.stdin.Close())
			require.Equal(t, 3, p.wait())
			require.Empty(t, p.stdout.String())
			require.Equal(t, "kvctl: load "+path+": database file was removed or replaced while open: "+what+", and where the data went is not known; "+
				"committed: 3,000 records, 46.9 KiB, in 3 transactions; do not move, replace or delete the file while it is in use\n", p.stderr.String())
			require.EqualValues(t, 3000, keysIn(t, path+".moved"))
		})
	}
}

// Ensures that commands of a single transaction notice that too.
func TestUpdate_StoreMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.alder")
	c := &cli{}
	put := func(moving bool) error {
		return c.update(t.Context(), path, storeOptions{create: true}, func(tx *alder.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			if moving {
				require.NoError(t, os.Rename(path, path+".moved"))
			}
			return b.Put([]byte("k"), []byte("v"))
		})
	}
	require.NoError(t, put(false))
	err := put(true)
	require.ErrorIs(t, err, alder.ErrRemoved)
	require.Equal(t, exitFailure, codeOf(err))
	require.ErrorContains(t, err, path)
	require.EqualValues(t, 1, keysIn(t, path+".moved"))
}

// Ensures that a restore ends at an interrupt while it waits for its standard input, be that the backup or a diff, and leaves nothing.
//
// It read standard input directly: an interrupt was seen only when something came, and the kill that followed left a temporary directory.
func TestRestore_InterruptWhileWaiting(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.alder")
	p := start(t, "load", path, "b", "--quiet")
	p.feed(0, 1000)
	require.NoError(t, p.stdin.Close())
	require.Equal(t, 0, p.wait(), p.stderr.String())
	for _, args := range [][]string{{"-"}, {path, "-"}} {
		out := filepath.Join(dir, "out.alder")
		p := start(t, append(append([]string{"restore"}, args...), out)...)
		require.Eventually(t, func() bool {
			temporary, _ := filepath.Glob(filepath.Join(dir, ".kvctl-*", "*")) // Restore has begun
			return len(temporary) > 0
		}, 30*time.Second, time.Millisecond)
		time.Sleep(200 * time.Millisecond) // the backup is small, so by then it waits for the diff
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		require.Equal(t, 130, p.wait())
		require.Equal(t, "kvctl: interrupted; "+out+" is not written\n", p.stderr.String())
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1)
	}
}

// Ensures that an interrupt ends a torture, which says how far it has come and leaves nothing.
func TestTorture_Interrupt(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "torture", dir, "--time", "0")
	require.Eventually(t, func() bool {
		stores, _ := filepath.Glob(filepath.Join(dir, "*", "torture-*.alder"))
		return len(stores) > 0
	}, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, 130, p.wait())
	require.Regexp(t, `^kvctl: interrupted; until then: [0-9]+ kills? of 1 store, .*: no fault\n$`, p.stderr.String())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
