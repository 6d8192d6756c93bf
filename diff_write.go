package alder

import (
	"fmt"
	"io"
)

// A diff for a backup lists, for each bucket, what the backup must be changed to, in the order of keys. A subtree that was born at or
// before the backup's transaction was part of its snapshot, at the same place, and needs no more than the number of its keys. For
// what is younger the keys are listed, and everything else in that range is to go: so no memory of what was deleted is needed.
//
// Why that is sound:
//   - A page is never changed once a snapshot has it, and stays in the tree of its bucket as long as it is used. So a subtree that is older than
//     the backup was in the same bucket then, with the same keys, and the bucket had no other keys between its bounds, for the
//     bounds of a page that stays never get wider.
//   - That a bucket is the same bucket is known from its place: a bucket that was moved says when (tree.movedAt), and is listed
//     whole.
//   - The numbers of keys are compared when the diff is applied. Were a bound wrong the number would be too, and the diff would
//     be refused.
//
// docs/decisions/0008-logical-diffs.md has the reasons for records of keys and not of pages.

// WriteDiff writes to w what has changed from the snapshot of an older backup to that of tx, a read transaction, and returns the number of bytes.
// ApplyDiff and Restore make the newer snapshot of the backup and the diff. since is the identity of the backup: Tx.Snapshot of the
// transaction that wrote it, or of any transaction of the backup opened as a store. Other transactions go on meanwhile; the store need not
// have kept anything for the backup. An error of w ends it at once, and is returned: that is how to stop it.
//
// The error matches ErrDiffMismatch if the backup is not of an older snapshot of this store: it is of another store, it is newer,
// transactions may have been lost in a crash since, or it is of a copy that went on by itself. Then a full backup is needed.
//
// Cost: one read of each page written since the backup, and as many bytes as these pages hold. Memory does not depend on either.
func (tx *Tx) WriteDiff(w io.Writer, since SnapshotID) (n int64, err error) {
	if err := tx.ready(false); err != nil {
		return 0, err
	}
	if tx.w != nil {
		return 0, ErrTxNotReadOnly
	}
	now := tx.Snapshot()
	if err := since.before(now); err != nil {
		return 0, err
	}
	if lineOf(since.Epoch) == lineOf(tx.pager.epoch) && since.TxID > 0 {
		// Who has made up the identity out of a number cannot know on which line that was.
		since.Epoch = onLine(lineOf(tx.pager.epochOf(txid(since.TxID))), since.Epoch)
	}
	if err := tx.pager.descends(since); err != nil {
		return 0, err
	}
	out := newDiffOutput(w, since, now)
	s := &diffScan{tx: tx, since: txid(since.TxID), out: out, left: int(tx.snap.highWater)}
	top := tx.root()
	err = guarded(tx.snap.data, func() error {
		out.number(top.sequence)
		return s.bucket(&top.tree, false, 0)
	})
	if err == nil {
		err = out.finish()
	}
	return out.n, err
}

// before returns an error unless s is now, or an older snapshot of the same store.
func (s SnapshotID) before(now SnapshotID) error {
	switch {
	case s.Store != now.Store:
		return fmt.Errorf("%w: the backup is of store %x, this is store %x", ErrDiffMismatch, s.Store, now.Store)
	case killsOf(s.Epoch) > killsOf(now.Epoch):
		return fmt.Errorf("%w: the backup is of epoch %d, the store is in epoch %d; make a full backup", ErrDiffMismatch, killsOf(s.Epoch), killsOf(now.Epoch))
	case s.TxID > now.TxID:
		return fmt.Errorf("%w: the backup is of transaction %d, the store is at %d; make a full backup", ErrDiffMismatch, s.TxID, now.TxID)
	}
	return nil
}

// descends returns an error unless it is known that the store has all that snapshot s, of an epoch before or of this one, has: it is on one of the lines on which
// the store was, before it went on to the next one, and each recovery in between has found its transaction. A diff between them is right as any is, for a recovery does again what was done since the last checkpoint, with pages of its own birth for every
// leaf in whose range something was put or deleted.
func (pg *pager) descends(s SnapshotID) error {
	epoch, now := killsOf(s.Epoch), killsOf(pg.epoch)
	back := now - epoch
	last, known := pg.lineEnd(lineOf(s.Epoch))
	switch {
	case !known:
		return fmt.Errorf("%w: the backup is of a copy of this store that has gone on by itself, or of so long ago that it is not known; make a full backup", ErrDiffMismatch)
	case s.TxID > uint64(last):
		return fmt.Errorf("%w: the backup is of transaction %d of another copy of this store, and this one has gone on by itself behind transaction %d; make a full backup", ErrDiffMismatch, s.TxID, last)
	case txid(s.TxID) > pg.folded.from && txid(s.TxID) < pg.folded.to:
		return fmt.Errorf("%w: the backup is of transaction %d, and this store was made by applying diffs from %d to %d, which do not tell what changed since; make a full backup", ErrDiffMismatch,
			s.TxID, pg.folded.from, pg.folded.to)
	case back == 0:
	case back > survivedEpochs || pg.survived[back-1] == 0:
		return fmt.Errorf("%w: the backup is of epoch %d, the store is in epoch %d, and what was lost in between is not known any more; make a full backup", ErrDiffMismatch, epoch, now)
	case s.TxID > uint64(pg.survived[back-1]):
		return fmt.Errorf("%w: the backup is of transaction %d of epoch %d, of which a crash has left %d; make a full backup", ErrDiffMismatch, s.TxID, epoch, pg.survived[back-1])
	}
	return nil
}

