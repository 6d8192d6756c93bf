//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package alder

import (
	"errors"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This layer maps a file, or memory, and gives it back. It knows nothing of what the bytes mean and keeps no state: a
// mapping is the slice of its bytes, and the first byte's address is what the system knows it by. mmap_windows.go has the
// same functions; what they promise is written here.

// defaultReserve is how much address space a mapping takes that must not move: enough for every file on 64-bit systems,
// nothing elsewhere. Address space costs nothing until it is touched.
const defaultReserve = (1 << 40) * (math.MaxUint >> 63)

// mapsPastEnd tells whether a mapping may reach past the end of the file, so that it shows what the file grows by
// without any call.
const mapsPastEnd = true

// mapFile maps f from its start, for reading, shared with everybody who writes the file. The mapping has at least size
// bytes and, where that can be had, room bytes; what lies at or past the end of the file faults when it is touched.
// It is released with unmapFile, by exactly the slice returned.
func mapFile(f *os.File, size, room int64) ([]byte, error) {
	return mapLargest(size, room, osPageSize, func(n int) ([]byte, error) {
		data, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED|mapNoReserve)
		return data, os.NewSyscallError("mmap", err)
	})
}

// unmapFile releases what mapFile returned.
func unmapFile(data []byte) error { return unmapAll(data) }

// mapPrivate maps the first size bytes of f copy-on-write, followed in memory by room bytes, or fewer, of reserved memory:
// data[:split] is the file's, data[split:] is not usable before commitMemory. split may be a little more than size, up
// to the next page, or less; what it lacks must be read into the committed memory.
// A store to data[:split] changes this process's copy of that page and never the file.
// It is released with unmapPrivate.
func mapPrivate(f *os.File, size, room int64) (data []byte, split int64, err error) {
	split = roundUp(size, osPageSize)
	data, err = reserveMemory(split, split+room)
	if err != nil || split == 0 {
		return data, split, err
	}
	_, err = unix.MmapPtr(int(f.Fd()), 0, unsafe.Pointer(unsafe.SliceData(data)), uintptr(split),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|mapNoReserve)
	if err != nil {
		return nil, 0, errors.Join(os.NewSyscallError("mmap", err), unmapAll(data))
	}
	return data, split, nil
}

// unmapPrivate releases what mapPrivate returned.
func unmapPrivate(data []byte, split int64) error { return unmapAll(data) }

// reserveMemory reserves between least and room bytes of address space, none of it usable before commitMemory.
// It is released with releaseMemory.
func reserveMemory(least, room int64) ([]byte, error) {
	return mapLargest(least, room, osPageSize, func(n int) ([]byte, error) {
		data, err := unix.Mmap(-1, 0, n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|mapNoReserve)
		return data, os.NewSyscallError("mmap", err)
	})
}

// releaseMemory gives back what reserveMemory returned.
func releaseMemory(data []byte) error { return unmapAll(data) }

// commitMemory makes data[from:to] of reserved memory readable and writable. New pages are zero; those committed before
// keep their content. Whole system pages are committed, so the range is rounded outwards.
func commitMemory(data []byte, from, to int64) error {
	from, to = from&^(osPageSize-1), min(roundUp(to, osPageSize), int64(len(data)))
	if from >= to {
		return nil
	}
	return os.NewSyscallError("mprotect", unix.Mprotect(data[from:to], unix.PROT_READ|unix.PROT_WRITE))
}

// decommitMemory takes the memory behind data[from:] away again; its content is lost. Only whole system pages are; from is
// rounded up.
func decommitMemory(data []byte, from int64) error {
	from = roundUp(from, osPageSize)
	if from >= int64(len(data)) {
		return nil
	}
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(data[from:])), uintptr(int64(len(data))-from),
		unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|mapNoReserve)
	return os.NewSyscallError("mmap", err)
}

// lockMemory keeps data in memory. The limit is RLIMIT_MEMLOCK.
func lockMemory(data []byte) error { return os.NewSyscallError("mlock", unix.Mlock(data)) }

// alignedBuffer returns n bytes that begin at a multiple of the system's page size, as direct reads want it. It is
// released with releaseMemory.
func alignedBuffer(n int) ([]byte, error) {
	data, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	return data, os.NewSyscallError("mmap", err)
}

// Advice to the kernel on how data[from:to] of a mapping will be read. Failure changes nothing but speed.
// The range is rounded outwards to whole system pages.

func adviseNormal(data []byte, from, to int64)     { advise(data, from, to, unix.MADV_NORMAL) }
func adviseRandom(data []byte, from, to int64)     { advise(data, from, to, unix.MADV_RANDOM) }
func adviseSequential(data []byte, from, to int64) { advise(data, from, to, unix.MADV_SEQUENTIAL) }
func adviseWillNeed(data []byte, from, to int64)   { advise(data, from, to, unix.MADV_WILLNEED) }

func advise(data []byte, from, to int64, advice int) bool {
	from, to = from&^(osPageSize-1), min(roundUp(to, osPageSize), int64(len(data)))
	return from < to && unix.Madvise(data[from:to], advice) == nil
}

func unmapAll(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	return os.NewSyscallError("munmap", unix.Munmap(data))
}
