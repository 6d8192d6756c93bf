// Package metrics says what can be measured of an open alder store, under names that stay. metrics/expvars publishes it with the standard
// library's expvar, the module github.com/alderdb/alder/prometheus as a Prometheus collector. docs/metrics.md lists the names.
package metrics

import (
	"math"
	"time"

	"github.com/alderdb/alder"
)

// Kind says how a metric's value moves.
type Kind uint8

const (
	Gauge     Kind = iota // goes up and down
	Counter               // only goes up, from 0 when the store is opened
	Histogram             // Value is the sum of what was measured, Buckets say how often it was how large
)

// Bucket is one of the buckets of a histogram.
type Bucket struct {
	UpTo  float64 // upper bound, included; +Inf for the last one
	Count uint64  // how often it was no larger, those of the buckets before included
}

// Metric is one measured value.
type Metric struct {
	Name  string  // as Prometheus names them: with alder_ in front, and the unit at the end; counters end in _total
	Help  string  // one sentence
	Kind  Kind    // says what Value is
	Value float64 // of a histogram: the sum of what was measured

	Buckets []Bucket // of a histogram, in ascending order
}

// Read returns the metrics of the store, always the same ones in the same order. It waits for nobody. With Options.NoStatistics the counters
// stay 0. Cost: that of DB.Readers.
func Read(db *alder.DB) []Metric {
	space, stats := db.Space(), db.Stats()
	var oldest time.Duration
	for _, r := range db.Readers() {
		oldest = max(oldest, r.Age)
	}
	failed := 0.0
	if db.Failed() != nil {
		failed = 1
	}
	tx := stats.TxStats
	return []Metric{
		gauge("alder_failed", "1 if the store is in the failed state and must be opened again, else 0.", failed),
		gauge("alder_last_transaction", "Number of the newest committed transaction.", float64(space.TxID)),

		gauge("alder_file_bytes", "Length of the file.", float64(space.File)),
		gauge("alder_tree_bytes", "Bytes in use for keys, values and the pages that lead to them.", float64(space.Trees)),
		gauge("alder_free_bytes", "Bytes that can be used again at once.", float64(space.Free)),
		gauge("alder_pinned_bytes", "Bytes given up that a snapshot still has.", float64(space.Pinned)),
		gauge("alder_free_map_bytes", "Bytes of the map of free pages.", float64(space.Map)),
		gauge("alder_log_bytes", "Bytes of the redo log.", float64(space.Log)),
		gauge("alder_reserve_bytes", "Bytes behind the last page that was ever used.", float64(space.Reserve)),

		gauge("alder_readers", "Open read transactions.", float64(space.Readers)),
		gauge("alder_oldest_reader_seconds", "Time since the oldest open read transaction was noticed; see DB.Readers.", oldest.Seconds()),
		gauge("alder_oldest_reader_transactions", "Transactions since the oldest snapshot that is being read.", float64(space.Behind)),

		counter("alder_read_transactions_total", "Read transactions begun.", float64(stats.TxN)),
		counter("alder_pages_allocated_total", "Pages allocated by write transactions.", float64(tx.PageCount)),
		counter("alder_leaf_splits_total", "Splits of leaves.", float64(tx.Split)),
		counter("alder_page_merges_total", "Merges of pages, and moves of keys between neighbors.", float64(tx.Rebalance)),
		counter("alder_page_writes_total", "Writes of pages, neighbors counted as one.", float64(tx.Write)),
		counter("alder_commit_seconds_total", "Time spent in commits.", tx.WriteTime.Seconds()),
		histogram("alder_commit_duration_seconds", "Time from the call of Commit to its return.", &stats.Commits),
		counter("alder_log_frames_total", "Durable writes to the redo log, each of a group of transactions.", float64(stats.Log.Frames)),
		counter("alder_log_transactions_total", "Transactions in those groups.", float64(stats.Log.Transactions)),
		counter("alder_log_written_bytes_total", "Bytes of those writes.", float64(stats.Log.Bytes)),
		counter("alder_checkpoints_total", "Checkpoints.", float64(stats.Checkpoints.Count)),
		counter("alder_checkpoint_bytes_total", "Bytes of pages that checkpoints wrote themselves.", float64(stats.Checkpoints.Bytes)),
		counter("alder_checkpoint_seconds_total", "Time from the begin of checkpoints until they were durable.", stats.Checkpoints.Time.Seconds()),
		counter("alder_spills_total", "Times that pages were written before the commit to make room in memory.", float64(tx.Spill)),
		counter("alder_spill_seconds_total", "Time spent with that.", tx.SpillTime.Seconds()),
	}
}

func gauge(name, help string, value float64) Metric {
	return Metric{Name: name, Help: help, Kind: Gauge, Value: value}
}

func counter(name, help string, value float64) Metric {
	return Metric{Name: name, Help: help, Kind: Counter, Value: value}
}

func histogram(name, help string, l *alder.Latencies) Metric {
	m := Metric{Name: name, Help: help, Kind: Histogram, Value: l.Sum.Seconds()}
	for _, bound := range alder.LatencyBounds() {
		m.Buckets = append(m.Buckets, Bucket{UpTo: bound.Seconds()})
	}
	m.Buckets = append(m.Buckets, Bucket{UpTo: math.Inf(1)})
	n := uint64(0)
	for i := range m.Buckets {
		if i < len(l.Buckets) { // a store without statistics has none
			n += uint64(l.Buckets[i])
		}
		m.Buckets[i].Count = n
	}
	return m
}
