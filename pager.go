package alder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// The pager joins storage, metas, freelist, log and readers: it opens the store, gives out pages, publishes snapshots and grows the
// store. How transactions become durable stands in group.go, redolog.go and checkpoint.go. It does not know trees.
//
// A store whose sync, append to the log or meta write failed is in the failed state: it never writes a meta again, because
// the system may have dropped the pages that it could not write and would report success the next time.
//
// Locks, in the order in which they are taken: the writer lock, publishMu, commitMu, that of the unwritten pages. No
// I/O is done with commitMu held.

// pagerOptions is what the pager takes from Options.
type pagerOptions struct {
	pageSize      int // asked for; 0: whatever the store has
	newPageSize   int // of a store that is made
	maxSize       int64
	readOnly      bool
	volatile      bool // the storage does not outlive the process: nothing is made durable
	dirtyLimit    int  // bytes of dirty pages that a transaction, and of unwritten pages that the store, keeps in memory
	logSize       int64
	longValue     int           // see defaultLongValue
	maxRecord     int           // see maxRecord
	historyLimit  int64         // bytes of log that subscribers may keep
	syncInterval  time.Duration // of lazy commits
	checkpointAge time.Duration
	logger        *slog.Logger
	background    func(func()) // runs work beside the caller, which holds no lock
	waiting       func(bool)   // called by who waits for a group to be appended, true, or for a checkpoint or a durable write, false; may be nil

	punchHoles     bool
	punchLeast     int64         // see there
	shrinkTime     time.Duration // of one transaction of a shrink
	shrinkPatience time.Duration // see there

	removedInterval time.Duration // see there

	autoShrinkLeast int64  // see there
	checkpointed    func() // called after each checkpoint in the background

	crowdedFrom int // see there
}

// defaultLongValue is the length from which on a value is written once: to its overflow run, durably, before the record that refers to it
// goes into the log. Shorter ones lie in the record too: a second durable write would cost more than their bytes do. No key is
// as long.
const defaultLongValue = 64 << 10

type pager struct {
	// Constant after open.
	st       storage
	opts     pagerOptions
	pageSize int
	shift    uint
	fileID   [16]byte
	epoch    uint64
	survived [survivedEpochs]txid // as in meta
	lines    [knownLines]pastLine // as in meta
	folded   foldedRange          // as in meta
	place    uint64               // as in meta
	path     string               // of the file, if it is in one
	broken   chan struct{}        // closed in the failed state
	cold     *coldReads           // nil: reads never wait for a disk
	attended attendedStorage      // st, if appends can be attended; else nil
	watch    *attendance          // of those; else nil

	// Atomic.
	published  atomic.Pointer[snapshot] // nil when closed
	visible    atomic.Uint64            // txid of visibleState; above published's, its pages must be written first
	failure    atomic.Pointer[error]    // the failed state and its cause
	untold     atomic.Pointer[untold]   // the same, until it has been told
	writer     atomic.Bool              // a transaction has the writer lock
	verified   atomic.Pointer[verifiedPages]
	eager      atomic.Int32  // see materializeEagerly
	writingOut atomic.Bool   // unwritten pages are being written in the background
	front      atomic.Uint64 // pages from here on are to be free soon, for the store becomes shorter; 0: it does not
	overdrawn  atomic.Int64  // how many such pages were taken since a transaction was held back for that
	held       atomic.Int64  // for how long
	readers    readerTable
	telling    sync.RWMutex // held for reading by durable writes until an error is known to all; see sync
	freeN      atomic.Int64 // of the freelist, as of the last commit
	pendingN   atomic.Int64
	mapPages   atomic.Int64

	// The writer lock: who has put a value into it is the writer. The runtime serves waiters in order.
	writing chan struct{}

	shrinking chan struct{} // who has put a value into it shrinks the store
	stopping  chan struct{} // closed when the store is being closed

	// Writer only.
	fl        *freelist
	tip       state // written with commitMu too
	old       []oldMapping
	dirty     dirtyPages // of the transaction at work
	unwritten unwrittenPages
	handed    []handedPage // memory for handOver
	record    recordWriter
	changes   []mapChange // memory for the next transaction
	freed     []freedRun
	ws        *workspace
	staging   []byte // where pages are joined for one write
	pins      pinSet // memory for reclaim
	logRuns   []run  // all runs of the log that are allocated
	logRaised pgid   // the high water mark after the log raised it last
	commits   int    // since open

	shrinkingAtClose bool      // what it keeps free is for nobody who goes on now
	looked           time.Time // when checkRemovedOften looked
	replay           *logScan

	crowd crowd // of the one who leads

	publishMu sync.Mutex // one at a time writes unwritten pages and publishes; guards what follows
	due       []*unwrittenPage
	joined    []byte

	commitMu      sync.Mutex // guards what follows
	durable       meta       // the newest durable meta
	slot          int        // where it is
	visibleState  state
	publishing    txid // what is being published; 0: nothing
	sealed        txid // of the checkpoint under way; 0: none
	running       *checkpointRun
	groups        []*group // the first may be on its way into the log; only the last can be open
	flushing      bool     // somebody leads
	gathered      int      // transactions of the last group that was appended
	log           redoLog
	feed          feed
	fewRuns       bool // none is kept to be used again: the store is to become shorter
	counters      counters
	wrote         bool // a meta
	checkpointDue bool // one has been asked for
	syncing       bool // syncLazily will run
	aging         bool // age will run
	timers        map[*time.Timer]struct{}
	closed        bool
	pinned        []txid         // memory for newestPin
	bodies        [][]byte       // memory for the bodies of groups
	work          sync.WaitGroup // background work; added to under commitMu while not closed
}

