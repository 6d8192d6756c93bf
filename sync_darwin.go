package alder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// See sync_linux.go for what each function promises.

const (
	// O_DSYNC exists here but stops at the disk's cache; only F_FULLFSYNC passes it.
	synchronousFlag = 0
	directFlag      = 0
	unblockingFlag  = 0
)

func dataSync(f *os.File) error {
	err := retryInterrupted(func() error {
		_, err := unix.FcntlInt(f.Fd(), unix.F_FULLFSYNC, 0)
		return err
	})
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		// Network file systems refuse; fsync is what they have.
		return os.NewSyscallError("fsync", retryInterrupted(func() error { return unix.Fsync(int(f.Fd())) }))
	}
	return os.NewSyscallError("F_FULLFSYNC", err)
}

func linkCount(f *os.File) (uint64, error) { return fstatLinkCount(f) }

func ownDescriptor(*os.File) string { return "" }

func preallocate(f *os.File, off, n int64) error {
	store := unix.Fstore_t{Flags: unix.F_ALLOCATEALL, Posmode: unix.F_PEOFPOSMODE, Length: n}
	err := retryInterrupted(func() error { return unix.FcntlFstore(f.Fd(), unix.F_PREALLOCATE, &store) })
	switch {
	case err == nil:
		return f.Truncate(off + n)
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTTY):
		return writeZeros(f, off, n)
	default:
		return os.NewSyscallError("F_PREALLOCATE", err)
	}
}

func noSpace(err error) error { return err }

func isUnsupportedDirect(error) bool { return true }

func dropCache(*os.File) error { return nil }

func fileSystemName(f *os.File) string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return "of unknown kind"
	}
	return unix.ByteSliceToString(st.Fstypename[:])
}
