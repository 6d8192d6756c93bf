package alder

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The crash laboratory: runs a script on a store over a simulated disk, stops at every call of the storage
// interface, makes disks that a crash in that moment may leave, and lets a new store survive on each of them:
// open it, compare it with the allowed states, check it, go on working, crash again. It knows storage, scripts
// and the model; the store under test is behind crashStore, so that it can be proved on stores that are wrong
// on purpose.
//
// A case is a seed (which determines script, disk and fault), a point (the number of a storage call) and an
// outcome (see crash_image_test.go). What happens inside the survival of an image, a second and third crash
// included, follows from these three.

// crashStore is a store under test.
type crashStore interface {
	commit(ops []scriptOp, level Durability) error // in one transaction
	rollback(ops []scriptOp) error                 // in a transaction that is rolled back
	snapshot() (crashSnapshot, error)
	sync() error                              // makes lazy commits durable
	seal() (complete func() error, err error) // begins a checkpoint that goes on in complete, beside others; nil: there is none to be made
	background()                              // does what is to be done beside commits
	busy() (appending, writing bool, tip int) // whether somebody appends to the log, or has the writer lock; the last transaction
	close() error
}

// crashSnapshot is a read transaction.
type crashSnapshot interface {
	digest() (uint64, error)
	describe() string
	check() error // of the whole file
	end() error
}

type crashConfig struct {
	disk       simConfig
	pageSize   int
	dirtyLimit int  // bytes of dirty pages that a transaction keeps; 0: the default
	logSize    int  // bytes of log after which a checkpoint begins; 0: the default
	longValue  int  // length from which on the log only refers to values; 0: the default
	maxRecord  int  // length of the longest record of the log; 0: the default
	lazy       bool // commits are not durable until a sync
	drops      bool // the page cache can be dropped, which an open does after a failure

	waiting func(bool) // called by who waits for an append, true, or for a checkpoint that has begun, false
}

// crashFault is a fault injected at one call of the first run.
type crashFault struct {
	op    simOp // which calls are counted; simAny: all
	call  int   // the number of the call among those
	fault simFault
}

const simAny simOp = 255

// crashCase is one script with all its circumstances.
type crashCase struct {
	seed   uint64
	config crashConfig
	script script
	fault  *crashFault
}

func (k *crashCase) String() string {
	s := fmt.Sprintf("page size %d, dirty limit %d, log size %d, long value %d, longest record %d, lazy %v, map step %d, direct reads %v, torn sectors %v, dropped caches %v, appends attended %v", k.config.pageSize,
		k.config.dirtyLimit, k.config.logSize, k.config.longValue, k.config.maxRecord, k.config.lazy, k.config.disk.mapStep, !k.config.disk.noDirect, !k.config.disk.noTear, k.config.drops, k.config.disk.attend)
	if k.fault != nil {
		s += fmt.Sprintf(", fault %q at %s %d: %v", k.fault.fault.kind, k.fault.op, k.fault.call, k.fault.fault.err)
	}
	return s
}

// crashViolation is what the laboratory looks for.
type crashViolation struct {
	what    string
	story   []string // the crashes and opens that led to it
	point   int
	outcome uint64
}

func (v *crashViolation) Error() string {
	return v.what + "\n  " + strings.Join(v.story, "\n  ")
}

type crashLab struct {
	open   func(storage, crashConfig) (crashStore, error)
	show   func(storage, crashConfig) (crashStore, error)       // opens for reading only; nil: it is not tried
	wrap   func(*simDisk) storage                               // nil: the disk itself; else a storage that is wrong on purpose
	sample func(rng *rand.Rand, e *crashEpisode, c simCall) int // outcomes to try at a crash point of the first run
	depth  int                                                  // crashes in a row
	hang   time.Duration                                        // longest time without a call to the storage
	hung   func(what string)                                    // nil: the program ends
	replay *crashReplay
	trace  func(e *crashEpisode, c simCall) // nil, or told of every call

	images  atomic.Int64                 // disks opened after a crash
	calls   atomic.Int64                 // to storages
	living  atomic.Pointer[crashEpisode] // the last image that was begun, of those that are not done
	repeats atomic.Int64                 // that were not, for the same had been opened with the same allowed states; they do not count
	points  atomic.Int64
	nested  atomic.Int64 // of images: after a second or later crash
	inOpen  atomic.Int64 // of images: crashed during an open
	seen    crashCoverage
}

