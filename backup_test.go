package alder_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// backup is a file with a snapshot, and what it must hold.
type backup struct {
	file string
	id   alder.SnapshotID
	o    *oracle
}

// backupOf writes a full backup of the transaction's snapshot.
func backupOf(t testing.TB, tx *alder.Tx, o *oracle) backup {
	t.Helper()
	b := backup{file: filepath.Join(tempDir(t), "backup.db"), id: tx.Snapshot(), o: o}
	require.NoError(t, tx.CopyFile(b.file, 0o600))
	return b
}

// diffSince writes the diff from the backup to the transaction's snapshot.
func diffSince(t testing.TB, tx *alder.Tx, since alder.SnapshotID) []byte {
	t.Helper()
	var diff bytes.Buffer
	n, err := tx.WriteDiff(&diff, since)
	require.NoError(t, err)
	require.Equal(t, int64(diff.Len()), n)
	return diff.Bytes()
}

// copyFile copies a file into a directory of its own.
func copyFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	to := filepath.Join(tempDir(t), filepath.Base(path))
	require.NoError(t, os.WriteFile(to, data, 0o600))
	return to
}

// verify opens the backup and holds it against its oracle.
func (b backup) verify(t testing.TB) {
	t.Helper()
	db, err := alder.Open(b.file, 0, &alder.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(tx *alder.Tx) error {
		require.Equal(t, b.id, tx.Snapshot())
		require.NoError(t, b.o.compareRoot(tx))
		return checkTx(tx)
	}))
}

// Ensures that a backup and a diff make the newer snapshot, whatever was done in between: random histories, backups of many ages, and chains
// of diffs.
func TestTx_WriteDiff_Model(t *testing.T) {
	t.Parallel()
	for _, form := range []struct {
		name string
		open func(t *testing.T) *testDB
	}{
		{"file", func(t *testing.T) *testDB { return openTemp(t) }},
		{"page=16384", func(t *testing.T) *testDB { return openMemory(t, withPageSize(16384), withNoSync()) }},
		{"spilling", func(t *testing.T) *testDB { return openMemory(t, withDirtyLimit(8192)) }},
	} {
		t.Run(form.name, func(t *testing.T) {
			seed, steps := seedAndSteps(t, 100)
			m := newMachine(t, form.open(t), randomChooser{rand.New(rand.NewPCG(seed, 12))})
			m.largest = 30_000
			var backups []backup
			for range steps {
				m.transaction()
				tx, err := m.db.Begin(false)
				require.NoError(t, err)
				switch p := m.src.pick(4); {
				case p == 0 || len(backups) == 0:
					backups = append(backups, backupOf(t, tx, m.committed))
				case p == 1:
					m.applyDiff(backups, tx)
				}
				if len(backups) > 5 {
					require.NoError(t, os.Remove(backups[0].file))
					backups = backups[1:]
				}
				require.NoError(t, tx.Rollback())
			}
			m.finish()
		})
	}
}

// applyDiff brings one of the backups up to date, twice in a row.
func (m *machine) applyDiff(backups []backup, tx *alder.Tx) {
	m.t.Helper()
	b := &backups[m.src.pick(len(backups))]
	diff := diffSince(m.t, tx, b.id)
	empty := diffSince(m.t, tx, tx.Snapshot())
	id, err := alder.ApplyDiff(b.file, bytes.NewReader(diff), iotest.HalfReader(bytes.NewReader(empty)))
	require.NoError(m.t, err, "step %d: from %d to %d", m.step, b.id.TxID, tx.ID())
	require.Equal(m.t, tx.Snapshot(), id)
	b.id, b.o = id, m.committed
	b.verify(m.t)
}

