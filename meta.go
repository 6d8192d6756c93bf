package alder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// The meta pages are the roots of the store. There are exactly two slots, at pages 0 and 1; a slot is the first 4 KiB of its
// page, whatever the page size. A new meta goes into the slot that does not hold the newest durable one, never
// into "txid modulo 2": recovery and Close may repeat a txid. Metas are ordered by their own sequence number.

const (
	metaSlots = 2
	metaSize  = 4096 // bytes of a slot, written in one durable write

	// metaBytes is the part of a slot that counts: one sector, which a power cut leaves old, new or as garbage. A meta of
	// several sectors could be torn by one power cut and completed by the next one, out of the same bytes of a later
	// meta, when what it points to has been overwritten. The rest of the slot is zero and never read.
	metaBytes = 512
	ownerPage = pgid(metaSlots)
	firstPage = ownerPage + 1 // first page that can be allocated

	formatVersion = 3 // 2 knows no lines, and has a free map from the begin
	oldestVersion = 1 // has no redo log; the fields for it are zero

	maxMapLevels = 6 // levels of the free map that any store can have
)

var metaMagic = [8]byte{'a', 'l', 'd', 'e', 'r', 'k', 'v', 0}

// Meta slot, behind the common page header (whose birth is the txid).
const (
	offMetaMagic      = pageHeader
	offMetaVersion    = offMetaMagic + 8
	offMetaPageSize   = offMetaVersion + 4
	offMetaFileID     = offMetaPageSize + 4
	offMetaSequence   = offMetaFileID + 16
	offMetaTxid       = offMetaSequence + 8
	offMetaRootPgid   = offMetaTxid + 8
	offMetaRootBirth  = offMetaRootPgid + 8
	offMetaRootCount  = offMetaRootBirth + 8
	offMetaRootSeq    = offMetaRootCount + 8
	offMetaHighWater  = offMetaRootSeq + 8
	offMetaFileLength = offMetaHighWater + 8
	offMetaMapPgid    = offMetaFileLength + 8
	offMetaMapBirth   = offMetaMapPgid + 8
	offMetaMapFree    = offMetaMapBirth + 8
	offMetaMapLevels  = offMetaMapFree + 8
	offMetaFlags      = offMetaMapLevels + 4
	offMetaLogPgid    = offMetaFlags + 4
	offMetaLogOffset  = offMetaLogPgid + 8
	offMetaLogSalt    = offMetaLogOffset + 8
	offMetaEpoch      = offMetaLogSalt + 8
	offMetaReaders    = offMetaEpoch + 8
	offMetaLogPages   = offMetaReaders + 16
	offMetaLogSum     = offMetaLogPages + 8
	offMetaMoves      = offMetaLogSum + 8
	offMetaSurvived   = offMetaMoves + 8
	offMetaPlace      = offMetaSurvived + 8*survivedEpochs
	offMetaLines      = offMetaPlace + 8
	offMetaFolded     = offMetaLines + metaLine*knownLines
	offMetaReserved   = offMetaFolded + 16

	_ = uint(metaBytes - offMetaReserved) // a meta fits in its sector
)

// survivedEpochs is the number of epochs before the present one of which it is known how far they reach.
const survivedEpochs = 8

const (
	knownLines = 8  // lines before the present one of which it is known how far they reach: see lines.go
	metaLine   = 16 // bytes of each: its number and its last transaction

	copyPlace = 0 // the place of a copy, which nobody has opened for writing yet
)

// pastLine is a line on which a store was before; last is its last transaction that is part of the store. last == 0: none.
type pastLine struct {
	line uint32
	last txid
}

// foldedRange are the transactions behind from and before to, which diffs brought into the file as one: its pages do not tell which of them has changed them
// last, so that no diff can begin with one of them. to == 0: none.
type foldedRange struct{ from, to txid }

// fold adds the transactions of a diff.
func (f foldedRange) fold(from, to txid) foldedRange {
	if from >= to {
		return f
	}
	if f.to > 0 {
		from = min(from, f.from)
	}
	return foldedRange{from, max(to, f.to)}
}

