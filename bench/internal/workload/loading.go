package workload

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
)

const (
	// prepareTx is how many puts a load commits at once.
	prepareTx = 1000
	// loadBytes bounds the payload of a transaction of a load: some engines refuse larger ones.
	loadBytes = 4 << 20
	// bulkFrom is how many random records are loaded in bulk.
	bulkFrom = 2_000_000
	// bulkChunk is how many records of a bulk load are put in the order of their keys.
	bulkChunk = 1_000_000
)

// errCut is the error of a load that took longer than it may.
var errCut = errors.New("the load took longer than it may")

// prepare loads the store of a data set, and does what the workload wants done beyond it.
func (t *Trial) prepare() error {
	w, err := Find(t.Workload)
	if err != nil {
		return err
	}
	if f := preparations[w.Prepared]; f != nil {
		return f(t)
	}
	if w.Prepared != "" {
		return fmt.Errorf("no preparation %q", w.Prepared)
	}
	store, err := t.openAt(t.Dir, engine.Lazy, false)
	if err != nil {
		return err
	}
	writer, err := store.Writer()
	if err != nil {
		return errors.Join(err, closeAfter(store))
	}
	began := time.Now()
	l := t.loading(writer)
	if err := l.all(); err != nil {
		if errors.Is(err, errCut) {
			err = engine.NA("loading %d records was cut after %.0f s at %d of them, %.0f a second",
				t.Set.Len(), time.Since(began).Seconds(), l.done, float64(l.done)/time.Since(began).Seconds())
		}
		return errors.Join(err, closeAfter(store))
	}
	return errors.Join(writer.Close(), store.Sync(), settle(store), store.Close())
}

// preparations are what stores can be made of beside loaded records.
var preparations = map[string]func(*Trial) error{}

// loading returns the way in which the trial's store is loaded. A large store of random records is loaded in bulk: a
// million at a time in the order of their keys, in large transactions where the engine copies pages, for in small ones
// each put of it would write a page of its own, for minutes.
func (t *Trial) loading(writer engine.Writer) *loading {
	l := &loading{writer: writer, set: t.Set, perTx: prepareTx, maxBytes: loadBytes, deadline: t.loadDeadline()}
	if t.Set.Len() > bulkFrom && t.Params.Data == "random" {
		l.inBulk(t.Engine)
	}
	return l
}

func (l *loading) inBulk(e *engine.Engine) {
	l.chunk, l.perTx, l.maxBytes = bulkChunk, bulkChunk, max(loadBytes, e.BulkBytes)
}

// loadDeadline is when a load that has not ended is cut; the zero time if never.
func (t *Trial) loadDeadline() time.Time {
	if t.LoadLimit <= 0 {
		return time.Time{}
	}
	return time.Now().Add(seconds(t.LoadLimit))
}

// load puts all records of a set, perTx in each transaction; fewer where they are large.
func load(store engine.Store, set data.Set, perTx int) error { return rewrite(store, set, perTx, 0) }

// rewrite is load with the values of a version.
func rewrite(store engine.Store, set data.Set, perTx int, version uint64) error {
	w, err := store.Writer()
	if err != nil {
		return err
	}
	defer w.Close()
	l := loading{writer: w, set: set, perTx: perTx, maxBytes: loadBytes, version: version}
	return l.put(0, set.Len())
}

// loading is how records are put by the thousand.
type loading struct {
	writer   engine.Writer
	set      data.Set
	perTx    int
	maxBytes int // of keys and values in a transaction, 0 = no bound
	version  uint64
	chunk    int       // if not 0, that many records at a time are put in the order of their keys
	deadline time.Time // when the load is cut
	done     int       // records that are committed
}

// all puts all records of the set.
func (l *loading) all() error { return l.put(0, l.set.Len()) }

// put puts records from..to-1.
func (l *loading) put(from, to int) error {
	if l.chunk == 0 {
		return l.putEach(to-from, func(n int) int { return from + n })
	}
	for ; from < to; from += l.chunk {
		order := inKeyOrder(l.set, from, min(from+l.chunk, to))
		if err := l.putEach(len(order), func(n int) int { return order[n] }); err != nil {
			return err
		}
	}
	return nil
}

// putEach puts the n records that number counts up.
func (l *loading) putEach(n int, number func(int) int) error {
	var key, value []byte
	for i := 0; i < n; {
		if err := l.writer.Begin(); err != nil {
			return err
		}
		size, first := 0, i
		for end := min(i+l.perTx, n); i < end && (l.maxBytes == 0 || size < l.maxBytes); i++ {
			record := number(i)
			key = l.set.Key(record, key)
			value = l.set.Value(record, l.version, value)
			if err := l.writer.Put(key, value); err != nil {
				return errors.Join(err, l.writer.Rollback())
			}
			size += len(key) + len(value)
			if i&1023 == 1023 && l.late() {
				return errors.Join(errCut, l.writer.Rollback())
			}
		}
		if err := l.writer.Commit(); err != nil {
			return err
		}
		l.done += i - first
		if i < n && l.late() {
			return errCut
		}
	}
	return nil
}

func (l *loading) late() bool { return !l.deadline.IsZero() && time.Now().After(l.deadline) }

// inKeyOrder returns the numbers from..to-1 in the order of their records' keys.
func inKeyOrder(set data.Set, from, to int) []int {
	type headed struct {
		head   uint64 // the key's first eight bytes
		number int
	}
	all := make([]headed, 0, to-from)
	var key, other []byte
	for i := from; i < to; i++ {
		key = set.Key(i, key)
		var head [8]byte
		copy(head[:], key)
		all = append(all, headed{binary.BigEndian.Uint64(head[:]), i})
	}
	slices.SortFunc(all, func(a, b headed) int {
		if order := cmp.Compare(a.head, b.head); order != 0 {
			return order
		}
		key, other = set.Key(a.number, key), set.Key(b.number, other)
		return slices.Compare(key, other)
	})
	order := make([]int, len(all))
	for i, h := range all {
		order[i] = h.number
	}
	return order
}
