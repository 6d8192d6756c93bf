package alder

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

// This layer is a store in memory, outside of Go's heap: the collector neither scans nor copies it. Address space
// is reserved far ahead where it is plentiful, so the store grows in place; where it is not, growth copies
// the store into a larger piece and the old one stays until its last reader ends.
//
// A reader that holds an old piece does not see what is written afterwards, and need not: the pages of its snapshot are not
// written while it is pinned, and pages of newer snapshots are none of its business. Who begins to read takes the
// snapshot first and the mapping after it, so the mapping is never older than the snapshot.

// memoryReserve is how much address space a store in memory takes at first, if it can.
const memoryReserve = 64 << 30

// memoryStorage is a storage without a file. Everything is durable for as long as there is power, that is, at once.
type memoryStorage struct {
	// Constant after newMemoryStorage.
	reserve int64 // address space of the first piece

	// Atomic.
	current atomic.Pointer[mapping]
	length  atomic.Int64

	// changing is held by writes, growth and truncation: growth that copies would lose a write made meanwhile.
	changing sync.Mutex

	mu     sync.Mutex // guards what follows
	old    []*mapping // pieces that are no longer current and not yet unmapped
	closed bool
}

var _ storage = (*memoryStorage)(nil)

// newMemoryStorage makes an empty store in memory. reserve is the address space to take at first; 0 is the default.
func newMemoryStorage(reserve int64) (*memoryStorage, error) {
	if reserve <= 0 {
		reserve = memoryReserve
		if !is64bit {
			reserve = 1 << 20
		}
	}
	s := &memoryStorage{reserve: reserve}
	data, err := reserveMemory(0, reserve)
	if err != nil {
		return nil, fmt.Errorf("reserving address space: %w", err)
	}
	s.current.Store(&mapping{data: data})
	return s, nil
}

func (s *memoryStorage) mapping() *mapping { return s.current.Load() }

func (s *memoryStorage) size() int64 { return s.length.Load() }

func (s *memoryStorage) unmap(m *mapping) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil // close has released it
	}
	i := slices.Index(s.old, m)
	if i < 0 {
		panic("alder: unmap of a mapping that is current or already released")
	}
	s.old = slices.Delete(s.old, i, i+1)
	return releaseMemory(m.data)
}

func (s *memoryStorage) readAt(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > s.size() {
		return fmt.Errorf("read of %d bytes at offset %d: %w", len(p), off, io.ErrUnexpectedEOF)
	}
	copy(p, s.mapping().data[off:])
	return nil
}

// readMedium: there is no medium.
func (s *memoryStorage) readMedium([]byte, int64) (ok bool, err error) { return false, nil }

func (s *memoryStorage) writeAt(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > s.size() {
		panic(fmt.Sprintf("alder: write of %d bytes at %d, outside the store's %d bytes", len(p), off, s.size()))
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	copy(s.mapping().data[off:], p)
	return nil
}

func (s *memoryStorage) writeDurable(p []byte, off int64) error { return s.writeAt(p, off) }

func (s *memoryStorage) sync() error { return nil }

func (s *memoryStorage) grow(size int64) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.size()
	if size <= old {
		panic(fmt.Sprintf("alder: growth from %d to %d bytes", old, size))
	}
	cur := s.mapping()
	next := cur
	if size > int64(len(cur.data)) {
		data, err := reserveMemory(size, 2*size)
		if err != nil {
			return fmt.Errorf("growing to %d bytes of memory: %w", size, err)
		}
		next = &mapping{data: data}
	}
	if err := s.fill(next, cur, old, size); err != nil {
		if next != cur {
			err = errors.Join(err, releaseMemory(next.data))
		}
		return fmt.Errorf("growing to %d bytes of memory: %w", size, err)
	}
	if next != cur {
		s.mu.Lock()
		s.old = append(s.old, cur)
		s.mu.Unlock()
		s.current.Store(next)
	}
	s.length.Store(size)
	return nil
}

// fill makes the first size bytes of next usable: old bytes as in cur, then zeros.
func (s *memoryStorage) fill(next, cur *mapping, old, size int64) error {
	if next == cur {
		return commitMemory(next.data, old, size)
	}
	if err := commitMemory(next.data, 0, size); err != nil {
		return err
	}
	copy(next.data, cur.data[:old])
	return nil
}

func (s *memoryStorage) truncate(size int64) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.size()
	if size > old {
		panic(fmt.Sprintf("alder: truncation from %d to %d bytes", old, size))
	}
	data := s.mapping().data
	s.length.Store(size)
	// What stays of the last system page must be zero when the store grows again; the rest is given back.
	clear(data[size:min(roundUp(size, osPageSize), old)])
	return decommitMemory(data, size)
}

// removed: nothing can take the store's name, it has none.
func (s *memoryStorage) punch(int64, int64) (ok bool, err error) { return false, nil }

func (s *memoryStorage) refill(int64, int64) error { return nil }

func (s *memoryStorage) removed() (bool, error) { return false, nil }

func (s *memoryStorage) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, m := range append(s.old, s.current.Load()) {
		errs = append(errs, releaseMemory(m.data))
	}
	s.old = nil
	return errors.Join(errs...)
}
