package alder

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// This layer makes bytes durable and reserves blocks, as each system does it. sync_darwin.go, sync_bsd.go and sync_windows.go
// have the same functions, sync_unix.go those that Unix systems share; what they promise is written here and there.

const (
	// synchronousFlag, given to open, makes each write through the descriptor durable by itself, and only what it wrote. 0: the
	// system has nothing of the kind.
	synchronousFlag = unix.O_DSYNC

	// directFlag, given to open, makes reads go past the page cache. 0: nothing of the kind.
	directFlag = unix.O_DIRECT

	// unblockingFlag, given to open, keeps it from waiting should a FIFO have taken the place of the file.
	unblockingFlag = unix.O_NONBLOCK
)

// dataSync makes everything written to f durable, and its length.
func dataSync(f *os.File) error {
	return os.NewSyscallError("fdatasync", retryInterrupted(func() error { return unix.Fdatasync(int(f.Fd())) }))
}

// ownDescriptor is a path that opens the very file that f is, whatever has become of its name. "": none.
func ownDescriptor(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// linkCount is the number of names that f has.
//
// It asks for nothing else: since Linux 6.13 a file whose times somebody has asked for gets a time of its own at the next write
// (multigrain timestamps), which is a change to the inode that the next durable write has to carry through the journal. An
// fstat before each commit made the append of 4 KiB take 215 µs instead of 150.
func linkCount(f *os.File) (uint64, error) {
	var st unix.Statx_t
	err := retryInterrupted(func() error {
		return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_NLINK, &st)
	})
	if err != nil || st.Mask&unix.STATX_NLINK == 0 {
		return fstatLinkCount(f) // an old kernel, or a sandbox that does not know the call
	}
	return uint64(st.Nlink), nil
}

// preallocate extends f from length off by n bytes, which read as zero and have blocks of their own. When it fails, f may be
// longer than before.
func preallocate(f *os.File, off, n int64) error {
	// In steps: a signal makes some file systems undo the call, and the runtime sends many.
	const step = 64 << 20
	for end := off + n; off < end; {
		m := min(step, end-off)
		err := retryInterrupted(func() error { return unix.Fallocate(int(f.Fd()), 0, off, m) })
		switch {
		case err == nil:
			off += m
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
			return writeZeros(f, off, end-off)
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
	return nil
}

// noSpace makes the system's error for a full disk match syscall.ENOSPC.
func noSpace(err error) error { return err }

// isUnsupportedDirect reports whether err means that direct reads are not to be had here.
func isUnsupportedDirect(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}

// dropCache lets the system forget what it has cached of f and can read again, but for pages that somebody has mapped. Nothing where it cannot be
// told.
func dropCache(f *os.File) error {
	return os.NewSyscallError("fadvise", retryInterrupted(func() error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }))
}

// fileSystemName names the kind of file system f lies on, for messages.
func fileSystemName(f *os.File) string {
	var st unix.Statfs_t
	if err := retryInterrupted(func() error { return unix.Fstatfs(int(f.Fd()), &st) }); err != nil {
		return "of unknown kind"
	}
	magic := uint32(st.Type)
	names := map[uint32]string{
		unix.BTRFS_SUPER_MAGIC:     "btrfs",
		unix.CEPH_SUPER_MAGIC:      "ceph",
		unix.CIFS_SUPER_MAGIC:      "cifs",
		unix.EXT4_SUPER_MAGIC:      "ext4",
		unix.F2FS_SUPER_MAGIC:      "f2fs",
		unix.FUSE_SUPER_MAGIC:      "fuse",
		unix.MSDOS_SUPER_MAGIC:     "vfat",
		unix.NFS_SUPER_MAGIC:       "nfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
		unix.SMB2_SUPER_MAGIC:      "smb2",
		unix.SMB_SUPER_MAGIC:       "smb",
		unix.TMPFS_MAGIC:           "tmpfs",
		unix.V9FS_MAGIC:            "9p",
		unix.XFS_SUPER_MAGIC:       "xfs",
		0x2fc12fc1:                 "zfs",
	}
	if name, ok := names[magic]; ok {
		return name
	}
	return fmt.Sprintf("%#x", magic)
}
