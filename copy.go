package alder

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// A copy of a snapshot is a store of its own: the pages that are in use, in the order in which a walk over the trees ends with
// them, with new numbers and the old births, and a free map with nothing free in it. The meta page comes first; how many pages there
// will be is known from the free map.

// WriteTo writes the store as the transaction sees it to w, without gaps, and returns the number of bytes. Other transactions go on
// meanwhile. What was written is a store that can be opened. Memory does not depend on the size.
//
// The copy is a backup of the store, which Tx.WriteDiff and ApplyDiff can bring up to date, until the first write transaction is committed in it: then the
// two have gone separate ways, and their diffs and backups do not fit each other any more. What a write transaction writes is no backup of any state that
// the store will have.
func (tx *Tx) WriteTo(w io.Writer) (n int64, err error) {
	if err := tx.ready(false); err != nil {
		return 0, err
	}
	if tx.w != nil {
		if err := tx.flushBuckets(); err != nil {
			return 0, err
		}
	}
	out := &countingWriter{w: w}
	c := &copier{tx: tx, w: bufio.NewWriterSize(out, 1<<20)}
	err = guarded(tx.snap.data, c.run)
	if err == nil {
		err = c.w.Flush()
	}
	return out.n, err
}

// countingWriter counts the bytes that w took.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Copy is WriteTo without the number of bytes.
//
// Deprecated: use WriteTo.
func (tx *Tx) Copy(w io.Writer) error {
	_, err := tx.WriteTo(w)
	return err
}

