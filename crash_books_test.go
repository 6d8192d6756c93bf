package alder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// The books of the crash laboratory: what a store may hold and show, as transactions of different durability come and go; and
// checkpoints that stop half way while others commit.

// stateOf returns the state that a snapshot shows, of those that a reader may see now; nil after a violation, or if its pages may be
// lost. What a reader of a store in full durability has seen counts as acknowledged.
func (e *crashEpisode) stateOf(s crashSnapshot) *crashState {
	return e.identify("a reader", s, false)
}

func (e *crashEpisode) identify(when string, s crashSnapshot, opened bool) *crashState {
	digest, err := s.digest()
	if err != nil {
		if !e.mayLoseReads(err) {
			e.fail("%s: read: %v", when, err)
		}
		return nil
	}
	e.mu.Lock()
	states := []*crashState{e.current}
	switch {
	case opened:
		states = append([]*crashState{e.acked}, e.maybe...)
	case !e.kase.config.lazy: // lazy transactions are seen as soon as they are durable, which nobody is told
		for _, m := range e.maybe {
			if m == e.unknown || e.flight != nil && m == e.flight.next {
				break
			}
			states = append(states, m)
		}
	case e.joined != nil:
		states = append(states, e.joined)
	}
	var seen *crashState
	for _, state := range states {
		if state.digest == digest {
			seen = state
			break
		}
	}
	if seen != nil {
		e.noteSeen(seen, opened)
	}
	e.mu.Unlock()
	if seen == nil && !opened && e.faultKind == simWriteBack {
		// What no checkpoint has made durable is read from the page cache, where pages that could not be written may show old
		// bytes. Those inside a value or a page that is larger than a page of the cache go unseen until the next sync fails.
		return nil
	}
	if seen == nil {
		var w strings.Builder
		fmt.Fprintf(&w, "%s: the content is none of the allowed ones\nfound:\n%s", when, s.describe())
		for _, state := range states {
			fmt.Fprintf(&w, "allowed: %s", state)
		}
		e.fail("%s", w.String())
	}
	return seen
}

// noteSeen notes what a reader has seen. The caller has the lock.
func (e *crashEpisode) noteSeen(seen *crashState, opened bool) {
	switch {
	case opened:
		e.tip, e.current, e.acked, e.maybe, e.unknown, e.joined = seen, seen, seen, nil, nil, nil
	case e.kase.config.lazy:
		e.current, e.joined = seen, nil // a store that has failed goes on showing what it shows now
	default:
		for i, m := range e.maybe {
			if m == seen {
				e.current, e.acked, e.maybe = seen, seen, e.maybe[i+1:]
				return
			}
		}
	}
}

// look reads the store through a new snapshot. Just opened, it may show any allowed state, and what it shows counts
// as acknowledged from then on. With check it verifies the whole file too.
func (e *crashEpisode) look(when string, opened, check bool) {
	s, err := e.snapshot()
	if err != nil {
		e.fail("%s: begin of a read: %v", when, err)
		return
	}
	defer s.end()
	if e.identify(when, s, opened) == nil || !check {
		return
	}
	if err := s.check(); err != nil && !e.mayLoseReads(err) {
		e.fail("%s: check: %v", when, err)
	}
}

// allDurable notes that everything that was committed is durable.
func (e *crashEpisode) allDurable() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, e.acked, e.maybe = e.tip, e.tip, nil
}

// transact runs one transaction of a script and keeps the books.
func (e *crashEpisode) transact(step scriptStep) error {
	if step.kind == "rollback" {
		ops, _ := e.tip.effective(step.ops)
		err := e.store.rollback(ops)
		if err != nil && !e.excused(err) {
			e.fail("rollback: %v", err)
		}
		return err
	}
	ops, next := e.enter(step.ops)
	lazy := step.kind == "lazy" || step.kind == "tx" && e.kase.config.lazy
	_, _, tip := e.store.busy()
	err := e.store.commit(ops, map[string]Durability{"lazy": DurabilityLazy, "full": DurabilityFull}[step.kind])
	e.settle(next, lazy, tip, err)
	return err
}

