package alder

import (
	"os"

	"golang.org/x/sys/unix"
)

// This layer tells files apart. place_bsd.go, place_windows.go and place_other.go have the same function.

// fileIdentity returns the number of f in its file system, and the time at which the file was made, 0 if that is not known. A copy of the file differs in one
// of them, or in both; they stay when the file is renamed or written to.
func fileIdentity(f *os.File) (number, made uint64, ok bool) {
	var st unix.Statx_t
	err := retryInterrupted(func() error { // and not for the other times: see linkCount
		return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_BTIME, &st)
	})
	if err != nil || st.Mask&unix.STATX_INO == 0 {
		return 0, 0, false // an old kernel, or a sandbox that does not know the call
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		made = uint64(st.Btime.Sec)*1e9 + uint64(st.Btime.Nsec)
	}
	return st.Ino, made, true
}
