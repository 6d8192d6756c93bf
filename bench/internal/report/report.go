// Package report turns the results of a round into tables and charts: Markdown, and one HTML page that needs no
// network.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/alderdb/alder/bench/internal/round"
	"github.com/alderdb/alder/bench/internal/workload"
)

// Report is a round, put in order.
type Report struct {
	Header    round.Header
	workloads map[string]*group
	order     []string
}

// group is the trials of one workload.
type group struct {
	name    string
	def     *workload.Workload
	params  workload.Params
	engines map[string][]workload.Result
	order   []string
}

// Figure is a measure over the repetitions.
type Figure struct {
	Median, Min, Max float64
	Unit             string
	N                int
}

// New puts results in order. Trials of workloads that this program no longer knows are left out.
func New(header round.Header, trials []workload.Result) *Report {
	r := &Report{Header: header, workloads: map[string]*group{}}
	for _, t := range trials {
		def, err := workload.Find(t.Workload)
		if err != nil {
			continue
		}
		g := r.workloads[t.Workload]
		if g == nil {
			g = &group{name: t.Workload, def: def, params: t.Params, engines: map[string][]workload.Result{}}
			r.workloads[t.Workload] = g
			r.order = append(r.order, t.Workload)
		}
		if g.engines[t.Engine] == nil {
			g.order = append(g.order, t.Engine)
		}
		g.engines[t.Engine] = append(g.engines[t.Engine], t)
	}
	// The order of the workloads' definitions, variants behind them: a round may run in another.
	rank := map[string]int{}
	for i, w := range workload.All() {
		rank[w.ID] = i + 1
	}
	slices.SortStableFunc(r.order, func(a, b string) int {
		return cmp.Compare(cmp.Or(rank[a], len(rank)+1), cmp.Or(rank[b], len(rank)+1))
	})
	return r
}

// engines returns the engines of a workload in the order in which they ran.
func (r *Report) engines(workload string) []string {
	if g := r.workloads[workload]; g != nil {
		return g.order
	}
	return nil
}

// figure returns the median of a measure, with its spread.
func (r *Report) figure(name, engine, measure string) (Figure, bool) {
	g := r.workloads[name]
	if g == nil {
		return Figure{}, false
	}
	var values []float64
	unit := ""
	for _, t := range g.engines[engine] {
		if !measured(t) {
			continue
		}
		for _, m := range t.Measures {
			if m.Name == measure {
				values, unit = append(values, m.Value), m.Unit
			}
		}
	}
	return summarize(values, unit)
}

// measured reports whether a trial has figures.
func measured(t workload.Result) bool { return t.Error == "" && t.NA == "" && t.LeftOut == "" }

// Marks stand behind figures that are not what the others beside them are; legend explains them.
const (
	fewerMark   = "†"
	cutMark     = "‡"
	shorterMark = "§"
)

var legend = []struct{ mark, means string }{
	{fewerMark, "of fewer repetitions than the round has"},
	{cutMark, "of work that was cut before its end, see the workload's notes"},
	{shorterMark, "measured for a shorter time than alder's figure"},
}

// marks returns the marks of an engine's figure at a workload.
func (r *Report) marks(name, engine string) string {
	g := r.workloads[name]
	n, cut, shorter := 0, false, false
	longest := 0.0
	for _, t := range g.engines["alder"] {
		longest = max(longest, t.Params.Seconds)
	}
	for _, t := range g.engines[engine] {
		if measured(t) {
			n++
			cut = cut || t.Cut != ""
			shorter = shorter || t.Params.Seconds < 0.99*longest
		}
	}
	text := ""
	if n > 0 && n < r.Header.Reps && !g.def.Once {
		text += fewerMark
	}
	if cut {
		text += cutMark
	}
	if shorter {
		text += shorterMark
	}
	return text
}

