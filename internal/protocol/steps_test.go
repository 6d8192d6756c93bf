package protocol

import "fmt"

// What the store does while it is open. Each step is what happens with no crash in between; everything between two steps, of the same
// or of others, is explored.

// free reports whether a page may be given out.
func (w *world) free(s *state, b int8) bool {
	u := s.pages[b]
	switch u.kind {
	case unused:
		return true
	case inLog, inMap:
		return false
	}
	if u.freed == 0 {
		return false
	}
	if u.kind == inValue && u.birth > s.durable.id && !w.without["value pinned"] {
		return false
	}
	held := func(rule string, x snap) bool { return !w.without[rule] && u.birth <= x.id && x.id < u.freed }
	if held("published pinned", s.published) || held("visible pinned", s.visible) || held("durable pinned", s.durable) ||
		s.reading && held("reader pinned", s.reader) || s.checkpoint.phase != idle && held("checkpoint pinned", s.sealed) {
		return false
	}
	for _, g := range s.groups[:s.queued] {
		if g.closed && held("group pinned", g.end) {
			return false
		}
	}
	return true
}

// take gives out the lowest free page; 0 if there is none.
func (w *world) take(s *state, k useKind, birth int8) int8 {
	for b := int8(metas); b < blocks; b++ {
		if w.free(s, b) {
			s.pages[b] = use{kind: k, birth: birth}
			s.unwritten[b] = 0
			return b
		}
	}
	return 0
}

// takeRun gives out two pages for the log. They are not cleared: what lies there must not matter.
func (w *world) takeRun(s *state) int8 {
	for b := int8(metas); b+1 < blocks; b += 2 {
		if w.free(s, b) && w.free(s, b+1) {
			for i := b; i < b+2; i++ {
				s.pages[i] = use{kind: inLog}
				s.unwritten[i] = 0
			}
			return b
		}
	}
	return 0
}

// newestPin is the newest snapshot that somebody may want.
func (w *world) newestPin(s *state) int8 {
	if w.without["copied"] {
		return 0
	}
	newest := max(s.published.id, s.visible.id, s.durable.id)
	if s.checkpoint.phase != idle {
		newest = max(newest, s.sealed.id)
	}
	for _, g := range s.groups[:s.queued] {
		if g.closed {
			newest = max(newest, g.end.id)
		}
	}
	return newest
}

// shares reports whether a transaction that begins now finds a page, of those that it changes, which an earlier one has written and no snapshot has.
func (w *world) shares(s *state, mark int8) bool {
	for i, r := range s.tip.leaf {
		if changes(w.operation(mark), i) && s.unwritten[r.page] != 0 && r.birth > w.newestPin(s) {
			return true
		}
	}
	return false
}

// shared reports whether the transaction at work changes a page under its own number: if it was part of no snapshot when the transaction began, and no
// snapshot was pinned since.
func (w *world) shared(s *state, r ref) bool {
	return s.begun && s.unwritten[r.page] != 0 && r.birth > s.floor && (s.floor == w.newestPin(s) || w.without["pinned meanwhile"])
}

// page returns what the writer sees of a page.
func (s *state) page(r ref) number {
	if n := s.unwritten[r.page]; n != 0 {
		return n
	}
	return s.cache[r.page]
}

// apply makes a transaction on top of the tip, with a number of its own. It reports whether there is room, and the value's place.
func (w *world) apply(s *state, id, mark int8) (v ref, ok bool) {
	operation := w.operation(mark)
	for i := range s.tip.leaf {
		if !changes(operation, i) {
			continue
		}
		r := s.tip.leaf[i]
		c := w.list[s.page(r)]
		c.marks = c.marks.with(mark)
		if operation == 'v' {
			if was := c.value; was.page != 0 {
				s.pages[was.page].freed = id
			}
			page := w.take(s, inValue, id)
			if page == 0 {
				return v, false
			}
			v = ref{page, id}
			w.put(s, page, content{kind: value, birth: id, marks: history(mark)})
			if !w.without["value durable"] {
				s.arrive(page)
			}
			c.value = v
		}
		if w.shared(s, r) {
			s.unwritten[r.page] = w.number(c) // the version before goes
			continue
		}
		page := w.take(s, inTree, id)
		if page == 0 {
			return v, false
		}
		c.birth, c.page = id, page
		s.unwritten[page] = w.number(c)
		s.pages[r.page].freed = id
		s.tip.leaf[i] = ref{page, id}
	}
	s.tip.id = id
	return v, true
}

