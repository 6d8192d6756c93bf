//go:build !linux

package measure

import "os"

// DataFrom takes a file to be without holes.
func DataFrom(_ *os.File, at, size int64) (start, end int64) { return at, size }
