package measure

import (
	"io/fs"
	"os"
	"path/filepath"
)

// DiskCount is a reading of a device's counters.
type DiskCount struct {
	Reads        int64
	ReadBytes    int64
	Writes       int64
	WrittenBytes int64
	Flushes      int64
}

// Sub returns what was counted between two readings.
func (c DiskCount) Sub(before DiskCount) DiskCount {
	return DiskCount{
		Reads:        c.Reads - before.Reads,
		ReadBytes:    c.ReadBytes - before.ReadBytes,
		Writes:       c.Writes - before.Writes,
		WrittenBytes: c.WrittenBytes - before.WrittenBytes,
		Flushes:      c.Flushes - before.Flushes,
	}
}

// Files calls visit for each regular file under dir.
func Files(dir string, visit func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // an engine removed a file of its own meanwhile
			}
			return err
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		return visit(path, info)
	})
}

// Size returns the lengths of the files under dir, and the space they take on the disk, which is less for sparse
// files and more for those written in advance.
func Size(dir string) (length, allocated int64, err error) {
	err = Files(dir, func(_ string, info fs.FileInfo) error {
		length += info.Size()
		allocated += blocksOf(info)
		return nil
	})
	return length, allocated, err
}
