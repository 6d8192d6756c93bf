package faultdisk

import (
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// disk is an image with a volatile cache before a medium. A flush makes what was written until then durable. When the power is cut, of what
// was not flushed any sectors are on the medium, each as it was after any of its writes or before all of them.
//
// A cut has two steps, so that whoever uses the disk can be killed between them: freeze stops the disk, no request is answered any more; cut
// decides what is on the medium. After it the image has a new generation, and requests to older ones fail. Requests are those of the kernel, many at
// a time.
type disk struct {
	mu    sync.Mutex
	awake sync.Cond // frozen, or generation, has changed

	medium   []byte
	cache    []byte // what is read: medium with all of unsynced in it
	unsynced []piece
	held     []piece // writes that have come since the disk was frozen: they may reach the medium

	generation int
	frozen     bool
	stopAfter  int // freezes with the nth write or flush from now; 0: does not
	lies       bool
	fault      Fault
	rng        *rand.Rand // of the fault
	whole      []int64    // where the blocks are that are written as a whole
	counts     Counts
}

// piece is a write.
type piece struct {
	offset int64
	data   []byte
}

const sectorSize = 512

// wholeSize is the length of the blocks that are written as a whole: those with the superblocks of the file system. ext4 has its own in the first one, two
// sectors with one checksum, which it writes outside of its journal, btrfs in eight sectors 64 KiB from the beginning: on a disk that tears them apart the file
// system itself is lost ("invalid superblock checksum").
const wholeSize = 4096

// Fault is how a disk fails.
type Fault struct {
	Write  int    // the nth write from now fails; 0: none
	Flush  int    // the nth flush from now fails; 0: none
	More   int    // so many writes, or flushes, after it fail too
	Sticky bool   // and so does everything after it, until the disk is repaired
	Seed   uint64 // of what is on the medium then

	broken bool
}

// Counts is what a disk has done.
type Counts struct {
	Writes, Flushes, Cuts       int
	Unsynced, Kept              int // sectors at all cuts: not flushed, and of these on the medium
	FailedWrites, FailedFlushes int
}

// newDisk returns a disk with an image on its medium.
func newDisk(image []byte) *disk {
	d := &disk{whole: []int64{0}}
	d.awake.L = &d.mu
	d.load(image)
	return d
}

// load puts another image on the medium, in a new generation.
func (d *disk) load(image []byte) (generation int) {
	cache := make([]byte, len(image))
	copySparse(cache, image)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.medium, d.cache = image, cache
	return d.restart()
}

// restart is the beginning of a generation.
func (d *disk) restart() (generation int) {
	d.unsynced, d.held, d.frozen, d.stopAfter, d.fault = nil, nil, false, 0, Fault{}
	d.generation++
	d.awake.Broadcast()
	return d.generation
}

// copySparse copies without touching memory that would become zero, which it is.
func copySparse(to, from []byte) {
	for i := 0; i < len(from); i += len(zeros) {
		end := min(i+len(zeros), len(from))
		if part := from[i:end]; string(part) != string(zeros[:len(part)]) {
			copy(to[i:end], part)
		}
	}
}

var zeros [64 << 10]byte

// run waits until the disk does something, which it never will for a generation that is gone. hold is called if it was frozen meanwhile.
func (d *disk) run(generation int, hold func()) syscall.Errno {
	if d.frozen && generation == d.generation && hold != nil {
		hold()
	}
	for d.frozen && generation == d.generation {
		d.awake.Wait()
	}
	if generation != d.generation {
		return syscall.EIO
	}
	return 0
}

// countDown freezes the disk when its time has come.
func (d *disk) countDown(generation int) {
	if d.stopAfter > 0 && generation == d.generation && !d.frozen {
		if d.stopAfter--; d.stopAfter == 0 {
			d.frozen = true
			d.awake.Broadcast()
		}
	}
}

func (d *disk) read(generation int, b []byte, offset int64) (int, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if errno := d.run(generation, nil); errno != 0 {
		return 0, errno
	}
	if offset >= int64(len(d.cache)) {
		return 0, 0
	}
	return copy(b, d.cache[offset:]), 0
}

func (d *disk) write(generation int, b []byte, offset int64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := piece{offset, slices.Clone(b)}
	d.countDown(generation)
	if errno := d.run(generation, func() { d.held = append(d.held, p) }); errno != 0 {
		return errno
	}
	if offset < 0 || offset+int64(len(b)) > int64(len(d.cache)) {
		return syscall.ENOSPC
	}
	d.counts.Writes++
	if d.fails(&d.fault.Write) {
		d.counts.FailedWrites++
		for _, s := range d.sectors(p) {
			if d.rng.IntN(2) == 0 {
				d.add(s)
			}
		}
		return syscall.EIO
	}
	d.add(p)
	return 0
}

// add is a write that succeeds.
func (d *disk) add(p piece) {
	copy(d.cache[p.offset:], p.data)
	d.unsynced = append(d.unsynced, p)
}

// sectors are the parts of a write that the disk writes one by one.
func (d *disk) sectors(p piece) (parts []piece) {
	for len(p.data) > 0 {
		n := sectorSize - int(p.offset%sectorSize)
		if slices.Contains(d.whole, p.offset&^(wholeSize-1)) {
			n = wholeSize - int(p.offset%wholeSize)
		}
		n = min(n, len(p.data))
		parts = append(parts, piece{p.offset, p.data[:n]})
		p = piece{p.offset + int64(n), p.data[n:]}
	}
	return parts
}

// fails reports whether the fault hits a request of the kind that counter counts.
func (d *disk) fails(counter *int) bool {
	if *counter > 0 {
		if *counter--; *counter == 0 {
			d.fault.broken = true
			if d.fault.More > 0 {
				d.fault.More--
				*counter = 1
			}
			return true
		}
	}
	return d.fault.broken && d.fault.Sticky
}

func (d *disk) flush(generation int) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countDown(generation)
	if errno := d.run(generation, nil); errno != 0 {
		return errno
	}
	d.counts.Flushes++
	switch {
	case d.fails(&d.fault.Flush):
		d.counts.FailedFlushes++
		d.flushPart()
		return syscall.EIO
	case d.lies:
		return 0
	}
	for _, p := range d.unsynced {
		copy(d.medium[p.offset:], p.data)
	}
	d.unsynced = nil
	return 0
}