// oldMapping is a mapping that snapshots up to last may use.
type oldMapping struct {
	m    *mapping
	last txid
}

func (pg *pager) setPageSize(n int) {
	pg.pageSize = n
	pg.shift = uint(bits.TrailingZeros(uint(n)))
	pg.ws = newWorkspace(n)
	pg.dirty.pageSize = n
	pg.opts.longValue = max(pg.opts.longValue, n) // a run that the log refers to has more than one page
}

func (pg *pager) offset(id pgid) int64 { return int64(id) << pg.shift }

// treePages is the number of pages that trees and overflow runs use.
func (pg *pager) treePages() int {
	return int(pg.fl.highWater-firstPage) - pg.fl.free - pg.fl.pendingPages - pg.fl.mapPages() - pg.logPages()
}

// logPages is the number of pages that the log has.
func (pg *pager) logPages() int {
	n := 0
	for _, r := range pg.logRuns {
		n += r.n
	}
	return n
}

func (pg *pager) noteCounts() {
	pg.freeN.Store(int64(pg.fl.free))
	pg.pendingN.Store(int64(pg.fl.pendingPages))
	pg.mapPages.Store(int64(pg.fl.mapPages()))
}

// counters count what is done for durability, since open.
type counters struct {
	frames, transactions, logBytes int64
	checkpoints, checkpointBytes   int64
	checkpointTime                 time.Duration
}

// add counts a group that has been appended.
func (c *counters) add(g *group) {
	c.frames++
	c.transactions += int64(g.count)
	c.logBytes += g.size()
}

func (pg *pager) counts() counters {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	return pg.counters
}

// ---- the writer

