package alder_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

var (
	modelSeed  = flag.Uint64("alder.seed", 0, "seed of the model tests; 0 takes one from the clock")
	modelSteps = flag.Int("alder.steps", 0, "write transactions of each model test; 0 takes a number fit for every run")
)

// machine drives a store and the oracle side by side with a script of decisions, and fails the test at the
// first answer in which they differ. The oracle exists once per committed transaction that somebody can
// still read: every open reader has the one of its beginning.
type machine struct {
	t         testing.TB
	db        *testDB
	src       chooser
	committed *oracle
	lastID    int // of the last committed transaction
	readers   []modelReader
	digest    hash.Hash64 // of all answers, to compare runs under other options
	largest   int         // bytes of the largest value
	step      int

	// of the open write transaction
	tx      *alder.Tx
	cur     *oracle
	handles map[*oracle]*alder.Bucket // kept over operations, as programs do
}

type modelReader struct {
	tx *alder.Tx
	o  *oracle
}

// chooser takes the decisions of a script.
type chooser interface {
	pick(n int) int // 0 … n-1
	more() bool
}

// randomChooser takes them at random, for ever.
type randomChooser struct{ *rand.Rand }

func (c randomChooser) pick(n int) int { return c.IntN(n) }
func (c randomChooser) more() bool     { return true }

// byteChooser takes them from a script of bytes; it is what the fuzzer feeds.
type byteChooser struct{ script []byte }

func (c *byteChooser) pick(n int) int {
	v := 0
	for limit := 1; limit < n && len(c.script) > 0; limit <<= 8 {
		v = v<<8 | int(c.script[0])
		c.script = c.script[1:]
	}
	return v % n
}

func (c *byteChooser) more() bool { return len(c.script) > 0 }

func newMachine(t testing.TB, db *testDB, src chooser) *machine {
	m := &machine{t: t, db: db, src: src, committed: &oracle{}, lastID: db.lastTxID(), digest: fnv.New64a(), largest: 200_000}
	t.Cleanup(func() {
		// After a failure, so that the store can be closed.
		for _, r := range m.readers {
			_ = r.tx.Rollback()
		}
		if m.tx != nil {
			_ = m.tx.Rollback()
		}
	})
	return m
}

// key is one of a few hundred keys. Most are short; some are long, with long prefixes in common; some need
// pages of their own.
func (m *machine) key() []byte {
	i := m.src.pick(400)
	switch {
	case i%40 == 39:
		return append(bytes.Repeat([]byte("long"), 5000), key(i)...)
	case i%10 == 9:
		return append(bytes.Repeat([]byte("medium"), 20+i), key(i)...)
	case i%7 == 6:
		return []byte{byte(i), byte(i / 7)}
	case i%3 == 2:
		// Of few, extreme bytes, so that many are prefixes of others.
		var k []byte
		for n := i + 1; n > 0; n /= 3 {
			k = append(k, "\x00\x01\xff"[n%3])
		}
		return k
	}
	return key(i)
}

// value is mostly small, sometimes of a page or two, seldom large.
func (m *machine) value() []byte {
	limit := []int{12, 12, 60, 60, 60, 400, 400, 400, 3000, 9000}[m.src.pick(10)]
	if limit == 9000 && m.src.pick(4) == 0 {
		limit = m.largest
	}
	return filled(m.src.pick(limit+1), byte(m.src.pick(256)))
}

// answer puts an answer of the store into the digest.
func (m *machine) answer(format string, args ...any) { fmt.Fprintf(m.digest, format, args...) }

// same fails the test if the store's error is not the oracle's.
func (m *machine) same(want, got error, what string) {
	m.t.Helper()
	if !errors.Is(got, want) || (want == nil) != (got == nil) {
		require.FailNow(m.t, what, "step %d: got error %v, want %v", m.step, got, want)
	}
	m.answer("%s:%v;", what, got != nil)
}

// transaction runs one write transaction and what happens beside it.
func (m *machine) transaction() {
	m.step++
	m.aside()
	tx, err := m.db.Begin(true)
	require.NoError(m.t, err)
	require.Equal(m.t, m.lastID+1, tx.ID())
	m.tx, m.cur, m.handles = tx, m.committed.clone(), map[*oracle]*alder.Bucket{}
	for range m.src.pick(40) {
		if !m.src.more() {
			break
		}
		m.operation()
		if m.src.pick(25) == 0 {
			m.interrupt()
		}
	}
	if m.src.pick(8) == 0 {
		require.NoError(m.t, m.cur.compareRoot(tx), "step %d: inside the transaction", m.step)
		require.NoError(m.t, checkTx(tx), "step %d: check inside the transaction", m.step)
	}
	if m.src.pick(6) == 0 {
		require.NoError(m.t, tx.Rollback())
		m.cur = m.committed
	} else {
		require.NoError(m.t, tx.Commit())
		m.lastID++
	}
	m.tx, m.handles = nil, nil
	m.committed = m.cur
	// Not always: the check reads, and what somebody has read the next transaction cannot change in place.
	if m.src.pick(3) == 0 {
		m.db.check()
	}
}

