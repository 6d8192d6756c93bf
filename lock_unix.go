//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package alder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock on f, exclusive or shared, without waiting. It returns errLockHeld when somebody else holds
// a lock that excludes it. The lock belongs to the open file, not to the process: two opens in one process exclude each other too.
//
// flock, not fcntl: an fcntl lock of a process is lost when any descriptor of the file is closed.
func lockFile(f *os.File, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	err := retryInterrupted(func() error { return unix.Flock(int(f.Fd()), how|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLockHeld
	}
	return os.NewSyscallError("flock", err)
}

// unlockFile releases the lock on f. Closing f is not enough: a child that another goroutine is starting at this moment
// holds the open file too, until it executes its program.
func unlockFile(f *os.File) error {
	return os.NewSyscallError("flock", retryInterrupted(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }))
}

// retryInterrupted repeats a system call that a signal has interrupted. The runtime sends itself signals all the time.
func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// lockHolders returns the processes that hold a lock on the file, where the kernel lists locks (Linux), as far as this
// process may see them. It is for messages only: what it returns may be outdated at once.
func lockHolders(f *os.File) []lockHolder {
	if runtime.GOOS != "linux" {
		return nil
	}
	list, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil
	}
	device := fmt.Sprintf("%02x:%02x", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))

	var holders []lockHolder
	for line := range strings.Lines(string(list)) {
		// 1: FLOCK  ADVISORY  WRITE 1234 fd:00:5678 0 EOF; a second field of "->" is somebody who waits.
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" {
			continue
		}
		cut := strings.LastIndexByte(fields[5], ':')
		pid, err := strconv.Atoi(fields[4])
		if err != nil || pid <= 0 || cut < 0 || fields[5][cut+1:] != strconv.FormatUint(uint64(st.Ino), 10) {
			continue
		}
		// btrfs and overlayfs list another device than stat returns; ask the process itself then.
		if fields[5][:cut] != device && !hasOpen(pid, f) {
			continue
		}
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		holders = append(holders, lockHolder{
			pid:     pid,
			command: strings.TrimSpace(string(command)),
			shared:  fields[3] == "READ",
		})
	}
	return holders
}

// hasOpen reports whether the process has the file open.
func hasOpen(pid int, f *os.File) bool {
	want, err := f.Stat()
	if err != nil {
		return false
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	descriptors, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, d := range descriptors {
		if got, err := os.Stat(filepath.Join(dir, d.Name())); err == nil && os.SameFile(got, want) {
			return true
		}
	}
	return false
}
