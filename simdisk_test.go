package alder

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"syscall"
)

// The simulated disk: a page cache over a medium of 512-byte sectors, behind the storage interface.
//
// What it knows: which bytes readers of the mapping see (live), which bytes would be there after a power
// cut (the medium), and for every sector where the two differ the whole history of its contents since it was
// last durable. What it does not know: pages, metas, trees. It has no opinion on protocols.
//
// The model of a disk, deliberately as bad as the assumptions of docs/durability.md allow:
//   - a write reaches the cache only; every unsynced sector persists or not by itself, in any order, and a
//     sector that was written several times persists in any of its versions;
//   - the file's length persists separately from the data, in the order of the changes; sectors of a grown,
//     unsynced part read as zeros or as stale bytes of something else;
//   - a sector in flight when the power fails may become garbage, also when it is rewritten with the same bytes;
//   - a durable write persists its own range (and a length that covers it), nothing else;
//   - a failed sync leaves old, new or mixed contents on the medium and marks the cache clean: the next sync
//     succeeds without writing those sectors. The cache keeps the new bytes or reads the old ones again;
//   - a failed background write-back does the same silently and is reported by the next sync or durable write,
//     also to another process that opens the file later;
//   - a hole that is punched reads as zeros; its blocks are gone from the call on, and those that it gets again are for certain there after a crash only if they were
//     synced, or written durably; a write to a page without blocks is a violation of the contract, for the disk might be full;
//   - a kill keeps the cache, dirty as it was; a write in flight stops at a page of the cache.

const (
	simSectorSize = 512
	simPageSize   = 4096 // granularity of the cache: eviction, and a write cut short by a kill
	simPoison     = 0xDB // fills what lies past the end of the file
)

// simOp names a call of the storage interface that the disk numbers.
type simOp uint8

const (
	simReadAt simOp = iota
	simReadMedium
	simWriteAt
	simWriteDurable
	simSync
	simGrow
	simTruncate
	simRemoved
	simClose
	simPunch
	simRefill
)

func (op simOp) String() string {
	if op == simAny {
		return "call"
	}
	return [...]string{"readAt", "readMedium", "writeAt", "writeDurable", "sync", "grow", "truncate", "removed", "close", "punch", "refill"}[op]
}

// simCall is one numbered call. A crash point is such a number: the crash happens while the call is under
// way, when its effect is in the cache and nothing of it is guaranteed to be on the medium.
type simCall struct {
	n   int
	op  simOp
	off int64 // for grow and truncate: the new size
	len int64
	seq uint64 // of the write, 0 for others
}

func (c simCall) String() string {
	return fmt.Sprintf("%d: %s %d+%d", c.n, c.op, c.off, c.len)
}

// mutates reports whether the call can change what a crash leaves.
func (c simCall) mutates() bool {
	switch c.op {
	case simWriteAt, simWriteDurable, simSync, simGrow, simTruncate, simPunch, simRefill:
		return true
	}
	return false
}

// simFault is what an injected failure does besides returning its error.
type simFault struct {
	err  error
	kind simFaultKind
	seed uint64 // of the choices that the fault leaves open
}

type simFaultKind uint8

const (
	simNoFault     simFaultKind = iota
	simFailBefore               // the call has no effect
	simFailShort                // a write stops after some pages; a grow or truncate has no effect
	simFailFlush                // sync, durable write: the cache is clean afterwards, the medium old, new or mixed
	simFailWritten              // sync, durable write: everything did reach the medium, the error is reported all the same
	simWriteBack                // not an error of this call: a write-back in the background fails before it
	simFaultKindEnd
)

func (k simFaultKind) String() string {
	return [...]string{"none", "before", "short", "flush", "written", "writeback"}[k]
}

// simLength is a length that the file had since the last sync; the first one is durable.
type simLength struct {
	size int64
	seq  uint64
}

