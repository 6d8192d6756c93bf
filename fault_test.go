package alder

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// guardedRead reads one byte as the read calls do.
func guardedRead(m *mapping, off int64) (b byte, err error) {
	defer restoreFault(debug.SetPanicOnFault(true))
	defer recoverFault(m.data, &err)
	return m.data[off], nil
}

// guardedHotRead is guardedRead written out.
func guardedHotRead(m *mapping, off int64) (b byte, err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = faultIn(m.data, r)
		}
	}()
	return m.data[off], nil
}

// truncatedMapping returns the mapping of a file of four system pages of which the last three were cut off.
// Windows does not shorten a mapped file; there it is four pages of reserved memory of which one can be used.
func truncatedMapping(t testing.TB) *mapping {
	t.Helper()
	if runtime.GOOS == "windows" {
		data, err := reserveMemory(4*osPageSize, 4*osPageSize)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, releaseMemory(data)) })
		require.NoError(t, commitMemory(data, 0, osPageSize))
		return &mapping{data: data[:4*osPageSize]}
	}
	path := filepath.Join(storageDir(t), "file")
	require.NoError(t, os.WriteFile(path, make([]byte, 4*osPageSize), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	data, err := mapFile(f, 4*osPageSize, 4*osPageSize)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unmapFile(data)) })
	require.NoError(t, f.Truncate(osPageSize))
	m := &mapping{data: data}
	needFaultAddress(t, m, osPageSize)
	return m
}

// needFaultAddress skips the test where the system does not say which address the fault at m.data[off] was at: emulators of
// other processors do not.
func needFaultAddress(t testing.TB, m *mapping, off int64) {
	t.Helper()
	var r any
	func() {
		defer restoreFault(debug.SetPanicOnFault(true))
		defer func() { r = recover() }()
		sink = m.data[off]
	}()
	require.NotNil(t, r, "a fault")
	fault, ok := r.(interface{ Addr() uintptr })
	start := reflect.ValueOf(m.data).Pointer()
	if !ok || fault.Addr()-start >= uintptr(len(m.data)) {
		t.Skip("this system (an emulator?) does not report the address of a fault")
	}
}

// Ensures that reading where the file was cut off is an error that says where, and that reading elsewhere goes on.
func TestFault_TruncatedFile(t *testing.T) {
	m := truncatedMapping(t)
	for name, read := range map[string]func(*mapping, int64) (byte, error){"short": guardedRead, "written out": guardedHotRead} {
		t.Run(name, func(t *testing.T) {
			for _, off := range []int64{osPageSize, 2*osPageSize + 77, 4*osPageSize - 1} {
				_, err := read(m, off)
				var fault *FaultError
				require.ErrorAs(t, err, &fault)
				require.Equal(t, "read", fault.Op)
				require.Equal(t, off, fault.Offset)
				var re runtime.Error
				require.ErrorAs(t, err, &re, "the runtime's error can be reached")

				_, err = read(m, 0)
				require.NoError(t, err)
			}
			require.False(t, debug.SetPanicOnFault(false), "the goroutine's setting is what it was")
		})
	}
}

// Ensures that a fault inside copy, which is assembly, is caught as well, however deep the call.
func TestFault_InCopyBelow(t *testing.T) {
	m := truncatedMapping(t)
	var below func(depth int, p []byte)
	below = func(depth int, p []byte) {
		if depth > 0 {
			below(depth-1, p)
			return
		}
		copy(p, m.data)
	}
	read := func() (err error) {
		defer restoreFault(debug.SetPanicOnFault(true))
		defer recoverFault(m.data, &err)
		below(50, make([]byte, 4*osPageSize))
		return nil
	}
	var fault *FaultError
	require.ErrorAs(t, read(), &fault)
	// The copy may touch the bytes in any order.
	require.GreaterOrEqual(t, fault.Offset, osPageSize)
	require.Less(t, fault.Offset, 4*osPageSize)
}

// Ensures that panics which are no fault in the mapping reach the caller as they were.
func TestFault_OtherPanicsPass(t *testing.T) {
	m := &mapping{data: make([]byte, 4096)}
	guarded := func(f func()) (err error) {
		defer restoreFault(debug.SetPanicOnFault(true))
		defer recoverFault(m.data, &err)
		f()
		return nil
	}
	recovered := func(f func()) (r any) {
		defer func() { r = recover() }()
		err := guarded(f)
		t.Errorf("no panic, but %v", err)
		return nil
	}

	own := errors.New("the caller's")
	require.Same(t, own, recovered(func() { panic(own) }))
	require.Equal(t, "text", recovered(func() { panic("text") }))

	var nothing *struct{ a [64]byte }
	r := recovered(func() { nothing.a[3]++ })
	require.ErrorContains(t, r.(runtime.Error), "nil pointer dereference")

	index := 4096
	r = recovered(func() { m.data[index]++ })
	require.ErrorContains(t, r.(runtime.Error), "index out of range")

	require.NoError(t, guarded(func() {}))
}

// Ensures that a fault in another mapping is not taken for one of this store.
func TestFault_OtherMappingPasses(t *testing.T) {
	other := truncatedMapping(t)
	m := &mapping{data: make([]byte, 4096)}
	var r any
	func() {
		defer func() { r = recover() }()
		func() (err error) {
			defer restoreFault(debug.SetPanicOnFault(true))
			defer recoverFault(m.data, &err)
			sink = other.data[osPageSize]
			return nil
		}()
	}()
	require.Implements(t, (*interface{ Addr() uintptr })(nil), r)
}

// Ensures that guards nest: the inner one reports the fault, and the outer one still guards afterwards.
func TestFault_Nested(t *testing.T) {
	m := truncatedMapping(t)
	outer := func() (inner, err error) {
		defer restoreFault(debug.SetPanicOnFault(true))
		defer recoverFault(m.data, &err)
		_, inner = guardedRead(m, osPageSize)
		sink = m.data[2*osPageSize]
		return inner, nil
	}
	inner, err := outer()
	var fault *FaultError
	require.ErrorAs(t, inner, &fault)
	require.Equal(t, osPageSize, fault.Offset)
	require.ErrorAs(t, err, &fault)
	require.Equal(t, 2*osPageSize, fault.Offset)
	require.False(t, debug.SetPanicOnFault(false), "the goroutine's setting is what it was")
}

var sink byte

// BenchmarkGuard measures what the two lines of a guard cost a call.
func BenchmarkGuard(b *testing.B) {
	m := &mapping{data: make([]byte, 4096)}
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			sink, _ = bareRead(m, 7)
		}
	})
	b.Run("short", func(b *testing.B) {
		for b.Loop() {
			sink, _ = guardedRead(m, 7)
		}
	})
	b.Run("written out", func(b *testing.B) {
		for b.Loop() {
			sink, _ = guardedHotRead(m, 7)
		}
	})
}

//go:noinline
func bareRead(m *mapping, off int64) (b byte, err error) { return m.data[off], nil }
