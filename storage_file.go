package alder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// This layer is a store in a file: map it, write it, make it durable, make it longer. How it is opened stands in
// storage_open.go. It knows nothing of pages.
//
// Invariants:
//   - The mapping is for reading only; every write goes through a descriptor, so a stray write in the program cannot
//     reach the file.
//   - length never exceeds physical, the length of the file, and the current mapping reaches at least to length: grow stores the
//     mapping first. Who loads a snapshot and then the mapping finds all of the snapshot's pages in it.
//   - A mapping is released by unmap or by close, never by growth.

// fileStorage is a storage in a file.
type fileStorage struct {
	// Constant after open.
	path        string
	opts        fileOptions
	file        *os.File
	synchronous []*durableFile // none where the system has no such descriptors
	attended    *attendance    // nil without those, or if none is wanted

	// Atomic.
	current atomic.Pointer[mapping]
	length  atomic.Int64
	random  atomic.Pointer[os.File] // for reads ahead of the mapping; opened by the first

	// Writer only.
	physical  int64    // length of the file; more than length after a truncation that had to be put off
	direct    *os.File // reads past the page cache; opened by the first readMedium
	directBuf []byte
	notDirect bool // there are no direct reads here
	kept      bool // pages are locked in memory, if that was asked for

	// Of the one whose write is attended.
	ring    *ring // made by the first
	notRing bool  // there is none to be had

	syncing sync.Mutex // without synchronous descriptors: of syncs, as one at a time goes through a durableFile

	mu     sync.Mutex   // guards what follows
	old    []*mapping   // mappings that are no longer current and not yet unmapped
	over   func() error // releases the private mapping that was laid over the file; nil if there is none
	closed bool

	notRandom bool // there is no descriptor for reads ahead of the mapping
}

var (
	_ fetcher         = (*fileStorage)(nil)
	_ pacer           = (*fileStorage)(nil)
	_ placedStorage   = (*fileStorage)(nil)
	_ attendedStorage = (*fileStorage)(nil)
)

// zeros is what growth writes where the system cannot reserve blocks in another way.
var zeros [256 << 10]byte

func (s *fileStorage) mapping() *mapping { return s.current.Load() }

func (s *fileStorage) size() int64 { return s.length.Load() }

func (s *fileStorage) unmap(m *mapping) error {
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
	return s.opError("unmap", 0, int64(len(m.data)), unmapFile(m.data))
}

