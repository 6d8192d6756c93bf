package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alderdb/alder/bench/internal/workload"
)

// table is a table in neither Markdown nor HTML yet.
type table struct {
	Head []string
	Rows []row
}

type row struct {
	Cells []string
	// Class marks rows: "alder" for its own, "reached" and "missed" for verdicts.
	Class string
}

// text is everything that the table says.
func (t table) text() string {
	var text strings.Builder
	for _, r := range t.Rows {
		text.WriteString(strings.Join(r.Cells, " "))
	}
	return text.String()
}

// goalTable lists the verdicts.
func goalTable(verdicts []verdict) table {
	t := table{Head: []string{"goal", "figure", "alder", "must be", "against", "verdict"}}
	for _, v := range verdicts {
		unit := unitOf(v.measure)
		sign := "≤"
		if v.atLeast {
			sign = "≥"
		}
		against := ""
		if v.of != "" {
			against = fmt.Sprintf("%s × %s", number(v.limit), v.of)
			if v.ofWorkload != "" {
				against += "'s " + v.ofWorkload
			}
			if v.perCPU {
				against += " / processors"
			}
			if v.unknown == "" && v.reference != 0 {
				against += fmt.Sprintf(" (%s%s; ratio %s)", quantity(v.reference, unit), v.referenceMarks,
					number(v.alder/v.reference))
			}
		}
		cells := []string{v.workload, v.measure}
		if v.unknown != "" {
			t.Rows = append(t.Rows, row{Cells: append(cells, "–", "", against, v.unknown), Class: "unknown"})
			continue
		}
		verdict, class := "missed", "missed"
		if v.reached {
			verdict, class = "reached", "reached"
		}
		cells = append(cells, quantity(v.alder, unit)+v.marks, sign+" "+quantity(v.bound, unit), against, verdict)
		t.Rows = append(t.Rows, row{Cells: cells, Class: class})
	}
	return t
}

// unitOf is the unit of a measure by its name, for figures that come without.
func unitOf(measure string) string {
	switch {
	case strings.HasSuffix(measure, "ns/op"), strings.HasSuffix(measure, "ns/put"),
		strings.HasSuffix(measure, "p50"), strings.HasSuffix(measure, "p99"), strings.HasSuffix(measure, "p99.9"):
		if measure == "gc pause p99" {
			return "ms"
		}
		return "ns"
	case strings.HasSuffix(measure, "ops/s"), strings.HasSuffix(measure, "puts/s"):
		return "1/s"
	case measure == "count" || measure == "at":
		return "ns"
	case measure == "forward" || measure == "reverse":
		return "M keys/s"
	case strings.Contains(measure, "bytes") && !strings.Contains(measure, "ratio"), strings.HasPrefix(measure, "file b"):
		return "B"
	case measure == "seconds":
		return "s"
	case measure == "peak MB":
		return "MB"
	case measure == "MB/s":
		return "MB/s"
	case strings.HasPrefix(measure, "open"), strings.HasSuffix(measure, "wait max"), measure == "put max", measure == "begin max":
		return "ms"
	}
	return ""
}

// workloadTable lists an engine a row: the main figure, its spread, its ratio to bbolt's, what stood beside it.
func (r *Report) workloadTable(g *group) table {
	t := table{Head: []string{"engine", g.def.Main, "n", "min–max", "× bbolt"}}
	others := g.measures()[1:]
	t.Head = append(t.Head, others...)
	t.Head = append(t.Head, "CPU s", "peak anon", "file", "disk written", "major faults", "in large folios")
	reference, hasReference := r.figure(g.name, "bbolt", g.def.Main)
	for _, e := range g.order {
		f, ok := r.figure(g.name, e, g.def.Main)
		if !ok {
			continue
		}
		cells := []string{e, quantity(f.Median, f.Unit) + r.marks(g.name, e), fmt.Sprint(f.N), f.spread()}
		if hasReference {
			cells = append(cells, number(g.better(f.Median, reference.Median)))
		} else {
			cells = append(cells, "–")
		}
		for _, name := range others {
			if other, ok := r.figure(g.name, e, name); ok {
				cells = append(cells, quantity(other.Median, other.Unit))
			} else {
				cells = append(cells, "–")
			}
		}
		class := ""
		if e == "alder" {
			class = "alder"
		}
		t.Rows = append(t.Rows, row{Cells: append(cells, r.stateCells(g.name, e)...), Class: class})
	}
	return dropEmptyColumns(t)
}

