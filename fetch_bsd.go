//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package alder

import (
	"os"

	"golang.org/x/sys/unix"
)

// See fetch_linux.go for what each function promises.

func readCached(f *os.File, p []byte, off int64) bool { return false }

func adviseRandomReads(f *os.File) {}

func announceRead(f *os.File, off, n int64) {}

const writesBack = false

func writeBack(f *os.File, off, n int64) error { return nil }

func majorFaults() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return int64(u.Majflt)
}

func memoryLimit() int64 { return 0 }
