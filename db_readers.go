package alder

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"weak"
)

// What an operator wants to know about readers: how old they are, what they hold, where they began, and which were forgotten. Readers
// themselves do nothing for it unless they are tracked.

// ReaderInfo says what is known of an open read transaction.
type ReaderInfo struct {
	TxID uint64 // number of its snapshot

	// Age is the time since the transaction was noticed: by a write transaction that began while it was open, by Readers, or by a watch.
	// While readers are tracked it is the time since it began.
	Age time.Duration

	// Pages is how many pages cannot be used again because this snapshot has them, as of now; other snapshots may have the same ones. Of very
	// many only some are looked at, and the number is an estimate. It is -1 while a write transaction is open or a checkpoint begins: nobody
	// waits for them.
	Pages int64

	Stack   string // where the transaction began, if readers were tracked then
	Dropped bool   // the program has lost the transaction without ending it; known only of readers that are tracked
}

// Readers returns the open read transactions, the oldest snapshot first. It waits for nobody. Cost: a tenth of a millisecond, and some
// milliseconds if there are very many pages that cannot be used again.
func (db *DB) Readers() []ReaderInfo {
	pg := db.pager
	if pg == nil {
		return nil
	}
	return pg.readerInfos(pg.readers.open())
}

// readerInfos describes readers, in the order of their snapshots.
func (pg *pager) readerInfos(open []reader) []ReaderInfo {
	slices.SortFunc(open, func(a, b reader) int {
		return cmp.Or(cmp.Compare(a.id, b.id), a.since.Compare(b.since))
	})
	held := pg.heldBy(open)
	infos := make([]ReaderInfo, len(open))
	for i, r := range open {
		infos[i] = ReaderInfo{TxID: uint64(r.id), Age: time.Since(r.since), Pages: -1, Stack: stackText(r.stack), Dropped: r.dropped}
		if held != nil {
			infos[i].Pages = held[r.id]
		}
	}
	return infos
}

// heldBy returns how many pages each snapshot in open holds; nil if a writer is at work.
func (pg *pager) heldBy(open []reader) map[txid]int64 {
	select {
	case pg.writing <- struct{}{}:
	default:
		return nil
	}
	defer pg.unlock()
	var ids []txid
	for _, r := range open {
		ids = append(ids, r.id)
	}
	ids = slices.Compact(ids)
	held := map[txid]int64{}
	for i, n := range pg.fl.held(ids) {
		held[ids[i]] = n
	}
	return held
}

// stackText is a stack as a panic shows it, without what belongs to this package.
func stackText(stack []uintptr) string {
	if len(stack) == 0 {
		return ""
	}
	var text strings.Builder
	frames := runtime.CallersFrames(stack)
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if text.Len() == 0 && more && (strings.HasPrefix(f.Function, ownMethods) || strings.HasPrefix(f.Function, "sync.")) {
			continue
		}
		fmt.Fprintf(&text, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
	}
	return text.String()
}

// ownMethods begins the names of the methods through which a transaction begins.
const ownMethods = "github.com/alderdb/alder.(*"

// ReaderWatch says what is done about read transactions that are open for long, or for ever.
type ReaderWatch struct {
	// MaxAge is the age from which on a read transaction is reported, once; 0 reports none. It is noticed at most a quarter late.
	MaxAge time.Duration

	// OnOld is called with a read transaction that is older than MaxAge, by a goroutine of the watch's own, one call at a time. nil: a
	// warning goes to Options.Logger.
	OnOld func(ReaderInfo)

	// Track remembers when and where each read transaction begins, for ReaderInfo, and sends a warning to Options.Logger for one that the
	// garbage collector finds without being ended. It makes the begin of each read transaction about a microsecond slower.
	Track bool
}

// WatchReaders reports old and forgotten read transactions until stop is called or the store is closed. It may be called at any time; of two
// watches that track, the later one gets the reports.
func (db *DB) WatchReaders(w ReaderWatch) (stop func()) {
	pg := db.pager
	if pg == nil {
		return func() {}
	}
	var track *readerTracking
	if w.Track {
		track = &readerTracking{dropped: db.warnDropped}
		pg.readers.track.Store(track)
	}
	var stopped atomic.Bool
	if w.MaxAge > 0 {
		if w.OnOld == nil {
			w.OnOld = func(r ReaderInfo) { db.warnReader("alder: a read transaction has been open for long", r) }
		}
		var reported reportedReaders
		var look func()
		look = func() {
			select {
			case <-db.closed:
				return
			default:
			}
			if stopped.Load() {
				return
			}
			var old []ReaderInfo
			old, reported = db.oldReaders(w.MaxAge, reported)
			for _, r := range old {
				w.OnOld(r)
			}
			time.AfterFunc(max(w.MaxAge/4, time.Millisecond), look)
		}
		time.AfterFunc(max(w.MaxAge/4, time.Millisecond), look)
	}
	return func() {
		stopped.Store(true)
		if track != nil {
			pg.readers.track.CompareAndSwap(track, nil)
		}
	}
}

// reportedReaders are those that are open and have been reported, by slot; weak: see waitForEnd.
type reportedReaders map[weak.Pointer[readerSlot]]uint64

// oldReaders returns the readers that are older than age and not in reported, and what has been reported then: those that have ended are no more in it.
func (db *DB) oldReaders(age time.Duration, reported reportedReaders) ([]ReaderInfo, reportedReaders) {
	pg := db.pager
	now := reportedReaders{}
	old := slices.DeleteFunc(pg.readers.open(), func(r reader) bool {
		if time.Since(r.since) < age {
			return true
		}
		slot := weak.Make(r.slot)
		now[slot] = r.begun
		return reported[slot] == r.begun
	})
	if len(old) == 0 {
		return nil, now
	}
	return pg.readerInfos(old), now
}

func (db *DB) warnDropped(r reader) {
	db.warnReader("alder: a read transaction was dropped without being ended; its pages stay in use until the store is closed", db.pager.readerInfos([]reader{r})[0])
}

func (db *DB) warnReader(message string, r ReaderInfo) {
	if l := db.opts.Logger; l != nil {
		l.Warn(message, "store", db.path, "txid", r.TxID, "age", r.Age, "pages", r.Pages, "stack", r.Stack)
	}
}
