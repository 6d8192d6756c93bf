package alder

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
)

// How an existing store is brought into use. What its log holds is found here, and done again in recover.go.

// openPager opens the store that st holds, or makes a new one if it is empty.
func openPager(st storage, o pagerOptions) (*pager, error) {
	pg := &pager{st: st, opts: o, writing: make(chan struct{}, 1), shrinking: make(chan struct{}, 1), stopping: make(chan struct{}), timers: map[*time.Timer]struct{}{}, broken: make(chan struct{}), cold: newColdReads(st)}
	if pg.opts.background == nil {
		pg.opts.background = func(f func()) { go f() }
	}
	if a, ok := st.(attendedStorage); ok && a.attendance() != nil {
		pg.attended, pg.watch = a, a.attendance()
	}
	fresh := st.size() == 0
	if !fresh {
		var err error
		if fresh, err = unfinishedStore(st); err != nil {
			return nil, err
		}
	}
	if fresh {
		if o.readOnly {
			what := "the file is empty"
			if st.size() > 0 {
				what = "nothing was ever stored in the file"
			}
			return nil, fmt.Errorf("%w: %s, and a read-only open does not create a store", ErrInvalid, what)
		}
		if err := pg.create(); err != nil {
			return nil, fmt.Errorf("creating the store: %w", err)
		}
	}
	if err := pg.recover(); err != nil {
		return nil, err
	}
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	pg.watchFaults()
	return pg, nil
}

// recover brings an existing store into use, in the one order that survives every crash before and during it: everything is
// synced, for a killed process may have left its writes in the page cache only; the meta of the highest sequence is
// chosen; the chosen slot is made durable if the medium differs, for a failed sync may have left it in the page cache
// only; and only then may anything be reused.
func (pg *pager) recover() error {
	if err := pg.st.sync(); err != nil {
		pg.dropCache() // the next open will not be told
		return fmt.Errorf("sync at open: %w", err)
	}
	c, err := pg.chooseMeta()
	if err != nil {
		return err
	}
	if st, ok := pg.st.(cachedStorage); ok && !pg.opts.readOnly {
		if err := st.keepInMemory(); err != nil {
			return err
		}
	}
	m := c.meta
	if m.fileLength > pg.st.size() {
		return corrupt(pgid(c.slot), "meta: file length is %d, but the file has only %d bytes: it was truncated", m.fileLength, pg.st.size())
	}
	if pg.opts.pageSize != 0 && pg.opts.pageSize != m.pageSize {
		return fmt.Errorf("%w: the store has pages of %d bytes, Options.PageSize asks for %d; leave it 0 for an existing store", ErrInvalid, m.pageSize, pg.opts.pageSize)
	}
	pg.setPageSize(m.pageSize)
	pg.fileID, pg.epoch, pg.survived, pg.lines, pg.place, pg.folded = m.fileID, m.epoch, m.survived, m.lines, m.place, m.folded
	if !pg.opts.readOnly {
		if err := pg.confirmMeta(c); err != nil {
			return err
		}
	}
	pg.durable, pg.slot = *m, c.slot
	s := pg.snapshotOf(m)
	pg.fl = newFreelist(pg.pageSize, func(r pageRef, k pageKind) (page, error) {
		// The map on disk may lie behind the end of a store that becomes shorter, until the next one is durable.
		s := snapshot{highWater: pgid(pg.st.size() >> pg.shift), shift: pg.shift, data: pg.st.mapping().data}
		return s.readMap(r, k)
	})
	pg.fl.released = pg.unwritten.drop
	pg.published.Store(s)
	if err := guarded(s.data, func() error {
		if _, err := s.readPage(s.root); err != nil {
			return err
		}
		if err := pg.fl.open(m); err != nil {
			return err
		}
		if m.holes {
			pg.fl.openHoles(pgid(pg.st.size() >> pg.shift))
		}
		return pg.openLog(m)
	}); err != nil {
		return err
	}
	s.treePages = pg.treePages()
	pg.tip = state{m.txid, m.root, m.rootCount, m.rootSeq, m.highWater, s.treePages, m.moves}
	pg.setVisible(pg.tip)
	pg.feed.newest = m.txid
	pg.noteCounts()
	if pg.opts.readOnly {
		return nil
	}
	last := m.txid
	if pg.replay != nil {
		last = pg.replay.next - 1
	}
	pg.place = placeOf(pg.st)
	pg.beginLine(m, last)
	return pg.writeOwner()
}

