package engine

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

func init() {
	Register(&Engine{
		Name:     "append",
		Version:  func() string { return runtime.GOOS },
		Settings: "no store: 4 KiB written through an O_DSYNC descriptor over a file of zeros, the least a durable commit costs",
		OnDemand: true,
		Bare:     true,
		Open:     openAppend,
	})
}

const (
	appendBlock = 4 << 10
	appendFile  = 64 << 20
)

// appendStore writes blocks one after the other, and from the beginning again when the file is full.
type appendStore struct {
	file  *os.File
	at    int64
	block [appendBlock]byte
}

func openAppend(c Config) (Store, error) {
	path := filepath.Join(c.Dir, "append")
	// Written in advance and synced: a first write to unwritten blocks would pay for the file system's journal.
	zeros, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	chunk := make([]byte, 1<<20)
	for at := 0; at < appendFile; at += len(chunk) {
		if _, err := zeros.Write(chunk); err != nil {
			return nil, errors.Join(err, zeros.Close())
		}
	}
	if err := errors.Join(zeros.Sync(), zeros.Close()); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|appendFlag, 0o600)
	if err != nil {
		return nil, err
	}
	return &appendStore{file: file}, nil
}

func (s *appendStore) Sync() error             { return s.file.Sync() }
func (s *appendStore) Close() error            { return s.file.Close() }
func (s *appendStore) Reader() (Reader, error) { return nil, NA("a bare file has no records to read") }
func (s *appendStore) Writer() (Writer, error) { return &appendWriter{store: s}, nil }

type appendWriter struct{ store *appendStore }

func (w *appendWriter) Once(key, value []byte) error {
	s := w.store
	copy(s.block[copy(s.block[:], key):], value)
	if _, err := s.file.WriteAt(s.block[:], s.at); err != nil {
		return err
	}
	s.at = (s.at + appendBlock) % appendFile
	return appendSync(s.file)
}

func (w *appendWriter) Begin() error          { return NA("a bare file has no transactions") }
func (w *appendWriter) Put(_, _ []byte) error { return NA("a bare file has no transactions") }
func (w *appendWriter) Delete(_ []byte) error { return NA("a bare file has no transactions") }
func (w *appendWriter) Commit() error         { return NA("a bare file has no transactions") }
func (w *appendWriter) Rollback() error       { return nil }
func (w *appendWriter) Close() error          { return nil }