// simConfig is constant over the life of a disk and of the images made from it.
type simConfig struct {
	capacity int64 // grow past it is ENOSPC; 0: simDefaultCapacity
	full     bool  // no blocks are to be had for holes
	mapStep  int64 // 0: one reservation; else mappings are multiples of it and grow makes new ones
	noDirect bool  // readMedium is not available
	noTear   bool  // sectors are atomic
	place    uint64
	attend   bool // durable writes can be attended
}

// simDisk implements storage.
type simDisk struct {
	cfg simConfig

	// onCall is called for every numbered call while it is under way, without the lock. fault, if set, decides
	// before it whether the call fails.
	onCall func(simCall)
	fault  func(simCall) simFault

	mu       sync.Mutex
	memory   *simMemory
	parent   *simDisk // whose memory this disk refers to; nil: none's
	heirs    int      // disks that refer to this one's memory
	live     []byte   // never moves; len is the capacity rounded up
	sizeNow  int64
	maxSize  int64             // of live, that may not be poison
	sectors  []*simSectorState // by number; nil: on the medium as it is in the cache
	cache    []*simSectorState // those that are not, in any order
	lengths  []simLength
	holes    map[int64]bool // pages of the cache without blocks; false: they have some, but not yet for certain
	seq      uint64
	calls    int
	wbErr    error           // failed background write-back that nobody has been told of
	lost     map[uint64]bool // writes of which a failed background write-back has taken a page, by number
	gone     bool            // removed reports true
	gentle   bool            // no store has been opened on this disk yet; see isGentle
	closed   bool
	cur      *mapping
	old      map[*mapping]bool
	contract []string // violations of the storage contract by the caller
}

var (
	_ storage       = (*simDisk)(nil)
	_ placedStorage = (*simDisk)(nil)
)

// place says which file it is; an image made from a disk is the same file.
func (d *simDisk) place() uint64 { return max(d.cfg.place, noPlace) }

// image returns a copy of the cached bytes.
func (d *simDisk) image() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.live[:d.sizeNow])
}

func (d *simDisk) setGentle(on bool) {
	d.mu.Lock()
	d.gentle = on
	d.mu.Unlock()
}

func (d *simDisk) setNoTear() {
	d.mu.Lock()
	d.cfg.noTear = true
	d.mu.Unlock()
}

func (d *simDisk) setSize(n int64) {
	d.sizeNow = n
	d.maxSize = max(d.maxSize, n)
}

func (d *simDisk) remap() {
	n := int64(len(d.live))
	if d.cfg.mapStep > 0 {
		n = min(n, (d.sizeNow+d.cfg.mapStep-1)/d.cfg.mapStep*d.cfg.mapStep)
	}
	if d.cur != nil && int64(len(d.cur.data)) >= n {
		return
	}
	if d.cur != nil {
		if d.old == nil {
			d.old = map[*mapping]bool{}
		}
		d.old[d.cur] = true
	}
	d.cur = &mapping{data: d.live[:n:n]}
}

func (d *simDisk) violated(format string, args ...any) {
	d.contract = append(d.contract, fmt.Sprintf(format, args...))
}

// misuse returns what the caller did against the storage contract, "" if nothing.
func (d *simDisk) misuse() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.contract) == 0 {
		return ""
	}
	return d.contract[0]
}

// enter numbers a call and decides its fault. It is called with the lock held and gives it up meanwhile.
func (d *simDisk) enter(op simOp, off, length int64) (simCall, simFault) {
	c := simCall{n: d.calls, op: op, off: off, len: length}
	d.calls++
	if d.closed {
		d.violated("%s at %d after close", op, off)
	}
	fault := d.fault
	if fault == nil {
		return c, simFault{}
	}
	d.mu.Unlock()
	f := fault(c)
	d.mu.Lock()
	if f.kind == simWriteBack {
		d.failWriteBack(rand.New(rand.NewPCG(f.seed, 1)))
		f = simFault{}
	}
	return c, f
}

// underway runs the crash point of c. It is called with the lock held and gives it up meanwhile.
func (d *simDisk) underway(c simCall) {
	onCall := d.onCall
	if onCall == nil {
		return
	}
	d.mu.Unlock()
	onCall(c)
	d.mu.Lock()
}

