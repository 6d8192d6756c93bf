package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
)

// Reasons why something below --dir is not loaded.
const (
	skippedLinks      = "symbolic_links"
	skippedSpecial    = "special_files" // pipes, sockets, devices
	skippedStore      = "store_itself"
	skippedUnreadable = "unreadable_files"
)

// skipText words what was left out.
func skipText(skips map[string]int) string {
	var parts []string
	for _, reason := range []struct{ name, noun string }{
		{skippedLinks, "symbolic link"}, {skippedSpecial, "special file"}, {skippedUnreadable, "unreadable file"},
	} {
		if n := skips[reason.name]; n > 0 {
			parts = append(parts, counted(n, reason.noun))
		}
	}
	if skips[skippedStore] > 0 {
		parts = append(parts, "the store itself")
	}
	if len(parts) == 0 {
		return ""
	}
	return "; skipped " + strings.Join(parts, ", ")
}

// dirSource is the files below a directory as records, in the order of their keys. A few files ahead of the loader are
// read by goroutines of their own, so that the disk and the store are busy at the same time.
type dirSource struct {
	root   string
	files  []dirFile
	next   int // index in files of the record to deliver next
	queued int // index of the first file that no goroutine reads yet
	bytes  int64
	skips  map[string]int
	skip   bool // unreadable files are skipped
	bar    *progress
}

// dirFile is one regular file. Its key is its path below the root, with slashes.
type dirFile struct {
	key     string
	size    int64
	content chan fileContent // where the goroutine that reads it puts the content; nil: not begun
}

type fileContent struct {
	data []byte
	err  error
}

// Files up to readAheadSize are read ahead, at most readAheadFiles at a time: no more than 32 MiB wait in memory.
const (
	readAheadFiles = 32
	readAheadSize  = 1 << 20
)

func (l *loadCommand) openDir(ctx context.Context, store string) (recordSource, error) {
	s := &dirSource{root: l.dir, skips: map[string]int{}, skip: l.skipUnreadable}
	fi, err := os.Stat(l.dir)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, usageErrorf("load: --dir %s is not a directory; load a file's records with --file", l.dir)
	}
	itself, err := os.Stat(store)
	if err != nil {
		itself = nil // a store yet to be created cannot be below the directory
	}
	total, err := s.list(ctx, "", itself)
	if err != nil {
		return nil, err
	}
	s.bar = l.startProgress("loading "+filepath.Base(l.dir), total, unitBytes)
	return s, nil
}

// list collects the files below the directory dir, which is relative to the root, and returns their total size. The order is that
// of the keys: a directory's place among its siblings is that of its name with a slash behind it.
func (s *dirSource) list(ctx context.Context, dir string, store os.FileInfo) (total int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		return 0, s.unlisted(dir, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		switch mode := entry.Type(); {
		case mode.IsDir():
			size, err := s.list(ctx, name, store)
			if err != nil {
				return 0, err
			}
			total += size
		case mode&fs.ModeSymlink != 0:
			s.skips[skippedLinks]++
		case !mode.IsRegular():
			s.skips[skippedSpecial]++
		default:
			fi, err := entry.Info()
			if err != nil {
				if err := s.unlisted(name, err); err != nil {
					return 0, err
				}
				continue
			}
			if store != nil && os.SameFile(fi, store) {
				s.skips[skippedStore]++
				continue
			}
			s.files = append(s.files, dirFile{key: name, size: fi.Size()})
			total += fi.Size()
		}
	}
	return total, nil
}

func sortName(entry fs.DirEntry) string {
	if entry.IsDir() {
		return entry.Name() + "/"
	}
	return entry.Name()
}

// unreadable returns err, or counts it and returns nil where unreadable files are to be skipped. A file that is too
// large for a value is not unreadable.
func (s *dirSource) unreadable(err error) error {
	if codeOf(err) == exitUsage {
		return err
	}
	if !s.skip {
		return advisedError{fmt.Errorf("%w; make it readable, or leave such files out with --skip-unreadable", innermost(err))}
	}
	s.skips[skippedUnreadable]++
	return nil
}

// unlisted is unreadable for the time when nothing is loaded yet.
func (s *dirSource) unlisted(key string, err error) error {
	if err = s.unreadable(err); err != nil {
		err = fmt.Errorf("load %s: %w; nothing is committed", s.path(key), err)
	}
	return err
}

func (s *dirSource) path(key string) string { return filepath.Join(s.root, filepath.FromSlash(key)) }

func (s *dirSource) Read() (kvformat.Record, error) {
	for s.next < len(s.files) {
		s.readAhead()
		file := &s.files[s.next]
		s.next++
		content := s.take(file)
		s.bytes += file.size
		s.bar.set(s.bytes)
		if content.err == nil {
			return kvformat.Record{Key: []byte(file.key), Value: content.data}, nil
		}
		if err := s.unreadable(content.err); err != nil {
			return kvformat.Record{}, err
		}
	}
	return kvformat.Record{}, io.EOF
}

// readAhead keeps goroutines reading the files that come next.
func (s *dirSource) readAhead() {
	for ; s.queued < len(s.files) && s.queued < s.next+readAheadFiles; s.queued++ {
		file := &s.files[s.queued]
		if file.size > readAheadSize {
			continue // read when it is its turn
		}
		file.content = make(chan fileContent, 1)
		go func(path string, size int64, content chan<- fileContent) {
			content <- readFile(path, size)
		}(s.path(file.key), file.size, file.content)
	}
}

// take returns the content of a file and forgets it.
func (s *dirSource) take(file *dirFile) fileContent {
	if file.content == nil {
		return readFile(s.path(file.key), file.size)
	}
	content := <-file.content
	file.content = nil
	return content
}

func readFile(path string, size int64) fileContent {
	if size > alder.MaxValueSize {
		return fileContent{err: tooLarge(size)}
	}
	data, err := os.ReadFile(path)
	return fileContent{data, err}
}

func (s *dirSource) position() int { return s.next - 1 }

func (s *dirSource) where(position int) string {
	if position < 0 {
		return s.root
	}
	return s.path(s.files[position].key)
}

// skipped is what was left out.
func (s *dirSource) skipped() map[string]int { return s.skips }

func (s *dirSource) Close() error {
	s.bar.finish()
	return nil
}
