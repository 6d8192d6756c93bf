package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
)

// sampleReads is how many steps go by for each whose latency is taken.
const sampleReads = 64

func init() {
	register(
		&Workload{ID: "R1", Title: "random Get, one per transaction, 1 goroutine", Store: Shared,
			Main: "ns/op", With: []string{"lmdb-c"}, Peers: []string{"lmdb-c"}, Run: readLoop(getOnce, true)},
		&Workload{ID: "R2", Title: "random Get, 100 per transaction, 1 goroutine", Store: Shared,
			Params: Params{PerTx: 100}, Main: "ns/op", With: []string{"lmdb-c"}, Peers: []string{"lmdb-c"}, Run: readLoop(getInTx, true)},
		&Workload{ID: "R3", Title: "random Get, one per transaction, 8 goroutines", Store: Shared,
			Params: Params{Goroutines: 8}, Main: "ns/op", With: []string{"lmdb-c"}, Run: readLoop(getOnce, true)},
		&Workload{ID: "R4", Title: "random Get, 100 per transaction, ten times the keys", Store: Shared, Scale: 10,
			Params: Params{PerTx: 100}, Main: "ns/op", With: []string{"lmdb-c"}, Peers: []string{"lmdb-c"}, Run: readLoop(getInTx, true)},
		&Workload{ID: "R5", Title: "GetMulti, 16 random keys per call, per key", Store: Shared,
			Params: Params{PerTx: 16}, Main: "ns/op", Run: readLoop(getMulti, false)},
		&Workload{ID: "R6", Title: "empty read transaction, 1 goroutine", Store: Shared,
			Main: "ns/op", With: []string{"lmdb-c"}, Run: readLoop(emptyTx, true)},
		&Workload{ID: "R6-8", Title: "empty read transaction, 8 goroutines", Store: Shared,
			Params: Params{Goroutines: 8}, Main: "ns/op", With: []string{"lmdb-c"}, Run: readLoop(emptyTx, true)},
		&Workload{ID: "R7", Title: "full scan after a random load, forward and reverse", Store: Shared,
			Main: "forward", More: true, With: []string{"lmdb-c"}, Peers: []string{"lmdb-c"}, Run: scanAll},
		&Workload{ID: "R7-sorted", Title: "full scan after a sorted load of ten times the keys, forward and reverse",
			Store: Shared, Scale: 10, Params: Params{Data: "sorted"},
			Main: "forward", More: true, With: []string{"lmdb-c"}, Peers: []string{"lmdb-c"}, Run: scanAll},
		&Workload{ID: "R8", Title: "seek + 50 next, each in a transaction of its own", Store: Shared,
			Main: "ns/op", With: []string{"lmdb-c"}, Run: readLoop(seekOnce, true)},
		&Workload{ID: "R8-tx", Title: "seek + 50 next, 100 in a transaction", Store: Shared,
			Params: Params{PerTx: 100}, Main: "ns/op", Run: readLoop(seekInTx, false)},
		&Workload{ID: "R11", Title: "Count of a range of half the keys, and At(i), ten times the keys", Store: Shared,
			Scale: 10, Main: "count", Run: countRange},
	)
}

// readWorker is one goroutine's share of a read workload.
type readWorker struct {
	set    data.Set
	reader engine.Reader
	pick   data.Picker
	check  *data.Check
	sum    data.Sum
	key    []byte
	params Params
}

func (w *readWorker) next() []byte {
	i := w.pick.Next()
	w.set.Expect(i, w.check)
	w.key = w.set.Key(i, w.key)
	return w.key
}

// operation makes the step of a worker and says for how many operations it counts.
type operation func(w *readWorker) (step, int, error)

func getOnce(w *readWorker) (step, int, error) {
	return func() error { return w.reader.Once(w.next(), w.check) }, 1, nil
}

func getInTx(w *readWorker) (step, int, error) {
	gets := w.params.PerTx
	return func() error {
		if err := w.reader.Begin(); err != nil {
			return err
		}
		for range gets {
			if err := w.reader.Get(w.next(), w.check); err != nil {
				return err
			}
		}
		return w.reader.End()
	}, gets, nil
}

