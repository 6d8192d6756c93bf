package alder

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// mapTestFile makes a file of n bytes and maps it with the given room.
func mapTestFile(t testing.TB, n, room int64) (*os.File, []byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(storageDir(t), "file"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(n))
	data, err := mapFile(f, n, room)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, unmapFile(data))
		require.NoError(t, f.Close())
	})
	return f, data
}

// Ensures that a mapping made once shows what the file grows by, without a call, on the systems that promise it.
func TestMapFile_ShowsGrowth(t *testing.T) {
	if !mapsPastEnd {
		t.Skip("a view ends with its section on this system")
	}
	f, data := mapTestFile(t, 0, 1<<20)
	require.GreaterOrEqual(t, len(data), 1<<20)
	for off := int64(0); off < 1<<20; off += 100_000 {
		_, err := f.WriteAt([]byte("grown"), off)
		require.NoError(t, err)
		require.Equal(t, "grown", string(data[off:off+5]))
	}
}

// Ensures that a mapping of the default room can be had where nothing limits it, and a useful one otherwise.
func TestMapFile_DefaultRoom(t *testing.T) {
	if !is64bit || !mapsPastEnd {
		t.Skip("no large mappings on this system")
	}
	_, data := mapTestFile(t, testBlock, defaultReserve)
	limits, err := os.ReadFile("/proc/self/limits")
	if err == nil && regexp.MustCompile(`Max address space +unlimited`).Match(limits) {
		require.Equal(t, int64(defaultReserve), int64(len(data)))
		return
	}
	t.Logf("%d bytes of address space", len(data))
	require.Greater(t, len(data), 64<<20)
}

// Ensures that room is a wish: it is halved until it can be had, down to what is needed.
func TestMapLargest(t *testing.T) {
	type attempt = func(n int) ([]byte, error)
	tooLong := errors.New("too long")
	upTo := func(most int64, tried *[]int64) attempt {
		return func(n int) ([]byte, error) {
			*tried = append(*tried, int64(n))
			if int64(n) > most {
				return nil, tooLong
			}
			return make([]byte, 1), nil
		}
	}
	p := osPageSize
	for _, c := range []struct {
		name             string
		size, room, most int64
		want             []int64
		fails            bool
	}{
		{"at once", p, 64 * p, 64 * p, []int64{64 * p}, false},
		{"halved", p, 64 * p, 17 * p, []int64{64 * p, 32 * p, 16 * p}, false},
		{"down to the size", 10 * p, 64 * p, 10 * p, []int64{64 * p, 32 * p, 16 * p, 10 * p}, false},
		{"not even the size", 10 * p, 16 * p, 9 * p, []int64{16 * p, 10 * p}, true},
		{"room below size", 10 * p, 2 * p, 10 * p, []int64{10 * p}, false},
		{"nothing is a page", 0, 0, p, []int64{p}, false},
		{"odd sizes", p + 1, 4*p - 1, 3 * p, []int64{4 * p, 2 * p}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tried []int64
			_, err := mapLargest(c.size, c.room, p, upTo(c.most, &tried))
			require.Equal(t, c.want, tried)
			if c.fails {
				require.ErrorIs(t, err, tooLong)
			} else {
				require.NoError(t, err)
			}
		})
	}
	if !is64bit {
		_, err := mapLargest(1<<40, 1<<40, p, func(int) ([]byte, error) { panic("not to be tried") })
		require.ErrorContains(t, err, "address space")
	}
}

// Ensures that reserved memory is usable where it was committed, zero at first, kept by a second commit, and zero again
// after it was given back.
func TestReserveMemory(t *testing.T) {
	room := 64 * osPageSize
	data, err := reserveMemory(1, room)
	require.NoError(t, err)
	defer func() { require.NoError(t, releaseMemory(data)) }()
	require.GreaterOrEqual(t, int64(len(data)), room)

	require.NoError(t, commitMemory(data, 0, 10*osPageSize+1))
	used := data[:11*osPageSize]
	require.True(t, bytes.Equal(make([]byte, len(used)), used))
	for i := range used {
		used[i] = 1
	}
	require.NoError(t, commitMemory(data, 5*osPageSize, 20*osPageSize))
	require.True(t, bytes.Equal(bytes.Repeat([]byte{1}, len(used)), used))

	require.NoError(t, decommitMemory(data, 4*osPageSize+1))
	require.Equal(t, byte(1), data[5*osPageSize-1], "a page in use stays whole")
	needFaultAddress(t, &mapping{data: data}, 5*osPageSize)
	_, err = guardedRead(&mapping{data: data}, 5*osPageSize)
	var fault *FaultError
	require.ErrorAs(t, err, &fault, "memory that was given back is gone")
	require.NoError(t, commitMemory(data, 5*osPageSize, 20*osPageSize))
	require.True(t, bytes.Equal(make([]byte, 15*osPageSize), data[5*osPageSize:20*osPageSize]))
	require.NoError(t, decommitMemory(data, int64(len(data))))
}

// Ensures that a buffer for direct reads is aligned, which a direct read by the system proves elsewhere, and writable.
func TestAlignedBuffer(t *testing.T) {
	buf, err := alignedBuffer(3 * 4096)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(buf), 3*4096)
	clear(buf)
	require.NoError(t, releaseMemory(buf))
}

// Ensures that advice is harmless wherever its range lies, and that populating brings pages of the file and reports a fault.
func TestAdvise(t *testing.T) {
	f, data := mapTestFile(t, 10*osPageSize, 20*osPageSize)
	_, err := f.WriteAt([]byte("here"), 5*osPageSize+9)
	require.NoError(t, err)
	for _, advise := range []func([]byte, int64, int64){adviseRandom, adviseSequential, adviseWillNeed, adviseNormal} {
		advise(data, 0, 10*osPageSize)
		advise(data, 5*osPageSize+7, 5*osPageSize+9)
		advise(data, 3, 3)
		advise(data, 9*osPageSize, int64(len(data)))
		require.Equal(t, "here", string(data[5*osPageSize+9:5*osPageSize+13]))
	}
	if runtime.GOOS != "linux" {
		require.False(t, populateRead(data, 0, osPageSize))
		return
	}
	if !populateRead(data, 1, 9*osPageSize) {
		t.Skip("this kernel cannot populate a mapping")
	}
	if populateRead(data, 0, 11*osPageSize) {
		t.Skip("this system (an emulator?) takes advice without a look at it: a page past the end of the file was populated")
	}
}
