// Package killtest is a workload for a store whose process is killed, or whose machine loses its power, at any moment, and the
// verification of what is left then. It uses nothing of a store but its public API.
//
// Several goroutines write, each into a bucket of its own and in transactions that it numbers. What transaction n of goroutine g does
// follows from g, n and a seed, so that the content after it is known to whoever can count. Every transaction also writes its
// number, and the number of all transactions so far, into a bucket that they share. When a commit has returned, the goroutine
// acknowledges it: it tells somebody who survives (see Ack).
//
// Afterwards the store must open, and then: each goroutine's bucket is exactly at the last acknowledged transaction or, for one more may
// have been under way, at the one behind it; the shared numbers add up; of all transactions, in the order of their commits, a
// prefix is there; and the store's own check finds nothing. (Verifier)
//
// Loop is the whole of it: it starts a writer process, kills it, and verifies, again and again.
package killtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alderdb/alder"
)

// Config is what determines the workload. It is written into the store, and a store goes with one Config all its life.
type Config struct {
	Goroutines int    `json:"goroutines"`
	Seed       uint64 `json:"seed"`
}

// Round is one life of a writer process. As text it is the argument of the program that calls Write.
type Round struct {
	Config
	File       string `json:"file"`
	PageSize   int    `json:"page_size,omitempty"`   // of a new store
	NoSync     bool   `json:"no_sync,omitempty"`     // a crash may then lose the last transactions
	Mixed      bool   `json:"mixed,omitempty"`       // some transactions are lazy
	DirtyLimit int    `json:"dirty_limit,omitempty"` // see alder.Options
	LogSize    int    `json:"log_size,omitempty"`    // see alder.Options
	FileLimit  int64  `json:"file_limit,omitempty"`  // bytes that the store cannot grow past, as if the disk were full; 0: none

	// Tight says that the file system may be full: transactions find no room and are rolled back.
	Tight bool `json:"tight,omitempty"`

	// CopyOnWrite says that on a tight file system a write to blocks that the file has may find no room either. Then the store is in the
	// failed state, or cannot be opened for writing.
	CopyOnWrite bool `json:"copy_on_write,omitempty"`

	met func() // is called when a transaction finds no room; may be nil
}

func (r Round) String() string {
	text, err := json.Marshal(r)
	if err != nil {
		panic("killtest: " + err.Error()) // there is nothing in it that could not be written
	}
	return string(text)
}

// ParseRound is the inverse of Round.String.
func ParseRound(text string) (r Round, err error) {
	err = json.Unmarshal([]byte(text), &r)
	return r, err
}

// Ack says that transaction Number of a goroutine is committed. Order is its place among the transactions of all goroutines. A lazy one
// may be lost until one that is not is committed behind it.
type Ack struct {
	Goroutine int
	Number    uint64
	Order     uint64
	Lazy      bool
}

// String is a line for whoever collects acknowledgements, with a check sum, for lines may come incomplete from a machine that dies.
func (a Ack) String() string {
	text := fmt.Sprintf("%s %d %d %d", ackWords[a.Lazy], a.Goroutine, a.Number, a.Order)
	return fmt.Sprintf("%s %04x\n", text, lineSum(text))
}

var ackWords = map[bool]string{false: "ack", true: "lazy"}

func lineSum(text string) uint16 { return uint16(hash([]byte(text))) }

// ParseAck reads a line, with its end. ok is false for any other line, and for a part of one.
func ParseAck(line string) (a Ack, ok bool) {
	line, whole := strings.CutSuffix(line, "\n")
	fields := strings.Fields(line)
	if !whole || len(fields) != 5 || fields[0] != ackWords[false] && fields[0] != ackWords[true] {
		return a, false
	}
	a.Lazy = fields[0] == ackWords[true]
	var errs [4]error
	a.Goroutine, errs[0] = strconv.Atoi(fields[1])
	a.Number, errs[1] = strconv.ParseUint(fields[2], 10, 64)
	a.Order, errs[2] = strconv.ParseUint(fields[3], 10, 64)
	var sum uint64
	sum, errs[3] = strconv.ParseUint(fields[4], 16, 16)
	return a, errors.Join(errs[:]...) == nil && uint16(sum) == lineSum(strings.Join(fields[:4], " "))
}

