package alder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"time"
)

// DB is an open store. Its methods may be used by several goroutines at once.
type DB struct {
	// StrictMode runs Tx.Check after every commit, before the functions given to OnCommit, and panics if it finds an error. It
	// is slow, and meant for tests.
	StrictMode bool

	// NoSync is Options.NoSync; it may be changed between transactions.
	NoSync bool

	// MaxBatchSize is the largest number of calls that Batch joins into one transaction; 1 or less joins none. It must not be
	// changed while Batch is in use.
	MaxBatchSize int

	// MaxBatchDelay is kept for source compatibility with bbolt, where Batch waits so long for other calls to join. Here it joins those that have
	// come while it waited for the writer lock, and waits no longer: the delay is a bound that is kept without a look at it.
	MaxBatchDelay time.Duration

	// MaxSize is Options.MaxSize; it may be changed between transactions.
	MaxSize int

	// These are kept for source compatibility with bbolt and do nothing.
	NoGrowSync      bool
	NoFreelistSync  bool
	PreLoadFreelist bool
	FreelistType    FreelistType
	MmapFlags       int
	AllocSize       int
	Mlock           bool

	// Constant after Open.
	path   string
	opts   Options
	pager  *pager
	closed chan struct{} // closed when Close is done

	closing sync.Once

	batchMu    sync.Mutex // guards what follows
	batchQueue []*batchCall
	batchLed   bool // one of them is on its way to the writer lock

	statMu  sync.Mutex
	txStats TxStats
	commits Latencies
}

// Default values of DB.MaxBatchSize and DB.MaxBatchDelay.
const (
	DefaultMaxBatchSize  = 1000
	DefaultMaxBatchDelay = 10 * time.Millisecond
)

