package protocol

// What crashes and faults leave, and how the store opens.

// forget is the end of the process: what was in its memory is gone.
func (s *state) forget() {
	*s = state{cache: s.cache, medium: s.medium, dirty: s.dirty, order: s.order, promised: s.promised, marks: s.marks,
		crashes: s.crashes, faults: s.faults, cuts: s.cuts, opens: s.opens}
}

// crash explores every end that the process, or the machine, may come to now.
func (w *world) crash(s *state) {
	if s.crashes == 0 {
		return
	}
	if s.phase != down && s.phase != closed {
		w.step("kill", s, func(s *state) { s.crashes--; s.forget() })
	}
	var dirty []int8
	for b := range int8(blocks) {
		if s.dirty>>b&1 == 1 && s.cache[b] != s.medium[b] || s.sending>>b&1 == 1 {
			dirty = append(dirty, b)
		}
	}
	if len(dirty) == 0 && s.cache == s.medium && s.phase == down {
		return
	}
	for subset := range uint32(1) << len(dirty) {
		for torn := -1; torn < len(dirty); torn++ {
			if torn >= 0 && subset>>torn&1 == 1 {
				continue // counted without
			}
			w.step("power cut", s, func(s *state) {
				s.crashes--
				for i, b := range dirty {
					switch {
					case i == torn:
						s.medium[b] = garbage
					case subset>>i&1 == 1:
						s.medium[b] = s.cache[b]
					}
				}
				s.cache, s.dirty = s.medium, 0
				s.forget()
			})
		}
	}
}

// fault explores the failure of a write of some blocks: each of them is on the medium or not, and none will be written again. instead, if
// not nil, is what a store without a rule does then.
func (w *world) fault(s *state, what string, scope uint32, instead func(*state)) {
	if s.faults == 0 {
		return
	}
	var dirty []int8
	for b := range int8(blocks) {
		if scope>>b&1 == 1 && s.dirty>>b&1 == 1 {
			dirty = append(dirty, b)
		}
	}
	for subset := range uint32(1) << len(dirty) {
		for _, evicted := range []bool{false, true} {
			w.step("failed "+what, s, func(s *state) {
				s.faults--
				for i, b := range dirty {
					if subset>>i&1 == 1 {
						s.medium[b] = s.cache[b]
					} else if evicted {
						s.cache[b] = s.medium[b]
					}
					s.dirty &^= 1 << b
					s.sending &^= 1 << b
				}
				s.failed = true
				if instead != nil {
					instead(s)
				}
			})
		}
	}
}

// lose explores that the system fails to write a page in the background, and tells an append of it.
func (w *world) lose(s *state) {
	if s.faults == 0 || s.phase != working || s.failed || !s.appending {
		return
	}
	for b := int8(metas); b < blocks; b++ {
		if s.dirty&^s.sending>>b&1 == 1 && s.cache[b] != s.medium[b] {
			w.step("lost page", s, func(s *state) {
				s.faults--
				s.dirty &^= 1 << b
				s.arrive(s.groups[0].at)
				s.failed = true
			})
		}
	}
}

// ---- opening

// newest returns the slot of the valid meta of the highest sequence number; -1 if there is none.
func (w *world) newest(s *state) int8 {
	best := int8(-1)
	for slot := range int8(metas) {
		c := w.list[s.cache[slot]]
		if c.kind != meta {
			continue
		}
		if best < 0 || w.order(c) > w.order(w.list[s.cache[best]]) {
			best = slot
		}
	}
	return best
}

func (w *world) order(m content) int8 {
	if w.without["by sequence"] {
		return m.birth
	}
	return m.sequence
}

func (w *world) opening(s *state) {
	switch s.phase {
	case down:
		w.step("open syncs", s, func(s *state) {
			s.phase = synced
			if !w.without["sync at open"] {
				s.sync()
			}
		})
		w.fault(s, "sync at open", s.dirty, func(s *state) { s.forget() })
	case synced:
		slot := w.newest(s)
		if slot < 0 {
			w.fail("no meta is whole")
			return
		}
		w.step("meta confirmed", s, func(s *state) {
			s.phase, s.slot = chosen, slot
			if !w.without["confirmed"] {
				s.arrive(slot)
			}
		})
		if s.cache[slot] != s.medium[slot] && !w.without["confirmed"] {
			// While it is written, a power cut may leave garbage.
			x := *s
			x.phase, x.dirty, x.sending = chosen, x.dirty|1<<slot, 1<<slot
			w.crash(&x)
			w.fault(&x, "confirmation", 1<<slot, func(s *state) { s.forget() })
		}
	case chosen:
		w.step("replayed", s, func(s *state) { w.replay(s) })
	case replayed:
		w.step("recovery syncs", s, func(s *state) {
			s.sync()
			s.phase = recovering
			s.checkpoint.phase = durable
		})
		w.fault(s, "sync of the recovery", s.dirty, func(s *state) { s.forget() })
	case recovering:
		w.checkpointSteps(s)
	}
}

// scan reads the log of a meta.
func (w *world) scan(s *state, m content) (frames []content, runs []int8) {
	at, next, previous := m.log, m.birth+1, m.previous
	for at != 0 && len(runs) <= blocks {
		if run := at &^ 1; len(runs) == 0 || runs[len(runs)-1] != run {
			runs = append(runs, run)
		}
		c := w.list[s.cache[at]]
		if c.kind != frame || c.page != at && !w.without["place"] || c.salt != m.salt && !w.without["salt"] ||
			c.birth != next && !w.without["number"] || c.previous != previous && !w.without["chain"] {
			break
		}
		frames = append(frames, c)
		next += c.marks.length()
		previous = s.cache[at]
		switch {
		case c.jump:
			at = c.link
		case at%2 == 0:
			at++
		default:
			at = 0
		}
	}
	return frames, runs
}

