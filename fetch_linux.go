package alder

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// This layer reads a file ahead of its mapping, writes it ahead of a sync, and knows how much memory there is and how many faults waited for the disk. It keeps no state. fetch_bsd.go and
// fetch_windows.go have the same functions; what they promise is written here.

// readCached reads p at off if all of it is in the page cache. False: it is not, or the kernel cannot tell (before 4.14).
func readCached(f *os.File, p []byte, off int64) bool {
	n, err := unix.Preadv2(int(f.Fd()), [][]byte{p}, off, unix.RWF_NOWAIT)
	return err == nil && n == len(p)
}

// adviseRandomReads lets reads through f bring in what they ask for and nothing around it.
func adviseRandomReads(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM) }

// announceRead lets the system begin to read n bytes at off, without waiting for them.
func announceRead(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_WILLNEED)
}

// writesBack tells whether writeBack does anything.
const writesBack = true

// writeBack writes what is in the page cache of n bytes at off, and waits until it is written. That is not durable. The error is one of pages that
// could not be written: before Linux 4.13 nobody else is told of them. A system that has no such call has done nothing.
func writeBack(f *os.File, off, n int64) error {
	err := unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	if err == unix.EIO || err == unix.ENOSPC || err == unix.EDQUOT {
		return os.NewSyscallError("sync_file_range", err)
	}
	return nil
}

// majorFaults is the number of page faults of this process that waited for a disk; 0 where nobody counts them.
func majorFaults() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return int64(u.Majflt)
}

// memoryLimit is the number of bytes of memory that this process may use, page cache included: that of the machine, or of its control group. 0:
// nobody knows.
func memoryLimit() int64 {
	limit := int64(math.MaxInt64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limit = int64(uint64(info.Totalram) * uint64(info.Unit))
	}
	groups, _ := os.ReadFile("/proc/self/cgroup") // without it there are no groups
	for line := range strings.Lines(string(groups)) {
		// hierarchy:controllers:path; version 2 has one hierarchy and names no controllers.
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) < 3 {
			continue
		}
		switch {
		case part[1] == "":
			limit = min(limit, groupLimit("/sys/fs/cgroup", part[2], "memory.max"))
		case strings.Contains(","+part[1]+",", ",memory,"):
			limit = min(limit, groupLimit("/sys/fs/cgroup/memory", part[2], "memory.limit_in_bytes"))
		}
	}
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}

// groupLimit is the least limit of a control group and those that it is part of.
func groupLimit(root, group, file string) int64 {
	limit := int64(math.MaxInt64)
	for dir := filepath.Clean("/" + group); ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(root, dir, file))
		if err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else "max"
				limit = min(limit, n)
			}
		}
		if dir == "/" {
			return limit
		}
	}
}
