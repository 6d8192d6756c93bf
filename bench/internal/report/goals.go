package report

import (
	"fmt"
	"math"

	"github.com/alderdb/alder/bench/internal/workload"
)

// goal is a line of GOALS.md: what alder's figure must reach, as a number or against another figure of the round.
type goal struct {
	workload string
	measure  string
	atLeast  bool // larger is better
	limit    float64
	// of names whose figure the limit is a multiple of: an engine, "best peer", or "" for an absolute limit.
	of string
	// ofWorkload and ofMeasure name that figure where it is another than the goal's own.
	ofWorkload string
	ofMeasure  string
	// perCPU divides the limit by the number of processors: a figure that has to scale with them.
	perCPU bool
}

func atMost(workload, measure string, limit float64, of string) goal {
	return goal{workload: workload, measure: measure, limit: limit, of: of}
}

func atLeast(workload, measure string, limit float64, of string) goal {
	return goal{workload: workload, measure: measure, atLeast: true, limit: limit, of: of}
}

func (g goal) against(workload, measure string) goal {
	g.ofWorkload, g.ofMeasure = workload, measure
	return g
}

func (g goal) scaling() goal {
	g.perCPU = true
	return g
}

// bestPeer is the best figure among the engines beside alder that are stores.
const bestPeer = "best peer"

const (
	ms  = 1e6 // nanoseconds
	us  = 1e3
	kib = 1024.0
)

// none is the limit of "0 allocations per operation": what a transaction of many operations costs once, spread
// over them, is not counted as an allocation of each.
const none = 0.05

// goals are those of GOALS.md, in its order.
var goals = []goal{
	atMost("R1", "ns/op", 0.30, "bbolt"),
	atMost("R1", "ns/op", 0.60, "lmdb-c"),
	atMost("R1", "allocs/op", 1.001, ""),
	atMost("R2", "ns/op", 0.30, "bbolt"),
	atMost("R2", "ns/op", 0.40, "lmdb-c"),
	atMost("R2", "allocs/op", none, ""),
	atMost("R3", "ns/op", 0.25, "bbolt"),
	atMost("R3", "ns/op", 1.25, "alder").against("R1", "ns/op").scaling(),
	atMost("R4", "ns/op", 0.40, "bbolt"),
	atMost("R5", "ns/op", 0.60, "alder").against("R2", "ns/op"),
	atMost("R6", "ns/op", 40, ""),
	atMost("R6", "allocs/op", 1.001, ""),
	atMost("R6-8", "ns/op", 1, "alder").against("R6", "ns/op"),
	atLeast("R7", "forward", 1.4, bestPeer),
	atLeast("R7", "reverse", 1.4, bestPeer),
	atLeast("R7-sorted", "forward", 1.4, bestPeer),
	atLeast("R7-sorted", "reverse", 1.4, bestPeer),
	atMost("R8", "ns/op", 0.40, "bbolt"),
	atMost("R8-tx", "allocs/op", none, ""),
	atLeast("R9", "ops/s", 1.3, "lmdb"),
	atMost("R9", "p99", 3*us, ""),
	atLeast("R9", "write share", 0.70, ""),
	atLeast("R10", "ops/s", 5, "bbolt"),
	atMost("R10", "gc pause p99", 1, ""),
	atMost("R11", "count", 3*us, ""),
	atMost("R11", "at", 3*us, ""),

	atLeast("W1", "ops/s", 2.8, "bbolt"),
	atLeast("W1", "ops/s", 1, "sqlite"),
	atMost("W1", "p50", 1.2, "append"),
	atLeast("W2", "ops/s", 20_000, ""),
	atLeast("W2", "ops/s", 1, "pebble"),
	atLeast("W3", "ops/s", 1.3, "pebble"),
	atMost("W3", "p99", 5*ms, ""),
	atLeast("W4", "ops/s", 1.3, "pebble"),
	atLeast("W5", "ops/s", 1.5, "pebble"),
	atLeast("W6", "ops/s", 1, "pebble"),
	atMost("W6", "p99.9", 20*ms, ""),
	atMost("W6", "disk bytes/op", 1, "pebble"),
	atLeast("W7", "puts/s", 600_000, ""),
	atLeast("W8", "puts/s", 3_500_000, ""),
	atLeast("W8-append", "puts/s", 5_000_000, ""),
	atLeast("W9", "MB/s", 850, ""),
	atLeast("W9-lazy", "MB/s", 3_000, ""),
	atMost("W10", "peak MB", 64, ""),
	atMost("W10", "seconds", 2, ""),
	atMost("W11", "allocs/put", 0.05, ""),
	atLeast("W12", "ops/s", 150_000, ""),

	atMost("S1-append", "bytes/key", 128, ""),
	atMost("S1-sorted", "bytes/key", 128, ""),
	atMost("S1", "bytes/key", 180, ""),
	atMost("S2", "time ratio", 1.1, ""),
	atMost("S2", "bytes ratio", 1.1, ""),
	atMost("S3", "file/live", 1.2, ""),
	atMost("S3", "wait max", 20, ""),
	atMost("S4", "growth", 2.2, ""),
	atMost("S5", "open", 1, ""),
	atMost("S5-free", "open", 10, ""),
	atMost("S5-kill", "open", 1000, ""),
	atMost("S6", "put max", 100, ""),
	atMost("S6", "begin max", 100, ""),
	atMost("S7", "file bytes", 64*kib, ""),
}

