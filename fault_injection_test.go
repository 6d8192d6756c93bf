package alder

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Faults: each storage call of some scripts fails once, in every way that its kind of call can fail. Whatever
// happens, nothing acknowledged is lost, no answer is wrong, the error says what failed and why, the store goes on
// or is in the failed state as documented, and the next open finds an allowed state, also after a crash.

var allFaults = flag.Bool("alder.faults", false, "TestFaults tries each failure of each call, instead of a third of them")

// faultScripts do what a store does: they are small, so that every call can fail in every way.
var faultScripts = []struct {
	name   string
	config crashConfig
	script string
}{
	{"create", crashConfig{}, `
		tx
			bucket - a`},
	{"small", crashConfig{}, `
		tx
			bucket - a
			put a k1 20 1
		tx
			put a k2 20 1
		reader
		tx
			put a k1 30 2
			del a k2
		reopen
		tx
			put a k3 10 1
		rollback
			put a k4 10 1
		endreader
		tx`},
	{"growth", crashConfig{disk: simConfig{mapStep: 65536}}, `
		tx
			bucket - a
			put a big 70000 1
		reader
		tx
			put a big 90000 2
			put a k2*2000 6000 1
		tx
			put a big2 150000 3
			del a k2*2000
		endreader
		reopen
		tx
			del a big
			del a big2
		reopen
		tx
			put a k3 10 1`},
	{"tree", crashConfig{}, `
		tx
			bucket - a
			bucket a s
			put a k01 900 1
			put a k02 900 1
			put a k03 900 1
			put a k04 900 1
			put a k05 900 1
			put a k06 900 1
			put a/s n1 900 1
			put a/s n2 900 1
		tx
			put a k011 900 1
			put a k012 900 1
			put a k013 900 1
			put a k014 900 1
			next a
		tx
			del a k01
			del a k011
			del a k012
			del a k013
			del a k014
			move a s -
		tx
			delrange s n1 n3
			setseq s 9
		reopen
		tx
			delbucket - a`},
	{"punch", crashConfig{longValue: 20000}, `
		tx
			bucket - a
			put a k01 900 1
			put a k02 30000 1
			put a k03 900 1
			put a k04 30000 1
			put a k05 900 1
		tx
			del a k02
			put a k01 900 2
		checkpoint
		endcheckpoint
		tx
			put a k03 900 2
		punch
		tx
			put a k06 20000 1
			put a k07 900 1
		lazy
			put a k08 30000 1
		punch
		checkpoint
		endcheckpoint
		reopen
		tx
			put a k09 25000 1
			del a k04
		tx
			put a k10 900 1`},
	{"shrink", crashConfig{longValue: 20000}, `
		tx
			bucket - a
			bucket a s
			put a k01 900 1
			put a k02 900 1
			put a k03 40000 1
			put a k04 900 1
			put a k05*900 900 1
			put a k06 6000 1
			put a/s n1 30000 1
			put a/s n2 900 1
			put a/s n3 900 1
			put a/s n4 900 1
			put a/s n5 900 1
		tx
			put a k03 50000 2
			put a k06 7000 2
		reader
		tx
			put a/s n1 100 2
			put a k02 900 2
			del a k01
			del a/s n2
			del a/s n3
		shrink
		tx
			put a k07 900 1
		endreader
		shrink
		tx
			put a k08 30000 1
			del a k03
		lazy
			put a k09 900 1
		shrink
		reopen
		tx
			put a k10 10 1`},
	{"spill", crashConfig{dirtyLimit: 8192}, `
		tx
			bucket - a
			put a k01 1900 1
			put a k02 1900 1
			put a k03 1900 1
			put a k04 1900 1
			put a k05 1900 1
			put a k06 1900 1
			put a k07 1900 1
			put a k08 1900 1
		tx
			put a k01 1000 2
			put a k08 1000 2
			put a k04 1000 2
			put a k05 1000 2
		rollback
			put a k01 1000 3
			put a k03 1000 3
			put a k05 1000 3
			put a k07 1000 3
			put a k08 1000 3`},
	{"lazy", crashConfig{lazy: true}, `
		tx
			bucket - a
			put a k1 20 1
		tx
			put a k2 2000 1
		sync
		tx
			put a k1 30 2
			del a k2
		tx
			put a k3 30 2
		reopen
		tx
			put a k4 10 1
		sync`},
	{"runs of the log", crashConfig{longValue: 4096}, `
		tx
			bucket - a
		tx
			put a k1 20 1
		tx
			put a k2 6000 1
		lazy
			put a k3 20 1
		lazy
			put a k2 30 1
		full
			put a k1 9000 2
		rollback
			put a k1 9000 2
		tx
			put a k3 3000 2
		tx
			put a k4 20 1
		reopen
		tx
			del a k1`},
	{"checkpoints", crashConfig{logSize: 4096}, `
		tx
			bucket - a
		tx
			put a k1 20 1
		tx
			put a k1 20 2
		checkpoint-sync
		tx
			put a k2 3000 1
		lazy
			put a k1 20 3
		endcheckpoint
		tx
			put a k3 20 1
		checkpoint-meta
		tx
			put a k4 20 1
		endcheckpoint
		checkpoint
		tx
			put a k4 20 2
		reopen
		tx
			del a k1`},
	{"large pages", crashConfig{pageSize: 16384}, `
		tx
			bucket - a
			put a k1 20000 1
		tx
			put a k2 200 1
		reopen
		tx
			del a k1`},
}

