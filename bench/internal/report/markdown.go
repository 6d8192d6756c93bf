package report

import (
	"fmt"
	"io"
	"strings"
)

// Markdown writes the report as Markdown.
func (r *Report) Markdown(w io.Writer) error {
	p := printer{w: w}
	p.line("# alder beside its peers: %s round", r.Header.Name)
	p.line("")
	p.table(r.machineTable())
	p.line("## Goals")
	p.line("")
	verdicts := r.judge()
	p.line("%s", strings.TrimSpace(tally(verdicts)+" "+r.sizes()))
	p.line("")
	p.table(goalTable(verdicts))
	p.line("## All workloads")
	p.line("")
	overview := r.overview()
	p.line("%s", strings.TrimSpace("Medians over the repetitions. "+explain(overview.text())+" "+r.silent()))
	p.line("")
	p.table(overview)
	for _, name := range r.order {
		g := r.workloads[name]
		p.line("### %s: %s", name, g.def.Title)
		p.line("")
		p.line("%s.", g.describe())
		p.line("")
		p.table(r.workloadTable(g))
		for _, note := range g.notes() {
			p.line("- %s", note)
		}
		if len(g.notes()) > 0 {
			p.line("")
		}
	}
	p.line("## Engines")
	p.line("")
	p.table(r.engineTable())
	return p.err
}

// Summary writes the verdicts, for a terminal.
func (r *Report) Summary(w io.Writer) error {
	p := printer{w: w}
	verdicts := r.judge()
	t := goalTable(verdicts)
	widths := make([]int, len(t.Head))
	for _, cells := range append([]row{{Cells: t.Head}}, t.Rows...) {
		for i, c := range cells.Cells {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	for _, cells := range append([]row{{Cells: t.Head}}, t.Rows...) {
		var line strings.Builder
		for i, c := range cells.Cells {
			line.WriteString(c + strings.Repeat(" ", widths[i]-len([]rune(c))+2))
		}
		p.line("%s", strings.TrimRight(line.String(), " "))
	}
	p.line("%s", tally(verdicts))
	return p.err
}

// tally counts the verdicts.
func tally(verdicts []verdict) string {
	reached, missed, unknown := 0, 0, 0
	for _, v := range verdicts {
		switch {
		case v.unknown != "":
			unknown++
		case v.reached:
			reached++
		default:
			missed++
		}
	}
	return fmt.Sprintf("%d goals reached, %d missed, %d without a figure.", reached, missed, unknown)
}

// printer writes lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) table(t table) {
	if len(t.Rows) == 0 {
		p.line("No figures.")
		p.line("")
		return
	}
	p.cells(t.Head)
	p.line("|%s", strings.Repeat("---|", len(t.Head)))
	for _, r := range t.Rows {
		p.cells(r.Cells)
	}
	p.line("")
}

func (p *printer) cells(cells []string) {
	escaped := make([]string, len(cells))
	for i, c := range cells {
		escaped[i] = strings.ReplaceAll(c, "|", "\\|")
	}
	p.line("| %s |", strings.Join(escaped, " | "))
}
