package alder

import (
	"sync/atomic"
	"time"
)

// Reads of a store that does not fit into memory. Whoever touches a mapped page that is not in memory waits for the disk in a page fault, and
// keeps his processor meanwhile: the scheduler knows nothing of it. On two processors two such reads stop the whole program, its garbage
// collector too. So in cold mode a page that is not known to be in memory is read through a descriptor first, a system call during which
// others run; and as many reads are under way as there are goroutines, not as there are processors.
//
// What is known to be in memory: the pages that have been verified since they were last forgotten. The first look at a page verifies it
// anyway, so this costs the other looks nothing. The system drops pages without a word; when page faults show that it has, all are forgotten,
// and each is fetched and verified again at its next use. That costs a microsecond for one that was in memory all the time, so it is done less
// often the more of them there are.
//
// Cold mode is for stores that are larger than half the memory; smaller ones are soon in memory as a whole, the faster the more each fault brings
// in. It begins when page faults wait for the disk, and ends when fetches do not any more. On systems that do not count such faults it never
// begins.

// coldReads is nil in a store that is in memory.
type coldReads struct {
	st fetcher // constant

	// Atomic.
	on      atomic.Bool
	first   atomic.Int64 // looks at pages that were not known to be in memory
	waited  atomic.Int64 // fetches that waited for the disk
	sampled atomic.Int64 // major faults when fetch looked last

	// Guarded by pager.commitMu.
	watching bool // lookForFaults will run

	// Of lookForFaults, of which one runs at a time.
	faults   int64 // major faults when it looked last
	patience int   // looks to let pass between one forgetting and the next
	rest     int   // of them still to come
	calm     int   // looks in a row that have found nothing to wait for
}

const (
	coldLeast    = 64 << 20 // bytes of the smallest store that is watched
	coldSample   = 16       // first looks between two counts of faults, outside of cold mode
	coldMany     = 4        // faults among them that begin it
	coldFew      = 8        // faults between two looks that are none
	coldRare     = 64       // first looks of which one that waits is none
	coldWaste    = 4096     // fetches of pages that were in memory that are too many for one forgetting
	coldPatience = 600      // looks at most
	coldCalm     = 20       // looks in a row that end it

	warmInterval = time.Second // between looks
	coldInterval = 100 * time.Millisecond
)

// newColdReads returns what watches over reads of st; nil if those never wait.
func newColdReads(st storage) *coldReads {
	f, ok := st.(fetcher)
	if !ok {
		return nil
	}
	c := &coldReads{st: f, faults: majorFaults()}
	c.sampled.Store(c.faults)
	return c
}

// active reports whether pages should be fetched before they are touched.
func (c *coldReads) active() bool { return c != nil && c.on.Load() }

// fetch is to be called before n bytes at off are touched that are not known to be in memory.
func (c *coldReads) fetch(off, n int64) {
	if c == nil {
		return
	}
	k := c.first.Add(1)
	if !c.on.Load() {
		if k%coldSample != 0 {
			return
		}
		now := majorFaults()
		if now-c.sampled.Swap(now) < coldMany || !c.exceeds(memoryLimit()) {
			return
		}
		c.turn(true)
	}
	if c.st.fetch(off, n) {
		c.waited.Add(1)
	}
}

// exceeds reports whether the store is too large for so much memory; 0: nobody knows how much there is.
func (c *coldReads) exceeds(memory int64) bool { return c.st.size() > memory/2 }

// turn begins or ends cold mode.
func (c *coldReads) turn(on bool) {
	if c.on.CompareAndSwap(!on, on) {
		c.st.touchRandomly(on)
	}
}

// announce lets the system begin to read the pages first ≤ id < end, if there are any.
func (c *coldReads) announce(first, end pgid, shift uint) {
	if first < end {
		c.st.announce(int64(first)<<shift, int64(end-first)<<shift)
	}
}

const (
	announced     = 32 // children that a walk announces at a time
	announceEvery = 16 // children
)

// announceChildren lets the system begin to read the children of branch p from slot i on, in direction d, for a walk that will come to them:
// in cold mode each would be fetched, and waited for, on its own. Neighbors in the file are announced together.
func (s *snapshot) announceChildren(p page, i, d int) {
	if !s.cold.active() {
		return
	}
	n := p.count()
	var first, end pgid // of the neighbors that are to be announced
	for k := 0; uint(i) < uint(n) && k < announced; i, k = i+d, k+1 {
		id := p.child(i).id
		switch {
		case id >= s.highWater || s.verified.has(id):
		case id == end:
			end++
		case id+1 == first:
			first--
		default:
			s.cold.announce(first, end, s.shift)
			first, end = id, id+1
		}
	}
	s.cold.announce(first, end, s.shift)
}

// watchFaults begins to watch a store that is large enough to be worth it. The caller has commitMu.
func (pg *pager) watchFaults() {
	c := pg.cold
	if c == nil || c.watching || pg.closed || pg.st.size() < coldLeast {
		return
	}
	c.watching = true
	interval := warmInterval
	if c.on.Load() {
		interval = coldInterval
	}
	pg.after(interval, pg.lookForFaults)
}

// lookForFaults decides about cold mode, and about what is known to be in memory.
func (pg *pager) lookForFaults() {
	if pg.cold.look(majorFaults(), memoryLimit()) {
		pg.verified.Load().clear()
	}
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	pg.cold.watching = false
	pg.watchFaults()
}

// look is lookForFaults without the system. It reports whether all pages are to be forgotten.
func (c *coldReads) look(faults, memory int64) bool {
	met := faults - c.faults
	c.faults = faults
	first, waited := c.first.Swap(0), c.waited.Swap(0)
	if c.patience = min(c.patience, coldPatience); first-waited > coldWaste {
		c.patience = 2*c.patience + 1
	} else if c.rest == 0 {
		c.patience /= 2
	}
	if !c.exceeds(memory) {
		c.turn(false)
		return false
	}
	if met < coldFew {
		if waited*coldRare > first {
			c.calm = 0
		} else if c.calm++; c.calm >= coldCalm {
			c.turn(false)
		}
		c.rest = max(c.rest-1, 0)
		return false
	}
	c.calm = 0
	c.turn(true)
	if c.rest > 0 {
		c.rest--
		return false
	}
	c.rest = c.patience
	return true
}