// failing sets which calls fail from now on, also while others, as those who follow the log, use the disk.
func (d *simDisk) failing(fault func(simCall) simFault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

// ---- storage

func (d *simDisk) mapping() *mapping {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cur
}

func (d *simDisk) unmap(m *mapping) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.old[m] {
		d.violated("unmap of a mapping that is current or already unmapped")
	}
	delete(d.old, m)
	return nil
}

func (d *simDisk) size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sizeNow
}

func (d *simDisk) readAt(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simReadAt, off, int64(len(p)))
	d.underway(c)
	if f.err != nil {
		return f.err
	}
	if off < 0 || off+int64(len(p)) > d.sizeNow {
		return io.ErrUnexpectedEOF
	}
	copy(p, d.live[off:])
	return nil
}

func (d *simDisk) readMedium(p []byte, off int64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simReadMedium, off, int64(len(p)))
	d.underway(c)
	if f.err != nil {
		return false, f.err
	}
	if off%4096 != 0 || len(p)%4096 != 0 {
		d.violated("readMedium %d+%d is not aligned", off, len(p))
	}
	if d.cfg.noDirect {
		return false, nil
	}
	if off < 0 || off+int64(len(p)) > d.sizeNow {
		return true, io.ErrUnexpectedEOF
	}
	copy(p, d.live[off:off+int64(len(p))])
	// A direct read first writes dirty pages of its range back, so it sees them; that makes them no more
	// durable than they were. Sectors wrongly marked clean show what the medium holds.
	for no := off / simSectorSize; no*simSectorSize < off+int64(len(p)); no++ {
		if s := d.sectors[no]; s != nil && !s.dirty {
			copy(p[no*simSectorSize-off:], s.durable)
		}
	}
	return true, nil
}

func (d *simDisk) writeAt(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simWriteAt, off, int64(len(p)))
	d.mustHaveBlocks(c)
	p, err := d.cutShort(f, p)
	if len(p) > 0 && d.inside("writeAt", p, off) {
		c.seq = d.put(p, off)
	}
	d.underway(c)
	return err
}

func (d *simDisk) attendance() *attendance {
	if !d.cfg.attend {
		return nil
	}
	return newAttendance() // what is written here is done at once, so nobody finds anything
}

// writeAttended does what is done beside the write before it: so that a crash finds the one and not the other.
func (d *simDisk) writeAttended(p []byte, off int64, beside func()) error {
	beside()
	return d.writeDurable(p, off)
}

func (d *simDisk) writeDurable(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simWriteDurable, off, int64(len(p)))
	d.mustHaveBlocks(c)
	if err := d.takeWriteBackError(); err != nil && f.kind == simNoFault {
		// The kernel reports the earlier failure at this call; the write itself has happened.
		f = simFault{err: err, kind: simFailWritten}
	}
	p, err := d.cutShort(f, p)
	if len(p) == 0 || !d.inside("writeDurable", p, off) {
		d.underway(c)
		return err
	}
	c.seq = d.put(p, off)
	d.underway(c)
	if f.kind == simFailFlush {
		lo, hi := off/simSectorSize, (off+int64(len(p))-1)/simSectorSize
		d.failFlush(rand.New(rand.NewPCG(f.seed, 2)), func(s *simSectorState) bool { return s.no >= lo && s.no <= hi })
		return f.err
	}
	for no := off / simSectorSize; no*simSectorSize < off+int64(len(p)); no++ {
		d.persist(no, c.seq)
	}
	d.lengthAtLeast(off + int64(len(p)))
	d.eachPage(c, func(no int64) { delete(d.holes, no) })
	if d.lost[c.seq] && err == nil {
		// Whoever is told of the page besides, this call was to make it durable. (The laboratory told only the next call, so that an append
		// whose page was lost under it succeeded.)
		d.wbErr, err = nil, syscall.EIO
	}
	return err
}