type crashReplay struct {
	seed    uint64
	point   int
	outcome uint64
	depth   int // of the laboratory
}

// crashEpisode is the life of one store on one disk between two crashes.
type crashEpisode struct {
	lab   *crashLab
	kase  *crashCase
	disk  *simDisk
	store crashStore
	rng   *rand.Rand
	story []string
	depth int                 // crashes that may still follow this one
	left  map[uint64]struct{} // what power cuts have left so far, with the states allowed then, as a hash

	mu         sync.Mutex
	tip        *crashState   // after all that was committed
	current    *crashState   // what a new reader must see
	acked      *crashState   // promised to survive: acknowledged in full durability, or seen after an open
	maybe      []*crashState // may be there instead after a crash: in flight, lazy, or failed with an unknown outcome
	unknown    *crashState   // of maybe: the first that failed with an unknown outcome; in full durability nobody may see it before the next open
	joined     *crashState   // of a lazy store: failed when readers could see it already, which nobody has asked since
	sawDurable bool          // the transaction in flight has issued a durable write
	faulted    bool          // a fault was injected
	faultKind  simFaultKind
	sinceFault int // crash points of the first run since then
	violation  *crashViolation

	readers    []crashReader
	checkpoint *crashCheckpoint // under way
	flight     *crashFlight     // a commit under way
}

type crashReader struct {
	snapshot crashSnapshot
	want     *crashState // nil: not known
}

// fail records the first violation.
func (e *crashEpisode) fail(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.violation == nil {
		e.violation = &crashViolation{what: fmt.Sprintf(format, args...), story: e.story}
	}
}

func (e *crashEpisode) broken() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.violation != nil
}

// guard runs f and turns a panic into a violation.
func (e *crashEpisode) guard(f func()) {
	defer func() {
		if r := recover(); r != nil {
			e.fail("panic: %v\n%s", r, debug.Stack())
		}
	}()
	f()
}

func (e *crashEpisode) storage() storage {
	switch {
	case e.lab.wrap != nil:
		return e.lab.wrap(e.disk)
	case e.kase.config.drops:
		return forgetfulDisk{e.disk}
	}
	return e.disk
}

// reopenDisk makes the closed disk usable for the next open, with the same crash points and faults.
func (e *crashEpisode) reopenDisk() {
	onCall, fault := e.disk.onCall, e.disk.fault
	e.disk.reopen()
	e.disk.onCall, e.disk.fault = onCall, fault
}

// openStore opens the store on the episode's disk. An error that is due to a fault just injected, or that reports an
// earlier failed write-back, is met with another try, as a user would.
func (e *crashEpisode) openStore() bool {
	for {
		pending, before := e.disk.wbErr != nil, e.faulted
		config := e.kase.config
		config.waiting = e.somebodyWaits
		store, err := e.lab.open(e.storage(), config)
		if err == nil {
			e.store = store
			e.disk.setGentle(false)
			return true
		}
		if !pending && e.faulted == before {
			e.fail("open: %v", err)
			return false
		}
		if !e.disk.closed {
			e.fail("open failed and left the storage open: %v", err)
			return false
		}
		e.reopenDisk()
	}
}

// excused reports whether err may come: a fault was injected, or the disk is full.
func (e *crashEpisode) excused(err error) bool {
	return e.faulted || errors.Is(err, syscall.ENOSPC)
}

// mayLoseReads reports whether err is what a reader may meet after a fault: the kernel has dropped pages that it could
// not write. Transactions since the last checkpoint are durable in the log, but their pages are not.
func (e *crashEpisode) mayLoseReads(err error) bool {
	return e.faulted && errors.Is(err, ErrCorrupt) && (e.faultKind == simWriteBack || e.faultKind == simFailFlush)
}

// snapshot begins a read. A reader may meet a fault when it brings what is committed into the file; then it is gone.
func (e *crashEpisode) snapshot() (crashSnapshot, error) {
	s, err := e.store.snapshot()
	if err != nil && e.excused(err) {
		s, err = e.store.snapshot()
	}
	return s, err
}

func (e *crashEpisode) closeStore() error {
	e.somebodyWaits(false)
	for len(e.readers) > 0 {
		e.endReader(0)
	}
	if e.store == nil {
		return nil
	}
	err := e.store.close()
	e.store = nil
	return err
}

