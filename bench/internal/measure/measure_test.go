package measure

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Allocations are counted between two readings.
func TestUsage(t *testing.T) {
	before := ReadUsage()
	for range 1000 {
		sink = make([]byte, 100)
	}
	used := ReadUsage().Sub(before)
	require.InDelta(t, 1000, float64(used.Allocs), 100)
	require.GreaterOrEqual(t, used.AllocBytes, uint64(100_000))
}

var sink []byte

func linuxOnly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the counters are read on Linux only")
	}
}

// The peak of anonymous memory is what was used above the beginning, also if it is gone at the end.
func TestMemory(t *testing.T) {
	linuxOnly(t)
	m := WatchMemory()
	big := make([]byte, 64<<20)
	for i := range big {
		big[i] = 1
	}
	anon, total := m.Stop()
	runtime.KeepAlive(big)
	require.InDelta(t, 64<<20, float64(anon), 16<<20)
	require.Greater(t, total, anon)
}

// Bytes that are written and flushed are counted by the device.
func TestDisk(t *testing.T) {
	linuxOnly(t)
	dir := t.TempDir()
	disk, err := FindDisk(dir)
	if err != nil {
		t.Skip(err)
	}
	before, err := disk.Read()
	require.NoError(t, err)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), content, 0o600))
	require.NoError(t, Flush(dir))
	after, err := disk.Read()
	require.NoError(t, err)
	require.GreaterOrEqual(t, after.Sub(before).WrittenBytes, int64(len(content)))
	require.Positive(t, after.Sub(before).Writes)
	require.NotEmpty(t, disk.FileSystem)
}

// Warming brings a file into memory in the folios asked for, holes are neither read nor counted.
func TestWarm(t *testing.T) {
	linuxOnly(t)
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "x"))
	require.NoError(t, err)
	_, err = file.WriteAt(bytes.Repeat([]byte("x"), 8<<20), 1<<40)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	length, allocated, err := Size(dir)
	require.NoError(t, err)
	require.Equal(t, int64(1<<40+8<<20), length)
	require.Less(t, allocated, int64(16<<20))
	for _, cache := range []Cache{Small, Large, AsIs} {
		require.NoError(t, Warm(dir, cache))
		state, err := Folios(dir)
		require.NoError(t, err)
		require.InDelta(t, 1, state.Resident, 0.01, cache)
		if state.Pages == 0 {
			continue // the kernel shows page frames to root only
		}
		switch cache {
		case Small:
			require.Less(t, state.Large, 0.1)
		case Large:
			t.Logf("after big sequential reads %.0f %% of the pages are in large folios", 100*state.Large)
		}
	}
}

// A machine is described with what its reader needs to know.
func TestDescribe(t *testing.T) {
	m := Describe(t.TempDir())
	require.Equal(t, runtime.NumCPU(), m.CPUs)
	require.NotEmpty(t, m.Go)
	if runtime.GOOS == "linux" {
		require.NotEmpty(t, m.Kernel)
		require.NotEmpty(t, m.FileSystem)
		require.Positive(t, m.MemoryBytes)
	}
}