// interrupt is what others do in the middle of a write transaction: somebody begins to read what was committed before, or wants it durable.
func (m *machine) interrupt() {
	if m.src.pick(2) == 0 {
		require.NoError(m.t, m.db.Sync())
		return
	}
	tx, err := m.db.Begin(false)
	require.NoError(m.t, err)
	require.Equal(m.t, m.lastID, tx.ID())
	m.verify(modelReader{tx, m.committed})
	require.NoError(m.t, tx.Rollback())
}

// aside lets readers begin, read and end, and the store be opened anew.
func (m *machine) aside() {
	switch p := m.src.pick(10); {
	case p < 3 && len(m.readers) < 12:
		tx, err := m.db.Begin(false)
		require.NoError(m.t, err)
		require.Equal(m.t, m.lastID, tx.ID())
		m.readers = append(m.readers, modelReader{tx, m.committed})
	case p < 6 && len(m.readers) > 0:
		m.verify(m.readers[m.src.pick(len(m.readers))])
	case p < 8 && len(m.readers) > 0:
		m.end(m.src.pick(len(m.readers)))
	case p == 8 && m.src.pick(4) == 0:
		m.shrink()
	case p == 9 && m.src.pick(8) == 0:
		m.endAll()
		m.reopen()
	}
}

// shrink makes the file shorter, beside the readers that are open, and takes the numbers of its transactions into account.
func (m *machine) shrink() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.db.Shrink(ctx, 0, nil); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		require.NoError(m.t, err, "step %d: shrink", m.step)
	}
	require.NoError(m.t, m.db.Sync()) // lazy transactions of the shrink are seen from now on
	m.db.view(func(tx *alder.Tx) {
		m.lastID = tx.ID()
		require.NoError(m.t, m.committed.compareRoot(tx), "step %d: after a shrink", m.step)
	})
}

func (m *machine) verify(r modelReader) {
	m.t.Helper()
	require.NoError(m.t, r.o.compareRoot(r.tx), "step %d: snapshot of transaction %d", m.step, r.tx.ID())
}

func (m *machine) end(i int) {
	m.verify(m.readers[i])
	require.NoError(m.t, m.readers[i].tx.Rollback())
	m.readers = append(m.readers[:i], m.readers[i+1:]...)
}

func (m *machine) endAll() {
	for len(m.readers) > 0 {
		m.end(0)
	}
}

// finish ends the script: everything is compared once more, before and after opening anew.
func (m *machine) finish() {
	m.endAll()
	for range 2 {
		m.db.view(func(tx *alder.Tx) {
			require.Equal(m.t, m.lastID, tx.ID())
			require.NoError(m.t, m.committed.compareRoot(tx))
			require.NoError(m.t, checkTx(tx))
		})
		m.reopen()
	}
}

// reopen closes and opens the store. Close may move pages, in transactions of its own.
func (m *machine) reopen() {
	m.db.reopen()
	m.db.view(func(tx *alder.Tx) {
		require.GreaterOrEqual(m.t, tx.ID(), m.lastID)
		m.lastID = tx.ID()
	})
}

// bucket chooses a bucket: nil with the root's oracle, or one at some depth.
func (m *machine) bucket() (*alder.Bucket, *oracle) {
	var b *alder.Bucket
	o := m.cur
	for depth := 0; m.src.pick(4) > 0 && depth < 6; depth++ {
		var subs []*oracleEntry
		for i := range o.entries {
			if o.entries[i].sub != nil {
				subs = append(subs, &o.entries[i])
			}
		}
		if len(subs) == 0 {
			break
		}
		e := subs[m.src.pick(len(subs))]
		nested := m.handles[e.sub]
		if nested == nil || m.src.pick(3) == 0 {
			if b == nil {
				nested = m.tx.Bucket([]byte(e.key))
			} else {
				nested = b.Bucket([]byte(e.key))
			}
			require.NotNil(m.t, nested, "step %d: bucket %.30q", m.step, e.key)
			m.handles[e.sub] = nested
		}
		b, o = nested, e.sub
	}
	return b, o
}

// forget drops the handles of a bucket that is no longer where it was, and of all below it.
func (m *machine) forget(gone *oracle) {
	for o := range m.handles {
		if gone.contains(o) {
			delete(m.handles, o)
		}
	}
}

