// Package expvars publishes the metrics of an alder store with expvar, at /debug/vars of the program's default HTTP handler.
package expvars

import (
	"expvar"
	"strconv"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/metrics"
)

// Publish publishes the metrics of the store under name, as an object with the names of package metrics. A name can be published once;
// Publish panics at the second time, as expvar does. After the store has been closed the gauges are 0 and the counters stay.
func Publish(name string, db *alder.DB) { expvar.Publish(name, Var(db)) }

// Var returns the metrics of the store as a variable, for programs that publish or group them themselves.
func Var(db *alder.DB) expvar.Var {
	return expvar.Func(func() any {
		values := map[string]any{}
		for _, m := range metrics.Read(db) {
			values[m.Name] = m.Value
			if m.Kind == metrics.Histogram {
				values[m.Name] = histogram(m)
			}
		}
		return values
	})
}

// histogram is a histogram as an object: its sum, how often something was measured, and how often it was up to each of the bounds.
func histogram(m metrics.Metric) map[string]any {
	upTo := map[string]uint64{}
	for _, b := range m.Buckets {
		upTo[strconv.FormatFloat(b.UpTo, 'g', -1, 64)] = b.Count
	}
	return map[string]any{"sum": m.Value, "count": m.Buckets[len(m.Buckets)-1].Count, "up_to": upTo}
}