// enter notes that a transaction begins. What is in flight may land any time from then on, but not before.
func (e *crashEpisode) enter(ops []scriptOp) ([]scriptOp, *crashState) {
	ops, next := e.tip.effective(ops)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.flight != nil && e.flight.stopped {
		e.lab.seen.behind.Add(1)
	}
	e.maybe = append(e.maybe, next)
	e.sawDurable = false
	return ops, next
}

// settle notes how the last transaction has ended; tip is the last transaction of the store before it.
func (e *crashEpisode) settle(next *crashState, lazy bool, tip int, err error) {
	_, _, now := e.store.busy()
	e.mu.Lock()
	if err != nil && now > tip && e.kase.config.lazy && !e.rolledBack(err) {
		// Whether it has reached the log or not: in a lazy store a transaction is seen from when it is part of the tip.
		e.joined = next
	}
	unknown := e.unknown != nil
	switch {
	case err == nil && lazy:
		e.tip = next
		if e.kase.config.lazy {
			e.current = next
		}
	case err == nil:
		e.tip, e.current, e.acked, e.maybe = next, next, next, nil
	case !e.sawDurable || e.rolledBack(err):
		e.maybe = slices.DeleteFunc(e.maybe, func(m *crashState) bool { return m == next })
	case !unknown:
		e.unknown = next
	}
	e.mu.Unlock()
	switch {
	case err == nil && unknown:
		e.fail("a transaction succeeded after one with unknown outcome")
	case err != nil && !e.excused(err):
		e.fail("commit: %v", err)
	case err != nil:
		e.look("after the failed commit", false, false)
	}
	e.store.background()
}

// rolledBack reports whether the store promises that a transaction that failed with err did not happen. Of other stores than the engine
// it is known only if they have written nothing durably; the engine writes long values so before the commit.
func (e *crashEpisode) rolledBack(err error) bool {
	_, engine := e.store.(*alderUnderTest)
	return engine && !errors.Is(err, ErrFailed)
}

// syncStore makes lazy commits durable.
func (e *crashEpisode) syncStore() {
	if err := e.store.sync(); err != nil {
		if !e.excused(err) {
			e.fail("sync: %v", err)
		}
		return
	}
	if e.unknown != nil {
		e.fail("a sync succeeded after a transaction with unknown outcome")
	}
	e.allDurable()
}

// shrinkStore makes the file shorter, if the store can.
func (e *crashEpisode) shrinkStore() error {
	s, ok := e.store.(interface{ shrink() error })
	if !ok {
		return nil
	}
	err := s.shrink()
	if err != nil && !e.excused(err) {
		e.fail("shrink: %v", err)
	}
	e.store.background()
	return err
}

// punchStore gives the blocks of free pages back, if the store can.
func (e *crashEpisode) punchStore() error {
	s, ok := e.store.(interface{ punch() error })
	if !ok {
		return nil
	}
	err := s.punch()
	if err != nil && !e.excused(err) {
		e.fail("punch: %v", err)
	}
	e.store.background()
	return err
}

// lowerStore does the first part of making the file shorter, if the store can.
func (e *crashEpisode) lowerStore() error {
	s, ok := e.store.(interface{ lower() error })
	if !ok {
		return nil
	}
	err := s.lower()
	if err != nil && !e.excused(err) {
		e.fail("lowering the mark: %v", err)
	}
	e.store.background()
	return err
}