// history makes a store with a backup and a later state that differs from it in every kind of record.
func history(t testing.TB) (db *testDB, base backup, diff []byte) {
	t.Helper()
	db = openTemp(t)
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		for i := range 2000 {
			require.NoError(t, b.Put(key(i), filled(20, byte(i))))
		}
		require.NoError(t, b.Put([]byte("large"), filled(10_000, 1)))
		intact, err := tx.CreateBucket([]byte("intact"))
		require.NoError(t, err)
		for i := range 100 {
			require.NoError(t, intact.Put(key(i), filled(20, byte(i))))
		}
		_, err = tx.CreateBucket([]byte("small"))
		require.NoError(t, err)
	})
	tx := db.begin(false)
	base = backupOf(t, tx, nil)
	require.NoError(t, tx.Rollback())
	db.update(func(tx *alder.Tx) {
		b := tx.Bucket([]byte("b"))
		require.NoError(t, b.Put(key(7), []byte("new")))
		require.NoError(t, b.Delete(key(8)))
		require.NoError(t, b.Put([]byte("largf"), []byte("beside the large one")))
		require.NoError(t, b.SetSequence(9))
		require.NoError(t, tx.DeleteBucket([]byte("small")))
		made, err := tx.CreateBucket([]byte("made"))
		require.NoError(t, err)
		require.NoError(t, made.Put([]byte("k"), []byte("v")))
	})
	tx = db.begin(false)
	diff = diffSince(t, tx, base.id)
	require.NoError(t, tx.Rollback())
	return db, base, diff
}

// Ensures that a backup is replaced by the newer snapshot, keeps its permissions, and that the result is the base of the next diff, and a store
// that goes on, of which diffs can be made.
func TestApplyDiff(t *testing.T) {
	db, base, diff := history(t)
	require.Less(t, len(diff), 20_000, "the large value and the bucket that stayed are not in it")
	from, to, err := alder.DiffRange(bytes.NewReader(diff))
	require.NoError(t, err)
	require.Equal(t, base.id, from)
	_, _, err = alder.DiffRange(bytes.NewReader(diff[:70]))
	require.ErrorIs(t, err, alder.ErrDiffInvalid)
	id, err := alder.ApplyDiff(base.file, bytes.NewReader(diff))
	require.NoError(t, err)
	require.Equal(t, to, id)
	db.put("b", "later", "value")
	tx := db.begin(false)
	next := diffSince(t, tx, id)
	id, err = alder.ApplyDiff(base.file, bytes.NewReader(next))
	require.NoError(t, err)
	require.Equal(t, tx.Snapshot(), id)
	info, err := os.Stat(base.file)
	require.NoError(t, err)
	if info.Mode().Perm() != 0o666 { // Windows
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	// Whichever meta page is lost, the identity stays.
	for slot := range int64(2) {
		damaged := copyFile(t, base.file)
		f, err := os.OpenFile(damaged, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(make([]byte, 512), slot*4096)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		half, err := alder.Open(damaged, 0, &alder.Options{ReadOnly: true})
		require.NoError(t, err)
		require.NoError(t, half.View(func(tx *alder.Tx) error {
			require.Equal(t, id, tx.Snapshot())
			return nil
		}))
		require.NoError(t, half.Close())
	}
	// No diff at all is a copy.
	same, err := alder.ApplyDiff(base.file)
	require.NoError(t, err)
	require.Equal(t, id, same)

	copied := copyFile(t, base.file)
	restored := openAt(t, base.file)
	require.Equal(t, fingerprint(t, db.DB), fingerprint(t, restored.DB))
	for i := range 3 {
		restored.put("b", "goes on", fmt.Sprint(i))
		restored.reopen()
	}
	tx = restored.begin(false)
	require.EqualValues(t, id.TxID+3, tx.ID())
	_, err = alder.ApplyDiff(copied, bytes.NewReader(diffSince(t, tx, id)))
	require.NoError(t, err)
	require.Equal(t, fingerprint(t, restored.DB), fingerprint(t, openAt(t, copied).DB))
	require.NoError(t, tx.Rollback())
}

// Ensures that a diff that is cut off anywhere, in which any byte is another one, or that something follows, is refused with an error that
// says so, and leaves the backup as it was and nothing beside it.
func TestApplyDiff_Damaged(t *testing.T) {
	t.Parallel()
	_, base, diff := history(t)
	before, err := os.ReadFile(base.file)
	require.NoError(t, err)
	refuse := func(damaged []byte, what string, args ...any) {
		t.Helper()
		_, err := alder.ApplyDiff(base.file, bytes.NewReader(damaged))
		if !errors.Is(err, alder.ErrVersionMismatch) {
			require.ErrorIs(t, err, alder.ErrDiffInvalid, what, args)
		}
		_, _, checked := alder.CheckDiff(bytes.NewReader(damaged))
		require.Equal(t, errors.Is(err, alder.ErrVersionMismatch), errors.Is(checked, alder.ErrVersionMismatch), what, args)
		require.Equal(t, errors.Is(err, alder.ErrDiffInvalid), errors.Is(checked, alder.ErrDiffInvalid), what, args)
	}
	from, to, err := alder.CheckDiff(bytes.NewReader(diff))
	require.NoError(t, err)
	require.Equal(t, base.id, from)
	require.Greater(t, to.TxID, from.TxID)
	_, _, err = alder.CheckDiff(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(diff))))
	require.ErrorIs(t, err, iotest.ErrTimeout)
	step := 1 + len(diff)/60
	for n := 0; n < len(diff); n += step {
		refuse(diff[:n], "cut off at %d", n)
	}
	refuse(diff[:len(diff)-1], "cut off at the last byte")
	refuse(diff[:len(diff)-12], "without its last block")
	for i := 0; i < len(diff); i += step {
		damaged := bytes.Clone(diff)
		damaged[i] ^= 0x10
		refuse(damaged, "byte %d", i)
	}
	refuse(append(bytes.Clone(diff), 0), "a byte follows")
	refuse(append(bytes.Clone(diff), diff...), "twice")
	refuse(before, "a store")
	refuse(nil, "nothing")
	_, err = alder.ApplyDiff(base.file, iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(diff))))
	require.ErrorIs(t, err, iotest.ErrTimeout)

	after, err := os.ReadFile(base.file)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "the backup was changed")
	names, err := os.ReadDir(filepath.Dir(base.file))
	require.NoError(t, err)
	require.Len(t, names, 1, "a temporary file was left")
}