// Open opens the store in the file at path, or creates one with the given mode if there is no file or an empty one. nil options
// are DefaultOptions.
//
// One process at a time, and one DB in it, can have a store open for writing; any number can have it open read-only while nobody
// writes. If that does not hold Open returns a *LockError, which says who has the store open, after Options.Timeout.
//
// Other errors match ErrInvalid (the file is not a store; ErrBoltFile too if it is one of bbolt), ErrVersionMismatch,
// ErrCorrupt, or come from the system and name the file.
//
// Cost: a few reads and a sync; it depends neither on the number of keys nor on that of free pages.
func Open(path string, mode os.FileMode, options *Options) (*DB, error) {
	if options == nil {
		options = DefaultOptions
	}
	o := *options
	if err := o.validate(); err != nil {
		return nil, err
	}
	file, created, err := openFileStorage(path, mode, fileOptions{
		readOnly: o.ReadOnly, timeout: o.Timeout, openFile: o.OpenFile, mlock: o.Mlock, huge: o.HugePages, noRing: o.NoIOUring,
		reserve: int64(max(o.InitialMmapSize, 0)), logger: o.Logger,
		holder: func(r io.ReaderAt) string {
			fi, err := os.Stat(path)
			if err != nil {
				return ""
			}
			return describeOwner(r, fi.Size())
		},
	})
	if err != nil {
		return nil, err
	}
	db, err := openFile(file, created, &o)
	if err != nil {
		file.close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	db.path, db.pager.path = path, path
	return db, nil
}

func openFile(file *fileStorage, created bool, o *Options) (*DB, error) {
	if o.ReadOnly {
		private, err := newPrivateStorage(file, privateLimit)
		if err != nil {
			return nil, err
		}
		return openStorage(private, o)
	}
	db, err := openStorage(file, o)
	if errors.Is(err, errIncoherent) {
		return nil, fmt.Errorf("%w (file system: %s)", err, fileSystemName(file.file))
	}
	if err != nil {
		return nil, err
	}
	if created || db.pager.durable.sequence == 1 {
		// Until the first commit it is not known whether the name is durable: a process may have been killed in between.
		if err := file.syncDir(); err != nil {
			return nil, errors.Join(fmt.Errorf("syncing the directory of a new store: %w", err), db.Close())
		}
	}
	return db, nil
}

// privateLimit is how many bytes a read-only open may change in memory.
const privateLimit = 1 << 30

// OpenMemory returns a new, empty store in memory. It is an ordinary store in every other way, and gone after Close.
func OpenMemory(options *Options) (*DB, error) {
	if options == nil {
		options = DefaultOptions
	}
	o := *options
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.ReadOnly {
		return nil, fmt.Errorf("alder: OpenMemory with Options.ReadOnly: the store would be empty for ever")
	}
	st, err := newMemoryStorage(int64(max(o.InitialMmapSize, 0)))
	if err != nil {
		return nil, err
	}
	db, err := openStorage(st, &o)
	if err != nil {
		st.close()
		return nil, err
	}
	return db, nil
}

// openStorage opens the store that st holds.
func openStorage(st storage, o *Options) (*DB, error) {
	options := o.pagerOptions()
	_, options.volatile = st.(*memoryStorage)
	db := &DB{}
	options.checkpointed = db.shrinkWhenIdle
	var pg *pager
	err := guarded(st.mapping().data, func() (err error) {
		pg, err = openPager(st, options)
		return err
	})
	if err != nil {
		return nil, err
	}
	*db = DB{
		NoSync: o.Durability == DurabilityLazy || o.NoSync && o.Durability == DurabilityDefault, MaxBatchSize: DefaultMaxBatchSize, MaxBatchDelay: DefaultMaxBatchDelay, MaxSize: o.MaxSize,
		NoGrowSync: o.NoGrowSync, NoFreelistSync: o.NoFreelistSync, PreLoadFreelist: o.PreLoadFreelist,
		FreelistType: o.FreelistType, MmapFlags: o.MmapFlags, AllocSize: DefaultAllocSize, Mlock: o.Mlock,
		opts: *o, pager: pg, closed: make(chan struct{}),
	}
	if pg.replay != nil {
		if err := guarded(st.mapping().data, db.replay); err != nil {
			pg.stopWork()
			return nil, err
		}
	}
	if o.MaxReaderAge > 0 || o.TrackReaders {
		db.WatchReaders(ReaderWatch{MaxAge: o.MaxReaderAge, OnOld: o.OnOldReader, Track: o.TrackReaders})
	}
	return db, nil
}

// Close waits until all transactions have ended, makes durable what is not, and closes the store. New transactions get
// ErrDatabaseNotOpen meanwhile. A read transaction that the program has lost, so that nothing leads to it any more and nobody can end it, is not waited for once
// the garbage collector, which Close calls now and then while it waits, has found that; Options.Logger is told. Slices that it returned do not lead to it, and must not be used any more. A lost write transaction is waited for. The error matches ErrFailed if the store is in the failed state; it is closed all the same. Closing twice is no error. Must not be called inside a transaction.
//
// Before that it makes the file shorter if much of it is free: see Options.NoAutoShrink. It begins nothing new with that after a second, but does not cut short what has begun, the
// syncs least of all.
func (db *DB) Close() error {
	if db.pager == nil {
		return nil // never opened
	}
	var err error
	db.closing.Do(func() {
		err = db.close()
		close(db.closed)
	})
	<-db.closed
	return err
}

func (db *DB) close() error {
	pg := db.pager
	db.shrinkAtClose()
	pg.stopWork() // before the writer lock is taken, which it may need
	pg.writing <- struct{}{}
	defer pg.unlock()
	err := pg.failed() // of a failed store: why it failed
	// Before anything can keep the rest from being done. In a failed store too: an append may be under way.
	if e := pg.syncLog(); err == nil {
		err = e
	}
	pg.publishMu.Lock() // a reader that is publishing must not bring back what is taken away here
	pg.published.Store(nil)
	pg.publishMu.Unlock()
	pg.readers.waitForEnd(func(r reader) {
		db.warnReader("alder: Close did not wait for a read transaction that the program has lost", ReaderInfo{
			TxID: uint64(r.id), Age: time.Since(r.since), Pages: -1, Stack: stackText(r.stack), Dropped: true,
		})
	})
	if err == nil {
		err = guarded(pg.st.mapping().data, pg.finish)
	}
	if e := pg.close(); err == nil {
		err = e
	}
	if err != nil && db.path != "" {
		err = &fs.PathError{Op: "close", Path: db.path, Err: err}
	}
	return err
}

// ---- transactions

// Begin starts a transaction, which must be ended by Commit or Rollback. A write transaction waits until no other is open, and those that
// wait begin in the order in which they came; it must not be begun by a goroutine that has one. A read transaction waits for no other transaction: one that begins
// right after a commit brings what that has changed into the file first, or waits for whoever is at it, a reader, a checkpoint, or a writer that makes the file longer.
//
// Begin returns ErrDatabaseNotOpen after Close, ErrDatabaseReadOnly, or an error that matches ErrFailed.
//
// View and Update are easier to use and cannot forget the end.
func (db *DB) Begin(writable bool) (*Tx, error) {
	return db.BeginContext(context.Background(), writable)
}

// BeginContext is Begin that gives up waiting for another write transaction when ctx ends, with the cause of that.
func (db *DB) BeginContext(ctx context.Context, writable bool) (*Tx, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !writable {
		return db.beginRead()
	}
	if db.pager == nil {
		return nil, ErrDatabaseNotOpen
	}
	if err := db.pager.writable(); err != nil {
		return nil, err
	}
	if err := db.pager.holdBack(ctx); err != nil {
		return nil, err
	}
	if err := db.pager.lock(ctx); err != nil {
		return nil, err
	}
	return db.beginLocked()
}

// TryBegin starts a write transaction if no other is open, nor waited for, and else returns ErrBusy at once. Other errors are those of Begin.
func (db *DB) TryBegin() (*Tx, error) {
	if db.pager == nil {
		return nil, ErrDatabaseNotOpen
	}
	if err := db.pager.writable(); err != nil {
		return nil, err
	}
	if err := db.pager.tryLock(); err != nil {
		return nil, err
	}
	return db.beginLocked()
}

// beginLocked returns the write transaction, or gives the writer lock up, which the caller has.
func (db *DB) beginLocked() (*Tx, error) {
	pg := db.pager
	pg.writer.Store(true)
	tx, err := db.beginWrite()
	if err != nil {
		pg.writer.Store(false)
		pg.unlock()
		return nil, err
	}
	return tx, nil
}

// View calls fn with a read transaction, which it ends when fn returns or panics. It returns fn's error, or else Tx.Err.
func (db *DB) View(fn func(*Tx) error) error {
	tx, err := db.beginRead()
	if err != nil {
		return err
	}
	return tx.view(fn)
}

// ViewContext is View that does not begin when ctx has ended. fn itself must look at ctx if it is to be stopped.
func (db *DB) ViewContext(ctx context.Context, fn func(*Tx) error) error {
	tx, err := db.BeginContext(ctx, false)
	if err != nil {
		return err
	}
	return tx.view(fn)
}

// Update calls fn with a write transaction, which it commits if fn returns nil and rolls back if fn returns an error or panics. It
// returns fn's error, or else that of Commit. An Update inside another one's function waits for ever.
func (db *DB) Update(fn func(*Tx) error) error {
	return db.UpdateContext(context.Background(), fn)
}

// UpdateContext is Update that gives up waiting for another write transaction when ctx ends.
func (db *DB) UpdateContext(ctx context.Context, fn func(*Tx) error) error {
	tx, err := db.BeginContext(ctx, true)
	if err != nil {
		return err
	}
	return tx.update(fn)
}

// mustCheck panics with the first error that a check of the store finds.
func (db *DB) mustCheck() {
	err := db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("alder: StrictMode: check fail: %v", err))
	}
}

