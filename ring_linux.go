package alder

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is an io_uring for one write at a time. The system writes with a thread of its own, through the same open file, so it is as durable, and fails in
// the same way, as a write in the caller's thread.
//
// What if nobody looks? The descriptor is in the runtime's poller, with a goroutine (watch) that looks when the poller says so. The poller is asked whenever a
// processor has nothing else to do, and every 10 ms otherwise.
//
// A process that ends waits for the write under way before its files are closed, so its lock on a file holds as long as the write does: else a write of one that was killed
// could come after another process has opened the store. That is so where the helpers are threads of the process, since Linux 5.12; older ones are not asked.
type ring struct {
	// Constant.
	a       *attendance
	file    *os.File // the ring's own
	conn    syscall.RawConn
	shared  []byte // the two queues
	entries []byte // what is to be done
	toDo    ringQueue
	done    ringQueue
	results unsafe.Pointer // of done
	order   *uint32        // which entry comes first; there is only one
	watched chan struct{}  // closed when watch has ended; nil before it begins

	// Of the one who writes.
	pinner runtime.Pinner
	prompt map[int]struct{} // threads whose helpers are prompt; see enter
}

// ringQueue is a queue of entries between head and tail, which are counts that grow for ever.
type ringQueue struct {
	head, tail *uint32
	mask       uint32
}

// What the system knows by these names: see io_uring_setup(2).
type (
	ringParams struct { // io_uring_params
		toDoEntries, doneEntries, flags, cpu, idle, features, worker uint32
		_                                                            [3]uint32
		toDo, done                                                   ringOffsets
	}
	ringOffsets struct { // io_sqring_offsets, io_cqring_offsets
		head, tail, mask, entries uint32
		a, b                      uint32 // flags, dropped; overflow, where the results are
		array                     uint32 // order of the entries; flags
		_                         uint32
		_                         uint64
	}
	ringEntry struct { // io_uring_sqe
		op, flags uint8
		_         uint16
		fd        int32
		off, addr uint64
		length, _ uint32
		user      uint64
		_         [3]uint64
	}
	ringResult struct { // io_uring_cqe
		user  uint64
		n     int32 // of bytes written, or an error number below zero
		flags uint32
	}
)

const (
	ringSharedQueues = 1 << 0 // IORING_FEAT_SINGLE_MMAP
	ringOwnThreads   = 1 << 9 // IORING_FEAT_NATIVE_WORKERS: helpers are threads of the process
	ringNeeds        = ringSharedQueues | ringOwnThreads
	ringEntriesAt    = 0x10000000 // IORING_OFF_SQES
	ringWrite        = 23         // IORING_OP_WRITE
	ringInThread     = 1 << 4     // IOSQE_ASYNC
)

