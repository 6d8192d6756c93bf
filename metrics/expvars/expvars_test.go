package expvars_test

import (
	"encoding/json"
	"expvar"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/metrics"
	"github.com/alderdb/alder/metrics/expvars"
)

// Ensures that what is published is what is measured, at the moment it is asked for, and also when the store is closed.
func TestPublish(t *testing.T) {
	db, err := alder.OpenMemory(nil)
	require.NoError(t, err)
	expvars.Publish("mystore", db)
	all := func() (v map[string]any) {
		require.NoError(t, json.Unmarshal([]byte(expvar.Get("mystore").String()), &v))
		return v
	}
	values := func() map[string]float64 {
		v := map[string]float64{}
		for name, value := range all() {
			if n, ok := value.(float64); ok {
				v[name] = n
			}
		}
		return v
	}
	before := values()
	require.Len(t, all(), len(metrics.Read(db)))
	require.NoError(t, db.Update(func(tx *alder.Tx) error {
		_, err := tx.CreateBucket([]byte("b"))
		return err
	}))
	after := values()
	require.Equal(t, before["alder_last_transaction"]+1, after["alder_last_transaction"])
	require.Greater(t, after["alder_pages_allocated_total"], before["alder_pages_allocated_total"])
	times := all()["alder_commit_duration_seconds"].(map[string]any)
	require.EqualValues(t, 1, times["count"])
	require.EqualValues(t, 1, times["up_to"].(map[string]any)["+Inf"])
	require.Panics(t, func() { expvars.Publish("mystore", db) })
	require.NoError(t, db.Close())
	require.Zero(t, values()["alder_file_bytes"])
}