// write brings the pages into the file that a snapshot needs there.
func (w *world) write(s *state, id int8) {
	for b := range int8(blocks) {
		if n := s.unwritten[b]; n != 0 && s.pages[b].birth <= id && (s.pages[b].freed == 0 || s.pages[b].freed > id) {
			if c, was := w.list[n], w.list[s.cache[b]]; s.cache[b] != n && was.kind == c.kind && was.birth == c.birth && was.page == b && !w.without["numbers once"] {
				w.fail("block %d is written a second time for transaction %d", b, c.birth)
			}
			w.put(s, b, w.list[n])
			s.unwritten[b] = 0
		}
	}
}

// inUse is what the map on disk must say: the pages of the tip and those of the map itself.
func (w *world) inUse(s *state, x snap, m int8) uint32 {
	used := uint32(1) << m
	for _, r := range x.leaf {
		used |= 1 << r.page
		if v := w.list[s.page(r)].value; v.page != 0 {
			used |= 1 << v.page
		}
	}
	return used
}

// ---- steps

func (w *world) steps(s *state) {
	switch s.phase {
	case down, synced, chosen, replayed, recovering:
		if s.failed { // an open that fails leaves nothing
			w.step("given up", s, func(s *state) { s.forget() })
			return
		}
		w.opening(s)
		return
	case closed:
		if s.opens > 0 {
			w.step("open", s, func(s *state) { s.opens--; s.forget() })
		}
		return
	}
	if s.failed {
		w.step("given up", s, func(s *state) { s.forget() })
		if w.without["checkpoint stops"] && s.checkpoint.phase != idle {
			w.checkpointSteps(s)
		}
		return
	}
	w.readerSteps(s)
	if s.starting {
		w.step("log started", s, func(s *state) {
			s.arrive(1 - s.slot)
			s.slot, s.starting = 1-s.slot, false
		})
		w.fault(s, "meta of the log", 1<<(1-s.slot), nil)
		return
	}
	w.groupSteps(s)
	w.checkpointSteps(s)
	if s.checkpoint.alone {
		return
	}
	if int(s.marks) < len(w.script) {
		w.commit(s)
	}
	if s.begun {
		return // it has the writer lock
	}
	if s.checkpoint.phase == idle && s.log && s.cuts > 0 && s.durable.id != s.tip.id {
		w.step("checkpoint begins", s, func(s *state) {
			s.cuts--
			w.begin(s, false)
		})
	}
	if s.checkpoint.phase == idle && s.queued == 0 && !s.reading && s.opens > 0 && (s.log || s.durable.id != s.tip.id) {
		w.step("close begins", s, func(s *state) {
			w.begin(s, true)
			s.checkpoint.alone, s.checkpoint.closing = true, true
		})
	}
}

// step explores what comes of one step.
func (w *world) step(name string, s *state, f func(*state)) {
	x := *s
	f(&x)
	w.explore(name, &x)
}

func (w *world) readerSteps(s *state) {
	if s.published.id != s.visible.id {
		w.step("published", s, func(s *state) {
			w.write(s, s.visible.id)
			s.published = s.visible
			// Whoever reads it now may tell.
			if n, err := w.holds(s, s.published); err == nil {
				s.promised = max(s.promised, n)
			}
		})
	} else if w.reader && !s.reading {
		w.step("reader begins", s, func(s *state) { s.reading, s.reader = true, s.published })
	}
	if s.reading {
		w.step("reader ends", s, func(s *state) { s.reading, s.reader = false, snap{} })
	}
}

// commit begins the next transaction of the script, and has it join a group, or begin a checkpoint of its own.
func (w *world) commit(s *state) {
	mark := s.marks + 1
	large := w.operation(mark) == 'l'
	if large || !s.log {
		if s.queued > 0 && !w.without["large waits"] || s.checkpoint.phase != idle {
			return // it waits
		}
	}
	if large || !s.log {
		w.step(fmt.Sprintf("large %d", mark), s, func(s *state) {
			if _, ok := w.apply(s, s.tip.id+1, mark); !ok {
				s.impossible = true
				return
			}
			s.marks = mark
			s.order = s.order.with(mark)
			w.begin(s, !s.log)
			s.checkpoint.alone, s.checkpoint.mark = !w.without["large is alone"], mark
		})
	}
	if large {
		return
	}
	if !s.log {
		w.step("log starts", s, func(s *state) { w.start(s) })
		return
	}
	if !s.begun && s.queued > 0 && !s.groups[s.queued-1].closed && w.without["rollback"] {
		w.step(fmt.Sprintf("rollback of %d", mark), s, func(s *state) {
			tip, pages := s.tip, s.pages
			s.marks = mark
			s.begun, s.floor = true, w.newestPin(s)
			w.apply(s, s.tip.id+1, mark)
			s.begun, s.floor = false, 0
			s.tip, s.pages = tip, pages
		})
	}
	if !s.begun && w.shares(s, mark) {
		// Between its begin and its end others may begin to want what it shares.
		w.step(fmt.Sprintf("begin %d", mark), s, func(s *state) { s.begun, s.floor = true, w.newestPin(s) })
		return
	}
	name := "commit"
	switch {
	case s.begun && s.floor == w.newestPin(s):
		name = "shared commit"
	case s.begun:
		name = "unshared commit"
	}
	w.step(fmt.Sprintf("%s %d", name, mark), s, func(s *state) { w.join(s, mark) })
}

