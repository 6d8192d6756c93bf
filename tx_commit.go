package alder

import (
	"errors"
	"runtime/debug"
	"time"
)

// Commit: from the dirty pages of a transaction to the tip of the store, by the log or by a checkpoint of its own.

// Commit makes the changes of a write transaction durable and visible, all or none, and ends the transaction. When Commit returns nil, the
// changes survive a crash of the process, of the system, and a power cut (with Options.NoSync: see there). When it
// returns an error the transaction has been rolled back and the store goes on, unless the error matches ErrFailed: then it
// is not known whether the changes will be there after the store is opened again.
//
// Functions given to OnCommit are called before Commit returns, in order. Commit panics in Update and View, which end
// their transactions themselves.
func (tx *Tx) Commit() error {
	if tx.managed {
		panic("managed tx commit not allowed")
	}
	return tx.commit()
}

func (tx *Tx) commit() error {
	if tx.state.Load() != txOpen {
		return ErrTxClosed
	}
	if tx.w == nil {
		return ErrTxNotWritable
	}
	begun := time.Now()
	var g *group
	err := tx.Err()
	if err == nil {
		err = guarded(tx.snap.data, func() (err error) {
			g, err = tx.commitSteps()
			return err
		})
	}
	lazy := tx.lazy()
	handlers := tx.w.onCommit
	if err == nil && g != nil && !lazy {
		tx.end(true)
		err = tx.pager.await(g)
	} else if e := tx.end(err == nil); e != nil {
		err = errors.Join(err, e)
	}
	if !tx.db.opts.NoStatistics {
		tx.db.addWriteTime(time.Since(begun), err == nil && !tx.w.moves)
	}
	if err == nil {
		err = tx.pager.committed(lazy)
	}
	if err != nil {
		return err
	}
	if tx.db.StrictMode {
		tx.db.mustCheck()
	}
	for _, fn := range handlers {
		fn()
	}
	return nil
}

// lazy reports whether Commit need not wait until the transaction is durable.
func (tx *Tx) lazy() bool {
	if tx.w.level == DurabilityDefault {
		return tx.db.NoSync
	}
	return tx.w.level == DurabilityLazy
}

// maxRecord is the number of bytes of the longest record: a transaction that needs a longer one commits by a checkpoint of its own.
const maxRecord = 8 << 20

// commitSteps takes the transaction from its dirty pages to the tip of the store. It returns the group to wait for; nil if nothing is to be
// waited for. An error leaves the store as it was before the transaction, unless it is the failed state.
func (tx *Tx) commitSteps() (*group, error) {
	for {
		g, err := tx.tryCommit()
		if err != errShared {
			return g, err
		}
		if err := tx.unshare(); err != nil {
			return nil, err
		}
	}
}

