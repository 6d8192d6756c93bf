package alder_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// diffOf collects a diff that must not fail, with copies of everything in it.
func diffOf(t testing.TB, since, tx *alder.Tx) []alder.Change {
	t.Helper()
	var all []alder.Change
	for c, err := range tx.Diff(since) {
		require.NoError(t, err)
		all = append(all, copyChange(c))
	}
	return all
}

func copyChange(c alder.Change) alder.Change {
	path := make([][]byte, len(c.Bucket))
	for i, name := range c.Bucket {
		path[i] = bytes.Clone(name)
	}
	c.Bucket, c.Key, c.Value = path, bytes.Clone(c.Key), bytes.Clone(c.Value)
	return c
}

// changeText is a change in one line.
func changeText(c alder.Change) string {
	text := c.Kind.String() + " " + string(bytes.Join(append(c.Bucket, c.Key), []byte("/")))
	switch c.Kind {
	case alder.ChangePut:
		text += "=" + string(c.Value)
	case alder.ChangeSetSequence:
		text += fmt.Sprintf("=%d", c.Sequence)
	case alder.ChangeDeleteRange:
		text += " to " + string(c.End)
	case alder.ChangeMoveBucket:
		text += " into " + string(bytes.Join(c.Into, []byte("/")))
	}
	return text
}

// apply makes a change to the oracle of the root, and refuses one that changes nothing.
func (o *oracle) apply(c alder.Change) error {
	for _, name := range c.Bucket {
		e := o.at(string(name))
		if e == nil || e.sub == nil {
			return fmt.Errorf("%.60q: there is no bucket %.20q", changeText(c), name)
		}
		o = e.sub
	}
	e := o.at(string(c.Key))
	switch c.Kind {
	case alder.ChangePut:
		if e != nil && e.value == string(c.Value) {
			return fmt.Errorf("%.60q: the key has this value already", changeText(c))
		}
		if c.Value == nil {
			return fmt.Errorf("%.60q: the value is nil", changeText(c))
		}
		return o.put(string(c.Key), string(c.Value))
	case alder.ChangeDelete:
		if e == nil {
			return fmt.Errorf("%.60q: there is no such key", changeText(c))
		}
		return o.delete(string(c.Key))
	case alder.ChangeCreateBucket:
		_, err := o.create(string(c.Key))
		return err
	case alder.ChangeDeleteBucket:
		return o.deleteBucket(string(c.Key))
	case alder.ChangeSetSequence:
		if o.sequence == c.Sequence {
			return fmt.Errorf("%.60q: the sequence is that already", changeText(c))
		}
		o.sequence = c.Sequence
		return nil
	}
	return fmt.Errorf("unknown kind %v", c.Kind)
}

// Ensures that the diff of any two snapshots of a random history, applied to the first, gives the second, in both directions, that
// no change in it is without effect, and that it comes in order.
func TestTx_Diff_Model(t *testing.T) {
	t.Parallel()
	for _, form := range []struct {
		name string
		open func(t *testing.T) *testDB
	}{
		{"file", func(t *testing.T) *testDB { return openTemp(t) }},
		{"memory", func(t *testing.T) *testDB { return openMemory(t, withNoSync()) }},
		{"page=16384", func(t *testing.T) *testDB { return openMemory(t, withPageSize(16384)) }},
	} {
		t.Run(form.name, func(t *testing.T) {
			seed, steps := seedAndSteps(t, 150)
			m := newMachine(t, form.open(t), randomChooser{rand.New(rand.NewPCG(seed, 11))})
			for range steps {
				m.transaction()
				now, err := m.db.Begin(false)
				require.NoError(t, err)
				all := append(slices.Clone(m.readers), modelReader{now, m.committed})
				for range 2 {
					a, b := all[m.src.pick(len(all))], all[m.src.pick(len(all))]
					m.diff(a, b)
				}
				require.NoError(t, now.Rollback())
			}
			m.finish()
		})
	}
}

func (m *machine) diff(a, b modelReader) {
	m.t.Helper()
	o := a.o.clone()
	for _, c := range diffOf(m.t, a.tx, b.tx) {
		require.NoError(m.t, o.apply(c), "step %d: diff of %d and %d", m.step, a.tx.ID(), b.tx.ID())
	}
	// The model leaves the root's sequence alone.
	require.NoError(m.t, o.compareRoot(b.tx), "step %d: diff of %d and %d", m.step, a.tx.ID(), b.tx.ID())
}

// Ensures what each kind of change looks like, and that changes come in the order of keys, those of a nested bucket at its name.
func TestTx_Diff_Kinds(t *testing.T) {
	db := openTemp(t)
	db.put("a", "1", "one", "2", "two", "3", "three")
	db.put("gone", "k", "v")
	db.update(func(tx *alder.Tx) {
		_, err := tx.Bucket([]byte("a")).CreateBucket([]byte("becomes key"))
		require.NoError(t, err)
	})
	old := db.begin(false)
	db.update(func(tx *alder.Tx) {
		a := tx.Bucket([]byte("a"))
		require.NoError(t, a.Put([]byte("1"), []byte("one"))) // no change
		require.NoError(t, a.Put([]byte("2"), []byte("TWO")))
		require.NoError(t, a.Delete([]byte("3")))
		require.NoError(t, a.Put([]byte("empty"), nil))
		require.NoError(t, a.DeleteBucket([]byte("becomes key")))
		require.NoError(t, a.Put([]byte("becomes key"), []byte("v")))
		require.NoError(t, a.SetSequence(7))
		require.NoError(t, tx.DeleteBucket([]byte("gone")))
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		inner, err := b.CreateBucket([]byte("inner"))
		require.NoError(t, err)
		require.NoError(t, inner.SetSequence(3))
		require.NoError(t, inner.Put([]byte("k"), []byte("v")))
		require.NoError(t, b.Put([]byte("z"), []byte("last")))
	})
	now := db.begin(false)
	var got []string
	for _, c := range diffOf(t, old, now) {
		got = append(got, changeText(c))
	}
	require.Equal(t, []string{
		"set sequence a/=7",
		"put a/2=TWO",
		"delete a/3",
		"delete bucket a/becomes key",
		"put a/becomes key=v",
		"put a/empty=",
		"create bucket b",
		"create bucket b/inner",
		"set sequence b/inner/=3",
		"put b/inner/k=v",
		"put b/z=last",
		"delete bucket gone",
	}, got)
	require.Empty(t, diffOf(t, now, now))
	require.Len(t, diffOf(t, now, old), 9)
}

