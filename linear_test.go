package alder_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Linearizability: what concurrent transactions were told must fit an order of them in which each takes effect between its call and
// its return. Porcupine looks for such an order in recorded histories (A. Athalye, "Porcupine: A fast linearizability checker
// in Go", 2017).
//
// What a lazy transaction of a store in full durability has done is seen by readers only when it is durable, and a write transaction that
// is rolled back may have seen what is not durable yet. Both count as under way until the next sync, or the next full commit,
// of their goroutine has returned.

const linearKeys = 3

// linearState is the content of the keys; 0: there is no such key.
type linearState [linearKeys]uint32

type linearKind int

const (
	linearView    linearKind = iota // all keys, in a read transaction
	linearPut                       // of one key
	linearDelete                    // of one key
	linearCompare                   // compare and swap of one key
	linearRotate                    // the value of one key to the next, and so on: reads and writes all
	linearGiveUp                    // reads all in a write transaction that is rolled back
	linearKinds
)

type linearInput struct {
	kind     linearKind
	key      int
	old, new uint32
}

// linearOutput is what the transaction has read.
type linearOutput struct {
	state linearState
	done  bool // compare: it was equal
}

// apply is the sequential meaning of an operation.
func (in linearInput) apply(s linearState) (linearOutput, linearState) {
	out := linearOutput{}
	switch in.kind {
	case linearView, linearGiveUp:
		out.state = s
	case linearPut:
		s[in.key] = in.new
	case linearDelete:
		s[in.key] = 0
	case linearCompare:
		if out.done = s[in.key] == in.old; out.done {
			s[in.key] = in.new
		}
	case linearRotate:
		out.state = s
		s[0], s[1], s[2] = s[2], s[0], s[1]
	}
	return out, s
}

