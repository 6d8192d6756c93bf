package report

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/alderdb/alder/bench/internal/workload"
)

// chart is a drawing with its caption.
type chart struct {
	Title   string
	Caption string
	SVG     template.HTML
}

const (
	chartWidth  = 400 * vg.Length(1)
	chartHeight = 250 * vg.Length(1)
	textSize    = 10 * vg.Length(1)
)

// newPlot returns a plot in the page's colors.
func newPlot() *plot.Plot {
	p := plot.New()
	fg := ink("fg")
	p.BackgroundColor = color.Transparent
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color = fg, ink("grid")
		axis.Tick.Label.Color, axis.Label.TextStyle.Color = fg, fg
		axis.Tick.Label.Font.Size, axis.Label.TextStyle.Font.Size = textSize, textSize
		axis.LineStyle.Color = ink("grid")
	}
	return p
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = ink("grid"), ink("grid")
	g.Vertical.Width, g.Horizontal.Width = vg.Points(0.5), vg.Points(0.5)
	return g
}

func drawn(p *plot.Plot, width, height vg.Length) (template.HTML, error) {
	canvas := vgsvg.New(width, height)
	p.Draw(draw.New(canvas))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return "", err
	}
	return themed(svg.String()), nil
}

// bars draws how many times as good as bbolt each engine is at a workload, on a logarithmic scale around 1.
func (r *Report) bars(g *group) (*chart, error) {
	reference, ok := r.figure(g.name, "bbolt", g.def.Main)
	if !ok || reference.Median == 0 {
		return nil, nil
	}
	var names []string
	var ratios []float64
	for _, e := range g.order {
		if f, ok := r.figure(g.name, e, g.def.Main); ok && f.Median > 0 {
			names, ratios = append(names, e), append(ratios, g.better(f.Median, reference.Median))
		}
	}
	if len(names) < 2 {
		return nil, nil
	}
	p := newPlot()
	p.Add(grid())
	low, high := 0.0, 0.0
	labels := plotter.XYLabels{}
	for i, name := range names {
		at := float64(len(names) - 1 - i) // the first engine on top
		x := math.Log10(ratios[i])
		low, high = min(low, x), max(high, x)
		bar, err := plotter.NewBarChart(plotter.Values{x}, vg.Points(12))
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.XMin = true, at
		bar.Color, bar.LineStyle.Width = ink(name), 0
		p.Add(bar)
		labels.XYs = append(labels.XYs, plotter.XY{X: max(x, 0), Y: at})
		labels.Labels = append(labels.Labels, number(ratios[i])+" ×"+r.marks(g.name, name))
	}
	values, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	for i := range values.TextStyle {
		values.TextStyle[i] = style()
		values.TextStyle[i].YAlign = draw.YCenter
	}
	values.Offset = vg.Point{X: vg.Points(4)}
	one, err := plotter.NewLine(plotter.XYs{{X: 0, Y: -0.7}, {X: 0, Y: float64(len(names)) - 0.3}})
	if err != nil {
		return nil, err
	}
	one.Color, one.Width = ink("fg"), vg.Points(1)
	p.Add(values, one)
	width := max(high-low, 1)
	p.X.Min, p.X.Max = low-0.04*width, high+0.22*width // room for the numbers
	p.X.Tick.Marker = plot.ConstantTicks(ratioTicks(low, high))
	p.Y.Min, p.Y.Max = -0.7, float64(len(names))-0.3
	p.Y.Tick.Marker = nameTicks(names)
	p.Y.Tick.Length = 0
	svg, err := drawn(p, chartWidth, vg.Length(34+18*len(names)))
	if err != nil {
		return nil, err
	}
	return &chart{Title: g.name, Caption: g.def.Title, SVG: svg}, nil
}

func style() text.Style {
	return text.Style{
		Color: ink("fg"), Font: font.From(plot.DefaultFont, textSize), Handler: plot.DefaultTextHandler,
	}
}

// nameTicks labels whole numbers with the names, the first on top.
func nameTicks(names []string) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for i, name := range names {
		ticks = append(ticks, plot.Tick{Value: float64(len(names) - 1 - i), Label: name})
	}
	return ticks
}

