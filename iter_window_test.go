package alder_test

import (
	"bytes"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that ranges give exactly the keys between their bounds wherever in a leaf those lie: where a read transaction looks at many
// keys at a time, the bound may be at, before or behind the first and the last of them.
func TestBucket_Range_AnyBound(t *testing.T) {
	t.Parallel()
	const n = 200
	for _, alike := range []bool{true, false} {
		db := openMemory(t)
		inBucket(t, db, func(b *alder.Bucket) {
			for i := range n {
				size := 30
				if !alike {
					size = i % 41
				}
				require.NoError(t, b.Put(key(2*i), filled(size, byte(i))))
			}
		})
		readBucket(t, db, func(b *alder.Bucket) {
			expect := func(i, j int, got iter.Seq2[[]byte, []byte], backward bool) {
				t.Helper()
				steps := 0
				for k, v := range got {
					at := i + steps
					if backward {
						at = j - 1 - steps
					}
					if want := key(2 * at); !bytes.Equal(want, k) || len(v) > 0 && v[0] != filled(1, byte(at))[0] || cap(k) != len(k) || cap(v) != len(v) {
						t.Fatalf("step %d from %d to %d (backward: %v): %q, want %q", steps, i, j, backward, k, want)
					}
					steps++
				}
				if steps != max(0, j-i) {
					t.Fatalf("%d steps from %d to %d (backward: %v)", steps, i, j, backward)
				}
			}
			for i := range n + 1 {
				// Bounds that are keys, and bounds between keys.
				for _, from := range [][]byte{key(2 * i), key(2*i - 1)} {
					expect(i, n, b.Range(from, nil), false)
					expect(i, n, b.RangeBackward(from, nil), true)
					expect(0, i, b.Range(nil, from), false)
					expect(0, i, b.RangeBackward(nil, from), true)
					for j := i % 7; j <= n; j += 7 {
						expect(i, j, b.Range(from, key(2*j)), false)
						expect(i, j, b.RangeBackward(from, key(2*j)), true)
					}
				}
			}
		})
	}
}

// Ensures that an iterator ends when the loop ends its transaction, in the middle of a leaf and everywhere else.
func TestBucket_All_Rollback(t *testing.T) {
	db := openMemory(t)
	inBucket(t, db, func(b *alder.Bucket) { fill(t, b, 500, 20) })
	for _, stop := range []int{1, 2, 10, 64, 65, 66, 100, 200, 499} {
		for name, seq := range map[string]func(b *alder.Bucket) iter.Seq2[[]byte, []byte]{
			"All": (*alder.Bucket).All, "Backward": (*alder.Bucket).Backward,
			"Range":         func(b *alder.Bucket) iter.Seq2[[]byte, []byte] { return b.Range(key(0), key(1000)) },
			"RangeBackward": func(b *alder.Bucket) iter.Seq2[[]byte, []byte] { return b.RangeBackward(key(0), key(1000)) },
		} {
			tx := db.begin(false)
			steps := 0
			for range seq(tx.Bucket([]byte("b"))) {
				if steps++; steps == stop {
					require.NoError(t, tx.Rollback())
				}
			}
			require.Equal(t, stop, steps, name)
		}
	}
}