const (
	metaClean = 1 << 0 // the store was closed in order: its log holds nothing to replay
	metaHoles = 1 << 1 // free pages may have no blocks of their own
)

type meta struct {
	pageSize    int
	fileID      [16]byte
	sequence    uint64 // orders metas; each is one above the one that was chosen at open or written last
	txid        txid
	root        pageRef
	rootCount   uint64 // keys in the root bucket
	rootSeq     uint64
	highWater   pgid // first page not allocated
	fileLength  int64
	mapRoot     pageRef
	mapFree     uint64 // pages free in the map
	mapLevels   int
	clean       bool
	holes       bool // free pages may have no blocks of their own
	logBegin    pgid // run in which the log begins; 0: no log
	logOffset   uint64
	logSalt     uint64
	logPages    int                  // of the run
	logPrevious uint64               // checksum of the frame before the begin
	epoch       uint64               // line, and number of recoveries that replayed or dropped something; with txid, the identity of a snapshot
	readers     [16]byte             // reserved for the identity of a table of readers in other processes
	survived    [survivedEpochs]txid // the last transaction of each epoch before, the newest first, that the recovery after it has found; 0: not known
	moves       uint64               // the last transactions, so many, changed nothing of what the store holds, but moved pages
	place       uint64               // which file it was when the meta was written: see storage.go
	lines       [knownLines]pastLine // the newest first
	folded      foldedRange
}

// unchangedSince is the first transaction after which the store holds what the meta describes.
func (m *meta) unchangedSince() txid { return m.txid - txid(m.moves) }

func (m *meta) flags() (flags uint32) {
	if m.clean {
		flags |= metaClean
	}
	if m.holes {
		flags |= metaHoles
	}
	return flags
}

// encode fills buf, one slot, for slot i.
func (m *meta) encode(buf []byte, i int) {
	clear(buf[:metaSize])
	p := page(buf[:metaBytes])
	p.clearHeader(kindMeta, pageRef{pgid(i), m.txid})
	copy(p[offMetaMagic:], metaMagic[:])
	le.PutUint32(p[offMetaVersion:], formatVersion)
	le.PutUint32(p[offMetaPageSize:], uint32(m.pageSize))
	copy(p[offMetaFileID:], m.fileID[:])
	le.PutUint64(p[offMetaSequence:], m.sequence)
	le.PutUint64(p[offMetaTxid:], uint64(m.txid))
	le.PutUint64(p[offMetaRootPgid:], uint64(m.root.id))
	le.PutUint64(p[offMetaRootBirth:], uint64(m.root.birth))
	le.PutUint64(p[offMetaRootCount:], m.rootCount)
	le.PutUint64(p[offMetaRootSeq:], m.rootSeq)
	le.PutUint64(p[offMetaHighWater:], uint64(m.highWater))
	le.PutUint64(p[offMetaFileLength:], uint64(m.fileLength))
	le.PutUint64(p[offMetaMapPgid:], uint64(m.mapRoot.id))
	le.PutUint64(p[offMetaMapBirth:], uint64(m.mapRoot.birth))
	le.PutUint64(p[offMetaMapFree:], m.mapFree)
	le.PutUint32(p[offMetaMapLevels:], uint32(m.mapLevels))
	le.PutUint32(p[offMetaFlags:], m.flags())
	le.PutUint64(p[offMetaLogPgid:], uint64(m.logBegin))
	le.PutUint64(p[offMetaLogOffset:], m.logOffset)
	le.PutUint64(p[offMetaLogSalt:], m.logSalt)
	le.PutUint64(p[offMetaEpoch:], m.epoch)
	copy(p[offMetaReaders:], m.readers[:])
	le.PutUint64(p[offMetaLogPages:], uint64(m.logPages))
	le.PutUint64(p[offMetaLogSum:], m.logPrevious)
	le.PutUint64(p[offMetaMoves:], m.moves)
	for i, id := range m.survived {
		le.PutUint64(p[offMetaSurvived+8*i:], uint64(id))
	}
	le.PutUint64(p[offMetaPlace:], m.place)
	for i, l := range m.lines {
		le.PutUint64(p[offMetaLines+metaLine*i:], uint64(l.line))
		le.PutUint64(p[offMetaLines+metaLine*i+8:], uint64(l.last))
	}
	le.PutUint64(p[offMetaFolded:], uint64(m.folded.from))
	le.PutUint64(p[offMetaFolded+8:], uint64(m.folded.to))
	p.seal()
}

