package workload

import (
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
)

func init() {
	batch := []string{"bbolt-batch", "bbolt-hashmap"}
	register(
		&Workload{ID: "W1", Title: "durable single put, 1 goroutine", Store: Worn,
			Main: "ops/s", More: true, With: []string{"append", "bbolt-hashmap"}, Peers: []string{"sqlite", "append"}, Run: putLoop},
		&Workload{ID: "W2", Title: "durable single put, 8 goroutines", Store: Worn,
			Params: Params{Goroutines: 8}, Main: "ops/s", More: true, With: batch, Peers: []string{"pebble"}, Run: putLoop},
		&Workload{ID: "W3", Title: "durable single put, 64 goroutines", Store: Worn,
			Params: Params{Goroutines: 64}, Main: "ops/s", More: true, With: batch, Peers: []string{"pebble"}, Run: putLoop},
		&Workload{ID: "W3-open", Title: "durable single put, 64 goroutines, open loop of 1,000 per second", Store: Worn,
			Params: Params{Goroutines: 64, Rate: 1000}, Main: "p99", With: batch, Run: putLoop},
		&Workload{ID: "W4", Title: "durable, 100 random puts per transaction", Store: Worn,
			Params: Params{PerTx: 100}, Main: "ops/s", More: true, Peers: []string{"pebble"}, Run: putLoop},
		&Workload{ID: "W5", Title: "durable, 1,000 random puts per transaction", Store: Worn,
			Params: Params{PerTx: 1000}, Main: "ops/s", More: true, Peers: []string{"pebble"}, Run: putLoop},
		&Workload{ID: "W6", Title: "W3 for five minutes over ten times the keys", Store: Worn, Scale: 10,
			Params: Params{Goroutines: 64, Seconds: 300}, Main: "ops/s", More: true, Long: true, Once: true,
			With: []string{"bbolt-batch"}, Peers: []string{"pebble"}, Run: putLoop},
		&Workload{ID: "W12", Title: "lazy single put, 1 goroutine", Store: Worn,
			Params: Params{Durability: engine.Lazy}, Main: "ops/s", More: true,
			With: []string{"lmdb-writemap"}, Run: putLoop},
	)
}

// putWorker is one goroutine's share of a write workload: it overwrites random records.
type putWorker struct {
	set     data.Set
	writer  engine.Writer
	pick    data.Picker
	version uint64
	key     []byte
	value   []byte
	bytes   atomic.Int64 // of the keys and values acknowledged
}

// The versions that different goroutines and different trials write are kept apart: trials of a round wear the same store, and SQLite writes
// nothing for a value that is there already.
const (
	versionsPerWorker = 1 << 32
	workersPerTrial   = 1 << 12
)

// firstVersion is the one before the first that a goroutine of the trial writes.
func (t *Trial) firstVersion(worker int) uint64 {
	h := fnv.New32a()
	fmt.Fprint(h, t.Workload, "#", t.Rep)
	return (uint64(h.Sum32())*workersPerTrial + uint64(worker%(workersPerTrial-1)+1)) * versionsPerWorker
}

func (t *Trial) writers(store engine.Store, n int) ([]*putWorker, error) {
	var workers []*putWorker
	for i := range n {
		writer, err := store.Writer()
		if err != nil {
			return nil, err
		}
		pick, err := data.NewPicker(t.Params.Distribution, t.Set.Len(), t.workerSeed(i))
		if err != nil {
			return nil, err
		}
		workers = append(workers, &putWorker{
			set: t.Set, writer: writer, pick: pick, version: t.firstVersion(i),
		})
	}
	return workers, nil
}

// record makes the next record to put.
func (w *putWorker) record() {
	i := w.pick.Next()
	w.version++
	w.key = w.set.Key(i, w.key)
	w.value = w.set.Value(i, w.version, w.value)
}

func (w *putWorker) once() error {
	w.record()
	if err := w.writer.Once(w.key, w.value); err != nil {
		return err
	}
	w.bytes.Add(int64(len(w.key) + len(w.value)))
	return nil
}

// many puts n records in one transaction.
func (w *putWorker) many(n int) error {
	if err := w.writer.Begin(); err != nil {
		return err
	}
	size := 0
	for range n {
		w.record()
		if err := w.writer.Put(w.key, w.value); err != nil {
			return errors.Join(err, w.writer.Rollback())
		}
		size += len(w.key) + len(w.value)
	}
	if err := w.writer.Commit(); err != nil {
		return err
	}
	w.bytes.Add(int64(size))
	return nil
}

