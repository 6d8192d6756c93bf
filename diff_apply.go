package alder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// A backup and the diffs that follow it become the newest of their snapshots in a new file, which takes its name when it is complete. The
// diffs are applied to that file with the ordinary operations of transactions; at the end its meta page gets the identity of the snapshot,
// so that the next diff fits.

// ApplyDiff brings the backup at path, a file that Tx.WriteTo, Tx.CopyFile, Restore or ApplyDiff wrote, to the snapshot of the last diff, and
// returns its identity. Each diff must begin where the one before ends. The file at path is replaced when everything is done and durable;
// after an error it is as it was.
//
// The error matches ErrDiffMismatch if a diff does not begin at the snapshot that the backup has, ErrDiffInvalid if it is damaged, cut off or no
// diff, ErrLocked if the backup is open for writing, and else is one of Open or of the system.
//
// Cost: a copy of the backup, and then what the changes cost in a transaction.
func ApplyDiff(path string, diffs ...io.Reader) (SnapshotID, error) {
	info, err := os.Stat(path)
	if err != nil {
		return SnapshotID{}, err
	}
	var id SnapshotID
	err = replaceWhole(path, info.Mode().Perm(), func(f *os.File) error {
		db, err := Open(path, 0, &Options{ReadOnly: true})
		if err != nil {
			return err
		}
		defer db.Close() // nothing was written
		return db.View(func(tx *Tx) error {
			id = tx.Snapshot()
			_ = f.Chmod(info.Mode().Perm()) // as far as the system can
			_, err := tx.WriteTo(f)
			return err
		})
	}, func(temp string) error { return applyDiffs(temp, &id, diffs) })
	if err != nil {
		return SnapshotID{}, err
	}
	return id, nil
}

// Restore makes a store at path from a backup, as Tx.WriteTo writes it, and the diffs that follow it, and returns the identity of what it holds.
// The backup is checked as Tx.Check does. The file appears under its name when it is complete and durable, in place of one that is
// there; after an error what was at path is as it was. Errors are those of ApplyDiff; what is not a backup, or not all of one, is
// ErrInvalid or ErrCorrupt.
func Restore(path string, mode os.FileMode, backup io.Reader, diffs ...io.Reader) (SnapshotID, error) {
	var id SnapshotID
	err := replaceWhole(path, mode, func(f *os.File) error {
		_, err := io.Copy(f, backup)
		return err
	}, func(temp string) error {
		var err error
		if id, err = checkBackup(temp); err != nil {
			return fmt.Errorf("the backup: %w", err)
		}
		return applyDiffs(temp, &id, diffs)
	})
	if err != nil {
		return SnapshotID{}, err
	}
	return id, nil
}

// checkBackup returns the identity of the store at path, or the first thing that is wrong with it.
func checkBackup(path string) (id SnapshotID, err error) {
	db, err := Open(path, 0, &Options{ReadOnly: true})
	if err != nil {
		return id, unnamed(err)
	}
	defer db.Close()
	err = db.View(func(tx *Tx) error {
		id = tx.Snapshot()
		for err := range tx.Check() {
			return err
		}
		return nil
	})
	return id, err
}

