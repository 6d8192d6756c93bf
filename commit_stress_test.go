package alder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Stress of the commit path, on a real file: many goroutines commit in every way that there is, while checkpoints and new runs of
// the log happen all the time, and the store is closed under them. What is verified:
//
//   - there is one order of all commits, and everybody sees the same one: each transaction takes the next number and signs
//     for it in a bucket that all share;
//   - a full commit that has returned is seen by who begins to read afterwards, and readers never see less than before;
//   - what a goroutine has committed is there when the store is opened again, whole, and nothing that was rolled back;
//   - Tx.Check, beside the writers and after each open.

var stressTimeFlag = flag.Duration("alder.stress", 0, "time that each form of TestCommit_Stress runs; 0: one fit for every run")

// stressForm is a store under stress.
type stressForm struct {
	name    string
	options Options
	large   bool // records that do not fit into the log too
}

var stressForms = []stressForm{
	{name: "full", options: Options{LogSize: 64 << 10}, large: true},
	{name: "full, checkpoints all the time", options: Options{LogSize: 4096, checkpointAge: time.Millisecond}},
	{name: "full, no memory", options: Options{LogSize: 16 << 10, DirtyLimit: 8192}},
	{name: "lazy", options: Options{LogSize: 64 << 10, NoSync: true, SyncInterval: time.Millisecond}, large: true},
	{name: "lazy, no memory", options: Options{LogSize: 4096, DirtyLimit: 4096, NoSync: true, SyncInterval: 5 * time.Millisecond, checkpointAge: 2 * time.Millisecond}},
	{name: "defaults", options: Options{}, large: true},
	{name: "large pages", options: Options{PageSize: 65536, LogSize: 128 << 10, DirtyLimit: 256 << 10}},
}

const (
	stressWriters = 12
	stressRound   = 150 * time.Millisecond
	stressKept    = 500 // signatures of commits that are kept
)

// stressWriter is one goroutine that writes. What it writes follows from a random source of its own, and from what was there.
type stressWriter struct {
	s     *stress
	id    int
	rng   *rand.Rand
	data  map[string][]byte // committed, acknowledged or not: own keys
	seen  uint64            // the highest number of a commit that it has seen
	count uint64            // own commits
}

// stress is one run.
type stress struct {
	t       *testing.T
	form    stressForm
	path    string
	db      *DB
	writers []*stressWriter
	stop    atomic.Bool

	commits, rollbacks, checks, lazies atomic.Int64
}

var errStressRollback = errors.New("rolled back on purpose")

// Ensures that concurrent commits of all kinds have one order, are whole, and are kept.
func TestCommit_Stress(t *testing.T) {
	length := *stressTimeFlag
	if length == 0 {
		length = 1500 * time.Millisecond
		if testing.Short() {
			length = 400 * time.Millisecond
		}
	}
	for i, form := range stressForms {
		if testing.Short() && i > 3 && *stressTimeFlag == 0 {
			break
		}
		t.Run(form.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "alder-test-")
			require.NoError(t, err)
			defer os.RemoveAll(dir)
			s := &stress{t: t, form: form, path: filepath.Join(dir, "stress.db")}
			for id := range stressWriters {
				s.writers = append(s.writers, &stressWriter{s: s, id: id, rng: rand.New(rand.NewPCG(uint64(i), uint64(id))), data: map[string][]byte{}})
			}
			rounds := 0
			for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); rounds++ {
				s.round(stressRound, rounds)
			}
			t.Logf("%d rounds, %d commits (%d lazy), %d rollbacks, %d checks", rounds, s.commits.Load(), s.lazies.Load(), s.rollbacks.Load(), s.checks.Load())
		})
	}
}

// round opens the store, verifies it, lets everybody work, and closes it, in half of the rounds under the writers.
func (s *stress) round(length time.Duration, n int) {
	o := s.form.options
	var err error
	s.db, err = Open(s.path, 0o600, &o)
	require.NoError(s.t, err)
	s.verify()
	s.stop.Store(false)
	var wg sync.WaitGroup
	for _, w := range s.writers {
		wg.Go(w.work)
	}
	for i := range 4 {
		wg.Go(func() { s.read(i) })
	}
	time.Sleep(length)
	hang := time.AfterFunc(2*time.Minute, func() {
		buf := make([]byte, 1<<20)
		panic(fmt.Sprintf("the store hangs:\n%s", buf[:runtime.Stack(buf, true)]))
	})
	defer hang.Stop()
	if n%2 == 0 {
		s.stop.Store(true)
		wg.Wait()
	}
	if err := s.db.Close(); err != nil {
		s.t.Errorf("Close: %v", err)
	}
	s.stop.Store(true)
	wg.Wait()
}

