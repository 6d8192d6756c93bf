package alder

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// treePages collects the references of all pages of a snapshot's trees.
func treePages(t *testing.T, tx *Tx) map[pageRef]bool {
	t.Helper()
	all := map[pageRef]bool{}
	var below func(r pageRef)
	below = func(r pageRef) {
		if r.id == 0 {
			return
		}
		all[r] = true
		p, err := tx.readPage(r)
		require.NoError(t, err)
		for i := range p.count() {
			if p.isBranch() {
				below(p.child(i))
			} else if c := p.cell(i); c.flags&cellBucket != 0 {
				inner, _ := decodeBucket(c.value)
				below(inner.root)
			}
		}
	}
	below(tx.snap.root)
	return all
}

// Ensures that a diff reads pages that only one of the snapshots has, and of those that both have only a few next to them: whatever was
// done to the tree in between, and however large the rest of it is.
func TestTx_Diff_Cost(t *testing.T) {
	t.Parallel()
	const n = 100_000
	name := []byte("b")
	k := func(i int) []byte { return fmt.Appendf(nil, "key-%08d", i) }
	value := []byte("some value of a usual length")
	rng := rand.New(rand.NewPCG(1, 2))
	for _, test := range []struct {
		name    string
		change  func(tx *Tx, b *Bucket) error
		changes int
	}{
		{"nothing", func(*Tx, *Bucket) error { return nil }, 0},
		{"one put", func(_ *Tx, b *Bucket) error { return b.Put(k(n/2*2), []byte("other")) }, 1},
		{"the same value", func(_ *Tx, b *Bucket) error { return b.Put(k(n/2*2), value) }, 0},
		{"one delete", func(_ *Tx, b *Bucket) error { return b.Delete(k(n)) }, 1},
		{"sequence", func(_ *Tx, b *Bucket) error { return b.SetSequence(3) }, 1},
		{"scattered puts", func(_ *Tx, b *Bucket) error {
			for _, i := range rng.Perm(n)[:100] {
				if err := b.Put(k(2*i+1), value); err != nil {
					return err
				}
			}
			return nil
		}, 100},
		{"a block in the middle", func(_ *Tx, b *Bucket) error {
			for i := range 5000 {
				if err := b.Put(fmt.Appendf(k(n), "-%04d", i), value); err != nil {
					return err
				}
			}
			return nil
		}, 5000},
		{"append", func(_ *Tx, b *Bucket) error {
			for i := range 5000 {
				if err := b.Put(k(2*n+i), value); err != nil {
					return err
				}
			}
			return nil
		}, 5000},
		{"the first tenth deleted", func(_ *Tx, b *Bucket) error {
			_, err := b.DeleteRange(nil, k(n/5))
			return err
		}, n / 10},
		{"a range deleted", func(_ *Tx, b *Bucket) error {
			_, err := b.DeleteRange(k(n), k(n+n/5))
			return err
		}, n / 10},
		{"all but a tenth deleted", func(_ *Tx, b *Bucket) error {
			_, err := b.DeleteRange(k(n/5), nil)
			return err
		}, n - n/10},
		{"moved to another bucket", func(tx *Tx, b *Bucket) error {
			other, err := tx.CreateBucket([]byte("other"))
			if err != nil {
				return err
			}
			return tx.MoveBucket(name, nil, other)
		}, n + 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			db, err := OpenMemory(nil)
			require.NoError(t, err)
			defer db.Close()
			require.NoError(t, db.Update(func(tx *Tx) error {
				b, err := tx.CreateBucket(name)
				for i := 0; i < n && err == nil; i++ {
					err = b.Put(k(2*i), value)
				}
				return err
			}))
			old, err := db.Begin(false)
			require.NoError(t, err)
			defer old.Rollback()
			require.NoError(t, db.Update(func(tx *Tx) error { return test.change(tx, tx.Bucket(name)) }))
			now, err := db.Begin(false)
			require.NoError(t, err)
			defer now.Rollback()

			before, after := treePages(t, old), treePages(t, now)
			unshared := 0
			for r := range before {
				if !after[r] {
					unshared++
				}
			}
			for r := range after {
				if !before[r] {
					unshared++
				}
			}
			changes := 0
			d := &differ{from: old, to: now, yield: func(Change, error) bool { changes++; return true }}
			require.NoError(t, d.run())
			read := int(old.snap.highWater) - d.leftFrom + int(now.snap.highWater) - d.leftTo
			t.Logf("%d changes, %d of %d pages are not shared, %d were read", changes, unshared, len(before)+len(after), read)
			require.Equal(t, test.changes, changes)
			if test.changes < n {
				require.LessOrEqual(t, read, unshared+8)
			} // else a bucket has moved, and is listed again
		})
	}
}
