package alder

import (
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Tx is a transaction: a snapshot of the store to read, or the one writer.
//
// A read transaction and its buckets may be used by several goroutines at once, each with cursors of its own. A write
// transaction belongs to one goroutine at a time. Every transaction must be ended, by Commit or Rollback; one that is not
// keeps the pages of its snapshot from being reused.
//
// Slices that a transaction's methods return point into the mapped file, or are copies where the transaction itself
// changed the page; either way they are valid until the transaction ends, must not be modified, and have no spare capacity.
type Tx struct {
	// WriteFlag is kept for source compatibility with bbolt; it does nothing.
	WriteFlag int

	// Constant after begin.
	db      *DB
	pager   *pager
	block   *txBlock  // of a read transaction
	w       *txWriter // of the write transaction
	snap    *snapshot // what is read; the writer's own copy grows with the store
	managed bool      // View or Update ends it
	index   uint8     // in the block

	firstUsed atomic.Bool // memory for the first bucket that is asked for has been given out

	state atomic.Uint32          // txOpen, or how it ended
	err   atomic.Pointer[txFail] // the first failed read or write
}

const (
	txOpen uint32 = iota
	txClosed
)

// txFail is the first error that makes the rest of a transaction worthless.
type txFail struct{ err error }

// txWriter is what the write transaction has beyond a snapshot.
type txWriter struct {
	id         txid
	written    txid // pages of transactions up to this one are in the file
	floor      txid // no snapshot after this one was pinned at begin: younger pages of earlier transactions are shared, not copied anew
	shared     int  // pages of earlier transactions that this one has changed versions of
	level      Durability
	seen       *group      // of the tip at begin; nil if that is durable
	root       Bucket      // of the top-level buckets
	first      Bucket      // memory for the first one that is opened
	highWater  pgid        // at begin
	changes    []mapChange // pages taken and given up, in order
	freed      []freedRun  // pages of older transactions given up
	freedN     int         // their number
	valueRun   overflowRef // of the last of those values
	values     int64       // bytes of values that the record only refers to
	unsynced   bool        // some of them are not durable
	recovery   bool        // it replays the log
	moves      bool        // it moves pages, and changes nothing of what the store holds
	joined     bool        // part of the tip: nothing can be undone any more
	stats      TxStats
	onCommit   []func()
	puts       putBuffer
	dirtyLimit int // bytes of dirty pages that stay in memory
}

// writeTx is the memory of a write transaction and of what it needs in any case, with one bucket: one allocation for all.
type writeTx struct {
	tx      Tx
	w       txWriter
	snap    snapshot
	writers [2]bucketWriter
	last    [2]lastPut
}

// ---- begin

// beginRead returns a transaction that reads the published snapshot.
func (db *DB) beginRead() (*Tx, error) {
	pg := db.pager
	if pg == nil {
		return nil, ErrDatabaseNotOpen
	}
	want := pg.visible.Load() // not what becomes visible later: a busy writer must not keep a reader waiting
	for {
		slot, s := pg.readers.begin(&pg.published)
		if s == nil {
			return nil, ErrDatabaseNotOpen
		}
		if uint64(s.id) >= want {
			tx := newReadTx(slot)
			tx.db, tx.pager, tx.snap = db, pg, s
			return tx, nil
		}
		// What has been committed since is not in the file yet.
		pg.readers.end(slot)
		pg.eager.Store(eagerFor)
		if err := pg.materializeVisible(); err != nil {
			return nil, err
		}
	}
}

// txBlock is memory for read transactions that begin one after the other in the same slot, and for the first bucket that each of them asks
// for: the allocation of a transaction of its own, and what that brings the garbage collector, takes longer than its begin and end. None is used
// twice, for programs may go on calling a transaction that has ended.
type txBlock struct {
	slot    *readerSlot
	used    int // the slot's owner's only
	txs     [txBlockSize]Tx
	buckets atomic.Pointer[[txBlockSize]Bucket] // nil before the first one
}

const txBlockSize = 16

// newReadTx returns a read transaction that knows nothing but its slot.
func newReadTx(slot *readerSlot) *Tx {
	b, _ := slot.spare.(*txBlock)
	if b == nil || b.used == txBlockSize {
		b = &txBlock{slot: slot}
		if slot.lease == nil { // else the garbage collector must find the transaction when the program has lost it
			slot.spare = b
		}
	}
	tx := &b.txs[b.used]
	tx.block, tx.index = b, uint8(b.used)
	b.used++
	return tx
}

// newBucket returns memory for a bucket.
func (tx *Tx) newBucket() *Bucket {
	if tx.firstUsed.Load() || !tx.firstUsed.CompareAndSwap(false, true) {
		return &Bucket{}
	}
	if tx.w != nil {
		return &tx.w.first
	}
	all := tx.block.buckets.Load()
	if all == nil {
		all = new([txBlockSize]Bucket)
		tx.block.buckets.Store(all)
	}
	return &all[tx.index]
}

// beginWrite returns the write transaction. The caller has the writer lock, and gives it up if there is an error.
func (db *DB) beginWrite() (*Tx, error) {
	pg := db.pager
	if err := pg.writable(); err != nil {
		return nil, err
	}
	pg.opts.maxSize = int64(db.MaxSize)
	if err := guarded(pg.st.mapping().data, pg.reclaimSome); err != nil {
		return nil, err
	}
	return db.newWriteTx(pg.tip.id + 1), nil
}

// newWriteTx returns the write transaction with that number.
func (db *DB) newWriteTx(id txid) *Tx {
	pg := db.pager
	mp := pg.st.mapping()
	m := &writeTx{snap: snapshot{
		id: pg.tip.id, root: pg.tip.root, count: pg.tip.count, sequence: pg.tip.sequence, highWater: pg.fl.highWater,
		shift: pg.shift, m: mp, data: mp.data, verified: pg.coverVerified(pg.fl.highWater), cold: pg.cold, treePages: pg.tip.treePages,
	}}
	tx, w, s := &m.tx, &m.w, &m.snap
	w.id, w.written, w.highWater, w.changes, w.freed = id, pg.published.Load().id, pg.fl.highWater, pg.changes[:0], pg.freed[:0]
	w.dirtyLimit = pg.opts.dirtyLimit / 2 // the other half may be needed to collect puts
	pg.commitMu.Lock()
	if n := len(pg.groups); n > 0 && !db.NoSync {
		w.seen = pg.groups[n-1]
	}
	w.floor = pg.pinBelow(db.NoSync)
	pg.commitMu.Unlock()
	pg.ws.splits, pg.ws.merges = 0, 0
	pg.record.reset(pg.opts.maxRecord)
	pg.record.tooLong = pg.opts.volatile
	tx.db, tx.pager, tx.w, tx.snap = db, pg, w, s
	w.root.init(tx, tree{root: s.root, count: s.count, last: &m.last[0]}, s.sequence)
	w.root.w = &m.writers[0]
	w.first.w, w.first.tree.last = &m.writers[1], &m.last[1]
	return tx
}

// look lets the writer's snapshot see the store as it has grown.
func (tx *Tx) look() {
	s, pg := tx.snap, tx.pager
	s.highWater = pg.fl.highWater
	if mp := pg.st.mapping(); mp != s.m {
		s.m, s.data = mp, mp.data
	}
	s.verified = pg.coverVerified(s.highWater)
}

// ---- errors and faults

// Err returns the first error that a read of this transaction met: corrupt pages, or a part of the file that could not be
// read. Get and cursors then return nil as if nothing were there; View, Update and Commit return the error at the end.
func (tx *Tx) Err() error {
	if f := tx.err.Load(); f != nil {
		return f.err
	}
	return nil
}

// setErr remembers the first error and returns err.
func (tx *Tx) setErr(err error) error {
	if err != nil {
		tx.err.CompareAndSwap(nil, &txFail{err})
	}
	return err
}

// endRead, deferred as endRead(debug.SetPanicOnFault(true)), turns a fault in the mapping into the transaction's error.
func (tx *Tx) endRead(old bool) {
	debug.SetPanicOnFault(old)
	if r := recover(); r != nil {
		tx.setErr(damageIn(tx.snap.data, r))
	}
}

// endWrite is endRead for calls that return an error, of any kind: the changes of the transaction may be half done then.
func (tx *Tx) endWrite(old bool, err *error) {
	debug.SetPanicOnFault(old)
	if r := recover(); r != nil {
		*err = damageIn(tx.snap.data, r)
		tx.setErr(*err)
	}
}

// view calls fn with a read transaction and ends it. A fault in the mapping, in fn too, becomes the error; any other panic goes on.
func (tx *Tx) view(fn func(*Tx) error) (err error) {
	tx.managed = true
	defer tx.finish(debug.SetPanicOnFault(true), &err)
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Err()
}

// update calls fn with the write transaction and commits it, or rolls it back if fn fails or panics.
func (tx *Tx) update(fn func(*Tx) error) (err error) {
	tx.managed = true
	defer tx.finish(debug.SetPanicOnFault(true), &err)
	if err := fn(tx); err != nil {
		return err
	}
	tx.managed = false
	return tx.commit()
}

// finish, deferred, ends a managed transaction that has not been committed.
func (tx *Tx) finish(old bool, err *error) {
	debug.SetPanicOnFault(old)
	r := recover()
	tx.managed = false
	if tx.state.Load() == txOpen {
		if e := tx.rollback(); e != nil && *err == nil {
			*err = e
		}
	}
	if r != nil {
		*err = faultIn(tx.snap.data, r)
	}
}

// ready returns the error of using a transaction that has ended or failed, or for writing one that only reads.
func (tx *Tx) ready(write bool) error {
	if tx.state.Load() != txOpen {
		return ErrTxClosed
	}
	if write && tx.w == nil {
		return ErrTxNotWritable
	}
	if write {
		return tx.Err()
	}
	return nil
}

// ---- pageReader and pageWriter

// readPage returns the page that r means to this transaction.
func (tx *Tx) readPage(r pageRef) (page, error) {
	if tx.w == nil {
		return tx.snap.readPage(r)
	}
	if r.birth > tx.w.written { // that is not above the floor
		if p := tx.memory(r); p != nil {
			return p, nil
		}
	}
	p, err := tx.snap.readPage(r)
	if err != nil {
		err = tx.pager.missed(r, err)
	}
	return p, err
}

// memory returns a page that the writer has in memory only; nil for any other.
func (tx *Tx) memory(r pageRef) page {
	if r.birth > tx.w.floor {
		if p := tx.changed(r); p != nil || r.birth == tx.w.id {
			return p
		}
	}
	return tx.pager.unwritten.find(r)
}

// changed returns the dirty page that r refers to; nil if there is none.
func (tx *Tx) changed(r pageRef) page {
	if p := tx.pager.dirty.find(r.id); p != nil && p.birth() == r.birth {
		return p
	}
	return nil
}

func (tx *Tx) readRun(r overflowRef) ([]byte, error) { return tx.snap.readRun(r) }

func (tx *Tx) workspace() *workspace { return tx.pager.ws }

// own reports whether this transaction wrote p, so that it may still change.
func (tx *Tx) own(p page) bool {
	if tx.w == nil || p.birth() <= tx.w.floor {
		return false
	}
	return p.birth() == tx.w.id || tx.changed(p.ref()) != nil
}

// inMemory reports whether p is a page that the file need not hold yet.
func (tx *Tx) inMemory(p page) bool {
	return tx.w != nil && p.birth() > tx.w.written && tx.memory(p.ref()) != nil
}

func (tx *Tx) touch(r pageRef) (page, error) {
	if r.birth > tx.w.floor {
		if p := tx.changed(r); p != nil {
			return p, nil
		}
	}
	src, err := tx.readPage(r)
	if err != nil {
		return nil, err
	}
	return tx.touchPage(r, src)
}

// touchPage is the only place where a page is copied in order to be changed. A page that an earlier transaction has written and nobody has
// seen keeps its number: if this transaction commits before anybody does, its version takes the place of the other. (Invariant 46)
func (tx *Tx) touchPage(r pageRef, src page) (page, error) {
	d := &tx.pager.dirty
	if r.birth > tx.w.floor {
		if p := tx.changed(r); p != nil {
			return p, nil
		}
		own := r.birth == tx.w.id // written out before to make room: it comes back under its own number
		if own || tx.pager.unwritten.find(r) != nil {
			p := d.add(r.id)
			copy(p, src)
			if !own {
				tx.w.shared++
			}
			return p, nil
		}
	}
	id, err := tx.allocate(1)
	if err != nil {
		return nil, err
	}
	p := d.add(id)
	copy(p, src)
	p.setRef(pageRef{id, tx.w.id})
	return p, tx.freePage(r)
}

func (tx *Tx) newPage(k pageKind) (page, error) {
	id, err := tx.allocate(1)
	if err != nil {
		return nil, err
	}
	p := tx.pager.dirty.add(id)
	p.clearHeader(k, pageRef{id, tx.w.id})
	return p, nil
}

func (tx *Tx) allocate(n int) (pgid, error) {
	pg := tx.pager
	allocate := pg.allocateBeside
	if tx.w.recovery {
		allocate = pg.allocate // its own checkpoint is what the room is kept for
	}
	id, err := allocate(n)
	if err != nil && pg.relieve(tx.w.changes, tx.w.highWater) {
		id, err = allocate(n)
	}
	if err != nil {
		return 0, err
	}
	tx.w.noteChange(run{id, n}, false)
	tx.w.stats.PageCount += int64(n)
	tx.w.stats.PageAlloc += int64(n * tx.pager.pageSize)
	tx.look()
	return id, nil
}

// noteChange adds a change, joined to the last one where they are neighbors.
func (w *txWriter) noteChange(r run, free bool) {
	if n := len(w.changes); n > 0 {
		if last := &w.changes[n-1]; last.free == free && last.id+pgid(last.n) == r.id {
			last.n += r.n
			return
		}
	}
	w.changes = append(w.changes, mapChange{r, free})
}

func (tx *Tx) freePage(r pageRef) error {
	if r.birth > tx.w.floor && tx.changed(r) != nil {
		tx.pager.dirty.drop(r.id)
	}
	return tx.release(freedRun{run{r.id, 1}, r.birth})
}

func (tx *Tx) freeRun(r overflowRef) error {
	return tx.release(freedRun{run{r.id, runPages(r.length, tx.pager.pageSize)}, r.birth})
}

// release gives pages up: at once if nobody else can know them, else at commit.
func (tx *Tx) release(r freedRun) error {
	if r.id < firstPage || r.id+pgid(r.n) > tx.pager.fl.highWater {
		return corrupt(r.id, "a reference to %d pages here cannot be right, pages end at %d", r.n, tx.pager.fl.highWater)
	}
	tx.w.noteChange(r.run, true)
	if r.birth == tx.w.id {
		// The record may refer to a long value, which must stay where it is although it has been replaced.
		if pg := tx.pager; pg.opts.volatile || r.n*pg.pageSize <= pg.opts.longValue {
			return pg.fl.release(r.run)
		}
	} else if tx.w.freedN += r.n; tx.w.freedN > int(tx.w.highWater) {
		return tooManyPages(r.id)
	}
	tx.w.freed = append(tx.w.freed, r)
	return nil
}

// tooManyPages is the error of a walk that meets more pages than the store has.
func tooManyPages(id pgid) error {
	return corrupt(id, "a walk over trees meets more pages than are in use: some are in use twice")
}

// ---- writing dirty pages

// writeDirty writes all dirty pages to their places, neighbors together.
func (tx *Tx) writeDirty() error {
	pg := tx.pager
	ids := pg.dirty.sorted(nil)
	for len(ids) > 0 {
		n := 1
		for n < len(ids) && ids[n] == ids[0]+pgid(n) && (n+1)*pg.pageSize <= maxWrite {
			n++
		}
		buf := pg.stage(n * pg.pageSize)
		for i, id := range ids[:n] {
			p := pg.dirty.find(id)
			p.seal()
			copy(buf[i*pg.pageSize:], p)
			tx.snap.verified.set(id)
		}
		if err := pg.writePages(buf, ids[0]); err != nil {
			return err
		}
		tx.w.stats.Write++
		ids = ids[n:]
	}
	return nil
}

// spill writes the dirty pages out and drops them when they take more memory than allowed.
func (tx *Tx) spill() error {
	pg := tx.pager
	if pg.dirty.inUse*pg.pageSize <= tx.w.dirtyLimit {
		return nil
	}
	begun := time.Now()
	if err := tx.unshare(); err != nil {
		return err
	}
	if err := tx.writeDirty(); err != nil {
		return err
	}
	if tx.w.stats.Spill == 0 {
		pg.dirty = dirtyPages{pageSize: pg.pageSize} // from now on puts that are collected may need the memory
		pg.unwritten.pool = nil
		tx.w.dirtyLimit = pg.opts.dirtyLimit
	} else {
		pg.dirty.clear()
	}
	pg.ws.evicted++
	tx.w.stats.Spill++
	tx.w.stats.SpillTime += time.Since(begun)
	return nil
}

// ---- end

// Rollback ends the transaction and drops its changes. Read transactions must be ended with it. It returns ErrTxClosed when the
// transaction has ended already, and panics in Update and View.
func (tx *Tx) Rollback() error {
	if tx.managed {
		panic("managed tx rollback not allowed")
	}
	return tx.rollback()
}

func (tx *Tx) rollback() error {
	err := tx.end(false)
	if err == nil && tx.w != nil && tx.w.seen != nil && !tx.lazy() {
		// What the caller has read, and may tell, must not be taken back by a crash. If it cannot be made durable, the next commit says so.
		_ = tx.pager.await(tx.w.seen)
	}
	return err
}

// end closes the transaction; a write transaction that was not committed is undone.
func (tx *Tx) end(committed bool) error {
	if !tx.state.CompareAndSwap(txOpen, txClosed) {
		return ErrTxClosed
	}
	if tx.w == nil {
		tx.pager.endReader(tx.block.slot)
		return nil
	}
	pg := tx.pager
	var err error
	if !committed && tx.w.joined && pg.failed() == nil {
		// It is part of the tip, but something after that failed, or panicked.
		err = pg.fail("completing a transaction", errors.New("it is committed in part"))
	}
	if !committed && pg.failed() == nil {
		err = guarded(pg.st.mapping().data, tx.undo)
		if err != nil {
			err = pg.fail("undoing a transaction", err)
		}
	}
	pg.dirty.reset()
	if e := tx.w.puts.release(pg.ws); e != nil && !committed {
		err = errors.Join(err, e) // what has happened has, though memory could not be given back
	}
	pg.ws.evicted++
	if cap(tx.w.changes) <= maxKeptChanges && cap(tx.w.freed) <= maxKeptChanges {
		pg.changes, pg.freed = tx.w.changes, tx.w.freed
	}
	tx.w.stats.Split, tx.w.stats.Rebalance = pg.ws.splits, pg.ws.merges
	tx.db.addTxStats(tx)
	pg.writer.Store(false)
	pg.unlock()
	return err
}

// maxKeptChanges is how many changes the memory that is kept for the next transaction has room for.
const maxKeptChanges = 1 << 14

// undo gives back the pages that the transaction has taken.
func (tx *Tx) undo() error {
	pg, w := tx.pager, tx.w
	raised := pg.logRaised > w.highWater // the log, or a map, has taken pages behind those of the transaction: the mark stays where it is
	end := w.highWater
	if raised {
		end = pg.fl.highWater
	}
	if err := pg.fl.undo(w.changes, end); err != nil {
		return err
	}
	for _, r := range w.freed {
		if r.birth == w.id { // a long value of its own, which had to stay
			if err := pg.fl.release(r.run); err != nil {
				return err
			}
		}
	}
	if !raised {
		return nil
	}
	return pg.noteTaken(w.changes, w.highWater)
}

// ---- facts

// ID returns the number of the snapshot that a read transaction reads, or that a write transaction will make. It is an int as in bbolt: where that
// has 32 bits it is wrong from transaction 2³¹ on. Snapshot().TxID is the number of what is read with all its bits, on every system.
func (tx *Tx) ID() int { return int(tx.number()) }

// number is ID in full on every system.
func (tx *Tx) number() txid {
	if tx.w != nil {
		return tx.w.id
	}
	return tx.snap.id
}

// DB returns the store.
func (tx *Tx) DB() *DB { return tx.db }

// Size returns the number of bytes that WriteTo would write: those of all pages in use, without the free ones. In a write
// transaction it may differ by the pages that Commit will need or give up.
func (tx *Tx) Size() int64 {
	end, _ := copyLayout(tx.treePages(), tx.pager.pageSize)
	return int64(end) << tx.snap.shift
}

// treePages is the number of pages of trees and overflow runs.
func (tx *Tx) treePages() int {
	if tx.w == nil {
		return tx.snap.treePages
	}
	n := tx.pager.treePages()
	for _, r := range tx.w.freed {
		n -= r.n
	}
	return n
}

// Writable reports whether the transaction can change something.
func (tx *Tx) Writable() bool { return tx.w != nil }

// OnCommit adds a function that is called after the transaction has been committed. It does nothing in a read transaction.
func (tx *Tx) OnCommit(fn func()) {
	if tx.w != nil {
		tx.w.onCommit = append(tx.w.onCommit, fn)
	}
}

// Stats returns what the transaction has done so far; all zero for a read transaction.
func (tx *Tx) Stats() TxStats {
	if tx.w == nil {
		return TxStats{}
	}
	s := tx.w.stats
	if tx.state.Load() == txOpen {
		s.Split, s.Rebalance = tx.pager.ws.splits, tx.pager.ws.merges
	}
	return s
}

var _ pageWriter = (*Tx)(nil)
