//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package alder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataSyncReadOnly is dataSync for a descriptor that cannot write: what somebody else wrote before becomes durable. A system
// that refuses because nothing can be written there has nothing to make durable.
func dataSyncReadOnly(f *os.File) error {
	err := dataSync(f)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBADF) {
		return nil
	}
	return err
}

// isSynchronous reports whether f was really opened with synchronousFlag: a custom OpenFile may have dropped it, an old
// kernel may not know it.
func isSynchronous(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && synchronousFlag != 0 && flags&synchronousFlag == synchronousFlag
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = retryInterrupted(func() error { return unix.Fsync(int(dir.Fd())) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // a file system whose directories cannot be synced; nothing more can be done
	}
	return os.NewSyscallError("fsync", err)
}

// isRemoved reports whether f has no name left in any directory.
func isRemoved(f *os.File) (bool, error) {
	n, err := linkCount(f)
	return n == 0 && err == nil, err
}

// fstatLinkCount is linkCount by the call that every system has.
func fstatLinkCount(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := retryInterrupted(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return uint64(st.Nlink), nil
}

// isReadOnlyFileSystem reports whether err means that nothing can be written on the file system.
func isReadOnlyFileSystem(err error) bool { return errors.Is(err, unix.EROFS) }

// isMappedError reports whether err means that a mapped file cannot be shortened.
func isMappedError(error) bool { return false }