// flushPart is a flush that fails. What it has not written stays in the cache, for a flush that succeeds later says that it is durable; and may be
// lost if there will be none.
func (d *disk) flushPart() {
	var kept []piece
	for _, p := range d.unsynced {
		for _, s := range d.sectors(p) {
			switch d.rng.IntN(4) {
			case 0:
				if d.fault.Sticky {
					copy(d.cache[s.offset:], d.medium[s.offset:s.offset+int64(len(s.data))])
					continue
				}
				fallthrough
			case 1:
				kept = append(kept, s)
			default:
				copy(d.medium[s.offset:], s.data)
			}
		}
	}
	d.unsynced = kept
	for _, s := range kept {
		copy(d.cache[s.offset:], s.data)
	}
}

// setFault makes the disk fail; Fault{} repairs it.
func (d *disk) setFault(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.rng = f, rand.New(rand.NewPCG(f.Seed, 11))
}

// arm freezes the disk with the nth write or flush from now; 0: no more.
func (d *disk) arm(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopAfter = n
}

// freeze stops the disk now.
func (d *disk) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopAfter, d.frozen = 0, true
	d.awake.Broadcast()
}

// waitFrozen waits until the disk is frozen, at most so long.
func (d *disk) waitFrozen(limit time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	late := false
	defer time.AfterFunc(limit, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		late = true
		d.awake.Broadcast()
	}).Stop()
	for !d.frozen && !late {
		d.awake.Wait()
	}
	return d.frozen
}

// cut ends a generation: what was not flushed is on the medium or not, as the seed says.
func (d *disk) cut(seed uint64) (generation int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 12))
	pieces := append(d.unsynced, d.held...)
	pieces = slices.DeleteFunc(pieces, func(p piece) bool { return p.offset < 0 || p.offset+int64(len(p.data)) > int64(len(d.medium)) })
	order := rng.Perm(len(pieces))
	if rng.IntN(2) == 0 {
		slices.Sort(order)
	}
	// Of 100 writes so many are there, of the sectors of a torn one half.
	keep, tear := []int{0, 10, 50, 90, 100}[rng.IntN(5)], []int{0, 10, 100}[rng.IntN(3)]
	for _, i := range order {
		kept, torn := rng.IntN(100) < keep, rng.IntN(100) < tear
		for _, s := range d.sectors(pieces[i]) {
			d.counts.Unsynced++
			if kept && !(torn && rng.IntN(2) == 0) {
				d.counts.Kept++
				copy(d.medium[s.offset:], s.data)
			}
		}
	}
	for _, p := range pieces {
		copy(d.cache[p.offset:], d.medium[p.offset:p.offset+int64(len(p.data))])
	}
	d.counts.Cuts++
	return d.restart()
}
