package alder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
)

// The redo log at work: the runs it has, where the next frame goes, and how it gets more room. log.go has its form on disk, group.go
// says when something is appended.
//
// Runs are allocated like any pages, but the free map on disk never counts them as used: a run is part of the log by being
// linked, and recovery finds it by following the links. So a run that was allocated and never linked is not lost, and none
// has to be given back in the map. (Invariant 36)

const (
	firstRunBytes = 16 << 10 // a new store stays small
	maxRunBytes   = 4 << 20
	zeroWrite     = 1 << 20 // bytes of zeros written at once
)

// redoLog is guarded by pager.commitMu.
type redoLog struct {
	active    bool
	salt      uint64
	runs      []run       // the chain, from the run in which the log of the durable meta begins to the one that is written
	next      run         // allocated, zero and durable, but not linked yet; n == 0: none
	announced bool        // the last frame says that it is the next
	plan      logPosition // where the next group goes
	previous  uint64      // checksum of the last frame that is durable
	bytes     int64       // of frames since the last checkpoint began
	retired   []run       // runs that no durable meta needs; the writer gives them back
	spare     []run       // or keeps some, to be used again

	preparing bool // a run is being made ready in the background
}

func (pg *pager) runBytes(r run) int64 { return int64(r.n) << pg.shift }

// errNoLogRoom: the store cannot have a longer log, but a transaction can commit without.
var errNoLogRoom = errors.New("no room for the redo log")

// allocateLog takes n pages for a run of the log, or less, but at least enough, if there are no more. The caller has the writer lock.
func (pg *pager) allocateLog(n, enough int) (run, error) {
	before := pg.fl.highWater
	id, err := pg.allocateBeside(n)
	if err != nil && n > enough {
		n = enough
		id, err = pg.allocateBeside(n)
	}
	if err != nil {
		return run{}, fmt.Errorf("%w: %w", errNoLogRoom, err)
	}
	if now := pg.fl.highWater; now > before {
		// The free map on disk has every page of the raised range free until a transaction takes it.
		pg.logRaised = now
		if err := pg.fl.note([]mapChange{{run{before, int(now - before)}, true}}); err != nil {
			return run{}, pg.fail("free map", err)
		}
	}
	pg.logRuns = append(pg.logRuns, run{id, n})
	return run{id, n}, nil
}

// freeLog gives runs back. The caller has the writer lock.
func (pg *pager) freeLog(runs []run) error {
	for _, r := range runs {
		if err := pg.fl.release(r); err != nil {
			return err
		}
		pg.logRuns = slices.DeleteFunc(pg.logRuns, func(l run) bool { return l == r })
	}
	return nil
}

// clearRun makes a new run durable, all zero: a first write to it costs no more than later ones, and nothing in it looks like a
// frame.
func (pg *pager) clearRun(r run) error {
	zero := make([]byte, min(zeroWrite, pg.runBytes(r)))
	for off := int64(0); off < pg.runBytes(r); off += int64(len(zero)) {
		n := min(int64(len(zero)), pg.runBytes(r)-off)
		if err := pg.writeDurable("making a run of the redo log ready", zero[:n], pg.offset(r.id)+off); err != nil {
			return err
		}
	}
	return nil
}

// startLog begins a log in a store that has none: a run, and a meta that says so, before the first append. The caller has the writer
// lock, and nothing is in flight. (Invariant 39)
func (pg *pager) startLog(record int) error {
	enough := pg.pagesFor(frameSize(record+4) + 2*logBlock)
	r, err := pg.allocateLog(max(enough, pg.pagesFor(firstRunBytes)), enough)
	if err != nil {
		return err
	}
	if err := pg.clearRun(r); err != nil {
		return err
	}
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails, by its documentation
	pg.commitMu.Lock()
	m := pg.durable
	pg.commitMu.Unlock()
	m.sequence++
	m.clean = false
	m.logBegin, m.logPages, m.logOffset, m.logPrevious, m.logSalt = r.id, r.n, 0, 0, le.Uint64(salt[:])
	// The file may have grown since the last sync, further than is durable: only as far as the run, which was written durably.
	m.fileLength = max(m.fileLength, pg.offset(r.id+pgid(r.n)))
	if err := pg.writeMeta(m); err != nil {
		return err
	}
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	pg.log = redoLog{active: true, salt: m.logSalt, runs: []run{r}, plan: logPosition{run: r}, retired: pg.log.retired}
	pg.feed.begun(r)
	return nil
}

func (pg *pager) pagesFor(bytes int64) int { return int((bytes + int64(pg.pageSize) - 1) >> pg.shift) }

