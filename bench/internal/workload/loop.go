package workload

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/measure"
)

// step does one operation of a worker.
type step func() error

// plan is how a loop runs its workers, one goroutine each.
type plan struct {
	steps    []step
	duration time.Duration
	// opsPerStep is how many operations a step counts for; latencies are of whole steps.
	opsPerStep int
	// sampleEvery says how many steps go by for each whose latency is taken: reading the clock twice costs
	// as much as a fast look-up.
	sampleEvery int
	// rate, if not 0, makes an open loop: that many steps begin per second over all workers, and a latency counts
	// from when a step was due, not from when a busy worker came to it (which would omit the waiting time).
	rate float64
	// watch, if set, receives each second of the loop.
	watch func(Point)
}

// outcome is what a loop did.
type outcome struct {
	ops     int64
	perStep int // operations of each step whose latency was taken
	elapsed time.Duration
	latency Latency
	used    measure.Usage
}

func (o outcome) nanosPerOp() float64 { return float64(o.elapsed) / float64(max(o.ops, 1)) }
func (o outcome) opsPerSecond() float64 {
	return float64(o.ops) / o.elapsed.Seconds()
}
func (o outcome) allocsPerOp() float64 { return float64(o.used.Allocs) / float64(max(o.ops, 1)) }

// run runs the plan's workers until its time is over, then waits for their last step.
func (p plan) run() (outcome, error) {
	var stop atomic.Bool
	var all sync.WaitGroup
	workers := make([]loopWorker, len(p.steps))
	begin := make(chan time.Time)
	for i := range p.steps {
		w := &workers[i]
		w.step, w.latency, w.every = p.steps[i], NewLatency(), max(1, p.sampleEvery)
		if p.watch != nil {
			w.second = NewLatency()
		}
		all.Go(func() { w.loop(&stop, <-begin, p.pace(i)) })
	}
	before := measure.ReadUsage()
	start := time.Now()
	for range p.steps {
		begin <- start
	}
	p.wait(workers)
	stop.Store(true)
	all.Wait()
	out := outcome{elapsed: time.Since(start), latency: NewLatency(), perStep: p.opsPerStep}
	out.used = measure.ReadUsage().Sub(before)
	for i := range workers {
		if err := workers[i].err; err != nil {
			return out, err
		}
		out.ops += workers[i].done.Load() * int64(max(1, p.opsPerStep))
		out.latency.Merge(workers[i].latency.Histogram)
	}
	return out, nil
}

// pacing is when an open loop's worker begins its steps.
type pacing struct{ first, every time.Duration }

func (p plan) pace(worker int) pacing {
	if p.rate == 0 {
		return pacing{}
	}
	gap := float64(time.Second) / p.rate
	return pacing{
		first: time.Duration(gap * float64(worker)),
		every: time.Duration(gap * float64(len(p.steps))),
	}
}

func (p plan) wait(workers []loopWorker) {
	if p.watch == nil {
		time.Sleep(p.duration)
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last int64
	for s := 1; s <= int(p.duration/time.Second); s++ {
		<-tick.C
		merged, total := NewLatency(), int64(0)
		for i := range workers {
			total += workers[i].takeSecond(merged)
		}
		ops := (total - last) * int64(max(1, p.opsPerStep))
		p.watch(Point{Second: s, Ops: float64(ops), P99Nanos: merged.ValueAtQuantile(99), MaxNanos: merged.Max()})
		last = total
	}
}

// loopWorker is padded so that the counters of two do not share a cache line.
type loopWorker struct {
	step    step
	latency Latency
	every   int
	done    atomic.Int64
	err     error
	mu      sync.Mutex
	second  Latency // guarded by mu; its Histogram is nil where no seconds are watched
	_       [64]byte
}

func (w *loopWorker) takeSecond(into Latency) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	into.Merge(w.second.Histogram)
	w.second.Reset()
	return w.done.Load()
}

func (w *loopWorker) loop(stop *atomic.Bool, start time.Time, pace pacing) {
	done := int64(0)
	defer func() { w.done.Store(done) }()
	due := start.Add(pace.first)
	for n := 0; !stop.Load(); n++ {
		timed := n%w.every == 0
		var from time.Time
		if pace.every > 0 {
			if !sleepUntil(due, stop) {
				return
			}
			from, timed = due, true
			due = due.Add(pace.every)
		} else if timed {
			from = time.Now()
		}
		if w.err = w.step(); w.err != nil {
			return
		}
		done++
		if timed {
			w.record(time.Since(from), done)
		}
	}
}

func (w *loopWorker) record(d time.Duration, done int64) {
	w.latency.Record(d)
	if w.second.Histogram == nil {
		return
	}
	w.mu.Lock()
	w.second.Record(d)
	w.mu.Unlock()
	w.done.Store(done)
}

// sleepUntil returns false if the loop was stopped meanwhile.
func sleepUntil(due time.Time, stop *atomic.Bool) bool {
	for {
		left := time.Until(due)
		if left <= 0 {
			return true
		}
		if stop.Load() {
			return false
		}
		time.Sleep(min(left, 50*time.Millisecond))
	}
}

// report adds a loop's figures to the result. The prefix, if any, tells several loops of a workload apart.
func (t *Trial) report(prefix string, out outcome) error {
	t.measure(prefix+"ops/s", out.opsPerSecond(), "1/s")
	t.measure(prefix+"ns/op", out.nanosPerOp(), "ns")
	t.measure(prefix+"allocs/op", out.allocsPerOp(), "")
	t.measure(prefix+"cpu/op", float64(out.used.User+out.used.System)/float64(max(out.ops, 1)), "ns")
	if out.perStep > 1 {
		return t.reportLatency(prefix+"tx ", out.latency) // of whole transactions, and says so
	}
	return t.reportLatency(prefix, out.latency)
}

func (t *Trial) reportLatency(prefix string, latency Latency) error {
	for _, q := range []struct {
		name     string
		quantile float64
	}{{"p50", 50}, {"p99", 99}, {"p99.9", 99.9}} {
		t.measure(prefix+q.name, float64(latency.ValueAtQuantile(q.quantile)), "ns")
	}
	t.measure(prefix+"max", float64(latency.Max()), "ns")
	text, err := latency.Encode()
	if err != nil {
		return err
	}
	if t.Result.Latencies == nil {
		t.Result.Latencies = make(map[string]string)
	}
	t.Result.Latencies[prefix+"latency"] = text
	return nil
}

// wrong is the error of checks that saw something else than they must, or too little.
func wrong(checks []*data.Check) error {
	var seen, bad uint64
	for _, c := range checks {
		seen += c.Seen()
		bad += c.Wrong()
	}
	if bad > 0 {
		return fmt.Errorf(WrongAnswers+": %d of %d look-ups returned another value than the one that was put", bad, seen)
	}
	return nil
}