func (s *fileStorage) readAt(p []byte, off int64) error {
	err := io.ErrUnexpectedEOF
	if off+int64(len(p)) <= s.size() {
		if _, err = s.file.ReadAt(p, off); err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	return s.opError("read", off, int64(len(p)), err)
}

func (s *fileStorage) readMedium(p []byte, off int64) (ok bool, err error) {
	if !s.openDirect() {
		return false, nil
	}
	for len(p) > 0 {
		// Direct reads want an aligned buffer, which p need not be.
		part := s.directBuf[:min(len(p), len(s.directBuf))]
		n, err := s.direct.ReadAt(part, off)
		switch {
		case err != nil && isUnsupportedDirect(err):
			s.notDirect = true
			return false, nil
		case err == io.EOF:
			return false, s.opError("direct read", off, int64(len(part)), io.ErrUnexpectedEOF)
		case err != nil:
			return false, s.opError("direct read", off, int64(len(part)), err)
		}
		copy(p, part[:n])
		p, off = p[n:], off+int64(n)
	}
	return true, nil
}

// openDirect opens the descriptor for direct reads, once. False: there is none to be had.
func (s *fileStorage) openDirect() bool {
	if s.direct != nil || s.notDirect || directFlag == 0 {
		return s.direct != nil && !s.notDirect
	}
	s.notDirect = true
	f, err := s.reopen(os.O_RDONLY | directFlag)
	if err != nil {
		return false
	}
	buf, err := alignedBuffer(64 << 10)
	if err != nil {
		f.Close()
		return false
	}
	s.direct, s.directBuf, s.notDirect = f, buf, false
	return true
}

func (s *fileStorage) writeAt(p []byte, off int64) error {
	if err := s.checkWrite("write", p, off); err != nil {
		return err
	}
	_, err := s.file.WriteAt(p, off)
	return s.opError("write", off, int64(len(p)), err)
}

func (s *fileStorage) writeDurable(p []byte, off int64) error {
	if err := s.checkWrite("durable write", p, off); err != nil {
		return err
	}
	if len(s.synchronous) > 0 {
		d := s.durableFile()
		defer d.mu.Unlock()
		_, err := d.f.WriteAt(p, off)
		return s.opError("durable write", off, int64(len(p)), err)
	}
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if _, err := s.file.WriteAt(p, off); err != nil {
		return s.opError("durable write", off, int64(len(p)), err)
	}
	return s.opError("durable write", off, int64(len(p)), dataSync(s.file))
}

func (s *fileStorage) checkWrite(op string, p []byte, off int64) error {
	if s.opts.readOnly {
		return s.opError(op, off, int64(len(p)), ErrDatabaseReadOnly)
	}
	if off < 0 || off+int64(len(p)) > s.size() {
		panic(fmt.Sprintf("alder: %s of %d bytes at %d, outside the store's %d bytes", op, len(p), off, s.size()))
	}
	return nil
}

func (s *fileStorage) sync() error {
	if s.opts.readOnly {
		return s.opError("sync", 0, 0, dataSyncReadOnly(s.file))
	}
	if len(s.synchronous) == 0 {
		s.syncing.Lock()
		defer s.syncing.Unlock()
	}
	return s.opError("sync", 0, 0, dataSync(s.file))
}

func (s *fileStorage) dropCache() error { return s.opError("drop cache", 0, 0, dropCache(s.file)) }

func (s *fileStorage) grow(size int64) error {
	old := s.size()
	switch {
	case s.opts.readOnly:
		return s.opError("grow", old, 0, ErrDatabaseReadOnly)
	case size <= old:
		panic(fmt.Sprintf("alder: growth from %d to %d bytes", old, size))
	}
	cur := s.mapping()
	next, err := s.growMapped(cur, old, size)
	if err != nil {
		return s.opError("grow", old, size-old, err)
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

// growMapped extends the file and returns a mapping that reaches to its new end: cur, if that is long enough.
func (s *fileStorage) growMapped(cur *mapping, old, size int64) (*mapping, error) {
	// What a truncation that was put off has left behind must not come back.
	if err := writeZeros(s.file, old, min(size, s.physical)-old); err != nil {
		return nil, err
	}
	physical := max(size, s.physical)
	next, err := s.extend(cur, old, physical)
	if err != nil {
		// The blocks that were got go back. If that fails too, the file merely is longer than need be; its end reads as zeros.
		return nil, errors.Join(err, s.file.Truncate(s.physical))
	}
	s.physical = physical
	return next, nil
}

// extend makes the file physical bytes long, and returns a mapping of it whose pages from old on are locked in memory if that was
// asked for.
func (s *fileStorage) extend(cur *mapping, old, physical int64) (*mapping, error) {
	if physical > s.physical {
		if err := preallocate(s.file, s.physical, physical-s.physical); err != nil {
			return nil, err
		}
	}
	next, locked := cur, old
	if physical > int64(len(cur.data)) {
		data, err := s.mapFile(physical)
		if err != nil {
			return nil, err
		}
		next, locked = &mapping{data: data}, 0
	}
	if err := s.lockPages(next, locked, physical); err != nil {
		if next != cur {
			err = errors.Join(err, unmapFile(next.data))
		}
		return nil, err
	}
	return next, nil
}

// mapFile maps the file, which has the given size.
func (s *fileStorage) mapFile(size int64) ([]byte, error) {
	data, err := mapFile(s.file, size, s.room(size))
	if err == nil && s.opts.huge {
		adviseHuge(data)
	}
	return data, err
}

// room is how long a mapping should be if it can, for a file of the given size.
func (s *fileStorage) room(size int64) int64 {
	switch {
	case s.opts.readOnly, !mapsPastEnd:
		return size
	case s.opts.reserveAtMost > 0:
		return max(size, s.opts.reserveAtMost)
	case is64bit:
		return max(defaultReserve, s.opts.reserve, 2*size)
	default:
		// Addresses are scarce, and the old mapping stays until its readers end.
		return max(s.opts.reserve, size+min(max(size, 1<<20), 128<<20))
	}
}

// keepInMemory locks the pages in memory from now on, if that was asked for. Before, the system can still be told to forget what it has cached of them.
func (s *fileStorage) keepInMemory() error {
	s.kept = true
	return s.lockPages(s.mapping(), 0, s.size())
}

// lockPages keeps the pages of m from offset from to offset to in memory, if that was asked for.
func (s *fileStorage) lockPages(m *mapping, from, to int64) error {
	from = from / osPageSize * osPageSize
	if !s.opts.mlock || !s.kept || from >= to {
		return nil
	}
	if err := lockMemory(m.data[from:to]); err != nil {
		return fmt.Errorf("locking %d bytes in memory (Options.Mlock): %w", to-from, err)
	}
	return nil
}

func (s *fileStorage) truncate(size int64) error {
	switch {
	case s.opts.readOnly:
		return s.opError("truncate", size, 0, ErrDatabaseReadOnly)
	case size > s.size():
		panic(fmt.Sprintf("alder: truncation from %d to %d bytes", s.size(), size))
	}
	switch err := s.file.Truncate(size); {
	case err == nil:
		s.physical = size
	case isMappedError(err):
		// Windows does not shorten a file that is mapped. The store is shorter from now on, the file when it is closed.
	default:
		return s.opError("truncate", size, 0, err)
	}
	s.length.Store(size)
	return nil
}

func (s *fileStorage) punch(off, n int64) (ok bool, err error) {
	if s.opts.readOnly {
		return false, s.opError("punch", off, n, ErrDatabaseReadOnly)
	}
	ok, err = punchHole(s.file, off, n)
	return ok, s.opError("punch", off, n, err)
}

func (s *fileStorage) refill(off, n int64) error {
	if s.opts.readOnly {
		return s.opError("refill", off, n, ErrDatabaseReadOnly)
	}
	return s.opError("refill", off, n, fillHole(s.file, off, n))
}

func (s *fileStorage) removed() (bool, error) {
	gone, err := isRemoved(s.file)
	return gone, s.opError("stat", 0, 0, err)
}

// place is made of the number of the file in its file system and of the time at which it was made, where that is known: numbers are given out again.
func (s *fileStorage) place() uint64 {
	number, made, ok := fileIdentity(s.file)
	if !ok {
		return noPlace
	}
	b := binary.LittleEndian.AppendUint64(nil, number)
	return max(xxhash.Sum64(binary.LittleEndian.AppendUint64(b, made)), noPlace+1)
}

func (s *fileStorage) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if m := s.current.Load(); m != nil {
		s.old = append(s.old, m)
	}
	for _, m := range s.old {
		errs = append(errs, unmapFile(m.data))
	}
	s.old = nil
	if s.over != nil {
		errs = append(errs, s.over())
	}
	if s.physical > s.size() {
		errs = append(errs, s.file.Truncate(s.size()))
	}
	if s.direct != nil {
		errs = append(errs, s.direct.Close(), releaseMemory(s.directBuf))
	}
	if f := s.random.Load(); f != nil {
		errs = append(errs, f.Close())
	}
	if s.ring != nil {
		errs = append(errs, s.ring.close())
	}
	for _, d := range s.synchronous {
		if d.f != nil {
			errs = append(errs, d.f.Close())
		}
	}
	// Last, so that who gets the lock next finds nothing of ours in use.
	errs = append(errs, unlockFile(s.file), s.file.Close())
	return s.opError("close", 0, 0, errors.Join(errs...))
}

// syncDir makes the name of the file durable; for after a store was created.
func (s *fileStorage) syncDir() error { return syncDir(s.path) }

// syncDir makes the name of a new file durable. Where path is a symbolic link, that is the name of what it points to.
func syncDir(path string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := syncDirectory(filepath.Dir(path)); err != nil {
		return &fs.PathError{Op: "sync directory of", Path: path, Err: innermost(err)}
	}
	return nil
}

// reopen opens the file that s.file is once more, with other flags.
func (s *fileStorage) reopen(flags int) (*os.File, error) {
	want, err := s.file.Stat()
	if err != nil {
		return nil, err
	}
	open := os.OpenFile
	var paths []string
	if s.opts.openFile != nil {
		open = s.opts.openFile
	} else if own := ownDescriptor(s.file); own != "" {
		paths = append(paths, own)
	}
	for _, path := range append(paths, s.path) {
		var f *os.File
		var got os.FileInfo
		if f, err = open(path, flags, 0); err != nil {
			continue
		}
		if got, err = f.Stat(); err == nil && os.SameFile(got, want) {
			return f, nil
		}
		f.Close()
		err = errors.New("the path now leads to another file")
	}
	return nil, err
}

// openSynchronous opens the descriptor for durable writes, where the system has such.
func (s *fileStorage) openSynchronous() {
	// Windows does not tell whether a custom OpenFile has honored the flag.
	if synchronousFlag == 0 || runtime.GOOS == "windows" && s.opts.openFile != nil {
		return
	}
	d := &durableFile{}
	if err := s.openDurable(d); err != nil {
		if s.opts.logger != nil {
			s.opts.logger.Warn("no synchronous descriptor; each commit syncs the whole file", "path", s.path, "error", err)
		}
		return
	}
	if !s.opts.noRing {
		s.attended = newAttendance()
	}
	s.synchronous = append(s.synchronous, d)
	for s.opts.openFile == nil && len(s.synchronous) < durableFiles { // a custom OpenFile may count
		s.synchronous = append(s.synchronous, &durableFile{})
	}
}

// openDurable opens d.
func (s *fileStorage) openDurable(d *durableFile) error {
	f, err := s.reopen(os.O_RDWR | synchronousFlag)
	if err != nil {
		return err
	}
	if !isSynchronous(f) {
		f.Close()
		return errors.New("the flag for synchronous writes was dropped")
	}
	d.f = f
	return nil
}

// durableFile is a descriptor whose writes are durable by themselves.
//
// One write at a time goes through each. The system tells each descriptor once of a page that it could not write: of two writes at the same
// time through the same one, whichever asks first would be told, and the other, whose page it may be, would succeed.
type durableFile struct {
	mu sync.Mutex
	f  *os.File // nil: not opened yet; the first one is open from the beginning
}

// durableFiles is the number of such descriptors: for an append, a run of the log that is made ready, and a long value or a meta.
const durableFiles = 3

// durableFile returns a descriptor that nobody uses, with its lock. Another one is opened when it is first needed, for many a store is opened
// for a read or two; if that fails the first one must do.
func (s *fileStorage) durableFile() *durableFile {
	for _, d := range s.synchronous {
		if !d.mu.TryLock() {
			continue
		}
		if d.f != nil || s.openDurable(d) == nil {
			return d
		}
		d.mu.Unlock()
	}
	d := s.synchronous[0]
	d.mu.Lock()
	return d
}

// opError adds to err what was being done and where. It returns nil for nil.
func (s *fileStorage) opError(op string, off, n int64, err error) error {
	if err == nil {
		return nil
	}
	err = noSpace(innermost(err))
	if n == 0 {
		return fmt.Errorf("%s %s: %w", op, s.path, err)
	}
	return fmt.Errorf("%s %s, %d bytes at offset %d: %w", op, s.path, n, off, err)
}

// innermost takes an *fs.PathError off, whose operation and path would be said twice.
func innermost(err error) error {
	if path, ok := err.(*fs.PathError); ok {
		return path.Err
	}
	return err
}

// writeZeros fills n bytes of f from off on: how blocks are reserved where the system has no call for it.
func writeZeros(f *os.File, off, n int64) error {
	for n > 0 {
		m, err := f.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(m), n-int64(m)
	}
	return nil
}
