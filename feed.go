package alder

import (
	"context"
	"errors"
	"slices"
)

// Subscribers follow the redo log behind the writer, frame by frame as these become durable. This file knows how far each is, keeps the
// runs that they still have to read from being used again, and wakes them; what records say is not its concern.
//
// A checkpoint lets go of the runs before its begin of the log. With subscribers they go on a list, from whose front they are
// given back when the last subscriber has left them, or when the list has become longer than its limit: then those who still
// are in the first run have lost the thread, and are told so. A run is never given back while somebody reads it.
//
// Transactions that commit by a checkpoint are not in the log, but they have numbers. So a frame that begins with a later number than
// is expected, or the end of the log before the newest transaction, shows a subscriber what it cannot read there. (Invariant 45)

// feed is guarded by pager.commitMu.
type feed struct {
	end         logPosition // behind the last frame that is durable
	newest      txid        // the last transaction that is durable, and visible
	subscribers []*subscriber
	kept        []run // kept for subscribers alone, in the order of the log, which goes on in redoLog.runs
	squeezed    bool  // values that are kept for subscribers alone must go too
}

// subscriber is one who follows the log. It belongs to one goroutine.
type subscriber struct {
	wake chan struct{} // has room for one
	buf  []byte        // memory for the next frame

	// Guarded by commitMu.
	at      logPosition // of the frame that comes next; n == 0: the store has had no log yet
	next    txid        // the transaction that comes next
	done    txid        // the last one that the subscriber is through with
	reading bool        // what is there is being read
	lost    bool        // the run there is gone
}

// ---- the side of those who commit; all of it with commitMu

// appended notes that a group has become durable and visible.
func (f *feed) appended(g *group) {
	f.end = logPosition{g.at.run, g.at.off + g.size()}
	if g.jump {
		f.end = logPosition{run: g.link}
	}
	f.reached(g.state.id)
}

// reached notes that the transactions up to id are durable and visible.
func (f *feed) reached(id txid) {
	f.newest = max(f.newest, id)
	f.rouse()
}

// begun notes that a log begins in a store that had none.
func (f *feed) begun(r run) {
	f.end = logPosition{run: r}
	for _, s := range f.subscribers {
		s.at = f.end
	}
}

// rouse lets all subscribers look again.
func (f *feed) rouse() {
	for _, s := range f.subscribers {
		s.rouse()
	}
}

func (s *subscriber) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// retire gives back runs that the log does not need any more, but for those that subscribers need.
func (pg *pager) retire(old []run) {
	pg.feed.kept = append(pg.feed.kept, old...)
	pg.trimHistory(pg.opts.historyLimit)
}

// trimHistory gives back the runs at the front that no subscriber has to read any more, and those that are too many.
func (pg *pager) trimHistory(limit int64) {
	f := &pg.feed
	bytes := int64(0)
	for _, r := range f.kept {
		bytes += pg.runBytes(r)
	}
	for len(f.kept) > 0 {
		first := f.kept[0]
		there := func(s *subscriber) bool { return s.at.run == first && !s.lost }
		if slices.ContainsFunc(f.subscribers, func(s *subscriber) bool { return there(s) && (s.reading || bytes <= limit) }) {
			return // it goes on when a subscriber does
		}
		for _, s := range f.subscribers {
			if there(s) {
				s.lost = true
				s.rouse()
			}
		}
		pg.log.retired = append(pg.log.retired, first)
		f.kept = slices.Delete(f.kept, 0, 1)
		bytes -= pg.runBytes(first)
	}
}

// dropHistory gives back what is kept for subscribers: the store needs the room. The caller does not have commitMu.
func (pg *pager) dropHistory() {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	pg.trimHistory(0)
	pg.feed.squeezed = true
}

// needed returns the transaction up to which nobody needs what records refer to: recovery begins behind the durable state, and
// subscribers where they are.
func (f *feed) needed(durable txid) txid {
	for _, s := range f.subscribers {
		if !s.lost {
			durable = min(durable, s.done)
		}
	}
	return durable
}

// valuesFloor is needed, but for what is too much to be kept for subscribers alone. The caller has commitMu and the writer lock.
func (pg *pager) valuesFloor() txid {
	durable := pg.durable.txid
	floor := pg.feed.needed(durable)
	if floor < durable && (pg.feed.squeezed || pg.fl.retained(durable)<<pg.shift > pg.opts.historyLimit) {
		floor = durable
	}
	pg.feed.squeezed = false
	return floor
}

// watched reports whether there are subscribers. The caller does not have commitMu.
func (pg *pager) watched() bool {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	return len(pg.feed.subscribers) > 0
}

// ---- the side of subscribers

// history returns the transaction after which everything can be had, and the last one.
func (pg *pager) history() (oldest, tip txid) {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	return pg.durable.unchangedSince(), pg.tip.id
}

// subscribe returns a subscriber to what comes after transaction since, or after others that follow it and only moved pages, which the log need
// not have; nil if that cannot be had.
func (pg *pager) subscribe(since txid) (*subscriber, error) {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	if pg.closed {
		return nil, ErrDatabaseNotOpen
	}
	if since < pg.durable.unchangedSince() || since > pg.tip.id {
		return nil, nil
	}
	since = max(since, pg.durable.txid) // in between pages were moved
	s := &subscriber{wake: make(chan struct{}, 1), next: since + 1, done: since}
	if d := &pg.durable; pg.log.active {
		s.at = logPosition{run{d.logBegin, d.logPages}, int64(d.logOffset)}
	}
	pg.feed.subscribers = append(pg.feed.subscribers, s)
	return s, nil
}

