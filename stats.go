package alder

import (
	"slices"
	"time"
)

// Stats are facts about an open store, as DB.Stats returns them. Names and meanings are those of bbolt, but for the last three fields.
type Stats struct {
	TxStats TxStats // sum over all write transactions that have ended

	FreePageN     int // pages that can be reused now
	PendingPageN  int // pages that can be reused when snapshots that hold them are let go
	FreeAlloc     int // bytes of both
	FreelistInuse int // bytes of the free map on disk

	TxN     int // read transactions begun
	OpenTxN int // read transactions open

	Log         LogStats        // what was written to the redo log
	Checkpoints CheckpointStats // what was written by checkpoints
	Commits     Latencies       // of commits, from the call of Commit to its return, rollbacks not among them
}

// LogStats are counters of the redo log.
type LogStats struct {
	Frames       int64 // durable writes: each makes a group of transactions durable, or leads to another part of the log
	Transactions int64 // in those groups
	Bytes        int64 // of those writes
}

// CheckpointStats are counters of checkpoints.
type CheckpointStats struct {
	Count int64         // checkpoints, those by which a large transaction commits among them
	Bytes int64         // of pages that they wrote themselves, besides those that had been written before
	Time  time.Duration // from their begin until they were durable
}

// latencyBounds are what LatencyBounds returns.
var latencyBounds = []time.Duration{
	20 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second,
}

// LatencyBounds returns the upper bounds of the buckets of Latencies, in rising order; the last bucket has none. A later version may have other ones.
func LatencyBounds() []time.Duration { return slices.Clone(latencyBounds) }

// Latencies counts how long something took.
type Latencies struct {
	// Buckets says how often it took no longer than the bound of the same index in LatencyBounds, and longer than the one before. It has one element more than
	// there are bounds, or none with Options.NoStatistics.
	Buckets []int64
	Sum     time.Duration // how long it took in all
}

// Count is how often it was.
func (l *Latencies) Count() int64 {
	n := int64(0)
	for _, b := range l.Buckets {
		n += b
	}
	return n
}

// add counts one more.
func (l *Latencies) add(d time.Duration) {
	if l.Buckets == nil {
		l.Buckets = make([]int64, len(latencyBounds)+1)
	}
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	l.Buckets[i]++
	l.Sum += d
}

// copied returns l with buckets of its own, also if nothing has been counted yet.
func (l *Latencies) copied() Latencies {
	c := Latencies{Buckets: make([]int64, len(latencyBounds)+1), Sum: l.Sum}
	copy(c.Buckets, l.Buckets)
	return c
}

// Sub returns the difference between two Stats of a store: counters as s minus other, the rest as in s.
func (s *Stats) Sub(other *Stats) Stats {
	if other == nil {
		return *s
	}
	d := *s
	d.TxN -= other.TxN
	d.TxStats = s.TxStats.Sub(&other.TxStats)
	d.Log.Frames -= other.Log.Frames
	d.Log.Transactions -= other.Log.Transactions
	d.Log.Bytes -= other.Log.Bytes
	d.Checkpoints.Count -= other.Checkpoints.Count
	d.Checkpoints.Bytes -= other.Checkpoints.Bytes
	d.Checkpoints.Time -= other.Checkpoints.Time
	d.Commits.Buckets = slices.Clone(s.Commits.Buckets)
	for i, n := range other.Commits.Buckets {
		if i < len(d.Commits.Buckets) { // else s is that of a store without statistics
			d.Commits.Buckets[i] -= n
		}
	}
	d.Commits.Sum -= other.Commits.Sum
	return d
}

// TxStats are counters of write transactions. Those that only bbolt's design knows stay zero.
type TxStats struct {
	PageCount     int64         // pages allocated
	PageAlloc     int64         // bytes allocated
	CursorCount   int64         // cursors made
	NodeCount     int64         // always zero
	NodeDeref     int64         // always zero
	Rebalance     int64         // merges of pages, and moves of keys between neighbors
	RebalanceTime time.Duration // always zero
	Split         int64         // splits of leaves
	Spill         int64         // times that dirty pages were written before the commit to make room
	SpillTime     time.Duration // time spent with that
	Write         int64         // writes of dirty pages
	WriteTime     time.Duration // time spent in commits
}

