package alder_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// twins are a store and a copy of it that both go on, with the same number of transactions and of keys, so that neither numbers nor counts tell them apart.
type twins struct {
	t      *testing.T
	before backup // from before they parted
	a, b   *testDB
}

// partTwins makes a store, a copy of it, as long as the store is closed, and lets both go on.
func partTwins(t *testing.T, copied func(db *testDB) (file string)) *twins {
	t.Helper()
	db := openTemp(t)
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		for i := range 2000 {
			require.NoError(t, b.Put(key(i), filled(100, byte(i))))
		}
	})
	w := &twins{t: t, a: db}
	tx := db.begin(false)
	w.before = backupOf(t, tx, nil)
	require.NoError(t, tx.Rollback())
	db.put("b", string(key(1)), "behind the backup")
	db.mustClose()
	file := copied(db)
	db.open()
	w.b = openAt(t, file)
	same := w.a.snapshot()
	require.Equal(t, same, w.b.snapshot(), "until somebody writes they hold the same")
	w.goOn()
	return w
}

// goOn commits as much to both, and not the same.
func (w *twins) goOn() {
	w.t.Helper()
	for i, db := range []*testDB{w.a, w.b} {
		for n := range 3 {
			db.update(func(tx *alder.Tx) {
				require.NoError(w.t, tx.Bucket([]byte("b")).Put(key(500*n), filled(100, byte(100+i))))
			})
		}
	}
	a, b := w.a.snapshot(), w.b.snapshot()
	require.Equal(w.t, a.Store, b.Store)
	require.NotEqual(w.t, a, b)
}

// holdApart makes sure that no diff of one can be made for, or applied to, what is of the other, and that both can bring a backup up to date that is older than both.
func (w *twins) holdApart() {
	t := w.t
	t.Helper()
	dbs := []*testDB{w.a, w.b}
	backups := make([]backup, 2)
	for i, db := range dbs {
		db.view(func(tx *alder.Tx) { backups[i] = backupOf(t, tx, nil) })
	}
	w.goOn()
	for i, db := range dbs {
		tx := db.begin(false)
		other := backups[1-i]
		n, err := tx.WriteDiff(io.Discard, other.id)
		require.ErrorIs(t, err, alder.ErrDiffMismatch)
		require.ErrorContains(t, err, "copy of this store")
		require.ErrorContains(t, err, "make a full backup")
		require.Zero(t, n)

		diff := diffSince(t, tx, backups[i].id)
		_, err = alder.ApplyDiff(copyFile(t, other.file), bytes.NewReader(diff))
		require.ErrorIs(t, err, alder.ErrDiffMismatch)
		require.ErrorContains(t, err, "copies of one store that have gone on by themselves")

		for _, base := range []backup{w.before, backups[i]} {
			file := copyFile(t, base.file)
			id, err := alder.ApplyDiff(file, bytes.NewReader(diffSince(t, tx, base.id)))
			require.NoError(t, err)
			require.Equal(t, tx.Snapshot(), id)
			restored := openAt(t, file)
			require.Equal(t, id, restored.snapshot())
			require.Equal(t, fingerprint(t, db.DB), fingerprint(t, restored.DB))
			restored.mustClose()
		}
		require.NoError(t, tx.Rollback())
	}
}

// Ensures that a store and a copy of it that both go on are told apart: a diff of one is neither made for nor applied to a backup of the other, in either direction, though
// they have committed as many transactions and have as many keys; while the backups from before they parted fit both. A store that was restored, from a backup alone and with
// diffs, goes on in the chain of its backups. (Both gave out the same identities, and the copy took diffs of the store as if they were its own.)
func TestCopies(t *testing.T) {
	for _, way := range []struct {
		name   string
		copied func(db *testDB) string
	}{
		{"CopyFile", func(db *testDB) string {
			db.open()
			tx := db.begin(false)
			b := backupOf(t, tx, nil)
			require.NoError(t, tx.Rollback())
			db.mustClose()
			return b.file
		}},
		{"Restore", func(db *testDB) string {
			var full bytes.Buffer
			db.open()
			db.view(func(tx *alder.Tx) {
				_, err := tx.WriteTo(&full)
				require.NoError(t, err)
			})
			db.mustClose()
			file := filepath.Join(tempDir(t), "restored.db")
			_, err := alder.Restore(file, 0o600, &full)
			require.NoError(t, err)
			return file
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			w := partTwins(t, way.copied)
			w.holdApart()
			w.a.reopen()
			w.b.reopen()
			w.goOn()
			w.holdApart()
		})
	}
	t.Run("ApplyDiff", func(t *testing.T) {
		var before backup
		w := partTwins(t, func(db *testDB) string {
			db.open()
			tx := db.begin(false)
			before = backupOf(t, tx, nil)
			require.NoError(t, tx.Rollback())
			db.put("b", string(key(2)), "in the diff")
			tx = db.begin(false)
			diff := diffSince(t, tx, before.id)
			require.NoError(t, tx.Rollback())
			db.mustClose()
			_, err := alder.ApplyDiff(before.file, bytes.NewReader(diff))
			require.NoError(t, err)
			return before.file
		})
		w.holdApart()
	})
}