func getMulti(w *readWorker) (step, int, error) {
	multi, ok := w.reader.(engine.MultiGetter)
	if !ok {
		return nil, 0, engine.NA("has no call that looks up several keys")
	}
	keys, checks := make([][]byte, w.params.PerTx), make([]data.Check, w.params.PerTx)
	return func() error {
		for i := range keys {
			n := w.pick.Next()
			w.set.Expect(n, &checks[i])
			keys[i] = w.set.Key(n, keys[i])
		}
		if err := w.reader.Begin(); err != nil {
			return err
		}
		if err := multi.GetMulti(keys, checks); err != nil {
			return err
		}
		for i := range checks {
			if checks[i].Wrong() > 0 {
				return wrong([]*data.Check{&checks[i]})
			}
		}
		return w.reader.End()
	}, w.params.PerTx, nil
}

func emptyTx(w *readWorker) (step, int, error) {
	return func() error {
		if err := w.reader.Begin(); err != nil {
			return err
		}
		return w.reader.End()
	}, 1, nil
}

func seekOnce(w *readWorker) (step, int, error) {
	return func() error {
		if err := w.reader.Begin(); err != nil {
			return err
		}
		if err := w.reader.Scan(w.next(), w.params.Limit, false, &w.sum); err != nil {
			return err
		}
		return w.reader.End()
	}, 1, nil
}

func seekInTx(w *readWorker) (step, int, error) {
	return func() error {
		if err := w.reader.Begin(); err != nil {
			return err
		}
		for range w.params.PerTx {
			if err := w.reader.Scan(w.next(), w.params.Limit, false, &w.sum); err != nil {
				return err
			}
		}
		return w.reader.End()
	}, w.params.PerTx, nil
}

// readLoop runs an operation on every goroutine of the workload, first for warming up.
func readLoop(op operation, program bool) func(*Trial) error {
	return func(t *Trial) error {
		if t.Engine.Program != nil {
			if !program {
				return engine.NA("the program has no such operation")
			}
			return t.runProgram()
		}
		return t.with(func(store engine.Store) error {
			if err := settle(store); err != nil {
				return err
			}
			if err := t.verifyAll(store); err != nil {
				return err
			}
			return t.readLoop(store, op)
		})
	}
}

func (t *Trial) readLoop(store engine.Store, op operation) error {
	workers, err := t.readers(store, t.Params.Goroutines)
	if err != nil {
		return err
	}
	p := plan{duration: t.Params.duration(), sampleEvery: sampleReads, rate: t.Params.Rate}
	var checks []*data.Check
	for _, w := range workers {
		s, ops, err := op(w)
		if err != nil {
			return err
		}
		p.steps, p.opsPerStep = append(p.steps, s), ops
		checks = append(checks, w.check)
	}
	if p.opsPerStep > 1 {
		p.sampleEvery = max(1, sampleReads/p.opsPerStep)
	}
	warm := p
	warm.duration = t.Params.warm()
	if _, err := warm.run(); err != nil {
		return err
	}
	t.start()
	out, err := p.run()
	if err != nil {
		return err
	}
	t.stop()
	for _, w := range workers {
		if err := w.reader.Close(); err != nil {
			return err
		}
	}
	if err := wrong(checks); err != nil {
		return err
	}
	return t.report("", out)
}

// readers makes the workers of n goroutines.
func (t *Trial) readers(store engine.Store, n int) ([]*readWorker, error) {
	var workers []*readWorker
	for i := range n {
		reader, err := store.Reader()
		if err != nil {
			return nil, err
		}
		pick, err := data.NewPicker(t.Params.Distribution, t.Set.Len(), t.workerSeed(i))
		if err != nil {
			return nil, err
		}
		workers = append(workers, &readWorker{
			set: t.Set, reader: reader, pick: pick, check: new(data.Check), params: t.Params,
		})
	}
	return workers, nil
}

// workerSeed differs for each goroutine and repetition, and is the same for all engines.
func (t *Trial) workerSeed(worker int) uint64 {
	return t.Params.Seed + 1000*uint64(t.Rep) + uint64(worker)
}

