//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package alder

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// allocatedBytes is how much of the disk the file occupies, if the system tells.
func allocatedBytes(t testing.TB, f *os.File) (int64, bool) {
	fi, err := f.Stat()
	require.NoError(t, err)
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int64(st.Blocks) * 512, true
}