// join has a transaction join the open group.
func (w *world) join(s *state, mark int8) {
	k := s.queued - 1
	if k < 0 || s.groups[k].closed || s.groups[k].count == 2 {
		if k >= 0 && !s.groups[k].closed {
			w.close(s, k)
		}
		if int(s.queued) == len(s.groups) || s.plan == 0 {
			s.impossible = true
			return
		}
		if s.plan%2 == 0 && s.next == 0 { // the first block of a run leads to the next one
			if s.next = w.takeRun(s); s.next == 0 {
				s.impossible = true
				return
			}
		}
		k++
		s.queued++
		s.groups[k] = group{first: s.tip.id + 1, at: s.plan}
	}
	id := s.tip.id + 1
	v, ok := w.apply(s, id, mark)
	if !ok {
		s.impossible = true
		return
	}
	g := &s.groups[k]
	g.marks = g.marks.with(mark)
	if v.page != 0 {
		g.values[g.count] = v
	}
	g.count++
	g.end = s.tip
	s.begun, s.floor = false, 0
	s.marks = mark
	s.order = s.order.with(mark)
	if w.without["seen when durable"] {
		s.visible = s.tip
	}
}

// close ends the time to join a group, and settles where the log goes on.
func (w *world) close(s *state, k int8) {
	g := &s.groups[k]
	g.closed = true
	g.link = s.next
	if g.at%2 == 0 {
		s.plan = g.at + 1
		return
	}
	g.jump = true
	for i := range s.runs {
		if s.runs[i] == 0 {
			s.runs[i] = s.next
			break
		}
	}
	s.plan, s.next = s.next, 0
}

func (w *world) groupSteps(s *state) {
	if s.queued == 0 {
		return
	}
	g := s.groups[0]
	if !s.appending {
		w.step("append", s, func(s *state) {
			if !g.closed {
				w.close(s, 0)
			}
			g := s.groups[0]
			s.appending = true
			w.send(s, g.at, content{kind: frame, birth: g.first, marks: g.marks, values: g.values, link: g.link, jump: g.jump, salt: s.salt, previous: s.previous})
		})
		return
	}
	w.step("appended", s, func(s *state) {
		if !w.without["append durable"] {
			s.arrive(g.at)
		}
		s.sending &^= 1 << g.at
		w.pop(s)
		if g.end.id > s.visible.id {
			s.visible = g.end
		}
		n, err := w.holdsInMemory(s, g.end)
		if err != nil {
			w.fail("a group that is durable: %v", err)
		}
		s.promised = max(s.promised, n)
	})
	w.fault(s, "append", 1<<g.at, func(s *state) {
		if w.without["append fails"] { // the store goes on behind it
			previous := s.previous
			s.failed = false
			w.pop(s)
			s.previous = previous
		}
	})
}

// pop takes the first group out of the queue, with its frame in the chain.
func (w *world) pop(s *state) {
	g := s.groups[0]
	s.previous = s.cache[g.at]
	s.appending = false
	copy(s.groups[:], s.groups[1:])
	s.groups[len(s.groups)-1] = group{}
	s.queued--
	if c := &s.checkpoint; c.waits && c.snap.id <= g.end.id {
		c.waits, c.previous = false, s.previous
	}
}

// holdsInMemory is holds for a snapshot whose pages the file may not have.
func (w *world) holdsInMemory(s *state, x snap) (int8, error) {
	y := *s
	for b := range int8(blocks) {
		if n := y.unwritten[b]; n != 0 {
			y.cache[b] = n
		}
	}
	return w.holds(&y, x)
}

// start begins a log.
func (w *world) start(s *state) {
	run := w.takeRun(s)
	if run == 0 {
		s.impossible = true
		return
	}
	if !w.without["fresh salt"] {
		s.salt++
	}
	s.sequence++
	s.log, s.plan, s.runs, s.previous, s.starting = true, run, [4]int8{run}, nothing, true
	if w.without["log has a meta"] {
		s.starting = false
		return
	}
	w.send(s, 1-s.slot, content{kind: meta, birth: s.durable.id, sequence: s.sequence, leaf: s.durable.leaf, freeMap: s.durableMap, log: run, salt: s.salt, clean: w.without["log is not clean"]})
}

// ---- checkpoints

