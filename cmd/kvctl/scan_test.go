package main

import (
	"bytes"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/alderdb/alder"
)

// Ensures that a scan from an offset, which is found by its rank, yields what skipping entry by entry would: over random
// keys and buckets, bounds, offsets, forward and backward.
func TestScan_Offset(t *testing.T) {
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{'a', 'b', 0xff}), 1, 3)
	rapid.Check(t, func(t *rapid.T) {
		db, err := alder.OpenMemory(nil)
		require.NoError(t, err)
		defer db.Close()
		keys := rapid.SliceOfDistinct(key, func(k []byte) string { return string(k) }).Draw(t, "keys")
		require.NoError(t, db.Update(func(tx *alder.Tx) error {
			b, err := tx.CreateBucket([]byte("b"))
			require.NoError(t, err)
			for i, k := range keys {
				if i%5 == 4 {
					_, err = b.CreateBucket(k)
				} else {
					err = b.Put(k, nil)
				}
				require.NoError(t, err)
			}
			return nil
		}))

		var r keyRange
		if rapid.Bool().Draw(t, "with from") {
			r.from = key.Draw(t, "from")
		}
		if rapid.Bool().Draw(t, "with to") {
			r.to = key.Draw(t, "to")
		}
		r.empty = r.to != nil && bytes.Compare(r.from, r.to) >= 0
		s := &scanCommand{offset: countFlag(rapid.Uint64Range(0, 12).Draw(t, "offset")), reverse: rapid.Bool().Draw(t, "reverse")}

		var want []string
		for _, k := range keys {
			if !r.empty && bytes.Compare(k, r.from) >= 0 && (r.to == nil || bytes.Compare(k, r.to) < 0) {
				want = append(want, string(k))
			}
		}
		slices.Sort(want)
		if s.reverse {
			slices.Reverse(want)
		}
		want = append([]string(nil), want[min(int(s.offset), len(want)):]...)

		require.NoError(t, db.View(func(tx *alder.Tx) error {
			require.Equal(t, want, keysOf(s.entries(tx.Bucket([]byte("b")), r)))
			return nil
		}))
	})
}

func keysOf(entries iter.Seq2[[]byte, []byte]) (keys []string) {
	for k := range entries {
		keys = append(keys, string(k))
	}
	return keys
}
