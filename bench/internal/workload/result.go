package workload

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/alderdb/alder/bench/internal/measure"
)

const (
	// WrongAnswers begins the error of a trial whose engine returned something else than what was put.
	WrongAnswers = "WRONG ANSWERS"
	// NotDurable begins the error of a trial whose commits cannot have reached the disk.
	NotDurable = "NOT DURABLE"
)

// Result is what one trial found: one engine, one workload, one repetition.
type Result struct {
	Type     string    `json:"type"` // "trial"
	Workload string    `json:"workload"`
	Engine   string    `json:"engine"`
	Rep      int       `json:"rep"`
	Params   Params    `json:"params"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"wall_seconds"`
	// NA says why the engine has no such thing; Error what went wrong. Both empty: it was measured.
	NA    string `json:"na,omitempty"`
	Error string `json:"error,omitempty"`
	// Cut says what was ended before its end, so that the figures are of a part of the work.
	Cut string `json:"cut,omitempty"`
	// LeftOut says why the round did not come to the trial.
	LeftOut string `json:"left_out,omitempty"`

	Measures  []Measure         `json:"measures,omitempty"`
	Latencies map[string]string `json:"latencies,omitempty"` // name → encoded histogram of nanoseconds
	Series    []Point           `json:"series,omitempty"`
	State     State             `json:"state"`
	Notes     []string          `json:"notes,omitempty"`
}

// Measure is one figure.
type Measure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

// Point is one second of a workload that is watched over time.
type Point struct {
	Second   int     `json:"second"`
	Ops      float64 `json:"ops"`       // in this second
	P99Nanos int64   `json:"p99_nanos"` // of this second
	MaxNanos int64   `json:"max_nanos"`
}

// State is what stood beside the timed part: the counters of the system, and what the store took.
type State struct {
	CPUUserSeconds   float64            `json:"cpu_user_seconds"`
	CPUSystemSeconds float64            `json:"cpu_system_seconds"`
	MajorFaults      int64              `json:"major_faults"`
	Allocs           uint64             `json:"allocs"`
	AllocBytes       uint64             `json:"alloc_bytes"`
	PeakAnonBytes    int64              `json:"peak_anon_bytes"` // above what was in use before; -1 unknown
	PeakRSSBytes     int64              `json:"peak_rss_bytes"`
	FileBytes        int64              `json:"file_bytes"`
	AllocatedBytes   int64              `json:"allocated_bytes"`
	Disk             measure.DiskCount  `json:"disk"`
	DiskNA           string             `json:"disk_na,omitempty"`
	Folios           measure.FolioState `json:"folios"`
}

// Value returns a measure's value.
func (r *Result) Value(name string) (float64, bool) {
	for _, m := range r.Measures {
		if m.Name == name {
			return m.Value, true
		}
	}
	return 0, false
}

// Latency is a histogram of nanoseconds, 1 ns to 100 s with three significant digits.
type Latency struct{ *hdrhistogram.Histogram }

// NewLatency returns an empty histogram.
func NewLatency() Latency {
	return Latency{hdrhistogram.New(1, int64(100*time.Second), 3)}
}

// Record takes one duration; what lies outside the range counts as its end.
func (l Latency) Record(d time.Duration) {
	n := min(max(int64(d), 1), int64(100*time.Second))
	_ = l.RecordValue(n) // only values outside of the range are refused
}

// Encode returns the histogram as text.
func (l Latency) Encode() (string, error) {
	text, err := l.Histogram.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	return string(text), err
}

// DecodeLatency reads what Encode wrote.
func DecodeLatency(text string) (Latency, error) {
	h, err := hdrhistogram.Decode([]byte(text))
	if err != nil {
		return Latency{}, fmt.Errorf("a histogram does not decode: %w", err)
	}
	return Latency{h}, nil
}
