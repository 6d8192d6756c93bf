package alder

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// Group commit. A transaction that commits hands its record to the open group and gives up the writer lock at once; the next writer
// works on top of its result. One group at a time is appended to the log, by one of those who wait for it; what has queued
// up meanwhile is the next group. There is no timer, and no goroutine of its own: who finds nobody appending leads, and a
// leader that is done hands over to one who waits for the next group.
//
// Three states of the store matter here, each newer than or the same as those before:
//
//	published  what a reader gets without further ado: all its pages are in the file
//	visible    what a reader is to see: in full durability the last state that is durable in the log. A reader that begins
//	           when it is newer than the published one brings its pages into the file first (materialize)
//	tip        the result of the last transaction that joined a group; the next writer begins with it
//
// Pages are freed against the snapshots that are pinned: readers, published, visible, groups that are closed, and checkpoints. So a
// page that was written and freed inside one group, or between two snapshots that anybody can want, is reused at once.

// maxGroupBody is the number of bytes of records that a group collects, so that no one waits long for others.
const maxGroupBody = 1 << 20

// state is what a commit makes of the store.
type state struct {
	id        txid
	root      pageRef
	count     uint64
	sequence  uint64
	highWater pgid
	treePages int
	moves     uint64 // as in meta
}

// group is a number of transactions that become durable together.
type group struct {
	// Guarded by commitMu until it is closed, constant afterwards.
	first   txid
	count   int
	body    []byte // of the frame, behind room for its header
	state   state  // after its last transaction
	values  int64  // bytes of values that lie in runs of their own
	sync    bool   // some of them are not durable yet
	at      logPosition
	link    run
	jump    bool
	closed  bool
	waiting int // those who wait for it; guarded by commitMu all the time

	lead chan struct{} // whoever receives from it must append the group
	done chan struct{} // closed when it is durable, or has failed

	// Constant after done.
	sum uint64
	err error
}

func (pg *pager) newGroup(first txid, at logPosition) *group {
	g := &group{first: first, at: at, lead: make(chan struct{}, 1), done: make(chan struct{})}
	if n := len(pg.bodies); n > 0 {
		g.body, pg.bodies = pg.bodies[n-1][:logHeader], pg.bodies[:n-1]
	} else {
		g.body = make([]byte, logHeader, logBlock)
	}
	return g
}

// maxBodies is the number of buffers for the bodies of groups that are kept.
const maxBodies = 4

func (g *group) size() int64 { return frameSize(len(g.body) - logHeader) }

// ---- joining

// joining is a transaction that commits.
type joining struct {
	state    state
	record   []byte
	visible  bool // readers may see it before it is durable
	floor    txid // of a transaction that shares pages: see txWriter; else 0
	changes  []mapChange
	freed    []freedRun
	values   int64  // bytes of values that the record refers to
	sync     bool   // they are not durable yet
	handOver func() // of the pages to pager.unwritten; nil: they are written
}

// join adds a transaction to the open group; from then on it is part of the tip. It returns the group to wait for, nil in a store that
// has no log. An error other than the failed state leaves everything as it was. The caller has the writer lock.
func (pg *pager) join(j *joining) (g *group, err error) {
	defer pg.tellFailure()
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	if !pg.opts.volatile {
		if g, err = pg.openGroup(j.state.id, len(j.record)); err != nil {
			return nil, err
		}
	}
	if err := pg.failed(); err != nil {
		return nil, err
	}
	if j.floor > 0 && j.floor < pg.pinBelow(j.visible) {
		return nil, errShared
	}
	if err := pg.absorb(j); err != nil {
		return nil, err
	}
	if g != nil {
		g.body = appendRecord(g.body, j.record)
		g.count++
		g.values += j.values
		g.sync = g.sync || j.sync
		g.state = pg.tip
	}
	if g == nil || j.visible {
		pg.setVisible(pg.tip)
	}
	if g == nil {
		pg.feed.reached(pg.tip.id)
	}
	return g, nil
}