// operation does one thing to the open write transaction.
func (m *machine) operation() {
	b, o := m.bucket()
	if b == nil {
		// The root holds nothing but buckets.
		if p := m.src.pick(10); p < 7 || len(o.entries) == 0 {
			m.create(nil, o)
		} else {
			m.nested(nil, o)
		}
		return
	}
	switch p := m.src.pick(100); {
	case p < 35:
		k, v := m.key(), m.value()
		m.same(o.put(string(k), string(v)), b.Put(k, v), "Put")
	case p < 52:
		k := m.key()
		m.same(o.delete(string(k)), b.Delete(k), "Delete")
	case p < 58:
		m.run(b, o)
	case p < 62:
		from, to := o.near(m.src.pick), o.near(m.src.pick)
		i, j := o.span(from, to)
		for _, e := range o.entries[i:j] {
			if e.sub != nil {
				m.forget(e.sub)
			}
		}
		want := o.deleteRange(from, to)
		n, err := b.DeleteRange(from, to)
		m.same(nil, err, "DeleteRange")
		require.Equal(m.t, want, n, "step %d: DeleteRange", m.step)
		m.answer("range %d;", n)
	case p < 68:
		m.create(b, o)
	case p < 74:
		m.nested(b, o)
	case p < 78:
		m.sequence(b, o)
	case p < 88:
		m.walk(b, o)
	default:
		m.ask(b, o)
	}
}

// run puts or deletes many keys that follow each other, so that trees get deep and shallow again.
func (m *machine) run(b *alder.Bucket, o *oracle) {
	from, n, size := m.src.pick(1500), m.src.pick(300), m.src.pick(200)
	remove, descending := m.src.pick(3) == 0, m.src.pick(2) == 0
	for i := range n {
		k := key(from + i)
		if descending {
			k = key(from + n - i)
		}
		if remove {
			m.same(o.delete(string(k)), b.Delete(k), "Delete")
		} else {
			v := filled(size, byte(i))
			m.same(o.put(string(k), string(v)), b.Put(k, v), "Put")
		}
	}
}

// create makes a bucket in b, or in the root.
func (m *machine) create(b *alder.Bucket, o *oracle) {
	name := m.key()
	var made *alder.Bucket
	var err error
	sub, want := o.create(string(name))
	switch strict := m.src.pick(2) == 0; {
	case b == nil && strict:
		made, err = m.tx.CreateBucket(name)
	case strict:
		made, err = b.CreateBucket(name)
	case b == nil:
		made, err = m.tx.CreateBucketIfNotExists(name)
	default:
		made, err = b.CreateBucketIfNotExists(name)
	}
	if want == alder.ErrBucketExists && err == nil {
		want = nil // the second kind
		require.Equal(m.t, sub.sequence, made.Sequence(), "step %d: existing bucket", m.step)
	}
	m.same(want, err, "CreateBucket")
	if err == nil {
		require.NotNil(m.t, made)
		m.handles[sub] = made
	}
}

// nested deletes a bucket of b, or moves it to some other place.
func (m *machine) nested(b *alder.Bucket, o *oracle) {
	name := m.key()
	var names []string
	for _, e := range o.entries {
		if e.sub != nil {
			names = append(names, e.key)
		}
	}
	if len(names) > 0 && m.src.pick(8) > 0 {
		name = []byte(names[m.src.pick(len(names))])
	}
	if m.src.pick(2) == 0 {
		if e := o.at(string(name)); e != nil && e.sub != nil {
			m.forget(e.sub)
		}
		want := o.deleteBucket(string(name))
		if b == nil {
			m.same(want, m.tx.DeleteBucket(name), "DeleteBucket")
		} else {
			m.same(want, b.DeleteBucket(name), "DeleteBucket")
		}
		return
	}
	dst, oDst := m.bucket()
	if e := o.at(string(name)); e != nil && e.sub != nil {
		if e.sub.contains(oDst) {
			require.Error(m.t, m.tx.MoveBucket(name, b, dst), "step %d: into itself", m.step)
			return
		}
		m.forget(e.sub)
	}
	m.same(o.moveBucket(string(name), oDst), m.tx.MoveBucket(name, b, dst), "MoveBucket")
}

func (m *machine) sequence(b *alder.Bucket, o *oracle) {
	if m.src.pick(3) == 0 {
		o.sequence = uint64(m.src.pick(1 << 20))
		require.NoError(m.t, b.SetSequence(o.sequence))
		return
	}
	o.sequence++
	n, err := b.NextSequence()
	require.NoError(m.t, err)
	require.Equal(m.t, o.sequence, n, "step %d: sequence", m.step)
}

