package alder

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ensures which locks exclude which, between opens of one process and for storage files.
func TestLock_WithinProcess(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second fileOptions
		conflict      bool
	}{
		{"writer and writer", fileOptions{}, fileOptions{}, true},
		{"writer and reader", fileOptions{}, fileOptions{readOnly: true}, true},
		{"reader and writer", fileOptions{readOnly: true}, fileOptions{}, true},
		{"reader and reader", fileOptions{readOnly: true}, fileOptions{readOnly: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(storageDir(t), "store")
			require.NoError(t, os.WriteFile(path, make([]byte, testBlock), 0o600))
			first, _, err := openFileStorage(path, 0, c.first)
			require.NoError(t, err)

			start := time.Now()
			second, _, err := openFileStorage(path, 0, c.second)
			if !c.conflict {
				require.NoError(t, err)
				require.NoError(t, second.close())
				require.NoError(t, first.close())
				return
			}
			var locked *LockError
			require.ErrorAs(t, err, &locked)
			require.ErrorIs(t, err, ErrLocked)
			require.ErrorIs(t, err, ErrTimeout)
			require.Equal(t, path, locked.Path)
			require.Equal(t, c.second.readOnly, locked.ReadOnly)
			require.Less(t, time.Since(start), 5*time.Second, "no time-out means no waiting")
			if runtime.GOOS == "linux" {
				require.Contains(t, locked.Holder, "this process "+strconv.Itoa(os.Getpid()))
				require.Equal(t, c.first.readOnly, strings.Contains(locked.Holder, "reading"))
			}
			require.Contains(t, err.Error(), path)

			// The failed open has taken nothing along: the lock is free as soon as the first is closed.
			require.NoError(t, first.close())
			second, _, err = openFileStorage(path, 0, c.second)
			require.NoError(t, err)
			require.NoError(t, second.close())
		})
	}
}

// Ensures that a time-out is kept in both directions: the lock is taken soon after it is free, and the wait ends in time if
// it is not.
func TestLock_Timeout(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	first, _, err := openFileStorage(path, 0o600, fileOptions{})
	require.NoError(t, err)

	start := time.Now()
	_, _, err = openFileStorage(path, 0, fileOptions{timeout: 120 * time.Millisecond})
	var locked *LockError
	require.ErrorAs(t, err, &locked)
	require.GreaterOrEqual(t, time.Since(start), 120*time.Millisecond)
	require.Less(t, time.Since(start), 5*time.Second)
	require.GreaterOrEqual(t, locked.Waited, 120*time.Millisecond)
	require.ErrorContains(t, err, "waited")

	go func() {
		time.Sleep(100 * time.Millisecond)
		first.close()
	}()
	start = time.Now()
	second, _, err := openFileStorage(path, 0, fileOptions{timeout: time.Minute})
	require.NoError(t, err)
	require.Less(t, time.Since(start), 30*time.Second)
	require.NoError(t, second.close())
}

// Ensures that the holder's own words are asked for, from the locked file's bytes, and appear in the error.
func TestLock_HolderFromFile(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	first := openFileFor(t, path, fileOptions{})
	require.NoError(t, first.grow(testBlock))
	require.NoError(t, first.writeAt([]byte("opened on host h"), 0))
	_, _, err := openFileStorage(path, 0, fileOptions{holder: func(r io.ReaderAt) string {
		p := make([]byte, 16)
		_, err := r.ReadAt(p, 0)
		require.NoError(t, err, "the lock does not hinder reading")
		return string(p)
	}})
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "opened on host h")
}

