package alder

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// inPageCacheTold tells that the system says what is in the page cache.
const inPageCacheTold = true

// evict takes a file that nobody has mapped out of the page cache.
func evict(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, dataSync(f))
	require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// Ensures that the limit of a control group is the least of its own and those above, that "max" is none, and that the machine has memory.
func TestMemoryLimit(t *testing.T) {
	root := t.TempDir()
	write := func(dir, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, dir, "memory.max"), []byte(text), 0o644))
	}
	require.Equal(t, int64(math.MaxInt64), groupLimit(root, "/a/b", "memory.max"))
	write("a/b", "max\n")
	require.Equal(t, int64(math.MaxInt64), groupLimit(root, "/a/b", "memory.max"))
	write("a", "1000\n")
	require.EqualValues(t, 1000, groupLimit(root, "/a/b", "memory.max"))
	write("a/b", "2000\n")
	require.EqualValues(t, 1000, groupLimit(root, "/a/b", "memory.max"))
	write("a/b", "500\n")
	require.EqualValues(t, 500, groupLimit(root, "/a/b", "memory.max"))
	require.EqualValues(t, 1000, groupLimit(root, "a/../a", "memory.max"))
	require.Positive(t, memoryLimit())
}