// walk moves a cursor about and deletes some of what it meets.
func (m *machine) walk(b *alder.Bucket, o *oracle) {
	c := b.Cursor()
	seek := o.near(m.src.pick)
	k, v := c.Seek(seek)
	i, _ := o.find(string(seek))
	want := o.entry(i)
	for range m.src.pick(30) {
		require.NoError(m.t, want.compare(k, v), "step %d: cursor", m.step)
		if want == nil {
			return
		}
		on := want.key
		if want.sub == nil && m.src.pick(4) == 0 {
			require.NoError(m.t, o.delete(on))
			m.same(nil, c.Delete(), "Cursor.Delete")
		}
		if m.src.pick(8) == 0 {
			k, v := m.key(), m.value()
			m.same(o.put(string(k), string(v)), b.Put(k, v), "Put")
		}
		if m.src.pick(3) == 0 {
			k, v = c.Prev()
			want = o.entry(o.before(on))
		} else {
			k, v = c.Next()
			want = o.entry(o.after(on))
		}
	}
}

// ask compares what the bucket says about a key and a range.
func (m *machine) ask(b *alder.Bucket, o *oracle) {
	k := m.key()
	var want []byte
	isBucket := false
	if e := o.at(string(k)); e != nil {
		isBucket = e.sub != nil
		if !isBucket {
			want = []byte(e.value)
		}
	}
	got := b.Get(k)
	requireBytes(m.t, want, got, "step %d: Get(%.30q)", m.step, k)
	require.Equal(m.t, want == nil, got == nil, "step %d: Get(%.30q)", m.step, k)
	require.Equal(m.t, isBucket, b.Bucket(k) != nil, "step %d: Bucket(%.30q)", m.step, k)
	from, to := o.near(m.src.pick), o.near(m.src.pick)
	requireOrder(m.t, o, b, from, to)
	require.Equal(m.t, uint64(len(o.entries)), b.Len())
	m.answer("%x %v %d %d;", got, isBucket, b.Count(from, to), b.Rank(k))
}

// seedAndSteps returns what the flags say, or a new seed and the given number; they are printed with a failure.
func seedAndSteps(t testing.TB, steps int) (uint64, int) {
	t.Helper()
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	if *modelSteps != 0 {
		steps = *modelSteps
	} else if testing.Short() {
		steps /= 5
	}
	t.Logf("repeat with -run '^%s$' -alder.seed=%d -alder.steps=%d", t.Name(), seed, steps)
	return seed, steps
}

// Ensures that a store answers every operation of a long random script as a sorted map would, in every
// snapshot that is still being read, through rollbacks and reopenings, and is sound after every commit.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, form := range []struct {
		name string
		open func(t *testing.T) *testDB
	}{
		{"file", func(t *testing.T) *testDB { return openTemp(t) }},
		{"memory", func(t *testing.T) *testDB { return openMemory(t) }},
		{"page=16384", func(t *testing.T) *testDB { return openTemp(t, withPageSize(16384), withNoSync()) }},
		{"lazy", func(t *testing.T) *testDB { return openTemp(t, withNoSync()) }},
		{"lazy, spilling", func(t *testing.T) *testDB { return openTemp(t, withNoSync(), withDirtyLimit(8192)) }},
		{"spilling", func(t *testing.T) *testDB { return openMemory(t, withDirtyLimit(8192)) }},
	} {
		t.Run(form.name, func(t *testing.T) {
			seed, steps := seedAndSteps(t, 200)
			m := newMachine(t, form.open(t), randomChooser{rand.New(rand.NewPCG(seed, 1))})
			for range steps {
				m.transaction()
			}
			m.finish()
		})
	}
}

// Ensures that the same script gets the same answers whatever the options are.
func TestModel_Options(t *testing.T) {
	seed, steps := seedAndSteps(t, 60)
	r := rand.New(rand.NewPCG(seed, 2))
	random := func(o *alder.Options) {
		o.PageSize = 4096 << r.IntN(5)
		o.NoSync = r.IntN(2) == 0
		o.NoFreelistSync = r.IntN(2) == 0
		o.NoGrowSync = r.IntN(2) == 0
		o.NoStatistics = r.IntN(2) == 0
		o.InitialMmapSize = r.IntN(1 << 24)
		o.DirtyLimit = r.IntN(1 << r.IntN(20))
	}
	var want uint64
	for i, open := range []func() *testDB{
		func() *testDB { return openMemory(t) },
		func() *testDB { return openMemory(t, random) },
		func() *testDB { return openTemp(t, random) },
		func() *testDB { return openTemp(t, random) },
	} {
		db := open()
		m := newMachine(t, db, randomChooser{rand.New(rand.NewPCG(seed, 3))})
		for range steps {
			m.transaction()
		}
		m.finish()
		if got := m.digest.Sum64(); i == 0 {
			want = got
		} else {
			require.Equal(t, want, got, "other answers with %v", db.options.String())
		}
	}
}