// verify holds the store, just opened, against what the writers know.
func (s *stress) verify() {
	require.NoError(s.t, s.db.View(func(tx *Tx) error {
		if err := checkWhole(tx); err != nil {
			return err
		}
		all := tx.Bucket([]byte("all"))
		if all == nil {
			return nil // the first open
		}
		total := uint64(0)
		for _, w := range s.writers {
			total += w.count
			if err := w.verify(tx); err != nil {
				return fmt.Errorf("writer %d: %w", w.id, err)
			}
		}
		if all.Sequence() != total {
			return fmt.Errorf("%d transactions, %d were committed", all.Sequence(), total)
		}
		return stressOrder(all, s.writers)
	}))
}

// stressOrder verifies that each of the last commits has signed for one number, those of each writer in their order.
func stressOrder(all *Bucket, writers []*stressWriter) error {
	last := make([]uint64, len(writers))
	want := all.Sequence() - min(all.Sequence(), stressKept)
	for k, v := range all.All() {
		want++
		if binary.BigEndian.Uint64(k) != want {
			return fmt.Errorf("commit %d is missing, the next is %d", want, binary.BigEndian.Uint64(k))
		}
		var id int
		var n uint64
		if _, err := fmt.Sscan(string(v), &id, &n); err != nil {
			return err
		}
		if n != last[id]+1 && (last[id] > 0 || all.Sequence() <= stressKept) {
			return fmt.Errorf("commit %d is number %d of writer %d, after its number %d", want, n, id, last[id])
		}
		last[id] = n
	}
	if want != all.Sequence() {
		return fmt.Errorf("%d commits have signed, the sequence is %d", want, all.Sequence())
	}
	return nil
}

// verify compares the writer's own bucket.
func (w *stressWriter) verify(tx *Tx) error {
	b := tx.Bucket(w.name())
	if b == nil {
		if w.count > 0 {
			return fmt.Errorf("its bucket is gone, after %d commits", w.count)
		}
		return nil
	}
	if b.Sequence() != w.count {
		return fmt.Errorf("%d commits, want %d", b.Sequence(), w.count)
	}
	keys := slices.Sorted(maps.Keys(w.data))
	i := 0
	for k, v := range b.All() {
		if i >= len(keys) || string(k) != keys[i] {
			return fmt.Errorf("key %q, of %d keys %d have come", k, len(keys), i)
		}
		if v == nil { // nested
			v = b.Bucket(k).Get([]byte("v"))
		}
		if !bytes.Equal(v, w.data[keys[i]]) {
			return fmt.Errorf("value of %q: %d bytes, want %d", k, len(v), len(w.data[keys[i]]))
		}
		i++
	}
	if i != len(keys) {
		return fmt.Errorf("%d keys, want %d", i, len(keys))
	}
	return tx.Err()
}

func (w *stressWriter) name() []byte { return fmt.Appendf(nil, "writer %02d", w.id) }

// work commits until the store is closed or the round ends.
func (w *stressWriter) work() {
	for !w.s.stop.Load() && !w.s.t.Failed() {
		if err := w.step(); errors.Is(err, ErrDatabaseNotOpen) {
			return
		} else if err != nil {
			w.s.t.Errorf("writer %d: %v", w.id, err)
			return
		}
	}
}

// stressTx is what one transaction does to the writer's own data, decided before it begins, for it may be run twice.
type stressTx struct {
	puts    map[string][]byte
	nested  map[string]bool
	deletes []string
	level   Durability
	fails   bool
	number  uint64 // of the commit
}

func (w *stressWriter) plan() *stressTx {
	p := &stressTx{puts: map[string][]byte{}, nested: map[string]bool{}}
	for range 1 + w.rng.IntN(4) {
		k := fmt.Sprintf("k%03d", w.rng.IntN(150))
		v := make([]byte, 1+w.rng.IntN(200))
		switch w.rng.IntN(60) {
		case 0:
			v = make([]byte, 30_000+w.rng.IntN(100_000))
		case 1, 2:
			k = fmt.Sprintf("n%d", w.rng.IntN(4))
			p.nested[k] = true
		}
		for i := range v {
			v[i] = byte(w.rng.Uint32()) | 1
		}
		p.puts[k] = v
	}
	if w.s.form.large && w.id == 0 && w.rng.IntN(150) == 0 {
		for i := range 9 { // more than one record of the log can hold
			p.puts[fmt.Sprintf("large%d", i)] = bytes.Repeat([]byte{byte(w.rng.Uint32()) | 1}, 1<<20)
		}
	}
	if len(w.data) > 0 && w.rng.IntN(3) == 0 {
		for range w.rng.IntN(8) {
			keys := slices.Sorted(maps.Keys(w.data))
			if k := keys[w.rng.IntN(len(keys))]; p.puts[k] == nil && k[0] != 'n' {
				p.deletes = append(p.deletes, k)
			}
		}
	}
	p.level = []Durability{DurabilityDefault, DurabilityDefault, DurabilityFull, DurabilityLazy}[w.rng.IntN(4)]
	p.fails = w.rng.IntN(12) == 0
	return p
}

