package measure

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mincore fills in with one byte per page of mapped: bit 0 says whether it is in memory.
func mincore(mapped, in []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, address(&mapped[0]), uintptr(len(mapped)), address(&in[0]))
	if errno != 0 {
		return errno
	}
	return nil
}

func address(b *byte) uintptr { return uintptr(unsafe.Pointer(b)) }