// faultWays lists the ways in which a call can fail.
func faultWays(op simOp) []simFault {
	ways := func(kinds []simFaultKind, errs ...error) (list []simFault) {
		for _, k := range kinds {
			for i, err := range errs {
				list = append(list, simFault{err: err, kind: k, seed: uint64(i)})
			}
		}
		return list
	}
	switch op {
	case simWriteAt:
		return append(ways([]simFaultKind{simFailBefore, simFailShort}, syscall.EIO, syscall.ENOSPC, io.ErrShortWrite),
			ways([]simFaultKind{simWriteBack}, syscall.EIO, syscall.EIO)...)
	case simWriteDurable:
		return append(ways([]simFaultKind{simFailBefore, simFailShort, simFailWritten}, syscall.EIO, syscall.ENOSPC),
			ways([]simFaultKind{simFailFlush}, syscall.EIO, syscall.EIO, syscall.EIO, syscall.EIO, syscall.EIO, syscall.EIO)...)
	case simSync:
		return append(ways([]simFaultKind{simFailBefore, simFailWritten, simWriteBack}, syscall.EIO),
			ways([]simFaultKind{simFailFlush}, syscall.EIO, syscall.EIO, syscall.EIO, syscall.EIO, syscall.EIO, syscall.EIO)...)
	case simGrow:
		return ways([]simFaultKind{simFailBefore}, syscall.ENOSPC, syscall.EIO)
	}
	return ways([]simFaultKind{simFailBefore}, syscall.EIO)
}

// faultWords are what the error of a failed call must name: one of them.
var faultWords = map[simOp][]string{
	simReadAt:       {"reading", "creating"},
	simReadMedium:   {"reading", "creating"},
	simWriteAt:      {"writing", "creating"},
	simWriteDurable: {"writing meta", "confirming meta", "creating", "append to the redo log", "run of the redo log", "writing a value"},
	simSync:         {"sync", "creating"},
	simGrow:         {"growing", "creating"},
	simTruncate:     {"truncat", "cutting", "shorten"},
	simRemoved:      {"looking at the file"},
	simClose:        {"close", "closing"},
}

// faultRun is one run of a script with one fault.
type faultRun struct {
	t     *testing.T
	e     *crashEpisode
	at    int
	fault simFault

	calls   []simCall // that could fail
	fired   bool
	met     simCall // that returned its error: another one after a failed write-back
	changes int     // calls so far that write
	failed  bool    // the store is in the failed state
	checked bool    // an error has been seen
}

