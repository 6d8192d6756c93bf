package measure

import (
	"runtime"
	"time"
)

// Machine is what a report says of where it was measured.
type Machine struct {
	Time        time.Time `json:"time"`
	OS          string    `json:"os"`
	Arch        string    `json:"arch"`
	Go          string    `json:"go"`
	CPUs        int       `json:"cpus"`
	CPU         string    `json:"cpu,omitempty"`
	Kernel      string    `json:"kernel,omitempty"`
	MemoryBytes int64     `json:"memory_bytes,omitempty"`
	Load        string    `json:"load,omitempty"` // load averages when the round began
	FileSystem  string    `json:"file_system,omitempty"`
	Device      string    `json:"device,omitempty"`
	WriteCache  string    `json:"write_cache,omitempty"`
	CountersNA  string    `json:"counters_na,omitempty"` // why the disk's counters cannot be read
	// IdleWrittenPerSecond is what others wrote to the device while the round waited to begin.
	IdleWrittenPerSecond int64 `json:"idle_written_per_second"`
}

// Describe looks at the machine and at the disk under dir.
func Describe(dir string) Machine {
	m := Machine{Time: time.Now().UTC(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU()}
	machineDetails(&m)
	disk, err := FindDisk(dir)
	if disk != nil {
		m.FileSystem, m.Device, m.WriteCache = disk.FileSystem, disk.Device, disk.WriteCache
	}
	if err != nil {
		m.CountersNA = err.Error()
		return m
	}
	before, err := disk.Read()
	if err != nil {
		m.CountersNA = err.Error()
		return m
	}
	time.Sleep(time.Second)
	if after, err := disk.Read(); err == nil {
		m.IdleWrittenPerSecond = after.WrittenBytes - before.WrittenBytes
	}
	return m
}