var linearModel = porcupine.Model{
	Init: func() any { return linearState{} },
	Step: func(state, input, output any) (bool, any) {
		out, next := input.(linearInput).apply(state.(linearState))
		return out == output.(linearOutput), next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// linearClient is a goroutine that issues operations.
type linearClient struct {
	id      int
	db      *alder.DB
	rng     *rand.Rand
	bucket  []byte
	begun   time.Time
	seen    linearState
	history []porcupine.Operation
	waiting []int // operations that count as under way
	strict  bool  // no operation outlasts its return
	mixed   bool  // durability levels
	err     error
}

// run issues n operations.
func (c *linearClient) run(n int) {
	for i := range n {
		in := linearInput{kind: linearKind(c.rng.IntN(int(linearKinds))), key: c.rng.IntN(linearKeys), new: uint32(c.id+1)*10000 + uint32(i)}
		in.old = c.seen[in.key]
		level := alder.DurabilityDefault
		if c.mixed {
			level = alder.Durability(c.rng.IntN(3))
		}
		op := porcupine.Operation{ClientId: c.id, Input: in, Call: int64(time.Since(c.begun))}
		var out linearOutput
		if out, c.err = c.perform(in, level); c.err != nil {
			return
		}
		op.Output, op.Return = out, int64(time.Since(c.begun))
		c.history = append(c.history, op)
		outlasts := in.kind == linearGiveUp || level == alder.DurabilityLazy && in.kind != linearView
		switch {
		case c.strict || in.kind == linearView:
		case outlasts:
			c.waiting = append(c.waiting, len(c.history)-1)
		default:
			c.settle()
		}
		if c.rng.IntN(12) == 0 || i == n-1 {
			if c.err = c.db.Sync(); c.err != nil {
				return
			}
			c.settle()
		}
	}
}

// settle ends the operations that were under way.
func (c *linearClient) settle() {
	now := int64(time.Since(c.begun))
	for _, i := range c.waiting {
		c.history[i].Return = now
	}
	c.waiting = c.waiting[:0]
}

var errLinearGiveUp = errors.New("rolled back on purpose")

// perform does an operation on the store.
func (c *linearClient) perform(in linearInput, level alder.Durability) (out linearOutput, err error) {
	fn := func(tx *alder.Tx) error {
		b := tx.Bucket(c.bucket)
		s := linearRead(b)
		if tx.Writable() && level != alder.DurabilityDefault {
			if err := tx.SetDurability(level); err != nil {
				return err
			}
		}
		var next linearState
		out, next = in.apply(s)
		c.seen = next
		if in.kind == linearGiveUp {
			return errLinearGiveUp
		}
		for i, v := range next {
			if err := linearWrite(b, i, s[i], v); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case in.kind == linearView:
		err = c.db.View(fn)
	case in.kind == linearPut && c.rng.IntN(4) == 0 && !c.mixed:
		err = c.db.Batch(fn)
	default:
		err = c.db.Update(fn)
	}
	if in.kind == linearGiveUp && errors.Is(err, errLinearGiveUp) {
		err = nil
	}
	return out, err
}

func linearRead(b *alder.Bucket) (s linearState) {
	for i := range s {
		if v := b.Get(key(i)); v != nil {
			s[i] = binary.BigEndian.Uint32(v)
		}
	}
	return s
}

func linearWrite(b *alder.Bucket, i int, was, v uint32) error {
	switch {
	case was == v:
		return nil
	case v == 0:
		return b.Delete(key(i))
	}
	// Some values are long, so that more than one page changes.
	value := make([]byte, 4+int(v%7)*500)
	binary.BigEndian.PutUint32(value, v)
	return b.Put(key(i), value)
}

// linearHistory lets some goroutines work on a bucket of their own, and returns what they were told.
func linearHistory(t *testing.T, db *testDB, round int, strict, mixed bool) []porcupine.Operation {
	t.Helper()
	bucket := fmt.Appendf(nil, "round %d", round)
	db.update(func(tx *alder.Tx) {
		_, err := tx.CreateBucket(bucket)
		require.NoError(t, err)
	})
	clients := make([]*linearClient, 8)
	begun := time.Now()
	var wg sync.WaitGroup
	for id := range clients {
		c := &linearClient{id: id, db: db.DB, bucket: bucket, begun: begun, strict: strict, mixed: mixed, rng: rand.New(rand.NewPCG(uint64(round), uint64(id)))}
		clients[id] = c
		wg.Go(func() { c.run(40) })
	}
	wg.Wait()
	var history []porcupine.Operation
	for _, c := range clients {
		require.NoError(t, c.err, "client %d", c.id)
		history = append(history, c.history...)
	}
	return history
}

// Ensures that concurrent transactions are linearizable: in full durability, in a lazy store, and where both are mixed.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	small := func(o *alder.Options) { o.LogSize, o.DirtyLimit = 16<<10, 32<<10 } // checkpoints and new runs all the time
	for _, form := range []struct {
		name   string
		opts   []option
		mixed  bool
		strict bool // what a transaction tells is what readers see from then on: not where lazy ones are seen later
	}{
		{name: "full", opts: []option{small}, strict: true},
		{name: "lazy", opts: []option{small, withNoSync()}, strict: true},
		{name: "full store, mixed", opts: []option{small, func(o *alder.Options) { o.SyncInterval = time.Millisecond }}, mixed: true},
		{name: "lazy store, mixed", opts: []option{small, withNoSync(), func(o *alder.Options) { o.SyncInterval = time.Millisecond }}, mixed: true, strict: true},
		{name: "defaults", mixed: true},
	} {
		t.Run(form.name, func(t *testing.T) {
			db := openTemp(t, form.opts...)
			rounds, operations := 0, 0
			for end := time.Now().Add(linearTime()); rounds < 2 || time.Now().Before(end); rounds++ {
				history := linearHistory(t, db, rounds, form.strict, form.mixed)
				operations += len(history)
				switch porcupine.CheckOperationsTimeout(linearModel, history, time.Minute) {
				case porcupine.Illegal:
					for _, op := range history {
						t.Logf("%d: [%d, %d] %s", op.ClientId, op.Call, op.Return, linearModel.DescribeOperation(op.Input, op.Output))
					}
					t.Fatalf("round %d is not linearizable", rounds)
				case porcupine.Unknown:
					t.Logf("round %d: no answer within a minute", rounds)
				}
			}
			t.Logf("%d histories, %d operations", rounds, operations)
		})
	}
}

func linearTime() time.Duration {
	if testing.Short() {
		return 200 * time.Millisecond
	}
	return time.Second
}

// Ensures that the test above can fail: a read that misses what was returned before is found.
func TestLinearizable_Broken(t *testing.T) {
	put := linearInput{kind: linearPut, key: 1, new: 7}
	history := []porcupine.Operation{
		{ClientId: 0, Input: put, Output: linearOutput{}, Call: 0, Return: 10},
		{ClientId: 1, Input: linearInput{kind: linearView}, Output: linearOutput{}, Call: 5, Return: 8},
		{ClientId: 2, Input: linearInput{kind: linearView}, Output: linearOutput{state: linearState{0, 7, 0}}, Call: 6, Return: 9},
	}
	require.True(t, porcupine.CheckOperations(linearModel, history))
	late := porcupine.Operation{ClientId: 1, Input: linearInput{kind: linearView}, Output: linearOutput{}, Call: 11, Return: 12}
	require.False(t, porcupine.CheckOperations(linearModel, append(history, late)), "a stale read")
	history[1].Call, history[1].Return = 10, 11
	require.False(t, porcupine.CheckOperations(linearModel, history), "a read that goes back")
}
