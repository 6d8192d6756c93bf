package alder

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// loadAndThin fills a store with 20,000 keys and deletes all but every tenth.
func loadAndThin(t *testing.T, db *DB) {
	t.Helper()
	for i := 0; i < 20000; i += 1000 {
		require.NoError(t, db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("a"))
			for k := i; k < i+1000 && err == nil; k++ {
				err = b.Put(fmt.Appendf(nil, "%08x", uint32(k)*2654435761), make([]byte, 400))
			}
			return err
		}))
	}
	require.NoError(t, db.Update(func(tx *Tx) error {
		b := tx.Bucket([]byte("a"))
		for k := range 20000 {
			if k%10 != 0 {
				if err := b.Delete(fmt.Appendf(nil, "%08x", uint32(k)*2654435761)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

func requireThinned(t *testing.T, db *DB) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		require.EqualValues(t, 2000, tx.Bucket([]byte("a")).Len())
		return checkWhole(tx)
	}))
}

// Ensures that Close makes a file shorter of which most is free, that an option keeps it from that, and that a store that was only opened is not
// worked on.
func TestClose_Shrinks(t *testing.T) {
	sizes := map[bool]int64{}
	for _, off := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "store")
		db, err := Open(path, 0o600, &Options{NoAutoShrink: off, NoSync: true})
		require.NoError(t, err)
		loadAndThin(t, db)
		require.NoError(t, db.Close())
		fi, err := os.Stat(path)
		require.NoError(t, err)
		sizes[off] = fi.Size()
		db, err = Open(path, 0o600, nil)
		require.NoError(t, err)
		requireThinned(t, db)
		require.NoError(t, db.Close())
		fi, err = os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, sizes[off], fi.Size())
	}
	t.Logf("%d bytes with, %d without", sizes[false], sizes[true])
	require.Less(t, sizes[false], sizes[true]/2)
}

// Ensures that a store of which most is free becomes shorter in the background when nobody writes, and not before.
func TestShrink_WhenIdle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, &Options{NoSync: true, checkpointAge: 300 * time.Millisecond, shrinkLeast: 1 << 20})
	require.NoError(t, err)
	loadAndThin(t, db)
	before := db.Space().File
	require.Eventually(t, func() bool { return db.Space().File < before/3 }, 20*time.Second, 10*time.Millisecond)
	requireThinned(t, db)
	require.NoError(t, db.Close())
}

// Ensures that Close keeps to its budget: what would have to move more is left.
func TestShrink_Budget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, &Options{NoSync: true, NoAutoShrink: true})
	require.NoError(t, err)
	loadAndThin(t, db)
	s := &shrinker{db: db, pg: db.pager, ctx: t.Context(), noPack: true, budget: 200 << 10}
	out, err := s.run()
	require.NoError(t, err)
	require.LessOrEqual(t, out.Moved, int64(400<<10), "and the branches above")
	requireThinned(t, db)
	require.NoError(t, db.Close())
}

// cutDisk takes long to be cut, in proportion to the bytes, and notes each cut, and whether the writer lock was free when a meta page was written.
type cutDisk struct {
	*simDisk
	perByte time.Duration

	mu          sync.Mutex
	pg          *pager
	cuts        []int64
	free, taken int // metas that were written for a cut, with the writer lock free or taken
}

func (d *cutDisk) truncate(size int64) error {
	n := d.size() - size
	d.mu.Lock()
	d.cuts = append(d.cuts, n)
	d.mu.Unlock()
	time.Sleep(time.Duration(n) * d.perByte)
	return d.simDisk.truncate(size)
}

func (d *cutDisk) writeDurable(p []byte, off int64) error {
	if d.pg != nil && off < 2*int64(d.pg.pageSize) {
		d.pg.commitMu.Lock()
		cut := d.pg.running != nil && d.pg.running.update == nil
		d.pg.commitMu.Unlock()
		if cut {
			select {
			case d.pg.writing <- struct{}{}:
				d.free++
				d.pg.unlock()
			default:
				d.taken++
			}
		}
	}
	return d.simDisk.writeDurable(p, off)
}

// Ensures that a file is cut by as much at a time as takes no longer than a transaction of a shrink may, and that nobody waits for the meta page that has the shorter
// length: the writer lock is free while that is written. (All cuts were by 8 MiB, and took 8 to 17 ms for 16 MiB on a file system that discards what is cut.)
func TestShrink_Cuts(t *testing.T) {
	for _, slow := range []bool{false, true} {
		d := &cutDisk{simDisk: newSimDisk(simConfig{capacity: 128 << 20})}
		db, err := openStorage(d, &Options{NoSync: true, NoAutoShrink: true, background: func(f func()) { f() }})
		require.NoError(t, err)
		loadAndThin(t, db)
		requireThinned(t, db)
		d.pg = db.pager
		if slow {
			d.perByte = 5 * time.Nanosecond // 5 ms for the first cut
		}
		_, err = db.Shrink(t.Context(), 0, nil)
		require.NoError(t, err)
		requireThinned(t, db)
		require.Positive(t, d.free)
		require.Zero(t, d.taken)
		require.NotEmpty(t, d.cuts)
		require.LessOrEqual(t, d.cuts[0], int64(cutFirst), "%v", d.cuts)
		longest, total := int64(0), int64(0)
		for _, n := range d.cuts {
			longest, total = max(longest, n), total+n
		}
		t.Logf("%d cuts of at most %d bytes, %d in all", len(d.cuts), longest, total)
		if slow {
			require.EqualValues(t, cutFirst, longest)
			require.Greater(t, len(d.cuts), int(total/cutFirst)+1)
		}
		d.pg = nil
		require.NoError(t, db.Close())
	}
}
