package alder

import (
	"errors"
	"fmt"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// See mmap_unix.go for what each function promises.

const (
	defaultReserve = 0

	// A view cannot reach past the end of its section, nor the section past the end of the file without extending it:
	// every growth of the file needs another section and another view.
	mapsPastEnd = false

	// Memory is reserved, and views are placed, at multiples of this.
	allocationGranularity = 64 << 10
)

var procMapViewOfFileEx = windows.NewLazySystemDLL("kernel32.dll").NewProc("MapViewOfFileEx")

func mapFile(f *os.File, size, room int64) ([]byte, error) {
	if size == 0 {
		return nil, nil // an empty file has no section
	}
	if size > math.MaxInt {
		return nil, fmt.Errorf("%d bytes do not fit into this process's address space", size)
	}
	addr, err := mapView(f, windows.PAGE_READONLY, windows.FILE_MAP_READ, size, 0)
	if err != nil {
		return nil, err
	}
	return bytesAt(addr, size), nil
}

func unmapFile(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	return os.NewSyscallError("UnmapViewOfFile", windows.UnmapViewOfFile(address(data)))
}

func mapPrivate(f *os.File, size, room int64) (data []byte, split int64, err error) {
	split = size &^ (allocationGranularity - 1)
	if size+room+allocationGranularity > math.MaxInt {
		room = 0
	}
	total := roundUp(size+room, allocationGranularity)
	if split == 0 {
		data, err = reserveMemory(total, total)
		return data, 0, err
	}
	// The view and the reserved memory must lie side by side. The system offers no way to ask for that (before
	// placeholders), so find room for both, give it back, and take it again in two pieces; another thread may
	// take some of it in between, so try more than once.
	for range 20 {
		var whole, view, rest uintptr
		whole, err = windows.VirtualAlloc(0, uintptr(total), windows.MEM_RESERVE, windows.PAGE_NOACCESS)
		if err != nil {
			return nil, 0, os.NewSyscallError("VirtualAlloc", err)
		}
		if err = windows.VirtualFree(whole, 0, windows.MEM_RELEASE); err != nil {
			return nil, 0, os.NewSyscallError("VirtualFree", err)
		}
		view, err = mapView(f, windows.PAGE_WRITECOPY, windows.FILE_MAP_COPY, split, whole)
		if err != nil {
			continue
		}
		if total == split {
			return bytesAt(view, total), split, nil
		}
		rest, err = windows.VirtualAlloc(whole+uintptr(split), uintptr(total-split), windows.MEM_RESERVE, windows.PAGE_READWRITE)
		if err == nil && rest == whole+uintptr(split) {
			return bytesAt(view, total), split, nil
		}
		err = errors.Join(os.NewSyscallError("VirtualAlloc", err), windows.UnmapViewOfFile(view))
	}
	return nil, 0, err
}

func unmapPrivate(data []byte, split int64) error {
	if split == int64(len(data)) {
		return unmapFile(data)
	}
	err := releaseMemory(data[split:])
	if split > 0 {
		err = errors.Join(err, unmapFile(data[:split]))
	}
	return err
}

func reserveMemory(least, room int64) ([]byte, error) {
	return mapLargest(least, room, allocationGranularity, func(n int) ([]byte, error) {
		addr, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_RESERVE, windows.PAGE_READWRITE)
		if err != nil {
			return nil, os.NewSyscallError("VirtualAlloc", err)
		}
		return bytesAt(addr, int64(n)), nil
	})
}

func releaseMemory(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	return os.NewSyscallError("VirtualFree", windows.VirtualFree(address(data), 0, windows.MEM_RELEASE))
}

func commitMemory(data []byte, from, to int64) error {
	from, to = from&^(osPageSize-1), min(roundUp(to, osPageSize), int64(len(data)))
	if from >= to {
		return nil
	}
	_, err := windows.VirtualAlloc(address(data[from:]), uintptr(to-from), windows.MEM_COMMIT, windows.PAGE_READWRITE)
	return os.NewSyscallError("VirtualAlloc", err)
}

func decommitMemory(data []byte, from int64) error {
	from = roundUp(from, osPageSize)
	if from >= int64(len(data)) {
		return nil
	}
	return os.NewSyscallError("VirtualFree", windows.VirtualFree(address(data[from:]), uintptr(int64(len(data))-from), windows.MEM_DECOMMIT))
}

func lockMemory([]byte) error {
	return fmt.Errorf("locking mapped pages in memory on Windows: %w", errors.ErrUnsupported)
}

func alignedBuffer(n int) ([]byte, error) {
	data, err := reserveMemory(int64(n), int64(n))
	if err != nil {
		return nil, err
	}
	if err := commitMemory(data, 0, int64(len(data))); err != nil {
		return nil, errors.Join(err, releaseMemory(data))
	}
	return data, nil
}

func adviseNormal(data []byte, from, to int64)      {}
func adviseRandom(data []byte, from, to int64)      {}
func adviseSequential(data []byte, from, to int64)  {}
func adviseWillNeed(data []byte, from, to int64)    {}
func populateRead(data []byte, from, to int64) bool { return false }

// mapView makes a section of the file as it is now and a view of its first size bytes, at the given address or, if that is 0,
// anywhere. The view keeps the section.
func mapView(f *os.File, protection, access uint32, size int64, at uintptr) (uintptr, error) {
	section, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, protection, 0, 0, nil)
	if err != nil {
		return 0, os.NewSyscallError("CreateFileMapping", noSpace(err))
	}
	defer windows.CloseHandle(section)
	if at == 0 {
		addr, err := windows.MapViewOfFile(section, access, 0, 0, uintptr(size))
		return addr, os.NewSyscallError("MapViewOfFile", err)
	}
	addr, _, errno := procMapViewOfFileEx.Call(uintptr(section), uintptr(access), 0, 0, uintptr(size), at)
	if addr == 0 {
		return 0, os.NewSyscallError("MapViewOfFileEx", errno)
	}
	return addr, nil
}

// bytesAt makes a slice of memory that is not Go's. The detour keeps vet from taking the number for a pointer into the heap,
// which it never is.
func bytesAt(addr uintptr, n int64) []byte {
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), n)
}

func address(data []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(data))) }

// adviseHuge: see mmap_linux.go. Nothing of the kind here.
func adviseHuge(data []byte) {}
