//go:build darwin || freebsd

package alder

import (
	"os"

	"golang.org/x/sys/unix"
)

func fileIdentity(f *os.File) (number, made uint64, ok bool) {
	var st unix.Stat_t
	if err := retryInterrupted(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return 0, 0, false
	}
	return uint64(st.Ino), uint64(st.Btim.Nano()), true
}