// absorb makes the result of a transaction the tip. The caller has commitMu and the writer lock.
func (pg *pager) absorb(j *joining) error {
	newest := pg.pinBelow(j.visible)
	broken := true
	defer func() {
		if broken { // also when a fault passes here
			_ = pg.failLocked("free map", fmt.Errorf("transaction %d is half freed", j.state.id))
		}
	}()
	if !pg.opts.volatile { // it has no map on disk
		if err := pg.fl.note(j.changes); err != nil {
			return err
		}
	}
	for _, r := range j.freed {
		if pg.inLog(r) {
			pg.fl.retain(r)
			continue
		}
		if r.n == 1 {
			pg.unwritten.free(pageRef{r.id, r.birth}, j.state.id)
		}
		if err := pg.fl.hold(r, newest); err != nil {
			return err
		}
	}
	broken = false
	if j.handOver != nil {
		j.handOver()
	}
	j.state.highWater, j.state.treePages = pg.fl.highWater, pg.treePages()
	pg.tip = j.state
	pg.noteCounts()
	return nil
}

// inLog reports whether the log may refer to r. The caller has commitMu.
func (pg *pager) inLog(r freedRun) bool {
	return r.n > 1 && r.birth > pg.feed.needed(pg.durable.txid) && !pg.opts.volatile && r.n*pg.pageSize > pg.opts.longValue
}

func (pg *pager) setVisible(s state) {
	if s.id > pg.visibleState.id {
		pg.visibleState = s
		pg.visible.Store(uint64(s.id))
	}
}

// newestPin is the newest snapshot that is pinned, but for those of readers, which are not newer. The caller has commitMu.
func (pg *pager) newestPin() txid {
	return max(pg.fixedPin(), pg.visibleState.id)
}

// pinBelow is the newest snapshot that a transaction finds pinned when it joins. Readers are to see it at once if visible is set: then nobody will
// want the state that they were to see before. The caller has commitMu.
func (pg *pager) pinBelow(visible bool) txid {
	if visible || pg.opts.volatile {
		return pg.fixedPin()
	}
	return pg.newestPin()
}

// errShared is returned to a transaction that has changed pages which a snapshot needs as they were before: it must give its versions
// places of their own, and try again.
var errShared = errors.New("pages of this transaction are part of a snapshot")

// fixedPin is newestPin without the visible state, which is not needed any more when a newer one takes its place. The caller has commitMu.
func (pg *pager) fixedPin() txid {
	pg.pinned = pg.fixedPins(pg.pinned[:0])
	return slices.Max(pg.pinned)
}

// pinsLocked appends the txids of all snapshots that are pinned, but for those of readers.
func (pg *pager) pinsLocked(ids []txid) []txid {
	return pg.fixedPins(append(ids, pg.visibleState.id))
}

func (pg *pager) fixedPins(ids []txid) []txid {
	ids = append(ids, pg.publishing, pg.sealed, pg.durable.txid) // the first two 0: none
	if s := pg.published.Load(); s != nil {                      // not closed
		ids = append(ids, s.id)
	}
	for _, g := range pg.groups {
		if g.closed {
			ids = append(ids, g.state.id)
		}
	}
	return ids
}

// openGroup returns a group that has room for a record of n bytes. It may make a run of the log, with commitMu given up meanwhile.
func (pg *pager) openGroup(id txid, n int) (*group, error) {
	for {
		if k := len(pg.groups); k > 0 && !pg.groups[k-1].closed {
			g := pg.groups[k-1]
			if pg.fits(g, n) {
				return g, nil
			}
			pg.closeGroup(g)
		}
		g := pg.newGroup(id, pg.log.plan)
		if pg.fits(g, n) {
			pg.groups = append(pg.groups, g)
			return g, nil
		}
		if pg.runBytes(pg.log.next) < frameSize(n+4)+2*logBlock {
			pg.commitMu.Unlock()
			err := pg.prepareRun(n)
			pg.commitMu.Lock()
			if err != nil {
				return nil, err
			}
			continue
		}
		// A frame that does nothing but lead to the next run, behind one that announces it.
		g.state = pg.tip
		pg.groups = append(pg.groups, g)
		pg.closeGroup(g)
	}
}