// chooseMeta chooses the meta of the highest sequence. If an earlier process has left word that something failed, that is among those that are there
// when the cache has been dropped: one that was in the cache only cannot be confirmed any more, and what it leads to is not all that counts.
func (pg *pager) chooseMeta() (chosenMeta, error) {
	c, err := readMetas(pg.certain())
	if err != nil {
		return c, err
	}
	if !pg.hasFailed(c.meta.pageSize) {
		return c, nil
	}
	pg.dropCache()
	return readMetas(pg.certain())
}

// openLog reads the log that m points to, if the store was not closed in order, and keeps its pages from being used. What it holds
// is for replay.
func (pg *pager) openLog(m *meta) error {
	if m.clean || m.logBegin == 0 {
		return nil
	}
	pg.epoch++ // transactions that are lost now may have been seen
	data := pg.st.mapping().data
	r := logReader{pageSize: pg.pageSize, end: pgid(pg.st.size() >> pg.shift), read: func(r run) []byte {
		return data[pg.offset(r.id):pg.offset(r.id+pgid(r.n))]
	}}
	scan, err := r.scan(m)
	if err != nil {
		return err
	}
	if err := pg.dropUncertain(scan); err != nil {
		return err
	}
	copy(pg.survived[1:], m.survived[:])
	pg.survived[0] = scan.next - 1
	if pg.opts.readOnly && len(scan.frames) == 0 {
		return nil
	}
	for _, r := range scan.runs {
		if err := pg.fl.claim(r); err != nil {
			return err
		}
		pg.logRuns = append(pg.logRuns, r)
	}
	for i := range scan.frames {
		if err := scan.frames[i].records(pg.claimValues); err != nil {
			return err
		}
	}
	pg.log.runs = scan.runs // until the recovery's checkpoint is durable
	pg.replay = scan
	return nil
}

// A failed write may be in the page cache only, in pages that the system calls clean: no sync makes it durable, it is gone when the power
// fails, or when the system wants the memory. So what the medium does not have does not count, where the medium can be asked. Only a meta page
// that an open for writing has chosen is made durable, for later ones go by its number.

// certainStorage reads what is on the medium, where it can be asked.
type certainStorage struct{ storage }

func (s certainStorage) readAt(p []byte, off int64) error {
	if ok, err := s.readMedium(p, off); ok || err != nil {
		return err
	}
	return s.storage.readAt(p, off)
}

// certain is the storage as an open may believe it.
func (pg *pager) certain() storage {
	if pg.opts.readOnly {
		return certainStorage{pg.st}
	}
	return pg.st
}

// dropUncertain takes the last frame away if the medium does not have it. All before it were durable when it was written. (Invariant 32)
func (pg *pager) dropUncertain(scan *logScan) error {
	last := len(scan.frames) - 1
	if last < 0 {
		return nil
	}
	f := &scan.frames[last]
	cached := pg.st.mapping().data[f.offset : f.offset+frameSize(len(f.body))]
	medium := make([]byte, len(cached))
	ok, err := pg.st.readMedium(medium, f.offset)
	if err != nil {
		return fmt.Errorf("reading the last frame of the redo log: %w", err)
	}
	if ok && !bytes.Equal(cached, medium) {
		scan.frames = scan.frames[:last]
		scan.next = f.first
		scan.bytes -= int64(len(cached))
	}
	return nil
}

