package alder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// How Salvage reads a damaged file: by ordinary reads, so that a part that cannot be read is an error of that read and nothing more; and
// trusting nothing but pages whose checksum, number and birth are what the reference to them says. No count or length that
// was read makes it allocate more than the file is long.

// salvageSource is the file that is salvaged.
type salvageSource struct {
	st       storage
	size     int64
	pageSize int
	shift    uint
	pages    pgid // whole ones in the file

	metas [metaSlots]*meta // the valid ones
	bad   [metaSlots]error // why the others are not
	m     *meta            // the newest of them

	// free has a bit for each page that the free map of m says is free, nil if that cannot be read; unsure has the chunks of the map, by
	// number, that cannot.
	free   []uint64
	unsure map[int]bool

	claimed []uint64 // pages that were taken for what they are, or have a wrong checksum
	stale   []uint64 // pages that hold an older version of what must be there
	waste   int64    // bytes that may still be read in order to verify runs that turn out to be bad
}

// pageClass is what the free map says of a page.
type pageClass byte

const (
	pageInUse   pageClass = iota // in the state of the meta
	pageUnknown                  // there is no map
	pageOld                      // free: an older version of something, or written for a transaction that did not become durable
)

// openSalvageSource reads the metas and the free map, as far as there are any.
func openSalvageSource(st storage) (*salvageSource, error) {
	s := &salvageSource{st: st, size: st.size(), unsure: map[int]bool{}}
	if err := s.readMetas(); err != nil {
		return nil, err
	}
	if s.pageSize == 0 {
		if err := s.guessPageSize(); err != nil {
			return nil, err
		}
	}
	for 1<<s.shift < s.pageSize {
		s.shift++
	}
	s.pages = pgid(s.size >> s.shift)
	s.claimed, s.stale = make([]uint64, s.pages/64+1), make([]uint64, s.pages/64+1)
	s.waste = 16 * s.size
	return s, nil
}

// readMetas takes each slot by itself, wherever a page size can put the second one.
func (s *salvageSource) readMetas() error {
	buf := make([]byte, metaSize)
	var newer error // a whole meta of another version of the format
	slot := func(off int64, i int) {
		if off+metaSize > s.size {
			if s.bad[i] == nil {
				s.bad[i] = fmt.Errorf("%w: the file has only %d bytes", ErrInvalid, s.size)
			}
			return
		}
		var m *meta
		err := s.st.readAt(buf, off)
		if err == nil {
			m, err = decodeMeta(buf, i)
		}
		if errors.Is(err, ErrVersionMismatch) && page(buf[:metaBytes]).sealed() {
			newer = err
		}
		if err == nil && off != int64(i)*int64(m.pageSize) {
			err = fmt.Errorf("%w: a meta of a store with another page size", ErrInvalid)
		}
		if err == nil {
			s.metas[i], s.bad[i] = m, nil
		} else if !errors.Is(s.bad[i], ErrVersionMismatch) { // not for what lies where slot 1 of another page size would be
			s.bad[i] = err
		}
	}
	slot(0, 0)
	if s.size >= metaSize && isBoltMeta(buf) {
		return fmt.Errorf("%w: %w; salvage reads alder stores only", ErrInvalid, ErrBoltFile)
	}
	if s.size >= metaSize && bytes.HasPrefix(buf, creationMarker[:]) {
		s.bad[0] = nil // not written yet
	}
	if s.metas[0] != nil {
		s.pageSize = s.metas[0].pageSize
		slot(int64(s.pageSize), 1)
	}
	for ps := int64(minPageSize); ps <= maxPageSize && s.pageSize == 0; ps *= 2 {
		if slot(ps, 1); s.metas[1] != nil {
			s.pageSize = int(ps)
		}
	}
	for _, m := range s.metas {
		if m != nil && (s.m == nil || m.sequence > s.m.sequence) {
			s.m = m
		}
	}
	if s.m == nil && errors.Is(s.bad[0], ErrVersionMismatch) && errors.Is(s.bad[1], ErrVersionMismatch) {
		return s.bad[0]
	}
	return newer
}

