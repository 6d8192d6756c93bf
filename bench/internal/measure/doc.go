// Package measure reads what the operating system and the Go runtime count while a workload runs: time, processor
// time, allocations, memory, faults, and the bytes and flushes that reach the disk. It knows nothing of engines.
package measure

import (
	"runtime"
	"time"
)

// Usage is a reading of the counters of this process (and, once waited for, its children).
type Usage struct {
	Wall        time.Time
	User        time.Duration
	System      time.Duration
	MajorFaults int64
	MinorFaults int64
	Allocs      uint64
	AllocBytes  uint64
}

// ReadUsage reads the counters. It stops the world for an instant, so it belongs outside of what is timed.
func ReadUsage() Usage {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	u := Usage{Allocs: mem.Mallocs, AllocBytes: mem.TotalAlloc}
	readRusage(&u)
	u.Wall = time.Now()
	return u
}

// Sub returns what was used between two readings; its Wall has no meaning.
func (u Usage) Sub(before Usage) Usage {
	return Usage{
		User:        u.User - before.User,
		System:      u.System - before.System,
		MajorFaults: u.MajorFaults - before.MajorFaults,
		MinorFaults: u.MinorFaults - before.MinorFaults,
		Allocs:      u.Allocs - before.Allocs,
		AllocBytes:  u.AllocBytes - before.AllocBytes,
	}
}