// Sync makes all committed transactions durable; it matters after lazy commits.
func (db *DB) Sync() error {
	pg := db.pager
	if pg == nil || pg.published.Load() == nil {
		return ErrDatabaseNotOpen
	}
	if pg.opts.readOnly || pg.opts.volatile {
		return nil
	}
	if err := pg.failed(); err != nil {
		return err
	}
	if err := pg.checkRemoved(); err != nil {
		return err
	}
	return pg.syncLog()
}

// prefetchChunk is the number of bytes that Prefetch asks for at a time.
const prefetchChunk = 4 << 20

// Prefetch reads the store, as it is now, into the system's page cache from its begin to its end, so that later lookups need not wait for
// the disk. It returns when all of it was there, or early with the cause of ctx's end; the system drops again what it needs the memory
// for, so it is of no use for a store that is larger than memory. It keeps no snapshot. A store of OpenMemory is there already.
//
// The errors are ErrDatabaseNotOpen, and those of reading the file.
func (db *DB) Prefetch(ctx context.Context) error {
	for off, more := int64(0), true; more; off += prefetchChunk {
		// A transaction for each part, so that no snapshot is kept meanwhile.
		if err := db.ViewContext(ctx, func(tx *Tx) error {
			pg, s := tx.pager, tx.snap
			end := min(off+prefetchChunk, pg.offset(s.highWater))
			if more = end > off && !pg.opts.volatile; !more || populateRead(s.data, off, end) {
				return nil
			}
			return pg.st.readAt(make([]byte, end-off), off)
		}); err != nil {
			return err
		}
	}
	return nil
}

