package alder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// How a store file is opened: only a regular file, never one that could make the call hang; locked before anything is
// believed of it; and still the file of that name once it is locked.

// fileOptions says how a store file is opened.
type fileOptions struct {
	readOnly bool
	timeout  time.Duration // how long to wait for the lock; 0: not at all
	openFile func(string, int, os.FileMode) (*os.File, error)
	mlock    bool         // keep the mapped pages of the file in memory
	huge     bool         // ask for huge pages
	noRing   bool         // never ask for a ring; see storage_attended.go
	reserve  int64        // address space for the mapping, at least; 0: the default
	logger   *slog.Logger // may be nil

	// holder describes who last opened the store for writing, from what the file says. It may be nil.
	holder func(r io.ReaderAt) string

	// reserveAtMost, for tests, makes the mapping so short that the file outgrows it.
	reserveAtMost int64
}

// replacedTries is how often a file that was replaced between open and lock is opened anew before giving up.
const replacedTries = 100

// openFileStorage opens, locks and maps the file. created: it is empty, because it did not exist or nothing was ever
// written to it; the name of a new file is durable only after syncDir.
//
// A missing file is created with the given mode, or an error for which os.IsNotExist holds if it is opened read-only. A file
// that is locked is a *LockError after the time-out.
func openFileStorage(path string, mode os.FileMode, o fileOptions) (_ *fileStorage, created bool, err error) {
	start := time.Now()
	for range replacedTries {
		f, err := openRegular(path, mode, o)
		if err != nil {
			return nil, false, err
		}
		if err := waitLock(f, !o.readOnly, start.Add(o.timeout)); err != nil {
			err = lockFailure(f, path, o, time.Since(start), err)
			f.Close()
			return nil, false, err
		}
		// While we waited, the holder may have put another file in this one's place.
		if o.openFile == nil && !isNamed(path, f) {
			unlockFile(f)
			f.Close()
			continue
		}
		return newFileStorage(path, f, o)
	}
	return nil, false, &fs.PathError{Op: "open", Path: path, Err: errors.New("the file is being replaced again and again")}
}

// newFileStorage takes over f, which is locked.
func newFileStorage(path string, f *os.File, o fileOptions) (_ *fileStorage, created bool, err error) {
	s := &fileStorage{path: path, opts: o, file: f}
	fail := func(err error) (*fileStorage, bool, error) {
		s.close()
		return nil, false, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	fi, err := f.Stat()
	if err != nil {
		return fail(innermost(err))
	}
	size := fi.Size()
	m := &mapping{}
	if size > 0 || mapsPastEnd && !o.readOnly {
		if m.data, err = s.mapFile(size); err != nil {
			return fail(fmt.Errorf("mapping the file (file system: %s): %w", fileSystemName(f), err))
		}
	}
	s.current.Store(m)
	s.length.Store(size)
	s.physical = size
	if !o.readOnly {
		s.openSynchronous()
	} else if err := s.keepInMemory(); err != nil {
		return fail(err)
	}
	return s, size == 0 && !o.readOnly, nil
}

// openRegular opens path if it is a regular file or, for writing, nothing yet.
func openRegular(path string, mode os.FileMode, o fileOptions) (*os.File, error) {
	// First a look: opening a FIFO can wait for ever, and opening a device can do anything.
	if fi, err := os.Stat(path); err == nil {
		if err := checkRegular(path, fi); err != nil {
			return nil, err
		}
	}
	flags := os.O_RDONLY
	if !o.readOnly {
		flags = os.O_RDWR | os.O_CREATE
	}
	open := o.openFile
	if open == nil {
		open, flags = os.OpenFile, flags|unblockingFlag
	}
	f, err := open(path, flags, mode)
	if err != nil {
		if !o.readOnly && isReadOnlyFileSystem(err) {
			err = &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w; an existing store can be read with Options.ReadOnly", innermost(err))}
		}
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = checkRegular(path, fi)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkRegular returns an error that says what path is unless it is a regular file.
func checkRegular(path string, fi os.FileInfo) error {
	var what string
	switch mode := fi.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&os.ModeNamedPipe != 0:
		what = "a named pipe"
	case mode&os.ModeSocket != 0:
		what = "a socket"
	case mode&os.ModeDevice != 0:
		what = "a device"
	default:
		what = "something else (" + mode.Type().String() + ")"
	}
	return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w but %s", errNotRegular, what)}
}

var errNotRegular = errors.New("not a regular file")

// isNamed reports whether path still leads to f.
func isNamed(path string, f *os.File) bool {
	named, err := os.Stat(path)
	if err != nil {
		return false
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(named, opened)
}

// lockFailure makes the error for a lock that was not to be had.
func lockFailure(f *os.File, path string, o fileOptions, waited time.Duration, err error) error {
	if !errors.Is(err, errLockHeld) {
		return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("locking the file (file system: %s): %w", fileSystemName(f), err)}
	}
	written := ""
	if o.holder != nil {
		written = o.holder(f)
	}
	return &LockError{
		Path:     path,
		Holder:   describeHolders(lockHolders(f), written),
		Waited:   waited,
		ReadOnly: o.readOnly,
	}
}
