package prometheus_test

import (
	"strings"
	"testing"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/metrics"
	"github.com/alderdb/alder/prometheus"
)

// Ensures that a registry accepts the collectors of two stores, that Prometheus' own rules find nothing, and that values are those of the
// store at the moment, also when it is closed.
func TestCollector(t *testing.T) {
	registry := client.NewPedanticRegistry()
	stores := map[string]*alder.DB{}
	for _, name := range []string{"a", "b"} {
		db, err := alder.OpenMemory(nil)
		require.NoError(t, err)
		stores[name] = db
		require.NoError(t, registry.Register(prometheus.NewCollector(db, client.Labels{"store": name})))
	}
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	n, err := testutil.GatherAndCount(registry)
	require.NoError(t, err)
	require.Equal(t, 2*len(metrics.Read(stores["a"])), n)

	tx, err := stores["b"].Begin(false)
	require.NoError(t, err)
	readers := func(b string) {
		t.Helper()
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP alder_readers Open read transactions.
# TYPE alder_readers gauge
alder_readers{store="a"} 0
alder_readers{store="b"} `+b+`
`), "alder_readers"))
	}
	readers("1")
	require.NoError(t, tx.Rollback())
	require.NoError(t, stores["b"].Close())
	readers("0")
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP alder_read_transactions_total Read transactions begun.
# TYPE alder_read_transactions_total counter
alder_read_transactions_total{store="a"} 0
alder_read_transactions_total{store="b"} 1
`), "alder_read_transactions_total"))
	require.NoError(t, stores["a"].Close())
}