// Names of the buckets at the top of a store; goroutine g has bucketOf(g).
const (
	configBucket  = "config"
	numbersBucket = "numbers" // the number of the last transaction of each goroutine, and of all together under sumKey
	sumKey        = "sum"
)

func bucketOf(g int) string { return "g" + strconv.Itoa(g) }

// Write opens the store of a round, creates it if need be, and writes until ctx ends, which is no error, or something fails. ack is
// called from one goroutine at a time.
func Write(ctx context.Context, r Round, ack func(Ack) error) error {
	db, err := Open(r)
	if r.stuck(err) {
		<-ctx.Done()
		return nil
	}
	if err != nil {
		return err
	}
	err = Run(ctx, db, r, ack)
	if r.stuck(err) {
		<-ctx.Done()
		err = nil
	}
	return errors.Join(err, db.Close())
}

// Open opens the store of a round, and creates it if need be.
func Open(r Round) (*alder.DB, error) {
	return alder.Open(r.File, 0o600, &alder.Options{
		PageSize: newPageSize(r), NoSync: r.NoSync, DirtyLimit: r.DirtyLimit, LogSize: r.LogSize,
	})
}

// newPageSize is the page size to ask for: only a store that does not exist yet can have any.
func newPageSize(r Round) int {
	db, err := alder.Open(r.File, 0, &alder.Options{ReadOnly: true})
	if err != nil {
		return r.PageSize // there is no store, or Open will say why it cannot be used
	}
	db.Close()
	return 0
}

// Run writes into the open store of a round until ctx ends, which is no error, or something fails.
func Run(ctx context.Context, db *alder.DB, r Round, ack func(Ack) error) error {
	c := r.Config
	if c.Goroutines < 1 {
		return errors.New("killtest: no goroutines to write")
	}
	if err := keepConfig(db, c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	acknowledge := func(a Ack) error {
		mu.Lock()
		defer mu.Unlock()
		return ack(a)
	}
	var all sync.WaitGroup
	for g := range c.Goroutines {
		all.Go(func() {
			if err := write(ctx, db, r, g, acknowledge); err != nil {
				cancel(err)
			}
		})
	}
	all.Go(func() {
		if err := read(ctx, db, c); err != nil {
			cancel(err)
		}
	})
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// keepConfig writes the configuration into a new store, and compares it with that of an older one.
func keepConfig(db *alder.DB, c Config) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return db.Update(func(tx *alder.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(configBucket))
		if err != nil {
			return err
		}
		if had := b.Get([]byte("config")); had != nil {
			if string(had) != string(text) {
				return fmt.Errorf("the store was made with %s, this run has %s", had, text)
			}
			return nil
		}
		return b.Put([]byte("config"), text)
	})
}

// StoredConfig reads the configuration that a store was made with. It is nil, without an error, for a store that was killed before
// its first commit.
func StoredConfig(tx *alder.Tx) (*Config, error) {
	b := tx.Bucket([]byte(configBucket))
	if b == nil {
		return nil, tx.Err()
	}
	text := b.Get([]byte("config"))
	if text == nil {
		return nil, errors.Join(tx.Err(), errors.New("bucket config is empty"))
	}
	c := &Config{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("the configuration in the store: %w", err)
	}
	return c, nil
}

// ErrBroken matches errors of a writer that are broken promises of the store.
var ErrBroken = errors.New("broken promise")

var errRolledBack = errors.New("rolled back on purpose")