// ratioTicks are marks of a logarithmic axis that reaches from 10^low to 10^high: powers of ten, and where few of
// them fit, 2 and 5 between them.
func ratioTicks(low, high float64) []plot.Tick {
	steps := []float64{1}
	if high-low < 2 {
		steps = []float64{1, 2, 5}
	}
	var ticks []plot.Tick
	for power := math.Floor(low) - 1; power <= math.Ceil(high); power++ {
		for _, step := range steps {
			v := step * math.Pow(10, power)
			if x := math.Log10(v); x >= low-0.01 && x <= high+0.15 {
				ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprintf("%g×", v)})
			}
		}
	}
	return ticks
}

// cdf draws the share of operations that took no longer than a time, for each engine. The tail is stretched: equal
// steps stand for 90 %, 99 %, 99.9 % ...
func (r *Report) cdf(g *group) (*chart, error) {
	p := newPlot()
	p.Add(grid())
	lines := 0
	lowest, highest, top := math.Inf(1), math.Inf(-1), 1.0
	for _, e := range g.order {
		merged, err := g.latency(e)
		if err != nil {
			return nil, err
		}
		if merged.Histogram == nil || merged.TotalCount() == 0 {
			continue
		}
		points := tailPoints(merged)
		if err := addLine(p, e, points); err != nil {
			return nil, err
		}
		lines++
		lowest, highest = min(lowest, points[0].X), max(highest, points[len(points)-1].X)
		top = max(top, points[len(points)-1].Y)
	}
	if lines == 0 {
		return nil, nil
	}
	p.X.Min, p.X.Max = lowest, highest+0.1*(highest-lowest)
	p.Y.Min, p.Y.Max = 0, top
	p.X.Tick.Marker = plot.ConstantTicks(timeTicks(lowest, highest))
	p.Y.Tick.Marker = plot.ConstantTicks{
		{Value: 0, Label: "0 %"}, {Value: -math.Log10(0.5), Label: "50 %"}, {Value: 1, Label: "90 %"},
		{Value: 2, Label: "99 %"}, {Value: 3, Label: "99.9 %"}, {Value: 4, Label: "99.99 %"}, {Value: 5, Label: "99.999 %"},
	}
	svg, err := drawn(p, chartWidth, chartHeight)
	if err != nil {
		return nil, err
	}
	return &chart{Title: g.name, Caption: g.def.Title, SVG: svg}, nil
}

// latency merges the histograms of an engine's repetitions.
func (g *group) latency(engine string) (workload.Latency, error) {
	merged := workload.Latency{}
	for _, t := range g.engines[engine] {
		text, ok := t.Latencies["latency"]
		if !ok {
			text, ok = t.Latencies["tx latency"]
		}
		if !ok || t.Error != "" {
			continue
		}
		one, err := workload.DecodeLatency(text)
		if err != nil {
			return merged, fmt.Errorf("%s of %s: %w", g.name, engine, err)
		}
		if merged.Histogram == nil {
			merged = workload.NewLatency()
		}
		merged.Merge(one.Histogram)
	}
	return merged, nil
}

// tailPoints are the points of a distribution: x is the logarithm of the time, y that of what is left above it.
func tailPoints(l workload.Latency) plotter.XYs {
	n := float64(l.TotalCount())
	most := math.Min(5, math.Log10(n)) // beyond that there is less than one operation
	var points plotter.XYs
	for y := 0.0; y <= most; y += 0.04 {
		q := 100 * (1 - math.Pow(10, -y))
		v := math.Max(1, float64(max(l.ValueAtQuantile(q), l.Min())))
		points = append(points, plotter.XY{X: math.Log10(v), Y: y})
	}
	return points
}

func addLine(p *plot.Plot, name string, points plotter.XYs) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = ink(name), vg.Points(1.3)
	if name == "alder" {
		line.Width = vg.Points(2.6)
	}
	p.Add(line)
	return nil
}

