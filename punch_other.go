//go:build !linux

package alder

import "os"

// See punch_linux.go for what each function promises. APFS, ZFS and NTFS have calls of their own, for files that are made for it; they are not used.

func punchHole(*os.File, int64, int64) (ok bool, err error) { return false, nil }

func fillHole(f *os.File, off, n int64) error { return writeZeros(f, off, n) }