// Ensures that a diff is applied only to the snapshot that it was made for, and that the error says which that is.
func TestApplyDiff_Mismatch(t *testing.T) {
	db, base, diff := history(t)
	_, err := alder.ApplyDiff(filepath.Join(tempDir(t), "missing"), bytes.NewReader(diff))
	require.ErrorIs(t, err, os.ErrNotExist)

	stranger := openTemp(t)
	stranger.put("b", "k", "v")
	tx := stranger.begin(false)
	other := backupOf(t, tx, nil)
	_, err = tx.WriteDiff(io.Discard, base.id)
	require.ErrorIs(t, err, alder.ErrDiffMismatch)
	require.ErrorContains(t, err, "is of store")
	_, err = alder.ApplyDiff(other.file, bytes.NewReader(diff))
	require.ErrorIs(t, err, alder.ErrDiffMismatch)
	require.ErrorContains(t, err, other.id.String())

	// A second time, and in a wrong order.
	applied := copyFile(t, base.file)
	_, err = alder.ApplyDiff(applied, bytes.NewReader(diff), bytes.NewReader(diff))
	require.ErrorIs(t, err, alder.ErrDiffMismatch)
	require.ErrorContains(t, err, "diff 2 of 2")
	_, err = alder.ApplyDiff(applied, bytes.NewReader(diff))
	require.NoError(t, err)
	_, err = alder.ApplyDiff(applied, bytes.NewReader(diff))
	require.ErrorIs(t, err, alder.ErrDiffMismatch)

	// A backup that went its own way.
	changed := openAt(t, copyFile(t, base.file))
	changed.put("b", "k", "v")
	changed.mustClose()
	_, err = alder.ApplyDiff(changed.file, bytes.NewReader(diff))
	require.ErrorIs(t, err, alder.ErrDiffMismatch)

	// A backup that is open for writing.
	held := openAt(t, copyFile(t, base.file))
	_, err = alder.ApplyDiff(held.file, bytes.NewReader(diff))
	require.ErrorIs(t, err, alder.ErrLocked)

	now := db.begin(false)
	for _, since := range []alder.SnapshotID{
		{Store: base.id.Store, Epoch: base.id.Epoch + 1, TxID: base.id.TxID},
		{Store: base.id.Store, Epoch: base.id.Epoch, TxID: uint64(now.ID()) + 1},
	} {
		n, err := now.WriteDiff(io.Discard, since)
		require.ErrorIs(t, err, alder.ErrDiffMismatch)
		require.ErrorContains(t, err, "full backup")
		require.Zero(t, n)
	}
	_, err = db.begin(true).WriteDiff(io.Discard, base.id)
	require.ErrorIs(t, err, alder.ErrTxNotReadOnly)
	require.NoError(t, now.Rollback())
	_, err = now.WriteDiff(io.Discard, base.id)
	require.ErrorIs(t, err, alder.ErrTxClosed)
	_, err = db.begin(false).WriteDiff(failingWriter{}, base.id)
	require.ErrorIs(t, err, errFailingWriter)
}

