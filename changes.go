package alder

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// The change feed: what transactions did, read back from the redo log as they become durable. feed.go follows the log; here are the
// transactions in it.

// ErrHistoryGone matches every *HistoryError.
var ErrHistoryGone = errors.New("history is gone")

// HistoryError says that the store cannot list what happened since a snapshot. It matches ErrHistoryGone. Who follows the store has to bring his
// copy up to a newer snapshot in another way, and can go on from there: with Tx.Diff, if he has kept a read transaction that shows
// what his copy holds; with Tx.WriteDiff, for a copy that is a store; or by reading everything.
type HistoryError struct {
	Since  SnapshotID // what was asked for
	Oldest SnapshotID // changes since this snapshot, or a newer one, can be had
	reason string
}

// Error says it in a sentence.
func (e *HistoryError) Error() string {
	return fmt.Sprintf("changes since transaction %d cannot be listed: %s; history goes back to transaction %d: take a diff, or a new snapshot",
		e.Since.TxID, e.reason, e.Oldest.TxID)
}

// Is makes errors.Is(err, ErrHistoryGone) true.
func (e *HistoryError) Is(target error) bool { return target == ErrHistoryGone }

// ChangeSet is what one transaction did, or a gap in what is known. It may be kept, and used by several goroutines.
type ChangeSet struct {
	// Snapshot is the state after the transaction. When the set is delivered, that state is durable, and every read transaction that begins
	// sees it, or a newer one.
	Snapshot SnapshotID

	// Gap says that the operations are not in the log, and Changes has none: of this transaction, and of others between the set before,
	// or the begin, and this one. It is so with transactions that are too large for the log, with the first one after Open if it came before
	// the loop, and in stores in memory with every one. What changed must be found in another way, as after a *HistoryError.
	Gap bool

	pager  *pager
	record []byte
}

// Changes returns an iterator over the transactions committed after the snapshot since, in their order, as they become durable: those that
// there are, and then it waits for more, until ctx ends or the store is closed. Lazy transactions come when they are durable too. No
// transaction is left out, so that each number is one above that before: where the log does not have some, one set with Gap comes in their place. Those
// of Shrink, and of a file that becomes shorter by itself, come as sets without changes, as does a transaction that did nothing.
//
// To begin with what the store holds, take since from Tx.Snapshot of the read transaction with which it was read; to go on, from the last set. A
// loop whose reader knows all that was committed when the store was closed may go on after the next Open, also if Close has made the file shorter. What a since from a read
// transaction stands for may be lost in a crash, if the transaction was lazy; the epoch in it tells.
//
// The last pair has an error, and no set: the cause with which ctx ended; ErrDatabaseNotOpen when the store is closed; one that matches
// ErrFailed, after all sets that are durable; ErrCorrupt for a damaged log; ErrDatabaseReadOnly; or a *HistoryError. That comes at once if the
// log does not reach back to since: a checkpoint lets go of what is before it, unless a loop still has to read it. And it comes later if the loop falls
// behind by more than Options.HistoryLimit bytes of log, or the store needs the room.
//
// The loop holds no lock and no transaction: its body may read, write and close the store. Commits do not wait for it. Each loop reads the log for
// itself, at the cost of a read from the page cache and a copy of each group of transactions; without a loop nothing is done or kept.
func (db *DB) Changes(ctx context.Context, since SnapshotID) iter.Seq2[*ChangeSet, error] {
	return func(yield func(*ChangeSet, error) bool) {
		if err := db.follow(ctx, since, yield); err != nil {
			yield(nil, err)
		}
	}
}

// errLoopLeft ends the reading of a frame in whose middle the caller has left the loop.
var errLoopLeft = errors.New("alder: the loop was left")