func (s *TxStats) add(o *TxStats) {
	s.PageCount += o.PageCount
	s.PageAlloc += o.PageAlloc
	s.CursorCount += o.CursorCount
	s.NodeCount += o.NodeCount
	s.NodeDeref += o.NodeDeref
	s.Rebalance += o.Rebalance
	s.RebalanceTime += o.RebalanceTime
	s.Split += o.Split
	s.Spill += o.Spill
	s.SpillTime += o.SpillTime
	s.Write += o.Write
	s.WriteTime += o.WriteTime
}

// Sub returns s minus other, counter by counter.
func (s *TxStats) Sub(other *TxStats) TxStats {
	return TxStats{
		PageCount:     s.PageCount - other.PageCount,
		PageAlloc:     s.PageAlloc - other.PageAlloc,
		CursorCount:   s.CursorCount - other.CursorCount,
		NodeCount:     s.NodeCount - other.NodeCount,
		NodeDeref:     s.NodeDeref - other.NodeDeref,
		Rebalance:     s.Rebalance - other.Rebalance,
		RebalanceTime: s.RebalanceTime - other.RebalanceTime,
		Split:         s.Split - other.Split,
		Spill:         s.Spill - other.Spill,
		SpillTime:     s.SpillTime - other.SpillTime,
		Write:         s.Write - other.Write,
		WriteTime:     s.WriteTime - other.WriteTime,
	}
}

// GetPageCount returns PageCount.
func (s *TxStats) GetPageCount() int64 { return s.PageCount }

// GetPageAlloc returns PageAlloc.
func (s *TxStats) GetPageAlloc() int64 { return s.PageAlloc }

// GetCursorCount returns CursorCount.
func (s *TxStats) GetCursorCount() int64 { return s.CursorCount }

// GetNodeCount returns NodeCount.
func (s *TxStats) GetNodeCount() int64 { return s.NodeCount }

// GetNodeDeref returns NodeDeref.
func (s *TxStats) GetNodeDeref() int64 { return s.NodeDeref }

// GetRebalance returns Rebalance.
func (s *TxStats) GetRebalance() int64 { return s.Rebalance }

// GetRebalanceTime returns RebalanceTime.
func (s *TxStats) GetRebalanceTime() time.Duration { return s.RebalanceTime }

// GetSplit returns Split.
func (s *TxStats) GetSplit() int64 { return s.Split }

// GetSpill returns Spill.
func (s *TxStats) GetSpill() int64 { return s.Spill }

// GetSpillTime returns SpillTime.
func (s *TxStats) GetSpillTime() time.Duration { return s.SpillTime }

// GetWrite returns Write.
func (s *TxStats) GetWrite() int64 { return s.Write }

// GetWriteTime returns WriteTime.
func (s *TxStats) GetWriteTime() time.Duration { return s.WriteTime }

// BucketStats are facts about a bucket, as Bucket.Stats returns them. Names and meanings are those of bbolt; overflow pages are the
// runs of long keys and values.
type BucketStats struct {
	BranchPageN     int // branch pages
	BranchOverflowN int // pages of long separators
	LeafPageN       int // leaf pages
	LeafOverflowN   int // pages of long keys and values

	KeyN  int // keys, nested buckets included
	Depth int // levels of the tree, those of nested buckets added

	BranchAlloc int // bytes of branch pages
	BranchInuse int // bytes in use in them
	LeafAlloc   int // bytes of leaf pages
	LeafInuse   int // bytes in use in them

	BucketN           int // buckets, this one included
	InlineBucketN     int // buckets that are stored inside their parent's leaf
	InlineBucketInuse int // bytes in use in those; also part of their parents' LeafInuse
}

// Add adds the facts about another bucket.
func (s *BucketStats) Add(o BucketStats) {
	s.BranchPageN += o.BranchPageN
	s.BranchOverflowN += o.BranchOverflowN
	s.LeafPageN += o.LeafPageN
	s.LeafOverflowN += o.LeafOverflowN
	s.KeyN += o.KeyN
	s.Depth = max(s.Depth, o.Depth)
	s.BranchAlloc += o.BranchAlloc
	s.BranchInuse += o.BranchInuse
	s.LeafAlloc += o.LeafAlloc
	s.LeafInuse += o.LeafInuse
	s.BucketN += o.BucketN
	s.InlineBucketN += o.InlineBucketN
	s.InlineBucketInuse += o.InlineBucketInuse
}

// BucketStructure says which buckets lie in which, as Inspect returns it.
type BucketStructure struct {
	Name     string            `json:"name"`              // name of the bucket
	KeyN     int               `json:"keyN"`              // keys in it, without nested buckets
	Children []BucketStructure `json:"buckets,omitempty"` // nested buckets
}
