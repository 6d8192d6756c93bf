package workload

import (
	"encoding/json"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
)

// All workloads of GOALS.md are there, each once.
func TestRegistry(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range All() {
		require.False(t, seen[w.ID], w.ID)
		seen[w.ID] = true
		require.NotEmpty(t, w.Title)
		require.NotEmpty(t, w.Main)
		require.NotNil(t, w.Run)
		for _, name := range w.With {
			_, err := engine.Find(name)
			require.NoError(t, err)
		}
	}
	for _, id := range []string{
		"R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11",
		"W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "W11", "W12",
		"S1", "S2", "S3", "S4", "S5", "S6", "S7",
		"YCSB-A", "YCSB-B", "YCSB-C", "YCSB-D", "YCSB-E", "YCSB-F", "GO-load", "WORDS-load",
	} {
		require.True(t, seen[id], id)
	}
	var order []string
	for _, w := range All() {
		require.Contains(t, families, families[rankOf(w.ID).family])
		order = append(order, w.ID)
	}
	require.Equal(t, []string{"R1", "R2", "R3", "R4", "R5", "R6", "R6-8", "R7", "R7-sorted", "R8", "R8-tx", "R9", "R10", "R11", "W1"},
		order[:15])
}

// A workload's records are those of the round, ten times as many where it says so, and a variant goes over all.
func TestResolve(t *testing.T) {
	_, p, err := Resolve("R1", Params{})
	require.NoError(t, err)
	require.Equal(t, 1_000_000, p.Records)
	_, p, err = Resolve("R4", Params{Records: 1000})
	require.NoError(t, err)
	require.Equal(t, 10_000, p.Records)
	require.Equal(t, 100, p.PerTx)
	_, p, err = Resolve("R4@n=100k,g=4,cache=large,durability=lazy,rate=50,dist=zipfian", Params{Records: 1000, Seconds: 7})
	require.NoError(t, err)
	require.Equal(t, 100_000, p.Records)
	require.Equal(t, 4, p.Goroutines)
	require.Equal(t, measure.Large, p.Cache)
	require.Equal(t, engine.Lazy, p.Durability)
	require.Equal(t, "zipfian", p.Distribution)
	require.Equal(t, 50.0, p.Rate)
	require.Equal(t, 7.0, p.Seconds)
	_, p, err = Resolve("W6", Params{Seconds: 7})
	require.NoError(t, err)
	require.Equal(t, 300.0, p.Seconds, "a long workload keeps its time")
	_, p, err = Resolve("W6@seconds=30", Params{Seconds: 7})
	require.NoError(t, err)
	require.Equal(t, 30.0, p.Seconds)
	for _, bad := range []string{"R99", "R1@g", "R1@g=none", "R1@nosuch=1", "R1@cache=warm", "R1@durability=maybe", "R1@n=0"} {
		_, _, err := Resolve(bad, Params{})
		require.Error(t, err, bad)
	}
}

// Equal parameters give the same records in every process; only what shapes the content is part of its name.
func TestParams_Content(t *testing.T) {
	_, a, err := Resolve("R1", Params{Records: 500})
	require.NoError(t, err)
	_, b, err := Resolve("W3", Params{Records: 500})
	require.NoError(t, err)
	require.Equal(t, a.StoreKey(), b.StoreKey())
	x, err := a.Content("")
	require.NoError(t, err)
	y, err := b.Content("")
	require.NoError(t, err)
	for i := range 500 {
		require.Equal(t, x.Key(i, nil), y.Key(i, nil))
		require.Equal(t, x.Value(i, 0, nil), y.Value(i, 0, nil))
	}
	_, sorted, err := Resolve("R7-sorted", Params{Records: 50})
	require.NoError(t, err)
	require.NotEqual(t, a.StoreKey(), sorted.StoreKey())
}

// A workload with a size of its own shrinks with a small round, where it says so, and a factor counts from the round's.
func TestResolve_Sizes(t *testing.T) {
	for name, want := range map[string]int{
		"S2": 50_000, "S4": 2_000, "W9": 256, "R2@n=0.1x": 10_000, "W4@n=10x": 1_000_000, "R4": 1_000_000,
	} {
		_, p, err := Resolve(name, Params{Records: 100_000})
		require.NoError(t, err)
		require.Equal(t, want, p.Records, name)
	}
	_, p, err := Resolve("S2", Params{Records: 10_000_000})
	require.NoError(t, err)
	require.Equal(t, 500_000, p.Records)
	_, p, err = Resolve("R2@page=8192", Params{})
	require.NoError(t, err)
	pebble, err := engine.Find("pebble")
	require.NoError(t, err)
	w, err := Find("R2")
	require.NoError(t, err)
	ok, why := w.TakesPart(pebble, p)
	require.False(t, ok, why)
	for _, bad := range []string{"R1@n=0x", "R1@n=-1x", "R1@n=x", "R1@n=NaNx", "R1@n=1e30x"} {
		_, _, err := Resolve(bad, Params{})
		require.Error(t, err, bad)
	}
}

