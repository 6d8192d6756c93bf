package alder

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"time"
)

// DefaultPageSize is the page size of a new store when Options.PageSize is 0. It does not depend on the machine, for a file may move.
const DefaultPageSize = 4096

// DefaultAllocSize is kept for source compatibility with bbolt.
const DefaultAllocSize = 16 << 20

// FreelistType is kept for source compatibility with bbolt; alder has one kind of freelist.
type FreelistType string

// Kinds of freelist that bbolt knows.
const (
	FreelistArrayType = FreelistType("array")
	FreelistMapType   = FreelistType("hashmap")
)

// Options says how a store is opened. The zero value is good for most uses. Fields that exist for bbolt's programs and have
// no meaning here say so.
type Options struct {
	// Timeout is how long Open waits for another process, or another DB in this one, to close the store. 0 is not at
	// all: Open returns a *LockError at once. (bbolt waits for ever then.)
	Timeout time.Duration

	// ReadOnly opens the store for reading, beside other readers and on read-only media; nothing is written.
	ReadOnly bool

	// PageSize is the page size in bytes of a new store, a power of two from 4096 to 65536; 0 is DefaultPageSize. For an
	// existing store leave it 0, or give its page size.
	PageSize int

	// MaxSize is the length in bytes that the file must not exceed; 0 or less is no limit. What would need more returns
	// ErrMaxSizeReached.
	MaxSize int

	// NoSync is DurabilityLazy for the whole store: Commit returns, and readers see the transaction, before it is durable. That
	// follows within SyncInterval, and DB.Sync and Close wait for it. A crash of the process or the system loses at most
	// the transactions since, always whole and from the end; it never damages the store.
	NoSync bool

	// InitialMmapSize is the least address space in bytes to reserve for the mapping. Where the default (1 TiB on 64-bit
	// Unix) suffices it changes nothing.
	InitialMmapSize int

	// Mlock keeps the mapped file in memory.
	Mlock bool

	// HugePages asks the system for huge pages where the file is mapped. Lookups at random places in a store that is in memory take up to a
	// quarter less time then, for they wait less for page tables; but each read of the disk through the mapping brings in 2 MiB or more, so
	// it is not for a store that is larger than memory. It takes effect on Linux, where the file system can have pieces so large in the page
	// cache (ext4 and XFS in recent kernels), and for parts of the file that are not there yet; DB.Prefetch alone brings most of the gain. Elsewhere, and
	// in read-only opens, it changes nothing.
	HugePages bool

	// OpenFile opens the file instead of os.OpenFile. It is called again, with other flags, for descriptors that the store opens beside the first: at Open, and
	// later for reads ahead of the mapping and for checkpoints, from other goroutines.
	OpenFile func(string, int, os.FileMode) (*os.File, error)

	// Logger receives the few events that matter to an operator; nil for none.
	Logger *slog.Logger

	// MaxReaderAge is the age from which on a read transaction is reported, once, to OnOldReader, or as a warning to Logger if that is nil. 0
	// reports none. See ReaderWatch, which can do the same while the store is open.
	MaxReaderAge time.Duration
	OnOldReader  func(ReaderInfo)

	// TrackReaders remembers when and where each read transaction begins, for DB.Readers, and warns Logger of those that are dropped without
	// being ended. It makes the begin of each read transaction about a microsecond slower.
	TrackReaders bool

	// NoStatistics turns off the counters of transactions in Stats.
	NoStatistics bool

	// DirtyLimit is the number of bytes of changed pages that a transaction keeps in memory; beyond it they are
	// written to their places in the file before the commit, the first time when they are half as many. From then on three quarters may hold
	// puts at random places, which are done later, in the order of their keys. 0 is 32 MiB.
	DirtyLimit int

	// Durability is what Commit promises when the transaction does not say otherwise (Tx.SetDurability); DurabilityDefault is
	// DurabilityFull, or DurabilityLazy with NoSync.
	Durability Durability

	// SyncInterval is how long a lazy commit waits at most to be made durable; 0 is 100 ms.
	SyncInterval time.Duration

	// LogSize is the number of bytes of redo log after which a checkpoint begins in the background; 0 is 64 MiB. A larger log means fewer
	// writes of pages and a longer recovery after a crash.
	LogSize int

	// HistoryLimit is the number of bytes of redo log that loops over DB.Changes may keep from being used again, beyond what the store
	// needs itself; 0 is 256 MiB. A loop that falls behind further ends with ErrHistoryGone. The bytes are part of the file, so they count for
	// MaxSize; a store that cannot grow gives them up. Without such loops nothing is kept.
	HistoryLimit int

	// PunchHoles lets DB.Shrink, and a file that becomes shorter by itself, give the blocks of free pages back that are left in the middle of the file, 64 KiB
	// and more of them together: the file keeps its length and takes less room on the disk. Before such pages are used again they get blocks, so that a full disk
	// is met by a transaction that can fail; that costs a system call for up to 64 pages. It does something on Linux, on file systems that can do it (ext4, xfs, btrfs, tmpfs).
	PunchHoles bool

	// NoAutoShrink leaves it to DB.Shrink to make the file shorter. Else Close moves up to 128 MiB from the end of the file to free places in front
	// if more than a quarter of the file is free, or will be with Close. It begins nothing new with that after a second; what has begun, up to 128 MiB moved and then
	// a sync, is not cut short, so that a slow disk makes it longer. And while nobody writes for ten seconds after a checkpoint, a file of which more
	// than half is free becomes shorter in the background, as by DB.Shrink. Less than 4 MiB are left alone.
	NoAutoShrink bool

	// NoIOUring keeps the store from asking Linux for an io_uring. Else it does so when readers keep all processors busy beside a durable writer, who does not wait
	// for the disk in a thread of his own then. A system that refuses is no error; this is for sandboxes that end the program for asking, and
	// for programs that reach a limit on their number of threads, where some kernels before 6.10 let an append wait for one.
	NoIOUring bool

	background    func(func()) // of tests: runs background work
	waiting       func(bool)   // of tests: somebody waits for an append, true, or for a checkpoint, false
	checkpointAge time.Duration
	shrinkTime    time.Duration
	shrinkLeast   int64
	punchLeast    int64
	longValue     int
	maxRecord     int

	removedInterval time.Duration

	NoGrowSync      bool         // No meaning here: growth is always made durable with the commit that needs it.
	NoFreelistSync  bool         // No meaning here: the free map is written only where it changed.
	PreLoadFreelist bool         // No meaning here: the free map is read when needed.
	FreelistType    FreelistType // No meaning here: there is one kind.
	MmapFlags       int          // No meaning here: the mapping chooses its own flags.
}

