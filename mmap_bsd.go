//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package alder

// These systems either do not count reserved memory or have no flag against it that works.
const mapNoReserve = 0

// populateRead: see mmap_linux.go. Nothing of the kind here.
func populateRead(data []byte, from, to int64) bool { return false }

// adviseHuge: see mmap_linux.go. Nothing of the kind here.
func adviseHuge(data []byte) {}
