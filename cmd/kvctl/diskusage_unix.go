//go:build unix

package main

import (
	"os"
	"syscall"
)

// diskUsage returns how many bytes of the disk a file takes, without its holes; 0 if the system does not say it.
func diskUsage(fi os.FileInfo) int64 {
	const blockSize = 512 // of st_blocks, whatever the file system's is
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * blockSize
	}
	return 0
}
