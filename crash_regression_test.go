package alder

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// crashRegressions are cases that once failed, shrunk. Calls and their numbers change with the engine, so every crash
// point of each is explored with many outcomes.
var crashRegressions = []struct {
	name   string
	script string
	fault  *crashFault
	calls  int // the fault is tried at so many calls, the first is that of fault; 0: 1
	config crashConfig
	only   simOp // crash points to explore; simAny: all
}{
	// A meta whose checksum covered eight sectors was torn in one of them by a power cut; the next meta, written
	// into the same slot, had the same bytes there and was itself cut to just that sector: the first one was
	// complete now, the newest, and pointed to pages that had been overwritten since. A meta lies in one sector.
	{name: "a torn meta completed by its successor", only: simWriteDurable, script: `
		tx
			bucket - a
			put a k1 900 1
		tx
			put a k1 900 2
		tx
			put a k1 900 3`},

	// A store whose creation was interrupted was recognised only if no sector of it was torn or stale.
	{name: "creation interrupted", only: simAny},

	// The marker of a store in creation was written again at the second try, and could be torn.
	{name: "creation interrupted twice", only: simGrow},

	// The first write of the marker failed and left it in the page cache only; it was believed at the second try.
	{name: "marker only in the page cache", only: simAny,
		fault: &crashFault{op: simWriteDurable, call: 0, fault: simFault{err: syscall.EIO, kind: simFailFlush}}},

	// DeleteRange of nothing gave an inline bucket a page of its own and forgot it: no crash is needed.
	{name: "a page lost in an empty range", only: simSync, script: `
		tx
			bucket - a
		tx
			delrange a k1 k2
		reopen`},

	// The newest meta is in slot 1 after an orderly close, and the older one tells of a longer file.
	{name: "cut after an orderly close", only: simAny, script: `
		tx
			bucket - a
			put a big 60000 1
		tx
			del a big
		reopen
		tx
			put a k1 10 1
		reopen`},

	// The laboratory was wrong: in a lazy store readers see a full transaction when it has joined a group, and go on seeing it when the
	// store fails after that. The books had that of the first that failed, and not of those in the group behind.
	{name: "behind a failed flight", only: simWriteDurable, config: crashConfig{lazy: true}, calls: 8, script: `
		tx
			bucket - a
		sync
		flight
			put a k1 10 1
		full
			put a k2 10 1
		reader`,
		fault: &crashFault{op: simWriteDurable, fault: simFault{err: syscall.EIO, kind: simFailFlush}}},

	// The laboratory hung: a transaction that waited for an append let the commit that was stopped in its own go on, which left the next append to
	// it; and then it waited for the checkpoint that was stopped, which waited for just that append.
	{name: "the one who is to append waits for a checkpoint", only: simWriteDurable, calls: 1, script: `
		tx
			bucket - a
		flight
			put a k1 10 1
		lazy
			put a k2 10 1
		checkpoint
		full
			put a k3 10 1`},
}

// Ensures that what was found once is not found again.
func TestCrash_Regressions(t *testing.T) {
	for _, r := range crashRegressions {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			l := alderLab()
			l.sample = func(_ *rand.Rand, _ *crashEpisode, c simCall) int {
				switch {
				case r.only != simAny && r.only != c.op:
					return 0
				case r.calls > 0: // what counts is the first run
					return 3
				case raceDetector():
					return 10
				}
				return 80
			}
			for seed := range uint64(4) { // of the choices that a fault leaves open
				for call := range max(1, r.calls) {
					k := &crashCase{seed: seed, config: r.config, script: parseScript(r.script)}
					if k.config.pageSize == 0 {
						k.config.pageSize = 4096
					}
					if r.fault != nil {
						f := *r.fault
						f.call += call
						f.fault.seed = seed
						k.fault = &f
					}
					if v := l.run(k); v != nil {
						t.Fatalf("seed %d, fault %v, point %d, outcome %d: %v", seed, k.fault, v.point, v.outcome, v)
					}
				}
				if testing.Short() || r.fault == nil {
					break
				}
			}
			t.Logf("%d images", l.images.Load())
		})
	}
}

// Ensures that a case makes the same calls again: when it is replayed, which explores nothing but one image, and when everything takes
// longer. A transaction that joins a group looked whether the file is still there only if a millisecond had passed since the last
// look, and that is a call: so the numbers of those behind it, and what a fault met, hung on how long the images before had taken.
func TestCrash_Repeatable(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			k := crashCaseOf(5000 + seed)
			first := traceCase(t, k, nil, 0)
			slow := traceCase(t, k, &crashReplay{point: -1}, 1100*time.Microsecond)
			if slow.run != first.run {
				t.Fatalf("without images and slowly the first run is another one: %d calls instead of %d", slow.calls, first.calls)
			}
			for i := 0; i < len(first.images); i += 1 + len(first.images)/8 {
				was := first.images[i]
				again := traceCase(t, k, &crashReplay{point: was.point, outcome: was.outcome}, 50*time.Microsecond)
				if len(again.images) != 1 || again.images[0] != was || again.run != first.run {
					t.Fatalf("replay of %+v: %+v", was, again.images)
				}
			}
		})
	}
}

// crashTrace is what one run of a case did.
type crashTrace struct {
	run    uint64 // hash of the calls of the first run
	calls  int
	images []crashImageTrace
}

// crashImageTrace is the life of an image.
type crashImageTrace struct {
	point   int
	outcome uint64
	calls   uint64 // hash of them, those after more crashes included
}

// traceCase runs k, as a replay of r if that is not nil, and pauses at each of its calls.
func traceCase(t *testing.T, k *crashCase, r *crashReplay, pause time.Duration) *crashTrace {
	l := alderLab()
	l.replay = r
	var tr crashTrace
	var image string
	var first, life = xxhash.New(), xxhash.New()
	end := func() {
		if n := len(tr.images); n > 0 {
			tr.images[n-1].calls = life.Sum64()
		}
	}
	l.trace = func(e *crashEpisode, c simCall) {
		call := fmt.Sprintln(e.depth, c.n, c.op, c.off, c.len)
		if e.depth == l.depth {
			time.Sleep(pause)
			tr.calls++
			first.WriteString(call)
			return
		}
		// The same outcome may be explored twice, one after the other: an image begins with the first call of its disk.
		if e.story[0] != image || e.depth == l.depth-1 && c.n == 0 {
			end()
			var i crashImageTrace
			image = e.story[0]
			if _, err := fmt.Sscanf(image, "crash at call %d", &i.point); err != nil {
				t.Errorf("%s: %v", image, err)
			}
			if _, after, ok := strings.Cut(image, ", outcome "); !ok {
				t.Errorf("%s: no outcome", image)
			} else if _, err := fmt.Sscan(after, &i.outcome); err != nil {
				t.Errorf("%s: %v", image, err)
			}
			tr.images = append(tr.images, i)
			life.Reset()
		}
		life.WriteString(call)
	}
	if v := l.run(k); v != nil {
		t.Fatal(v)
	}
	end()
	tr.run = first.Sum64()
	return &tr
}