// ---- the first run

// run executes a case and explores its crash points. It returns the first violation.
func (l *crashLab) run(k *crashCase) *crashViolation {
	empty := newCrashState(newCrashBucket(), 0)
	e := &crashEpisode{lab: l, kase: k, disk: newSimDisk(k.config.disk), depth: l.depth,
		tip: empty, current: empty, acked: empty, rng: rand.New(rand.NewPCG(k.seed, 11))}
	defer func() { e.disk.release() }()
	defer l.watch(k)()
	e.disk.setGentle(true)
	e.disk.onCall = e.crashPoint
	if k.fault != nil {
		e.inject(k.fault)
	}
	e.guard(func() {
		if !e.openStore() {
			return
		}
		for _, step := range k.script {
			faulted := e.faulted
			if e.broken() || !e.step(step) {
				break
			}
			// After a failure the store often only waits for its end: let it be opened again at once.
			if e.faulted && !faulted && e.rng.IntN(2) == 0 && !e.step(scriptStep{kind: "reopen"}) {
				break
			}
		}
		e.last()
	})
	if e.store != nil {
		e.guard(func() { e.closeStore() })
	}
	if m := e.disk.misuse(); m != "" {
		e.fail("the storage was used against its contract: %s", m)
	}
	return e.violation
}

const hangTicks = 6

// watch ends the program, with what all goroutines do, if nothing happens any more in the case at work, until the returned function is called. It looks several
// times: on a machine that stands still for a minute everybody stands still.
func (l *crashLab) watch(k *crashCase) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(l.hang / hangTicks)
		defer tick.Stop()
		for idle, last := 0, int64(-1); idle < hangTicks; idle++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if now := l.calls.Load(); now != last {
				idle, last = 0, now
			}
		}
		story := []string{"in the first run"}
		if e := l.living.Load(); e != nil {
			story = e.story
		}
		what := fmt.Sprintf("crash lab: the store hangs: seed %d\n  %s", k.seed, strings.Join(story, "\n  "))
		if l.hung != nil {
			l.hung(what)
			return
		}
		debug.SetTraceback("all")
		panic(what)
	}()
	return func() { close(done) }
}

// inject lets one call of the episode fail.
func (e *crashEpisode) inject(f *crashFault) {
	left := f.call // calls before it
	e.disk.fault = func(c simCall) simFault {
		if f.op != simAny && c.op != f.op {
			return simFault{}
		}
		if left--; left != -1 {
			return simFault{}
		}
		e.faulted, e.faultKind = true, f.fault.kind
		if c.op == simReadMedium {
			// What cannot be read back is rewritten blindly, as where there are no direct reads: see crashCaseOf.
			e.disk.setNoTear()
		}
		return f.fault
	}
}

// step runs one step of the script in the first run and reports whether to go on.
func (e *crashEpisode) step(step scriptStep) bool {
	switch step.kind {
	case "tx", "lazy", "full", "rollback":
		e.transact(step)
	case "reader":
		s, err := e.snapshot()
		if err != nil {
			e.fail("begin of a reader: %v", err)
			return false
		}
		e.readers = append(e.readers, crashReader{s, e.stateOf(s)})
	case "sync":
		e.syncStore()
	case "shrink":
		_ = e.shrinkStore() // an error that may be is one of a fault; what it left is looked at later
	case "punch":
		_ = e.punchStore() // as above
	case "lower":
		_ = e.lowerStore() // as above
	case "endreader":
		if n := len(e.readers); n > 0 {
			e.endReader(e.rng.IntN(n))
		}
	case "checkpoint", "checkpoint-sync", "checkpoint-meta":
		e.beginCheckpoint(step.kind)
	case "endcheckpoint":
		e.endCheckpoint()
	case "flight":
		e.beginFlight(step)
	case "land":
		e.land()
		e.store.background()
	case "reopen":
		switch err := e.closeStore(); {
		case err == nil && !e.faulted:
			e.allDurable() // an orderly close loses nothing, lazy or not
		case err != nil && !e.excused(err):
			e.fail("close: %v", err)
			return false
		}
		e.reopenDisk()
		if !e.openStore() {
			return false
		}
		e.look("after closing and opening", true, true)
	}
	return !e.broken()
}

