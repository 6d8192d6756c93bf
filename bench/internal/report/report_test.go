package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder/bench/internal/measure"
	"github.com/alderdb/alder/bench/internal/round"
	"github.com/alderdb/alder/bench/internal/workload"
)

// canned is a round with known figures: R1 by three engines, W6 with seconds, a failure and two without figures.
func canned(t *testing.T) *Report {
	latency := workload.NewLatency()
	for i := range 10_000 {
		latency.Record(time.Duration(100+i) * time.Nanosecond)
	}
	text, err := latency.Encode()
	require.NoError(t, err)
	trial := func(name, engine string, rep int, measures ...workload.Measure) workload.Result {
		_, p, err := workload.Resolve(name, workload.Params{})
		require.NoError(t, err)
		return workload.Result{
			Type: "trial", Workload: name, Engine: engine, Rep: rep, Params: p, Measures: measures,
			Latencies: map[string]string{"latency": text},
		}
	}
	ns := func(v float64) workload.Measure { return workload.Measure{Name: "ns/op", Value: v, Unit: "ns"} }
	ops := func(v float64) workload.Measure { return workload.Measure{Name: "ops/s", Value: v, Unit: "1/s"} }
	allocs := workload.Measure{Name: "allocs/op", Value: 1}
	trials := []workload.Result{
		trial("R1", "alder", 1, ns(300), ops(3e6), allocs), trial("R1", "bbolt", 1, ns(2000), ops(5e5)),
		trial("R1", "lmdb-c", 1, ns(400)),
		trial("R1", "alder", 2, ns(500), ops(2e6), allocs), trial("R1", "bbolt", 2, ns(1000), ops(1e6)),
		trial("R1", "alder", 3, ns(400), ops(2.5e6), allocs), trial("R1", "bbolt", 3, ns(3000), ops(3e5)),
		trial("R1@g=2", "alder", 1, ns(200), ops(5e6)), trial("R1@g=2", "bbolt", 1, ns(900), ops(1.1e6)),
		trial("R5", "alder", 1, ns(100)), trial("R5", "bbolt", 1), trial("S7", "alder", 1),
	}
	trials[10].NA = "has no call that looks up several keys"
	trials[11].Error = "WRONG ANSWERS: one\nmore"
	w6 := trial("W6", "alder", 1, ops(30_000))
	for s := 1; s <= 20; s++ {
		w6.Series = append(w6.Series, workload.Point{Second: s, Ops: 30_000 + 100*float64(s), P99Nanos: 1e6})
	}
	trials = append(trials, w6)
	header := round.Header{Name: "canned", Machine: measure.Machine{CPUs: 2, Time: time.Unix(0, 0).UTC()}, Reps: 3,
		Engines: []round.EngineInfo{{Name: "alder", Version: "v0"}, {Name: "bbolt", Settings: "default <options>"}}}
	return New(header, trials)
}

// Figures are medians with their spread.
func TestFigure(t *testing.T) {
	r := canned(t)
	f, ok := r.figure("R1", "bbolt", "ns/op")
	require.True(t, ok)
	require.Equal(t, Figure{Median: 2000, Min: 1000, Max: 3000, Unit: "ns", N: 3}, f)
	require.Equal(t, "1000–3000", f.spread())
	_, ok = r.figure("R1", "bbolt", "nosuch")
	require.False(t, ok)
	_, ok = r.figure("R5", "bbolt", "ns/op")
	require.False(t, ok)
	even, _ := summarize([]float64{4, 1, 3, 2}, "")
	require.Equal(t, 2.5, even.Median)
}

// Figures that are not what the others beside them are have marks, which are explained where they stand.
func TestMarks(t *testing.T) {
	r := canned(t)
	require.Equal(t, "", r.marks("R1", "alder"))
	require.Equal(t, fewerMark, r.marks("R1", "lmdb-c"), "one of three repetitions")
	require.Equal(t, "", r.marks("W6", "alder"), "is not repeated in any round")
	trials := []workload.Result{
		{Workload: "W7", Engine: "alder", Params: workload.Params{Seconds: 2}},
		{Workload: "W7", Engine: "bbolt", Params: workload.Params{Seconds: 2}, Cut: "load cut after 10 s at 5 of 9 records"},
		{Workload: "W7", Engine: "lmdb", Params: workload.Params{Seconds: 1}},
		{Workload: "W7", Engine: "sqlite", LeftOut: "no time was left"},
	}
	for i := range trials {
		trials[i].Measures = []workload.Measure{{Name: "puts/s", Value: 5, Unit: "1/s"}}
	}
	r = New(round.Header{Reps: 1}, trials)
	require.Equal(t, cutMark, r.marks("W7", "bbolt"))
	require.Equal(t, shorterMark, r.marks("W7", "lmdb"))
	_, ok := r.figure("W7", "sqlite", "puts/s")
	require.False(t, ok)
	require.Equal(t, "left out: no time was left", r.why("W7", "sqlite"))
	var out bytes.Buffer
	require.NoError(t, r.Markdown(&out))
	for _, want := range []string{
		"bbolt: load cut after 10 s at 5 of 9 records", "sqlite: left out: no time was left",
		"‡ of work that was cut before its end, see the workload's notes; § measured for a shorter time than alder's figure.",
	} {
		require.Contains(t, out.String(), want)
	}
	require.Empty(t, explain("nothing"))
}

// A round that has little time keeps the engines that goals are measured against.
func TestGoals_Needed(t *testing.T) {
	for _, g := range goals {
		w, err := workload.Find(g.workload)
		require.NoError(t, err)
		if g.of != "" && g.of != bestPeer {
			require.True(t, w.Needs(g.of), "%s needs %s", g.workload, g.of)
		}
	}
}

