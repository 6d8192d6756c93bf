package alder

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that a walk is counted from its first step, by leaves, up to the full stride, and anew after turning round.
func TestStride(t *testing.T) {
	type step struct {
		dir     stride
		crossed bool
		want    stride
	}
	var s stride
	for i, step := range []step{
		{1, false, 1}, {1, false, 1}, {1, true, 2}, {1, false, 2}, {1, true, 3}, {1, true, 3}, {1, false, 3},
		{-1, false, -1}, {-1, true, -2}, {-1, true, -3}, {-1, true, -3}, {1, true, 1}, {-1, true, -1},
	} {
		s = s.stepped(step.dir, step.crossed)
		require.Equal(t, step.want, s, "step %d", i)
	}
}

// leafSizes walks the leaves of the only bucket, which must not be inline, and returns their references and numbers of keys.
func leafSizes(t *testing.T, db *DB) (refs []pageRef, keys []int) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		pth, err := b.tree.edge(tx, nil, false)
		for ok := true; ok && err == nil; pth, ok, err = nextLeaf(tx, pth) {
			refs, keys = append(refs, pth.leaf().p.ref()), append(keys, pth.leaf().p.count())
		}
		return err
	}))
	require.Greater(t, len(refs), 20)
	return refs, keys
}

// Ensures that a cursor that asks for leaves ahead of time does not look at them: a walk towards a damaged leaf gives every key before it,
// from whichever leaf it begins and in both directions, and only then the error.
func TestCursor_LookAhead_ReadsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db, err := Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < 2000 && err == nil; i++ {
			err = b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, 50+i%40))
		}
		return err
	}))
	refs, keys := leafSizes(t, db)
	require.NoError(t, db.Close())
	const bad = 12
	damageByte(t, path, refs[bad], 3000)

	before := 0 // keys below the damaged leaf
	for _, n := range keys[:bad] {
		before += n
	}
	after := 2000 - before - keys[bad]
	for away := range 6 {
		// Opened anew, so that nothing but what the walk has read is verified.
		db, err := Open(path, 0o600, &Options{ReadOnly: true})
		require.NoError(t, err)
		err = db.View(func(tx *Tx) error {
			c := tx.Bucket([]byte("b")).Cursor()
			from := before
			for _, n := range keys[bad-away : bad] {
				from -= n
			}
			from = max(from-1, 0)
			got := 0
			for k, _ := c.Seek(fmt.Appendf(nil, "%06d", from)); k != nil; k, _ = c.Next() {
				require.Equal(t, fmt.Sprintf("%06d", from+got), string(k))
				got++
			}
			require.Equal(t, before-from, got)
			return tx.Err()
		})
		require.ErrorIs(t, err, ErrCorrupt)
		err = db.View(func(tx *Tx) error {
			c := tx.Bucket([]byte("b")).Cursor()
			from := 2000 - after
			for _, n := range keys[bad+1 : bad+1+away] {
				from += n
			}
			got := 0
			for k, _ := c.Seek(fmt.Appendf(nil, "%06d", from)); k != nil; k, _ = c.Prev() {
				require.Equal(t, fmt.Sprintf("%06d", from-got), string(k))
				got++
			}
			require.Equal(t, from-(2000-after)+1, got)
			return tx.Err()
		})
		require.ErrorIs(t, err, ErrCorrupt)
		require.NoError(t, db.Close())
	}
}

// damageByte changes a byte of a page in the file.
func damageByte(t *testing.T, path string, r pageRef, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, int64(r.id)*4096+at)
	require.NoError(t, err)
	b[0] ^= 0x55
	_, err = f.WriteAt(b, int64(r.id)*4096+at)
	require.NoError(t, err)
}

// Ensures that what is asked for stays inside the store and inside of a page whatever a damaged parent says of its children: numbers of
// pages that are not there, or of other pages, and numbers of keys beyond all measure.
func TestCursor_LookAhead_DamagedParent(t *testing.T) {
	for _, pageSize := range []int{4096, 65536} {
		db, err := OpenMemory(&Options{PageSize: pageSize})
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucket([]byte("b"))
			for i := 0; i < 60000 && err == nil; i++ {
				err = b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, i%90))
			}
			return err
		}))
		require.NoError(t, db.View(func(tx *Tx) error {
			c := tx.Bucket([]byte("b")).Cursor()
			c.First()
			up := c.path[len(c.path)-2].p
			fake := append(page(nil), up...)
			require.Greater(t, fake.count(), 3)
			ids := []uint64{0, 1, uint64(tx.snap.highWater) - 1, uint64(tx.snap.highWater), maxPgid}
			counts := []uint64{0, 1, maxLeafKeys, math.MaxUint32, maxCount}
			for _, id := range ids {
				for _, count := range counts {
					for i := range fake.count() {
						fake.setChild(i, pageRef{pgid(id), 1})
						fake.setChildCount(i, count, true)
					}
					for i := range fake.count() {
						c.path[len(c.path)-2] = level{fake, i}
						for _, dir := range []stride{1, -1} {
							c.stride, c.left = 0, 0
							for range 2 * fullStride {
								c.lookAhead(dir, true)
								for range 2000 {
									if c.left > 0 {
										at := pgid(c.ahead / pageSize)
										require.Less(t, at, tx.snap.highWater)
										require.Equal(t, at, pgid(c.ahead+int(c.left)-1)/pgid(pageSize), "within a page")
									}
									c.pace(0)
								}
								require.Zero(t, c.left, "asked for in the end")
							}
						}
					}
				}
			}
			return nil
		}))
		require.NoError(t, db.Close())
	}
}

// Ensures that walks, seeks and selections by rank allocate nothing, and a cursor no more than itself.
func TestCursor_Allocations(t *testing.T) {
	db, err := OpenMemory(nil)
	require.NoError(t, err)
	defer db.Close()
	key := func(buf []byte, i int) []byte { return fmt.Appendf(buf[:0], "%06d", i) }
	require.NoError(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < 5000 && err == nil; i++ {
			err = b.Put(key(nil, i), make([]byte, 50))
		}
		return err
	}))
	require.NoError(t, db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		c := b.Cursor()
		wanted := key(nil, 1700)
		n := 0
		for what, limit := range map[string]struct {
			allocs float64
			do     func()
		}{
			"Seek and 200 steps forward": {0, func() {
				c.Seek(wanted)
				for range 200 {
					c.Next()
				}
			}},
			"Last and 200 steps backward": {0, func() {
				c.Last()
				for range 200 {
					c.Prev()
				}
			}},
			"At":     {0, func() { b.At(3333) }},
			"Cursor": {1, func() { b.Cursor().First() }},
			"All": {3, func() {
				for range b.All() {
					n++
				}
			}},
			"Range backward": {3, func() {
				for range b.RangeBackward(wanted, nil) {
					n++
				}
			}},
		} {
			require.LessOrEqual(t, testing.AllocsPerRun(50, limit.do), limit.allocs, what)
		}
		return nil
	}))
}