// CopyFile writes the store as the transaction sees it to a file, as WriteTo does, and makes it durable. The file appears under its
// name when it is complete, in place of one that is there; if that fails, what was at path is as it was. The file of the open
// store itself is refused.
func (tx *Tx) CopyFile(path string, mode os.FileMode) (err error) {
	if there, err := os.Stat(path); err == nil && tx.pager.path != "" {
		if own, err := os.Stat(tx.pager.path); err == nil && os.SameFile(there, own) {
			return &fs.PathError{Op: "copy", Path: path, Err: errors.New("it is the file of the open store itself")}
		}
	}
	// Through a symbolic link, and straight into what is not a file, as any writing program does.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if there, err := os.Stat(path); err == nil && !there.Mode().IsRegular() {
		return tx.copyInto(path)
	}
	f, err := os.OpenFile(fmt.Sprintf("%s.%08x.tmp", path, rand.Uint32()), os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = tx.WriteTo(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(path)
}

// copyInto writes the copy to a pipe or a device.
func (tx *Tx) copyInto(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = tx.WriteTo(f)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// copyLayout returns the number of pages of a copy with the given number of pages of trees and overflow runs, and the number of
// pages of each level of its free map.
func copyLayout(pages, pageSize int) (end pgid, shape []int) {
	span, fanout := mapSpan(pageSize), mapFanout(pageSize)
	used := firstPage + pgid(pages)
	// The map describes itself too.
	for end = used; ; {
		shape = mapShape((int(end)+span-1)/span, fanout)
		n := used
		for _, k := range shape {
			n += pgid(k)
		}
		if n == end {
			return end, shape
		}
		end = n
	}
}

type copier struct {
	tx     *Tx
	w      *bufio.Writer
	next   pgid    // number of the next page that is written
	used   pgid    // number of the first page behind the trees
	levels []*page // a buffer for each level of recursion
}

func (c *copier) run() error {
	tx := c.tx
	ps := tx.pager.pageSize
	c.next = firstPage
	pages := tx.treePages()
	end, shape := copyLayout(pages, ps)
	used := firstPage + pgid(pages)
	c.used = used
	birth := tx.number()
	top := tx.root()
	root := top.tree.root
	epoch, lines := tx.pager.epochOf(birth), tx.pager.linesBefore(birth)
	if tx.w != nil {
		// Nobody knows yet what the transaction of that number will be.
		epoch, lines = nextLine(epoch, lines, tx.snap.id)
	}
	m := meta{
		pageSize: ps, fileID: tx.pager.fileID, sequence: 1, txid: birth,
		root: pageRef{used - 1, root.birth}, rootCount: top.tree.count, rootSeq: top.sequence,
		highWater: end, fileLength: int64(end) * int64(ps),
		mapRoot: pageRef{end - 1, birth}, mapLevels: len(shape), clean: true,
		epoch: epoch, survived: tx.pager.survived, lines: lines, place: copyPlace, folded: tx.pager.folded,
	}
	buf := make(page, ps)
	m.encode(buf, 0)
	if err := c.write(buf); err != nil {
		return err
	}
	clear(buf)
	for range firstPage - 1 {
		if err := c.write(buf); err != nil {
			return err
		}
	}
	if _, err := c.tree(root, 0); err != nil {
		return err
	}
	if c.next != used {
		return corrupt(root.id, "a walk over all trees met %d pages, the free map leaves %d", c.next-firstPage, pages)
	}
	return c.writeMap(shape, birth)
}

func (c *copier) write(p []byte) error {
	_, err := c.w.Write(p)
	return err
}

// writeMap writes a free map in which nothing is free.
func (c *copier) writeMap(shape []int, birth txid) error {
	ps := c.tx.pager.pageSize
	fanout := mapFanout(ps)
	below := c.next
	for l, size := range shape {
		start := c.next
		for i := range size {
			p := make(page, ps)
			kind := kindMapBits
			if l > 0 {
				kind = kindMapIndex
			}
			p.clearHeader(kind, pageRef{c.next, birth})
			if l > 0 {
				n := min(fanout, shape[l-1]-i*fanout)
				p.setCount(n)
				for j := range n {
					e := p[mapHeader+j*mapEntry:]
					store48(e, uint64(below)+uint64(i*fanout+j))
					store48(e[6:], uint64(birth))
				}
			}
			p.seal()
			if err := c.write(p); err != nil {
				return err
			}
			c.next++
		}
		below = start
	}
	return nil
}

// ---- writing

// buffer returns the page buffer of a level of recursion.
func (c *copier) buffer(depth int) page {
	for len(c.levels) <= depth {
		p := make(page, c.tx.pager.pageSize)
		c.levels = append(c.levels, &p)
	}
	return *c.levels[depth]
}

// tree writes the subtree below r and returns the new number of its root.
func (c *copier) tree(r pageRef, depth int) (pgid, error) {
	if depth > maxCopyDepth {
		return 0, corrupt(r.id, "pages are nested deeper than %d levels", maxCopyDepth)
	}
	src, err := c.tx.readPage(r)
	if err != nil {
		return 0, err
	}
	p := c.buffer(depth)
	copy(p, src)
	if p.isBranch() {
		err = c.children(p, depth)
	} else {
		err = c.cells(p, depth)
	}
	if err != nil {
		return 0, err
	}
	id := c.next
	if id >= c.used {
		return 0, tooManyPages(r.id)
	}
	c.next++
	p.setRef(pageRef{id, r.birth})
	p.seal()
	return id, c.write(p)
}

// maxCopyDepth bounds the levels of all trees that are nested in each other.
const maxCopyDepth = 2 * maxNesting

// children writes what hangs on branch p, a copy, and puts the new numbers into it.
func (c *copier) children(p page, depth int) error {
	n := p.count()
	plen := p.prefixLen()
	for i := range n {
		if i%announceEvery == 0 {
			c.tx.snap.announceChildren(p, i, 1)
		}
		var buf [headSize]byte
		if rest, overflow := p.separatorRest(i, n, &buf); overflow && i > 0 {
			if err := c.overflow(rest[inlinePrefix-plen:]); err != nil {
				return err
			}
		}
		child := p.child(i)
		id, err := c.tree(child, depth+1)
		if err != nil {
			return err
		}
		p.setChild(i, pageRef{id, child.birth})
	}
	return nil
}

// cells writes what hangs on the cells of leaf p, a copy, and puts the new numbers into it.
func (c *copier) cells(p page, depth int) error {
	if p.flags()&flagCellFlags == 0 {
		return nil
	}
	for i := range p.count() {
		cell := p.cell(i)
		if cell.flags&cellOverflowKey != 0 {
			if err := c.overflow(cell.key[inlinePrefix:]); err != nil {
				return err
			}
		}
		if cell.flags&cellOverflowValue != 0 {
			if err := c.overflow(cell.value); err != nil {
				return err
			}
		}
		if cell.flags&cellBucket == 0 {
			continue
		}
		t, _ := decodeBucket(cell.value)
		if t.root.id == 0 {
			if t.inline != nil {
				if err := c.cells(t.inline, depth); err != nil {
					return err
				}
			}
			continue
		}
		id, err := c.tree(t.root, depth+1)
		if err != nil {
			return err
		}
		store48(cell.value[offBucketRoot:], uint64(id))
	}
	return nil
}

// overflow writes the overflow run that the reference in b means, and puts its new number into b.
func (c *copier) overflow(b []byte) error {
	r := loadRef(b)
	data, err := c.tx.readRun(r)
	if err != nil {
		return err
	}
	ps := c.tx.pager.pageSize
	n := runPages(r.length, ps)
	id := c.next
	if id+pgid(n) > c.used {
		return tooManyPages(r.id)
	}
	c.next += pgid(n)
	header := make(page, pageHeader)
	header.clearHeader(kindOverflow, pageRef{id, r.birth})
	header.setRunLength(int64(r.length))
	sealRun(header, data)
	r.id = id
	r.store(b)
	if err := c.write(header); err != nil {
		return err
	}
	if err := c.write(data); err != nil {
		return err
	}
	return c.write(make([]byte, n*ps-pageHeader-len(data)))
}