func (d *simDisk) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simSync, 0, 0)
	upTo := d.seq
	if err := d.takeWriteBackError(); err != nil && f.kind == simNoFault {
		f = simFault{err: err, kind: simFailWritten}
	}
	d.underway(c)
	switch f.kind {
	case simFailBefore, simFailShort:
		return f.err
	case simFailFlush:
		d.failFlush(rand.New(rand.NewPCG(f.seed, 3)), func(s *simSectorState) bool { return s.versions[0].seq <= upTo })
		return f.err
	}
	for i := len(d.cache) - 1; i >= 0; i-- { // the last one takes the place of one that goes
		d.persist(d.cache[i].no, upTo)
	}
	d.settleLength(upTo)
	maps.DeleteFunc(d.holes, func(_ int64, bare bool) bool { return !bare })
	return f.err
}

func (d *simDisk) grow(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simGrow, size, 0)
	if f.err == nil && size > d.cfg.capacity {
		f.err = syscall.ENOSPC
	}
	if f.err != nil {
		d.underway(c)
		return f.err
	}
	if size < d.sizeNow {
		d.violated("grow from %d to %d", d.sizeNow, size)
		return nil
	}
	clear(d.live[d.sizeNow:size])
	maps.DeleteFunc(d.holes, func(no int64, _ bool) bool { return no*simPageSize >= d.sizeNow })
	d.setSize(size)
	d.seq++
	d.lengths = append(d.lengths, simLength{size, d.seq})
	d.remap()
	d.underway(c)
	return nil
}

func (d *simDisk) truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simTruncate, size, 0)
	if f.err != nil {
		d.underway(c)
		return f.err
	}
	if size > d.sizeNow || size%simSectorSize != 0 {
		d.violated("truncate from %d to %d", d.sizeNow, size)
		return nil
	}
	// The cut sectors turn to zeros for whoever grows the file again; the medium holds them until a sync.
	if n := d.sizeNow - size; n > 0 {
		d.putVersion(simZeros(n), size, true)
		simFill(d.live[size:d.sizeNow], simPoison)
	}
	d.setSize(size)
	d.lengths = append(d.lengths, simLength{size, d.seq})
	d.underway(c)
	return nil
}

func (d *simDisk) punch(off, n int64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simPunch, off, n)
	if f.err == nil && d.inside("punch", simZeros(n), off) {
		c.seq = d.put(simZeros(n), off)
		d.eachPage(c, func(no int64) {
			if d.holes == nil {
				d.holes = map[int64]bool{}
			}
			d.holes[no] = true
		})
	}
	d.underway(c)
	return f.err == nil, f.err
}

func (d *simDisk) refill(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simRefill, off, n)
	if f.err == nil && d.cfg.full {
		f.err = syscall.ENOSPC
	}
	if f.err == nil && d.inside("refill", simZeros(n), off) {
		d.eachPage(c, func(no int64) {
			if d.holes[no] {
				d.holes[no] = false
			}
		})
	}
	d.underway(c)
	return f.err
}

// eachPage calls fn for each page of the cache that the call is about.
func (d *simDisk) eachPage(c simCall, fn func(no int64)) {
	for no := c.off / simPageSize; no*simPageSize < c.off+c.len; no++ {
		fn(no)
	}
}

func (d *simDisk) mustHaveBlocks(c simCall) {
	d.eachPage(c, func(no int64) {
		if d.holes[no] {
			d.violated("%v: page %d has no blocks", c, no)
		}
	})
}

func (d *simDisk) removed() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simRemoved, 0, 0)
	d.underway(c)
	return d.gone && f.err == nil, f.err
}

func (d *simDisk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, f := d.enter(simClose, 0, 0)
	d.underway(c)
	d.closed = true
	return f.err
}

// reopen makes a closed disk usable again, as the next open of the same file by a live system would.
func (d *simDisk) reopen() *simDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = false
	d.old = nil
	d.cur = nil
	d.onCall, d.fault = nil, nil
	d.remap()
	return d
}
