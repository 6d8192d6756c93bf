//go:build unix

package killtest

import (
	"errors"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitFiles keeps this process from making any file longer than size, as a full disk would.
func limitFiles(size int64) error {
	signal.Ignore(syscall.SIGXFSZ) // writes get EFBIG then
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	setLimit(&limit.Cur, size)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
}

// setLimit is for the types that systems have for limits.
func setLimit[T int64 | uint64](limit *T, size int64) { *limit = T(size) }

// isFull reports whether err is what a full disk, or a limit, makes of a write.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) }