// write does the transactions of one goroutine, from the one behind the last that the store has.
func write(ctx context.Context, db *alder.DB, r Round, g int, ack func(Ack) error) error {
	var n uint64
	err := db.View(func(tx *alder.Tx) (err error) {
		n, err = number(tx, bucketOf(g))
		return err
	})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		n++
		ops := transaction(r.Config, g, n)
		var order uint64
		fn := func(tx *alder.Tx) (err error) {
			order, err = apply(tx, g, n, ops)
			return err
		}
		if n%7 == 3 {
			err := db.Update(func(tx *alder.Tx) error { return errors.Join(fn(tx), errRolledBack) })
			if r.full(err) {
				n--
				continue
			}
			if !errors.Is(err, errRolledBack) || err.Error() != errRolledBack.Error() {
				return fmt.Errorf("goroutine %d, transaction %d, rolled back: %w", g, n, err)
			}
		}
		lazy := r.NoSync
		switch {
		case n%5 == 0:
			err = db.Batch(fn)
		case r.Mixed && n%13 < 5:
			lazy = true
			err = db.Update(func(tx *alder.Tx) error {
				return errors.Join(tx.SetDurability(alder.DurabilityLazy), fn(tx))
			})
		case n%11 == 5:
			err = begunByHand(db, fn)
		default:
			err = db.Update(fn)
		}
		if r.full(err) {
			n-- // it is tried again until there is room, or a kill
			continue
		}
		if err != nil {
			return fmt.Errorf("goroutine %d, transaction %d: %w", g, n, err)
		}
		if err := ack(Ack{g, n, order, lazy}); err != nil {
			return fmt.Errorf("acknowledging: %w", err)
		}
	}
	return nil
}

// full reports whether a transaction has been rolled back because the store cannot grow, which is no failure.
func (r *Round) full(err error) bool {
	is := (r.FileLimit > 0 || r.Tight) && isFull(err) && !errors.Is(err, alder.ErrFailed)
	if is {
		if r.met != nil {
			r.met()
		}
		time.Sleep(time.Millisecond)
	}
	return is
}

// stuck reports whether nothing can be written any more, because the file system copies what is overwritten and is full.
func (r *Round) stuck(err error) bool {
	is := r.Tight && r.CopyOnWrite && isFull(err)
	if is && r.met != nil {
		r.met()
	}
	return is
}

func begunByHand(db *alder.DB, fn func(tx *alder.Tx) error) error {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// apply does the operations of a transaction, and the numbers. It returns the transaction's place among all.
func apply(tx *alder.Tx, g int, n uint64, ops []op) (order uint64, err error) {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketOf(g)))
	if err != nil {
		return 0, err
	}
	for _, o := range ops {
		if err := o.perform(b); err != nil {
			return 0, fmt.Errorf("%v: %w", o, err)
		}
	}
	numbers, err := tx.CreateBucketIfNotExists([]byte(numbersBucket))
	if err != nil {
		return 0, err
	}
	if order, err = number(tx, sumKey); err != nil {
		return 0, err
	}
	order++
	if err := numbers.Put([]byte(sumKey), strconv.AppendUint(nil, order, 10)); err != nil {
		return 0, err
	}
	return order, numbers.Put([]byte(bucketOf(g)), strconv.AppendUint(nil, n, 10))
}

// number reads one of the shared numbers; 0 if it is not there yet.
func number(tx *alder.Tx, key string) (uint64, error) {
	b := tx.Bucket([]byte(numbersBucket))
	if b == nil {
		return 0, tx.Err()
	}
	text, err := b.Lookup([]byte(key))
	if err != nil || text == nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("number of %s: %w", key, err)
	}
	return n, nil
}

// read looks at snapshots, some of which last, while others write.
func read(ctx context.Context, db *alder.DB, c Config) error {
	for ctx.Err() == nil {
		err := db.View(func(tx *alder.Tx) error {
			if _, err := numbersOf(tx, c.Goroutines); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
			_, err := numbersOf(tx, c.Goroutines)
			return err
		})
		if err != nil {
			return fmt.Errorf("reader: %w", err)
		}
	}
	return nil
}

// numbersOf reads the numbers of all goroutines, which must add up.
func numbersOf(tx *alder.Tx, goroutines int) (numbers []uint64, err error) {
	total, err := number(tx, sumKey)
	if err != nil {
		return nil, err
	}
	var sum uint64
	for g := range goroutines {
		n, err := number(tx, bucketOf(g))
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
		sum += n
	}
	if sum != total {
		return nil, fmt.Errorf("%w: a transaction is there in part: the goroutines' numbers %d add up to %d, the store says %d", ErrBroken, numbers, sum, total)
	}
	return numbers, nil
}