var errFailingWriter = errors.New("this writer fails")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFailingWriter }

// Ensures that a backup goes through a pipe with its diffs, and what Restore does with what is no backup.
func TestRestore(t *testing.T) {
	db, base, diff := history(t)
	full, err := os.ReadFile(base.file)
	require.NoError(t, err)
	out := filepath.Join(tempDir(t), "out.db")
	r, w := io.Pipe()
	go func() {
		_ = w.CloseWithError(db.View(func(tx *alder.Tx) error {
			_, err := tx.WriteTo(w)
			return err
		}))
	}()
	id, err := alder.Restore(out, 0o600, r)
	require.NoError(t, err)
	require.NotEqual(t, base.id, id)
	whole, err := os.ReadFile(out)
	require.NoError(t, err)

	id, err = alder.Restore(out, 0o600, bytes.NewReader(full), bytes.NewReader(diff))
	require.NoError(t, err)
	restored := openAt(t, out)
	require.Equal(t, fingerprint(t, db.DB), fingerprint(t, restored.DB))
	require.Equal(t, id, restored.begin(false).Snapshot())

	refuse := func(want error, backup io.Reader, diffs ...io.Reader) {
		t.Helper()
		path := filepath.Join(tempDir(t), "there")
		require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
		_, err := alder.Restore(path, 0o600, backup, diffs...)
		require.ErrorIs(t, err, want)
		require.NotContains(t, err.Error(), ".tmp")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "precious", string(data))
		names, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		require.Len(t, names, 1)
	}
	refuse(alder.ErrInvalid, bytes.NewReader(nil))
	refuse(alder.ErrInvalid, bytes.NewReader(make([]byte, 100_000)))
	refuse(alder.ErrInvalid, bytes.NewReader([]byte("text of some length")))
	refuse(alder.ErrInvalid, bytes.NewReader(diff))
	refuse(alder.ErrCorrupt, bytes.NewReader(full[:len(full)-4096]))
	damaged := bytes.Clone(full)
	damaged[len(damaged)/2] ^= 1
	refuse(alder.ErrCorrupt, bytes.NewReader(damaged))
	refuse(alder.ErrDiffMismatch, bytes.NewReader(whole), bytes.NewReader(diff))
	refuse(alder.ErrDiffInvalid, bytes.NewReader(full), bytes.NewReader(diff[:100]))
	refuse(iotest.ErrTimeout, iotest.ErrReader(iotest.ErrTimeout))
	_, err = alder.Restore(tempDir(t), 0o600, bytes.NewReader(full))
	require.ErrorContains(t, err, "not a regular file")
}

// Ensures that a diff which leaves most of the store free can be applied. Closing the copy made it shorter once, with transactions of its own, whose
// numbers then passed that of the diff: the chain could never be restored again.
func TestApplyDiff_MuchFree(t *testing.T) {
	db := openMemory(t)
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		for i := range 20_000 {
			require.NoError(t, b.Put(key(i), filled(1000, byte(i))))
		}
	})
	var base backup
	db.view(func(tx *alder.Tx) { base = backupOf(t, tx, nil) })
	db.update(func(tx *alder.Tx) {
		_, err := tx.Bucket([]byte("b")).DeleteRange(key(100), nil)
		require.NoError(t, err)
	})
	var diff []byte
	db.view(func(tx *alder.Tx) { diff = diffSince(t, tx, base.id) })
	id, err := alder.ApplyDiff(base.file, bytes.NewReader(diff))
	require.NoError(t, err)
	restored := openAt(t, base.file)
	require.Equal(t, fingerprint(t, db.DB), fingerprint(t, restored.DB))
	require.Equal(t, id, restored.begin(false).Snapshot())
}