// diffScan is a walk over the young pages of a snapshot.
type diffScan struct {
	tx    *Tx
	since txid
	out   *diffOutput
	left  int // pages that the walk may still meet

	// Of the bucket at work.
	whole   bool   // nothing of it is known to be in the backup
	kept    uint64 // keys of old subtrees in a row, not written yet
	listing bool   // keys have been listed since the last bound
}

// bucket writes the content of a bucket.
func (s *diffScan) bucket(t *tree, whole bool, nesting int) error {
	if nesting > maxNesting {
		return tooNested(t.root.id)
	}
	outer := *s
	s.whole, s.kept, s.listing = whole, 0, false
	if t.root.id != 0 {
		h, err := t.height(s.tx)
		if err != nil {
			return err
		}
		if err := s.subtree(t.root, t.count, h, nil, nesting); err != nil {
			return err
		}
	} else if t.inline != nil {
		if err := s.cells(t.inline, nesting); err != nil {
			return err
		}
	}
	if s.kept > 0 {
		s.keep(nil)
	} else {
		s.cut(nil)
	}
	s.out.op(opEnd)
	s.out.number(t.count)
	s.whole, s.kept, s.listing = outer.whole, outer.kept, outer.listing
	return s.out.err
}

// keep says that the keys of the subtrees passed, which end below bound, are as in the backup.
func (s *diffScan) keep(bound []byte) {
	s.out.op(opKeep)
	s.out.number(s.kept)
	s.out.bound(bound)
	s.kept = 0
}

// cut says that what is listed ends below bound.
func (s *diffScan) cut(bound []byte) {
	s.out.op(opCut)
	s.out.bound(bound)
	s.listing = false
}

// subtree writes what is below r, with count keys, none of them below bound.
func (s *diffScan) subtree(r pageRef, count uint64, height int, bound []byte, nesting int) error {
	if !s.whole && r.birth <= s.since {
		if s.listing {
			s.cut(bound)
		}
		s.kept += count
		return s.out.err
	}
	if s.left--; s.left < 0 {
		return tooManyPages(r.id)
	}
	p, err := s.tx.readPage(r)
	if err != nil {
		return err
	}
	if p.isBranch() != (height > 0) {
		return corrupt(r.id, "a %v page lies %d levels above the leaves", p.kind(), height)
	}
	if height == 0 {
		if s.kept > 0 {
			s.keep(bound)
		}
		return s.cells(p, nesting)
	}
	for i := range p.count() {
		child := p.child(i)
		n, _ := p.childCount(i)
		if old := !s.whole && child.birth <= s.since; old && !s.listing {
			s.kept += n // and the separator is of no interest
			continue
		}
		lower := bound
		if i > 0 {
			if lower, err = s.separator(p, i); err != nil {
				return err
			}
		}
		if err := s.subtree(child, n, height-1, lower, nesting); err != nil {
			return err
		}
	}
	return s.out.err
}

// separator returns the separator in slot i > 0 of branch p.
func (s *diffScan) separator(p page, i int) ([]byte, error) {
	e, _ := p.entry(i, nil)
	if e.overflow {
		return s.tx.readRun(keyRef(e.separator))
	}
	return e.separator, nil
}

// cells lists the cells of a leaf.
func (s *diffScan) cells(p page, nesting int) error {
	s.listing = true
	for i := range p.count() {
		c := p.cell(i)
		key, err := wholeKey(s.tx, c)
		if err != nil {
			return err
		}
		switch {
		case c.flags&cellBucket != 0:
			err = s.nested(key, c.value, nesting)
		case c.flags&cellOverflowValue != 0 && !s.whole && loadRef(c.value).birth <= s.since:
			// A run belongs to the one cell that names it, from its birth on.
			s.out.op(opSame)
			s.out.bytes(key)
			s.out.number(uint64(loadRef(c.value).length))
		default:
			var value []byte
			if value, err = wholeValue(s.tx, c); err == nil {
				s.out.op(opPut)
				s.out.bytes(key)
				s.out.bytes(value)
			}
		}
		if err != nil {
			return err
		}
	}
	return s.out.err
}

// nested lists a nested bucket.
func (s *diffScan) nested(name, value []byte, nesting int) error {
	t, sequence := decodeBucket(value)
	whole := s.whole || bucketMoved(value) > s.since
	if !whole && t.root.id != 0 && t.root.birth <= s.since {
		s.out.op(opIntact)
		s.out.bytes(name)
		s.out.number(sequence)
		s.out.number(t.count)
		return nil
	}
	s.out.op(opBucket)
	s.out.bytes(name)
	s.out.number(sequence)
	return s.bucket(&t, whole, nesting+1)
}