// Every chart of scaling draws workloads that the full round runs, each with its own value of the knob.
func TestScalings(t *testing.T) {
	for _, s := range scalings {
		seen := map[int]bool{}
		for _, name := range s.workloads {
			_, p, err := workload.Resolve(name, workload.Params{})
			require.NoError(t, err)
			require.False(t, seen[s.knob(p)], "%s: %s", s.title, name)
			seen[s.knob(p)] = true
		}
	}
}

// A workload that was not given its own time says so.
func TestNotes_ShortOfItsTime(t *testing.T) {
	trial := workload.Result{Workload: "W6", Engine: "alder", Params: workload.Params{Seconds: 120}}
	r := New(round.Header{Reps: 1}, []workload.Result{trial})
	require.Equal(t, []string{"alder: timed for 120 s, the workload's own time is 300 s"}, r.workloads["W6"].notes())
}

// A round of other sizes than those of the goals says so above the verdicts.
func TestSizes(t *testing.T) {
	require.Empty(t, canned(t).sizes())
	_, p, err := workload.Resolve("R1", workload.Params{Records: 5000})
	require.NoError(t, err)
	r := New(round.Header{Reps: 1}, []workload.Result{{Workload: "R1", Engine: "alder", Params: p}})
	require.Contains(t, r.sizes(), "R1 has 5,000 records, not 1,000,000")
}

// Goals are judged by the medians: against a peer, against a number, and without a figure.
func TestJudge(t *testing.T) {
	verdicts := map[string]verdict{}
	for _, v := range canned(t).judge() {
		verdicts[v.workload+" "+v.measure+" "+v.of] = v
	}
	v := verdicts["R1 ns/op bbolt"]
	require.True(t, v.reached, "400 ns are 0.2 of 2000 ns")
	require.InDelta(t, 600, v.bound, 0.1)
	v = verdicts["R1 ns/op lmdb-c"]
	require.False(t, v.reached, "400 ns are not 0.6 of 400 ns")
	require.Empty(t, v.unknown)
	require.True(t, verdicts["R1 allocs/op "].reached)
	require.Equal(t, "failed: WRONG ANSWERS: one", verdicts["S7 file bytes "].unknown)
	require.Equal(t, "no figure of alder", verdicts["R5 ns/op alder"].unknown, "R2 was not run")
	require.NotContains(t, verdicts, "W1 ops/s bbolt", "not run, not judged")
}

// Every goal names a workload and engines that exist.
func TestGoals_Names(t *testing.T) {
	for _, g := range goals {
		_, err := workload.Find(g.workload)
		require.NoError(t, err)
		if g.ofWorkload != "" {
			_, err = workload.Find(g.ofWorkload)
			require.NoError(t, err)
		}
		require.Positive(t, g.limit)
	}
}

func TestMarkdown(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, canned(t).Markdown(&out))
	text := out.String()
	for _, want := range []string{
		"| R1 | ns/op | 400 ns | ≤ 600 ns | 0.30 × bbolt (2000 ns; ratio 0.20) | reached |",
		"| S7 | file bytes | – |  |  | failed: WRONG ANSWERS: one |",
		"bbolt: n/a: has no call that looks up several keys",
		"alder: FAILED: WRONG ANSWERS: one",
		"| alder | 400 ns | 3 | 300–500 | 5.00 |",
	} {
		require.Contains(t, text, want)
	}
}

// The page is one file that loads nothing, with its charts drawn in the colors of the style sheet.
func TestHTML(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, canned(t).HTML(&out))
	text := out.String()
	for _, never := range []string{"http-equiv", "src=", "@import", "url(", "ZgotmplZ", "<?xml", "#0102"} {
		require.NotContains(t, text, never)
	}
	for _, link := range strings.Split(text, "http")[1:] {
		require.True(t, strings.HasPrefix(link, "://www.w3.org/"), "only names of XML name spaces: %.40s", link)
	}
	require.Contains(t, text, "default &lt;options&gt;")
	require.Contains(t, text, "prefers-color-scheme: dark")
	require.Contains(t, text, "var(--alder)")
	// bars and latencies of R1 (R5 and W6 have one engine, S7 failed), latencies of R5 and W6, W6 over time,
	// and R1 over goroutines.
	require.Equal(t, 6, strings.Count(text, "<svg"))
	for _, svg := range strings.Split(text, "<svg")[1:] {
		body, _, ok := strings.Cut(svg, "</svg>")
		require.True(t, ok)
		require.NotContains(t, body, "NaN")
		require.NotContains(t, body, "Inf")
	}
}

// A round without any trial still gives a page.
func TestHTML_Empty(t *testing.T) {
	var html, markdown bytes.Buffer
	r := New(round.Header{}, nil)
	require.NoError(t, r.HTML(&html))
	require.NoError(t, r.Markdown(&markdown))
	require.NoError(t, r.Summary(&markdown))
	require.Contains(t, markdown.String(), "0 goals reached")
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		value      float64
		unit, want string
	}{
		{0, "", "0"}, {1234567, "", "1,234,567"}, {-12345, "", "-12,345"}, {999, "", "999"}, {12.345, "", "12.3"},
		{0.5, "", "0.50"}, {0.00079, "", "0.00079"}, {350, "ns", "350 ns"}, {25_000, "ns", "25.0 µs"},
		{3.5e6, "ns", "3.50 ms"}, {2e9, "ns", "2.00 s"}, {36864, "B", "36.9 kB"}, {5000, "1/s", "5000/s"},
		{12, "MB/s", "12.0 MB/s"},
	} {
		require.Equal(t, c.want, quantity(c.value, c.unit))
	}
}
