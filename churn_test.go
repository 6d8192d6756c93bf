package alder_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

var (
	churnTime = flag.Duration("alder.churn", 0, "how long TestChurn goes on; 0: a few seconds")
	churnFile = flag.String("alder.churnfile", "", "file for what TestChurn measures, as CSV")
)

// churn is a store through whose life much comes and goes: buckets are made and dropped, values of all sizes put and deleted, in waves, so that
// what it holds grows and becomes less, while readers of all ages come and go.
type churn struct {
	t       *testing.T
	db      *testDB
	rng     *rand.Rand
	readers []*alder.Tx
	ends    []int // when each of them ends
	steps   int

	most  int64   // the most that has been in use at a time since the last shrink that nothing held up
	worst float64 // the largest ratio of the file to that, of files that are not small
	out   *bufio.Writer
}

const (
	churnValue = 200 << 10 // no value is longer
	churnLog   = 4 << 20   // nor a run of the log
	churnSpare = 12 << 20  // what a transaction and a checkpoint use between two looks, and the step by which a small file grows
)

// bound is what the file is never longer than. docs/space.md has the argument: where values lie in single pages the file has no more pages than were once in use
// at the same time; runs of up to n pages leave gaps, of which first fit makes log2 n times as much at worst (J. M. Robson, The Computer Journal 20(3), 1977), and in
// this test an eighth.
func (c *churn) bound() (proven, tight int64) {
	used := c.most + churnSpare
	proven = int64(float64(used) * (1 + math.Log2(churnLog/4096.0)))
	return proven + proven/64, used + used/8 + used/64
}

func (c *churn) value() []byte {
	n := c.rng.IntN(300)
	switch c.rng.IntN(200) {
	case 0:
		n = c.rng.IntN(churnValue)
	case 1, 2, 3:
		n = 4000 + c.rng.IntN(8000)
	}
	return bytes.Repeat([]byte{byte(n)}, n)
}

// step is one transaction. The wave decides whether there is more put or more deleted.
func (c *churn) step() {
	c.steps++
	falling := c.steps/150%2 == 1
	require.NoError(c.t, c.db.Update(func(tx *alder.Tx) error {
		name := fmt.Appendf(nil, "bucket%d", c.rng.IntN(12))
		if c.rng.IntN(300) == 0 && tx.Bucket(name) != nil {
			return tx.DeleteBucket(name)
		}
		b, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		if falling && b.Len() > 0 {
			at, _ := b.At(c.rng.Uint64N(b.Len()))
			end, _ := b.At(min(b.Rank(at)+uint64(c.rng.IntN(150)), b.Len()-1))
			if _, err := b.DeleteRange(bytes.Clone(at), bytes.Clone(end)); err != nil {
				return err
			}
		}
		for range c.rng.IntN(120) {
			if err := b.Put(fmt.Appendf(nil, "%012x", c.rng.Uint64N(1<<40)), c.value()); err != nil {
				return err
			}
		}
		return nil
	}))
	for i := len(c.readers) - 1; i >= 0; i-- {
		if c.ends[i] <= c.steps {
			require.NoError(c.t, c.readers[i].Rollback())
			c.readers = append(c.readers[:i], c.readers[i+1:]...)
			c.ends = append(c.ends[:i], c.ends[i+1:]...)
		}
	}
	if c.rng.IntN(10) == 0 {
		tx, err := c.db.Begin(false)
		require.NoError(c.t, err)
		life := c.rng.IntN(10)
		if c.rng.IntN(10) == 0 {
			life = c.rng.IntN(200)
		}
		c.readers, c.ends = append(c.readers, tx), append(c.ends, c.steps+life)
	}
}

// measure notes what the file is used for, and holds it against the bound.
func (c *churn) measure(since time.Time, note bool) {
	s := c.db.Space()
	c.most = max(c.most, s.Trees+s.Map+s.Pinned+s.Log)
	if s.File > 64<<20 {
		c.worst = max(c.worst, float64(s.File)/float64(c.most))
	}
	proven, tight := c.bound()
	if c.out != nil && note {
		fmt.Fprintf(c.out, "%.1f,%d,%d,%d,%d,%d,%d,%d,%d\n", time.Since(since).Seconds(), c.steps, s.File, s.Trees, s.Pinned, s.Free, s.Log, len(c.readers), tight)
	}
	require.Less(c.t, s.File, proven, "after %d steps: %+v, at most %d in use", c.steps, s, c.most)
	require.Less(c.t, s.File, tight, "after %d steps: %+v, at most %d in use", c.steps, s, c.most)
}

// shrink makes the file as short as it can be.
func (c *churn) shrink() {
	out, err := c.db.Shrink(c.t.Context(), 0, nil)
	require.NoError(c.t, err)
	if out.Held == 0 && out.File <= out.Goal+out.Goal/16 {
		s := c.db.Space()
		c.most = s.Trees + s.Map + s.Pinned + s.Log
	}
}

// Ensures that the file of a store in which everything comes and goes is bounded by what it holds and what is pinned, whatever its age: nothing
// leaks, nothing is scattered beyond use. -alder.churn=10m makes it long, and -alder.churnfile=churn.csv keeps what is measured.
func TestChurn(t *testing.T) {
	begun := time.Now()
	duration := *churnTime
	if duration == 0 {
		if duration = 8 * time.Second; testing.Short() {
			duration = 2 * time.Second
		}
	}
	db := openTemp(t, withNoSync(), func(o *alder.Options) { o.LogSize = churnLog })
	c := &churn{t: t, db: db, rng: rand.New(rand.NewPCG(1, 5))}
	if *churnFile != "" {
		f, err := os.Create(*churnFile)
		require.NoError(t, err)
		defer f.Close()
		c.out = bufio.NewWriter(f)
		defer c.out.Flush()
		fmt.Fprintln(c.out, "seconds,steps,file,trees,pinned,free,log,readers,bound")
	}
	for time.Since(begun) < duration {
		c.step()
		c.measure(begun, c.steps%10 == 0)
		if c.steps%700 == 699 { // now and then the file becomes as short as it can be
			c.shrink()
		}
	}
	for _, tx := range c.readers {
		require.NoError(t, tx.Rollback())
	}
	_, err := db.Shrink(t.Context(), 0, nil)
	require.NoError(t, err)
	s := db.Space()
	t.Logf("%d steps, %+v; at most %.2f times what was in use at a time", c.steps, s, c.worst)
	require.Less(t, s.File, s.Trees+s.Trees/2+4<<20, "gaps between values of 200 KB that no other one fills")
}