// ---- facts

// Stats returns facts about the store; nothing with Options.NoStatistics.
func (db *DB) Stats() Stats {
	if db.opts.NoStatistics {
		return Stats{}
	}
	pg := db.pager
	if pg == nil {
		return Stats{} // never opened
	}
	begun, open := pg.readers.counts()
	s := Stats{FreePageN: int(pg.freeN.Load()), PendingPageN: int(pg.pendingN.Load()), TxN: int(begun), OpenTxN: open}
	s.FreeAlloc = (s.FreePageN + s.PendingPageN) * pg.pageSize
	s.FreelistInuse = int(pg.mapPages.Load()) * pg.pageSize
	c := pg.counts()
	s.Log = LogStats{Frames: c.frames, Transactions: c.transactions, Bytes: c.logBytes}
	s.Checkpoints = CheckpointStats{Count: c.checkpoints, Bytes: c.checkpointBytes, Time: c.checkpointTime}
	db.statMu.Lock()
	defer db.statMu.Unlock()
	s.TxStats = db.txStats
	s.Commits = db.commits.copied()
	return s
}

// addTxStats adds the counters of a write transaction that has ended.
func (db *DB) addTxStats(tx *Tx) {
	if db.opts.NoStatistics {
		return
	}
	db.statMu.Lock()
	defer db.statMu.Unlock()
	db.txStats.add(&tx.w.stats)
}

// addWriteTime adds the time of a commit, and counts it if it was one of the user's and no error.
func (db *DB) addWriteTime(d time.Duration, count bool) {
	db.statMu.Lock()
	defer db.statMu.Unlock()
	db.txStats.WriteTime += d
	if count {
		db.commits.add(d)
	}
}

// Path returns the path that was given to Open; empty for a store in memory.
func (db *DB) Path() string { return db.path }

// String returns a name of the store for logs.
func (db *DB) String() string { return fmt.Sprintf("DB<%q>", db.path) }

// GoString returns the same as Go syntax.
func (db *DB) GoString() string { return fmt.Sprintf("alder.DB{path:%q}", db.path) }

// IsReadOnly reports whether the store was opened with Options.ReadOnly.
func (db *DB) IsReadOnly() bool { return db.opts.ReadOnly }

// PageSize returns the page size of the store in bytes.
func (db *DB) PageSize() int { return db.pager.pageSize }

// ID returns the identity of the store, 32 hexadecimal digits chosen at random when it was created. Copies have the same.
func (db *DB) ID() string { return fmt.Sprintf("%x", db.pager.fileID) }

// Logger returns Options.Logger, or a logger that drops everything if that is nil.
func (db *DB) Logger() *slog.Logger {
	if db.opts.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return db.opts.Logger
}

// Info is returned by DB.Info.
type Info struct {
	Data     uintptr // address of the mapping
	PageSize int     // in bytes
}

// Info returns where the store is mapped, for tools that look into it.
func (db *DB) Info() *Info {
	data := db.pager.st.mapping().data
	return &Info{Data: reflect.ValueOf(data).Pointer(), PageSize: db.pager.pageSize}
}
