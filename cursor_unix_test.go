//go:build unix

package alder

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that cursors and iterators survive a file that is truncated under a transaction that was begun by Begin, where nothing guards the
// loop's body. The bucket is one large leaf, and the cut leaves its header and slots: a walk that looks at no key can go on, and one that
// compares keys with its bounds ends with an error.
func TestCursor_TruncatedWhileOpen(t *testing.T) {
	truncatedMapping(t) // skips where faults have no address
	key := func(i int) []byte { return fmt.Appendf(nil, "%03d", i) }
	walks := map[string]func(b *Bucket) iter.Seq2[[]byte, []byte]{
		"All":           (*Bucket).All,
		"Backward":      (*Bucket).Backward,
		"Range":         func(b *Bucket) iter.Seq2[[]byte, []byte] { return b.Range(key(1), key(248)) },
		"RangeBackward": func(b *Bucket) iter.Seq2[[]byte, []byte] { return b.RangeBackward(key(1), key(248)) },
		"Next": func(b *Bucket) iter.Seq2[[]byte, []byte] {
			return func(yield func([]byte, []byte) bool) {
				c := b.Cursor()
				for k, v := c.First(); k != nil && yield(k, v); k, v = c.Next() {
				}
			}
		},
		"Prev": func(b *Bucket) iter.Seq2[[]byte, []byte] {
			return func(yield func([]byte, []byte) bool) {
				c := b.Cursor()
				for k, v := c.Last(); k != nil && yield(k, v); k, v = c.Prev() {
				}
			}
		},
	}
	for name, walk := range walks {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(storageDir(t), "store")
			db, err := Open(path, 0o600, &Options{PageSize: 65536})
			require.NoError(t, err)
			require.NoError(t, db.Update(func(tx *Tx) error {
				b, err := tx.CreateBucket([]byte("b"))
				for i := 0; i < 250 && err == nil; i++ {
					err = b.Put(key(i), make([]byte, 200))
				}
				return err
			}))
			require.NoError(t, db.Close())
			db, err = Open(path, 0o600, nil)
			require.NoError(t, err)
			tx, err := db.Begin(false)
			require.NoError(t, err)
			b := tx.Bucket([]byte("b"))
			steps := 0
			for range walk(b) {
				if steps++; steps == 20 {
					require.NoError(t, os.Truncate(path, int64(b.Root())*65536+8192))
				}
			}
			if bounded := strings.HasPrefix(name, "Range"); !bounded {
				require.Equal(t, 250, steps)
				require.NoError(t, tx.Err())
			} else {
				require.GreaterOrEqual(t, steps, 20)
				require.Less(t, steps, 250)
				var fault *FaultError
				require.ErrorAs(t, tx.Err(), &fault)
			}
			require.NoError(t, tx.Rollback())
			_ = db.Close()
		})
	}
}
