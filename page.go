package alder

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// This layer knows the bytes of one page and nothing else: not where the page lies, not which tree it is part
// of, not whether it is mapped or dirty. A page has one form everywhere; the writer edits copies of it in
// place. docs/format.md has the tables, and a test holds them against the constants below.
//
// Invariants of a page that validate has accepted: count slots fit behind the header, every cell lies inside
// the page and behind the slots, and every length stored in a cell keeps it there. Accessors rely on that
// and check nothing again.

type (
	pgid uint64 // number of a page; its offset is pgid × page size
	txid uint64 // number of a write transaction, consecutive
	page []byte // one page, or the smaller image of an inline bucket
)

// pageRef says where a page is and which version of it is meant: a page whose header has another birth is a
// lost or misdirected write.
type pageRef struct {
	id    pgid
	birth txid
}

const (
	minPageSize = 4096
	maxPageSize = 65536

	// The limits of the 48-bit fields in branch entries and overflow references.
	maxPgid  = 1<<48 - 1
	maxTxid  = 1<<48 - 1
	maxCount = 1<<47 - 1
)

// Page header.
const (
	offChecksum  = 0                     // xxhash64 of everything behind it
	offPgid      = offChecksum + 8       // own number
	offBirth     = offPgid + 8           // transaction that wrote it
	offKind      = offBirth + 8          // pageKind
	offFlags     = offKind + 1           // leaf: which lengths the cells carry
	offCount     = offFlags + 1          // number of slots
	offPrefixLen = offCount + 2          // bytes that all keys share and heads skip
	offKeySize   = offPrefixLen + 2      // leaf without flagKeyLen: length of every key
	offValueSize = offKeySize + 2        // leaf without flagValueLen: length of every value
	offCellBytes = offValueSize + 2      // bytes of the cell area, which ends at the end of the page
	offGarbage   = offCellBytes + 2      // bytes of the cell area that belong to no cell
	offReserved  = offGarbage + 2        // zero
	pageHeader   = offReserved + 2       // first slot
	offRunLength = offPrefixLen          // overflow: 8 bytes, length of the data behind the header
	runEnd       = offRunLength + 8      // overflow: end of what the header uses
	_            = uint(40 - pageHeader) // the header is 40 bytes
	_            = uint(pageHeader - 40)
	_            = uint(pageHeader - runEnd)
)

type pageKind uint8

const (
	kindMeta     pageKind = 1
	kindOwner    pageKind = 2
	kindBranch   pageKind = 3
	kindLeaf     pageKind = 4
	kindOverflow pageKind = 5
	kindMapIndex pageKind = 6
	kindMapBits  pageKind = 7
)

func (k pageKind) String() string {
	switch k {
	case kindMeta:
		return "meta"
	case kindOwner:
		return "owner"
	case kindBranch:
		return "branch"
	case kindLeaf:
		return "leaf"
	case kindOverflow:
		return "overflow"
	case kindMapIndex:
		return "map index"
	case kindMapBits:
		return "map bits"
	}
	return "unknown"
}

// Leaf flags. A length that all cells of a leaf share stands once in the header and not in the cells.
const (
	flagKeyLen    = 1 << 0 // cells carry the key's length
	flagValueLen  = 1 << 1 // cells carry the value's length
	flagCellFlags = 1 << 2 // cells carry a byte of cell flags
	leafFlagsMask = flagKeyLen | flagValueLen | flagCellFlags
)

// Cell flags.
const (
	cellBucket        = 1 << 0 // the value is a bucket header, perhaps with an inline page
	cellOverflowKey   = 1 << 1 // the stored key is a prefix and a reference to the whole key
	cellOverflowValue = 1 << 2 // the stored value is a reference
	cellFlagsMask     = cellBucket | cellOverflowKey | cellOverflowValue
)

