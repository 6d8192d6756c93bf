// Package engine puts every store that is measured behind one small interface. Adding an engine is adding one
// file with an adapter and its Register call.
//
// Each adapter opens its engine the way the engine's own documentation recommends, with the durability that the
// workload asks for, and uses the engine's natural call for each operation. An adapter may keep what a user would
// keep (prepared statements, a cursor that is renewed); it allocates nothing per operation of its own accord.
package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alderdb/alder/bench/internal/data"
)

// Durability says when a commit may return.
type Durability string

const (
	// Full: what a commit wrote is on the disk when it returns.
	Full Durability = "full"
	// Lazy: a commit returns at once; a crash of the machine may lose the latest ones.
	Lazy Durability = "lazy"
)

// Config is what a workload asks of a store.
type Config struct {
	Dir        string
	Durability Durability
	// CacheBytes is for engines with a cache of their own; those that read through a mapping ignore it.
	CacheBytes int64
	// MapBytes bounds the size of the store for engines that must be told at open.
	MapBytes int64
	// Append promises that keys are put in ascending order, past those that are there.
	Append bool
	// LongReaders says that read transactions stay open while the store grows.
	LongReaders bool
	// Cold says that the store is larger than the memory.
	Cold bool
	// KeepFree asks for free pages to stay in the file.
	KeepFree bool
	// PageSize is that of a new store, 0 = the engine's default. Only engines with PageSizes are given one.
	PageSize int
}

// Engine is an adapter and what a report says of it.
type Engine struct {
	Name string
	// Version is found at run time.
	Version func() string
	// Settings says in one line what was set and why.
	Settings string
	// LazyMeans says what a crash can do under Lazy.
	LazyMeans string
	// DataOf names the engine whose files this one reads; empty if its own.
	DataOf string
	// Missing returns why the engine cannot run here, empty if it can.
	Missing func() string
	// Open opens or creates a store. Nil for engines that are no Go code.
	Open func(Config) (Store, error)
	// Program runs the engine's reads as a program of its own, see ProgramSpec.
	Program func(ProgramSpec) ([]byte, error)
	// Bare engines hold no records: they begin with an empty directory whatever the workload wants.
	Bare bool
	// OnDemand engines take part only where a workload or the user names them.
	OnDemand bool
	// MaxRecords bounds the records of a store, 0 = no bound; MaxReason says why.
	MaxRecords int
	MaxReason  string
	// PageSizes says that the size of a page is a choice.
	PageSizes bool
	// BulkBytes is the payload of a transaction in the load of a large store: much for engines that copy pages, since
	// a transaction writes each page once. 0 = a few megabytes.
	BulkBytes int
}

// ProgramSpec is what a program that reads an engine's store is told.
type ProgramSpec struct {
	Dir         string
	Work        string // R1, R2, R6, R7, R8
	Goroutines  int
	Records     int
	KeySize     int
	ValueSize   int
	KeySeed     uint64
	ValueSeed   uint64
	Sorted      bool
	PerTx       int
	Limit       int
	Seconds     float64
	WarmSeconds float64
	Seed        uint64
}

// Store is an open store. Its Readers and Writers are used by one goroutine each.
type Store interface {
	Reader() (Reader, error)
	Writer() (Writer, error)
	// Sync makes everything committed so far durable.
	Sync() error
	Close() error
}

// Reader reads in transactions, or snapshots, or whatever the engine has that gives one consistent view.
type Reader interface {
	// Once is a look-up in a transaction of its own, the engine's natural single get.
	Once(key []byte, check *data.Check) error
	Begin() error
	Get(key []byte, check *data.Check) error
	// Scan visits up to limit records (0 = all) from the first key at or after from (nil = the first), or in
	// reverse from the last key at or before from (nil = the last).
	Scan(from []byte, limit int, reverse bool, sum *data.Sum) error
	// Visit is Scan with a function for each record, which returns false to stop.
	Visit(from []byte, visit func(key, value []byte) bool) error
	End() error
	Close() error
}

// Writer writes in transactions. Keys and values need to stay unchanged only during the call.
type Writer interface {
	// Once is a put in a transaction of its own, the engine's natural single put.
	Once(key, value []byte) error
	Begin() error
	Put(key, value []byte) error
	Delete(key []byte) error
	Commit() error
	Rollback() error
	Close() error
}

// MultiGetter is a Reader that looks up several keys in one call.
type MultiGetter interface {
	GetMulti(keys [][]byte, checks []data.Check) error
}

// Counter is a Reader that counts and selects without visiting what it counts.
type Counter interface {
	// Count returns how many keys are in [from, to).
	Count(from, to []byte) (uint64, error)
	// At returns the i-th key in order.
	At(i uint64) ([]byte, error)
}

// Shrinker is a Store that can give free space back to the file system while it is used.
type Shrinker interface {
	Shrink() error
}

// Settler is a Store with background work that a load leaves behind; Settle waits for it, so that it is not
// measured with what comes next.
type Settler interface {
	Settle() error
}

// NotApplicable is the error of an engine that has no notion of what it is asked for.
type NotApplicable struct{ Reason string }

func (e *NotApplicable) Error() string { return "n/a: " + e.Reason }

// NA returns a NotApplicable error.
func NA(format string, args ...any) error {
	return &NotApplicable{Reason: fmt.Sprintf(format, args...)}
}

// Reason returns why err says "not applicable"; ok is false if it says something else.
func Reason(err error) (reason string, ok bool) {
	var na *NotApplicable
	if errors.As(err, &na) {
		return na.Reason, true
	}
	return "", false
}

// bulkBytes is Engine.BulkBytes of the engines that copy pages.
const bulkBytes = 256 << 20

var registry []*Engine

// Register adds an engine; adapters call it from init.
func Register(e *Engine) {
	if e.Missing == nil {
		e.Missing = func() string { return "" }
	}
	registry = append(registry, e)
}

// All returns the engines in the order of reports: alder, then its peers by name.
func All() []*Engine {
	all := slices.Clone(registry)
	slices.SortFunc(all, func(a, b *Engine) int {
		if (a.Name == "alder") != (b.Name == "alder") {
			if a.Name == "alder" {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// Find returns the engine of a name.
func Find(name string) (*Engine, error) {
	var names []string
	for _, e := range All() {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	return nil, fmt.Errorf("no engine %q; there are %s", name, strings.Join(names, ", "))
}