// replaceWhole puts a file under path that write has filled and that change, which is given its temporary name, has then worked on. If anything
// fails what was at path stays.
func replaceWhole(path string, mode os.FileMode, write func(f *os.File) error, change func(temp string) error) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if there, err := os.Stat(path); err == nil && !there.Mode().IsRegular() {
		return &os.PathError{Op: "replace", Path: path, Err: errors.New("it is not a regular file")}
	}
	f, err := os.OpenFile(fmt.Sprintf("%s.%08x.tmp", path, rand.Uint32()), os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = write(f)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = change(f.Name())
	}
	if err == nil {
		err = syncFile(f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(path)
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// unnamed is err without the name of the temporary file.
func unnamed(err error) error {
	if named, ok := err.(*os.PathError); ok {
		return named.Err
	}
	return err
}

// applyDiffs applies diffs, one after the other, to the store at path, whose snapshot is id, and gives it the identity of the last one.
func applyDiffs(path string, id *SnapshotID, diffs []io.Reader) error {
	if len(diffs) == 0 {
		return nil
	}
	base := *id
	before, err := metaOf(path)
	if err != nil {
		return err
	}
	// Nothing needs to be durable before the end. A Shrink would take transactions that the origin has not had.
	db, err := Open(path, 0, &Options{NoSync: true, NoStatistics: true, NoAutoShrink: true})
	if err != nil {
		return unnamed(err)
	}
	for i, r := range diffs {
		if err = db.applyDiff(r, id); err != nil {
			if len(diffs) > 1 {
				err = fmt.Errorf("diff %d of %d: %w", i+1, len(diffs), err)
			}
			break
		}
	}
	if e := db.Close(); err == nil {
		err = unnamed(e)
	}
	if err != nil {
		return err
	}
	return restamp(path, *id, base, before)
}

// metaOf reads the meta page of the closed store at path.
func metaOf(path string) (*meta, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c, err := readMetas(ownerReader{f, info.Size()})
	return c.meta, err
}

// applyDiff applies the diff that r holds to a store at snapshot id, which then is that of the diff.
func (db *DB) applyDiff(r io.Reader, id *SnapshotID) error {
	in, err := newDiffInput(r)
	if err != nil {
		return err
	}
	if in.from != *id {
		why := ""
		if in.from.Store == id.Store && lineOf(in.from.Epoch) != lineOf(id.Epoch) {
			why = "; they are of copies of one store that have gone on by themselves, each with changes of its own"
		}
		return fmt.Errorf("%w: it begins at %v, the backup is at %v%s", ErrDiffMismatch, in.from, *id, why)
	}
	if err := in.from.before(in.to); err != nil {
		return fmt.Errorf("%w: it ends before it begins", ErrDiffInvalid)
	}
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	defer tx.Rollback() // of no effect after the commit
	if err := tx.applyRecords(in); err != nil {
		return err
	}
	// A diff without changes leaves the transaction's number unused: numbers in the file must not pass the one that it will get.
	if in.to != in.from {
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	*id = in.to
	return nil
}

// restamp gives the closed store at path, which was at base, with that meta, the identity id. Its own transaction numbers are not above that of id.
func restamp(path string, id, base SnapshotID, before *meta) error {
	return rewriteMeta(path, func(m *meta) error {
		if m.txid > txid(id.TxID) {
			return fmt.Errorf("alder: applying a diff took transactions up to %d, past its own number, %d", m.txid, id.TxID)
		}
		// What the diff does not tell is not known.
		m.survived = [survivedEpochs]txid{}
		if later := killsOf(id.Epoch) - killsOf(before.epoch); later < survivedEpochs {
			copy(m.survived[later:], before.survived[:])
		}
		if m.lines = before.lines; lineOf(id.Epoch) != lineOf(base.Epoch) {
			copy(m.lines[1:], before.lines[:])
			m.lines[0] = pastLine{lineOf(base.Epoch), txid(base.TxID)}
		}
		// All that the diff has changed was born in one transaction, whichever of its own had changed it.
		m.folded = before.folded.fold(txid(base.TxID), txid(id.TxID))
		m.txid, m.epoch, m.moves, m.place = txid(id.TxID), id.Epoch, 0, copyPlace
		return nil
	})
}

// rewriteMeta changes the meta of the closed store at path, in both slots, so that neither leads to the right content under a wrong name. A crash meanwhile is
// for the caller.
func rewriteMeta(path string, change func(*meta) error) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c, err := readMetas(ownerReader{f, info.Size()})
	if err != nil {
		return err
	}
	m := *c.meta
	if err := change(&m); err != nil {
		return err
	}
	for _, slot := range []int{1 - c.slot, c.slot} {
		m.sequence++
		buf := make([]byte, metaSize)
		m.encode(buf, slot)
		if _, err := f.WriteAt(buf, int64(slot)*int64(m.pageSize)); err != nil {
			return err
		}
	}
	return nil
}

// ---- records

// applyRecords makes the changes of a diff in the transaction.
func (tx *Tx) applyRecords(in *diffInput) error {
	sequence, err := in.number()
	if err != nil {
		return err
	}
	top := tx.root()
	if err := top.setSequence(sequence); err != nil {
		return err
	}
	a := &diffApply{in: in}
	if err := a.bucket(top, false); err != nil {
		return err
	}
	if err := tx.Err(); err != nil {
		return err
	}
	return in.finish()
}

// setSequence is SetSequence that touches nothing if it changes nothing.
func (b *Bucket) setSequence(v uint64) error {
	if b.Sequence() == v {
		return nil
	}
	return b.SetSequence(v)
}

type diffApply struct {
	in    *diffInput
	depth int // of nested buckets
}

// diffPlace is where the records of a bucket stand in what the backup has of it.
type diffPlace struct {
	b     *Bucket
	fresh bool    // the backup has no such bucket
	from  []byte  // what is listed begins here; nil for the start of the bucket
	last  []byte  // the last key that was listed; nil behind a bound
	ended bool    // the bound that is the end of the bucket has been passed
	c     *Cursor // at the backup's first key that has not been dealt with, once something is listed
	k, v  []byte  // there; nil at the end, and where nothing is listed yet
}

// bucket brings the content of b to what the records say.
func (a *diffApply) bucket(b *Bucket, fresh bool) error {
	if a.depth++; a.depth > maxNesting {
		return fmt.Errorf("%w: buckets are nested deeper than %d levels", ErrDiffInvalid, maxNesting)
	}
	defer func() { a.depth-- }()
	p := &diffPlace{b: b, fresh: fresh}
	for {
		op, err := a.in.op()
		if err != nil {
			return err
		}
		if p.ended != (op == opEnd) {
			return fmt.Errorf("%w: a record of kind %d before offset %d, where the bucket has ended: %t", ErrDiffInvalid, op, a.in.n, p.ended)
		}
		switch op {
		case opEnd:
			n, err := a.in.number()
			if err == nil && n != b.Len() {
				err = fmt.Errorf("%w: a bucket of the backup has now %d keys, the newer snapshot has %d there", ErrDiffMismatch, b.Len(), n)
			}
			return err
		case opKeep:
			err = a.keep(p)
		case opCut:
			err = a.cut(p)
		case opPut, opSame, opBucket, opIntact:
			err = a.listed(p, op)
		default:
			err = fmt.Errorf("%w: unknown record of kind %d before offset %d", ErrDiffInvalid, op, a.in.n)
		}
		if err != nil {
			return err
		}
	}
}

// keep passes over a range that is as it was.
func (a *diffApply) keep(p *diffPlace) error {
	n, err := a.in.number()
	if err != nil {
		return err
	}
	bound, err := a.bound(p)
	if err != nil {
		return err
	}
	if p.last != nil {
		return fmt.Errorf("%w: what is listed before offset %d has no bound", ErrDiffInvalid, a.in.n)
	}
	have := p.b.Count(p.from, bound)
	if err := p.b.tx.Err(); err != nil {
		return err
	}
	if have != n {
		return fmt.Errorf("%w: a range of the backup has %d keys, the diff was made for one with %d", ErrDiffMismatch, have, n)
	}
	p.from, p.c, p.ended = bound, nil, bound == nil
	return nil
}

// bound reads a bound, which must lie behind what has been listed.
func (a *diffApply) bound(p *diffPlace) ([]byte, error) {
	bound, err := a.in.bound()
	if err == nil && bound != nil && (p.from != nil && bytes.Compare(bound, p.from) < 0 || bytes.Compare(bound, p.last) <= 0 && p.last != nil) {
		return nil, fmt.Errorf("%w: a bound before offset %d is out of order", ErrDiffInvalid, a.in.n)
	}
	return bound, err
}

// cut removes what the backup has between the last key that was listed and a bound.
func (a *diffApply) cut(p *diffPlace) error {
	bound, err := a.bound(p)
	if err != nil {
		return err
	}
	if err := p.reach(bound, false); err != nil {
		return err
	}
	p.from, p.last, p.c, p.ended = bound, nil, nil, bound == nil
	return nil
}

// reach removes the backup's keys below key, and puts the cursor at the first one that is left, if on.
func (p *diffPlace) reach(key []byte, on bool) error {
	if p.fresh {
		return nil
	}
	if p.c == nil {
		p.c = p.b.Cursor()
		if p.from == nil {
			p.k, p.v = p.c.First()
		} else {
			p.k, p.v = p.c.Seek(p.from)
		}
	}
	if p.k != nil && (key == nil || bytes.Compare(p.k, key) < 0) {
		if _, err := p.b.DeleteRange(p.k, key); err != nil {
			return err
		}
		if on {
			p.k, p.v = p.c.Seek(key)
		}
	}
	return p.b.tx.Err()
}

// pass moves the cursor behind key if it is there.
func (p *diffPlace) pass(key []byte) {
	if p.k != nil && bytes.Equal(p.k, key) {
		p.k, p.v = p.c.Next()
	}
}

// listed takes over a key or a nested bucket.
func (a *diffApply) listed(p *diffPlace, op diffOp) error {
	key, err := a.in.key()
	if err != nil {
		return err
	}
	if p.last != nil && bytes.Compare(key, p.last) <= 0 || bytes.Compare(key, p.from) < 0 {
		return fmt.Errorf("%w: a key before offset %d is out of order", ErrDiffInvalid, a.in.n)
	}
	if err := p.reach(key, true); err != nil {
		return err
	}
	p.last = key
	there := p.k != nil && bytes.Equal(p.k, key)
	switch op {
	case opPut:
		err = a.put(p, key, there)
	case opSame:
		err = a.same(p, there)
	default:
		err = a.nested(p, key, there, op)
	}
	if err != nil {
		return err
	}
	p.pass(key)
	return p.b.tx.Err()
}

func (a *diffApply) put(p *diffPlace, key []byte, there bool) error {
	value, err := a.in.bytes(MaxValueSize, "value")
	if err != nil {
		return err
	}
	if there && p.v != nil {
		if bytes.Equal(value, p.v) {
			return nil
		}
	} else if there {
		if err := p.b.DeleteBucket(key); err != nil {
			return err
		}
	}
	return p.b.Put(key, value)
}

func (a *diffApply) same(p *diffPlace, there bool) error {
	n, err := a.in.number()
	if err == nil && (!there || p.v == nil || uint64(len(p.v)) != n) {
		err = fmt.Errorf("%w: the backup has not the value of %d bytes that the diff was made for", ErrDiffMismatch, n)
	}
	return err
}

func (a *diffApply) nested(p *diffPlace, name []byte, there bool, op diffOp) error {
	sequence, err := a.in.number()
	if err != nil {
		return err
	}
	var b *Bucket
	if there && p.v == nil {
		if b = p.b.Bucket(name); b == nil {
			return errors.Join(p.b.tx.Err(), ErrBucketNotFound)
		}
	}
	if op == opIntact {
		n, err := a.in.number()
		if err != nil {
			return err
		}
		if b == nil || b.Len() != n {
			return fmt.Errorf("%w: the backup has not the bucket of %d keys that the diff was made for", ErrDiffMismatch, n)
		}
		return b.setSequence(sequence)
	}
	if there && b == nil {
		if err := p.b.Delete(name); err != nil {
			return err
		}
	}
	fresh := b == nil
	if fresh {
		if b, err = p.b.CreateBucket(name); err != nil {
			return err
		}
	}
	if err := b.setSequence(sequence); err != nil {
		return err
	}
	return a.bucket(b, fresh)
}
