package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
)

func init() {
	register(
		&Workload{ID: "W7", Title: "random load, lazy, 1,000 per transaction", Store: Empty,
			Params: Params{PerTx: 1000, Durability: engine.Lazy},
			Main:   "puts/s", More: true, With: []string{"lmdb-writemap"}, Run: loadEmpty(false)},
		&Workload{ID: "W8", Title: "sorted load, lazy, 1,000 per transaction", Store: Empty,
			Params: Params{PerTx: 1000, Durability: engine.Lazy, Data: "sorted"},
			Main:   "puts/s", More: true, With: []string{"lmdb-writemap"}, Run: loadEmpty(false)},
		&Workload{ID: "W8-append", Title: "append (the engine is told that keys ascend), lazy, 100,000 per transaction",
			Store: Empty, Params: Params{PerTx: 100_000, Durability: engine.Lazy, Data: "sorted"},
			Main: "puts/s", More: true, With: []string{"lmdb-writemap"}, Run: loadEmpty(true)},
		&Workload{ID: "W9", Title: "1 MiB values, durable", Store: Empty,
			Params: Params{ValueSize: 1 << 20, Records: 256}, Main: "MB/s", More: true, Run: putLarge},
		&Workload{ID: "W9-lazy", Title: "1 MiB values, lazy", Store: Empty,
			Params: Params{ValueSize: 1 << 20, Records: 256, Durability: engine.Lazy},
			Main:   "MB/s", More: true, With: []string{"lmdb-writemap"}, Run: putLarge},
		&Workload{ID: "W10", Title: "one durable transaction with as many random puts as the store has keys", Store: Own,
			Main: "seconds", Run: putHuge},
		&Workload{ID: "W11", Title: "allocations per put in a transaction of 100,000 random puts", Store: Worn,
			Params: Params{PerTx: 100_000, Durability: engine.Lazy}, Main: "allocs/put", Run: putLargeTx},
		&Workload{ID: "S1", Title: "file bytes per key after a random load", Store: Shared, Once: true,
			Params: Params{PerTx: prepareTx, Durability: engine.Lazy}, Main: "bytes/key", Run: spaceOfLoaded},
		&Workload{ID: "S1-sorted", Title: "file bytes per key after a sorted load", Store: Empty,
			Params: Params{PerTx: 1000, Durability: engine.Lazy, Data: "sorted"},
			Once:   true, Main: "bytes/key", Run: loadSpace(false)},
		&Workload{ID: "S1-append", Title: "file bytes per key after appending", Store: Empty,
			Params: Params{PerTx: 1000, Durability: engine.Lazy, Data: "sorted"},
			Once:   true, Main: "bytes/key", Run: loadSpace(true)},
	)
}

// loadEmpty times the load of a new store. The time ends with the last commit; what lazy durability leaves to be
// flushed is timed apart.
func loadEmpty(appending bool) func(*Trial) error {
	return func(t *Trial) error {
		store, err := t.openAt(t.Dir, t.Params.Durability, appending)
		if err != nil {
			return err
		}
		w, err := store.Writer()
		if err != nil {
			return errors.Join(err, closeAfter(store))
		}
		l := loading{writer: w, set: t.Set, perTx: t.Params.PerTx, deadline: t.loadDeadline()}
		if !t.Set.Extensible() {
			l.maxBytes = loadBytes // real records differ in size
		}
		t.start()
		start := time.Now()
		if err := l.all(); errors.Is(err, errCut) && l.done > 0 {
			t.Result.Cut = fmt.Sprintf("load cut after %.0f s at %d of %d records",
				time.Since(start).Seconds(), l.done, t.Set.Len())
			t.Set = data.First(t.Set, l.done)
		} else if err != nil {
			return errors.Join(err, closeAfter(store))
		}
		took := time.Since(start)
		used := t.stop()
		syncing := time.Now()
		if err := store.Sync(); err != nil {
			return err
		}
		n := float64(t.Set.Len())
		t.measure("puts/s", n/took.Seconds(), "1/s")
		t.measure("allocs/put", float64(used.Allocs)/n, "")
		t.measure("sync after", time.Since(syncing).Seconds(), "s")
		if written, err := t.flushed(); err == nil {
			t.measure("disk bytes/op", float64(written.WrittenBytes)/n, "B")
		}
		if err := t.verifyAll(store); err != nil {
			return errors.Join(err, closeAfter(store))
		}
		return errors.Join(w.Close(), store.Close())
	}
}

// spaceOfLoaded reports what the files of the loaded store take, which nobody needs to open for that.
func spaceOfLoaded(t *Trial) error {
	if t.Engine.Bare {
		return engine.NA("a bare file has no records")
	}
	return t.reportSpace()
}

