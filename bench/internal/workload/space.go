package workload

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
)

func init() {
	register(
		&Workload{ID: "S2", Title: "1-key durable commit with 500,000 free pages, against none", Store: Worn,
			Params: Params{Records: 500_000, ValueSize: 3000}, Shrinks: true, Main: "commit p50", Without: withoutPages,
			Prepared: freePages, With: []string{"bbolt-hashmap"}, Run: commitWithFreePages},
		&Workload{ID: "S3", Title: "delete 90 % of 1 GB, then shrink beside 8 readers and a writer", Store: Empty,
			Params: Params{Records: 1_000_000, ValueSize: 1000, Goroutines: 8, Durability: engine.Lazy},
			Once:   true, Shrinks: true, Main: "file/live", Run: shrinkOnline},
		&Workload{ID: "S4", Title: "100 rewrites of all keys beside an old reader: file size against no reader", Store: Empty,
			Params: Params{Records: 20_000, PerTx: 1000, Durability: engine.Lazy}, Once: true, Shrinks: true, Main: "growth",
			Without: withoutSnapshots, Run: rewriteBesideReader},
		&Workload{ID: "S6", Title: "1 MiB puts that grow the file beside an idle reader", Store: Empty,
			Params: Params{ValueSize: 1 << 20, Records: 128}, Main: "put max", Run: growBesideReader},
		&Workload{ID: "S7", Title: "new, empty store", Store: Empty,
			Params: Params{Records: 1}, Main: "file bytes", Run: emptyStore},
	)
}

// freePages names the preparation of a store with many free pages.
const freePages = "free-pages"

func init() { preparations[freePages] = makeFreePages }

// withoutPages says why log-structured engines have no free pages.
func withoutPages(e *engine.Engine) string {
	switch e.Name {
	case "pebble", "badger", "buntdb":
		return "log-structured: no free pages"
	}
	return ""
}

// withoutSnapshots says which engines let no writer in while somebody reads.
func withoutSnapshots(e *engine.Engine) string {
	if e.Name == "buntdb" {
		return "a reader keeps all writers out"
	}
	return ""
}

func (t *Trial) reportSpace() error {
	length, allocated, err := measure.Size(t.Dir)
	if err != nil {
		return err
	}
	n := float64(t.Set.Len())
	t.measure("bytes/key", float64(length)/n, "B")
	t.measure("disk bytes/key", float64(allocated)/n, "B")
	return nil
}

// smallRecords are what is left to overwrite in a store with free pages.
func (t *Trial) smallRecords() (data.Set, error) {
	return data.NewSynthetic(1000, t.Params.KeySize, 100, false, t.Params.Seed+99, 0)
}

// commitWithFreePages compares small commits in a store with many free pages with those in a store that has none, and else the
// same records: among more records the small ones lie in more pages, of which more are written.
func commitWithFreePages(t *Trial) error {
	small, err := t.smallRecords()
	if err != nil {
		return err
	}
	baseDir := t.Scratch + "/base"
	base, err := t.openAt(baseDir, engine.Full, false)
	if err != nil {
		return err
	}
	if err := errors.Join(load(base, small, 1000), load(base, &everyNth{Set: t.Set, n: keptOf}, 1000)); err != nil {
		return errors.Join(err, closeAfter(base))
	}
	if err := t.smallCommits("base ", base, small); err != nil {
		return errors.Join(err, closeAfter(base))
	}
	if err := base.Close(); err != nil {
		return err
	}
	if err := t.hasFreePages(); err != nil {
		return err
	}
	return t.with(func(store engine.Store) error {
		if err := t.smallCommits("commit ", store, small); err != nil {
			return err
		}
		with, _ := t.Result.Value("commit p50")
		without, _ := t.Result.Value("base p50")
		t.measure("time ratio", with/max(without, 1), "")
		with, ok := t.Result.Value("commit disk bytes")
		if without, has := t.Result.Value("base disk bytes"); ok && has {
			t.measure("bytes ratio", with/max(without, 1), "")
		}
		return nil
	})
}

// keptOf is how many records one survives of when free pages are made.
const keptOf = 64

// makeFreePages fills a store with page-sized values in random order and deletes all but a few, so that its free
// pages lie scattered.
func makeFreePages(t *Trial) error {
	small, err := t.smallRecords()
	if err != nil {
		return err
	}
	store, err := t.openAt(t.Dir, engine.Lazy, false)
	if err != nil {
		return err
	}
	writer, err := store.Writer()
	if err != nil {
		return errors.Join(err, closeAfter(store))
	}
	// In bulk: where the survivors lie in the file is as random as their keys, and in small transactions each put and
	// each delete would write pages for minutes.
	l := t.loading(writer)
	l.inBulk(t.Engine)
	if err := errors.Join(load(store, small, 1000), l.all(), writer.Close()); err != nil {
		return errors.Join(err, closeAfter(store))
	}
	order := inKeyOrder(t.Set, 0, t.Set.Len())
	if err := deleteMost(store, t.Set, keptOf, 20*deleteTx, order); err != nil {
		return errors.Join(err, closeAfter(store))
	}
	return errors.Join(store.Sync(), settle(store), store.Close())
}

