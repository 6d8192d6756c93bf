package alder

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	crashReplayFlag = flag.String("alder.crash", "", "replay one crash case, SEED:POINT:OUTCOME:DEPTH as a failing test prints it")
	crashImagesFlag = flag.Int64("alder.images", 0, "number of crash images to check; 0: 60,000 (2,000 with -short, less under -race)")
	crashSeedFlag   = flag.Uint64("alder.crashseed", 1, "first seed of the crash tests")
	crashBookFlag   = flag.String("alder.crashbook", "", "file that says what runs before have checked; TestCrash goes on behind them and adds what it has done")
	crashShrinkFlag = flag.Duration("alder.shrink", 30*time.Second, "time for making a failing script smaller; 0: it is not tried")
)

// crashImages is the number of images that the test run asks for.
func crashImages() int64 {
	switch {
	case *crashImagesFlag > 0:
		return *crashImagesFlag
	case testing.Short():
		return 2000
	case raceDetector():
		return 10000
	}
	return 60000
}

// raceDetector reports whether the test was built with -race.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

func alderLab() *crashLab {
	return &crashLab{open: openAlder, show: showAlder, sample: sampleSome, depth: 2, hang: time.Minute}
}

// Ensures that a store survives every crash that a disk of the assumed kind can produce: opened again it holds
// what was acknowledged, at most the transactions beyond that were under way, passes the check, goes on working,
// and survives the next crash.
func TestCrash(t *testing.T) {
	t.Parallel()
	if *crashReplayFlag != "" {
		l := alderLab()
		l.replay = parseReplay(t, *crashReplayFlag)
		l.depth = l.replay.depth
		k := crashCaseOf(l.replay.seed)
		t.Logf("replaying: %s\n%s", k, k.script)
		if v := l.run(k); v != nil {
			t.Fatal(v)
		}
		return
	}
	r := newCrashRun(t, crashImages())
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(r.work)
	}
	workers.Wait()
	r.end()
}

// counted tells how much of a kind was done, for scripts/laboratory.sh, which adds up.
func counted(t *testing.T, goal, what string, n int64) {
	t.Logf("laboratory|%s|%s|%d", goal, what, n)
}

func parseReplay(t *testing.T, s string) *crashReplay {
	var r crashReplay
	if _, err := fmt.Sscanf(s, "%d:%d:%d:%d", &r.seed, &r.point, &r.outcome, &r.depth); err != nil {
		t.Fatalf("-alder.crash=%s: want SEED:POINT:OUTCOME:DEPTH: %v", s, err)
	}
	return &r
}

// report fails the test with a case, the flag that replays it, and a small script that shows the same.
func (l *crashLab) report(t *testing.T, k *crashCase, v *crashViolation, images int64) {
	t.Errorf("after %d images: %v\n%s\nreplay: go test -run 'TestCrash$' -alder.crash=%d:%d:%d:%d .", images, v, k, k.seed, v.point, v.outcome, l.depth)
	if *crashShrinkFlag == 0 {
		return
	}
	small, sv := l.shrink(k, v, *crashShrinkFlag)
	t.Logf("shrunk to\n%s\n%s\npoint %d, outcome %d: %v", small, small.script, sv.point, sv.outcome, sv)
}

// crashCaseOf derives everything about a case from its seed.
func crashCaseOf(seed uint64) *crashCase {
	rng := rand.New(rand.NewPCG(seed, 21))
	k := &crashCase{seed: seed, config: crashConfig{pageSize: 4096}}
	if rng.IntN(8) == 0 {
		k.config.pageSize = []int{8192, 16384}[rng.IntN(2)]
	}
	if rng.IntN(6) == 0 {
		k.config.dirtyLimit = 8192 << rng.IntN(3)
	}
	if rng.IntN(2) == 0 {
		k.config.logSize = 4096 << rng.IntN(4) // a checkpoint every few transactions
	}
	if rng.IntN(2) == 0 {
		k.config.longValue = 4096
	}
	if rng.IntN(6) == 0 {
		k.config.maxRecord = 500 << rng.IntN(5) // longer ones commit by a checkpoint
	}
	if rng.IntN(8) == 0 {
		k.config.lazy = true
	}
	if rng.IntN(3) == 0 {
		k.config.disk.mapStep = 32768 << rng.IntN(4)
	}
	if rng.IntN(4) == 0 {
		// Without direct reads the meta is rewritten blindly at each open, so sectors must be atomic.
		k.config.disk.noDirect, k.config.disk.noTear = true, true
	}
	if rng.IntN(8) == 0 {
		k.config.disk.capacity = int64(k.config.pageSize) * (8 + rng.Int64N(30)) // a disk that is soon full
	}
	k.config.disk.attend = seed%3 == 1
	steps := 4 + rng.IntN(22)
	k.script = randomScript(rng, randomStyle(rng), steps)
	if rng.IntN(2) == 0 {
		k.fault = randomFault(rng, steps)
	}
	k.config.drops = rand.New(rand.NewPCG(seed, 22)).IntN(3) == 0
	return k
}

// randomFault draws a fault somewhere in a script of some steps; syncs and durable writes, after which a store
// must not go on, are preferred.
func randomFault(rng *rand.Rand, steps int) *crashFault {
	f := &crashFault{op: []simOp{simSync, simWriteDurable, simWriteDurable, simAny}[rng.IntN(4)], call: rng.IntN(steps)}
	f.fault = simFault{
		err:  []error{syscall.EIO, syscall.EIO, syscall.ENOSPC}[rng.IntN(3)],
		kind: simFailBefore + simFaultKind(rng.IntN(int(simFaultKindEnd-simFailBefore))),
		seed: rng.Uint64(),
	}
	if f.op == simAny {
		f.call *= 6
	} else if rng.IntN(2) == 0 {
		f.fault.kind = simFailFlush
	}
	return f
}

// sampleSome explores every crash point soon after a fault and some of the others, so that many different scripts
// share the time.
func sampleSome(rng *rand.Rand, e *crashEpisode, _ simCall) int {
	switch {
	case e.faulted && e.sinceFault < 12:
		return []int{3, 6, 12}[rng.IntN(3)]
	case e.kase.fault == nil && rng.IntN(5) == 0:
		return []int{4, 8, 16, 40}[rng.IntN(4)]
	case e.kase.fault != nil && rng.IntN(20) == 0:
		return 6
	}
	return 0
}

// sampleDurable explores durable writes only, where a torn sector counts.
func sampleDurable(_ *rand.Rand, _ *crashEpisode, c simCall) int {
	if c.op == simWriteDurable {
		return 40
	}
	return 0
}
