package round

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/alderdb/alder/bench/internal/measure"
)

// copyTree copies the regular files under from. Holes stay holes, and zeros that were written stay written, since
// engines write their logs in advance for a reason.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case entry.Type().IsRegular():
			return copyFile(filepath.Join(to, name), path)
		}
		return nil
	})
}

func copyFile(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if err := target.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		start, end := measure.DataFrom(source, at, info.Size())
		if start >= info.Size() {
			break
		}
		if _, err := source.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := target.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(target, source, end-start); err != nil {
			return err
		}
		at = end
	}
	return target.Sync()
}