func (r *Report) stateCells(name, engine string) []string {
	cell := func(of func(workload.State) float64, write func(float64) string) string {
		v, ok := r.state(name, engine, of)
		if !ok || v < 0 {
			return "–"
		}
		return write(v)
	}
	percent := func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }
	return []string{
		cell(func(s workload.State) float64 { return s.CPUUserSeconds + s.CPUSystemSeconds }, number),
		cell(func(s workload.State) float64 { return float64(s.PeakAnonBytes) }, byteSize),
		cell(func(s workload.State) float64 { return float64(s.AllocatedBytes) }, byteSize),
		cell(func(s workload.State) float64 { return float64(s.Disk.WrittenBytes) }, byteSize),
		cell(func(s workload.State) float64 { return float64(s.MajorFaults) }, number),
		cell(func(s workload.State) float64 { return s.Folios.Large }, percent),
	}
}

// dropEmptyColumns leaves out columns in which no row says anything.
func dropEmptyColumns(t table) table {
	var keep []int
	for c := range t.Head {
		for _, r := range t.Rows {
			if cell := r.Cells[c]; cell != "–" && cell != "" {
				keep = append(keep, c)
				break
			}
		}
	}
	pick := func(cells []string) (kept []string) {
		for _, c := range keep {
			kept = append(kept, cells[c])
		}
		return kept
	}
	out := table{Head: pick(t.Head)}
	for _, r := range t.Rows {
		out.Rows = append(out.Rows, row{Cells: pick(r.Cells), Class: r.Class})
	}
	return out
}

// overview is one row per workload and one column per engine, of the main figures.
func (r *Report) overview() table {
	engines := map[string]bool{}
	for _, name := range r.order {
		for _, e := range r.engines(name) {
			engines[e] = true
		}
	}
	var columns []string
	for _, info := range r.Header.Engines {
		if engines[info.Name] {
			columns = append(columns, info.Name)
			delete(engines, info.Name)
		}
	}
	columns = append(columns, sortedKeys(engines)...)
	t := table{Head: append([]string{"workload", "figure"}, columns...)}
	for _, name := range r.order {
		g := r.workloads[name]
		if !r.says(name) {
			continue
		}
		cells := []string{name, g.def.Main}
		for _, e := range columns {
			f, ok := r.figure(name, e, g.def.Main)
			switch {
			case ok:
				cells = append(cells, quantity(f.Median, f.Unit)+r.marks(name, e))
			case g.engines[e] != nil && strings.HasPrefix(r.why(name, e), "failed"):
				cells = append(cells, "failed")
			default:
				cells = append(cells, "–")
			}
		}
		t.Rows = append(t.Rows, row{Cells: cells})
	}
	return t
}

// says reports whether a workload has a figure or a failure.
func (r *Report) says(name string) bool {
	g := r.workloads[name]
	return slices.ContainsFunc(g.order, func(e string) bool {
		_, ok := r.figure(name, e, g.def.Main)
		return ok || strings.HasPrefix(r.why(name, e), "failed")
	})
}

// silent lists the workloads without any figure.
func (r *Report) silent() string {
	var names []string
	for _, name := range r.order {
		if !r.says(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "Without a figure: " + strings.Join(names, ", ") + "."
}

// engineTable says what ran, and how it was set.
func (r *Report) engineTable() table {
	t := table{Head: []string{"engine", "version", "settings", "lazy means"}}
	for _, e := range r.Header.Engines {
		version := e.Version
		if e.Missing != "" {
			version = "missing: " + e.Missing
		}
		t.Rows = append(t.Rows, row{Cells: []string{e.Name, version, e.Settings, e.LazyMeans}})
	}
	return t
}

// machineTable says where.
func (r *Report) machineTable() table {
	m := r.Header.Machine
	t := table{Head: []string{"", ""}}
	add := func(name, value string) {
		if value != "" {
			t.Rows = append(t.Rows, row{Cells: []string{name, value}})
		}
	}
	add("when", m.Time.Format("2006-01-02 15:04 MST"))
	add("command", "bench "+strings.Join(r.Header.Command, " "))
	add("repetitions", fmt.Sprint(r.Header.Reps))
	if r.Header.BudgetSeconds > 0 {
		add("budget", (time.Duration(r.Header.BudgetSeconds) * time.Second).String())
	}
	add("spent on", r.Header.Spends)
	add("system", fmt.Sprintf("%s/%s %s, %s", m.OS, m.Arch, m.Kernel, m.Go))
	add("processors", fmt.Sprintf("%d × %s", m.CPUs, m.CPU))
	if m.MemoryBytes > 0 {
		add("memory", byteSize(float64(m.MemoryBytes)))
	}
	add("file system", m.FileSystem)
	add("device", strings.TrimSpace(m.Device+", write cache: "+m.WriteCache))
	add("load before", m.Load)
	add("device counters", m.CountersNA)
	if m.CountersNA == "" {
		add("written by others while idle", byteSize(float64(m.IdleWrittenPerSecond))+"/s")
	}
	return t
}