// hasFreePages is an error if the files are not as large as what was deleted: an engine that makes a file shorter by
// itself must be told not to where its free pages are what is measured.
func (t *Trial) hasFreePages() error {
	_, size, err := measure.Size(t.Dir)
	if err != nil {
		return err
	}
	if deleted := int64(t.Set.Len()) * int64(t.Params.ValueSize); size < deleted {
		return fmt.Errorf("the store has %d MB after %d MB were deleted: its free pages are gone", size>>20, deleted>>20)
	}
	t.measure("file MB", float64(size)/1e6, "MB")
	return nil
}

// deleteTx is how many records a transaction of deletes goes over.
const deleteTx = 1000

// deleteMost deletes all but one of every kept records, perTx of them in a transaction, in an order or, without one, as
// they are numbered.
func deleteMost(store engine.Store, set data.Set, kept, perTx int, order []int) error {
	w, err := store.Writer()
	if err != nil {
		return err
	}
	defer w.Close()
	var key []byte
	for i := 0; i < set.Len(); {
		if err := w.Begin(); err != nil {
			return err
		}
		for end := min(i+perTx, set.Len()); i < end; i++ {
			n := i
			if order != nil {
				n = order[i]
			}
			if n%kept == 0 {
				continue
			}
			key = set.Key(n, key)
			if err := w.Delete(key); err != nil {
				return errors.Join(err, w.Rollback())
			}
		}
		if err := w.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// smallCommits times durable single puts and counts what they write.
func (t *Trial) smallCommits(name string, store engine.Store, set data.Set) error {
	w, err := store.Writer()
	if err != nil {
		return err
	}
	pick, err := data.NewPicker("uniform", set.Len(), t.workerSeed(0))
	if err != nil {
		return err
	}
	worker := &putWorker{set: set, writer: w, pick: pick}
	p := plan{steps: []step{worker.once}, duration: t.Params.warm(), sampleEvery: 1}
	if _, err := p.run(); err != nil {
		return err
	}
	p.duration = t.Params.duration()
	t.start()
	out, err := p.run()
	if err != nil {
		return err
	}
	t.stop()
	if t.disk != nil {
		t.measure(name+"disk bytes", float64(t.Result.State.Disk.WrittenBytes)/float64(out.ops), "B")
	}
	return errors.Join(t.reportLatency(name, out.latency), w.Close())
}

// shrinkOnline deletes most of a store and lets it shrink while readers and a writer go on.
func shrinkOnline(t *Trial) error {
	return t.with(func(store engine.Store) error {
		shrinker, ok := store.(engine.Shrinker)
		if !ok {
			return engine.NA("cannot shrink a store that is open")
		}
		if err := load(store, t.Set, prepareTx); err != nil {
			return err
		}
		const kept = 10
		if err := deleteMost(store, t.Set, kept, deleteTx, nil); err != nil {
			return err
		}
		if err := errors.Join(store.Sync(), settle(store)); err != nil {
			return err
		}
		_, before, err := measure.Size(t.Dir)
		if err != nil {
			return err
		}
		alone, waits, err := t.besides(store, kept, shrinker.Shrink)
		if err != nil {
			return err
		}
		if err := store.Sync(); err != nil {
			return err
		}
		after, err := t.settledSize()
		if err != nil {
			return err
		}
		fresh, err := t.freshSize(&everyNth{Set: t.Set, n: kept})
		if err != nil {
			return err
		}
		live := float64(t.Set.Len()/kept) * float64(t.Params.KeySize+t.Params.ValueSize)
		t.measure("file/live", float64(after)/live, "")
		t.measure("file/fresh", float64(after)/float64(fresh), "")
		t.measure("file before", float64(before)/1e6, "MB")
		t.measure("file after", float64(after)/1e6, "MB")
		t.measure("file fresh", float64(fresh)/1e6, "MB")
		t.measure("wait max", float64(waits.Max())/1e6, "ms")
		t.measure("wait max before", float64(alone.Max())/1e6, "ms")
		t.measure("waits over 20 ms", over(waits, longWait), "")
		t.measure("waits over 20 ms before", over(alone, longWait), "")
		return errors.Join(t.reportLatency("", waits), t.reportLatency("before ", alone))
	})
}

// longWait is what nobody should wait for longer beside a shrink.
const longWait = 20 * time.Millisecond

// over is the part of the operations that took longer than d.
func over(l Latency, d time.Duration) float64 {
	n := int64(0)
	for _, bar := range l.Distribution() {
		if bar.From > int64(d) {
			n += bar.Count
		}
	}
	return float64(n) / float64(max(l.TotalCount(), 1))
}

// freshSize is the size of a new store with these records, put in the order of their keys: what they take in this engine if nothing else is in its files.
func (t *Trial) freshSize(set data.Set) (size int64, err error) {
	dir := t.Scratch + "/fresh"
	store, err := t.openAt(dir, engine.Lazy, false)
	if err != nil {
		return 0, err
	}
	w, err := store.Writer()
	if err != nil {
		return 0, errors.Join(err, closeAfter(store))
	}
	var key, value []byte
	order := inKeyOrder(set, 0, set.Len())
	for i := 0; i < len(order) && err == nil; {
		err = w.Begin()
		for end := min(i+prepareTx, len(order)); i < end && err == nil; i++ {
			key, value = set.Key(order[i], key), set.Value(order[i], 0, value)
			err = w.Put(key, value)
		}
		if err == nil {
			err = w.Commit()
		}
	}
	if err != nil {
		return 0, errors.Join(err, closeAfter(store))
	}
	if err := errors.Join(w.Close(), store.Sync(), settle(store), store.Close()); err != nil {
		return 0, err
	}
	_, size, err = measure.Size(dir)
	return size, err
}

// settledSize waits, some seconds at most, until the files on the disk shrink no more: some engines remove them in
// the background.
func (t *Trial) settledSize() (size int64, err error) {
	_, size, err = measure.Size(t.Dir)
	for same := 0; err == nil && same < 3; {
		time.Sleep(500 * time.Millisecond)
		var now int64
		if _, now, err = measure.Size(t.Dir); now < size {
			same = -1
		}
		same++
		size = now
	}
	return size, err
}

// besides runs f while readers look up surviving records and a writer overwrites them, and returns how long each of their
// operations took, for a while before and meanwhile: goroutines that outnumber the processors wait for these too, whatever the store does.
func (t *Trial) besides(store engine.Store, kept int, f func() error) (before, meanwhile Latency, err error) {
	workers, err := t.readers(store, t.Params.Goroutines)
	if err != nil {
		return before, meanwhile, err
	}
	writer, err := store.Writer()
	if err != nil {
		return before, meanwhile, err
	}
	survivors := &everyNth{Set: t.Set, n: kept}
	pick, err := data.NewPicker("uniform", survivors.Len(), t.workerSeed(100))
	if err != nil {
		return before, meanwhile, err
	}
	put := &putWorker{set: survivors, writer: writer, pick: pick}
	steps := []func() error{put.once}
	var checks []*data.Check
	for _, w := range workers {
		w.set = survivors
		if w.pick, err = data.NewPicker("uniform", survivors.Len(), w.pickSeed()); err != nil {
			return before, meanwhile, err
		}
		steps = append(steps, func() error { return w.reader.Once(w.next(), w.check) })
		checks = append(checks, w.check)
	}
	var pause time.Duration
	if t.Params.Rate > 0 {
		pause = time.Duration(float64(len(steps)) / t.Params.Rate * float64(time.Second))
	}
	before, err = during(steps, pause, func() error {
		time.Sleep(t.Params.duration())
		return nil
	})
	if err != nil {
		return before, meanwhile, err
	}
	t.start()
	began := time.Now()
	meanwhile, err = during(steps, pause, f)
	if err != nil {
		return before, meanwhile, err
	}
	t.measure("seconds", time.Since(began).Seconds(), "s")
	t.stop()
	return before, meanwhile, errors.Join(wrong(checks), writer.Close())
}

// pickSeed derives a seed from where the worker's own sequence stands.
func (w *readWorker) pickSeed() uint64 { return uint64(w.pick.Next()) }

// during repeats each step on a goroutine of its own until f returns, with a pause in between, and records how long every one took.
func during(steps []func() error, pause time.Duration, f func() error) (Latency, error) {
	var stop atomic.Bool
	var all sync.WaitGroup
	latencies, failed := make([]Latency, len(steps)), make([]error, len(steps))
	for i, step := range steps {
		latencies[i] = NewLatency()
		all.Go(func() {
			for !stop.Load() && failed[i] == nil {
				start := time.Now()
				failed[i] = step()
				latencies[i].Record(time.Since(start))
				if pause > 0 {
					time.Sleep(pause)
				}
			}
		})
	}
	err := f()
	stop.Store(true)
	all.Wait()
	merged := NewLatency()
	for _, l := range latencies {
		merged.Merge(l.Histogram)
	}
	return merged, errors.Join(append(failed, err)...)
}

// everyNth is the records that deleteMost keeps.
type everyNth struct {
	data.Set
	n int
}

func (s *everyNth) Len() int { return s.Set.Len() / s.n }

func (s *everyNth) Key(i int, buf []byte) []byte { return s.Set.Key(i*s.n, buf) }

func (s *everyNth) Value(i int, version uint64, buf []byte) []byte {
	return s.Set.Value(i*s.n, version, buf)
}

func (s *everyNth) Expect(i int, c *data.Check) { s.Set.Expect(i*s.n, c) }

func (s *everyNth) Verify(i int, value []byte) error { return s.Set.Verify(i*s.n, value) }

// rewrites is how often S4 overwrites everything.
const rewrites = 100

// rewriteBesideReader compares how large a store grows under overwriting with and without a reader that stays.
func rewriteBesideReader(t *Trial) error {
	free, err := t.rewriteAll(t.Scratch+"/free", false)
	if err != nil {
		return err
	}
	held, err := t.rewriteAll(t.Dir, true)
	if err != nil {
		return err
	}
	t.measure("growth", float64(held)/float64(free), "")
	t.measure("without reader", float64(free)/1e6, "MB")
	t.measure("with reader", float64(held)/1e6, "MB")
	return nil
}

func (t *Trial) rewriteAll(dir string, hold bool) (size int64, err error) {
	store, err := t.openFor(engine.Config{Dir: dir, Durability: t.Params.Durability, LongReaders: true})
	if err != nil {
		return 0, err
	}
	if err := load(store, t.Set, t.Params.PerTx); err != nil {
		return 0, errors.Join(err, closeAfter(store))
	}
	release := func() error { return nil }
	if hold {
		if release, err = t.holdReader(store); err != nil {
			return 0, errors.Join(err, closeAfter(store))
		}
	}
	for n := range rewrites {
		// Another version each time: SQLite writes nothing for a value that is there already.
		if err := rewrite(store, t.Set, t.Params.PerTx, uint64(n+1)); err != nil {
			return 0, errors.Join(err, release(), closeAfter(store))
		}
	}
	if err := store.Sync(); err != nil {
		return 0, err
	}
	_, size, err = measure.Size(dir) // on the disk: some engines make sparse files
	return size, errors.Join(err, release(), store.Close())
}

// holdReader begins a read transaction that has read, and returns what ends it.
func (t *Trial) holdReader(store engine.Store) (release func() error, err error) {
	r, err := store.Reader()
	if err != nil {
		return nil, err
	}
	var check data.Check
	t.Set.Expect(0, &check)
	if err := errors.Join(r.Begin(), r.Get(t.Set.Key(0, nil), &check), wrong([]*data.Check{&check})); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(r.End(), r.Close()) }, nil
}

// heldFor is how long S6 keeps its idle reader if the puts wait for it.
const heldFor = 3 * time.Second

// growBesideReader puts large values, so that the file outgrows its mapping, while a read transaction is open and
// others begin and end. It reports the longest that a put and the beginning of a transaction took.
func growBesideReader(t *Trial) error {
	return t.with(func(store engine.Store) error {
		w, err := store.Writer()
		if err != nil {
			return err
		}
		var key, value []byte
		put := func(i int) error {
			key, value = t.Set.Key(i, key), t.Set.Value(i, 0, value)
			return w.Once(key, value)
		}
		if err := put(0); err != nil {
			return err
		}
		release, err := t.holdReader(store)
		if err != nil {
			return err
		}
		beginner, err := store.Reader()
		if err != nil {
			return err
		}
		// The idle reader leaves after a while: until then a put that waits for it waits.
		left := make(chan error, 1)
		done := make(chan struct{})
		go func() {
			select {
			case <-time.After(heldFor):
			case <-done:
			}
			left <- release()
		}()
		var slowest time.Duration
		begins, err := during([]func() error{func() error { return errors.Join(beginner.Begin(), beginner.End()) }}, 0,
			func() error {
				for i := 1; i < t.Set.Len(); i++ {
					start := time.Now()
					if err := put(i); err != nil {
						return err
					}
					slowest = max(slowest, time.Since(start))
				}
				return nil
			})
		close(done)
		if err := errors.Join(err, <-left, w.Close(), beginner.Close()); err != nil {
			return err
		}
		t.measure("put max", float64(slowest)/1e6, "ms")
		t.measure("begin max", float64(begins.Max())/1e6, "ms")
		return nil
	})
}

// emptyStore reports the size of a store that nothing was ever put into.
func emptyStore(t *Trial) error {
	if err := t.with(func(store engine.Store) error { return nil }); err != nil {
		return err
	}
	length, allocated, err := measure.Size(t.Dir)
	if err != nil {
		return err
	}
	t.measure("file bytes", float64(length), "B")
	t.measure("disk bytes", float64(allocated), "B")
	return nil
}