// timeTicks are marks of a logarithmic axis of nanoseconds.
func timeTicks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Floor(low); power <= math.Ceil(high); power++ {
		label := ""
		switch n := math.Pow(10, math.Mod(power, 3)); {
		case power < 3:
			label = fmt.Sprintf("%g ns", n)
		case power < 6:
			label = fmt.Sprintf("%g µs", n)
		case power < 9:
			label = fmt.Sprintf("%g ms", n)
		default:
			label = fmt.Sprintf("%g s", n)
		}
		if power >= low && power <= high {
			ticks = append(ticks, plot.Tick{Value: power, Label: label})
		}
	}
	return ticks
}

// overTime draws the operations of each second of a long workload.
func (r *Report) overTime(g *group) (*chart, error) {
	p := newPlot()
	p.Add(grid())
	lines := 0
	for _, e := range g.order {
		for _, t := range g.engines[e] {
			if len(t.Series) < 2 {
				continue
			}
			var points plotter.XYs
			for _, s := range t.Series {
				points = append(points, plotter.XY{X: float64(s.Second), Y: math.Log10(math.Max(1, s.Ops))})
			}
			if err := addLine(p, e, points); err != nil {
				return nil, err
			}
			lines++
			break // one repetition shows the shape
		}
	}
	if lines == 0 {
		return nil, nil
	}
	p.X.Label.Text, p.Y.Label.Text = "seconds", "operations per second"
	p.X.Max += 0.02 * (p.X.Max - p.X.Min) // room for the last number
	p.Y.Tick.Marker = plot.ConstantTicks(powerTicks(p.Y.Min, p.Y.Max))
	svg, err := drawn(p, 2*chartWidth, chartHeight)
	if err != nil {
		return nil, err
	}
	return &chart{Title: g.name, Caption: g.def.Title, SVG: svg}, nil
}

// powerTicks are marks of a logarithmic axis, more between the powers of ten where few of those fit.
func powerTicks(low, high float64) []plot.Tick {
	steps := []float64{1}
	switch {
	case high-low < 0.7:
		steps = []float64{1, 1.5, 2, 3, 4, 5, 7}
	case high-low < 2:
		steps = []float64{1, 2, 5}
	}
	var ticks []plot.Tick
	for power := math.Floor(low); power <= math.Ceil(high); power++ {
		for _, step := range steps {
			v := step * math.Pow(10, power)
			if x := math.Log10(v); x >= low && x <= high {
				ticks = append(ticks, plot.Tick{Value: x, Label: thousands(v)})
			}
		}
	}
	return ticks
}

// scaling is a family of workloads that differ in one knob.
type scaling struct {
	title, axis string
	workloads   []string
	knob        func(workload.Params) int
}