// A store that is loaded in bulk has the records of one that is loaded one after the other.
func TestLoading_Bulk(t *testing.T) {
	for _, name := range []string{"alder", "bbolt", "pebble"} {
		spec := Spec{Workload: "R1", Engine: name, Params: Defaults(), Dir: t.TempDir(), Scratch: t.TempDir()}
		spec.Params.Records = 5000
		trial, err := newTrial(spec, &Result{})
		require.NoError(t, err)
		require.NoError(t, trial.with(func(store engine.Store) error {
			w, err := store.Writer()
			require.NoError(t, err)
			l := trial.loading(w)
			l.inBulk(trial.Engine)
			l.chunk, l.maxBytes = 1999, 100_000
			require.NoError(t, l.all())
			require.Equal(t, 5000, l.done)
			return errors.Join(w.Close(), trial.verifyAll(store))
		}))
	}
}

// A load that takes too long is cut: of a new store's the figures of what it did are kept and say so, and a store
// that could not be loaded is none.
func TestLoading_Cut(t *testing.T) {
	spec := Spec{Workload: "W7", Engine: "bbolt", Params: Defaults(), Dir: t.TempDir(), Scratch: t.TempDir(), LoadLimit: 0.2}
	spec.Params.Records, spec.Params.PerTx = 50_000_000, 100
	result := Run(spec)
	require.Empty(t, result.Error)
	require.Contains(t, result.Cut, "of 50000000 records")
	rate, ok := result.Value("puts/s")
	require.True(t, ok)
	require.Positive(t, rate)

	spec.Dir, spec.Workload, spec.Prepare = t.TempDir(), "R1", true
	spec.Params.Records = 1_000_000
	result = Run(spec)
	require.Empty(t, result.Error)
	require.Contains(t, result.NA, "loading 1000000 records was cut after")
}

// A spec comes out of JSON as it went in.
func TestSpec_RoundTrip(t *testing.T) {
	_, p, err := Resolve("R4@g=3,rate=0.5", Params{Records: 1000, Compressible: 0.25})
	require.NoError(t, err)
	spec := Spec{Workload: "R4@g=3,rate=0.5", Engine: "bbolt", Rep: 2, Params: p, Dir: "d", Scratch: "s", Prepare: true, Helper: "h"}
	text, err := json.Marshal(spec)
	require.NoError(t, err)
	var back Spec
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, spec, back)
}

// Histograms of several goroutines and repetitions merge to what one would have recorded, also through text.
func TestLatency_Merge(t *testing.T) {
	whole, parts := NewLatency(), []Latency{NewLatency(), NewLatency(), NewLatency()}
	for i := range 30_000 {
		d := time.Duration(i*i+1) * time.Nanosecond
		whole.Record(d)
		parts[i%3].Record(d)
	}
	merged := NewLatency()
	for _, part := range parts {
		text, err := part.Encode()
		require.NoError(t, err)
		back, err := DecodeLatency(text)
		require.NoError(t, err)
		merged.Merge(back.Histogram)
	}
	require.Equal(t, whole.TotalCount(), merged.TotalCount())
	for _, q := range []float64{1, 50, 99, 99.9, 100} {
		require.Equal(t, whole.ValueAtQuantile(q), merged.ValueAtQuantile(q), q)
	}
	merged.Record(time.Hour)
	require.InEpsilon(t, int64(100*time.Second), merged.Max(), 0.001, "what is out of range counts as its end")
	_, err := DecodeLatency("nonsense")
	require.Error(t, err)
}

// A closed loop counts the steps of all workers; an error ends it.
func TestPlan_Closed(t *testing.T) {
	var done atomic.Int64
	s := func() error { done.Add(1); runtime.Gosched(); return nil }
	p := plan{steps: []step{s, s, s}, duration: 50 * time.Millisecond, opsPerStep: 10, sampleEvery: 7}
	out, err := p.run()
	require.NoError(t, err)
	require.Equal(t, 10*done.Load(), out.ops)
	require.InDelta(t, float64(done.Load())/7, float64(out.latency.TotalCount()), 4)

	failed := errors.New("failed")
	n := 0
	p = plan{steps: []step{func() error { n++; return failed }}, duration: 10 * time.Millisecond}
	_, err = p.run()
	require.ErrorIs(t, err, failed)
	require.Equal(t, 1, n)
}

