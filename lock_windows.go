package alder

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// A lock here keeps others from reading and writing the locked bytes, so the locked byte lies where no store reaches.
const lockOffset = 1 << 62

func lockRange() *windows.Overlapped {
	return &windows.Overlapped{OffsetHigh: lockOffset >> 32, Offset: lockOffset & (1<<32 - 1)}
}

func lockFile(f *os.File, exclusive bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, lockRange())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errLockHeld
	}
	return os.NewSyscallError("LockFileEx", err)
}

func unlockFile(f *os.File) error {
	return os.NewSyscallError("UnlockFileEx", windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, lockRange()))
}

// lockHolders returns nothing: the system tells only which processes have a file open, not which hold a lock.
func lockHolders(*os.File) []lockHolder { return nil }
