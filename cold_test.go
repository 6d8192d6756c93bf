package alder

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowDisk is a disk whose mapping may have to wait, as far as the store knows. It notes what is fetched and announced.
type slowDisk struct {
	*simDisk

	mu        sync.Mutex
	fetched   []int64 // offsets
	announced [][2]int64
	random    bool
}

func (d *slowDisk) fetch(off, n int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched = append(d.fetched, off)
	return true
}

func (d *slowDisk) announce(off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.announced = append(d.announced, [2]int64{off, n})
}

func (d *slowDisk) touchRandomly(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.random = on
}

// seen returns what was fetched and announced since the last call.
func (d *slowDisk) seen() (fetched []int64, announced [][2]int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fetched, announced = d.fetched, d.announced
	d.fetched, d.announced = nil, nil
	return fetched, announced
}

// newSlowStore returns a store of several thousand keys on a slowDisk, opened anew, so that nothing of it is known to be in memory.
func newSlowStore(t *testing.T) (*slowDisk, *DB) {
	t.Helper()
	d := &slowDisk{simDisk: newSimDisk(simConfig{capacity: 64 << 20})}
	db, err := openStorage(d, &Options{})
	require.NoError(t, err)
	putAtOnce(t, db, 5000, 1000)
	require.NoError(t, db.Close())
	d.reopen()
	db, err = openStorage(d, &Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return d, db
}

// putAtOnce is putNumbers in one transaction.
func putAtOnce(t *testing.T, db *DB, n, size int) {
	t.Helper()
	require.NoError(t, db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < n && err == nil; i++ {
			err = b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, size))
		}
		return err
	}))
}

func getNumber(t *testing.T, db *DB, i int) {
	t.Helper()
	require.NoError(t, db.View(func(tx *Tx) error {
		require.NotNil(t, tx.Bucket([]byte("b")).Get(fmt.Appendf(nil, "%06d", i)))
		return nil
	}))
}

// Ensures that in cold mode each page is fetched before its first use, once, and again when it was forgotten; and outside of cold mode none.
func TestColdReads_Fetch(t *testing.T) {
	d, db := newSlowStore(t)
	d.seen()
	getNumber(t, db, 1)
	fetched, _ := d.seen()
	require.Empty(t, fetched)

	db.pager.cold.turn(true)
	require.True(t, d.random)
	getNumber(t, db, 4000)
	fetched, _ = d.seen()
	require.NotEmpty(t, fetched)
	getNumber(t, db, 4000)
	again, _ := d.seen()
	require.Empty(t, again)

	db.pager.verified.Load().clear()
	getNumber(t, db, 4000)
	again, _ = d.seen()
	require.Subset(t, again, fetched)
	require.NoError(t, db.View(func(tx *Tx) error {
		for _, off := range again {
			require.Less(t, off, int64(tx.snap.highWater)<<tx.snap.shift)
		}
		return nil
	}))

	db.pager.cold.turn(false)
	require.False(t, d.random)
	getNumber(t, db, 2000)
	fetched, _ = d.seen()
	require.Empty(t, fetched)
}

// Ensures that a long value is fetched as a whole before it is touched.
func TestColdReads_LongValue(t *testing.T) {
	d, db := newSlowStore(t)
	require.NoError(t, db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("long"), make([]byte, 100_000)) }))
	db.pager.cold.turn(true)
	db.pager.verified.Load().clear()
	d.seen()
	require.NoError(t, db.View(func(tx *Tx) error {
		require.Len(t, tx.Bucket([]byte("b")).Get([]byte("long")), 100_000)
		return nil
	}))
	require.NoError(t, db.View(func(tx *Tx) error {
		b := tx.Bucket([]byte("b"))
		p, i, exact, err := b.tree.get(tx, []byte("long"))
		require.True(t, exact)
		fetched, _ := d.seen()
		require.Contains(t, fetched, int64(loadRef(p.cell(i).value).id)<<tx.snap.shift)
		return err
	}))
}

