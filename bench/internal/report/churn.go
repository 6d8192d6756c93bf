package report

import (
	"encoding/csv"
	"fmt"
	"image/color"
	"io"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The picture of a store's life that TestChurn of the root package measures: what the file is used for, its length, and the bound, over the transactions.

// churnSeries are the columns that are drawn, the topmost line first.
var churnSeries = []struct {
	name  string
	title string
	shade color.Color
	width vg.Length
	value func(get func(string) float64) float64
}{
	{"bound", "bound that the test asserts", color.NRGBA{0xbc, 0x4c, 0x00, 0xff}, 1, func(get func(string) float64) float64 { return get("bound") }},
	{"file", "file", color.NRGBA{0x0b, 0x62, 0xd6, 0xff}, 1.6, func(get func(string) float64) float64 { return get("file") }},
	{"pinned", "in use, and pinned by readers and the last checkpoint", color.NRGBA{0x82, 0x50, 0xdf, 0xff}, 0.8,
		func(get func(string) float64) float64 { return get("trees") + get("pinned") + get("log") }},
	{"trees", "in use", color.NRGBA{0x1a, 0x7f, 0x37, 0xff}, 0.8, func(get func(string) float64) float64 { return get("trees") }},
}

// maxChurnPoints is the number of points of a line: of the rows that fall on one the largest value is drawn.
const maxChurnPoints = 700

// Churn draws the CSV of TestChurn as an SVG.
func Churn(w io.Writer, measured io.Reader) error {
	rows, err := csv.NewReader(measured).ReadAll()
	if err != nil {
		return err
	}
	if len(rows) < 2 {
		return fmt.Errorf("no measurements")
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	for _, name := range []string{"steps", "file", "trees", "pinned", "log", "bound"} {
		if _, ok := column[name]; !ok {
			return fmt.Errorf("no column %q", name)
		}
	}
	rows = rows[1:]
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "transactions, thousands", "MB"
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Min = 0
	p.Add(plotter.NewGrid())
	per := (len(rows) + maxChurnPoints - 1) / maxChurnPoints
	for _, s := range churnSeries {
		var points plotter.XYs
		for i, row := range rows {
			get := func(name string) float64 {
				v, e := strconv.ParseFloat(row[column[name]], 64)
				if e != nil {
					err = fmt.Errorf("row %d: %w", i+1, e)
				}
				return v
			}
			y := s.value(get) / 1e6
			if err != nil {
				return err
			}
			if i%per == 0 {
				points = append(points, plotter.XY{X: get("steps") / 1000, Y: y})
			} else if last := &points[len(points)-1]; y > last.Y {
				last.Y = y
			}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = s.shade, vg.Points(float64(s.width))
		p.Add(line)
		p.Legend.Add(s.title, line)
	}
	p.Y.Max *= 1.25 // room for the legend
	canvas := vgsvg.New(24*vg.Centimeter, 11*vg.Centimeter)
	p.Draw(draw.New(canvas))
	_, err = canvas.WriteTo(w)
	return err
}