// Ensures that every call may fail.
func TestFaults(t *testing.T) {
	t.Parallel()
	few := !*allFaults
	for i, s := range faultScripts {
		if testing.Short() && i > 1 {
			break
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			runs := 0
			k := &crashCase{seed: 1, config: s.config, script: parseScript(s.script)}
			l := alderLab()
			probe := newFaultRun(t, l, k, -1, simFault{})
			probe.run()
			for _, c := range probe.calls {
				for i, way := range faultWays(c.op) {
					if few && (i+c.n)%3 > 0 {
						continue
					}
					r := newFaultRun(t, l, k, c.n, way)
					r.run()
					runs++
					if t.Failed() {
						t.Fatalf("call %s failed with %q (%v)", c, way.kind, way.err)
					}
				}
			}
			t.Logf("%d calls failed in %d ways, %d crash images afterwards", len(probe.calls), runs, l.images.Load())
			counted(t, "C3", "calls to the storage failed", int64(runs))
			counted(t, "C1", "crash images checked", l.images.Load())
		})
	}
}

func newFaultRun(t *testing.T, l *crashLab, k *crashCase, at int, fault simFault) *faultRun {
	empty := newCrashState(newCrashBucket(), 0)
	r := &faultRun{t: t, at: at, fault: fault}
	r.e = &crashEpisode{lab: l, kase: k, disk: newSimDisk(k.config.disk), depth: 2, tip: empty, current: empty, acked: empty,
		rng: rand.New(rand.NewPCG(uint64(at), fault.seed))}
	r.e.disk.setGentle(true)
	r.e.disk.fault = r.decide
	r.e.disk.onCall = func(c simCall) {
		r.e.note(c)
		if c.mutates() {
			r.changes++
		}
	}
	return r
}

func (r *faultRun) decide(c simCall) simFault {
	r.calls = append(r.calls, c)
	if c.n == r.at {
		r.fired, r.met = true, c
		r.e.faulted, r.e.faultKind = true, r.fault.kind
		return r.fault
	}
	if r.fired && r.fault.kind == simWriteBack && r.met.op != simSync && r.met.op != simWriteDurable && (c.op == simSync || c.op == simWriteDurable) {
		r.met = c
	}
	return simFault{}
}

// run executes the script, and then looks at what is left from all sides.
func (r *faultRun) run() {
	e := r.e
	defer e.disk.release()
	watch := time.AfterFunc(time.Minute, func() { panic(fmt.Sprintf("fault at %d: the store hangs", r.at)) })
	defer watch.Stop()
	e.guard(func() {
		r.open()
		for _, step := range e.kase.script {
			if e.broken() || e.store == nil {
				break
			}
			r.step(step)
		}
		r.end()
	})
	if m := e.disk.misuse(); m != "" {
		e.fail("the storage was used against its contract: %s", m)
	}
	if e.violation != nil {
		r.t.Errorf("%v", e.violation)
	}
}

// open opens the store; a failed open must say why, leave nothing behind, and be repeatable.
func (r *faultRun) open() {
	e := r.e
	for range 3 {
		store, err := openAlder(e.disk, e.kase.config)
		if err == nil {
			e.store = store
			e.disk.setGentle(false)
			e.look("after open", true, true)
			return
		}
		r.check("open", err)
		if !e.disk.closed {
			e.fail("a failed open left the storage open")
		}
		e.reopenDisk()
	}
	e.fail("the store cannot be opened after a fault that is gone")
}

// check holds an error against the fault that must have caused it.
func (r *faultRun) check(what string, err error) {
	switch {
	case !r.fired:
		r.e.fail("%s: error without a fault: %v", what, err)
		return
	case r.failed || r.checked && errors.Is(err, ErrFailed):
		if !errors.Is(err, ErrFailed) {
			r.e.fail("%s in a failed store: %v", what, err)
		}
		return
	}
	r.checked = true
	want := r.fault.err
	if r.fault.kind == simWriteBack {
		want = syscall.EIO
	}
	if r.e.mayLoseReads(err) {
		return // the writer has met a page of its own that the kernel dropped
	}
	if !errors.Is(err, want) {
		r.e.fail("%s: the error does not match its cause %v: %v", what, want, err)
	}
	words := faultWords[r.met.op]
	if r.fault.kind == simWriteBack {
		words = slices.Concat(words, faultWords[simSync]) // where it is reported, in the end
	}
	for _, word := range words {
		if strings.Contains(err.Error(), word) {
			return
		}
	}
	r.e.fail("%s: the error does not name the operation %s: %v", what, r.met.op, err)
}

