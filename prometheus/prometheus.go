// Package prometheus collects the metrics of an alder store for Prometheus. docs/metrics.md of the store's module lists them.
package prometheus

import (
	client "github.com/prometheus/client_golang/prometheus"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/metrics"
)

// Collector collects the metrics of one store, whenever Prometheus asks. Register it in a registry.
type Collector struct {
	db    *alder.DB
	descs map[string]*client.Desc
}

var _ client.Collector = (*Collector)(nil)

// NewCollector returns a collector for the store. labels are added to every metric; several stores in one registry need different ones.
// The collector may stay registered when the store has been closed: the gauges are 0 then.
func NewCollector(db *alder.DB, labels client.Labels) *Collector {
	c := &Collector{db: db, descs: map[string]*client.Desc{}}
	for _, m := range metrics.Read(db) {
		c.descs[m.Name] = client.NewDesc(m.Name, m.Help, nil, labels)
	}
	return c
}

// Describe sends what is collected.
func (c *Collector) Describe(to chan<- *client.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect sends the values of now.
func (c *Collector) Collect(to chan<- client.Metric) {
	for _, m := range metrics.Read(c.db) {
		if m.Kind == metrics.Histogram {
			buckets := map[float64]uint64{}
			for _, b := range m.Buckets[:len(m.Buckets)-1] {
				buckets[b.UpTo] = b.Count
			}
			to <- client.MustNewConstHistogram(c.descs[m.Name], m.Buckets[len(m.Buckets)-1].Count, m.Value, buckets)
			continue
		}
		kind := client.GaugeValue
		if m.Kind == metrics.Counter {
			kind = client.CounterValue
		}
		to <- client.MustNewConstMetric(c.descs[m.Name], kind, m.Value)
	}
}
