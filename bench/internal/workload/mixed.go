package workload

import (
	"errors"
	"math"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
)

func init() {
	register(
		&Workload{ID: "R9", Title: "8 readers beside one durable writer", Store: Worn,
			Params: Params{Goroutines: 8}, Main: "ops/s", More: true, Peers: []string{"lmdb"}, Run: readBesideWriter},
		&Workload{ID: "R10", Title: "cold random Get, file four times the memory, 64 goroutines", Store: Shared, Scale: 10,
			Params: Params{Goroutines: 64, Seconds: 10}, Long: true, Main: "ops/s", More: true, Run: readCold},
	)
}

// readBesideWriter measures a durable writer alone, then readers beside it.
func readBesideWriter(t *Trial) error {
	return t.with(func(store engine.Store) error {
		if err := errors.Join(settle(store), t.verifyAll(store)); err != nil {
			return err
		}
		writers, err := t.writers(store, 1)
		if err != nil {
			return err
		}
		writer := writers[0]
		alone := plan{steps: []step{writer.once}, duration: t.Params.duration() / 2, sampleEvery: 1, opsPerStep: 1}
		warm := alone
		warm.duration = t.Params.warm()
		if _, err := warm.run(); err != nil {
			return err
		}
		quiet, err := alone.run()
		if err != nil {
			return err
		}
		readers, err := t.readers(store, t.Params.Goroutines)
		if err != nil {
			return err
		}
		both := plan{duration: t.Params.duration(), sampleEvery: sampleReads, opsPerStep: 1}
		var checks []*data.Check
		for _, r := range readers {
			s, _, err := getOnce(r)
			if err != nil {
				return err
			}
			both.steps = append(both.steps, s)
			checks = append(checks, r.check)
		}
		return t.beside(store, writer, both, quiet, checks)
	})
}

// beside runs the readers' plan with the writer going on at the same time.
func (t *Trial) beside(store engine.Store, writer *putWorker, readers plan, quiet outcome, checks []*data.Check) error {
	type ended struct {
		outcome
		err error
	}
	written := make(chan ended, 1)
	t.start()
	go func() {
		out, err := plan{steps: []step{writer.once}, duration: readers.duration, sampleEvery: 1, opsPerStep: 1}.run()
		written <- ended{out, err}
	}()
	out, err := readers.run()
	writes := <-written
	if err := errors.Join(err, writes.err); err != nil {
		return err
	}
	t.stop()
	if err := wrong(checks); err != nil {
		return err
	}
	t.measure("write ops/s", writes.opsPerSecond(), "1/s")
	t.measure("write ops/s alone", quiet.opsPerSecond(), "1/s")
	t.measure("write share", writes.opsPerSecond()/quiet.opsPerSecond(), "")
	if err := t.reportLatency("write ", writes.latency); err != nil {
		return err
	}
	if err := t.report("", out); err != nil {
		return err
	}
	return errors.Join(writer.writer.Close(), t.verifyWorn(store))
}

// coldShare is how many times larger than the memory the file is.
const coldShare = 4

// readCold reads a store that does not fit into the memory that the process may use, page cache included.
func readCold(t *Trial) error {
	if t.Engine.Program != nil {
		return engine.NA("the program has no such operation")
	}
	size, _, err := measure.Size(t.Dir)
	if err != nil {
		return err
	}
	limit := size / coldShare
	const least = 64 << 20 // for the program itself
	if limit < least {
		return engine.NA("a store of %d MB is too small for a limit that leaves room for the program", size>>20)
	}
	if err := errors.Join(measure.Flush(t.Dir), measure.Evict(t.Dir)); err != nil {
		return err
	}
	left, err := measure.Folios(t.Dir)
	if err != nil {
		return err
	}
	t.measure("in memory before", 100*left.Resident, "%")
	cage, err := measure.Limit(limit)
	if err != nil {
		return engine.NA("%v", err)
	}
	// An engine with a cache of its own gets a quarter of the memory for it, the rest is left to the page cache.
	t.Params.CacheBytes = limit / 4
	t.note("memory limited to %d MB for a store of %d MB", limit>>20, size>>20)
	store, err := t.openFor(engine.Config{Dir: t.Dir, Durability: t.Params.Durability, Cold: true})
	if err != nil {
		return errors.Join(err, cage.Close())
	}
	if err := t.readColdFrom(store); err != nil {
		return errors.Join(err, closeAfter(store), cage.Close())
	}
	return errors.Join(store.Close(), cage.Close())
}

func (t *Trial) readColdFrom(store engine.Store) error {
	workers, err := t.readers(store, t.Params.Goroutines)
	if err != nil {
		return err
	}
	p := plan{duration: t.Params.duration(), sampleEvery: 1, opsPerStep: 1}
	var checks []*data.Check
	for _, w := range workers {
		s, _, err := getOnce(w)
		if err != nil {
			return err
		}
		p.steps = append(p.steps, s)
		checks = append(checks, w.check)
	}
	warm := p
	warm.duration = t.Params.warm()
	if _, err := warm.run(); err != nil {
		return err
	}
	t.start()
	before := readPauses()
	stop := collectGarbage()
	out, err := p.run()
	stop()
	if err != nil {
		return err
	}
	pause := readPauses().since(before).quantile(0.99)
	t.stop()
	t.measure("gc pause p99", pause*1e3, "ms")
	t.measure("major faults/op", float64(t.Result.State.MajorFaults)/float64(max(out.ops, 1)), "")
	return errors.Join(wrong(checks), t.report("", out))
}

// collectGarbage makes the program collect garbage often, as one that allocates would, until the returned function
// is called.
func collectGarbage() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				runtime.GC()
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// pauses is the runtime's histogram of stop-the-world pauses for garbage collection, in seconds.
type pauses struct{ *metrics.Float64Histogram }

func readPauses() pauses {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	h := sample[0].Value.Float64Histogram()
	return pauses{&metrics.Float64Histogram{
		Counts: append([]uint64(nil), h.Counts...), Buckets: append([]float64(nil), h.Buckets...),
	}}
}

func (p pauses) since(before pauses) pauses {
	for i := range p.Counts {
		p.Counts[i] -= before.Counts[i]
	}
	return p
}

// quantile returns the upper end of the bucket that the quantile falls into.
func (p pauses) quantile(q float64) float64 {
	var total, sum uint64
	for _, n := range p.Counts {
		total += n
	}
	for i, n := range p.Counts {
		sum += n
		if n > 0 && float64(sum) >= q*float64(total) {
			if end := p.Buckets[i+1]; !math.IsInf(end, 0) {
				return end
			}
			return p.Buckets[i]
		}
	}
	return 0
}
