package alder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that transaction numbers of more than 32 bits are given out whole, on 32-bit systems too.
//
// ReaderInfo, Space and SalvageReport had them as an int.
func TestTransactionNumbers_Wide(t *testing.T) {
	const number uint64 = 1<<40 + 7
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, nil)
	require.NoError(t, err)
	put := func() {
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			return b.Put([]byte("k"), []byte("v"))
		}))
	}
	put()
	require.NoError(t, db.Close())
	require.NoError(t, rewriteMeta(path, func(m *meta) error { m.txid = txid(number); return nil }))

	report, err := Salvage(t.Context(), path, nil, nil)
	require.NoError(t, err)
	require.Equal(t, number, report.TxID)

	db, err = Open(path, 0o600, &Options{NoAutoShrink: true})
	require.NoError(t, err)
	tx, err := db.Begin(false)
	require.NoError(t, err)
	require.Equal(t, number, tx.Snapshot().TxID)
	require.Equal(t, number, db.Readers()[0].TxID)
	put()
	put()
	space := db.Space()
	require.Equal(t, number+2, space.TxID)
	require.EqualValues(t, 2, space.Behind)
	require.NoError(t, tx.Rollback())
	require.NoError(t, db.Close())
}

// Ensures that transaction numbers which an int of 32 bits cannot hold stay what they are in copies and for Check. Each recovery takes 2^24 of
// them, so a store that was killed 128 times has such: its backups could not be opened, and Check found pages of the future in it.
func TestTx_NumbersBeyond32Bits(t *testing.T) {
	for _, number := range []txid{1<<31 + 5, 1<<32 + 5, 1<<40 + 5} {
		db, err := openStorage(newSimDisk(simConfig{capacity: 16 << 20}), &Options{})
		require.NoError(t, err)
		putMany(t, db, 0, 300, 1)
		require.NoError(t, db.pager.lock(t.Context()))
		db.pager.waitCheckpoint()
		db.pager.tip.id = number
		db.pager.unlock()
		putMany(t, db, 0, 300, 1)
		path := filepath.Join(t.TempDir(), "copy.db")
		require.NoError(t, db.View(func(tx *Tx) error {
			require.Equal(t, uint64(number+1), tx.Snapshot().TxID)
			for err := range tx.Check() {
				t.Error(err)
			}
			f, err := os.Create(path)
			require.NoError(t, err)
			_, err = tx.WriteTo(f)
			require.NoError(t, err)
			return f.Close()
		}))
		require.NoError(t, db.Close())
		again, err := Open(path, 0, nil)
		require.NoError(t, err)
		require.NoError(t, again.View(func(tx *Tx) error {
			require.Equal(t, uint64(number+1), tx.Snapshot().TxID)
			for err := range tx.Check() {
				t.Error(err)
			}
			return nil
		}))
		require.NoError(t, again.Close())
	}
}
