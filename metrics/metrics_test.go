package metrics_test

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/metrics"
)

func values(db *alder.DB) map[string]float64 {
	all := map[string]float64{}
	for _, m := range metrics.Read(db) {
		all[m.Name] = m.Value
	}
	return all
}

// Ensures that names follow the rules of Prometheus, and that docs/metrics.md lists them all, in this order, with the same words.
func TestNames(t *testing.T) {
	data, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\| (.*) \\|$").FindAllStringSubmatch(strings.ReplaceAll(string(data), "\r", ""), -1)
	db, err := alder.OpenMemory(nil)
	require.NoError(t, err)
	all := metrics.Read(db)
	require.NoError(t, db.Close())
	require.Len(t, rows, len(all))
	for i, m := range all {
		kind := map[metrics.Kind]string{metrics.Gauge: "gauge", metrics.Counter: "counter", metrics.Histogram: "histogram"}[m.Kind]
		require.Equal(t, []string{m.Name, kind, m.Help}, rows[i][1:])
		require.Regexp(t, "^alder_[a-z_]+$", m.Name)
		require.Equal(t, m.Kind == metrics.Counter, strings.HasSuffix(m.Name, "_total"), m.Name)
		require.True(t, strings.HasSuffix(m.Help, "."), m.Name)
	}
}

// Ensures that the bytes add up to the file, that readers are counted, and that the counters count.
func TestRead(t *testing.T) {
	db, err := alder.Open(filepath.Join(t.TempDir(), "store"), 0o600, nil)
	require.NoError(t, err)
	defer db.Close()
	put := func(n int, v byte) {
		require.NoError(t, db.Update(func(tx *alder.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := 0; i < n && err == nil; i++ {
				err = b.Put([]byte{byte(i >> 8), byte(i)}, []byte{v, v, v})
			}
			return err
		}))
	}
	put(5000, 1)
	tx, err := db.Begin(false)
	require.NoError(t, err)
	put(5000, 2)
	put(5000, 3)
	var v map[string]float64
	require.Eventually(t, func() bool {
		v = values(db)
		sum := 3 * float64(db.PageSize()) // the two meta pages and the owner page
		for _, name := range []string{"tree", "free", "pinned", "free_map", "log", "reserve"} {
			sum += v["alder_"+name+"_bytes"]
		}
		return sum == v["alder_file_bytes"]
	}, 10*time.Second, time.Millisecond, "but for moments in which a checkpoint begins, or the log grows")
	require.Greater(t, v["alder_tree_bytes"], 5000.0*5)
	require.Greater(t, v["alder_pinned_bytes"], v["alder_tree_bytes"]/2)
	require.Equal(t, 1.0, v["alder_readers"])
	require.Equal(t, 2.0, v["alder_oldest_reader_transactions"])
	require.Positive(t, v["alder_oldest_reader_seconds"])
	require.Positive(t, v["alder_commit_seconds_total"])
	require.Positive(t, v["alder_leaf_splits_total"])
	require.Positive(t, v["alder_log_frames_total"])
	require.EqualValues(t, 2, v["alder_log_transactions_total"], "the first commit is a checkpoint")
	require.GreaterOrEqual(t, v["alder_log_written_bytes_total"], 4096*v["alder_log_frames_total"])
	require.Positive(t, v["alder_checkpoints_total"])
	require.Positive(t, v["alder_checkpoint_bytes_total"])
	require.Positive(t, v["alder_checkpoint_seconds_total"])
	for _, m := range metrics.Read(db) {
		if m.Kind != metrics.Histogram {
			require.Empty(t, m.Buckets)
			continue
		}
		require.Equal(t, v["alder_commit_seconds_total"], m.Value)
		last := m.Buckets[len(m.Buckets)-1]
		require.True(t, math.IsInf(last.UpTo, 1))
		require.EqualValues(t, 3, last.Count)
		for i := 1; i < len(m.Buckets); i++ {
			require.Greater(t, m.Buckets[i].UpTo, m.Buckets[i-1].UpTo)
			require.GreaterOrEqual(t, m.Buckets[i].Count, m.Buckets[i-1].Count)
		}
	}
	require.Zero(t, v["alder_failed"])
	require.NoError(t, tx.Rollback())

	// Without statistics a histogram has its buckets, and nothing in them.
	quiet, err := alder.OpenMemory(&alder.Options{NoStatistics: true})
	require.NoError(t, err)
	require.NoError(t, quiet.Update(func(tx *alder.Tx) error { return nil }))
	for _, m := range metrics.Read(quiet) {
		if m.Kind == metrics.Histogram {
			require.Len(t, m.Buckets, len(alder.LatencyBounds())+1)
			require.Zero(t, m.Buckets[len(m.Buckets)-1].Count)
		}
	}
	require.NoError(t, quiet.Close())

	// Beside a writer nobody waits, and the numbers are near.
	w, err := db.Begin(true)
	require.NoError(t, err)
	beside := values(db)
	require.InDelta(t, v["alder_file_bytes"], beside["alder_file_bytes"], v["alder_file_bytes"])
	require.InDelta(t, v["alder_tree_bytes"], beside["alder_tree_bytes"], v["alder_tree_bytes"])
	require.Zero(t, beside["alder_readers"])
	require.NoError(t, w.Rollback())
}