// fits reports whether g has room for a record of n bytes, and its run for two frames behind it, one that announces the next run
// and one that leads there.
func (pg *pager) fits(g *group, n int) bool {
	body := len(g.body) - logHeader + 4 + n
	return (g.count == 0 || body <= maxGroupBody) && g.at.off+frameSize(body)+2*logBlock <= pg.runBytes(g.at.run)
}

// closeGroup ends the time to join g, and settles where the log goes on.
//
// The log goes on in the next run only behind a frame that follows one that has announced it: if the frame that leads there is
// damaged later, recovery knows where to look for what came after, and does not take the damage for the log's end. (Invariants 31 and 34)
func (pg *pager) closeGroup(g *group) {
	g.closed = true
	l := &pg.log
	end := g.at.off + g.size()
	room := pg.runBytes(g.at.run) - end
	g.link = l.next
	g.jump = l.announced && (g.count == 0 || room < pg.runBytes(g.at.run)/4)
	if l.announced = l.next.n > 0; !g.jump {
		l.plan = logPosition{g.at.run, end}
		return
	}
	l.runs = append(l.runs, l.next)
	l.plan, l.next, l.announced = logPosition{run: l.next}, run{}, false
}

// ---- appending

// await returns when g is durable, or has failed. It leads if nobody does.
func (pg *pager) await(g *group) error {
	pg.commitMu.Lock()
	if !pg.flushing && slices.Contains(pg.groups, g) {
		pg.flushing = true
		pg.commitMu.Unlock()
		pg.lead(g)
		return g.err
	}
	g.waiting++
	pg.commitMu.Unlock()
	if pg.opts.waiting != nil {
		pg.opts.waiting(true)
	}
	select {
	case <-g.done:
	case <-g.lead:
		pg.lead(g)
	}
	return g.err
}

// lead appends the groups up to last, one at a time, and hands over to somebody who waits for a later one. (Invariants 32, 43 and 44)
func (pg *pager) lead(last *group) {
	for {
		pg.gather()
		pg.commitMu.Lock()
		g := pg.groups[0]
		if !g.closed {
			pg.closeGroup(g)
		}
		if g.count > 0 {
			pg.gathered = g.count
		}
		pg.commitMu.Unlock()
		if g.err = pg.failed(); g.err == nil {
			g.err = pg.appendGroup(g)
		}
		if g.err == nil {
			pg.materializeEagerly(g)
		}
		pg.commitMu.Lock()
		pg.groups = slices.Delete(pg.groups, 0, 1) // no reference to it stays behind
		if len(pg.bodies) < maxBodies && cap(g.body) <= 2*maxGroupBody {
			pg.bodies = append(pg.bodies, g.body)
		}
		if g.err == nil {
			pg.log.previous = g.sum
			pg.log.bytes += g.size() + g.values
			pg.counters.add(g)
			pg.setVisible(g.state)
			pg.feed.appended(g)
		}
		pg.commitMu.Unlock()
		close(g.done)
		if g == last {
			// After the others were woken: the scheduler runs first who was woken last.
			pg.handOver()
			return
		}
	}
}

const (
	gatherPause = 20 * time.Microsecond  // without anybody joining, after which a group that could be larger is appended
	gatherTime  = 150 * time.Microsecond // after which it is in any case
)

// gather lets the group that is to be appended become as large as the one before, if there are that many who commit. Those who waited for one group
// come back together, and whoever is first would append his transaction alone, while all others wait for two appends.
// With one committer nothing is waited for.
func (pg *pager) gather() {
	size := func() (n, want int) {
		pg.commitMu.Lock()
		defer pg.commitMu.Unlock()
		if g := pg.groups[0]; !g.closed {
			n, want = g.count, pg.gathered
		}
		return n, want
	}
	n, want := size()
	if n >= want {
		return
	}
	begun := time.Now()
	for joined := begun; n < want; {
		runtime.Gosched()
		now := time.Now()
		last := n
		if n, want = size(); n != last {
			joined = now
		}
		if now.Sub(joined) > gatherPause || now.Sub(begun) > gatherTime {
			return
		}
	}
}

// handOver lets somebody who waits for a group lead. The caller leads.
func (pg *pager) handOver() {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	for _, g := range pg.groups {
		if g.waiting > 0 {
			g.lead <- struct{}{}
			return
		}
	}
	pg.flushing = false
}