// lock waits for the writer lock, in order of arrival, until ctx ends.
func (pg *pager) lock(ctx context.Context) error {
	select {
	case pg.writing <- struct{}{}:
		return nil
	default:
	}
	select {
	case pg.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (pg *pager) unlock() { <-pg.writing }

// tryLock takes the writer lock, or returns ErrBusy if a transaction has it. The store's own work is short, so it is waited for.
func (pg *pager) tryLock() error {
	for {
		select {
		case pg.writing <- struct{}{}:
			return nil
		default:
		}
		if err := pg.writable(); err != nil {
			return err
		}
		if pg.writer.Load() {
			return ErrBusy
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// writable returns the error that every write meets in a store that is closed, failed or read-only.
func (pg *pager) writable() error {
	if pg.published.Load() == nil {
		return ErrDatabaseNotOpen
	}
	if pg.opts.readOnly {
		return ErrDatabaseReadOnly
	}
	return pg.failed()
}

func (pg *pager) failed() error {
	if cause := pg.failure.Load(); cause != nil {
		return *cause
	}
	return nil
}

// missed is told of a page that the writer could not read as it was written. If no checkpoint has made it durable, the system has dropped it
// after a failed write, which the next sync would report: the store has failed.
func (pg *pager) missed(r pageRef, err error) error {
	pg.commitMu.Lock()
	lost := r.birth > pg.durable.txid && errors.Is(err, ErrCorrupt)
	pg.commitMu.Unlock()
	if !lost {
		return err
	}
	return pg.fail("reading a page that was written before", err)
}

// checkRemoved returns ErrRemoved if what is written now would be lost with the process.
func (pg *pager) checkRemoved() error {
	if gone, err := pg.st.removed(); err != nil {
		return fmt.Errorf("looking at the file: %w", err)
	} else if gone {
		return ErrRemoved
	}
	return nil
}

// removedInterval is the time for which a look at the file's names is good for those who join a group.
const removedInterval = time.Millisecond

// checkRemovedOften is checkRemoved for the writer: whoever begins a group looks; others only if that is some time ago.
func (pg *pager) checkRemovedOften() error {
	pg.commitMu.Lock()
	n := len(pg.groups)
	join := n > 0 && !pg.groups[n-1].closed
	pg.commitMu.Unlock()
	if now := time.Now(); !join || now.Sub(pg.looked) > pg.opts.removedInterval {
		pg.looked = now
		return pg.checkRemoved()
	}
	return nil
}

// fail puts the store into the failed state and returns the error that says so. The caller does not have commitMu.
func (pg *pager) fail(op string, cause error) error {
	defer pg.tellFailure()
	return pg.failLocked(op, cause)
}

// untold is a failure of which neither the next open nor the log knows.
type untold struct {
	op    string
	cause error
}

// failLocked is fail for a caller that has commitMu, and calls tellFailure when he has given it up.
func (pg *pager) failLocked(op string, cause error) error {
	err := fmt.Errorf("%w, open it again: %s: %w", ErrFailed, op, cause)
	if pg.failure.CompareAndSwap(nil, &err) {
		close(pg.broken)
		pg.distrust()
		pg.untold.Store(&untold{op, cause})
	}
	return *pg.failure.Load()
}

// tellFailure leaves word of a failure for the next open, and tells the log of it.
func (pg *pager) tellFailure() {
	u := pg.untold.Swap(nil)
	if u == nil {
		return
	}
	pg.markFailed()
	if pg.opts.logger != nil {
		pg.opts.logger.Error("alder: store is in the failed state", "op", u.op, "error", u.cause)
	}
}

// distrust lets pages be verified whenever they are read from now on: the system may have dropped those that it could not write, and read
// what was there before.
func (pg *pager) distrust() {
	never := &verifiedPages{never: true}
	if v := pg.verified.Swap(never); v != nil {
		v.clear() // for readers that have begun
	}
	for {
		s := pg.published.Load()
		if s == nil || s.verified == never {
			return
		}
		now := *s
		now.verified, now.opened = never, nil
		if pg.published.CompareAndSwap(s, &now) {
			return
		}
	}
}

// ---- writing pages

// maxWrite is the number of bytes that are joined for one write.
const maxWrite = 256 << 10

// stage returns a buffer of n bytes for one write.
func (pg *pager) stage(n int) []byte {
	if len(pg.staging) < n {
		pg.staging = make([]byte, n)
	}
	return pg.staging[:n]
}

func (pg *pager) writePages(p []byte, id pgid) error {
	if err := pg.st.writeAt(p, pg.offset(id)); err != nil {
		return fmt.Errorf("writing page %d: %w", id, err)
	}
	return nil
}

// ---- making durable

// writeDurable writes p durably. An error is the failed state.
func (pg *pager) writeDurable(op string, p []byte, off int64) error {
	pg.telling.RLock()
	defer pg.telling.RUnlock()
	return pg.told(op, pg.st.writeDurable(p, off))
}

// told makes the error of a durable write the failed state.
func (pg *pager) told(op string, err error) error {
	if err != nil {
		return pg.fail(op, err)
	}
	return nil
}

// sync makes everything durable that was written before. An error is the failed state.
//
// The system reports a page that it could not write in the background once, and takes it for written afterwards. A durable write beside the
// sync may have been told instead: so those under way are waited for, and the sync has failed if one of them has.
func (pg *pager) sync(op string) error {
	if err := pg.st.sync(); err != nil {
		return pg.fail(op, err)
	}
	if !pg.telling.TryLock() {
		if pg.opts.waiting != nil {
			pg.opts.waiting(false)
		}
		pg.telling.Lock()
	}
	defer pg.telling.Unlock()
	return pg.failed()
}

// runParts calls write with the pages of an overflow run, header and data and zeros behind them, as many at a time as buf holds, which is
// whole pages.
func (pg *pager) runParts(header, data, buf []byte, write func(part []byte, off int64) error) error {
	size := runPages(len(data), pg.pageSize) << pg.shift
	for off := 0; off < size; off += len(buf) {
		part := buf[:min(size-off, len(buf))]
		n := 0
		if off == 0 {
			n = copy(part, header)
		}
		clear(part[n+copy(part[n:], data[min(off+n-pageHeader, len(data)):]):])
		if err := write(part, int64(off)); err != nil {
			return err
		}
	}
	return nil
}

// ---- snapshots

// publish makes st, whose pages are all in the file, the snapshot that new readers get. The caller has publishMu.
func (pg *pager) publish(st state) {
	mp := pg.st.mapping()
	pg.published.Store(newSnapshot(snapshot{
		id: st.id, root: st.root, count: st.count, sequence: st.sequence, highWater: st.highWater,
		shift: pg.shift, m: mp, data: mp.data, verified: pg.coverVerified(st.highWater), cold: pg.cold,
		treePages: st.treePages,
	}))
}

// coverVerified returns the bits of verified pages, with room for n pages.
func (pg *pager) coverVerified(n pgid) *verifiedPages {
	for {
		v := pg.verified.Load()
		w := v.covering(n)
		if v == w || pg.verified.CompareAndSwap(v, w) {
			return w
		}
	}
}

// ---- end

// close lets the storage go. The caller has seen to it that no transaction is open and none can begin.
func (pg *pager) close() error {
	if err := pg.st.close(); err != nil {
		return fmt.Errorf("closing the file: %w", err)
	}
	return nil
}

// finish makes the last state durable without the log, and gives the log's pages back. The caller has the writer lock, and nobody reads.
func (pg *pager) finish() error {
	if pg.opts.readOnly {
		return nil
	}
	pg.waitCheckpoint()
	if err := pg.failed(); err != nil {
		return err
	}
	if pg.log.active {
		// The log ends with this checkpoint, and what it leaves at the end of the file goes.
		if err := pg.reclaim(); err != nil {
			return err
		}
		if err := pg.fl.lower(pg.logRuns); err != nil {
			return err
		}
	}
	if err := pg.checkpointNow(true); err != nil {
		return err
	}
	pg.commitMu.Lock()
	retired := pg.log.retired
	pg.log.retired = nil
	pg.commitMu.Unlock()
	if err := pg.freeLog(retired); err != nil {
		return err
	}
	return pg.trim()
}

// trim cuts the file to what is in use, and writes the last meta once more, so that both slots lead to the last state: a slot that is
// damaged later does no harm then. The shorter length is durable before the file is cut.
func (pg *pager) trim() error {
	if pg.opts.readOnly || pg.opts.volatile || pg.failed() != nil || !pg.wrote {
		return nil
	}
	end := min(pg.offset(pg.fl.highWater), pg.st.size())
	m := pg.durable
	m.sequence++
	m.fileLength = end
	if err := pg.writeMeta(m); err != nil {
		return err
	}
	if end == pg.st.size() {
		return nil
	}
	if err := pg.st.truncate(end); err != nil {
		return fmt.Errorf("cutting the store to %d bytes: %w", end, err)
	}
	return nil
}

// guarded runs fn with faults in data turned into its error.
func guarded(data []byte, fn func() error) (err error) {
	defer restoreFault(debug.SetPanicOnFault(true))
	defer recoverFault(data, &err)
	return fn()
}