// explain says in one line what the marks mean that a text contains.
func explain(text string) string {
	var parts []string
	for _, l := range legend {
		if strings.Contains(text, l.mark) {
			parts = append(parts, l.mark+" "+l.means)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + "."
}

func summarize(values []float64, unit string) (Figure, bool) {
	if len(values) == 0 {
		return Figure{}, false
	}
	slices.Sort(values)
	middle := values[len(values)/2]
	if len(values)%2 == 0 {
		middle = (values[len(values)/2-1] + middle) / 2
	}
	return Figure{Median: middle, Min: values[0], Max: values[len(values)-1], Unit: unit, N: len(values)}, true
}

// state returns the median of something that stood beside the timed part.
func (r *Report) state(name, engine string, of func(workload.State) float64) (float64, bool) {
	var values []float64
	for _, t := range r.workloads[name].engines[engine] {
		if measured(t) {
			values = append(values, of(t.State))
		}
	}
	f, ok := summarize(values, "")
	return f.Median, ok
}

// why says why an engine has no figure.
func (r *Report) why(name, engine string) string {
	g := r.workloads[name]
	if g == nil {
		return "not run"
	}
	for _, t := range g.engines[engine] {
		if t.Error != "" {
			return "failed: " + firstLine(t.Error)
		}
		if t.NA != "" {
			return "n/a: " + t.NA
		}
		if t.LeftOut != "" {
			return "left out: " + t.LeftOut
		}
	}
	return "not run"
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// measures returns the names of a workload's measures, the main one first.
func (g *group) measures() []string {
	names := []string{g.def.Main}
	for _, e := range g.order {
		for _, t := range g.engines[e] {
			for _, m := range t.Measures {
				if !slices.Contains(names, m.Name) {
					names = append(names, m.Name)
				}
			}
		}
	}
	return names
}

// better returns how many times as good a figure is as a reference, above 1 if better.
func (g *group) better(figure, reference float64) float64 {
	if figure == 0 || reference == 0 {
		return 0
	}
	if g.def.More {
		return figure / reference
	}
	return reference / figure
}

// notes collects what the trials of a workload remarked, each once, with the engines that did.
func (g *group) notes() []string {
	byText := map[string][]string{}
	var order []string
	add := func(text, engine string) {
		if byText[text] == nil {
			order = append(order, text)
		}
		if !slices.Contains(byText[text], engine) {
			byText[text] = append(byText[text], engine)
		}
	}
	for _, e := range g.order {
		for _, t := range g.engines[e] {
			if t.NA != "" {
				add("n/a: "+t.NA, e)
			}
			if own := g.def.Params.Seconds; measured(t) && g.def.Long && t.Params.Seconds < own {
				add(fmt.Sprintf("timed for %.3g s, the workload's own time is %g s", t.Params.Seconds, own), e)
			}
			if t.Error != "" {
				add("FAILED: "+firstLine(t.Error), e)
			}
			if t.Cut != "" {
				add(t.Cut, e)
			}
			if t.LeftOut != "" {
				add("left out: "+t.LeftOut, e)
			}
			for _, n := range t.Notes {
				add(n, e)
			}
		}
	}
	var notes []string
	for _, text := range order {
		notes = append(notes, strings.Join(byText[text], ", ")+": "+text)
	}
	return notes
}

// describe says with which knobs a workload ran.
func (g *group) describe() string {
	p := g.params
	parts := []string{}
	switch p.Data {
	case "random", "sorted":
		if g.def.ID != "S7" {
			parts = append(parts, fmt.Sprintf("%s records", thousands(float64(p.Records))),
				fmt.Sprintf("%d-byte keys (%s)", p.KeySize, p.Data), fmt.Sprintf("%d-byte values", p.ValueSize))
		}
	default:
		parts = append(parts, p.Data)
	}
	if p.Goroutines > 1 {
		parts = append(parts, fmt.Sprintf("%d goroutines", p.Goroutines))
	}
	if p.Distribution != "uniform" {
		parts = append(parts, p.Distribution)
	}
	if p.Rate > 0 {
		parts = append(parts, fmt.Sprintf("open loop, %g/s", p.Rate))
	}
	if p.Compressible > 0 {
		parts = append(parts, fmt.Sprintf("%g of the values compressible", p.Compressible))
	}
	if p.PageSize > 0 {
		parts = append(parts, fmt.Sprintf("pages of %s bytes", thousands(float64(p.PageSize))))
	}
	if timed := g.timed(); timed != "" {
		parts = append(parts, timed)
	}
	parts = append(parts, string(p.Durability)+" durability", "page cache "+string(p.Cache))
	return strings.Join(parts, ", ")
}

// timed says how long the trials were timed, where that is what ends them.
func (g *group) timed() string {
	var seconds []float64
	for _, e := range g.order {
		for _, t := range g.engines[e] {
			if measured(t) && endsByTime(t) {
				seconds = append(seconds, t.Params.Seconds)
			}
		}
	}
	f, ok := summarize(seconds, "")
	if !ok {
		return ""
	}
	if f.Min != f.Max {
		return fmt.Sprintf("timed for %g to %g s after %g s of warm-up", f.Min, f.Max, g.params.Warm)
	}
	return fmt.Sprintf("timed for %g s after %g s of warm-up", f.Max, g.params.Warm)
}

// endsByTime reports whether a trial did as much as its time allowed, and not a certain amount of work.
func endsByTime(t workload.Result) bool {
	return slices.ContainsFunc(t.Measures, func(m workload.Measure) bool {
		return slices.Contains([]string{"ops/s", "forward", "count", "MB/s", "commit p50"}, m.Name)
	})
}

// number writes a figure with as many digits as it deserves.
func number(v float64) string {
	switch a := max(v, -v); {
	case a == 0:
		return "0"
	case a >= 10_000:
		return thousands(v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// thousands writes a whole number in groups of three digits.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	var groups []string
	for len(text) > 3 {
		groups = append(groups, text[len(text)-3:])
		text = text[:len(text)-3]
	}
	groups = append(groups, text)
	slices.Reverse(groups)
	return sign + strings.Join(groups, ",")
}

// quantity writes a figure with its unit, nanoseconds in whatever unit of time reads best.
func quantity(v float64, unit string) string {
	switch unit {
	case "ns":
		switch {
		case v >= 1e9:
			return number(v/1e9) + " s"
		case v >= 1e6:
			return number(v/1e6) + " ms"
		case v >= 1e4:
			return number(v/1e3) + " µs"
		}
		return number(v) + " ns"
	case "B":
		return byteSize(v)
	case "":
		return number(v)
	case "1/s":
		return number(v) + "/s"
	}
	return number(v) + " " + unit
}

func byteSize(v float64) string {
	switch {
	case v >= 1e9:
		return number(v/1e9) + " GB"
	case v >= 1e6:
		return number(v/1e6) + " MB"
	case v >= 1e4:
		return number(v/1e3) + " kB"
	}
	return number(v) + " B"
}

// spread writes how far the repetitions lie apart.
func (f Figure) spread() string {
	if f.N < 2 || f.Median == 0 {
		return ""
	}
	return fmt.Sprintf("%s–%s", number(f.Min), number(f.Max))
}

// sortedKeys returns a map's keys in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
