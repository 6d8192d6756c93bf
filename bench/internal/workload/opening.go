package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
)

func init() {
	register(
		&Workload{ID: "S5", Title: "open a clean store of ten times the keys, loaded in order", Store: Shared, Scale: 10,
			// In order, since a load in random order leaves free pages, which S5-free is about.
			Params: Params{Data: "sorted"}, Main: "open", Run: openClean},
		&Workload{ID: "S5-free", Title: "open with 500,000 free pages", Store: Worn,
			Params: Params{Records: 500_000, ValueSize: 3000}, Shrinks: true, Main: "open", Without: withoutPages,
			Prepared: freePages, With: []string{"bbolt-hashmap"}, Run: openWithFreePages},
		&Workload{ID: "S5-kill", Title: "open after kill -9 in a burst of durable writes", Store: Worn,
			Main: "open", Run: openAfterKill},
	)
	helpers["burst"] = burst
}

// openings is how often a clean store is opened; the median counts.
const openings = 9

func openClean(t *Trial) error {
	if t.Engine.Program != nil {
		return engine.NA("the program only reads")
	}
	return t.timeOpen(t.Dir, openings)
}

func openWithFreePages(t *Trial) error {
	if err := t.hasFreePages(); err != nil {
		return err
	}
	return t.timeOpen(t.Dir, openings)
}

// timeOpen opens and closes the store and reports how long opening took.
func (t *Trial) timeOpen(dir string, times int) error {
	var took []time.Duration
	for range times {
		start := time.Now()
		store, err := t.openAt(dir, engine.Full, false)
		if err != nil {
			return err
		}
		took = append(took, time.Since(start))
		if err := store.Close(); err != nil {
			return err
		}
	}
	slices.Sort(took)
	t.measure("open", float64(took[len(took)/2])/1e6, "ms")
	t.measure("open max", float64(took[len(took)-1])/1e6, "ms")
	return nil
}

// kills is how many bursts are killed; each is followed by one opening.
const kills = 3

// openAfterKill lets a process of its own write as fast as it can, kills it, and times the opening that recovers.
// The page cache survives a kill, so this is the time of recovery and not a test of durability.
func openAfterKill(t *Trial) error {
	if t.Engine.Program != nil {
		return engine.NA("the program only reads")
	}
	var took []time.Duration
	for n := range kills {
		if err := t.killBurst(n); err != nil {
			return err
		}
		if err := measure.Warm(t.Dir, measure.AsIs); err != nil {
			return err
		}
		start := time.Now()
		store, err := t.open()
		if err != nil {
			return fmt.Errorf("after a kill: %w", err)
		}
		took = append(took, time.Since(start))
		if err := errors.Join(t.verifyWorn(store), store.Close()); err != nil {
			return fmt.Errorf("after a kill: %w", err)
		}
	}
	slices.Sort(took)
	t.measure("open", float64(took[len(took)/2])/1e6, "ms")
	t.measure("open max", float64(took[len(took)-1])/1e6, "ms")
	return nil
}

// killBurst runs the helper "burst" for a second and kills it.
func (t *Trial) killBurst(n int) error {
	spec := t.Spec
	spec.Helper, spec.Rep = "burst", n
	input, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	command := exec.CommandContext(ctx, program, "trial")
	ready, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	stdin, err := command.StdinPipe()
	if err != nil {
		return err
	}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		return err
	}
	if _, err := stdin.Write(input); err != nil {
		return err
	}
	var word [1]byte
	if _, err := ready.Read(word[:]); err != nil {
		return errors.Join(fmt.Errorf("the burst did not begin: %w", err), command.Wait())
	}
	time.Sleep(time.Second + time.Duration(n)*37*time.Millisecond)
	cancel()
	_ = command.Wait() // it was killed: its error is the aim
	return nil
}

// burst overwrites records durably from eight goroutines until it is killed.
func burst(t *Trial) error {
	store, err := t.openAt(t.Dir, engine.Full, false)
	if err != nil {
		return err
	}
	workers, err := t.writers(store, 8)
	if err != nil {
		return err
	}
	p := plan{duration: time.Hour, sampleEvery: 1}
	for _, w := range workers {
		p.steps = append(p.steps, w.once)
	}
	if err := workers[0].once(); err != nil {
		return err
	}
	if _, err := t.ready.Write([]byte("!")); err != nil {
		return err
	}
	_, err = p.run()
	return err
}