// eachPart reads [off, off+n) in pieces as large as buf, smaller ones, down to the given size, where they cannot be read, and calls fn
// for each piece that can.
func (s *salvageSource) eachPart(off, n, least int64, buf []byte, fn func(off int64, part []byte) error) error {
	for n > 0 {
		part := buf[:min(int64(len(buf)), n)]
		if s.st.readAt(part, off) == nil {
			if err := fn(off, part); err != nil {
				return err
			}
		} else if int64(len(part)) > least {
			if err := s.eachPart(off, int64(len(part)), least, buf[:max(int64(len(buf)/2), least)], fn); err != nil {
				return err
			}
		}
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return nil
}

var errFound = errors.New("found")

// guessPageSize looks for the first page that is whole under any page size: its number says where it must lie.
func (s *salvageSource) guessPageSize() error {
	err := s.eachPart(0, s.size, minPageSize, make([]byte, salvageWindow), func(off int64, part []byte) error {
		for at := int64(0); at+minPageSize <= int64(len(part)); at += minPageSize {
			for ps := int64(minPageSize); ps <= maxPageSize && at+ps <= int64(len(part)); ps *= 2 {
				p := page(part[at : at+ps])
				if p.id() >= firstPage && (off+at)%ps == 0 && uint64(p.id()) == uint64((off+at)/ps) && p.sealed() {
					s.pageSize = int(ps)
					return errFound
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return fmt.Errorf("%w: the file has neither a meta page nor any other whole page of an alder store", ErrInvalid)
}

// salvageWindow is how much is read at a time where a file is read from its beginning to its end.
const salvageWindow = 1 << 20

// readFreeMap reads the free map of m, as far as it can be read.
func (s *salvageSource) readFreeMap() error {
	m := s.m
	if m.highWater > 2*s.pages+1024 {
		return corrupt(m.mapRoot.id, "free map is for %d pages, the file has only %d", m.highWater, s.pages)
	}
	fl := newFreelist(s.pageSize, func(r pageRef, k pageKind) (page, error) {
		p := make(page, s.pageSize)
		if err := s.readTo(p, r.id); err != nil {
			return nil, err
		}
		switch {
		case p.birth() != r.birth || p.id() != r.id:
			return nil, strayPage(p, r)
		case p.kind() != k:
			return nil, corrupt(r.id, "found a %v page where the free map has a %v page", p.kind(), k)
		case !p.sealed():
			return nil, corrupt(r.id, "checksum does not match")
		}
		s.claim(r.id, 1)
		return p, nil
	})
	if err := fl.open(m); err != nil {
		return err
	}
	s.free = make([]uint64, s.pages/64+1)
	span := mapSpan(s.pageSize)
	var bad error
	for i := range fl.chunks {
		ch, err := fl.chunk(i)
		if err != nil {
			s.unsure[i] = true
			bad = errors.Join(bad, err)
			continue
		}
		for w, word := range ch.words {
			if at := i*span/64 + w; at < len(s.free) {
				s.free[at] = word
			}
		}
		ch.words = nil
	}
	return bad
}

// class says whether page id is part of the state of the meta.
func (s *salvageSource) class(id pgid) pageClass {
	switch {
	case s.m == nil || s.free == nil || s.unsure[int(id)/mapSpan(s.pageSize)]:
		return pageUnknown
	case id >= s.m.highWater || (s.free[id/64]|s.stale[id/64])>>(id%64)&1 != 0:
		return pageOld
	}
	return pageInUse
}

// claim notes that n pages from id on, which lie in the file, are taken, and reports whether none of them was.
func (s *salvageSource) claim(id pgid, n int) bool {
	for k := id; k < id+pgid(n); k++ {
		if s.taken(k) {
			return false
		}
	}
	for k := id; k < id+pgid(n); k++ {
		s.claimed[k/64] |= 1 << (k % 64)
	}
	return true
}

func (s *salvageSource) taken(id pgid) bool { return s.claimed[id/64]>>(id%64)&1 != 0 }

// isStale notes that another version than the one that lies at r must be there.
func (s *salvageSource) isStale(r pageRef, p page) {
	if r.id < s.pages && p.id() == r.id && p.birth() != r.birth {
		s.stale[r.id/64] |= 1 << (r.id % 64)
	}
}

func (s *salvageSource) unclaim(id pgid) { s.claimed[id/64] &^= 1 << (id % 64) }

func (s *salvageSource) readTo(p page, id pgid) error {
	if id < firstPage || id >= s.pages {
		return corrupt(id, "page is past the end of the file, which has %d pages", s.pages)
	}
	if err := s.st.readAt(p, int64(id)<<s.shift); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// readPage reads a tree page into p, which has what was read even if it is not the page that is meant.
func (s *salvageSource) readPage(r pageRef, p page) error {
	clear(p)
	if err := s.readTo(p, r.id); err != nil {
		return err
	}
	if p.birth() != r.birth || p.id() != r.id {
		return strayPage(p, r)
	}
	if s.taken(r.id) {
		return corrupt(r.id, "page is in use twice, or was found damaged before")
	}
	return s.whole(p)
}

// whole verifies what the header of a tree page does not say. A page with a wrong checksum is not looked at again.
func (s *salvageSource) whole(p page) error {
	if k := p.kind(); k != kindLeaf && k != kindBranch {
		return corrupt(p.id(), "found a page of kind %v where a leaf or branch must be", k)
	}
	if !p.sealed() {
		s.claim(p.id(), 1)
		return corrupt(p.id(), "checksum does not match")
	}
	return p.validate()
}

// runHeader reads and verifies the header of an overflow run, and returns the number of its pages.
func (s *salvageSource) runHeader(r overflowRef, header page) (int, error) {
	n := runPages(r.length, s.pageSize)
	if r.length == maxRunLength || r.id < firstPage || r.id >= s.pages || pgid(n) > s.pages-r.id {
		return 0, corrupt(r.id, "overflow run of %d bytes passes the end of the file, which has %d pages", r.length, s.pages)
	}
	if err := s.st.readAt(header, int64(r.id)<<s.shift); err != nil {
		return 0, fmt.Errorf("page %d: %w", r.id, err)
	}
	switch {
	case header.birth() != r.birth || header.id() != r.id || header.kind() != kindOverflow:
		return 0, strayPage(header, r.pageRef)
	case header.runLength() != int64(r.length):
		return 0, corrupt(r.id, "overflow run of %d bytes, its reference says %d", header.runLength(), r.length)
	case s.waste < 0:
		return 0, corrupt(r.id, "too many overflow runs are bad to look at another one")
	}
	return n, nil
}

// readRun reads the data of an overflow run into buf, which it grows.
func (s *salvageSource) readRun(r overflowRef, buf []byte) ([]byte, error) {
	var header [pageHeader]byte
	n, err := s.runHeader(r, header[:])
	if err != nil {
		return buf, err
	}
	if cap(buf) < r.length {
		buf = make([]byte, r.length)
	}
	buf = buf[:r.length]
	err = s.st.readAt(buf, int64(r.id)<<s.shift+pageHeader)
	if err == nil {
		var d xxhash.Digest
		d.Reset()
		_, _ = d.Write(header[offPgid:])
		_, _ = d.Write(buf)
		if d.Sum64() != binary.LittleEndian.Uint64(header[:]) {
			err = corrupt(r.id, "checksum of an overflow run of %d bytes does not match", r.length)
		}
	} else {
		err = fmt.Errorf("page %d: %w", r.id, err)
	}
	if err == nil && !s.claim(r.id, n) {
		err = corrupt(r.id, "pages of an overflow run are in use twice")
	}
	if err != nil {
		s.waste -= int64(r.length)
	}
	return buf, err
}

// skipRun returns the number of pages of the overflow run that begins with p, if it is whole, else 0. Its pages hold what a
// user has put, which may look like anything.
func (s *salvageSource) skipRun(p page, buf []byte) int {
	r := overflowRef{p.ref(), int(min(uint64(p.runLength()), maxRunLength))}
	var header [pageHeader]byte
	n, err := s.runHeader(r, header[:])
	if err != nil {
		return 0 // not a run
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(header[offPgid:])
	at, left := int64(r.id)<<s.shift+pageHeader, int64(r.length)
	for left > 0 {
		part := buf[:min(int64(len(buf)), left)]
		if s.st.readAt(part, at) != nil {
			break
		}
		_, _ = d.Write(part)
		at, left = at+int64(len(part)), left-int64(len(part))
	}
	if left > 0 || d.Sum64() != le.Uint64(header[:]) {
		s.waste -= int64(r.length)
		return 0
	}
	return n
}