// prepareRun makes the next run ready, large enough for a record of the given size. The caller has the writer lock, but not commitMu.
func (pg *pager) prepareRun(record int) error {
	if pg.reuseRun(record) {
		return nil
	}
	r, err := pg.allocateNext(record)
	if err != nil {
		return err
	}
	if err := pg.clearRun(r); err != nil {
		return err
	}
	pg.offerRun(r)
	return nil
}

// nextRunBytes is the size that the next run should have.
func (pg *pager) nextRunBytes(record int) int64 {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	size := min(2*pg.runBytes(pg.log.plan.run), max(pg.logLimit()/4, firstRunBytes), maxRunBytes)
	if pg.fewRuns {
		size = min(size, maxLowRun) // there is no long gap in front
	}
	return max(size, frameSize(record+4)+2*logBlock)
}

// maxSpareRuns is the number of runs that are kept to be used again.
const maxSpareRuns = 8

// reuseRun makes the largest run that is kept the next one, if it is large enough. It need not be zero: it was written before, so writing it
// again costs nothing more, and the frames in it do not count, for their transactions are older, and the checksum before them is
// another.
func (pg *pager) reuseRun(record int) bool {
	size := pg.nextRunBytes(record) / 2
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	l := &pg.log
	best := -1
	for i, r := range l.spare {
		if pg.runBytes(r) >= max(size, frameSize(record+4)+2*logBlock) && (best < 0 || r.n > l.spare[best].n) {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	if l.next.n > 0 {
		l.retired = append(l.retired, l.next)
	}
	l.next, l.announced = l.spare[best], false
	l.spare = slices.Delete(l.spare, best, best+1)
	return true
}

// keepSpare takes out of the runs that are not needed any more those that are worth keeping. The caller has commitMu.
func (pg *pager) keepSpare(retired []run) []run {
	l := &pg.log
	if !l.active {
		return retired
	}
	return slices.DeleteFunc(retired, func(r run) bool {
		keep := len(l.spare) < maxSpareRuns && 4*pg.runBytes(r) >= pg.runBytes(l.plan.run) && !pg.fewRuns
		if keep {
			l.spare = append(l.spare, r)
		}
		return keep
	})
}

// allocateNext takes pages for the next run: twice as many as the last one has, up to a limit, and enough for a record.
func (pg *pager) allocateNext(record int) (run, error) {
	size := pg.nextRunBytes(record)
	enough := pg.pagesFor(frameSize(record+4) + 2*logBlock)
	return pg.allocateLog(max(enough, pg.pagesFor(size)), enough)
}

// offerRun makes r the next run, unless there is a larger one already.
func (pg *pager) offerRun(r run) {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	if r.n < pg.log.next.n {
		pg.log.retired = append(pg.log.retired, r)
		return
	}
	if pg.log.next.n > 0 {
		pg.log.retired = append(pg.log.retired, pg.log.next)
	}
	pg.log.next, pg.log.announced = r, false
}

// prepareAhead makes the next run ready while the current one is still being filled. Nobody waits for it.
func (pg *pager) prepareAhead() {
	if pg.reuseRun(0) {
		pg.commitMu.Lock()
		pg.log.preparing = false
		pg.commitMu.Unlock()
		return
	}
	pg.writing <- struct{}{}
	pg.commitMu.Lock()
	wanted := pg.log.active && pg.log.next.n == 0
	pg.commitMu.Unlock()
	var r run
	var err error
	if wanted && pg.writable() == nil {
		err = guarded(pg.st.mapping().data, func() (err error) { r, err = pg.allocateNext(0); return err })
	}
	pg.unlock()
	if r.n > 0 && err == nil {
		if err = pg.clearRun(r); err == nil {
			pg.offerRun(r)
		}
	}
	// Without a run the writer that needs one makes it, and gets the error.
	pg.commitMu.Lock()
	pg.log.preparing = false
	pg.commitMu.Unlock()
}

// retireRuns lets go of the runs before the one in which the log begins now. The caller has commitMu.
func (pg *pager) retireRuns(begin pgid) {
	l := &pg.log
	i := slices.IndexFunc(l.runs, func(r run) bool { return r.id == begin })
	if i > 0 {
		pg.retire(l.runs[:i])
		l.runs = slices.Clone(l.runs[i:])
	}
}

// stop ends the log after a checkpoint that no log follows. The caller has commitMu.
func (l *redoLog) stop() {
	retired := append(append(l.retired, l.runs...), l.spare...)
	if l.next.n > 0 {
		retired = append(retired, l.next)
	}
	*l = redoLog{retired: retired}
}
