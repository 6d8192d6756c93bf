package alder

import (
	"fmt"
	"math"
	"os"
)

// What mmap_unix.go and mmap_windows.go share: sizes, and how much address space to ask for.

// is64bit tells whether addresses are plentiful.
const is64bit = math.MaxUint>>32 != 0

// osPageSize is the granularity of mappings.
var osPageSize = int64(os.Getpagesize())

// roundUp rounds n up to a multiple, which is a power of two.
func roundUp(n, multiple int64) int64 { return (n + multiple - 1) &^ (multiple - 1) }

// mapLargest calls try with room bytes and then with half as many again and again, down to size, until it succeeds. Limits
// on address space (RLIMIT_AS, few address bits, the file system's largest file) differ too much to be asked for. try sees
// multiples of unit only, and at least one.
func mapLargest(size, room, unit int64, try func(n int) ([]byte, error)) ([]byte, error) {
	size = max(roundUp(size, unit), unit)
	if size > math.MaxInt {
		return nil, fmt.Errorf("%d bytes do not fit into this process's address space", size)
	}
	n := min(max(roundUp(room, unit), size), math.MaxInt&^(unit-1))
	for {
		data, err := try(int(n))
		if err == nil || n == size {
			return data, err
		}
		n = max(roundUp(n/2, unit), size)
	}
}