var scalings = []scaling{
	{"random Get over goroutines (R1, R3)", "goroutines", []string{"R1", "R1@g=2", "R1@g=4", "R3", "R1@g=16"},
		func(p workload.Params) int { return p.Goroutines }},
	{"durable put over goroutines (W1, W2, W3)", "goroutines", []string{"W1", "W1@g=4", "W2", "W1@g=16", "W3"},
		func(p workload.Params) int { return p.Goroutines }},
	{"random Get over data size (R1)", "records", []string{"R1@n=0.01x", "R1@n=0.1x", "R1", "R1@n=10x"}, recordsOf},
	{"random Get over data size (R2, R4)", "records", []string{"R2@n=0.01x", "R2@n=0.1x", "R2", "R4"}, recordsOf},
	{"random Get over data size (R3)", "records", []string{"R3@n=0.01x", "R3@n=0.1x", "R3", "R3@n=10x"}, recordsOf},
	{"durable puts, 100 per transaction, over data size (W4)", "records",
		[]string{"W4@n=0.01x", "W4@n=0.1x", "W4", "W4@n=10x"}, recordsOf},
	{"random Get over value size (R2, a tenth of the records)", "bytes of a value",
		[]string{"R2@n=0.1x,v=20", "R2@n=0.1x", "R2@n=0.1x,v=1000", "R2@n=0.1x,v=10000"}, valueOf},
	{"random Get over value size (R1, a hundredth of the records)", "bytes of a value",
		[]string{"R1@n=0.01x,v=16", "R1@n=0.01x", "R1@n=0.01x,v=1000", "R1@n=0.01x,v=10000", "R1@n=0.01x,v=65536"}, valueOf},
	{"random Get over value size (R2, a hundredth of the records)", "bytes of a value",
		[]string{"R2@n=0.01x,v=16", "R2@n=0.01x", "R2@n=0.01x,v=1000", "R2@n=0.01x,v=10000", "R2@n=0.01x,v=65536"}, valueOf},
	{"random Get over value size (R3, a hundredth of the records)", "bytes of a value",
		[]string{"R3@n=0.01x,v=16", "R3@n=0.01x", "R3@n=0.01x,v=1000", "R3@n=0.01x,v=10000", "R3@n=0.01x,v=65536"}, valueOf},
	{"durable puts, 100 per transaction, over value size (W4, a tenth of the records)", "bytes of a value",
		[]string{"W4@n=0.1x,v=20", "W4@n=0.1x", "W4@n=0.1x,v=1000", "W4@n=0.1x,v=10000"}, valueOf},
	{"random Get over page size (R2, a tenth of the records)", "bytes of a page",
		[]string{"R2@n=0.1x", "R2@n=0.1x,page=16384", "R2@n=0.1x,page=65536"}, pageOf},
	{"random Get over page size (R1, a tenth of the records)", "bytes of a page",
		[]string{"R1@n=0.1x", "R1@n=0.1x,page=16384", "R1@n=0.1x,page=65536"}, pageOf},
	{"random Get over page size (R3, a tenth of the records)", "bytes of a page",
		[]string{"R3@n=0.1x", "R3@n=0.1x,page=16384", "R3@n=0.1x,page=65536"}, pageOf},
	{"durable puts, 100 per transaction, over page size (W4, a tenth of the records)", "bytes of a page",
		[]string{"W4@n=0.1x", "W4@n=0.1x,page=16384", "W4@n=0.1x,page=65536"}, pageOf},
}

func recordsOf(p workload.Params) int { return p.Records }
func valueOf(p workload.Params) int   { return p.ValueSize }

// pageOf is the size of a page; the engines that take part have the same default.
func pageOf(p workload.Params) int {
	const usual = 4096
	return cmp.Or(p.PageSize, usual)
}

// scales draws operations per second over a knob, both logarithmic.
func (r *Report) scales(s scaling) (*chart, error) {
	points := map[string]plotter.XYs{}
	var order []string
	ticks := map[int]bool{}
	for _, name := range s.workloads {
		g := r.workloads[name]
		if g == nil {
			continue
		}
		for _, e := range g.order {
			f, ok := r.figure(name, e, "ops/s")
			if !ok || f.Median <= 0 {
				continue
			}
			if points[e] == nil {
				order = append(order, e)
			}
			x := s.knob(g.params)
			ticks[x] = true
			points[e] = append(points[e], plotter.XY{X: math.Log10(float64(x)), Y: math.Log10(f.Median)})
		}
	}
	if len(ticks) < 2 {
		return nil, nil
	}
	p := newPlot()
	p.Add(grid())
	for _, e := range order {
		if len(points[e]) < 2 {
			continue
		}
		slices.SortFunc(points[e], func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
		if err := addLine(p, e, points[e]); err != nil {
			return nil, err
		}
		dots, err := plotter.NewScatter(points[e])
		if err != nil {
			return nil, err
		}
		dots.Color, dots.Shape, dots.Radius = ink(e), draw.CircleGlyph{}, vg.Points(2.5)
		p.Add(dots)
	}
	var marks plot.ConstantTicks
	for _, x := range sortedKeys(ticks) {
		marks = append(marks, plot.Tick{Value: math.Log10(float64(x)), Label: thousands(float64(x))})
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = marks, plot.ConstantTicks(powerTicks(p.Y.Min, p.Y.Max))
	p.X.Label.Text, p.Y.Label.Text = s.axis, "operations per second"
	p.X.Max += 0.12 * (p.X.Max - p.X.Min) // room for the last number
	svg, err := drawn(p, chartWidth, chartHeight)
	if err != nil {
		return nil, err
	}
	return &chart{Title: s.title, SVG: svg}, nil
}
