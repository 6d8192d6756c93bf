package alder

import (
	"bufio"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// terabyte makes a store in a sparse file of that length: a small store, with a free map in which every page is free but those of the small store, of the map
// itself, and the last one.
func terabyte(t *testing.T) (path string, pages int) {
	t.Helper()
	const ps = 4096
	path = filepath.Join(t.TempDir(), "store")
	db, err := Open(path, 0o600, nil)
	require.NoError(t, err)
	putLarge(t, db, 1)
	require.NoError(t, db.Close())
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	c, err := readMetas(ownerReader{f, info.Size()})
	require.NoError(t, err)
	m := *c.meta
	if err := f.Truncate(1 << 40); err != nil {
		t.Skipf("no sparse file of 1 TiB here: %v", err)
	}
	pages = (1 << 40) / ps
	span, fanout := mapSpan(ps), mapFanout(ps)
	shape := mapShape((pages+span-1)/span, fanout)
	first := make([]pgid, len(shape)) // of each level
	used := m.highWater
	for l, n := range shape {
		first[l] = used
		used += pgid(n)
	}
	_, err = f.Seek(int64(first[0])*ps, 0)
	require.NoError(t, err)
	w := bufio.NewWriterSize(f, 1<<20)
	free := make([]int, shape[0])
	total := 0
	for l, n := range shape {
		for i := range n {
			p := make(page, ps)
			kind := kindMapIndex
			if l == 0 {
				kind = kindMapBits
			}
			p.clearHeader(kind, pageRef{first[l] + pgid(i), m.txid})
			if l == 0 {
				for b := range span {
					if id := i*span + b; id >= int(used) && id < pages-1 {
						p[mapHeader+b/8] |= 1 << (b % 8)
						free[i]++
					}
				}
				total += free[i]
			} else {
				count := min(fanout, shape[l-1]-i*fanout)
				p.setCount(count)
				for j := range count {
					e := p[mapHeader+j*mapEntry:]
					store48(e, uint64(first[l-1])+uint64(i*fanout+j))
					store48(e[6:], uint64(m.txid))
					if l == 1 {
						le.PutUint32(e[12:], uint32(free[i*fanout+j]))
						le.PutUint32(e[16:], uint32(free[i*fanout+j]))
					}
				}
			}
			p.seal()
			_, err := w.Write(p)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Flush())
	m.highWater, m.fileLength = pgid(pages), 1<<40
	m.mapRoot, m.mapLevels, m.mapFree = pageRef{first[len(shape)-1], m.txid}, len(shape), uint64(total)
	for slot := range 2 {
		m.sequence++
		buf := make([]byte, metaSize)
		m.encode(buf, slot)
		_, err := f.WriteAt(buf, int64(slot)*ps)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	return path, pages
}

// Ensures that a store of 1 TiB opens, reads, commits and makes a checkpoint without reading its free map, of which it loads the parts that it needs. What is made up: the file
// is sparse, and nearly all pages are free.
func TestOpen_Terabyte(t *testing.T) {
	if !is64bit {
		t.Skip("needs more address space than there is")
	}
	path, pages := terabyte(t)
	begun := time.Now()
	db, err := Open(path, 0o600, &Options{NoAutoShrink: true})
	require.NoError(t, err)
	opened := time.Since(begun)
	require.Greater(t, db.pager.fl.free, pages-20_000)
	loaded := func() (n int) {
		for i := range db.pager.fl.chunks {
			if db.pager.fl.chunks[i].words != nil {
				n++
			}
		}
		return n
	}
	require.Zero(t, loaded(), "an open reads only the index of the map")
	require.NoError(t, db.View(func(tx *Tx) error {
		require.Equal(t, large(1), tx.Bucket([]byte("b")).Get([]byte("k")))
		return nil
	}))
	begun = time.Now()
	for version := range byte(50) {
		putLarge(t, db, version)
	}
	commits := time.Since(begun) / 50
	db.pager.checkpointInBackground()
	db.pager.waitCheckpoint()
	c := db.Stats().Checkpoints
	require.Positive(t, c.Count)
	require.LessOrEqual(t, loaded(), 4)
	t.Logf("1 TiB, %d pages, %d pages of free map: open %v, a commit of 100 KB %v, one of %d checkpoints %v and %d bytes, %d pages of the map loaded", pages, len(db.pager.fl.chunks), opened, commits,
		c.Count, c.Time/time.Duration(c.Count), c.Bytes/c.Count, loaded())
	require.Less(t, opened, 5*time.Second)
	require.NoError(t, db.Close())
}