// An open loop begins its steps at the rate, and a stall shows in the latencies of all steps that were due during
// it, not only in the one that stalled.
func TestPlan_OpenCountsWaiting(t *testing.T) {
	const rate, stall = 200, 200 * time.Millisecond
	n := 0
	s := func() error {
		if n++; n == 20 {
			time.Sleep(stall)
		}
		return nil
	}
	out, err := plan{steps: []step{s}, duration: time.Second, opsPerStep: 1, rate: rate}.run()
	require.NoError(t, err)
	require.InEpsilon(t, rate, out.ops, 0.15)
	// 200 ms at 200/s: some 40 of 200 steps were late, a fifth.
	require.Greater(t, out.latency.ValueAtQuantile(90), int64(stall/4))
}

// The seconds of a watched loop add up to all of it.
func TestPlan_Watch(t *testing.T) {
	var points []Point
	s := func() error { time.Sleep(time.Millisecond); return nil }
	p := plan{steps: []step{s, s}, duration: 2 * time.Second, opsPerStep: 1, sampleEvery: 1,
		watch: func(p Point) { points = append(points, p) }}
	out, err := p.run()
	require.NoError(t, err)
	require.Len(t, points, 2)
	require.InEpsilon(t, float64(out.ops), points[0].Ops+points[1].Ops, 0.05)
	require.Positive(t, points[0].P99Nanos)
}

// A wrong answer fails a trial.
func TestWrong(t *testing.T) {
	set, err := data.NewSynthetic(10, 16, 100, false, 1, 0)
	require.NoError(t, err)
	var right, bad data.Check
	set.Expect(1, &right)
	right.See(set.Value(1, 0, nil))
	require.NoError(t, wrong([]*data.Check{&right}))
	set.Expect(1, &bad)
	bad.See(set.Value(2, 0, nil))
	require.ErrorContains(t, wrong([]*data.Check{&right, &bad}), "WRONG ANSWERS: 1 of 2")
}

// Each workload that does not need minutes or root runs on a small store, on alder and on bbolt.
func TestRun_Small(t *testing.T) {
	skip := map[string]string{
		"R10": "needs a memory control group", "S5-kill": "kills a process of the benchmark program",
	}
	small := Params{Records: 2000, Seconds: 0.05, Warm: 0.01}
	for _, w := range All() {
		t.Run(w.ID, func(t *testing.T) {
			if why := skip[w.ID]; why != "" {
				t.Skip(why)
			}
			_, p, err := Resolve(w.ID, small)
			require.NoError(t, err)
			p.Records, p.Seconds = 2000, 0.05
			if p.ValueSize >= 1<<20 {
				p.Records = 8
			}
			p.PerTx = min(p.PerTx, 1000)
			p.Root = "." // real data: this package's own files
			for _, name := range []string{"alder", "bbolt"} {
				e, err := engine.Find(name)
				require.NoError(t, err)
				if ok, _ := w.TakesPart(e, p); ok {
					runSmall(t, w, name, p)
				}
			}
		})
	}
}

func runSmall(t *testing.T, w *Workload, name string, p Params) {
	spec := Spec{Workload: w.ID, Engine: name, Rep: 1, Params: p, Dir: t.TempDir(), Scratch: t.TempDir()}
	if w.Store != Empty {
		load := spec
		load.Prepare = true
		result := Run(load)
		require.Empty(t, result.Error)
	}
	result := Run(spec)
	if result.NA != "" {
		t.Logf("%s: n/a: %s", name, result.NA)
		return
	}
	require.Empty(t, result.Error, name)
	value, ok := result.Value(w.Main)
	require.True(t, ok, "%s reports no %s", name, w.Main)
	if w.Main != "allocs/put" {
		require.Positive(t, value)
	}
}

// No two trials that wear the same store write the same values: SQLite wrote nothing, and needed no sync, for what an earlier variant of the
// workload had put there, and seemed to commit three times as fast as a bare append.
func TestFirstVersion(t *testing.T) {
	seen := map[uint64]string{}
	for _, name := range []string{"W1", "W1@cache=small", "W1@cache=large", "W1@g=4", "W2", "W3", "W3-open", "W4", "W5", "YCSB-A"} {
		for rep := 1; rep <= 5; rep++ {
			trial := &Trial{Spec: Spec{Workload: name, Rep: rep}}
			for worker := range 64 {
				v := trial.firstVersion(worker)
				require.NotZero(t, v>>32)
				require.Zero(t, v<<32)
				require.Empty(t, seen[v], "%s #%d", name, rep)
				seen[v] = name
			}
		}
	}
}