func (e *crashEpisode) endReader(i int) {
	r := e.readers[i]
	e.readers = append(e.readers[:i], e.readers[i+1:]...)
	defer r.snapshot.end()
	if r.want == nil {
		return
	}
	digest, err := r.snapshot.digest()
	switch {
	case err != nil && e.mayLoseReads(err):
	case err != nil:
		e.fail("an old reader: %v", err)
	case digest != r.want.digest && e.faultKind != simWriteBack:
		e.fail("an old reader sees something else than at its begin\nfound:\n%sat its begin: %s", r.snapshot.describe(), r.want)
	}
}

// ---- checkpoints that stop half way

// crashCheckpoint is a checkpoint under way, in a goroutine of its own, of which at any time either it runs or the script.
type crashCheckpoint struct {
	stopAt  simOp         // the call in which it stops
	meta    int64         // for a durable write: the end of the meta pages
	stopped bool          // it has been there
	reached chan struct{} // it has stopped, or is done
	goOn    chan struct{}
	done    chan struct{}
}

// beginCheckpoint begins a checkpoint and lets it go on as far as kind says.
func (e *crashEpisode) beginCheckpoint(kind string) {
	e.endCheckpoint()
	complete, err := e.store.seal()
	if err != nil && !e.excused(err) && !errors.Is(err, ErrFailed) {
		e.fail("begin of a checkpoint: %v", err)
	}
	if complete == nil || err != nil {
		return
	}
	c := &crashCheckpoint{stopAt: simSync, reached: make(chan struct{}), goOn: make(chan struct{}), done: make(chan struct{})}
	if kind == "checkpoint-meta" {
		c.stopAt, c.meta = simWriteDurable, 2*int64(e.kase.config.pageSize)
	}
	e.checkpoint = c
	work := func() {
		defer close(c.done)
		e.guard(func() {
			if err := complete(); err != nil && !e.excused(err) {
				e.fail("checkpoint: %v", err)
			}
		})
	}
	if kind == "checkpoint" {
		c.stopped = true
		go func() {
			<-c.goOn
			work()
		}()
		return
	}
	go func() {
		work()
		if !c.stopped {
			close(c.reached)
		}
	}()
	if <-c.reached; !c.stopped {
		e.checkpoint = nil
	}
}

// gate stops the commit in flight in its append, and the checkpoint in the call where it is to stop.
func (e *crashEpisode) gate(call simCall) {
	if e.store == nil {
		return
	}
	appending, writing, tip := e.store.busy()
	if f := e.flight; f != nil && !f.stopped && e.isFrame(call) && appending && !writing && tip > f.tip {
		f.stopped = true
		close(f.reached)
		<-f.goOn
		return
	}
	c := e.checkpoint
	if c == nil || c.stopped || call.op != c.stopAt || call.op == simWriteDurable && call.off >= c.meta || appending {
		return
	}
	c.stopped = true
	close(c.reached)
	<-c.goOn
}

// isFrame reports whether the call writes a frame of the log.
func (e *crashEpisode) isFrame(c simCall) bool {
	return c.op == simWriteDurable && c.seq != 0 && c.off >= 2*int64(e.kase.config.pageSize) && le.Uint32(e.disk.live[c.off+offFrameMagic:]) == frameMagic
}

// endCheckpoint lets the checkpoint that is under way go on to its end.
func (e *crashEpisode) endCheckpoint() {
	c := e.checkpoint
	if c == nil {
		return
	}
	e.checkpoint = nil
	close(c.goOn)
	<-c.done
}

// ---- commits in flight

// crashFlight is a full commit, in a goroutine of its own, that stops in its append while others go on.
type crashFlight struct {
	next    *crashState
	tip     int // before it
	stopped bool
	err     error
	reached chan struct{} // it has stopped, or is done
	goOn    chan struct{}
	done    chan struct{}
}