// Ensures how a lock error reads in each case.
func TestLockError_Text(t *testing.T) {
	writer := []lockHolder{{pid: 12, command: "kvctl"}}
	readers := []lockHolder{{pid: 12, command: "kvctl", shared: true}, {pid: 13, shared: true}}
	for want, got := range map[string]string{
		"":                            describeHolders(nil, ""),
		"as the file says":            describeHolders(nil, "as the file says"),
		"process 12 (kvctl)":          describeHolders(writer, ""),
		"process 12 (kvctl): on host": describeHolders(writer, "on host"),
		"process 12 (kvctl), reading; process 13, reading": describeHolders(readers, "old news"),
	} {
		require.Equal(t, want, got)
	}
	require.Equal(t, "open /s: database is locked", (&LockError{Path: "/s"}).Error())
	require.Equal(t, "open /s: database is locked for writing by process 12 (waited 2s)",
		(&LockError{Path: "/s", Holder: "process 12", ReadOnly: true, Waited: 2 * time.Second}).Error())
	require.False(t, errors.Is(&LockError{}, ErrInvalid))
}

// Ensures that locks hold between processes, that the error names the process, and that a killed holder leaves nothing
// behind. The test runs itself once more as the holder.
func TestLock_AcrossProcesses(t *testing.T) {
	if path := os.Getenv("ALDER_TEST_HOLD"); path != "" {
		holdLock(path, os.Getenv("ALDER_TEST_HOLD_SHARED") != "")
	}
	for _, shared := range []bool{false, true} {
		path := filepath.Join(storageDir(t), "store")
		require.NoError(t, os.WriteFile(path, make([]byte, testBlock), 0o600))
		child := exec.Command(os.Args[0], "-test.run=^TestLock_AcrossProcesses$")
		child.Env = append(os.Environ(), "ALDER_TEST_HOLD="+path)
		if shared {
			child.Env = append(child.Env, "ALDER_TEST_HOLD_SHARED=1")
		}
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		in, err := child.StdinPipe()
		require.NoError(t, err)
		defer in.Close()
		startSelf(t, child)
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "locked\n", line)

		_, _, err = openFileStorage(path, 0, fileOptions{timeout: 20 * time.Millisecond})
		require.ErrorIs(t, err, ErrLocked)
		if runtime.GOOS == "linux" {
			require.ErrorContains(t, err, "process "+strconv.Itoa(child.Process.Pid))
			require.NotContains(t, err.Error(), "this process")
		}
		reader, _, err := openFileStorage(path, 0, fileOptions{readOnly: true})
		if shared {
			require.NoError(t, err)
			require.NoError(t, reader.close())
		} else {
			require.ErrorIs(t, err, ErrLocked)
		}

		require.NoError(t, child.Process.Kill())
		child.Wait()
		s, _, err := openFileStorage(path, 0, fileOptions{timeout: 10 * time.Second})
		require.NoError(t, err)
		require.NoError(t, s.close())
	}
}

// startSelf starts the test binary once more, or skips the test where it runs in an emulator that does not start others like it.
func startSelf(t *testing.T, child *exec.Cmd) {
	t.Helper()
	err := child.Start()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("the system cannot start another process of this program: ", err)
	}
	require.NoError(t, err)
}

// holdLock opens the storage, says so, and stays until it is killed or its parent is gone.
func holdLock(path string, shared bool) {
	s, _, err := openFileStorage(path, 0, fileOptions{readOnly: shared})
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("locked\n")
	io.Copy(io.Discard, os.Stdin)
	s.close()
	os.Exit(0)
}

// Ensures that a lock does not outlive close through a child that has the open file too, as every child has between its
// fork and the start of its program. The test runs itself once more as the child.
func TestLock_NotKeptByChild(t *testing.T) {
	if os.Getenv("ALDER_TEST_WAIT") != "" {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no fork")
	}
	path := filepath.Join(storageDir(t), "store")
	s := openFileFor(t, path, fileOptions{})
	child := exec.Command(os.Args[0], "-test.run=^TestLock_NotKeptByChild$")
	child.Env = append(os.Environ(), "ALDER_TEST_WAIT=1")
	child.ExtraFiles = []*os.File{s.file}
	in, err := child.StdinPipe()
	require.NoError(t, err)
	startSelf(t, child)
	require.NoError(t, s.close())
	s, _, err = openFileStorage(path, 0, fileOptions{})
	require.NoError(t, err)
	require.NoError(t, s.close())
	in.Close()
	require.NoError(t, child.Wait())
}
