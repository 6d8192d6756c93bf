package alder

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// See sync_linux.go and sync_unix.go for what each function promises.

const (
	// O_SYNC becomes FILE_FLAG_WRITE_THROUGH.
	synchronousFlag = os.O_SYNC
	directFlag      = 0
	unblockingFlag  = 0
)

func dataSync(f *os.File) error {
	return os.NewSyscallError("FlushFileBuffers", noSpace(windows.FlushFileBuffers(windows.Handle(f.Fd()))))
}

// Only a handle that may write can be flushed here. What a read-only open shows may be lost in a power cut; it cannot help that.
func dataSyncReadOnly(*os.File) error { return nil }

// The system does not tell how a handle was opened in any simple way; openFileStorage does not use a handle that a custom
// OpenFile has made.
func isSynchronous(*os.File) bool { return true }

// The names in a directory are made durable by the file system's log.
func syncDirectory(string) error { return nil }

// A file that is open cannot lose its name, as it was not opened for that.
func isRemoved(*os.File) (bool, error) { return false, nil }

func ownDescriptor(*os.File) string { return "" }

// A file that is not sparse gets its clusters when its end is set.
func preallocate(f *os.File, off, n int64) error { return noSpace(f.Truncate(off + n)) }

func noSpace(err error) error {
	if errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) {
		return fmt.Errorf("%w (%w)", err, syscall.ENOSPC)
	}
	return err
}

func isUnsupportedDirect(error) bool { return true }

func dropCache(*os.File) error { return nil }

func fileSystemName(*os.File) string { return "of unknown kind" }

func isReadOnlyFileSystem(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

func isMappedError(err error) bool { return errors.Is(err, windows.ERROR_USER_MAPPED_FILE) }