// last ends the first run: the content is compared and checked once more, the store is closed (explored too),
// and the file is opened as the next process would.
func (e *crashEpisode) last() {
	if e.broken() || e.store == nil {
		return
	}
	e.look("at the end", false, !e.faulted)
	if err := e.closeStore(); err != nil && !e.excused(err) {
		e.fail("close: %v", err)
	}
	e.crashPoint(simCall{n: e.disk.calls, op: simSync})
}

// crashPoint explores the call under way in the first run.
func (e *crashEpisode) crashPoint(c simCall) {
	e.note(c)
	defer e.gate(c)
	r := e.lab.replay
	if !c.mutates() || e.broken() || r != nil && r.point != c.n {
		return
	}
	sampler := rand.New(rand.NewPCG(e.kase.seed, uint64(c.n)))
	budget := e.lab.sample(sampler, e, c)
	if e.faulted {
		e.sinceFault++
	}
	if budget == 0 && r == nil {
		return
	}
	e.lab.points.Add(1)
	m := e.disk.moment(c)
	outcomes := m.outcomes(budget, sampler)
	if r != nil {
		outcomes = []uint64{r.outcome}
	}
	for _, outcome := range outcomes {
		left := m.crash(outcome)
		if r == nil && e.wasThere(left, outcome) {
			e.lab.repeats.Add(1)
			left.release()
			continue
		}
		rng := rand.New(rand.NewPCG(e.kase.seed^uint64(c.n)<<32, outcome))
		if v := e.survive(c, outcome, left, rng, false); v != nil {
			v.point, v.outcome = c.n, outcome
			e.mu.Lock()
			e.violation = v
			e.mu.Unlock()
			return
		}
	}
}

// wasThere reports whether a power cut has left the same disk before, byte for byte, when the same states were allowed. (Between two syncs each crash point has one at
// which nothing of what was written persists.) What a kill leaves is never the same: its sectors are dirty.
func (e *crashEpisode) wasThere(left *simDisk, outcome uint64) bool {
	if outcome == crashKill || outcome == crashKillPartial || outcome >= crashRandomKill {
		return false
	}
	e.mu.Lock()
	states := append([]*crashState{e.acked}, e.maybe...)
	e.mu.Unlock()
	var all crashSum
	all.h.Reset()
	all.number(left.content())
	for _, s := range states {
		all.number(s.digest)
	}
	sum := all.h.Sum64()
	if _, ok := e.left[sum]; ok {
		return true
	}
	if e.left == nil {
		e.left = map[uint64]struct{}{}
	}
	e.left[sum] = struct{}{}
	return false
}

// ---- surviving

// survive lets a store live on what is left of e's disk after a crash during c. It returns the violation met there.
func (e *crashEpisode) survive(c simCall, outcome uint64, left *simDisk, rng *rand.Rand, inOpen bool) *crashViolation {
	e.lab.images.Add(1)
	if inOpen {
		e.lab.inOpen.Add(1)
	}
	e.mu.Lock()
	next := &crashEpisode{lab: e.lab, kase: e.kase, rng: rng, depth: e.depth - 1,
		tip: e.tip, current: e.current, acked: e.acked, maybe: e.maybe[:len(e.maybe):len(e.maybe)], disk: left}
	e.mu.Unlock()
	story := fmt.Sprintf("crash at call %s, outcome %d (%s), %d bytes left", c, outcome, outcomeName(outcome), next.disk.sizeNow)
	next.story = append(e.story[:len(e.story):len(e.story)], story)
	defer e.lab.living.Store(e.lab.living.Swap(next))
	defer func() { next.disk.release() }() // it may have another by then
	next.guard(next.live)
	if next.store != nil {
		next.guard(func() { next.closeStore() })
	}
	if m := next.disk.misuse(); m != "" {
		next.fail("the storage was used against its contract: %s", m)
	}
	return next.violation
}

// crashAppointment is the call at which the next crash comes.
type crashAppointment struct {
	durable bool // only durable writes count: they are rare, and decisive
	calls   int  // that come before it; -1: no crash
}

func (e *crashEpisode) appointment(within int) *crashAppointment {
	switch {
	case e.depth <= 0:
		return &crashAppointment{calls: -1}
	case e.rng.IntN(3) == 0:
		return &crashAppointment{true, e.rng.IntN(2)}
	}
	return &crashAppointment{false, e.rng.IntN(within)}
}

