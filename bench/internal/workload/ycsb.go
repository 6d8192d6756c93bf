package workload

import (
	"errors"
	"fmt"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
)

// mix is what share of the operations are of each kind.
type mix struct {
	read, update, insert, scan, modify float64
}

func init() {
	for _, m := range []struct {
		id, title, dist string
		mix             mix
		store           StoreKind
	}{
		{"A", "50 % read, 50 % update", "zipfian", mix{read: .5, update: .5}, Worn},
		{"B", "95 % read, 5 % update", "zipfian", mix{read: .95, update: .05}, Worn},
		{"C", "read only", "zipfian", mix{read: 1}, Shared},
		{"D", "95 % read of the latest, 5 % insert", "latest", mix{read: .95, insert: .05}, Own},
		{"E", "95 % scan of up to 100, 5 % insert", "zipfian", mix{scan: .95, insert: .05}, Own},
		{"F", "50 % read, 50 % read-modify-write", "zipfian", mix{read: .5, modify: .5}, Worn},
	} {
		register(&Workload{
			ID: "YCSB-" + m.id, Title: m.title + ", 8 goroutines, durable", Store: m.store,
			Params: Params{Goroutines: 8, Distribution: m.dist, Limit: 100},
			Main:   "ops/s", More: true, Run: runYCSB(m.mix),
		})
	}
}

// ycsbWorker is one client. It inserts records of its own beyond those loaded, and knows which of them are
// acknowledged, so that every read can be checked.
type ycsbWorker struct {
	*readWorker
	put      *putWorker
	mix      mix
	rng      *data.Rand
	latest   bool
	stride   int // clients
	client   int
	inserted int
	base     int
}

// number chooses a record: the distribution's, and for "latest" the client's own newest first.
func (w *ycsbWorker) number() int {
	i := w.pick.Next()
	if !w.latest {
		return i
	}
	age := w.base - 1 - i
	if age < w.inserted {
		return w.fresh(w.inserted - 1 - age)
	}
	return w.base - 1 - (age - w.inserted)
}

// fresh is the number of the client's n-th own record.
func (w *ycsbWorker) fresh(n int) int { return w.base + n*w.stride + w.client }

func (w *ycsbWorker) expect(i int) []byte {
	w.set.Expect(i, w.check)
	w.key = w.set.Key(i, w.key)
	return w.key
}

func (w *ycsbWorker) step() error {
	u := w.rng.Float()
	switch m := w.mix; {
	case u < m.read:
		return w.reader.Once(w.expect(w.number()), w.check)
	case u < m.read+m.update:
		return w.write(w.number())
	case u < m.read+m.update+m.modify:
		i := w.number()
		if err := w.reader.Once(w.expect(i), w.check); err != nil {
			return err
		}
		return w.write(i)
	case u < m.read+m.update+m.modify+m.scan:
		return w.scan()
	}
	if err := w.write(w.fresh(w.inserted)); err != nil {
		return err
	}
	w.inserted++
	return nil
}

func (w *ycsbWorker) write(i int) error {
	p := w.put
	p.version++
	p.key = w.set.Key(i, p.key)
	p.value = w.set.Value(i, p.version, p.value)
	if err := p.writer.Once(p.key, p.value); err != nil {
		return err
	}
	p.bytes.Add(int64(len(p.key) + len(p.value)))
	return nil
}

func (w *ycsbWorker) scan() error {
	limit := 1 + int(w.rng.Below(uint64(w.params.Limit)))
	w.sum = data.Sum{}
	if err := w.reader.Begin(); err != nil {
		return err
	}
	if err := w.reader.Scan(w.expect(w.number()), limit, false, &w.sum); err != nil {
		return err
	}
	if w.sum.Count == 0 || w.sum.Count > uint64(limit) {
		return fmt.Errorf(WrongAnswers+": a scan of %d records from one that exists saw %d", limit, w.sum.Count)
	}
	return w.reader.End()
}

func runYCSB(m mix) func(*Trial) error {
	return func(t *Trial) error {
		if m.insert > 0 && !t.Set.Extensible() {
			return engine.NA("real data has no further records")
		}
		return t.with(func(store engine.Store) error {
			if err := errors.Join(settle(store), t.verifyAll(store)); err != nil {
				return err
			}
			readers, err := t.readers(store, t.Params.Goroutines)
			if err != nil {
				return err
			}
			writers, err := t.writers(store, t.Params.Goroutines)
			if err != nil {
				return err
			}
			p := plan{duration: t.Params.duration(), sampleEvery: 1, opsPerStep: 1, rate: t.Params.Rate}
			if m.read == 1 {
				p.sampleEvery = sampleReads
			}
			var clients []*ycsbWorker
			for i := range readers {
				w := &ycsbWorker{
					readWorker: readers[i], put: writers[i], mix: m, rng: data.NewRand(t.workerSeed(i) + 77),
					latest: t.Params.Distribution == "latest", stride: len(readers), client: i, base: t.Set.Len(),
				}
				clients = append(clients, w)
				p.steps = append(p.steps, w.step)
			}
			return t.timeYCSB(store, clients, p)
		})
	}
}

func (t *Trial) timeYCSB(store engine.Store, clients []*ycsbWorker, p plan) error {
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
	var checks []*data.Check
	inserted := 0
	for _, w := range clients {
		checks = append(checks, w.check)
		inserted += w.inserted
		if err := errors.Join(w.reader.Close(), w.put.writer.Close()); err != nil {
			return err
		}
	}
	if err := errors.Join(wrong(checks), t.report("", out)); err != nil {
		return err
	}
	return t.verifyCount(store, t.Set.Len()+inserted)
}