// verdict is a goal beside what was measured.
type verdict struct {
	goal
	alder     float64
	reference float64 // what the limit multiplies; 1 for absolute limits
	bound     float64
	unknown   string // why there is no verdict
	// marks and referenceMarks are those of the two figures.
	marks, referenceMarks string
	reached               bool
}

// judge compares the goals of the workloads that were run with their figures.
func (r *Report) judge() []verdict {
	var verdicts []verdict
	for _, g := range goals {
		if r.workloads[g.workload] == nil {
			continue
		}
		v := verdict{goal: g, reference: 1}
		own, ok := r.figure(g.workload, "alder", g.measure)
		v.alder, v.marks = own.Median, r.marks(g.workload, "alder")
		if !ok {
			v.unknown = r.why(g.workload, "alder")
			verdicts = append(verdicts, v)
			continue
		}
		if g.of != "" {
			if v.reference, v.referenceMarks, ok = r.reference(g); !ok {
				v.unknown = "no figure of " + g.of
				verdicts = append(verdicts, v)
				continue
			}
		}
		v.bound = g.limit * v.reference
		if g.perCPU {
			v.bound /= math.Max(1, float64(r.Header.Machine.CPUs))
		}
		v.reached = v.alder <= v.bound
		if g.atLeast {
			v.reached = v.alder >= v.bound
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// sizes says that a round had other sizes than those that the goals are about; empty if it had them.
func (r *Report) sizes() string {
	for _, name := range r.order {
		g := r.workloads[name]
		_, meant, err := workload.Resolve(name, workload.Params{})
		if err != nil || meant.Data != "random" && meant.Data != "sorted" || g.params.Records == meant.Records {
			continue
		}
		return fmt.Sprintf("The goals are about other sizes than this round's: %s has %s records, not %s.",
			name, thousands(float64(g.params.Records)), thousands(float64(meant.Records)))
	}
	return ""
}

// reference finds the figure that a goal is measured against, and its marks.
func (r *Report) reference(g goal) (value float64, marks string, ok bool) {
	workload, measure := g.workload, g.measure
	if g.ofWorkload != "" {
		workload, measure = g.ofWorkload, g.ofMeasure
	}
	if g.of != bestPeer {
		f, ok := r.figure(workload, g.of, measure)
		if ok {
			marks = r.marks(workload, g.of)
		}
		return f.Median, marks, ok
	}
	best, found := 0.0, false
	for _, e := range r.engines(workload) {
		f, ok := r.figure(workload, e, measure)
		if !ok || e == "alder" || e == "append" {
			continue
		}
		if !found || (g.atLeast && f.Median > best) || (!g.atLeast && f.Median < best) {
			best, marks, found = f.Median, r.marks(workload, e), true
		}
	}
	return best, marks, found
}