const (
	headSize   = 4  // key head: the four bytes after the page's prefix, big-endian, zero-padded
	offsetSize = 2  // offset of the cell
	childSize  = 18 // branch: pgid, birth, count, 48 bits each
	leafSlot   = headSize + offsetSize
	branchSlot = headSize + offsetSize + childSize

	refSize      = 16 // overflow reference: pgid 48 bits, birth 48 bits, length 32 bits
	inlinePrefix = 64 // bytes of an overflow key that stay in the page, before the reference

	// maxOverflowPrefix bounds the prefix of a page with overflow keys, so that their heads lie within what is inline.
	maxOverflowPrefix = inlinePrefix - headSize

	// countRefs is the top bit of the 48-bit count in a branch entry: some leaf below holds cells with flags, so that
	// freeing the subtree must look into its leaves.
	countRefs = 1 << 47
)

var le = binary.LittleEndian

func load48(b []byte) uint64 {
	return uint64(le.Uint32(b)) | uint64(le.Uint16(b[4:]))<<32
}

func store48(b []byte, v uint64) {
	le.PutUint32(b, uint32(v))
	le.PutUint16(b[4:], uint16(v>>32))
}

// ---- header

func (p page) id() pgid         { return pgid(le.Uint64(p[offPgid:])) }
func (p page) birth() txid      { return txid(le.Uint64(p[offBirth:])) }
func (p page) ref() pageRef     { return pageRef{p.id(), p.birth()} }
func (p page) kind() pageKind   { return pageKind(p[offKind]) }
func (p page) flags() uint8     { return p[offFlags] }
func (p page) count() int       { return int(le.Uint16(p[offCount:])) }
func (p page) prefixLen() int   { return int(le.Uint16(p[offPrefixLen:])) }
func (p page) cellBytes() int   { return int(le.Uint16(p[offCellBytes:])) }
func (p page) garbage() int     { return int(le.Uint16(p[offGarbage:])) }
func (p page) runLength() int64 { return int64(le.Uint64(p[offRunLength:])) }
func (p page) isBranch() bool   { return p.kind() == kindBranch }

func (p page) setRef(r pageRef) {
	le.PutUint64(p[offPgid:], uint64(r.id))
	le.PutUint64(p[offBirth:], uint64(r.birth))
}
func (p page) setKind(k pageKind)   { p[offKind] = byte(k) }
func (p page) setCount(n int)       { le.PutUint16(p[offCount:], uint16(n)) }
func (p page) setPrefixLen(n int)   { le.PutUint16(p[offPrefixLen:], uint16(n)) }
func (p page) setCellBytes(n int)   { le.PutUint16(p[offCellBytes:], uint16(n)) }
func (p page) setGarbage(n int)     { le.PutUint16(p[offGarbage:], uint16(n)) }
func (p page) setRunLength(n int64) { le.PutUint64(p[offRunLength:], uint64(n)) }

// clearHeader makes p a page of the given kind and version with no content.
func (p page) clearHeader(k pageKind, r pageRef) {
	clear(p[:pageHeader])
	p.setRef(r)
	p.setKind(k)
}

func (p page) seal()        { le.PutUint64(p, xxhash.Sum64(p[offPgid:])) }
func (p page) sealed() bool { return le.Uint64(p) == xxhash.Sum64(p[offPgid:]) }

// sealRun puts the checksum of an overflow run, header and data, into its header.
func sealRun(header page, data []byte) {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(header[offPgid:pageHeader])
	_, _ = d.Write(data)
	le.PutUint64(header, d.Sum64())
}

// slotSize is the number of bytes one slot takes in p.
func (p page) slotSize() int {
	if p.isBranch() {
		return branchSlot
	}
	return leafSlot
}

// space is the number of contiguous free bytes between the slots and the cells.
func (p page) space() int {
	return len(p) - pageHeader - p.count()*p.slotSize() - p.cellBytes()
}

// used is the number of bytes that slots and live cells take.
func (p page) used() int {
	return p.count()*p.slotSize() + p.cellBytes() - p.garbage()
}

// ---- heads

// head is the sort key of b: its first four bytes as an integer that orders like them.
func head(b []byte) uint32 {
	if len(b) >= 4 {
		return binary.BigEndian.Uint32(b)
	}
	var h uint32
	for i, c := range b {
		h |= uint32(c) << (24 - 8*i)
	}
	return h
}