// decodeMeta reads slot i. A slot that holds no valid meta is an error that matches ErrInvalid (not ours), ErrVersionMismatch or
// ErrChecksum.
func decodeMeta(buf []byte, i int) (*meta, error) {
	p := page(buf[:metaBytes])
	if [8]byte(p[offMetaMagic:offMetaVersion]) != metaMagic {
		return nil, ErrInvalid
	}
	if v := le.Uint32(p[offMetaVersion:]); v < oldestVersion || v > formatVersion {
		return nil, fmt.Errorf("%w: the file has format version %d, this program reads versions %d to %d", ErrVersionMismatch, v, oldestVersion, formatVersion)
	}
	if !p.sealed() {
		return nil, ErrChecksum
	}
	m := &meta{
		pageSize:   int(le.Uint32(p[offMetaPageSize:])),
		fileID:     [16]byte(p[offMetaFileID:]),
		sequence:   le.Uint64(p[offMetaSequence:]),
		txid:       txid(le.Uint64(p[offMetaTxid:])),
		root:       pageRef{pgid(le.Uint64(p[offMetaRootPgid:])), txid(le.Uint64(p[offMetaRootBirth:]))},
		rootCount:  le.Uint64(p[offMetaRootCount:]),
		rootSeq:    le.Uint64(p[offMetaRootSeq:]),
		highWater:  pgid(le.Uint64(p[offMetaHighWater:])),
		fileLength: int64(le.Uint64(p[offMetaFileLength:])),
		mapRoot:    pageRef{pgid(le.Uint64(p[offMetaMapPgid:])), txid(le.Uint64(p[offMetaMapBirth:]))},
		mapFree:    le.Uint64(p[offMetaMapFree:]),
		mapLevels:  int(le.Uint32(p[offMetaMapLevels:])),
		clean:      le.Uint32(p[offMetaFlags:])&metaClean != 0,
		holes:      le.Uint32(p[offMetaFlags:])&metaHoles != 0,
		logBegin:   pgid(le.Uint64(p[offMetaLogPgid:])),
		logOffset:  le.Uint64(p[offMetaLogOffset:]),
		logSalt:    le.Uint64(p[offMetaLogSalt:]),
		epoch:      le.Uint64(p[offMetaEpoch:]),
		readers:    [16]byte(p[offMetaReaders:]),
		logPages:   int(min(le.Uint64(p[offMetaLogPages:]), uint64(maxRunLength))), logPrevious: le.Uint64(p[offMetaLogSum:]),
		moves: le.Uint64(p[offMetaMoves:]), place: le.Uint64(p[offMetaPlace:]),
	}
	for i := range m.survived {
		m.survived[i] = txid(le.Uint64(p[offMetaSurvived+8*i:]) & maxTxid)
	}
	for i := range m.lines {
		b := p[offMetaLines+metaLine*i:]
		m.lines[i] = pastLine{uint32(le.Uint64(b)), txid(le.Uint64(b[8:]) & maxTxid)}
	}
	m.folded = foldedRange{txid(le.Uint64(p[offMetaFolded:]) & maxTxid), txid(le.Uint64(p[offMetaFolded+8:]) & maxTxid)}
	if p.kind() != kindMeta || p.id() != pgid(i) {
		return nil, corrupt(pgid(i), "meta slot %d holds a %v that says it is page %d", i, p.kind(), p.id())
	}
	return m, m.validate(i)
}