// begin settles the checkpoint of the tip.
func (w *world) begin(s *state, clean bool) {
	c := checkpoint{phase: begun, snap: s.tip, clean: clean}
	m := s.durableMap.page
	if !w.without["map copied"] {
		if m = w.take(s, inMap, s.tip.id); m == 0 {
			s.impossible = true
			return
		}
	}
	c.freeMap = ref{m, s.tip.id}
	w.put(s, m, content{kind: freeMap, birth: s.tip.id, used: w.inUse(s, s.tip, m)})
	c.previous = s.previous
	if k := s.queued - 1; k >= 0 {
		if !s.groups[k].closed && !w.without["group closed"] {
			w.close(s, k)
		}
		c.waits = true
	}
	c.log = s.plan
	s.sealed, s.checkpoint = s.tip, c
	if w.without["runs kept"] {
		w.retire(s)
	}
}

func (w *world) checkpointSteps(s *state) {
	c := s.checkpoint
	switch c.phase {
	case begun:
		if c.waits && !w.without["waits for its group"] {
			return
		}
		w.step("checkpoint writes", s, func(s *state) {
			w.write(s, c.snap.id)
			s.checkpoint.phase = written
		})
	case written:
		w.step("checkpoint syncs", s, func(s *state) {
			if !w.without["synced before the meta"] {
				sending := s.sending
				for b := range int8(blocks) {
					if s.dirty&^sending>>b&1 == 1 {
						s.arrive(b)
					}
				}
			}
			s.checkpoint.phase = durable
		})
		w.fault(s, "sync", s.dirty&^s.sending, func(s *state) {
			if w.without["sync fails"] {
				s.failed = false
				s.checkpoint.phase = durable
			}
		})
	case durable:
		w.step("checkpoint's meta", s, func(s *state) { w.sendMeta(s, metaSent) })
	case metaSent, trimming:
		w.step("checkpoint done", s, func(s *state) { w.done(s) })
		w.fault(s, "meta", 1<<w.target(s), nil)
	}
}

// target is the slot of the next meta.
func (w *world) target(s *state) int8 {
	switch {
	case w.without["other slot"]:
		return s.slot
	case w.without["slot not by number"]:
		return s.checkpoint.snap.id % 2
	}
	return 1 - s.slot
}

func (w *world) sendMeta(s *state, p checkpointPhase) {
	c := &s.checkpoint
	s.sequence++
	x := content{kind: meta, birth: c.snap.id, sequence: s.sequence, leaf: c.snap.leaf, freeMap: c.freeMap, clean: c.clean, salt: s.salt}
	if !c.clean {
		x.log, x.previous = c.log, c.previous
		if w.without["log begins behind"] && s.plan != 0 {
			x.log, x.previous = s.plan, s.previous
		}
	}
	if w.without["map of its state"] {
		w.put(s, c.freeMap.page, content{kind: freeMap, birth: c.freeMap.birth, used: w.inUse(s, s.tip, c.freeMap.page)})
		s.arrive(c.freeMap.page)
	}
	w.send(s, w.target(s), x)
	c.phase = p
}

// done ends a checkpoint whose meta is durable.
func (w *world) done(s *state) {
	c := s.checkpoint
	slot := w.target(s)
	if w.without["meta durable"] {
		s.sending &^= 1 << slot
	} else {
		s.arrive(slot)
	}
	s.slot = slot
	if c.phase == metaSent {
		if s.durableMap.page != c.freeMap.page {
			s.pages[s.durableMap.page] = use{}
		}
		s.durable, s.durableMap = c.snap, c.freeMap
		if c.clean {
			for b := range s.pages {
				if s.pages[b].kind == inLog {
					s.pages[b] = use{}
				}
			}
			s.log, s.runs, s.plan, s.next, s.previous = false, [4]int8{}, 0, 0, nothing
		} else {
			w.retire(s)
		}
		switch {
		case s.phase == recovering:
			s.opened()
			s.visible, s.published = c.snap, c.snap
		case c.mark != 0:
			s.visible = c.snap
			if n, err := w.holds(s, c.snap); err == nil {
				s.promised = max(s.promised, n)
			}
		}
		if c.closing { // both slots lead to the last state then
			w.sendMeta(s, trimming)
			return
		}
	}
	s.checkpoint, s.sealed = checkpoint{}, snap{}
	if c.closing {
		s.phase = closed
	}
}

// retire gives back the runs before the one in which the log begins.
func (w *world) retire(s *state) {
	run := s.checkpoint.log &^ 1
	for s.runs[0] != 0 && s.runs[0] != run {
		s.pages[s.runs[0]], s.pages[s.runs[0]+1] = use{}, use{}
		copy(s.runs[:], s.runs[1:])
		s.runs[len(s.runs)-1] = 0
	}
}
