package measure

import (
	"os"

	"golang.org/x/sys/unix"
)

// DataFrom returns the next stretch of a file at or after at that is not a hole.
func DataFrom(f *os.File, at, size int64) (start, end int64) {
	start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if err == unix.ENXIO { // nothing but a hole
		return size, size
	}
	if err != nil {
		return at, size
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	if err != nil {
		return start, size
	}
	return start, end
}