// Ensures that a diff costs what has changed, in bytes and in pages read, not what the store holds.
func TestTx_WriteDiff_Size(t *testing.T) {
	t.Parallel()
	db := openMemory(t)
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		for i := range 100_000 {
			require.NoError(t, b.Put(key(i), filled(100, byte(i))))
		}
		other, err := tx.CreateBucket([]byte("other"))
		require.NoError(t, err)
		require.NoError(t, other.Put([]byte("large"), filled(1<<20, 1)))
	})
	since := db.begin(false)
	for _, n := range []int{1, 10, 100} {
		db.update(func(tx *alder.Tx) {
			for i := range n {
				require.NoError(t, tx.Bucket([]byte("b")).Put(key(i*991), []byte("new")))
			}
			require.NoError(t, tx.Bucket([]byte("other")).Put([]byte("largf"), []byte("v")))
		})
		diff := diffSince(t, db.begin(false), since.Snapshot())
		t.Logf("%d keys: %d bytes", n, len(diff))
		require.Less(t, len(diff), 500+n*2*db.PageSize())
	}
}

// Ensures that a diff knows a bucket that was moved from the one that was in its place, however alike they are, and however deep it is
// inside of what was moved.
func TestTx_WriteDiff_MovedBuckets(t *testing.T) {
	t.Parallel()
	db := openTemp(t)
	names := func(names ...string) (path [][]byte) {
		for _, name := range names {
			path = append(path, []byte(name))
		}
		return path
	}
	// Two buckets with the same keys in each of two places, all written by one transaction.
	db.update(func(tx *alder.Tx) {
		for v, top := range names("live", "staging") {
			b, err := tx.CreateBucket(top)
			require.NoError(t, err)
			outer, err := b.CreateBucket([]byte("outer"))
			require.NoError(t, err)
			inner, err := outer.CreateBucket([]byte("inner"))
			require.NoError(t, err)
			for i := range 500 {
				require.NoError(t, inner.Put(key(i), filled(30, byte(v))))
			}
			require.NoError(t, outer.Put([]byte("large"), filled(9000, byte(v))))
		}
	})
	tx := db.begin(false)
	base := backupOf(t, tx, nil)
	require.NoError(t, tx.Rollback())
	check := func() {
		t.Helper()
		tx := db.begin(false)
		diff := diffSince(t, tx, base.id)
		require.NoError(t, tx.Rollback())
		file := copyFile(t, base.file)
		_, err := alder.ApplyDiff(file, bytes.NewReader(diff))
		require.NoError(t, err)
		restored := openAt(t, file)
		require.Equal(t, fingerprint(t, db.DB), fingerprint(t, restored.DB))
	}
	db.update(func(tx *alder.Tx) {
		live, staging := tx.Bucket([]byte("live")), tx.Bucket([]byte("staging"))
		require.NoError(t, live.DeleteBucket([]byte("outer")))
		require.NoError(t, staging.MoveBucket([]byte("outer"), live))
	})
	check()
	// What has moved is changed, and is found again when the store is opened anew.
	db.reopen()
	db.update(func(tx *alder.Tx) {
		outer := tx.Bucket([]byte("live")).Bucket([]byte("outer"))
		require.NoError(t, outer.SetSequence(4))
		require.NoError(t, outer.Bucket([]byte("inner")).Put(key(3), []byte("new")))
	})
	check()
	// Back again, with a copy in between, and through a handle that was open before.
	db.update(func(tx *alder.Tx) {
		live, staging := tx.Bucket([]byte("live")), tx.Bucket([]byte("staging"))
		inner := live.Bucket([]byte("outer")).Bucket([]byte("inner"))
		require.NoError(t, inner.Put(key(4), []byte("new")))
		require.NoError(t, live.MoveBucket([]byte("outer"), staging))
		require.NoError(t, inner.Put(key(5), []byte("new")))
	})
	check()
	tx = db.begin(false)
	base = backupOf(t, tx, nil)
	require.NoError(t, tx.Rollback())
	db.put("other", "k", "v")
	tx = db.begin(false)
	require.Less(t, len(diffSince(t, tx, base.id)), 2000, "what was moved before the backup is intact")
	require.NoError(t, tx.Rollback())
	check()
}