func (a *crashAppointment) now(c simCall) bool {
	if a.calls < 0 || !c.mutates() || a.durable && c.op != simWriteDurable {
		return false
	}
	a.calls--
	return a.calls < 0
}

// live is what happens on the disk that a crash has left.
func (e *crashEpisode) live() {
	if e.lab.show != nil && e.rng.IntN(8) == 0 && !e.disk.cfg.noDirect {
		if e.lookOnly(); e.broken() {
			return
		}
	}
	inOpen := true
	next := e.appointment(4)
	e.disk.onCall = func(c simCall) {
		e.note(c)
		defer e.gate(c)
		if next.now(c) && !e.broken() {
			e.crashAgain(c, inOpen)
		}
	}
	if e.rng.IntN(6) == 0 {
		f := randomFault(e.rng, 4)
		e.inject(f)
		e.story = append(e.story[:len(e.story):len(e.story)], fmt.Sprintf("fault %q at %s %d: %v", f.fault.kind, f.op, f.call, f.fault.err))
	}
	if !e.openStore() {
		return
	}
	e.look("after the crash", true, true)
	inOpen = false
	next = e.appointment(10)
	e.goOn()
	if e.broken() {
		return
	}
	if next.calls >= 0 {
		next.calls = -1
		e.crashAgain(simCall{n: e.disk.calls, op: simSync}, false)
	}
	err := e.closeStore()
	switch {
	case err != nil && !e.excused(err):
		e.fail("close: %v", err)
	case err == nil && !e.faulted:
		e.allDurable()
	}
	if e.rng.IntN(8) == 0 && !e.broken() {
		e.reopenDisk()
		if e.openStore() {
			e.look("after closing and opening", true, true)
		}
	}
}

// lookOnly opens what a crash has left for reading only, and takes the power away: what that has shown must be there afterwards.
func (e *crashEpisode) lookOnly() {
	if e.disk.sync() != nil {
		return // a page that was lost in the background: nothing is shown
	}
	image := loadSimDisk(e.disk.cfg, e.disk.live[:e.disk.sizeNow])
	defer image.release()
	store, err := e.lab.show(shownDisk{image, e.disk}, e.kase.config)
	switch {
	case errors.Is(err, ErrInvalid) && e.acked.tx == 0, errors.Is(err, syscall.ENOSPC):
		return // it is still in the making, or needs more memory than the image has room
	case err != nil:
		e.fail("read-only open: %v", err)
		return
	}
	e.store = store
	e.look("opened for reading only", true, true)
	err = e.store.close()
	e.store = nil
	if err != nil {
		e.fail("closing what was opened for reading only: %v", err)
	}
	before, c := e.disk, simCall{n: e.disk.calls, op: simSync}
	outcome := crashFirstPower + e.rng.Uint64N(2)
	e.story = append(e.story[:len(e.story):len(e.story)], "opened for reading only, and the power cut")
	e.disk = before.crash(c, outcome)
	before.release()
}

// goOn lets the store work for a few transactions.
func (e *crashEpisode) goOn() {
	style := randomStyle(e.rng)
	style.ops = 1 + e.rng.IntN(4)
	for range 1 + e.rng.IntN(3) {
		if e.broken() {
			return
		}
		step := scriptStep{kind: randomLevel(e.rng), ops: style.tx(e.rng)}
		switch e.rng.IntN(12) {
		case 0, 1:
			step = scriptStep{kind: randomCheckpoint(e.rng)}
		case 2:
			step = scriptStep{kind: "shrink"}
		case 3:
			step = scriptStep{kind: "punch"}
		case 4:
			step = scriptStep{kind: "lower"}
		}
		e.story = append(e.story[:len(e.story):len(e.story)], "then "+strings.Join(strings.Fields(script{step}.String()), " "))
		e.step(step)
	}
	if !e.broken() {
		e.look("after going on", false, !e.faulted)
	}
}

// crashAgain is a second (third …) crash in a row.
func (e *crashEpisode) crashAgain(c simCall, inOpen bool) {
	e.lab.nested.Add(1)
	m := e.disk.moment(c)
	outcome := m.someOutcome(e.rng)
	rng := rand.New(rand.NewPCG(e.rng.Uint64(), outcome))
	if v := e.survive(c, outcome, m.crash(outcome), rng, inOpen); v != nil {
		e.mu.Lock()
		e.violation = v
		e.mu.Unlock()
	}
}
