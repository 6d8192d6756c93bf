package report

import (
	"html/template"
	"io"
	"strings"
)

// page is what the template is given.
type page struct {
	Name     string
	When     string
	Palette  template.CSS
	Engines  []string
	Tally    string
	Machine  table
	Goals    table
	Sizes    string // how far the round is from what the goals are about
	Overview table
	Marks    string // what the marks mean that figures of the page have
	Settings table
	Bars     []*chart
	CDFs     []*chart
	Times    []*chart
	Scales   []*chart
	Details  []detail
}

type detail struct {
	Name, Title, Knobs string
	Table              table
	Notes              []string
}

// HTML writes the report as one page that loads nothing from anywhere.
func (r *Report) HTML(w io.Writer) error {
	verdicts := r.judge()
	p := page{
		Name: r.Header.Name, When: r.Header.Machine.Time.Format("2006-01-02 15:04 MST"), Palette: palette(),
		Tally: tally(verdicts), Machine: r.machineTable(), Goals: goalTable(verdicts), Overview: r.overview(),
		Settings: r.engineTable(),
	}
	p.Engines = p.Overview.Head[2:]
	p.Sizes = r.sizes()
	p.Marks = strings.TrimSpace(explain(p.Overview.text()) + " " + r.silent())
	if err := r.addCharts(&p); err != nil {
		return err
	}
	for _, name := range r.order {
		g := r.workloads[name]
		p.Details = append(p.Details, detail{name, g.def.Title, g.describe(), r.workloadTable(g), g.notes()})
	}
	return layout.Execute(w, p)
}

// addCharts draws what there are figures for.
func (r *Report) addCharts(p *page) error {
	add := func(to *[]*chart, c *chart, err error) error {
		if c != nil {
			*to = append(*to, c)
		}
		return err
	}
	for _, name := range r.order {
		g := r.workloads[name]
		if !strings.Contains(name, "@") { // variants have charts of their own
			c, err := r.bars(g)
			if err := add(&p.Bars, c, err); err != nil {
				return err
			}
			c, err = r.cdf(g)
			if err := add(&p.CDFs, c, err); err != nil {
				return err
			}
		}
		c, err := r.overTime(g)
		if err := add(&p.Times, c, err); err != nil {
			return err
		}
	}
	for _, s := range scalings {
		c, err := r.scales(s)
		if err := add(&p.Scales, c, err); err != nil {
			return err
		}
	}
	return nil
}

var layout = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>alder beside its peers</title>
<style>
{{.Palette}}
*{box-sizing:border-box}
body{margin:0;padding:24px clamp(12px,3vw,48px) 64px;background:var(--bg);color:var(--fg);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:26px;margin:0 0 2px}h2{font-size:20px;margin:40px 0 10px;padding-top:12px;border-top:1px solid var(--grid)}
h3{font-size:15px;margin:0}p{margin:6px 0;max-width:85ch}.dim{opacity:.75}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid var(--grid);text-align:right;white-space:nowrap}
th{font-weight:600;position:sticky;top:0;background:var(--soft)}
th:first-child,td:first-child,.words td,.words th{text-align:left}
.words td{white-space:normal}
tr.alder td{font-weight:600;background:var(--soft)}
tr.reached td:last-child{color:var(--lmdb);font-weight:600}tr.missed td:last-child{color:var(--pebble);font-weight:600}
tr.unknown td{opacity:.7}tr.unknown td:last-child{white-space:normal;text-align:left;max-width:40ch}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:18px 26px}
.charts.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,800px),1fr))}
figure{margin:0}figure svg{max-width:100%;height:auto;display:block}
figcaption{font-size:13px;min-height:2.9em}
.legend{position:sticky;top:0;z-index:2;display:flex;flex-wrap:wrap;gap:4px 16px;padding:6px 0;font-size:13px;
 background:var(--bg);border-bottom:1px solid var(--grid);margin-bottom:12px}
.legend i{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:5px;vertical-align:-1px}
details{margin:10px 0;border:1px solid var(--grid);border-radius:6px;padding:8px 12px}
summary{cursor:pointer}ul{margin:8px 0;padding-left:20px;font-size:13px}
</style>
</head>
<body>
{{define "table"}}<div class="scroll"><table><thead><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr></thead><tbody>
{{range .Rows}}<tr{{if .Class}} class="{{.Class}}"{{end}}>{{range .Cells}}<td>{{.}}</td>{{end}}</tr>
{{end}}</tbody></table></div>{{end}}
{{define "charts"}}{{range .}}<figure><figcaption><strong>{{.Title}}</strong>{{if .Caption}}: {{.Caption}}{{end}}</figcaption>{{.SVG}}</figure>
{{end}}{{end}}
{{define "legend"}}<div class="legend">{{range .}}<span><i style="background:var(--{{.}},var(--other))"></i>{{.}}</span>{{end}}</div>{{end}}
<h1>alder beside its peers</h1>
<p class="dim">{{.Name}} round, {{.When}}. {{.Tally}}</p>
<details><summary>Where it was measured</summary><div class="words">{{template "table" .Machine}}</div></details>
<details><summary>Engines and their settings</summary><div class="words">{{template "table" .Settings}}</div></details>
{{if .Goals.Rows}}<h2>Goals</h2>{{if .Sizes}}<p class="dim">{{.Sizes}}</p>{{end}}{{template "table" .Goals}}{{end}}
<h2>All workloads</h2><p class="dim">Medians over the repetitions. {{.Marks}}</p>{{template "table" .Overview}}
{{if .Bars}}<h2>Beside bbolt</h2><p class="dim">How many times as good as bbolt: faster, or smaller where the figure is a size. The scale is logarithmic; bbolt is 1.</p>
<div class="charts">{{template "charts" .Bars}}</div>{{end}}
{{if .Scales}}<h2>Scaling</h2>{{template "legend" .Engines}}<div class="charts">{{template "charts" .Scales}}</div>{{end}}
{{if .Times}}<h2>Over time</h2>{{template "legend" .Engines}}<div class="charts wide">{{template "charts" .Times}}</div>{{end}}
{{if .CDFs}}<h2>Latencies</h2><p class="dim">Share of the operations (of whole transactions, where a workload puts or gets many in one) that took no longer than the time below; all repetitions together. Equal steps upward stand for 90 %, 99 %, 99.9 % and so on.</p>
{{template "legend" .Engines}}<div class="charts">{{template "charts" .CDFs}}</div>{{end}}
<h2>Each workload</h2>
{{range .Details}}<details><summary><strong>{{.Name}}</strong>: {{.Title}}</summary><p class="dim">{{.Knobs}}.</p>{{template "table" .Table}}
{{if .Notes}}<ul>{{range .Notes}}<li>{{.}}</li>{{end}}</ul>{{end}}</details>
{{end}}</body>
</html>
`))