// Ensures that a diff is right after whole subtrees were removed: at the start, in the middle and at the end of a tree, exactly at the
// borders of pages and beside them.
func TestTx_WriteDiff_Ranges(t *testing.T) {
	t.Parallel()
	db := openMemory(t)
	const n = 30_000 // three levels
	r := rand.New(rand.NewPCG(1, 13))
	fill := func(tx *alder.Tx) {
		b, err := tx.CreateBucketIfNotExists([]byte("b"))
		require.NoError(t, err)
		for i := range n {
			require.NoError(t, b.Put(key(i), filled(100, byte(i))))
		}
	}
	db.update(fill)
	tx := db.begin(false)
	base := backupOf(t, tx, nil)
	full := tx.Snapshot()
	require.NoError(t, tx.Rollback())
	for i := range 40 {
		db.update(func(tx *alder.Tx) {
			from, to := key(r.IntN(n)), key(r.IntN(n))
			switch i % 4 {
			case 0:
				from = nil
			case 1:
				to = nil
			}
			if bytes.Compare(from, to) > 0 && to != nil {
				from, to = to, from
			}
			b := tx.Bucket([]byte("b"))
			_, err := b.DeleteRange(from, to)
			require.NoError(t, err)
			if i%3 == 0 {
				// Single keys, so that ranges of one or two leaves go: their borders are met soon.
				for at := uint64(r.IntN(50)); at+120 < b.Len(); at += 1 + uint64(r.IntN(200)) {
					first, _ := b.At(at)
					last, _ := b.At(at + 33 + uint64(r.IntN(3)))
					_, err := b.DeleteRange(bytes.Clone(first), bytes.Clone(last))
					require.NoError(t, err)
				}
			}
		})
		tx := db.begin(false)
		diff := diffSince(t, tx, full)
		file := copyFile(t, base.file)
		_, err := alder.ApplyDiff(file, bytes.NewReader(diff))
		require.NoError(t, err, "step %d", i)
		restored, err := alder.Open(file, 0, nil)
		require.NoError(t, err)
		require.Equal(t, fingerprint(t, db.DB), fingerprint(t, restored))
		require.NoError(t, restored.Close())
		require.NoError(t, tx.Rollback())
		if i%3 == 2 {
			db.update(fill)
			tx := db.begin(false)
			base = backupOf(t, tx, nil)
			full = tx.Snapshot()
			require.NoError(t, tx.Rollback())
		}
	}
}

// Ensures that an identity and its text are the same thing.
func TestSnapshotID(t *testing.T) {
	id := alder.SnapshotID{Store: [16]byte{1, 0xff}, Epoch: 1 << 63, TxID: 12}
	require.Equal(t, "01ff0000000000000000000000000000:9223372036854775808:12", id.String())
	got, err := alder.ParseSnapshotID(id.String())
	require.NoError(t, err)
	require.Equal(t, id, got)
	for _, bad := range []string{"", "::", "01ff:1:2", id.String() + ":", fmt.Sprintf("%032x:-1:2", 1), fmt.Sprintf("%032x:1:x", 1), fmt.Sprintf("%032s:1:2", "g")} {
		_, err := alder.ParseSnapshotID(bad)
		require.ErrorContains(t, err, "want 32 hexadecimal digits")
	}
	db := openMemory(t)
	require.Equal(t, db.ID(), fmt.Sprintf("%x", db.begin(false).Snapshot().Store))
}
