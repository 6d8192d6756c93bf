//go:build dragonfly || freebsd || netbsd || openbsd

package alder

import (
	"os"

	"golang.org/x/sys/unix"
)

// See sync_linux.go for what each function promises.

const (
	// Not every one of these systems, nor every version, has O_DSYNC; O_SYNC writes the file's times in addition.
	synchronousFlag = unix.O_SYNC
	directFlag      = 0
	unblockingFlag  = 0
)

func dataSync(f *os.File) error {
	return os.NewSyscallError("fsync", retryInterrupted(func() error { return unix.Fsync(int(f.Fd())) }))
}

func linkCount(f *os.File) (uint64, error) { return fstatLinkCount(f) }

func ownDescriptor(*os.File) string { return "" }

// Zeros, not posix_fallocate: UFS writes them for that call too, and ZFS refuses it.
func preallocate(f *os.File, off, n int64) error { return writeZeros(f, off, n) }

func noSpace(err error) error { return err }

func isUnsupportedDirect(error) bool { return true }

func dropCache(*os.File) error { return nil }

func fileSystemName(*os.File) string { return "of unknown kind" }
