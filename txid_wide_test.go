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
	renumber(t, path, txid(number))

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

// renumber makes number that of the last transaction of the closed store at path.
func renumber(t *testing.T, path string, number txid) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	c, err := readMetas(ownerReader{f, info.Size()})
	require.NoError(t, err)
	m := *c.meta
	m.txid = number
	for slot := range 2 {
		m.sequence++
		buf := make([]byte, metaSize)
		m.encode(buf, slot)
		_, err = f.WriteAt(buf, int64(slot)*int64(m.pageSize))
		require.NoError(t, err)
	}
}