// claimValues keeps the values that a record refers to from being overwritten before it is replayed.
func (pg *pager) claimValues(_ txid, record []byte) error {
	reader := recordReader{b: record}
	var o operation
	for reader.next(&o) {
		if o.kind != operationPutRun || len(o.value) != refSize {
			continue
		}
		r := loadRef(o.value)
		n := runPages(r.length, pg.pageSize)
		if r.length >= maxRunLength || r.id < firstPage || pg.offset(r.id+pgid(n)) > pg.st.size() || r.id+pgid(n) < r.id {
			return corrupt(r.id, "redo log: a value of %d bytes cannot lie here", r.length)
		}
		if err := pg.fl.claim(run{r.id, n}); err != nil {
			return err
		}
	}
	return nil // whether the record makes sense shows when it is replayed
}

// confirmMeta makes the chosen slot durable where the medium has other bytes than the page cache, or cannot be asked.
func (pg *pager) confirmMeta(c chosenMeta) error {
	cached, medium := make([]byte, metaSize), make([]byte, metaSize)
	off := pg.offset(pgid(c.slot))
	if err := pg.st.readAt(cached, off); err != nil {
		return fmt.Errorf("reading meta page %d: %w", c.slot, err)
	}
	if ok, err := pg.st.readMedium(medium, off); err == nil && ok && slices.Equal(cached, medium) {
		return nil
	}
	if err := pg.st.writeDurable(cached, off); err != nil {
		return fmt.Errorf("confirming meta page %d: %w", c.slot, err)
	}
	return nil
}

// errIncoherent says that what is written through a descriptor is not seen through the mapping, which network file systems and some in
// user space do not keep.
var errIncoherent = errors.New("the file system does not show in a mapped file what was written to it; no store can be written there")

// writeOwner says in the owner page who has the store open, and finds out with that whether the mapping shows what is written.
func (pg *pager) writeOwner() error {
	buf := make([]byte, pg.pageSize)
	encodeOwner(buf, time.Now(), false)
	off, data := pg.offset(ownerPage), pg.st.mapping().data
	return guarded(data, func() error {
		seen := data[off : off+int64(pg.pageSize)]
		before := bytes.Clone(seen) // this look brings the page in, the next one shows whether it is kept up to date
		if err := pg.st.writeAt(buf, off); err != nil {
			return fmt.Errorf("writing the owner page: %w", err)
		}
		if !bytes.Equal(seen, buf) {
			return errors.Join(errIncoherent, pg.st.writeAt(before, off))
		}
		return nil
	})
}

// After a failed write to blocks that were only reserved, ext4 forgets that they were never written: they are written again, a sync
// succeeds, and they read as zeros when the page is not cached any more (seen with Linux 6.18). So when something has failed the next open
// has the cache dropped before it writes anything. It is told by the owner page, for which the page cache is good enough: without it there is no danger.

// markFailed leaves word for the next open.
func (pg *pager) markFailed() {
	if _, ok := pg.st.(cachedStorage); !ok || pg.pageSize == 0 || pg.offset(firstPage) > pg.st.size() {
		return
	}
	buf := make([]byte, pg.pageSize)
	encodeOwner(buf, time.Now(), true)
	_ = pg.st.writeAt(buf, pg.offset(ownerPage)) // where not even this can be written, nothing will be
}

// hasFailed reports whether an earlier process has left word.
func (pg *pager) hasFailed(pageSize int) bool {
	if _, ok := pg.st.(cachedStorage); !ok || pg.opts.readOnly {
		return false
	}
	buf := make([]byte, pageSize)
	return pg.st.readAt(buf, int64(ownerPage)*int64(pageSize)) == nil && ownerFailed(buf)
}

func (pg *pager) dropCache() {
	if st, ok := pg.st.(cachedStorage); ok {
		if err := st.dropCache(); err != nil && pg.opts.logger != nil {
			pg.opts.logger.Warn("alder: the page cache cannot be dropped after a failure", "error", err)
		}
	}
}

func (pg *pager) snapshotOf(m *meta) *snapshot {
	mp := pg.st.mapping()
	return newSnapshot(snapshot{
		id: m.txid, root: m.root, count: m.rootCount, sequence: m.rootSeq, highWater: m.highWater,
		shift: pg.shift, m: mp, data: mp.data, verified: pg.coverVerified(m.highWater), cold: pg.cold,
		mapRoot: m.mapRoot, mapLevels: m.mapLevels, mapFree: m.mapFree,
	})
}