func (pg *pager) unsubscribe(s *subscriber) {
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	pg.feed.subscribers = slices.DeleteFunc(pg.feed.subscribers, func(o *subscriber) bool { return o == s })
	pg.trimHistory(pg.opts.historyLimit)
}

// delivery is what a subscriber gets next.
type delivery struct {
	gap   txid  // the transactions up to this one, from where the subscriber was, are not in the log; 0: there are none such
	first txid  // the first transaction in the frame that is new to the subscriber
	frame frame // its body is the receiver's to keep; no records: there is none
}

// errFellBehind is returned by follow when the subscriber's place in the log is gone.
var errFellBehind = errors.New("subscriber fell behind")

// follow waits for the next transactions that are durable and visible, until ctx ends, the store is closed or fails.
func (pg *pager) follow(ctx context.Context, s *subscriber) (delivery, error) {
	for {
		if ctx.Err() != nil {
			return delivery{}, context.Cause(ctx)
		}
		d, idle, err := pg.step(s)
		if err != nil || d.gap > 0 || d.frame.count > 0 {
			return d, err
		}
		if !idle {
			continue
		}
		select {
		case <-s.wake:
		case <-pg.broken:
		case <-ctx.Done():
		}
	}
}

// step is one try of follow: it takes a frame, which may have nothing new, or finds that there is none yet.
func (pg *pager) step(s *subscriber) (d delivery, idle bool, err error) {
	f := &pg.feed
	pg.commitMu.Lock()
	defer pg.commitMu.Unlock()
	s.done = s.next - 1
	switch {
	case s.lost:
		return d, false, errFellBehind
	case pg.closed:
		return d, false, ErrDatabaseNotOpen
	case s.next > f.newest:
		return d, true, pg.failed()
	case s.at == f.end:
		d.gap = f.newest
		s.next = f.newest + 1
		return d, false, nil
	}
	at, salt := s.at, pg.log.salt
	s.reading = true
	pg.work.Add(1)
	pg.commitMu.Unlock()
	fr, err := pg.readFrame(at, salt, s)
	pg.commitMu.Lock()
	s.reading = false
	if err == nil {
		s.advance(&fr, &d)
	}
	pg.trimHistory(pg.opts.historyLimit)
	pg.work.Done()
	return d, false, err
}

// advance goes behind a frame and makes its delivery.
func (s *subscriber) advance(f *frame, d *delivery) {
	s.at.off += frameSize(len(f.body))
	if f.jump {
		s.at = logPosition{run: f.link}
	}
	end := f.first + txid(f.count)
	if end <= s.next {
		return // nothing new
	}
	if f.first > s.next {
		d.gap = f.first - 1
	}
	d.first, d.frame = max(s.next, f.first), *f
	s.next, s.buf = end, nil
}

// readFrame reads the durable frame at a place in the log into the subscriber's memory.
func (pg *pager) readFrame(at logPosition, salt uint64, s *subscriber) (frame, error) {
	off, left := pg.offset(at.id)+at.off, pg.runBytes(at.run)-at.off
	s.buf = slices.Grow(s.buf[:0], logBlock)[:logBlock]
	if err := pg.st.readAt(s.buf, off); err != nil {
		return frame{}, err
	}
	if n := frameSize(int(le.Uint32(s.buf[offFrameLength:]))); n > logBlock && n <= left {
		s.buf = slices.Grow(s.buf, int(n)-logBlock)[:n]
		if err := pg.st.readAt(s.buf[logBlock:], off+logBlock); err != nil {
			return frame{}, err
		}
	}
	f, ok := parseFrame(s.buf, salt, off)
	if !ok {
		return frame{}, corrupt(at.id, "redo log: the frame at offset %d of this run is damaged, but it was durable", at.off)
	}
	return f, nil
}

// readLate returns a copy of the data of an overflow run that may have been given up, and its pages used again, since it was
// written; false: it was.
func (pg *pager) readLate(r overflowRef) ([]byte, bool, error) {
	pg.commitMu.Lock()
	closed := pg.closed
	if !closed {
		pg.work.Add(1)
	}
	pg.commitMu.Unlock()
	if closed {
		return nil, false, ErrDatabaseNotOpen
	}
	defer pg.work.Done()
	off := pg.offset(r.id)
	if r.id < firstPage || off+pageHeader+int64(r.length) > pg.st.size() {
		return nil, false, nil
	}
	cut := func() bool { return off+pageHeader+int64(r.length) > pg.st.size() } // meanwhile
	var header [pageHeader]byte
	if err := pg.st.readAt(header[:], off); err != nil {
		if cut() {
			err = nil
		}
		return nil, false, err
	}
	if p := page(header[:]); p.ref() != r.pageRef || p.kind() != kindOverflow || p.runLength() != int64(r.length) {
		return nil, false, nil
	}
	// It may be overwritten while it is read; the checksum tells.
	buf := make(page, pageHeader+r.length)
	if err := pg.st.readAt(buf, off); err != nil {
		if cut() {
			err = nil
		}
		return nil, false, err
	}
	if buf.ref() != r.pageRef || !buf.sealed() {
		return nil, false, nil
	}
	return buf[pageHeader:], true, nil
}