// headAfter is the head of key behind the first n bytes.
func headAfter(key []byte, n int) uint32 {
	if len(key) <= n {
		return 0
	}
	return head(key[n:])
}

func (p page) head(i int) uint32 { return le.Uint32(p[pageHeader+i*headSize:]) }

func (p page) setHead(i int, h uint32) { le.PutUint32(p[pageHeader+i*headSize:], h) }

func (p page) cellOffset(i, n int) int {
	return int(le.Uint16(p[pageHeader+n*headSize+i*offsetSize:]))
}

func (p page) setCellOffset(i, n, off int) {
	le.PutUint16(p[pageHeader+n*headSize+i*offsetSize:], uint16(off))
}

// below is -1, which has all bits set, if a < b, and else 0. It takes the place of a branch that the processor could not foresee.
func below(a, b uint32) int { return int((int64(a) - int64(b)) >> 63) }

// lowerHead is the first slot in [from, n) whose head is not below h. It guesses by interpolation between the outer heads, and looks at
// the eight slots around the guess; if the answer lies elsewhere, a binary search of what is left finds it. So no key set costs more
// than a binary search and four steps. What is decided by the keys has no branches.
func (p page) lowerHead(from, n int, h uint32) int {
	const window = 8 // slots around the guess
	heads := p[pageHeader : pageHeader+n*headSize]
	lo, size := from, n-from
	if size > window {
		first, last := le.Uint32(heads[lo*headSize:]), le.Uint32(heads[(n-1)*headSize:])
		if h <= first {
			return lo
		}
		if h > last {
			return n
		}
		guess := lo + int(uint64(h-first)*uint64(size-1)/uint64(last-first))
		at := min(max(guess-window/2, lo), n-window)
		w := heads[at*headSize : at*headSize+window*headSize]
		switch {
		case le.Uint32(w) >= h:
			size = at - lo
		case le.Uint32(w[(window-1)*headSize:]) < h:
			lo = at + window
			size = n - lo
		default:
			// The answer is none of those before slot k, nor slot k itself.
			k := 4 & below(le.Uint32(w[4*headSize:]), h)
			k += 2 & below(le.Uint32(w[(k+2)*headSize:]), h)
			k += 1 & below(le.Uint32(w[(k+1)*headSize:]), h)
			return at + k + 1
		}
	}
	for size > 1 {
		half := size >> 1
		lo += half & below(le.Uint32(heads[(lo+half-1)*headSize:]), h)
		size -= half
	}
	if size > 0 {
		lo += 1 & below(le.Uint32(heads[lo*headSize:]), h)
	}
	return lo
}

// ---- overflow references

// maxRunLength is a length that no overflow run has, for it is longer than the longest value; it fits in an int of 32 bits.
const maxRunLength = 1<<31 - 1

// overflowRef points to a run of pages that holds one long key or value.
type overflowRef struct {
	pageRef
	length int
}

func loadRef(b []byte) overflowRef {
	return overflowRef{
		pageRef{pgid(load48(b)), txid(load48(b[6:]))},
		int(min(le.Uint32(b[12:]), maxRunLength)),
	}
}

func (r overflowRef) store(b []byte) {
	store48(b, uint64(r.id))
	store48(b[6:], uint64(r.birth))
	le.PutUint32(b[12:], uint32(r.length))
}

// runPages is the number of pages of size ps that a run with length bytes of data takes.
func runPages(length, ps int) int {
	return int((int64(length) + pageHeader + int64(ps) - 1) / int64(ps)) // the sum need not fit in 32 bits
}

// keyRef is the reference in a stored overflow key.
func keyRef(stored []byte) overflowRef { return loadRef(stored[inlinePrefix:]) }

// corrupt returns a CorruptionError for page id.
func corrupt(id pgid, format string, args ...any) error {
	return &CorruptionError{Page: uint64(id), Detail: fmt.Sprintf(format, args...)}
}

// commonPrefix is the number of leading bytes that a and b share.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := le.Uint64(a[i:]) ^ le.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
