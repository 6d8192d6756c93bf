package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk reads the counters of the block device under a directory. They count for the whole device, so they say
// what this program did only on a machine that does nothing else. The kernel's counters per process
// (/proc/self/io) are of no use here: they count whole page-cache folios where a few bytes were dirtied.
type Disk struct {
	Device     string
	FileSystem string
	WriteCache string // the device's own, "write back" or "write through"
	stat       string
}

// FindDisk returns the device under dir. The error says why there is none to be read (tmpfs, overlay, ...).
func FindDisk(dir string) (*Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", dir, err)
	}
	d := &Disk{FileSystem: fileSystem(dir)}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	d.stat = filepath.Join(sys, "stat")
	if _, err := os.Stat(d.stat); err != nil {
		return d, fmt.Errorf("%s is not on a block device of its own", d.FileSystem)
	}
	if real, err := filepath.EvalSymlinks(sys); err == nil {
		d.Device = filepath.Base(real)
		for _, queue := range []string{real, filepath.Dir(real)} { // a partition's queue is its disk's
			if text, err := os.ReadFile(filepath.Join(queue, "queue/write_cache")); err == nil {
				d.WriteCache = strings.TrimSpace(string(text))
				break
			}
		}
	}
	return d, nil
}

// fileSystem names the file system that dir is on, from the mount whose path is the longest prefix of dir's.
func fileSystem(dir string) string {
	text, err := os.ReadFile("/proc/self/mounts")
	path, errAbs := filepath.Abs(dir)
	if err != nil || errAbs != nil {
		return "unknown"
	}
	name, longest := "unknown", 0
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		mount := strings.TrimSuffix(f[1], "/") + "/"
		if strings.HasPrefix(path+"/", mount) && len(mount) >= longest {
			name, longest = f[2]+" ("+f[3]+")", len(mount)
		}
	}
	return name
}

// Read reads the counters.
func (d *Disk) Read() (DiskCount, error) {
	text, err := os.ReadFile(d.stat)
	if err != nil {
		return DiskCount{}, err
	}
	var n []int64
	for _, f := range strings.Fields(string(text)) {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return DiskCount{}, fmt.Errorf("%s: %w", d.stat, err)
		}
		n = append(n, v)
	}
	if len(n) < 17 {
		return DiskCount{}, fmt.Errorf("%s has %d counters, not 17: the kernel is older than 5.5", d.stat, len(n))
	}
	const sector = 512
	return DiskCount{
		Reads: n[0], ReadBytes: n[2] * sector,
		Writes: n[4], WrittenBytes: n[6] * sector,
		Flushes: n[15],
	}, nil
}

// Flush makes everything that was written to the file system of dir reach the disk.
func Flush(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}
