package alder

import (
	"os"
	"sync"
)

// Reading a part of the file before the mapping shows it, so that whoever waits for the disk does so in a system call, where the scheduler
// can give his processor to others, and not in a page fault, where it cannot.

// fetchBuffer is the number of bytes that are read at a time. What is read is thrown away: it is in the page cache then.
const fetchBuffer = 64 << 10

var fetchBuffers = sync.Pool{New: func() any { return new([fetchBuffer]byte) }}

// fetch brings n bytes at off into the page cache, and reports whether the disk had to be waited for. What cannot be read, touching it will
// tell.
func (s *fileStorage) fetch(off, n int64) (waited bool) {
	f := s.randomReads()
	if f == nil {
		return false
	}
	buf := fetchBuffers.Get().(*[fetchBuffer]byte)
	defer fetchBuffers.Put(buf)
	if n <= osPageSize {
		n = 1 // the system reads whole pages
	} else if n > fetchBuffer {
		announceRead(f, off, n)
	}
	for ; n > 0; off, n = off+fetchBuffer, n-fetchBuffer {
		part := buf[:min(n, fetchBuffer)]
		if readCached(f, part, off) {
			continue
		}
		waited = true
		_, _ = f.ReadAt(part, off) // see above
	}
	return waited
}

// announce lets the system begin to read n bytes at off.
func (s *fileStorage) announce(off, n int64) {
	if f := s.randomReads(); f != nil {
		announceRead(f, off, n)
	}
}

// writeBack writes what is in the page cache of n bytes at off to the disk, which makes nothing durable. It goes through a descriptor of its own:
// the system tells each descriptor once of a page that it could not write, and the sync that follows must be told too.
func (s *fileStorage) writeBack(off, n int64) (bool, error) {
	if !writesBack {
		return false, nil
	}
	f := s.randomReads()
	if f == nil {
		return false, nil
	}
	return true, writeBack(f, off, n)
}

// touchRandomly says that the mapping is, or is not, touched at random places, so that a fault brings in one page and not those around it, which
// on some systems are megabytes.
func (s *fileStorage) touchRandomly(on bool) {
	if m := s.mapping(); on {
		adviseRandom(m.data, 0, int64(len(m.data)))
	} else {
		adviseNormal(m.data, 0, int64(len(m.data)))
	}
}

// randomReads is the descriptor for that. It is of its own, for advice about reads holds for a descriptor; nil if there is none to be had.
func (s *fileStorage) randomReads() *os.File {
	if f := s.random.Load(); f != nil {
		return f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.notRandom || s.opts.mlock {
		return nil
	}
	if f := s.random.Load(); f != nil {
		return f
	}
	f, err := s.reopen(os.O_RDONLY)
	if err != nil {
		s.notRandom = true
		return nil
	}
	adviseRandomReads(f)
	s.random.Store(f)
	return f
}