func validPageSize(n int) bool {
	return n >= minPageSize && n <= maxPageSize && n&(n-1) == 0
}

func (m *meta) validate(slot int) error {
	id := pgid(slot)
	switch {
	case !validPageSize(m.pageSize):
		return corrupt(id, "meta: page size is %d, must be a power of two from %d to %d", m.pageSize, minPageSize, maxPageSize)
	case m.highWater < firstPage || m.highWater > maxPgid:
		return corrupt(id, "meta: high water mark is %d", m.highWater)
	case m.fileLength < 0 || uint64(m.highWater) > uint64(m.fileLength)/uint64(m.pageSize):
		return corrupt(id, "meta: file length is %d, the high water mark is %d pages of %d bytes", m.fileLength, m.highWater, m.pageSize)
	case m.root.id < firstPage || m.root.id >= m.highWater || m.root.birth > m.txid:
		return corrupt(id, "meta: root page is %d of transaction %d, pages end at %d and transactions at %d", m.root.id, m.root.birth, m.highWater, m.txid)
	case m.mapLevels == 0 && (m.mapRoot != pageRef{} || m.mapFree != 0 || m.highWater != firstPage+1):
		return corrupt(id, "meta: no free map, but it is not a new store")
	case m.mapLevels != 0 && (m.mapRoot.id < firstPage || m.mapRoot.id >= m.highWater || m.mapLevels < 1 || m.mapLevels > maxMapLevels):
		return corrupt(id, "meta: free map is at page %d with %d levels", m.mapRoot.id, m.mapLevels)
	case m.logBegin != 0 && (m.logBegin < firstPage || m.logBegin > maxPgid || m.logPages < 1):
		return corrupt(id, "meta: the redo log is in %d pages from page %d on", m.logPages, m.logBegin)
	case m.txid > maxTxid:
		return corrupt(id, "meta: txid is %d", m.txid)
	case m.moves > uint64(m.txid):
		return corrupt(id, "meta: the last %d transactions moved pages, but there are only %d", m.moves, m.txid)
	}
	return nil
}

// chosenMeta is the result of readMetas.
type chosenMeta struct {
	meta *meta
	slot int
}

// readMetas reads both slots and chooses the valid meta of the highest sequence. The page size is not known before, so the
// second slot is looked for wherever a page size can put it.
func readMetas(st interface {
	readAt(p []byte, off int64) error
	size() int64
}) (chosenMeta, error) {
	size := st.size()
	if size < metaSize {
		return chosenMeta{}, fmt.Errorf("%w: the file has %d bytes, less than a meta page", ErrInvalid, size)
	}
	buf := make([]byte, metaSize)
	// read returns nil, nil where slot i, if it is at off, holds no valid meta; why says why not.
	read := func(off int64, i int) (m *meta, why, err error) {
		if off+metaSize > size {
			return nil, ErrInvalid, nil
		}
		if err := st.readAt(buf, off); err != nil {
			return nil, nil, fmt.Errorf("reading meta page %d: %w", i, err)
		}
		m, why = decodeMeta(buf, i)
		if why == nil && off != int64(i)*int64(m.pageSize) {
			why = ErrInvalid // a meta of a store with another page size, in a page of this one
		}
		if errors.Is(why, ErrVersionMismatch) && page(buf[:metaBytes]).sealed() {
			// A whole meta of another version: the other slot may be valid, and older.
			return nil, nil, why
		}
		if errors.Is(why, ErrCorrupt) {
			// Whole, but not to be believed. The other slot is older, and what it leads to may be overwritten.
			return nil, nil, why
		}
		if why != nil {
			return nil, why, nil
		}
		return m, nil, nil
	}
	// A slot that cannot be read may hold the newest meta: there is no going on without it.
	first, why, err := read(0, 0)
	if err != nil {
		return chosenMeta{}, err
	}
	bolt := isBoltMeta(buf)
	if first != nil {
		second, _, err := read(int64(first.pageSize), 1)
		if err != nil {
			return chosenMeta{}, err
		}
		if second != nil && second.sequence > first.sequence {
			return chosenMeta{second, 1}, nil
		}
		return chosenMeta{first, 0}, nil
	}
	// The first one found is the right one: what lies before it is part of page 0.
	for ps := int64(minPageSize); ps <= maxPageSize; ps *= 2 {
		second, _, err := read(ps, 1)
		if err != nil {
			return chosenMeta{}, err
		}
		if second != nil {
			return chosenMeta{second, 1}, nil
		}
	}
	switch {
	case bolt:
		return chosenMeta{}, fmt.Errorf("%w: %w; copy it with bench/frombbolt of alder's repository, or bucket by bucket in a program that opens both", ErrInvalid, ErrBoltFile)
	case why == ErrChecksum:
		return chosenMeta{}, fmt.Errorf("%w: %w: neither meta page is intact", &CorruptionError{Page: 0, Detail: "meta"}, ErrChecksum)
	case why == ErrInvalid:
		return chosenMeta{}, fmt.Errorf("%w: the file is not an alder store", ErrInvalid)
	}
	return chosenMeta{}, why
}