// follow is the loop of Changes. It returns nil when the caller has left it.
func (db *DB) follow(ctx context.Context, since SnapshotID, yield func(*ChangeSet, error) bool) error {
	pg := db.pager
	switch {
	case pg == nil:
		return ErrDatabaseNotOpen
	case pg.opts.readOnly:
		return ErrDatabaseReadOnly
	case since.Store != pg.fileID:
		return fmt.Errorf("%w: the snapshot is of store %x, this is store %x", ErrDiffMismatch, since.Store, pg.fileID)
	case killsOf(since.Epoch) != killsOf(pg.epoch):
		return pg.historyGone(since, "that was in epoch %d, the store is in epoch %d, and transactions may have been lost in a crash in between",
			killsOf(since.Epoch), killsOf(pg.epoch))
	case since.Epoch != pg.epochOf(txid(since.TxID)):
		return pg.historyGone(since, "it is of a copy of this store that has gone on by itself")
	}
	s, err := pg.subscribe(txid(since.TxID))
	if err != nil {
		return err
	}
	if s == nil {
		if _, tip := pg.history(); since.TxID > uint64(tip) {
			return pg.historyGone(since, "the last transaction of this store is %d", tip)
		}
		return pg.historyGone(since, "the log does not reach back to it")
	}
	defer pg.unsubscribe(s)
	// What only moved pages need not be in the log any more.
	for next := uint64(s.next); since.TxID+1 < next; {
		since = pg.snapshotID(txid(since.TxID + 1))
		if !yield(&ChangeSet{Snapshot: since}, nil) {
			return nil
		}
	}
	for {
		d, err := pg.follow(ctx, s)
		if errors.Is(err, errFellBehind) {
			return pg.historyGone(since, "the loop fell behind by more than Options.HistoryLimit, or the store needed the room")
		}
		if err != nil {
			return err
		}
		if d.gap > 0 {
			since = pg.snapshotID(d.gap)
			if !yield(&ChangeSet{Snapshot: since, Gap: true}, nil) {
				return nil
			}
		}
		err = d.frame.records(func(id txid, record []byte) error {
			switch {
			case id < d.first:
				return nil
			case ctx.Err() != nil:
				return context.Cause(ctx)
			}
			since = pg.snapshotID(id)
			if !yield(&ChangeSet{Snapshot: since, pager: pg, record: record}, nil) {
				return errLoopLeft
			}
			return nil
		})
		if err == errLoopLeft {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// historyGone returns the error for a loop that wants to go on after since.
func (pg *pager) historyGone(since SnapshotID, format string, args ...any) error {
	oldest, _ := pg.history()
	return &HistoryError{Since: since, Oldest: pg.snapshotID(oldest), reason: fmt.Sprintf(format, args...)}
}

// Changes returns an iterator over what the transaction did, one operation after the other in the order in which it did them, also those that
// took back or repeated others. Applied with Tx.Apply, in one transaction, to the state before they give the state after.
//
// The slices are the receiver's: they stay valid, and must not be modified. An error ends the iteration: ErrCorrupt, an error of the system, or a
// *HistoryError if a large value is not in the log, was given up by a later transaction, and has been overwritten.
func (s *ChangeSet) Changes() iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		r := recordReader{b: s.record}
		var o operation
		var bucket [][]byte
		for r.next(&o) {
			if o.kind == operationBucket {
				bucket = slices.Clone(o.path)
				continue
			}
			c, err := s.change(&o)
			c.Bucket = bucket
			if err != nil {
				c = Change{}
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
		if r.bad {
			yield(Change{}, corrupt(0, "redo log: the record of transaction %d makes no sense", s.Snapshot.TxID))
		}
	}
}

// change is an operation of the log as a change.
func (s *ChangeSet) change(o *operation) (c Change, err error) {
	switch o.kind {
	case operationPut:
		return Change{Kind: ChangePut, Key: o.key, Value: o.value}, nil
	case operationPutRun:
		value, err := s.late(o)
		return Change{Kind: ChangePut, Key: o.key, Value: value}, err
	case operationDelete:
		return Change{Kind: ChangeDelete, Key: o.key}, nil
	case operationCreateBucket:
		return Change{Kind: ChangeCreateBucket, Key: o.key}, nil
	case operationDeleteBucket:
		return Change{Kind: ChangeDeleteBucket, Key: o.key}, nil
	case operationSequence:
		return Change{Kind: ChangeSetSequence, Sequence: o.number}, nil
	case operationMoveBucket:
		return Change{Kind: ChangeMoveBucket, Key: o.key, Into: slices.Clone(o.path)}, nil
	case operationDeleteRange:
		c := Change{Kind: ChangeDeleteRange}
		if o.bounds&boundFrom != 0 {
			c.Key = o.key
		}
		if o.bounds&boundTo != 0 {
			c.End = o.value
		}
		return c, nil
	}
	return c, corrupt(0, "redo log: transaction %d did something of kind %d, which is unknown", s.Snapshot.TxID, o.kind)
}

// late reads a value that is in an overflow run.
func (s *ChangeSet) late(o *operation) ([]byte, error) {
	if len(o.value) != refSize {
		return nil, corrupt(0, "redo log: transaction %d put a value with a reference of %d bytes, it must have %d", s.Snapshot.TxID, len(o.value), refSize)
	}
	value, ok, err := s.pager.readLate(loadRef(o.value))
	if err == nil && !ok {
		before := s.Snapshot
		before.TxID--
		err = s.pager.historyGone(before, "a later transaction has given up a large value of transaction %d, key %.40q, and it has been overwritten", s.Snapshot.TxID, o.key)
	}
	return value, err
}
