package alder

import "errors"

// Durable writes that go on beside the program, and whose end is noticed by whoever looks; see ring.go.

func (s *fileStorage) attendance() *attendance { return s.attended }

func (s *fileStorage) writeAttended(p []byte, off int64, beside func()) error {
	if err := s.checkWrite("durable write", p, off); err != nil {
		return err
	}
	if len(p) == 0 || !s.openRing() {
		return s.writeDurable(p, off)
	}
	d := s.durableFile()
	defer d.mu.Unlock()
	n, err := s.ring.write(d.f, p, off, beside)
	if errors.Is(err, errNotTaken) {
		s.notRing, n, err = true, 0, nil // the next ones will not be either
	}
	if err == nil && n < len(p) {
		_, err = d.f.WriteAt(p[n:], off+int64(n))
	}
	return s.opError("durable write", off, int64(len(p)), err)
}

// openRing makes the ring, once. False: there is none to be had.
func (s *fileStorage) openRing() bool {
	if s.ring != nil || s.notRing || s.attended == nil {
		return s.ring != nil && !s.notRing
	}
	s.notRing = true
	r, err := newRing(s.attended)
	if err != nil {
		return false
	}
	if r.watch() != nil {
		_ = r.close() // nothing was done with it
		return false
	}
	s.ring, s.notRing = r, false
	return true
}
