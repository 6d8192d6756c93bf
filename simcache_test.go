package alder

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// The page cache of the simulated disk, and its memory. Very many disks come and go, so each takes over the memory of one that is gone: what it
// keeps of sectors lies in pieces that are used again. A disk that a kill has left refers to the sectors of the one before.

// simVersion is one content of a sector. data is never modified.
type simVersion struct {
	data []byte
	seq  uint64
	hole bool // not written: the file was cut below the sector
}

// simSectorState describes a sector whose cached content is not guaranteed to be on the medium.
type simSectorState struct {
	no       int64
	place    int          // in simDisk.cache
	durable  []byte       // on the medium, never modified
	versions []simVersion // since then, oldest first; the last is what the cache holds
	dirty    bool         // false: a failed write-back marked it clean, no sync will write it

	first [2]simVersion // memory for versions
}

// simMemory is what a disk takes over.
type simMemory struct {
	live    []byte
	written int64 // bytes of live that may not be poison
	sectors []*simSectorState
	states  []*simSectorState // that are not in use
	pieces  [][]byte          // for contents of sectors
	piece   int               // the one at work
	used    int               // of that one
}

const (
	simDefaultCapacity = 1 << 20
	simPiece           = 128 << 10
	simPieces          = 24  // at most; a disk that is written to for longer leaves the rest to the garbage collector
	simStates          = 128 // made at a time
	simKept            = 16  // memories that wait for a disk
)

// simMemories are those of disks that are gone.
var simMemories struct {
	mu   sync.Mutex
	idle []*simMemory
}

// takeSimMemory returns memory for a disk of that many bytes.
func takeSimMemory(size int64) *simMemory {
	if size == simDefaultCapacity {
		simMemories.mu.Lock()
		defer simMemories.mu.Unlock()
		if n := len(simMemories.idle); n > 0 {
			m := simMemories.idle[n-1]
			simMemories.idle = simMemories.idle[:n-1]
			return m
		}
	}
	m := &simMemory{live: make([]byte, size), written: size}
	m.sectors = make([]*simSectorState, size/simSectorSize)
	return m
}

// keep returns a copy of p that lasts as long as the disk.
func (m *simMemory) keep(p []byte) []byte {
	if m.piece < len(m.pieces) && m.used+len(p) > simPiece {
		m.piece, m.used = m.piece+1, 0
	}
	if len(p) > simPiece || m.piece == simPieces {
		return bytes.Clone(p)
	}
	if m.piece == len(m.pieces) {
		m.pieces = append(m.pieces, make([]byte, simPiece))
	}
	b := m.pieces[m.piece][m.used : m.used+len(p) : m.used+len(p)]
	m.used += len(p)
	copy(b, p)
	return b
}

// state returns memory for a sector.
func (m *simMemory) state() *simSectorState {
	if len(m.states) == 0 {
		block := make([]simSectorState, simStates)
		for i := range block {
			m.states = append(m.states, &block[i])
		}
	}
	s := m.states[len(m.states)-1]
	m.states = m.states[:len(m.states)-1]
	return s
}