// do is the function of the transaction.
func (w *stressWriter) do(tx *Tx, p *stressTx) error {
	if err := tx.SetDurability(p.level); err != nil {
		return err
	}
	all, err := tx.CreateBucketIfNotExists([]byte("all"))
	if err != nil {
		return err
	}
	own, err := tx.CreateBucketIfNotExists(w.name())
	if err != nil {
		return err
	}
	n, err := all.NextSequence()
	if err != nil {
		return err
	}
	if n <= w.seen {
		return fmt.Errorf("transaction %d, after %d was seen", n, w.seen)
	}
	if own.Sequence() != w.count {
		return fmt.Errorf("a transaction finds %d commits of its writer, want %d", own.Sequence(), w.count)
	}
	p.number = n
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], n)
	if err := all.Put(key[:], fmt.Appendf(nil, "%d %d", w.id, w.count+1)); err != nil {
		return err
	}
	if n > stressKept {
		binary.BigEndian.PutUint64(key[:], n-stressKept)
		if err := all.Delete(key[:]); err != nil {
			return err
		}
	}
	if err := own.SetSequence(w.count + 1); err != nil {
		return err
	}
	for k, v := range p.puts {
		if err := w.put(own, k, v, p.nested[k]); err != nil {
			return err
		}
	}
	for _, k := range p.deletes {
		if err := own.Delete([]byte(k)); err != nil {
			return err
		}
	}
	if p.fails {
		return errStressRollback
	}
	return nil
}

// put stores a value, in a bucket of its own if it is to be nested.
func (w *stressWriter) put(own *Bucket, k string, v []byte, nested bool) error {
	if !nested {
		return own.Put([]byte(k), v)
	}
	if own.Bucket([]byte(k)) != nil {
		if err := own.DeleteBucket([]byte(k)); err != nil {
			return err
		}
	}
	b, err := own.CreateBucket([]byte(k))
	if err != nil {
		return err
	}
	return b.Put([]byte("v"), v)
}

// step is one transaction, committed in one of the ways, and what must hold afterwards.
func (w *stressWriter) step() error {
	p := w.plan()
	db := w.s.db
	fn := func(tx *Tx) error { return w.do(tx, p) }
	var err error
	switch w.rng.IntN(10) {
	case 0:
		p.level = DurabilityDefault // the level of others would count for it too
		err = db.Batch(fn)
	case 1:
		var tx *Tx
		if tx, err = db.Begin(true); err != nil {
			return err
		}
		if err = fn(tx); err != nil {
			err = errors.Join(err, tx.Rollback())
		} else {
			err = tx.Commit()
		}
	default:
		err = db.Update(fn)
	}
	switch {
	case p.fails && errors.Is(err, errStressRollback):
		w.s.rollbacks.Add(1)
		return nil
	case err != nil:
		return err
	case p.fails:
		return errors.New("a transaction that failed was committed")
	}
	w.committed(p)
	lazy := p.level == DurabilityLazy || p.level == DurabilityDefault && w.s.form.options.NoSync
	if lazy {
		w.s.lazies.Add(1)
		if w.rng.IntN(20) > 0 {
			return nil
		}
		if err := db.Sync(); err != nil {
			return fmt.Errorf("Sync: %w", err)
		}
	}
	return w.look()
}

// committed notes what the transaction has done.
func (w *stressWriter) committed(p *stressTx) {
	w.s.commits.Add(1)
	w.count++
	w.seen = p.number
	maps.Copy(w.data, p.puts)
	for _, k := range p.deletes {
		delete(w.data, k)
	}
}

// look verifies that what the writer has just committed is seen by whoever begins to read.
func (w *stressWriter) look() error {
	return w.s.db.View(func(tx *Tx) error {
		n := tx.Bucket([]byte("all")).Sequence()
		if n < w.seen {
			return fmt.Errorf("a reader sees %d transactions, after number %d has returned", n, w.seen)
		}
		w.seen = n
		if w.rng.IntN(10) == 0 {
			return w.verify(tx)
		}
		if got := tx.Bucket(w.name()).Sequence(); got != w.count {
			return fmt.Errorf("a reader sees %d commits of the writer, want %d", got, w.count)
		}
		return nil
	})
}

// read verifies snapshots beside the writers, and keeps some for a while.
func (s *stress) read(id int) {
	rng := rand.New(rand.NewPCG(99, uint64(id)))
	seen := uint64(0)
	for !s.stop.Load() && !s.t.Failed() {
		err := s.db.View(func(tx *Tx) error {
			all := tx.Bucket([]byte("all"))
			if all == nil {
				return nil
			}
			n := all.Sequence()
			if n < seen {
				return fmt.Errorf("a reader sees %d transactions after %d", n, seen)
			}
			seen = n
			if rng.IntN(4) == 0 {
				time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
			}
			if all.Len() != min(n, stressKept) || all.Sequence() != n {
				return fmt.Errorf("%d keys in snapshot %d", all.Len(), n)
			}
			if id == 0 {
				s.checks.Add(1)
				if err := stressOrder(all, s.writers); err != nil {
					return err
				}
				return checkWhole(tx)
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrDatabaseNotOpen) {
			s.t.Errorf("reader %d: %v", id, err)
			return
		}
	}
}