// verifyAll visits the whole store before it is timed: the number of records, their digest and their order must
// be the model's, and a sample of the values is compared byte by byte. It also brings everything into memory.
func (t *Trial) verifyAll(store engine.Store) error {
	r, err := store.Reader()
	if err != nil {
		return err
	}
	if err := t.verifyReader(r); err != nil {
		return errors.Join(err, r.Close())
	}
	return r.Close()
}

func (t *Trial) verifyReader(r engine.Reader) error {
	if err := r.Begin(); err != nil {
		return err
	}
	var sum data.Sum
	last := make([]byte, 0, 64)
	ordered := true
	err := r.Visit(nil, func(key, value []byte) bool {
		sum.Add(key, value)
		ordered = ordered && (sum.Count == 1 || string(last) < string(key))
		last = append(last[:0], key...)
		return true
	})
	if err != nil {
		return err
	}
	if want := data.SumOf(t.Set, 0, t.Set.Len()); sum != want {
		return fmt.Errorf(WrongAnswers+": a full scan saw %+v, not %+v", sum, want)
	}
	if !ordered {
		return errors.New(WrongAnswers + ": a full scan saw keys out of order")
	}
	if err := t.verifySample(r); err != nil {
		return err
	}
	return r.End()
}

// verifySample compares whole values of some records spread over the set.
func (t *Trial) verifySample(r engine.Reader) error {
	const samples = 1000
	var key []byte
	for i := 0; i < t.Set.Len(); i += max(1, t.Set.Len()/samples) {
		key = t.Set.Key(i, key)
		var wrong error
		found := false
		err := r.Visit(key, func(k, v []byte) bool {
			found = string(k) == string(key)
			if found {
				wrong = t.Set.Verify(i, v)
			}
			return false
		})
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf(WrongAnswers+": record %d is missing", i)
		}
		if wrong != nil {
			return fmt.Errorf(WrongAnswers+": %w", wrong)
		}
	}
	return nil
}

// scanAll times scans over the whole store, both ways, for half of the time each.
func scanAll(t *Trial) error {
	if t.Engine.Program != nil {
		return t.runProgram()
	}
	return t.with(func(store engine.Store) error {
		if err := settle(store); err != nil {
			return err
		}
		if err := t.verifyAll(store); err != nil {
			return err
		}
		r, err := store.Reader()
		if err != nil {
			return err
		}
		want := data.SumOf(t.Set, 0, t.Set.Len())
		t.start()
		for _, way := range []struct {
			name    string
			reverse bool
		}{{"forward", false}, {"reverse", true}} {
			rate, err := scanRate(r, way.reverse, t.Params.duration()/2, want)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			t.measure(way.name, rate, "M keys/s")
		}
		t.stop()
		return r.Close()
	})
}