func simFill(b []byte, c byte) {
	if len(b) == 0 {
		return
	}
	b[0] = c
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

var simNothing [simDefaultCapacity]byte

// simZeros returns n bytes of zeros that must not be changed.
func simZeros(n int64) []byte {
	if n <= int64(len(simNothing)) {
		return simNothing[:n]
	}
	return make([]byte, n)
}

// newSimDisk returns an empty disk.
func newSimDisk(cfg simConfig) *simDisk {
	d := simDiskOf(cfg, nil)
	d.lengths = []simLength{{}}
	d.remap()
	return d
}

// simDiskOf returns a disk with that in its cache, which has no lengths and no mapping yet.
func simDiskOf(cfg simConfig, content []byte) *simDisk {
	if cfg.capacity == 0 {
		cfg.capacity = simDefaultCapacity
	}
	m := takeSimMemory(max(simDefaultCapacity, (cfg.capacity+simPageSize-1)/simPageSize*simPageSize))
	n := int64(copy(m.live, content))
	if n < m.written {
		simFill(m.live[n:m.written], simPoison)
	}
	m.piece, m.used = 0, 0
	return &simDisk{cfg: cfg, memory: m, live: m.live, sectors: m.sectors, sizeNow: n, maxSize: n}
}

// loadSimDisk returns a disk that durably holds image.
func loadSimDisk(cfg simConfig, image []byte) *simDisk {
	cfg.capacity = max(cfg.capacity, simDefaultCapacity, int64(len(image)))
	d := simDiskOf(cfg, image)
	d.lengths = []simLength{{size: d.sizeNow}}
	d.remap()
	return d
}

// release gives the memory back. Nothing may use the disk, or a mapping of it, afterwards.
func (d *simDisk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live == nil {
		return
	}
	for len(d.cache) > 0 {
		d.forget(d.cache[len(d.cache)-1])
	}
	m := d.memory
	m.written = d.maxSize
	if d.parent != nil {
		d.parent.mu.Lock()
		d.parent.heirs--
		d.parent.mu.Unlock()
	}
	if int64(len(d.live)) == simDefaultCapacity && d.heirs == 0 {
		simMemories.mu.Lock()
		if len(simMemories.idle) < simKept {
			simMemories.idle = append(simMemories.idle, m)
		}
		simMemories.mu.Unlock()
	}
	d.memory, d.live, d.sectors, d.cache, d.cur, d.closed = nil, nil, nil, nil, nil, true
}

// ---- sectors

// track returns the state of a sector that has none yet.
func (d *simDisk) track(no int64) *simSectorState {
	s := d.memory.state()
	*s = simSectorState{no: no, place: len(d.cache)}
	s.versions = s.first[:0]
	d.sectors[no] = s
	d.cache = append(d.cache, s)
	return s
}

// forget takes the state of a sector away: the medium has what the cache has.
func (d *simDisk) forget(s *simSectorState) {
	last := len(d.cache) - 1
	d.cache[s.place] = d.cache[last]
	d.cache[s.place].place = s.place
	d.cache = d.cache[:last]
	d.sectors[s.no] = nil
	d.memory.states = append(d.memory.states, s)
}

// ---- the cache

func (d *simDisk) inside(op string, p []byte, off int64) bool {
	if off%4096 != 0 || len(p)%4096 != 0 {
		d.violated("%s %d+%d is not made of whole blocks", op, off, len(p))
	}
	if off < 0 || off+int64(len(p)) > d.sizeNow {
		d.violated("%s %d+%d is outside the file of %d", op, off, len(p), d.sizeNow)
		return false
	}
	return true
}

// cutShort returns what of p a faulty write puts into the cache, and the error to return.
func (d *simDisk) cutShort(f simFault, p []byte) ([]byte, error) {
	switch f.kind {
	case simFailBefore:
		return nil, f.err
	case simFailShort:
		pages := len(p) / simPageSize
		return p[:rand.New(rand.NewPCG(f.seed, 4)).IntN(max(pages, 1))*simPageSize], f.err
	}
	return p, f.err
}

// put writes p into the cache and records the versions of its sectors.
func (d *simDisk) put(p []byte, off int64) uint64 { return d.putVersion(p, off, false) }

func (d *simDisk) putVersion(p []byte, off int64, hole bool) uint64 {
	d.seq++
	lo, hi := off/simSectorSize, (off+int64(len(p))+simSectorSize-1)/simSectorSize
	for no := lo; no < hi; no++ {
		if d.sectors[no] == nil {
			s := d.track(no)
			s.durable = d.memory.keep(d.live[no*simSectorSize : (no+1)*simSectorSize])
		}
	}
	copy(d.live[off:], p)
	var after []byte
	if len(p) > 0 && &p[0] == &simNothing[0] && off == lo*simSectorSize && off+int64(len(p)) == hi*simSectorSize {
		after = p // of zeros nobody needs a copy
	} else {
		after = d.memory.keep(d.live[lo*simSectorSize : hi*simSectorSize])
	}
	for no := lo; no < hi; no++ {
		at := (no - lo) * simSectorSize
		s := d.sectors[no]
		if !s.dirty {
			s.versions, s.dirty = s.first[:0], true
		}
		s.versions = append(s.versions, simVersion{after[at : at+simSectorSize : at+simSectorSize], d.seq, hole})
	}
	return d.seq
}

// persist puts the newest version of a dirty sector not younger than upTo on the medium.
func (d *simDisk) persist(no int64, upTo uint64) {
	s := d.sectors[no]
	if s == nil || !s.dirty {
		return
	}
	i := 0
	for i < len(s.versions) && s.versions[i].seq <= upTo {
		i++
	}
	if i == 0 {
		return
	}
	s.durable = s.versions[i-1].data
	if s.versions = s.versions[i:]; len(s.versions) == 0 {
		d.forget(s)
	}
}

func (d *simDisk) settleLength(upTo uint64) {
	i := 0
	for i+1 < len(d.lengths) && d.lengths[i+1].seq <= upTo {
		i++
	}
	d.lengths = d.lengths[i:]
	if len(d.lengths) == 1 {
		for k := len(d.cache) - 1; k >= 0; k-- { // cut off durably
			if s := d.cache[k]; s.no*simSectorSize >= d.sizeNow {
				d.forget(s)
			}
		}
	}
}

// lengthAtLeast makes a length durable that covers end, as a durable write must; the file may still be
// shorter after a crash than it is now. A cut before the write cannot persist without the growth that made room for it.
func (d *simDisk) lengthAtLeast(end int64) {
	var lengths []simLength
	for i, l := range d.lengths {
		if l.size < end {
			continue
		}
		if i > 0 && d.lengths[i-1].size < end {
			lengths = append(lengths, simLength{end, d.lengths[i-1].seq})
		}
		lengths = append(lengths, l)
	}
	if len(lengths) > 0 {
		d.lengths = lengths
	}
}

// sorted returns the sectors of the cache that match, in the order of their first write.
func (d *simDisk) sorted(match func(*simSectorState) bool) []*simSectorState {
	var list []*simSectorState
	for _, s := range d.cache {
		if match(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *simSectorState) int {
		if x, y := a.versions[0].seq, b.versions[0].seq; x != y {
			return int(int64(x) - int64(y))
		}
		return int(a.no - b.no)
	})
	return list
}

// failFlush lets the write of matching dirty sectors fail: each is on the medium in some version, clean in the
// cache, and some pages of the cache are dropped and read again.
func (d *simDisk) failFlush(rng *rand.Rand, match func(*simSectorState) bool) {
	written := []float64{0, 0.5, 0.9, 1}[rng.IntN(4)]
	evicted := []float64{0, 0.3, 1}[rng.IntN(3)]
	evict := map[int64]bool{}
	for _, s := range d.sorted(func(s *simSectorState) bool { return s.dirty && match(s) }) {
		page := s.no * simSectorSize / simPageSize
		if _, known := evict[page]; !known {
			evict[page] = rng.Float64() < evicted
		}
		if rng.Float64() < written {
			s.durable = s.versions[rng.IntN(len(s.versions))].data
		}
		s.dirty = false
		s.versions = s.versions[len(s.versions)-1:]
		d.dropIf(s, evict[page])
	}
}

// dropIf ends the special state of a clean sector when cache and medium agree, after an eviction if evict.
func (d *simDisk) dropIf(s *simSectorState, evict bool) {
	last := s.versions[len(s.versions)-1].data
	inFile := (s.no+1)*simSectorSize <= d.sizeNow
	if evict && inFile {
		copy(d.live[s.no*simSectorSize:], s.durable)
	}
	if evict || bytes.Equal(last, s.durable) {
		d.forget(s)
	}
}

// failWriteBack lets the kernel try in the background to write some dirty pages, and fail.
func (d *simDisk) failWriteBack(rng *rand.Rand) {
	dirty := d.sorted(func(s *simSectorState) bool { return s.dirty })
	if len(dirty) == 0 {
		return
	}
	pages := map[int64]bool{}
	for range 1 + rng.IntN(3) {
		pages[dirty[rng.IntN(len(dirty))].no*simSectorSize/simPageSize] = true
	}
	if d.lost == nil {
		d.lost = map[uint64]bool{}
	}
	for _, s := range dirty {
		if pages[s.no*simSectorSize/simPageSize] {
			d.lost[s.versions[len(s.versions)-1].seq] = true
		}
	}
	d.failFlush(rng, func(s *simSectorState) bool { return pages[s.no*simSectorSize/simPageSize] })
	d.wbErr = syscall.EIO
}

func (d *simDisk) takeWriteBackError() error {
	err := d.wbErr
	d.wbErr = nil
	return err
}

// Ensures that what a kill has left stays as it is when the disk before is gone and others work with its memory.
func TestSimDisk_MemoryOfOthers(t *testing.T) {
	page := func(b byte) []byte { return bytes.Repeat([]byte{b}, simPageSize) }
	write := func(d *simDisk, b byte, off int64) {
		if err := d.writeAt(page(b), off); err != nil {
			t.Fatal(err)
		}
	}
	d := newSimDisk(simConfig{})
	if err := d.grow(4 * simPageSize); err != nil {
		t.Fatal(err)
	}
	write(d, 1, simPageSize)
	if err := d.sync(); err != nil {
		t.Fatal(err)
	}
	write(d, 2, simPageSize)
	write(d, 3, simPageSize)
	left := d.crash(simCall{}, crashKill)
	d.release()
	for range 3 {
		other := newSimDisk(simConfig{})
		if err := other.grow(8 * simPageSize); err != nil {
			t.Fatal(err)
		}
		for i := range int64(8) {
			write(other, 9, i*simPageSize)
			write(other, 8, i*simPageSize)
		}
		other.release()
	}
	m := left.moment(simCall{})
	seen := map[byte]bool{}
	for k := range m.plan.power {
		after := m.crash(crashFirstPower + k)
		for _, b := range after.image()[simPageSize : 2*simPageSize] {
			seen[b] = true
		}
		after.release()
	}
	if len(seen) != 3 || !seen[1] || !seen[2] || !seen[3] {
		t.Fatalf("the page holds any of %v, must any of 1, 2 and 3", seen)
	}
	if got := left.image()[simPageSize]; got != 3 {
		t.Fatalf("the cache holds %d, must 3", got)
	}
	left.release()
}