// beginFlight begins a commit and lets it go on into its append.
func (e *crashEpisode) beginFlight(step scriptStep) {
	e.land()
	ops, next := e.enter(step.ops)
	f := &crashFlight{next: next, reached: make(chan struct{}), goOn: make(chan struct{}), done: make(chan struct{})}
	_, _, f.tip = e.store.busy()
	e.flight = f
	go func() {
		defer func() {
			close(f.done)
			if !f.stopped {
				close(f.reached)
			}
		}()
		e.guard(func() { f.err = e.store.commit(ops, DurabilityFull) })
	}()
	<-f.reached
	if !f.stopped {
		e.flight = nil
		e.settle(next, false, f.tip, f.err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tip = next
	if e.kase.config.lazy {
		e.current = next
	}
}

// land lets the commit in flight go on to its end.
func (e *crashEpisode) land() {
	f := e.flight
	if f == nil || !f.stopped {
		return
	}
	e.flight = nil
	close(f.goOn)
	<-f.done
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.maybe, f.next)
	switch {
	case f.err != nil && e.unknown == nil:
		e.unknown = f.next
	case f.err == nil && i >= 0:
		e.acked = f.next
		if !e.kase.config.lazy {
			e.current = f.next
		}
		e.maybe = e.maybe[i+1:]
	}
	if f.err != nil && !e.excused(f.err) && e.violation == nil {
		e.violation = &crashViolation{what: fmt.Sprintf("commit in flight: %v", f.err), story: e.story}
	}
}

// somebodyWaits is called by a store in which somebody waits for others: those that have been stopped go on. Who waits for an append waits for no
// checkpoint: one that has been stopped is not in an append, and may wait itself for one that the caller is to make.
func (e *crashEpisode) somebodyWaits(forAppend bool) {
	e.land()
	if forAppend {
		return
	}
	if c := e.checkpoint; c != nil && c.stopped { // else it is the checkpoint that waits
		e.endCheckpoint()
	}
}

// ---- coverage

// crashCoverage counts what the stores did between the crashes.
type crashCoverage struct {
	metas, frames, jumps, shared, long, concurrent, behind, runs, syncs atomic.Int64
}

func (c *crashCoverage) add(d *crashCoverage) {
	for _, p := range [][2]*atomic.Int64{{&c.metas, &d.metas}, {&c.frames, &d.frames}, {&c.jumps, &d.jumps}, {&c.shared, &d.shared}, {&c.long, &d.long},
		{&c.concurrent, &d.concurrent}, {&c.behind, &d.behind}, {&c.runs, &d.runs}, {&c.syncs, &d.syncs}} {
		p[0].Add(p[1].Load())
	}
}

func (c *crashCoverage) String() string {
	return fmt.Sprintf("%d metas, %d frames (%d of several transactions, %d of several blocks, %d that lead to another run), %d other durable writes, %d syncs; %d frames beside a checkpoint, %d transactions while a commit was in its append",
		c.metas.Load(), c.frames.Load(), c.shared.Load(), c.long.Load(), c.jumps.Load(), c.runs.Load(), c.syncs.Load(), c.concurrent.Load(), c.behind.Load())
}

// note keeps the books of an episode at every call.
func (e *crashEpisode) note(c simCall) {
	e.lab.calls.Add(1)
	if e.lab.trace != nil {
		e.lab.trace(e, c)
	}
	if c.op == simSync {
		e.lab.seen.syncs.Add(1)
	}
	if c.op != simWriteDurable {
		return
	}
	e.mu.Lock()
	e.sawDurable = true
	e.mu.Unlock()
	s := &e.lab.seen
	b := e.disk.live[c.off:]
	switch {
	case c.off < 2*int64(e.kase.config.pageSize):
		s.metas.Add(1)
	case !e.isFrame(c):
		s.runs.Add(1)
	default:
		s.frames.Add(1)
		n := le.Uint32(b[offFrameCount:])
		if n&frameJump != 0 {
			s.jumps.Add(1)
		}
		if n&^frameJump > 1 {
			s.shared.Add(1)
		}
		if c.len > logBlock {
			s.long.Add(1)
		}
		if e.checkpoint != nil {
			s.concurrent.Add(1)
		}
	}
}