// putLoop overwrites records, in transactions of PerTx puts, on every goroutine of the workload.
func putLoop(t *Trial) error {
	return t.with(func(store engine.Store) error {
		if err := settle(store); err != nil {
			return err
		}
		workers, err := t.writers(store, t.Params.Goroutines)
		if err != nil {
			return err
		}
		p := plan{duration: t.Params.duration(), sampleEvery: 1, opsPerStep: t.Params.PerTx, rate: t.Params.Rate}
		if t.Params.Durability == engine.Lazy {
			p.sampleEvery = 16
		}
		for _, w := range workers {
			s := w.once
			if t.Params.PerTx > 1 {
				s = func() error { return w.many(t.Params.PerTx) }
			}
			p.steps = append(p.steps, s)
		}
		warm := p
		warm.duration = t.Params.warm()
		if _, err := warm.run(); err != nil {
			return err
		}
		if t.Params.Seconds >= 10 {
			p.watch = func(point Point) { t.Result.Series = append(t.Result.Series, point) }
		}
		return t.putAndVerify(store, workers, p)
	})
}

func (t *Trial) putAndVerify(store engine.Store, workers []*putWorker, p plan) error {
	before := acknowledged(workers)
	t.start()
	out, err := p.run()
	if err != nil {
		return err
	}
	t.stop()
	payload := acknowledged(workers) - before
	if t.Params.Durability == engine.Full {
		if err := t.reachedDisk(out.ops/int64(p.opsPerStep), payload); err != nil {
			return err
		}
	}
	for _, w := range workers {
		if err := w.writer.Close(); err != nil {
			return err
		}
	}
	if err := t.report("", out); err != nil {
		return err
	}
	if written, err := t.flushed(); err == nil {
		t.measure("disk bytes/op", float64(written.WrittenBytes)/float64(max(out.ops, 1)), "B")
	}
	if t.Engine.Bare {
		return nil // no records to look at
	}
	return t.verifyWorn(store)
}

func acknowledged(workers []*putWorker) (bytes int64) {
	for _, w := range workers {
		bytes += w.bytes.Load()
	}
	return bytes
}

// reachedDisk compares what was acknowledged as durable with what the device counted until now, and fails where
// the bytes cannot have reached the disk or its cache was never flushed.
func (t *Trial) reachedDisk(commits, payload int64) error {
	s := &t.Result.State
	if t.disk == nil {
		t.note("durability not verified by the device's counters: %s", s.DiskNA)
		return nil
	}
	if commits == 0 {
		return errors.New("no commit was made")
	}
	t.measure("flushes/commit", float64(s.Disk.Flushes)/float64(commits), "")
	t.measure("writes/commit", float64(s.Disk.Writes)/float64(commits), "")
	if t.Set.Len() > 0 && s.Disk.WrittenBytes < t.leastBytes(payload) {
		return fmt.Errorf(NotDurable+": %d bytes were acknowledged and the disk received %d", payload, s.Disk.WrittenBytes)
	}
	if t.disk.WriteCache == "write back" && s.Disk.Flushes == 0 {
		return errors.New(NotDurable + ": the disk's write-back cache was never flushed")
	}
	// One goroutine waits for each of its commits, so none can share a flush with another.
	if alone := t.Params.Goroutines == 1; t.disk.WriteCache == "write back" && alone && float64(s.Disk.Flushes) < 0.9*float64(commits) {
		return fmt.Errorf(NotDurable+": %d commits by one goroutine, and the disk's write-back cache was flushed %d times", commits, s.Disk.Flushes)
	}
	return nil
}

// leastBytes is what must reach the disk for a payload. An engine may compress its log, so of compressible values
// only the rest counts.
func (t *Trial) leastBytes(payload int64) int64 {
	switch t.Params.Data {
	case "random", "sorted":
		return int64(float64(payload) * (1 - t.Params.Compressible) * 0.98)
	}
	return payload / 10
}

// verifyWorn checks a store whose values were overwritten: all keys are there, in order, and the values belong to
// their keys.
func (t *Trial) verifyWorn(store engine.Store) error { return t.verifyAll(store) }
