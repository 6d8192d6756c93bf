package alder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// This layer gives blocks in the middle of a file back to the file system, and gets them again.

// punchHole lets n bytes of f from off on read as zeros, without blocks. ok is false, with no error, where the file system does not do that.
func punchHole(f *os.File, off, n int64) (ok bool, err error) {
	err = retryInterrupted(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("fallocate", err)
}

// fillHole gives n bytes of f from off on, which nobody needs, blocks of their own.
func fillHole(f *os.File, off, n int64) error { return preallocate(f, off, n) }