func (r *faultRun) step(step scriptStep) {
	e := r.e
	switch step.kind {
	case "tx", "lazy", "full", "rollback":
		if err := e.transact(step); err != nil {
			r.check(step.kind, err)
			r.afterFailure(err)
			if !r.failed && !e.broken() { // the store goes on, and the same transaction works now
				if err := e.transact(step); err != nil {
					e.fail("a transaction repeated after a fault: %v", err)
				}
			}
		}
	case "sync":
		if err := e.store.sync(); err != nil {
			r.check("sync", err)
			r.afterFailure(err)
		} else {
			e.allDurable()
		}
	case "shrink":
		if err := e.shrinkStore(); err != nil {
			r.check("shrink", err)
			r.afterFailure(err)
		}
	case "punch":
		if err := e.punchStore(); err != nil {
			r.check("punch", err)
			r.afterFailure(err)
		}
	case "reopen":
		r.close()
		if !e.broken() {
			e.reopenDisk()
			r.open()
		}
	default:
		e.step(step)
	}
}

// afterFailure says what must hold after a failed commit or sync: the failed state exactly if a sync or a durable
// write failed, and reads of what was there before.
func (r *faultRun) afterFailure(err error) {
	e := r.e
	r.failed = errors.Is(err, ErrFailed)
	if e.mayLoseReads(err) {
		return
	}
	if must := r.met.op == simSync || r.met.op == simWriteDurable; must != r.failed {
		e.fail("after a failure of %s: failed state is %v: %v", r.met.op, r.failed, err)
	}
	e.look("after a failure", false, false)
	if !r.failed {
		return
	}
	before := r.changes
	if err := e.store.commit(nil, DurabilityDefault); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) && !errors.Is(err, r.fault.err) {
		e.fail("a transaction in a failed store: %v", err)
	}
	if err := e.store.sync(); !errors.Is(err, ErrFailed) {
		e.fail("a sync in a failed store: %v", err)
	}
	if r.changes != before {
		e.fail("a failed store writes")
	}
}

// close closes the store. A failed one must write nothing; what another does not report as failed is durable.
func (r *faultRun) close() {
	e := r.e
	before := r.changes
	err := e.closeStore()
	switch {
	case r.failed && r.changes != before:
		e.fail("Close of a failed store writes")
	case err != nil:
		r.check("close", err)
	case !r.failed:
		e.allDurable()
	}
	r.failed = false
}

// end closes the store, lets it be opened again after several kinds of crashes, and opens it itself.
func (r *faultRun) end() {
	e := r.e
	if e.store != nil && !e.broken() {
		r.crashes()
		r.close()
	}
	if e.broken() {
		return
	}
	r.crashes()
	e.disk.fault = nil
	e.reopenDisk()
	r.open()
	if e.broken() {
		return
	}
	if err := e.transact(scriptStep{kind: "tx", ops: []scriptOp{{kind: "bucket", key: "last"}}}); err != nil {
		e.fail("a transaction after the last open: %v", err)
	}
	e.look("at the end", false, true)
	r.close()
}

func (r *faultRun) crashes() {
	e := r.e
	c := simCall{n: e.disk.calls, op: simSync}
	for _, outcome := range []uint64{crashKill, crashRandomKill + 2, crashFirstPower, crashFirstPower + 1, crashRandomPower + uint64(r.at)} {
		if v := e.survive(c, outcome, e.disk.crash(c, outcome), rand.New(rand.NewPCG(uint64(r.at), outcome)), false); v != nil {
			e.mu.Lock()
			e.violation = v
			e.mu.Unlock()
			return
		}
	}
}
