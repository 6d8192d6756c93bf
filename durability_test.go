package alder_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// survivors returns the keys of the bucket b that are there if this process is killed now.
func (db *testDB) survivors() (keys []string) {
	db.t.Helper()
	content, err := os.ReadFile(db.file)
	require.NoError(db.t, err)
	left := filepath.Join(tempDir(db.t), "killed.db")
	require.NoError(db.t, os.WriteFile(left, content, 0o600))
	copied := openAt(db.t, left)
	copied.view(func(tx *alder.Tx) {
		if b := tx.Bucket([]byte("b")); b != nil {
			keys = keysOf(b)
		}
	})
	copied.mustClose()
	return keys
}

// putAt commits a key in a transaction of the level.
func (db *testDB) putAt(level alder.Durability, key string) {
	db.t.Helper()
	db.update(func(tx *alder.Tx) {
		require.NoError(db.t, tx.SetDurability(level))
		require.NoError(db.t, tx.Bucket([]byte("b")).Put([]byte(key), []byte("v")))
	})
}

// Ensures what each level promises, in stores of each level: what is there after a kill, and when readers see it.
func TestTx_SetDurability(t *testing.T) {
	for _, lazyStore := range []bool{false, true} {
		db := openTemp(t, func(o *alder.Options) {
			o.SyncInterval = time.Hour
			if lazyStore {
				o.Durability = alder.DurabilityLazy
			}
		})
		db.put("b", "0", "v")
		require.NoError(t, db.Sync())
		seen := func() (keys []string) {
			db.view(func(tx *alder.Tx) { keys = keysOf(tx.Bucket([]byte("b"))) })
			return keys
		}

		db.putAt(alder.DurabilityLazy, "1")
		require.Equal(t, []string{"0"}, db.survivors())
		if lazyStore {
			require.Equal(t, []string{"0", "1"}, seen())
		} else {
			require.Equal(t, []string{"0"}, seen(), "in a full store nothing is seen that a crash can take back")
		}
		db.putAt(alder.DurabilityFull, "2")
		require.Equal(t, []string{"0", "1", "2"}, db.survivors(), "a full transaction takes those before it along")
		require.Equal(t, []string{"0", "1", "2"}, seen())
		db.putAt(alder.DurabilityLazy, "3")
		require.NoError(t, db.Sync())
		require.Equal(t, []string{"0", "1", "2", "3"}, db.survivors())
		require.Equal(t, []string{"0", "1", "2", "3"}, seen())
		db.putAt(alder.DurabilityDefault, "4")
		if lazyStore {
			require.Equal(t, []string{"0", "1", "2", "3"}, db.survivors())
		} else {
			require.Equal(t, []string{"0", "1", "2", "3", "4"}, db.survivors())
		}

		// The last call counts.
		db.update(func(tx *alder.Tx) {
			for _, level := range []alder.Durability{alder.DurabilityFull, alder.DurabilityDefault, alder.DurabilityLazy} {
				require.NoError(t, tx.SetDurability(level))
			}
			require.NoError(t, tx.Bucket([]byte("b")).Put([]byte("5"), nil))
		})
		require.NotContains(t, db.survivors(), "5")
		db.reopen()
		require.Equal(t, []string{"0", "1", "2", "3", "4", "5"}, seen(), "Close makes everything durable")
	}
}

// Ensures that NoSync, which programs for bbolt set, does not weaken a level that was asked for: a store that was opened in full durability once was
// lazy because of it.
func TestOptions_DurabilityBeforeNoSync(t *testing.T) {
	for level, want := range map[alder.Durability][]string{
		alder.DurabilityDefault: nil, alder.DurabilityLazy: nil, alder.DurabilityFull: {"0"},
	} {
		db := openTemp(t, func(o *alder.Options) { o.SyncInterval, o.NoSync, o.Durability = time.Hour, true, level })
		db.put("b", "0", "v")
		require.Equal(t, want, db.survivors(), level)
	}
}

// Ensures that DB.NoSync changes the level from one transaction to the next.
func TestDB_NoSync_Levels(t *testing.T) {
	db := openTemp(t, func(o *alder.Options) { o.SyncInterval = time.Hour })
	db.put("b", "0", "v")
	db.put("b", "1", "v")
	db.NoSync = true
	db.put("b", "2", "v")
	require.Equal(t, []string{"0", "1"}, db.survivors())
	db.NoSync = false
	db.put("b", "3", "v")
	require.Equal(t, []string{"0", "1", "2", "3"}, db.survivors())
}

// Ensures that a lazy transaction is durable after the interval without anybody's help.
func TestOptions_SyncInterval(t *testing.T) {
	db := openTemp(t, func(o *alder.Options) { o.SyncInterval, o.NoSync = 5*time.Millisecond, true })
	db.put("b", "0", "v")
	for deadline := time.Now().Add(20 * time.Second); len(db.survivors()) == 0; time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "it is still not durable")
	}
}

// Ensures what SetDurability refuses, and the names of levels.
func TestTx_SetDurability_Errors(t *testing.T) {
	db := openMemory(t)
	db.view(func(tx *alder.Tx) {
		require.ErrorIs(t, tx.SetDurability(alder.DurabilityFull), alder.ErrTxNotWritable)
	})
	tx := db.begin(true)
	for _, level := range []alder.Durability{-1, alder.DurabilityLazy + 1, 100} {
		require.ErrorContains(t, tx.SetDurability(level), "it must be from 0 to 2")
		_, err := alder.OpenMemory(&alder.Options{Durability: level})
		require.ErrorContains(t, err, "Durability")
		require.Equal(t, "unknown", level.String())
	}
	require.NoError(t, tx.SetDurability(alder.DurabilityLazy))
	require.NoError(t, tx.Commit())
	require.ErrorIs(t, tx.SetDurability(alder.DurabilityFull), alder.ErrTxClosed)
	require.Equal(t, "default full lazy", alder.DurabilityDefault.String()+" "+alder.DurabilityFull.String()+" "+alder.DurabilityLazy.String())
	_, err := alder.OpenMemory(&alder.Options{HistoryLimit: -1})
	require.ErrorContains(t, err, "HistoryLimit")
	_, err = alder.OpenMemory(&alder.Options{SyncInterval: -1})
	require.ErrorContains(t, err, "SyncInterval")
}
