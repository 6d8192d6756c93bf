package alder_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// What backups and diffs cost after some keys of a million have changed: one operation is one of them.
func BenchmarkBackup(b *testing.B) {
	const n = 1_000_000
	path := filepath.Join(tempDir(b), "store")
	db, err := alder.Open(path, 0o600, &alder.Options{NoSync: true})
	require.NoError(b, err)
	defer db.Close()
	rng := rand.New(rand.NewPCG(1, 10))
	bucket := []byte("b")
	change := func(keys []int) {
		require.NoError(b, db.Update(func(tx *alder.Tx) error {
			bk, err := tx.CreateBucketIfNotExists(bucket)
			for i := 0; i < len(keys) && err == nil; i++ {
				err = bk.Put(fmt.Appendf(nil, "%016x", uint64(keys[i])*0x9e3779b97f4a7c15), filled(100, byte(rng.IntN(256))))
			}
			return err
		}))
	}
	all := rng.Perm(n)
	for k := 0; k < n; k += 10_000 {
		change(all[k : k+10_000])
	}
	begin := func() *alder.Tx {
		tx, err := db.Begin(false)
		require.NoError(b, err)
		return tx
	}
	since := begin()
	defer since.Rollback()
	full := filepath.Join(tempDir(b), "full")
	require.NoError(b, since.CopyFile(full, 0o600))

	size := func(b *testing.B, n int64) {
		b.ReportMetric(float64(n), "bytes/op")
		b.ReportMetric(0, "B/op")
	}
	b.Run("WriteTo", func(b *testing.B) {
		tx := begin()
		defer tx.Rollback()
		var n int64
		for b.Loop() {
			n, err = tx.WriteTo(io.Discard)
			require.NoError(b, err)
		}
		size(b, n)
	})
	for _, k := range []int{1, 100, 10_000} {
		change(all[:k])
		tx := begin()
		var diff bytes.Buffer
		_, err := tx.WriteDiff(&diff, since.Snapshot())
		require.NoError(b, err)
		b.Run(fmt.Sprintf("WriteDiff/changed=%d", k), func(b *testing.B) {
			var n int64
			for b.Loop() {
				n, err = tx.WriteDiff(io.Discard, since.Snapshot())
				require.NoError(b, err)
			}
			size(b, n)
		})
		b.Run(fmt.Sprintf("Diff/changed=%d", k), func(b *testing.B) {
			for b.Loop() {
				n := 0
				for _, err := range tx.Diff(since) {
					require.NoError(b, err)
					n++
				}
				require.InDelta(b, k, n, 1+float64(k)/20) // some keys got the value that they had
			}
		})
		b.Run(fmt.Sprintf("ApplyDiff/changed=%d", k), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				file := copyFile(b, full)
				b.StartTimer()
				_, err := alder.ApplyDiff(file, bytes.NewReader(diff.Bytes()))
				require.NoError(b, err)
			}
		})
		require.NoError(b, tx.Rollback())
	}
}
