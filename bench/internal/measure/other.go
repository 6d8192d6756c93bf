//go:build !linux

package measure

import (
	"errors"
	"os"
	"time"
)

var errLinuxOnly = errors.New("read on Linux only")

// Memory samples nothing on this system.
type Memory struct{}

// WatchMemory samples nothing on this system.
func WatchMemory() *Memory { return &Memory{} }

// Stop returns -1: unknown.
func (*Memory) Stop() (anon, total int64) { return -1, -1 }

// Disk has no counters on this system.
type Disk struct{ Device, FileSystem, WriteCache string }

// FindDisk says that there are no counters.
func FindDisk(string) (*Disk, error) { return &Disk{FileSystem: "unknown"}, errLinuxOnly }

// Read says that there are no counters.
func (*Disk) Read() (DiskCount, error) { return DiskCount{}, errLinuxOnly }

// Flush does nothing on this system.
func Flush(string) error { return nil }

func adviseRandom(*os.File) {}

// Evict does nothing on this system.
func Evict(string) error { return errLinuxOnly }

// Folios is unknown on this system.
func Folios(string) (FolioState, error) { return FolioState{}, errLinuxOnly }

// Limit is not available on this system.
func Limit(int64) (*Cage, error) { return nil, errLinuxOnly }

// Sweep does nothing on this system.
func Sweep(int) {}

// ChaseLines is the most lines of a page that a walk can ask for.
const ChaseLines = 4

// Chase is not available on this system.
type Chase struct{}

// NewChase is not available on this system.
func NewChase(string, int64) (*Chase, error) { return nil, errLinuxOnly }

// Walk is not available on this system.
func (*Chase) Walk(int, time.Duration) float64 { return 0 }

// Close does nothing.
func (*Chase) Close() error { return nil }

// Cage limits a process's memory on Linux.
type Cage struct{}

// Close does nothing.
func (*Cage) Close() error { return nil }

func machineDetails(*Machine) {}