// DefaultOptions is what Open uses for nil.
var DefaultOptions = &Options{}

// String returns the options in one line, for logs: all of them, functions and the logger as set or nil.
func (o *Options) String() string {
	if o == nil {
		return "{}"
	}
	var fields []string
	for i, v := 0, reflect.ValueOf(*o); i < v.NumField(); i++ {
		name, f := v.Type().Field(i), v.Field(i)
		switch {
		case !name.IsExported(): // for tests
		case f.Kind() != reflect.Func && f.Kind() != reflect.Pointer:
			fields = append(fields, fmt.Sprintf("%s: %v", name.Name, f))
		case f.IsNil():
			fields = append(fields, name.Name+": nil")
		default:
			fields = append(fields, name.Name+": set")
		}
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

const (
	defaultDirtyLimit   = 32 << 20
	defaultHistoryLimit = 256 << 20
	defaultSyncInterval = 100 * time.Millisecond
)

// validate returns an error that names the first option that cannot be.
func (o *Options) validate() error {
	switch {
	case o.Timeout < 0:
		return fmt.Errorf("alder: Options.Timeout is %v, it must not be negative", o.Timeout)
	case o.PageSize != 0 && !validPageSize(o.PageSize):
		return fmt.Errorf("alder: Options.PageSize is %d, it must be a power of two from %d to %d, or 0", o.PageSize, minPageSize, maxPageSize)
	case o.Durability < DurabilityDefault || o.Durability > DurabilityLazy:
		return fmt.Errorf("alder: Options.Durability is %d, which is none of the levels", o.Durability)
	case o.SyncInterval < 0:
		return fmt.Errorf("alder: Options.SyncInterval is %v, it must not be negative", o.SyncInterval)
	case o.LogSize < 0:
		return fmt.Errorf("alder: Options.LogSize is %d, it must not be negative", o.LogSize)
	case o.HistoryLimit < 0:
		return fmt.Errorf("alder: Options.HistoryLimit is %d, it must not be negative", o.HistoryLimit)
	case o.MaxReaderAge < 0:
		return fmt.Errorf("alder: Options.MaxReaderAge is %v, it must not be negative", o.MaxReaderAge)
	case o.DirtyLimit < 0:
		return fmt.Errorf("alder: Options.DirtyLimit is %d, it must not be negative", o.DirtyLimit)
	}
	return nil
}

func (o *Options) pagerOptions() pagerOptions {
	p := pagerOptions{
		pageSize: o.PageSize, newPageSize: o.PageSize, maxSize: int64(o.MaxSize), readOnly: o.ReadOnly, dirtyLimit: o.DirtyLimit, logger: o.Logger,
		logSize: int64(o.LogSize), historyLimit: int64(o.HistoryLimit), syncInterval: o.SyncInterval, checkpointAge: o.checkpointAge, background: o.background, waiting: o.waiting,
		longValue: o.longValue, shrinkTime: shrinkTime, shrinkPatience: shrinkPatience, autoShrinkLeast: autoShrinkLeast,
		punchHoles: o.PunchHoles, punchLeast: cmp.Or(o.punchLeast, punchLeast), crowdedFrom: crowdedFrom,
	}
	if o.shrinkTime > 0 { // a test, which must make the same calls each time
		p.shrinkTime, p.shrinkPatience = o.shrinkTime, 0
	}
	if p.removedInterval = o.removedInterval; p.removedInterval == 0 {
		p.removedInterval = removedInterval
	}
	if o.shrinkLeast > 0 {
		p.autoShrinkLeast = o.shrinkLeast
	}
	if p.logSize == 0 {
		p.logSize = defaultLogSize
	}
	if p.historyLimit == 0 {
		p.historyLimit = defaultHistoryLimit
	}
	if p.syncInterval == 0 {
		p.syncInterval = defaultSyncInterval
	}
	if p.maxRecord = o.maxRecord; p.maxRecord == 0 {
		p.maxRecord = maxRecord
	}
	if p.longValue == 0 {
		p.longValue = defaultLongValue
	}
	if p.checkpointAge == 0 {
		p.checkpointAge = checkpointAge
	}
	if p.newPageSize == 0 {
		p.newPageSize = DefaultPageSize
	}
	if p.dirtyLimit == 0 {
		p.dirtyLimit = defaultDirtyLimit
	}
	return p
}