func scanRate(r engine.Reader, reverse bool, atLeast time.Duration, want data.Sum) (float64, error) {
	var best float64
	for began := time.Now(); best == 0 || time.Since(began) < atLeast; {
		var sum data.Sum
		if err := r.Begin(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := r.Scan(nil, 0, reverse, &sum); err != nil {
			return 0, err
		}
		took := time.Since(start)
		if err := r.End(); err != nil {
			return 0, err
		}
		if sum != want {
			return 0, fmt.Errorf(WrongAnswers+": a full scan saw %+v, not %+v", sum, want)
		}
		best = max(best, float64(sum.Count)/took.Seconds()/1e6)
	}
	return best, nil
}

// countRange times Count over half of the keys and At of random positions. Engines without such calls visit the
// keys, as their users do.
func countRange(t *Trial) error {
	if t.Engine.Program != nil {
		return engine.NA("the program has no such operation")
	}
	return t.with(func(store engine.Store) error {
		if err := settle(store); err != nil {
			return err
		}
		r, err := store.Reader()
		if err != nil {
			return err
		}
		c := rangeCounter{reader: r, set: t.Set}
		if c.direct, _ = r.(engine.Counter); c.direct == nil {
			t.note("counts by visiting the keys")
		}
		if err := c.prepare(); err != nil {
			return err
		}
		t.start()
		if err := t.timeCalls("count", c.count); err != nil {
			return err
		}
		if err := t.timeCalls("at", c.at); err != nil {
			return err
		}
		t.stop()
		return r.Close()
	})
}

// timeCalls calls f for half of the workload's time, three times at least, and reports the time per call.
func (t *Trial) timeCalls(name string, f func(n int) error) error {
	began, n := time.Now(), 0
	for n < 3 || time.Since(began) < t.Params.duration()/2 {
		if err := f(n); err != nil {
			return err
		}
		n++
	}
	t.measure(name, float64(time.Since(began))/float64(n), "ns")
	return nil
}

// rangeCounter counts between the quartiles of the keys and selects keys by position.
type rangeCounter struct {
	reader engine.Reader
	direct engine.Counter
	set    data.Set
	bounds [2][]byte
	marks  [][]byte // keys at known positions
}

// marksWanted is how many positions are selected.
const marksWanted = 16

// prepare finds the bounds and the keys that At must return by visiting the whole store.
func (c *rangeCounter) prepare() error {
	n := c.set.Len()
	if err := c.reader.Begin(); err != nil {
		return err
	}
	i := 0
	err := c.reader.Visit(nil, func(key, _ []byte) bool {
		switch i {
		case n / 4:
			c.bounds[0] = append([]byte(nil), key...)
		case n/4 + n/2:
			c.bounds[1] = append([]byte(nil), key...)
		}
		if len(c.marks) < marksWanted && i == len(c.marks)*n/marksWanted {
			c.marks = append(c.marks, append([]byte(nil), key...))
		}
		i++
		return true
	})
	if err != nil {
		return err
	}
	if i != n {
		return fmt.Errorf(WrongAnswers+": a full scan saw %d records, not %d", i, n)
	}
	return c.reader.End()
}

func (c *rangeCounter) count(int) error {
	if err := c.reader.Begin(); err != nil {
		return err
	}
	n, err := c.countNow()
	if err != nil {
		return err
	}
	if n != uint64(c.set.Len()/2) {
		return fmt.Errorf(WrongAnswers+": counted %d keys, not %d", n, c.set.Len()/2)
	}
	return c.reader.End()
}

func (c *rangeCounter) countNow() (n uint64, err error) {
	if c.direct != nil {
		return c.direct.Count(c.bounds[0], c.bounds[1])
	}
	err = c.reader.Visit(c.bounds[0], func(key, _ []byte) bool {
		if string(key) >= string(c.bounds[1]) {
			return false
		}
		n++
		return true
	})
	return n, err
}

func (c *rangeCounter) at(call int) error {
	if err := c.reader.Begin(); err != nil {
		return err
	}
	mark := (call*7 + 5) % len(c.marks)
	key, err := c.atNow(uint64(mark * c.set.Len() / marksWanted))
	if err != nil {
		return err
	}
	if string(key) != string(c.marks[mark]) {
		return fmt.Errorf(WrongAnswers+": At returned %x, not %x", key, c.marks[mark])
	}
	return c.reader.End()
}

func (c *rangeCounter) atNow(i uint64) (found []byte, err error) {
	if c.direct != nil {
		return c.direct.At(i)
	}
	err = c.reader.Visit(nil, func(key, _ []byte) bool {
		if i == 0 {
			found = append(found, key...)
			return false
		}
		i--
		return true
	})
	return found, err
}

// runProgram lets a program read the store and takes over its figures.
func (t *Trial) runProgram() error {
	synthetic, ok := t.Set.(*data.Synthetic)
	if !ok {
		return engine.NA("the program reads synthetic records only")
	}
	p := t.Params
	spec := engine.ProgramSpec{
		Dir: t.Dir, Goroutines: p.Goroutines, Records: p.Records, KeySize: p.KeySize, ValueSize: p.ValueSize,
		KeySeed: synthetic.Seed(), ValueSeed: synthetic.ValueSeed(), Sorted: p.Data == "sorted",
		PerTx: p.PerTx, Limit: p.Limit, Seconds: p.Seconds, WarmSeconds: p.Warm, Seed: t.workerSeed(0),
	}
	w, err := Find(t.Workload)
	if err != nil {
		return err
	}
	spec.Work = w.ID
	t.start()
	output, err := t.Engine.Program(spec)
	if err != nil {
		return err
	}
	t.stop()
	if err := json.Unmarshal(output, &t.Result.Measures); err != nil {
		return fmt.Errorf("the program printed %q: %w", output, err)
	}
	return nil
}