// loadSpace loads a new store, closes it, and reports what its files take. Engines that clean up in the background
// are given the time for it.
func loadSpace(appending bool) func(*Trial) error {
	return func(t *Trial) error {
		store, err := t.openAt(t.Dir, t.Params.Durability, appending)
		if err != nil {
			return err
		}
		if err := load(store, t.Set, t.Params.PerTx); err != nil {
			return errors.Join(err, closeAfter(store))
		}
		if err := errors.Join(store.Sync(), settle(store), store.Close()); err != nil {
			return err
		}
		return t.reportSpace()
	}
}

// putLarge puts large values one per transaction, over a ring of records, so that the store stays bounded.
func putLarge(t *Trial) error {
	return t.with(func(store engine.Store) error {
		w, err := store.Writer()
		if err != nil {
			return err
		}
		var key, value []byte
		n := 0
		put := func() error {
			i := n % t.Set.Len()
			key = t.Set.Key(i, key)
			value = t.Set.Value(i, uint64(n), value)
			n++
			return w.Once(key, value)
		}
		p := plan{steps: []step{put}, duration: t.Params.duration(), sampleEvery: 1, opsPerStep: 1}
		t.start()
		out, err := p.run()
		if err != nil {
			return err
		}
		t.stop()
		payload := out.ops * int64(t.Params.ValueSize)
		if t.Params.Durability == engine.Full {
			if err := t.reachedDisk(out.ops, payload); err != nil {
				return err
			}
		}
		t.measure("MB/s", float64(payload)/1e6/out.elapsed.Seconds(), "MB/s")
		if err := t.report("", out); err != nil {
			return err
		}
		return errors.Join(w.Close(), t.verifyRing(store, n))
	})
}

// verifyRing compares the records that putLarge left.
func (t *Trial) verifyRing(store engine.Store, puts int) error {
	r, err := store.Reader()
	if err != nil {
		return err
	}
	if err := r.Begin(); err != nil {
		return err
	}
	for i := range min(puts, t.Set.Len()) {
		key := t.Set.Key(i, nil)
		bad := fmt.Errorf("record %d is missing", i)
		err := r.Visit(key, func(k, v []byte) bool {
			if string(k) == string(key) {
				bad = t.Set.Verify(i, v)
			}
			return false
		})
		if err != nil {
			return err
		}
		if bad != nil {
			return fmt.Errorf(WrongAnswers+": %w", bad)
		}
	}
	return errors.Join(r.End(), r.Close())
}

// putHuge puts as many new records as the store has, at random places, in one transaction.
func putHuge(t *Trial) error {
	if !t.Set.Extensible() {
		return engine.NA("real data has no further records")
	}
	return t.with(func(store engine.Store) error {
		w, err := store.Writer()
		if err != nil {
			return err
		}
		n := t.Set.Len()
		t.start()
		start := time.Now()
		l := loading{writer: w, set: t.Set, perTx: n, deadline: t.loadDeadline()}
		if err := l.put(n, 2*n); errors.Is(err, errCut) {
			return errors.Join(engine.NA("one transaction of %d puts was cut after %.0f s", n, time.Since(start).Seconds()),
				err)
		} else if err != nil {
			return err
		}
		took := time.Since(start)
		used := t.stop()
		if err := t.reachedDisk(1, int64(n)*int64(t.Params.KeySize+t.Params.ValueSize)); err != nil {
			return err
		}
		t.measure("seconds", took.Seconds(), "s")
		t.measure("allocs/put", float64(used.Allocs)/float64(n), "")
		if peak := t.Result.State.PeakAnonBytes; peak >= 0 {
			t.measure("peak MB", float64(peak)/1e6, "MB")
		}
		return errors.Join(w.Close(), t.verifyCount(store, 2*n))
	})
}

// verifyCount visits the store and compares the number of its records.
func (t *Trial) verifyCount(store engine.Store, want int) error {
	r, err := store.Reader()
	if err != nil {
		return err
	}
	if err := r.Begin(); err != nil {
		return err
	}
	n := 0
	if err := r.Visit(nil, func(_, _ []byte) bool { n++; return true }); err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf(WrongAnswers+": the store has %d records, not %d", n, want)
	}
	return errors.Join(r.End(), r.Close())
}

// putLargeTx counts the allocations of puts inside one transaction, commit excluded.
func putLargeTx(t *Trial) error {
	return t.with(func(store engine.Store) error {
		workers, err := t.writers(store, 1)
		if err != nil {
			return err
		}
		w := workers[0]
		w.record() // makes the buffers
		if err := w.writer.Begin(); err != nil {
			return err
		}
		t.start()
		start := time.Now()
		for range t.Params.PerTx {
			w.record()
			if err := w.writer.Put(w.key, w.value); err != nil {
				return errors.Join(err, w.writer.Rollback())
			}
		}
		took := time.Since(start)
		used := t.stop()
		t.measure("allocs/put", float64(used.Allocs)/float64(t.Params.PerTx), "")
		t.measure("ns/put", float64(took)/float64(t.Params.PerTx), "ns")
		return errors.Join(w.writer.Commit(), w.writer.Close())
	})
}