// appendGroup writes the frame of a closed group. An error is the failed state: what was written may be found again or not.
func (pg *pager) appendGroup(g *group) error {
	if g.sync {
		if err := pg.sync("sync of values before their commit"); err != nil {
			return err
		}
	}
	n := len(g.body)
	buf := slices.Grow(g.body, int(g.size())-n)[:g.size()]
	g.body = buf[:n]
	clear(buf[n:])
	f := frame{count: g.count, first: g.first, link: g.link, jump: g.jump, previous: pg.log.previous, body: buf[logHeader:n]}
	off := pg.offset(g.at.id) + g.at.off
	f.seal(buf, pg.log.salt, off)
	if err := pg.writeFrame(buf, off); err != nil {
		return err
	}
	g.sum = f.sum
	return nil
}

// lastGroup returns the group of the tip; nil if the tip is durable, or the store has failed.
func (pg *pager) lastGroup() *group {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	if len(pg.groups) == 0 {
		return nil
	}
	return pg.groups[len(pg.groups)-1]
}

// syncLog makes every transaction durable that has joined a group.
func (pg *pager) syncLog() error {
	if g := pg.lastGroup(); g != nil {
		return pg.await(g)
	}
	return pg.failed()
}

// ---- publishing

// eagerFor is the number of commits that bring their pages into the file themselves after a reader had to wait for that.
const eagerFor = 64

// materializeEagerly spares the next reader the work, if there are readers.
func (pg *pager) materializeEagerly(g *group) {
	if pg.eager.Load() <= 0 {
		return
	}
	pg.eager.Add(-1)
	_ = pg.materialize(g.state) // a reader will try again, and get the error
}

// materialize brings the pages of s into the file, and publishes it. s must be pinned.
func (pg *pager) materialize(s state) error {
	pg.publishMu.Lock()
	defer pg.publishMu.Unlock()
	if s.id <= pg.published.Load().id {
		return nil
	}
	if err := pg.writeDue(s.id); err != nil {
		return err
	}
	pg.publish(s)
	return nil
}

// materializeVisible brings what readers are to see into the file.
func (pg *pager) materializeVisible() error {
	pg.publishMu.Lock()
	defer pg.publishMu.Unlock()
	pg.commitMu.Lock()
	s := pg.visibleState
	pg.publishing = s.id
	pg.commitMu.Unlock()
	defer func() {
		pg.commitMu.Lock()
		pg.publishing = 0
		pg.commitMu.Unlock()
	}()
	if now := pg.published.Load(); now == nil || s.id <= now.id {
		return nil
	}
	if err := pg.writeDue(s.id); err != nil {
		return err
	}
	pg.publish(s)
	return nil
}

// writeDue writes the pages that a snapshot of transaction id needs, neighbors together. The caller has publishMu, and has the
// snapshot pinned.
func (pg *pager) writeDue(id txid) error {
	pg.due = pg.unwritten.due(id, pg.due[:0])
	pages := pg.due
	slices.SortFunc(pages, func(a, b *unwrittenPage) int { return int(int64(a.id) - int64(b.id)) })
	v := pg.coverVerified(pg.highestPage(pages))
	for len(pages) > 0 {
		n := 1
		for n < len(pages) && pages[n].id == pages[0].id+pgid(n) && (n+1)*pg.pageSize <= maxWrite {
			n++
		}
		if len(pg.joined) < n*pg.pageSize {
			pg.joined = make([]byte, n*pg.pageSize)
		}
		buf := pg.joined[:n*pg.pageSize]
		for i, e := range pages[:n] {
			// The page itself may be read by the writer, so its copy gets the checksum.
			p := page(buf[i*pg.pageSize : (i+1)*pg.pageSize])
			copy(p, e.p)
			p.seal()
			v.set(e.id)
		}
		if err := pg.writePages(buf, pages[0].id); err != nil {
			return err
		}
		pages = pages[n:]
	}
	pg.unwritten.done(pg.due)
	clear(pg.due)
	return nil
}

func (pg *pager) highestPage(sorted []*unwrittenPage) pgid {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)-1].id + 1
}
