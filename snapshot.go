package alder

import (
	"sync/atomic"

	"github.com/alderdb/alder/internal/prefetch"
)

// One published state of the store, and how its pages are read: by their place, verified on their first use.

// snapshot is one published state of the store. It never changes.
type snapshot struct {
	id        txid
	root      pageRef // of the root bucket
	count     uint64
	sequence  uint64
	highWater pgid
	shift     uint // log2 of the page size
	m         *mapping
	data      []byte
	verified  *verifiedPages
	cold      *coldReads

	// The free map on disk that describes this snapshot; mapLevels is 0 if there is none, because it is not durable.
	mapRoot   pageRef
	mapLevels int
	mapFree   uint64

	treePages int // pages of trees and overflow runs

	opened *openedBuckets // nil where nothing is remembered
}

// publishedSnapshot is a snapshot with what it remembers, in one piece of memory.
type publishedSnapshot struct {
	snapshot
	buckets openedBuckets
}

// newSnapshot returns s in the form in which it is published.
func newSnapshot(s snapshot) *snapshot {
	p := &publishedSnapshot{snapshot: s}
	p.opened = &p.buckets
	return &p.snapshot
}

// openedBuckets remembers where readers of a snapshot have found top-level buckets. Most programs have a few, and open one in each
// transaction. A bucket that is stored inside its parent's leaf is not remembered, so that all this can pass to a copy of the snapshot
// with another mapping.
type openedBuckets [4]atomic.Pointer[openedBucket]

// openedBucket is what the cell of a bucket says.
type openedBucket struct {
	name     [32]byte
	nameLen  int
	root     pageRef
	count    uint64
	movedAt  txid
	sequence uint64
}

// recall returns the bucket of that name, nil if it is not remembered.
func (s *snapshot) recall(name []byte) *openedBucket {
	if s.opened == nil {
		return nil
	}
	for i := range s.opened {
		o := s.opened[i].Load()
		if o == nil || string(o.name[:o.nameLen]) == string(name) {
			return o
		}
	}
	return nil
}

// remember adds a bucket, if there is room for it and its name.
func (s *snapshot) remember(name []byte, o openedBucket) {
	if s.opened == nil || len(name) > len(o.name) || o.root.id == 0 {
		return
	}
	o.nameLen = copy(o.name[:], name)
	for i := range s.opened {
		if s.opened[i].CompareAndSwap(nil, &o) {
			return
		}
	}
}

// verifiedPages has a bit for each page whose checksum and structure have been verified since the store was opened, or which
// was written by this process. In cold mode they are forgotten now and then (cold.go).
type verifiedPages struct {
	words []uint64 // atomic
	never bool     // of a failed store: pages may change under it, so each is verified whenever it is read
}

func (v *verifiedPages) has(id pgid) bool {
	return !v.never && atomic.LoadUint64(&v.words[id>>6])>>(id&63)&1 != 0
}

func (v *verifiedPages) set(id pgid) {
	if !v.never {
		atomic.OrUint64(&v.words[id>>6], 1<<(id&63))
	}
}

// clear forgets all pages.
func (v *verifiedPages) clear() {
	for i := range v.words {
		atomic.StoreUint64(&v.words[i], 0)
	}
}

// covering returns v, or a larger copy of it that has bits for n pages. Bits that readers set in the old one meanwhile are
// lost; those pages are verified once more.
func (v *verifiedPages) covering(n pgid) *verifiedPages {
	if v != nil && (v.never || n <= pgid(len(v.words))*64) {
		return v
	}
	w := &verifiedPages{words: make([]uint64, (n+n/2)/64+16)}
	if v != nil {
		for i := range v.words {
			w.words[i] = atomic.LoadUint64(&v.words[i])
		}
	}
	return w
}

// raw returns n pages from id on as they lie in the mapping.
func (s *snapshot) raw(id pgid, n int) page {
	off := uint64(id) << s.shift
	end := off + uint64(n)<<s.shift
	return page(s.data[off:end:end])
}

const (
	cacheLine  = 64            // of most processors
	firstLines = 4 * cacheLine // header and slots of a leaf with 36 cells
)

// readPage returns a leaf or branch page of the snapshot; see pageReader.
func (s *snapshot) readPage(r pageRef) (page, error) {
	if r.id >= s.highWater {
		return nil, corrupt(r.id, "page is past the end of the store, which has %d pages", s.highWater)
	}
	p := s.raw(r.id, 1)
	// Where in the page a search will look is known when the header has come. The next lines hold that in small pages, and part of it in large ones.
	prefetch.Bytes(p[cacheLine:firstLines])
	known := s.verified.has(r.id)
	if !known {
		s.cold.fetch(int64(r.id)<<s.shift, 1<<s.shift)
	}
	if p.birth() != r.birth || p.id() != r.id {
		return nil, strayPage(p, r)
	}
	if k := p.kind(); k != kindLeaf && k != kindBranch {
		return nil, corrupt(r.id, "found a page of kind %v where a leaf or branch must be", k)
	}
	if !known {
		if err := s.verify(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func strayPage(p page, r pageRef) error {
	return corrupt(r.id, "found page %d of transaction %d where page %d of transaction %d must be: a write was lost or misdirected",
		p.id(), p.birth(), r.id, r.birth)
}

// verify checks a tree page on its first use.
func (s *snapshot) verify(p page) error {
	if !p.sealed() {
		return corrupt(p.id(), "checksum does not match")
	}
	if err := p.validate(); err != nil {
		return err
	}
	s.verified.set(p.id())
	return nil
}

// readRun returns the data of an overflow run; see pageReader.
func (s *snapshot) readRun(r overflowRef) ([]byte, error) {
	n := runPages(r.length, 1<<s.shift)
	if r.length == maxRunLength {
		return nil, corrupt(r.id, "reference to an overflow run that is longer than the longest value")
	}
	if r.id < firstPage || r.id >= s.highWater || uint64(n) > uint64(s.highWater-r.id) {
		return nil, corrupt(r.id, "overflow run of %d pages passes the end of the store, which has %d", n, s.highWater)
	}
	p := s.raw(r.id, n)
	known := s.verified.has(r.id)
	if !known {
		s.cold.fetch(int64(r.id)<<s.shift, int64(n)<<s.shift)
	}
	if p.birth() != r.birth || p.id() != r.id || p.kind() != kindOverflow {
		return nil, strayPage(p, r.pageRef)
	}
	if p.runLength() != int64(r.length) {
		return nil, corrupt(r.id, "overflow run of %d bytes, its reference says %d", p.runLength(), r.length)
	}
	end := pageHeader + r.length
	if !known {
		if !p[:end].sealed() {
			return nil, corrupt(r.id, "checksum of an overflow run of %d bytes does not match", r.length)
		}
		s.verified.set(r.id)
	}
	return p[pageHeader:end:end], nil
}

// readMap returns a page of the free map.
func (s *snapshot) readMap(r pageRef, k pageKind) (page, error) {
	if r.id < firstPage || r.id >= s.highWater {
		return nil, corrupt(r.id, "page of the free map is past the end of the store, which has %d pages", s.highWater)
	}
	p := s.raw(r.id, 1)
	if p.birth() != r.birth || p.id() != r.id {
		return nil, strayPage(p, r)
	}
	if p.kind() != k {
		return nil, corrupt(r.id, "found a %v page where the free map has a %v page", p.kind(), k)
	}
	if !p.sealed() {
		return nil, corrupt(r.id, "checksum does not match")
	}
	return p, nil
}