// newRing makes a ring. An error means that there is none to be had: an old kernel, no permission, no memory.
func newRing(a *attendance) (_ *ring, err error) {
	var p ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	if err := unix.SetNonblock(int(fd), true); err != nil { // so that it gets into the poller
		return nil, errors.Join(err, unix.Close(int(fd)))
	}
	r := &ring{a: a, file: os.NewFile(fd, "io_uring"), prompt: map[int]struct{}{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if p.features&ringNeeds != ringNeeds {
		return nil, errors.ErrUnsupported
	}
	if r.conn, err = r.file.SyscallConn(); err != nil {
		return nil, err
	}
	size := max(int(p.toDo.array)+4*int(p.toDoEntries), int(p.done.b)+int(unsafe.Sizeof(ringResult{}))*int(p.doneEntries))
	if r.shared, err = unix.Mmap(int(fd), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	size = int(unsafe.Sizeof(ringEntry{})) * int(p.toDoEntries)
	if r.entries, err = unix.Mmap(int(fd), ringEntriesAt, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.shared[off])) }
	r.toDo = ringQueue{at(p.toDo.head), at(p.toDo.tail), *at(p.toDo.mask)}
	r.done = ringQueue{at(p.done.head), at(p.done.tail), *at(p.done.mask)}
	r.order, r.results = at(p.toDo.array), unsafe.Pointer(&r.shared[p.done.b])
	a.posted = r.done.tail
	return r, nil
}

// watch begins to look whether a write is done when the poller says so. Where that cannot be had it is an error.
func (r *ring) watch() error {
	if err := r.file.SetReadDeadline(time.Time{}); err != nil { // says whether the poller knows the file
		return fmt.Errorf("watching an io_uring: %w", err)
	}
	r.watched = make(chan struct{})
	go func() {
		defer close(r.watched)
		_ = r.conn.Read(func(uintptr) bool { // until the file is closed
			r.a.notice()
			return false
		})
	}()
	return nil
}

// write writes p at off through f, and calls beside meanwhile. It returns how much was written if that is less. The error is errNotTaken if nothing was begun: the caller
// must write in another way then.
func (r *ring) write(f *os.File, p []byte, off int64, beside func()) (n int, err error) {
	r.pinner.Pin(unsafe.SliceData(p))
	defer r.pinner.Unpin()
	tail := atomic.LoadUint32(r.toDo.tail)
	index := tail & r.toDo.mask
	*(*ringEntry)(unsafe.Pointer(&r.entries[uintptr(index)*unsafe.Sizeof(ringEntry{})])) = ringEntry{
		op: ringWrite, flags: ringInThread, fd: int32(f.Fd()), off: uint64(off),
		addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))), length: uint32(len(p)),
	}
	*r.order = index
	r.a.begin()
	atomic.StoreUint32(r.toDo.tail, tail+1)
	r.enter()
	if atomic.LoadUint32(r.toDo.head) == tail {
		atomic.StoreUint32(r.toDo.tail, tail)
		r.a.rest()
		return 0, errNotTaken
	}
	func() {
		defer r.wait() // if beside panics too: the system is reading p
		beside()
	}()
	runtime.KeepAlive(f)
	taken := r.a.taken.Load()
	n = int((*ringResult)(unsafe.Add(r.results, uintptr(taken&r.done.mask)*unsafe.Sizeof(ringResult{}))).n)
	atomic.StoreUint32(r.done.head, taken+1)
	r.a.taken.Store(taken + 1)
	if n >= 0 {
		return n, nil
	}
	switch errno := syscall.Errno(-n); errno {
	case unix.EINVAL, unix.EOPNOTSUPP, unix.EAGAIN, unix.EINTR, unix.ECANCELED:
		// The kernel does not know this kind of write (before 5.6), has no thread for it, or the thread that asked for it has ended. A write that the
		// disk has failed says something else; that must not be tried again.
		return 0, errNotTaken
	default:
		return 0, errno
	}
}

// wait returns when the write is done.
func (r *ring) wait() {
	r.a.notice()
	r.a.wait()
}

// promptTurn is the length of a turn that the system's helper asks for, in nanoseconds: the shortest there is. Since Linux 6.12 (EEVDF) a thread that has been
// waiting gets a processor from one that has just begun its turn only if it asks for shorter turns, and an append waits three or four times. Its share is the same.
const promptTurn = 100_000

// enter tells the system that there is something to do. Each thread that does so has a helper of its own, which is made by the first call and inherits what the
// thread asks for then.
func (r *ring) enter() {
	if _, known := r.prompt[unix.Gettid()]; !known {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		r.prompt[unix.Gettid()] = struct{}{}
		if now, err := unix.SchedGetAttr(0, 0); err == nil && now.Policy == unix.SCHED_NORMAL {
			prompt := *now
			prompt.Runtime = promptTurn
			if unix.SchedSetAttr(0, &prompt, 0) == nil {
				defer func() { _ = unix.SchedSetAttr(0, now, 0) }()
			}
		}
	}
	// Whether it was taken is to be seen in the ring.
	_, _, _ = unix.Syscall6(unix.SYS_IO_URING_ENTER, r.file.Fd(), 1, 0, 0, 0, 0)
}

// close gives the ring back. No write is under way, and nobody looks any more.
func (r *ring) close() error {
	err := r.file.Close()
	if r.watched != nil {
		<-r.watched
	}
	for _, data := range [][]byte{r.shared, r.entries} {
		if data != nil {
			err = errors.Join(err, unix.Munmap(data))
		}
	}
	return err
}

// notice is look for somebody who does not give way.
func (a *attendance) notice() {
	if s := a.state.Load(); s%attendPhases == attendWriting {
		a.lookInto(s, nil)
	}
}

// begin says that a write is under way.
func (a *attendance) begin() { a.state.Store(a.next() + attendWriting) }

// wait returns when the write is done.
func (a *attendance) wait() {
	a.parked.Store(true)
	waits := <-a.done
	a.parked.Store(false)
	a.state.Add(attendResumed - attendNoticed)
	if waits {
		a.back <- struct{}{} // it runs when the caller next waits for something
	}
}