// Ensures that a copy that another program has made of a closed store is told from the store when both go on, that a store that was only renamed is no copy, and that many moves end
// the chain of backups with an error and not with a wrong store.
func TestCopies_OtherPrograms(t *testing.T) {
	w := partTwins(t, func(db *testDB) string { return copyFile(t, db.file) })
	w.holdApart()
	w.b.reopen()
	w.holdApart()

	db := w.a
	was := db.snapshot()
	db.mustClose()
	renamed := db.file + ".renamed"
	require.NoError(t, os.Rename(db.file, renamed))
	db.file = renamed
	db.open()
	db.put("b", "k", "v")
	require.Equal(t, was.Epoch, db.snapshot().Epoch)

	fits := 0
	for {
		db.put("b", "k", "v")
		tx := db.begin(false)
		_, err := tx.WriteDiff(io.Discard, w.before.id)
		require.NoError(t, tx.Rollback())
		if err != nil {
			require.ErrorIs(t, err, alder.ErrDiffMismatch)
			require.ErrorContains(t, err, "full backup")
			break
		}
		fits++
		require.Less(t, fits, 20)
		db.mustClose()
		db.file = copyFile(t, db.file)
		db.open()
	}
	require.Equal(t, 9, fits)
	db.mustClose()
	require.NoError(t, os.Remove(db.file)) // the directory that it is in goes before its last check
}

// Ensures that what a write transaction copies is not taken for the state that another transaction of the same number makes.
func TestCopies_OfWriteTransaction(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "1")
	file := filepath.Join(tempDir(t), "copy.db")
	tx := db.begin(true)
	require.NoError(t, tx.Bucket([]byte("b")).Put([]byte("k"), []byte("never")))
	require.NoError(t, tx.CopyFile(file, 0o600))
	require.NoError(t, tx.Rollback())
	never := openAt(t, file, func(o *alder.Options) { o.ReadOnly = true })
	require.Equal(t, "never", never.get("b", "k"))
	id := never.snapshot()
	db.put("b", "k", "2")
	require.Equal(t, id.TxID, db.snapshot().TxID)
	db.view(func(tx *alder.Tx) {
		_, err := tx.WriteDiff(io.Discard, id)
		require.ErrorIs(t, err, alder.ErrDiffMismatch)
	})
}

// Ensures that a loop over the changes of a store goes on over the begin of a new line, and knows a snapshot of a copy.
func TestDB_Changes_Lines(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "1")
	db.mustClose()
	db.file = copyFile(t, db.file)
	db.open()
	since := db.snapshot()
	db.update(func(tx *alder.Tx) {
		require.NoError(t, tx.SetDurability(alder.DurabilityLazy)) // or it would commit without the log
		require.NoError(t, tx.Bucket([]byte("b")).Put([]byte("k"), []byte("2")))
	})
	db.put("b", "k", "3")
	now := db.snapshot()
	require.NotEqual(t, since.Epoch, now.Epoch)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for set, err := range db.Changes(ctx, since) {
		require.NoError(t, err)
		require.Equal(t, now.Epoch, set.Snapshot.Epoch)
		if set.Snapshot == now {
			break
		}
	}
	db.put("b", "k", "4")
	set, err := nextSet(db, now)
	require.NoError(t, err)
	require.Equal(t, db.snapshot(), set.Snapshot)

	wrong := now
	wrong.Epoch = since.Epoch
	_, err = nextSet(db, wrong)
	require.ErrorIs(t, err, alder.ErrHistoryGone)
	require.ErrorContains(t, err, "copy of this store")
	db.mustClose()
	require.NoError(t, os.Remove(db.file)) // as above
}

// Ensures that no diff begins with a backup from between the ends of a diff that was applied. What it changed is born in one transaction in the restored store, with a number below that of
// such a backup, so the diff left it out, fitted the backup by all counts, and brought it up to a state that it did not hold.
func TestCopies_BaseInsideAppliedDiff(t *testing.T) {
	for _, chain := range []bool{false, true} {
		db := openTemp(t)
		db.update(func(tx *alder.Tx) {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			require.NoError(t, err)
			for i := range 5000 {
				require.NoError(t, b.Put(key(i), filled(50, 1)))
			}
		})
		several := func(value string) {
			for i := range 5 {
				db.put("b", string(key(10)), fmt.Sprint(value, i))
			}
		}
		take := func() backup {
			tx := db.begin(false)
			defer tx.Rollback()
			return backupOf(t, tx, nil)
		}
		diff := func(since alder.SnapshotID) []byte {
			tx := db.begin(false)
			defer tx.Rollback()
			return diffSince(t, tx, since)
		}
		first := take()
		several("between")
		between := take()
		firstHalf := diff(first.id)
		several("last")
		diffs := [][]byte{diff(first.id)}
		if chain {
			diffs = [][]byte{firstHalf, diff(between.id)}
		}
		last := take()
		restored := first.file
		for _, d := range diffs {
			_, err := alder.ApplyDiff(restored, bytes.NewReader(d))
			require.NoError(t, err)
		}
		for _, written := range []bool{false, true, true} { // the second time through a copy of the copy
			if written {
				again := openAt(t, restored)
				again.put("b", string(key(4000)), "elsewhere")
				again.mustClose()
			}
			again := openAt(t, restored)
			tx := again.begin(false)
			_, err := tx.WriteDiff(io.Discard, between.id)
			require.ErrorIs(t, err, alder.ErrDiffMismatch)
			require.ErrorContains(t, err, "by applying diffs")
			since := diffSince(t, tx, last.id) // the very state that the diffs lead to
			now := fingerprint(t, again.DB)
			restored = backupOf(t, tx, nil).file
			require.NoError(t, tx.Rollback())
			again.mustClose()
			target := copyFile(t, last.file)
			_, err = alder.ApplyDiff(target, bytes.NewReader(since))
			require.NoError(t, err)
			brought := openAt(t, target)
			require.Equal(t, now, fingerprint(t, brought.DB))
			brought.mustClose()
		}
	}
}