// Ensures that walks in cold mode, of cursors in both directions, of the check and of copies, announce what they will come to, neighbors together and
// nothing that is known to be in memory; and that what they find is the same.
func TestColdReads_Announce(t *testing.T) {
	d, db := newSlowStore(t)
	leaves, _ := leafSizes(t, db)
	walk := func(name string, fn func(tx *Tx) error) {
		db.pager.verified.Load().clear()
		d.seen()
		require.NoError(t, db.View(fn), name)
		_, announced := d.seen()
		told := map[pgid]bool{}
		for _, a := range announced {
			require.Positive(t, a[1], name)
			for off := a[0]; off < a[0]+a[1]; off += DefaultPageSize {
				told[pgid(off/DefaultPageSize)] = true
			}
		}
		n := 0
		for _, r := range leaves {
			if told[r.id] {
				n++
			}
		}
		require.Greater(t, n, len(leaves)*9/10, "%s: %d of %d leaves were announced", name, n, len(leaves))
		require.Less(t, len(announced), len(leaves)/2, "%s: neighbors must be announced together", name)
	}
	db.pager.cold.turn(true)
	walk("forward", func(tx *Tx) error {
		n := 0
		for range tx.Bucket([]byte("b")).All() {
			n++
		}
		require.Equal(t, 5000, n)
		return nil
	})
	walk("backward", func(tx *Tx) error {
		n := 0
		for range tx.Bucket([]byte("b")).Backward() {
			n++
		}
		require.Equal(t, 5000, n)
		return nil
	})
	walk("check", checkWhole)
	walk("copy", func(tx *Tx) error { return tx.CopyFile(filepath.Join(t.TempDir(), "copy"), 0o600) })

	// Nothing that is in memory, and nothing outside of cold mode.
	scan := func() [][2]int64 {
		require.NoError(t, db.View(func(tx *Tx) error {
			for range tx.Bucket([]byte("b")).All() {
			}
			return nil
		}))
		_, announced := d.seen()
		return announced
	}
	scan()
	require.Empty(t, scan())
	db.pager.cold.turn(false)
	db.pager.verified.Load().clear()
	require.Empty(t, scan())
}

// Ensures that GetMulti announces all pages of a level before it waits for the first.
func TestColdReads_GetMulti(t *testing.T) {
	d, db := newSlowStore(t)
	db.pager.cold.turn(true)
	getNumber(t, db, 0) // the pages above
	d.seen()
	var keys [][]byte
	for i := range multiWidth {
		keys = append(keys, fmt.Appendf(nil, "%06d", 100+300*i))
	}
	require.NoError(t, db.View(func(tx *Tx) error {
		for _, v := range tx.Bucket([]byte("b")).GetMulti(keys, nil) {
			require.NotNil(t, v)
		}
		return nil
	}))
	fetched, announced := d.seen()
	for _, off := range fetched {
		require.True(t, slices.ContainsFunc(announced, func(a [2]int64) bool { return a[0] <= off && off < a[0]+a[1] }), "page at %d", off)
	}
	require.GreaterOrEqual(t, len(fetched), multiWidth)
}

// Ensures that a page which has gone bad on the disk after it was verified is noticed when the system reads it again: forgotten pages are
// verified anew.
func TestColdReads_VerifiesAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, nil)
	putAtOnce(t, db, 5000, 1000)
	require.NoError(t, db.Sync())
	getNumber(t, db, 3000)
	var leaf pgid
	require.NoError(t, db.View(func(tx *Tx) error {
		p, _, _, err := tx.Bucket([]byte("b")).tree.get(tx, fmt.Appendf(nil, "%06d", 3000))
		leaf = p.id()
		return err
	}))
	h, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer h.Close()
	at := db.pager.offset(leaf) + DefaultPageSize - 1
	var was [1]byte
	_, err = h.ReadAt(was[:], at)
	require.NoError(t, err)
	_, err = h.WriteAt([]byte{was[0] ^ 1}, at)
	require.NoError(t, err)
	db.pager.cold.turn(true)
	db.pager.verified.Load().clear()
	err = db.View(func(tx *Tx) error {
		tx.Bucket([]byte("b")).Get(fmt.Appendf(nil, "%06d", 3000))
		return tx.Err()
	})
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = h.WriteAt(was[:], at)
	require.NoError(t, err)
	getNumber(t, db, 3000)
}

