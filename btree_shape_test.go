package alder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The shape of trees: how full pages stay, how high trees stay, and what is not looked at when much goes away.

// eachPage calls visit for each page of a tree, parents first; level is 0 for the root.
func eachPage(t *testing.T, tx *Tx, ref pageRef, level int, visit func(p page, level int)) {
	p, err := tx.readPage(ref)
	require.NoError(t, err)
	visit(p, level)
	if p.isBranch() {
		for i := range p.count() {
			eachPage(t, tx, p.child(i), level+1, visit)
		}
	}
}

// shapeOf returns the number of levels of bucket b, and how many of its pages but the root are less than a quarter full.
func shapeOf(t *testing.T, db *DB) (levels, poor int) {
	require.NoError(t, db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		if b.tree.root.id == 0 {
			return nil // inside its parent
		}
		quarter := (db.PageSize() - pageHeader) / 4
		eachPage(t, tx, b.tree.root, 0, func(p page, level int) {
			levels = max(levels, level+1)
			if level > 0 && p.used() < quarter {
				poor++
			}
		})
		return nil
	}))
	return levels, poor
}

// Ensures that no page stays less than a quarter full when keys go away, in whatever order and number, and that the tree becomes lower
// with them, down to a bucket that lies in its parent's leaf.
func TestTree_QuarterFull(t *testing.T) {
	const n = 20_000
	for _, how := range []string{"random keys", "from the front", "from the back", "every key but some", "ranges", "ranges and puts"} {
		t.Run(how, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, 4))
			db, err := OpenMemory(nil)
			require.NoError(t, err)
			order := rng.Perm(n)
			name := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
			put := func(b *Bucket, i int) { require.NoError(t, b.Put(name(i), make([]byte, i%97))) }
			require.NoError(t, db.Update(func(tx *Tx) error {
				b, err := tx.CreateBucket([]byte("b"))
				for _, i := range order {
					put(b, i)
				}
				return err
			}))
			levels, poor := shapeOf(t, db)
			require.Equal(t, 3, levels)
			require.Zero(t, poor)
			for round := 0; ; round++ {
				var left uint64
				require.NoError(t, db.Update(func(tx *Tx) error {
					b := tx.Bucket([]byte("b"))
					for range 500 {
						if left = b.Len(); left == 0 {
							break
						}
						at := rng.Uint64N(left)
						switch how {
						case "from the front":
							at = 0
						case "from the back":
							at = left - 1
						case "every key but some":
							if at = uint64(round) * 13; at >= left {
								at = left - 1
							}
						}
						k, _ := b.At(at)
						switch how {
						case "ranges", "ranges and puts":
							end, _ := b.At(min(at+rng.Uint64N(300), left-1))
							_, err := b.DeleteRange(k, append(end, 0))
							require.NoError(t, err)
							if how == "ranges and puts" && round < 20 {
								for range 100 {
									put(b, rng.IntN(n))
								}
							}
						default:
							require.NoError(t, b.Delete(k))
						}
					}
					return nil
				}))
				levels, poor := shapeOf(t, db)
				require.Zero(t, poor, "pages less than a quarter full, %d keys left", left)
				if left <= 1000 {
					require.LessOrEqual(t, levels, 2, "%d keys left", left)
				}
				if left == 0 {
					require.Zero(t, levels)
					break
				}
			}
			checkAndClose(t, db)
		})
	}
}

// deleteRange deletes a range of bucket b that has so many keys.
func deleteRange(tx *Tx, from, to []byte, want uint64) error {
	n, err := tx.Bucket([]byte("b")).DeleteRange(from, to)
	if err == nil && n != want {
		err = fmt.Errorf("%d keys deleted, not %d", n, want)
	}
	return err
}

// checkAndClose checks the whole store.
func checkAndClose(t *testing.T, db *DB) {
	require.NoError(t, db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	}))
	require.NoError(t, db.Close())
}

// Ensures that deleting a bucket, or a range, gives up whole subtrees without a look at their leaves: those are unreadable here, but for
// the first one, which tells how high the tree is, and the two at the ends of a range.
func TestTree_FreedUnseen(t *testing.T) {
	const n = 50_000
	name := func(i int) []byte { return fmt.Appendf(nil, "%08d", i) }
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; err == nil && i < n; i++ {
			err = b.Put(name(i), make([]byte, 50))
		}
		return err
	}))
	from, to := name(n/10), name(n-n/10)
	var leaves, inside []int64
	require.NoError(t, db.View(func(tx *Tx) error {
		eachPage(t, tx, tx.Bucket([]byte("b")).tree.root, 0, func(p page, _ int) {
			if p.isBranch() {
				return
			}
			at := int64(p.id()) * int64(db.PageSize())
			leaves = append(leaves, at)
			if first, last := string(p.cell(0).key), string(p.cell(p.count()-1).key); first > string(from) && last < string(to) {
				inside = append(inside, at)
			}
		})
		return nil
	}))
	require.NoError(t, db.Close())
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Greater(t, len(inside), len(leaves)*3/4)

	for _, c := range []struct {
		name       string
		unreadable []int64
		change     func(tx *Tx) error
		left       uint64
	}{
		{"bucket", leaves[1:], func(tx *Tx) error { return tx.DeleteBucket([]byte("b")) }, 0},
		{"everything", leaves[1:], func(tx *Tx) error {
			return deleteRange(tx, nil, nil, n)
		}, 0},
		{"range", inside, func(tx *Tx) error {
			return deleteRange(tx, from, to, n-2*(n/10))
		}, 2 * (n / 10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken := append([]byte(nil), image...)
			for _, at := range c.unreadable {
				clear(broken[at : at+int64(DefaultPageSize)])
			}
			path := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.WriteFile(path, broken, 0o600))
			db, err := Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(c.change))
			require.NoError(t, db.View(func(tx *Tx) error {
				if b := tx.Bucket([]byte("b")); b != nil {
					require.Equal(t, c.left, b.Len())
				}
				return nil
			}))
			checkAndClose(t, db)
		})
	}
}
