package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// writingPrefix begins every error of writing an output.
const writingPrefix = "writing "

// outputFile is a file that appears under its name whole and durable, or not at all. It is written under another name in
// a temporary directory beside it, then synced and renamed.
type outputFile struct {
	path string // where it will appear
	dir  string // the temporary directory
	temp string // the file in it
}

// newOutputFile prepares for writing path. An existing file is refused, unless force says that it may be replaced; so is
// the store that is being read, under whatever name.
func newOutputFile(path string, force bool, store string) (*outputFile, error) {
	switch fi, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case store != "" && sameFile(store, fi):
		return nil, usageErrorf("%s: the output would replace the store itself; give another name", path)
	case !fi.Mode().IsRegular():
		return nil, usageErrorf("%s: exists and is not a regular file; give another name, or - for standard output", path)
	case !force:
		return nil, usageErrorf("%s: exists; give another name, or replace it with --force", path)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".kvctl-*")
	if err != nil {
		return nil, fmt.Errorf(writingPrefix+"%s: %w", path, innermost(err))
	}
	return &outputFile{path: path, dir: dir, temp: filepath.Join(dir, filepath.Base(path))}, nil
}

func sameFile(path string, fi os.FileInfo) bool {
	other, err := os.Stat(path)
	return err == nil && os.SameFile(fi, other)
}

// discard removes what was written. After commit it does nothing.
func (o *outputFile) discard() { _ = os.RemoveAll(o.dir) }

// commit makes the file durable under its name.
func (o *outputFile) commit() error {
	if err := syncPath(o.temp, os.O_RDWR); err != nil {
		return err
	}
	if err := os.Rename(o.temp, o.path); err != nil {
		return err
	}
	o.discard()
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there, renames are journaled
	}
	return syncPath(filepath.Dir(o.path), os.O_RDONLY)
}

func syncPath(path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeTo calls write with the file at path, or standard output for "-" and "". mode is that of a new file.
func (c *cli) writeTo(ctx context.Context, path string, force bool, store string, mode os.FileMode, write func(io.Writer) error) error {
	if path == "" || path == "-" {
		return write(&interruptibleWriter{ctx, c.namedStdout()})
	}
	output, err := newOutputFile(path, force, store)
	if err != nil {
		return err
	}
	defer output.discard()
	f, err := os.OpenFile(output.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := errors.Join(write(&interruptibleWriter{ctx, &namedWriter{f, path}}), f.Close()); err != nil {
		return err
	}
	return output.commit()
}

// innermost takes the temporary name out of an error; it means nothing to the user.
func innermost(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

// modeOf returns the permissions of the store, for its copies.
func modeOf(store string) os.FileMode {
	fi, err := os.Stat(store)
	if err != nil {
		return 0o600
	}
	return fi.Mode().Perm()
}

func fileSize(path string) (int64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// namedWriter is an output whose errors name it as the user knows it.
type namedWriter struct {
	out  io.Writer
	name string
}

func (w *namedWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	if err != nil {
		err = fmt.Errorf(writingPrefix+"%s: %w", w.name, innermost(err))
	}
	return n, err
}

// interruptibleWriter fails once ctx has ended, so that whoever writes a lot stops soon.
type interruptibleWriter struct {
	ctx context.Context
	out io.Writer
}

func (w *interruptibleWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.out.Write(p)
}