// Ensures what begins cold mode and ends it, and when what is known to be in memory is forgotten.
func TestColdReads_Look(t *testing.T) {
	const much, little = math.MaxInt64, 1
	c := newColdReads(&slowDisk{simDisk: newSimDisk(simConfig{})})
	c.st.(*slowDisk).sizeNow = 1 << 30
	c.faults = 0
	faults := int64(0)
	look := func(more int64, memory int64) bool {
		faults += more
		return c.look(faults, memory)
	}
	require.False(t, look(1000, much), "the store fits into memory")
	require.False(t, c.active())
	require.False(t, look(coldFew-1, little), "so few faults may be of anything")
	require.False(t, c.active())
	require.True(t, look(coldFew, little))
	require.True(t, c.active())
	require.False(t, look(0, little))
	require.True(t, c.active())

	// Faults that forgetting does not help against: each time it costs many fetches of pages that were in memory.
	forgot := 0
	for range 1000 {
		c.first.Store(10 * coldWaste)
		if look(coldFew, little) {
			forgot++
		}
	}
	require.Less(t, forgot, 15)
	require.Positive(t, forgot)
	// And then those that it helps against: it is done at every look again, soon.
	for range 2 * coldPatience {
		c.first.Store(100)
		c.waited.Store(100)
		look(coldFew, little)
	}
	c.first.Store(100)
	c.waited.Store(100)
	require.True(t, look(coldFew, little))

	// It ends when nothing waits any more.
	for range coldCalm {
		require.True(t, c.active())
		c.first.Store(1000)
		c.waited.Store(1)
		require.False(t, look(0, little))
	}
	require.False(t, c.active())
	require.True(t, look(100, little))
	require.False(t, look(0, much), "memory has grown")
	require.False(t, c.active())
}

// Ensures that readers and a writer see what they must while pages are forgotten all the time; under the race detector too.
func TestColdReads_Beside(t *testing.T) {
	db := openFileDB(t, filepath.Join(t.TempDir(), "store.db"), nil)
	putAtOnce(t, db, 3000, 1000)
	db.pager.cold.turn(true)
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				db.pager.verified.Load().clear()
				runtime.Gosched()
			}
		}
	})
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				if g == 0 {
					if err := db.Update(func(tx *Tx) error {
						return tx.Bucket([]byte("b")).Put(fmt.Appendf(nil, "%06d", i*6), make([]byte, 8))
					}); err != nil {
						t.Error(err)
					}
					continue
				}
				if err := db.View(func(tx *Tx) error {
					if tx.Bucket([]byte("b")).Get(fmt.Appendf(nil, "%06d", i*5+g)) == nil {
						t.Errorf("key %d is missing", i*5+g)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
			if g == 1 {
				close(stop)
			}
		})
	}
	all.Wait()
}

// Ensures that a fetch does what it says to a real file: it waits for what is not in the page cache, and it is there then.
func TestFileStorage_Fetch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, nil)
	putAtOnce(t, db, 5000, 1000)
	require.NoError(t, db.Close())
	evict(t, file)
	db = openFileDB(t, file, nil)
	st := db.pager.st.(*fileStorage)
	off := st.size() / 2 / DefaultPageSize * DefaultPageSize
	waited := st.fetch(off, DefaultPageSize)
	if !inPageCacheTold {
		require.True(t, waited, "nobody can tell")
		return
	}
	require.False(t, st.fetch(off, DefaultPageSize), "it was fetched before")
	st.fetch(0, st.size())
	require.False(t, st.fetch(0, st.size()))
	t.Logf("waited for a page of a file that was evicted: %v", waited) // not on every file system is it
}

// Ensures that an open that fails when the store is watched already leaves nothing behind: a timer went on for ever, once a second, for each try,
// and kept the memory of the store.
func TestColdReads_FailedOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, nil)
	require.NoError(t, err)
	var root pgid
	require.NoError(t, db.Update(func(tx *Tx) error { // by a checkpoint, as the first one
		b, err := tx.CreateBucket([]byte("b"))
		for i := 0; i < 3 && err == nil; i++ {
			err = b.Put([]byte{byte(i)}, make([]byte, coldLeast/3+1))
		}
		for i := 0; i < 100 && err == nil; i++ { // not inside its parent
			err = b.Put([]byte{1, byte(i)}, make([]byte, 100))
		}
		return err
	}))
	require.NoError(t, db.Update(func(tx *Tx) error {
		root = tx.Bucket([]byte("b")).tree.root.id
		require.NotZero(t, root)
		return tx.Bucket([]byte("b")).Put([]byte("k"), []byte("v"))
	}))
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	clear(image[db.pager.offset(root):][:db.pager.pageSize]) // the log cannot be done again
	require.NoError(t, os.WriteFile(path, image, 0o600))

	var work atomic.Int32
	_, err = Open(path, 0o600, &Options{background: func(f func()) { work.Add(1); f() }})
	require.ErrorIs(t, err, ErrCorrupt)
	time.Sleep(warmInterval + warmInterval/4)
	require.Zero(t, work.Load())
}