// replay reads the chosen state and its log, holds it against what was promised, and makes it anew as one transaction.
func (w *world) replay(s *state) {
	m := w.list[s.cache[s.slot]]
	x := snap{m.birth, m.leaf}
	view := func(r ref) number { return s.cache[r.page] }
	marks, values, err := w.read(s, x, view)
	if err != nil {
		w.fail("the tree of the newest meta: %v", err)
		return
	}
	fm := w.list[s.cache[m.freeMap.page]]
	if fm.kind != freeMap || fm.birth != m.freeMap.birth {
		w.fail("the free map of the newest meta is not there")
		return
	}
	if used := w.inUse(s, x, m.freeMap.page); used != fm.used {
		w.fail("the free map has %b in use, but that are %b", fm.used, used)
		return
	}
	s.durable, s.tip, s.published, s.visible = x, x, x, x
	s.durableMap, s.sequence, s.salt = m.freeMap, m.sequence, m.salt
	for b := int8(metas); b < blocks; b++ {
		if fm.used>>b&1 == 1 {
			s.pages[b] = use{kind: inTree}
		}
	}
	for _, r := range x.leaf {
		s.pages[r.page] = use{kind: inTree, birth: r.birth}
		if v := w.list[s.cache[r.page]].value; v.page != 0 {
			s.pages[v.page] = use{kind: inValue, birth: v.birth}
		}
	}
	s.pages[m.freeMap.page] = use{kind: inMap, birth: m.freeMap.birth}
	if m.clean {
		if w.recovered(s, marks, values) {
			s.opened()
		}
		return
	}
	frames, runs := w.scan(s, m)
	if !w.without["claimed"] {
		for _, run := range runs {
			s.pages[run], s.pages[run+1] = use{kind: inLog}, use{kind: inLog}
		}
	}
	next := m.birth + 1
	for _, f := range frames {
		k := 0
		for i := range f.marks.length() {
			mark := f.marks.at(i)
			next++
			for leaf := range marks {
				if !changes(w.operation(mark), leaf) {
					continue
				}
				marks[leaf] = marks[leaf].with(mark)
				if w.operation(mark) != 'v' {
					continue
				}
				for f.values[k].page == 0 && k == 0 {
					k++
				}
				v := w.list[s.cache[f.values[k].page]]
				if v.kind != value || v.birth != f.values[k].birth {
					w.fail("the log refers to a value in block %d that is not there", f.values[k].page)
					return
				}
				values[leaf] = int8(v.marks)
				k++
			}
		}
	}
	if !w.recovered(s, marks, values) {
		return
	}
	w.rebuild(s, next-1+w.gap(), marks, frames)
}

// gap is how far the number of a recovery is behind the last one that it finds.
func (w *world) gap() int8 {
	if w.without["numbers once"] {
		return 1
	}
	return 8
}

// recovered holds what an open finds against what there must be and may be.
func (w *world) recovered(s *state, marks [2]history, values [2]int8) bool {
	for n := s.order.length(); n >= s.promised; n-- {
		same := true
		for i := range marks {
			m, v := w.expected(s.order.first(n), i)
			same = same && m == marks[i] && v == values[i]
		}
		if same {
			s.found = n
			return true
		}
	}
	w.fail("found %x and %x; there must be the first %d of %x", marks[0], marks[1], s.promised, s.order)
	return false
}

// opened is the end of an open: what it has found is promised from now on, and nothing else comes back.
func (s *state) opened() {
	s.phase, s.order, s.promised = working, s.order.first(s.found), s.found
}

// rebuild writes what the log has changed to new pages, as the state of a checkpoint that no log follows.
func (w *world) rebuild(s *state, id int8, marks [2]history, frames []content) {
	old := s.durable
	s.tip.id = id
	claimed := map[int8]bool{}
	if !w.without["claimed"] {
		for _, f := range frames {
			for _, v := range f.values {
				if v.page != 0 {
					claimed[v.page] = true
					s.pages[v.page] = use{kind: inValue, birth: v.birth}
				}
			}
		}
	}
	for i, r := range old.leaf {
		c := w.list[s.cache[r.page]]
		if c.marks == marks[i] {
			continue
		}
		was := c.value
		for _, f := range frames {
			for _, v := range f.values {
				if v.page != 0 && i == 0 {
					c.value = v
				}
			}
		}
		if was.page != 0 && was != c.value {
			s.pages[was.page].freed = id
		}
		page := w.take(s, inTree, id)
		if page == 0 {
			s.impossible = true
			return
		}
		c.marks, c.birth = marks[i], id
		w.put(s, page, c)
		s.pages[r.page].freed = id
		s.tip.leaf[i] = ref{page, id}
	}
	for page := range claimed { // those that were replaced again
		if w.list[s.page(s.tip.leaf[0])].value.page != page {
			s.pages[page].freed = id
		}
	}
	m := w.take(s, inMap, id)
	if m == 0 {
		s.impossible = true
		return
	}
	w.put(s, m, content{kind: freeMap, birth: id, used: w.inUse(s, s.tip, m)})
	s.sealed = s.tip
	s.checkpoint = checkpoint{phase: begun, snap: s.tip, freeMap: ref{m, id}, alone: true, clean: true}
	s.phase = replayed
}