// Ensures that changes applied with Tx.Apply in another store make it equal, and what Apply refuses.
func TestTx_Apply(t *testing.T) {
	db, other := openTemp(t), openMemory(t)
	empty := db.begin(false)
	db.put("a", "1", "one")
	db.put("b/with slash", "k", strings.Repeat("v", 100_000))
	now := db.begin(false)
	other.update(func(tx *alder.Tx) {
		for c, err := range now.Diff(empty) {
			require.NoError(t, err)
			require.NoError(t, tx.Apply(c))
		}
	})
	require.Equal(t, fingerprint(t, db.DB), fingerprint(t, other.DB))

	tx := other.begin(true)
	require.ErrorIs(t, tx.Apply(alder.Change{Kind: alder.ChangePut, Bucket: [][]byte{[]byte("no")}, Key: []byte("k")}), alder.ErrBucketNotFound)
	require.ErrorIs(t, tx.Apply(alder.Change{Kind: alder.ChangeDeleteBucket, Key: []byte("no")}), alder.ErrBucketNotFound)
	require.ErrorContains(t, tx.Apply(alder.Change{}), "Change.Kind is 0")
	require.NoError(t, tx.Rollback())
	require.ErrorIs(t, tx.Apply(alder.Change{Kind: alder.ChangePut}), alder.ErrTxClosed)
	require.ErrorIs(t, other.begin(false).Apply(alder.Change{Kind: alder.ChangePut}), alder.ErrTxNotWritable)
}

// Ensures that a diff says why it cannot be made, and that its loop may be left, and may end the transactions.
func TestTx_Diff_Misuse(t *testing.T) {
	db, other := openTemp(t), openMemory(t)
	old := db.begin(false)
	db.put("a", "1", "one", "2", "two")
	now := db.begin(false)
	errorOf := func(a, b *alder.Tx) (last error) {
		for _, err := range b.Diff(a) {
			require.NoError(t, last, "nothing follows an error")
			last = err
		}
		return last
	}
	require.NoError(t, errorOf(old, now))
	require.ErrorIs(t, errorOf(other.begin(false), now), alder.ErrDifferentDB)
	w := db.begin(true)
	require.ErrorIs(t, errorOf(old, w), alder.ErrTxNotReadOnly)
	require.ErrorIs(t, errorOf(w, now), alder.ErrTxNotReadOnly)
	require.NoError(t, w.Rollback())
	for range now.Diff(old) {
		break
	}
	var last error
	n := 0
	for _, err := range now.Diff(old) {
		if n++; n == 1 {
			require.NoError(t, old.Rollback())
		}
		last = err
	}
	require.ErrorIs(t, last, alder.ErrTxClosed)
	require.Equal(t, 2, n)
	require.ErrorIs(t, errorOf(old, now), alder.ErrTxClosed)
}

// Ensures that a damaged page ends a diff with an error that names it, unless both snapshots have it: then nobody looks.
func TestTx_Diff_Damaged(t *testing.T) {
	db := openTemp(t)
	db.update(func(tx *alder.Tx) {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		for i := range 20_000 {
			require.NoError(t, b.Put(key(i), filled(20, 1)))
		}
	})
	old := db.begin(false)
	db.update(func(tx *alder.Tx) { require.NoError(t, tx.Bucket([]byte("b")).Put(key(7), filled(20, 2))) })
	now := db.begin(false)
	// A second DB has not verified any page yet.
	copied := filepath.Join(tempDir(t), "copy.db")
	require.NoError(t, old.Rollback())
	require.NoError(t, now.Rollback())
	db.mustClose()
	image, err := os.ReadFile(db.file)
	require.NoError(t, err)
	damage := func(i int) {
		at := bytes.LastIndex(image, key(i))
		require.Positive(t, at)
		image[at] ^= 1
	}
	damage(10_000)
	require.NoError(t, os.WriteFile(copied, image, 0o600))
	other := openAt(t, copied)
	other.leaveUnchecked()
	old = other.begin(false)
	other.update(func(tx *alder.Tx) { require.NoError(t, tx.Bucket([]byte("b")).Put(key(7), filled(20, 3))) })
	now = other.begin(false)
	require.Len(t, diffOf(t, old, now), 1)

	// The last bucket's leaf is read only by the diff: it came with a bucket that was moved.
	require.NoError(t, old.Rollback())
	old = other.begin(false)
	other.update(func(tx *alder.Tx) {
		dst, err := tx.CreateBucket([]byte("dst"))
		require.NoError(t, err)
		require.NoError(t, tx.MoveBucket([]byte("b"), nil, dst))
	})
	var last error
	n := 0
	for _, err := range other.begin(false).Diff(old) {
		last = err
		n++
	}
	var corrupt *alder.CorruptionError
	require.ErrorAs(t, last, &corrupt)
	require.Contains(t, corrupt.Detail, "checksum")
	require.Greater(t, n, 5000)
}
