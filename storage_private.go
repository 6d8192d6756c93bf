package alder

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// This layer is a store for a read-only open that must first replay what the file's log holds: the file, with changes that
// exist in this process only and never reach the file.
//
// The file is mapped copy-on-write, and memory for growth is reserved right behind it, so that the whole remains one
// piece and never moves. Invariants:
//   - No descriptor here can write, so neither can a mistake.
//   - data[:split] shows the file, data[split:] is memory; length never exceeds len(data), and all below length is
//     readable.
//   - The pages changed number at most limit bytes, which bounds the memory that replay can take. Growth is bounded by the
//     same number, for grown pages are memory too.

// privateStorage is a storage whose changes are private.
type privateStorage struct {
	// Constant after newPrivateStorage.
	base   *fileStorage // the file, open read-only; holds the lock
	data   []byte
	split  int64 // where the mapped file ends and memory begins
	limit  int64 // bytes of pages that may be changed
	origin int64 // length of the file

	current *mapping // over data

	length atomic.Int64

	changing sync.Mutex         // guards what follows
	changed  map[int64]struct{} // numbers of the system pages that are changed
	longest  int64              // longest that the store has been; beyond, all is zero
}

var _ storage = (*privateStorage)(nil)

// newPrivateStorage makes a store over the file, which must be open read-only; closing one closes the other. At most limit bytes
// of pages can be changed or added.
func newPrivateStorage(base *fileStorage, limit int64) (*privateStorage, error) {
	if !base.opts.readOnly {
		panic("alder: a private store over a file that is open for writing")
	}
	size := base.size()
	limit = max(roundUp(limit, osPageSize), osPageSize)
	data, split, err := mapPrivate(base.file, size, limit)
	if err != nil {
		return nil, base.opError("map privately", 0, 0, err)
	}
	s := &privateStorage{
		base: base, data: data, split: split, limit: limit, origin: size,
		current: &mapping{data: data},
		changed: make(map[int64]struct{}),
		longest: size,
	}
	s.length.Store(size)
	// Where the view of the file had to end early, memory holds the file's last bytes.
	if split < size {
		err := commitMemory(data, split, size)
		if err == nil {
			err = base.readAt(data[split:size], split)
		}
		if err != nil {
			return nil, errors.Join(err, unmapPrivate(data, split))
		}
	}
	base.mu.Lock()
	base.over = func() error { return unmapPrivate(data, split) }
	base.mu.Unlock()
	return s, nil
}

func (s *privateStorage) mapping() *mapping { return s.current }

// unmap: there is only ever one mapping, and it is always current.
func (s *privateStorage) unmap(*mapping) error {
	panic("alder: unmap of a mapping that is current or already released")
}

func (s *privateStorage) size() int64 { return s.length.Load() }

// readAt reads through the mapping: the file does not have the changes.
func (s *privateStorage) readAt(p []byte, off int64) (err error) {
	if off < 0 || off+int64(len(p)) > s.size() {
		return s.base.opError("read", off, int64(len(p)), io.ErrUnexpectedEOF)
	}
	defer restoreFault(debug.SetPanicOnFault(true))
	defer recoverFault(s.data, &err)
	copy(p, s.data[off:])
	return nil
}

// readMedium reads the medium of the file as long as nothing is changed. It does not have the changes, and nobody may conclude anything from
// it then.
func (s *privateStorage) readMedium(p []byte, off int64) (ok bool, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if len(s.changed) > 0 || s.size() != s.origin {
		return false, nil
	}
	return s.base.readMedium(p, off)
}

func (s *privateStorage) writeAt(p []byte, off int64) (err error) {
	if off < 0 || off+int64(len(p)) > s.size() {
		panic(fmt.Sprintf("alder: write of %d bytes at %d, outside the store's %d bytes", len(p), off, s.size()))
	}
	if len(p) == 0 {
		return nil
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.countChange(off, off+int64(len(p))); err != nil {
		return s.base.opError("write", off, int64(len(p)), err)
	}
	// A store to a page of the file reads that page first, which can fail.
	defer restoreFault(debug.SetPanicOnFault(true))
	defer recoverFault(s.data, &err)
	copy(s.data[off:], p)
	return nil
}

// countChange notes that the pages of the range are changed, unless that would be too many.
func (s *privateStorage) countChange(from, to int64) error {
	first, last := from/osPageSize, (to-1)/osPageSize
	var more int64
	for i := first; i <= last; i++ {
		if _, ok := s.changed[i]; !ok {
			more++
		}
	}
	if (int64(len(s.changed))+more)*osPageSize > s.limit {
		return s.overLimit()
	}
	for i := first; i <= last; i++ {
		s.changed[i] = struct{}{}
	}
	return nil
}

func (s *privateStorage) overLimit() error {
	return fmt.Errorf("recovering a store that was not closed cleanly needs more than the %d bytes of memory that a read-only open may use; open it for writing once", s.limit)
}

func (s *privateStorage) writeDurable(p []byte, off int64) error { return s.writeAt(p, off) }

// sync makes durable what a writer wrote to the file before it ended, so that what is shown here cannot be lost later.
func (s *privateStorage) sync() error { return s.base.sync() }

func (s *privateStorage) grow(size int64) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.size()
	if size <= old {
		panic(fmt.Sprintf("alder: growth from %d to %d bytes", old, size))
	}
	if err := s.growLocked(old, size); err != nil {
		return s.base.opError("grow", old, size-old, err)
	}
	s.longest = max(s.longest, size)
	s.length.Store(size)
	return nil
}

func (s *privateStorage) growLocked(old, size int64) (err error) {
	if size-s.origin > s.limit {
		return s.overLimit()
	}
	if size > int64(len(s.data)) {
		return fmt.Errorf("no address space for %d bytes", size)
	}
	if size > s.split {
		if err := commitMemory(s.data, max(old, s.split), size); err != nil {
			return err
		}
	}
	// What a truncation has left behind must not come back.
	if end := min(size, s.longest); end > old {
		if err := s.countChange(old, end); err != nil {
			return err
		}
		defer restoreFault(debug.SetPanicOnFault(true))
		defer recoverFault(s.data, &err)
		clear(s.data[old:end])
	}
	return nil
}

func (s *privateStorage) truncate(size int64) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.size()
	if size > old {
		panic(fmt.Sprintf("alder: truncation from %d to %d bytes", old, size))
	}
	s.length.Store(size)
	return nil
}

// Nothing of a private mapping has blocks in the file.
func (s *privateStorage) punch(int64, int64) (ok bool, err error) { return false, nil }

func (s *privateStorage) refill(int64, int64) error { return nil }

func (s *privateStorage) removed() (bool, error) { return s.base.removed() }

// close closes the file, and the file releases the mapping over it; so whoever closes either closes both.
func (s *privateStorage) close() error { return s.base.close() }
