package measure

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
)

// FolioState says how the page cache holds files: in single pages or in folios of many, which behave differently
// when they are dirtied through a mapping or written back.
type FolioState struct {
	// Pages is how many pages were looked at; 0 where the kernel does not say.
	Pages int
	// Large is the share of those that belong to a folio of several pages.
	Large float64
	// Resident is the share of the files' pages that are in memory.
	Resident float64
}

// Cache says in which state the page cache shall hold files.
type Cache string

const (
	// AsIs leaves the cache as the workload's preparation left it, and reads what is missing.
	AsIs Cache = "as-is"
	// Small loads files in single pages.
	Small Cache = "small"
	// Large loads files in big sequential reads, which gives large folios.
	Large Cache = "large"
)

// Warm brings the files under dir into the page cache, in the state asked for. Memory that lay idle may have been
// paged out by the host of a virtual machine: reading every byte brings it back.
func Warm(dir string, cache Cache) error {
	if cache != AsIs && cache != "" {
		if err := Flush(dir); err != nil {
			return err
		}
		if err := Evict(dir); err != nil {
			return err
		}
	}
	return Files(dir, func(path string, info fs.FileInfo) error {
		file, err := os.Open(path)
		if err != nil {
			return ignoreGone(err)
		}
		defer file.Close()
		if cache == Small {
			adviseRandom(file)
		}
		return extents(file, info.Size(), func(start, end int64) error {
			if cache == Small {
				return readScattered(file, start, end)
			}
			_, err := io.CopyBuffer(discard{}, io.NewSectionReader(file, start, end-start), make([]byte, 1<<20))
			return err
		})
	})
}

// discard is io.Discard without its own way of reading, which uses smaller buffers.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// extents calls visit for each stretch of a file that is not a hole. Some engines make files far longer than
// what they hold.
func extents(file *os.File, size int64, visit func(start, end int64) error) error {
	for at := int64(0); at < size; {
		start, end := DataFrom(file, at, size)
		if start >= size {
			return nil
		}
		if err := visit(start, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// scatteredReaders is how many reads are kept in flight.
const scatteredReaders = 16

// readScattered reads a stretch page by page in an order without two neighbors, so that no read-ahead merges them.
func readScattered(file *os.File, start, end int64) error {
	const page = 4096
	pages := (end - start + page - 1) / page
	var wait sync.WaitGroup
	failed := make([]error, scatteredReaders)
	for w := range int64(scatteredReaders) {
		wait.Go(func() {
			buf := make([]byte, page)
			for i := w; i < pages; i += scatteredReaders {
				if _, err := file.ReadAt(buf, start+i*page); err != nil && !errors.Is(err, io.EOF) {
					failed[w] = err
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(failed...)
}

func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