// tryCommit is commitSteps; after errShared it can be called again.
func (tx *Tx) tryCommit() (*group, error) {
	pg, w := tx.pager, tx.w
	// The roots and counts of changed buckets go into their parents' leaves; small buckets go there as a whole.
	if err := tx.flushBuckets(); err != nil {
		return nil, err
	}
	root := &w.root
	j := &joining{
		state:  state{id: w.id, root: root.tree.root, count: root.tree.count, sequence: root.sequence},
		record: pg.record.b, visible: tx.db.NoSync, changes: w.changes, freed: w.freed, values: w.values, sync: w.unsynced,
	}
	if w.moves {
		j.state.moves = pg.tip.moves + 1
	}
	if w.shared > 0 {
		j.floor = w.floor
	}
	// A transaction that is too large for the log, and the first one, for a program that has no more, commit by a checkpoint.
	if !pg.opts.volatile && (pg.record.tooLong || !pg.log.active && pg.commits == 0 && !tx.lazy() && !pg.watched()) {
		return nil, tx.commitByCheckpoint(j)
	}
	if !pg.opts.volatile {
		if err := pg.checkRemovedOften(); err != nil {
			return nil, err
		}
		// From here on no space is needed but for the log.
		if err := pg.reserveForMap(w.changes); err != nil {
			return nil, err
		}
		if !pg.log.active {
			pg.waitCheckpoint()
			err := pg.startLog(len(j.record))
			if errors.Is(err, errNoLogRoom) {
				return nil, tx.commitByCheckpoint(j)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	// Few pages stay in memory, where the next transactions may change them again before they are ever written. Those that were only
	// moved are not likely to change soon, and a reader should not have to wait until they are written.
	if pg.dirty.inUse > maxUnwrittenPages || w.moves {
		if w.shared > 0 {
			return nil, errShared
		}
		if err := tx.writeDirty(); err != nil {
			return nil, err
		}
		pg.dirty.reset()
	}
	j.handOver = tx.handOver
	g, err := pg.join(j)
	if errors.Is(err, errNoLogRoom) {
		return nil, tx.commitByCheckpoint(j)
	}
	if err == nil {
		w.joined = true
		pg.commits++
	}
	return g, err
}

// maxUnwrittenPages is the number of dirty pages above which a transaction writes them itself.
const maxUnwrittenPages = 4096

// handOver takes the dirty pages out of the transaction's memory, for the next ones to find.
func (tx *Tx) handOver() {
	pg := tx.pager
	pages := pg.handed[:0]
	for _, i := range pg.dirty.taken {
		id := pg.dirty.ids[i]
		if id == 0 {
			continue
		}
		if p := pg.dirty.buffers[i]; p.birth() == tx.w.id {
			pages = append(pages, handedPage{id, p})
		} else {
			pg.unwritten.renew(p)
		}
		pg.dirty.replace(int(i), pg.unwritten.buffer(pg.pageSize))
	}
	pg.unwritten.add(tx.w.id, pages)
	tx.w.stats.Write += int64(len(pages) + tx.w.shared)
	clear(pages)
	pg.handed = pages
}

// commitByCheckpoint makes the transaction durable without the log, and with it all before it. (Invariant 37)
func (tx *Tx) commitByCheckpoint(j *joining) error {
	pg, w := tx.pager, tx.w
	if w.shared > 0 {
		return errShared
	}
	begun := time.Now()
	// Every record before must be durable, and every page of theirs written, before a meta can replace them.
	if err := pg.syncLog(); err != nil {
		return err
	}
	pg.waitCheckpoint()
	if err := pg.failed(); err != nil {
		return err
	}
	if err := pg.checkRemoved(); err != nil {
		return err
	}
	// The free map takes its pages: from here on no space is needed.
	m, err := pg.prepareMap(w.id, w.changes)
	if err != nil {
		return err
	}
	// All pages go to places that no durable state refers to.
	bytes := (pg.dirty.inUse + len(m.update.pages)) * pg.pageSize
	write := func() error {
		if err := tx.writeDirty(); err != nil {
			return err
		}
		pg.publishMu.Lock()
		defer pg.publishMu.Unlock()
		bytes += len(pg.unwritten.due(w.id, nil)) * pg.pageSize
		if err := pg.writeDue(w.id); err != nil {
			return err
		}
		return pg.writeMap(m.update)
	}
	if err := write(); err != nil {
		return errors.Join(err, pg.undoMap(m))
	}
	// Sync, then the meta page.
	if err := pg.sync("sync of a checkpoint"); err != nil {
		return err
	}
	w.joined = true
	c, err := pg.absorbWhole(j, m)
	if err != nil {
		return pg.fail("free map", err)
	}
	c.begun, c.bytes = begun, int64(bytes)
	if err := pg.completeMeta(c); err != nil {
		return err
	}
	pg.commits++
	pg.commitMu.Lock()
	pg.setVisible(c.state)
	pg.feed.reached(c.state.id)
	pg.commitMu.Unlock()
	if err := pg.materialize(c.state); err != nil {
		return pg.fail("publishing a transaction that is durable", err)
	}
	pg.republish()
	return nil
}

// absorbWhole makes the result of a transaction that commits by a checkpoint the tip, and returns its checkpoint. All is written and synced but the meta.
func (pg *pager) absorbWhole(j *joining, m *mapPrepared) (*checkpointRun, error) {
	defer pg.tellFailure()
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()                         // also beside the panic of a fault
	j.changes, j.handOver, j.visible = nil, nil, false // the map has them, they are written, and readers see them when they are durable
	if err := pg.fl.adopt(m.update, max(pg.newestPin(), pg.tip.id)); err != nil {
		return nil, err
	}
	if err := pg.absorb(j); err != nil {
		return nil, err
	}
	pg.log.bytes = 0
	return &checkpointRun{state: pg.tip, fileLength: pg.st.size(), update: m.update, clean: !pg.log.active, holes: pg.hasHoles(), begin: pg.log.plan, previous: pg.log.previous}, nil
}

// flushBuckets brings the cells of all buckets up to date. After an error the transaction can only be rolled back.
func (tx *Tx) flushBuckets() (err error) {
	defer tx.endWrite(debug.SetPanicOnFault(true), &err)
	return tx.setErr(tx.w.root.flush())
}