// isBoltMeta recognises the first page of a bbolt store: its magic number lies behind a 16-byte page header.
func isBoltMeta(buf []byte) bool { return le.Uint32(buf[16:]) == 0xED0CDAED }

func newFileID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails, by its documentation
	return id
}

// ---- owner page

// The owner page says who opened the store for writing last, for the error that the next opener gets. It is written without sync
// and nothing depends on it.
const (
	offOwnerPid     = pageHeader
	offOwnerStarted = offOwnerPid + 8
	offOwnerHostLen = offOwnerStarted + 8
	offOwnerHost    = offOwnerHostLen + 2
	maxOwnerHost    = 255
	offOwnerFailed  = offOwnerHost + maxOwnerHost
)

// encodeOwner fills buf, a page, with this process, and with whether the store has failed in it.
func encodeOwner(buf []byte, started time.Time, failed bool) {
	p := page(buf)
	clear(p)
	p.clearHeader(kindOwner, pageRef{ownerPage, 0})
	host, _ := os.Hostname()
	host = host[:min(len(host), maxOwnerHost)]
	le.PutUint64(p[offOwnerPid:], uint64(os.Getpid()))
	le.PutUint64(p[offOwnerStarted:], uint64(started.UnixNano()))
	le.PutUint16(p[offOwnerHostLen:], uint16(len(host)))
	copy(p[offOwnerHost:], host)
	if failed {
		p[offOwnerFailed] = 1
	}
	p.seal()
}

// ownerFailed reports whether the store has failed in the process that an owner page tells of.
func ownerFailed(p page) bool {
	return p.kind() == kindOwner && p.sealed() && p[offOwnerFailed] == 1
}

// describeOwner reads the owner page of a store that somebody else has locked; it is empty when nothing is known.
func describeOwner(r io.ReaderAt, size int64) string {
	c, err := readMetas(ownerReader{r, size})
	if err != nil {
		return ""
	}
	buf := make([]byte, c.meta.pageSize)
	if _, err := r.ReadAt(buf, int64(ownerPage)*int64(c.meta.pageSize)); err != nil {
		return ""
	}
	p := page(buf)
	n := int(le.Uint16(p[offOwnerHostLen:]))
	if p.kind() != kindOwner || !p.sealed() || n > maxOwnerHost {
		return ""
	}
	started := time.Unix(0, int64(le.Uint64(p[offOwnerStarted:])))
	return fmt.Sprintf("process %d on host %q, since %s", le.Uint64(p[offOwnerPid:]), p[offOwnerHost:offOwnerHost+n],
		started.Format(time.RFC3339))
}

// ownerReader lets readMetas read a file that is not open as a store.
type ownerReader struct {
	r io.ReaderAt
	n int64
}

func (o ownerReader) size() int64 { return o.n }

func (o ownerReader) readAt(p []byte, off int64) error {
	_, err := o.r.ReadAt(p, off)
	return err
}
