package alder

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// What a crash leaves: from the state of a simulated disk in the middle of a call to the disk that the next
// open finds. The choices of one crash are a number, the outcome, so that a case can be replayed:
//
//	0            kill; the call under way has its full effect in the cache
//	1            kill; a write under way stopped after some of its pages
//	2 … n-1      power cut, enumerated: every combination of sector versions and lengths if these are few,
//	             else none, all, each sector (page) missing, each alone, each prefix and suffix of the writes
//	from 1<<32   power cut, random with the outcome as seed: also torn sectors and stale bytes in a grown part
//	from 1<<33   kill like 0 or 1, but another life afterwards

const (
	crashKill        = 0
	crashKillPartial = 1
	crashFirstPower  = 2
	crashRandomPower = 1 << 32
	crashRandomKill  = 1 << 33
	crashExhaustive  = 4096 // enumerate every combination up to this many
)

func outcomeName(outcome uint64) string {
	switch {
	case outcome == crashKill:
		return "kill"
	case outcome == crashKillPartial:
		return "kill in the middle of a write"
	case outcome < crashRandomPower:
		return "power cut, enumerated"
	case outcome < crashRandomKill:
		return "power cut, random"
	}
	return "kill, random"
}

// crashPlan enumerates the power cuts of one disk state.
type crashPlan struct {
	dirty   []*simSectorState // in order of their first write
	choices []*simSectorState // those of dirty of which some version differs from the medium
	lengths []simLength
	times   []uint64 // of the writes, ascending
	pages   [][]int  // indexes of choices by page, in order of first write
	every   bool     // enumerate every combination
	power   uint64   // number of enumerated power cuts
	disk    *simDisk // that the plan was made from; its lock is held
}

// plan must be called with the lock held, and used until it is given up.
func (d *simDisk) plan() *crashPlan {
	p := &crashPlan{disk: d}
	p.dirty = d.sorted(func(s *simSectorState) bool { return s.dirty })
	combinations := uint64(1)
	pageIndex := make([]int32, len(d.live)/simPageSize) // in p.pages, plus one
	for _, s := range p.dirty {
		if !slices.ContainsFunc(s.versions, func(v simVersion) bool { return !bytes.Equal(v.data, s.durable) }) {
			continue
		}
		page := s.no * simSectorSize / simPageSize
		if pageIndex[page] == 0 {
			p.pages = append(p.pages, nil)
			pageIndex[page] = int32(len(p.pages))
		}
		i := pageIndex[page] - 1
		p.pages[i] = append(p.pages[i], len(p.choices))
		p.choices = append(p.choices, s)
		for _, v := range s.versions {
			p.times = append(p.times, v.seq)
		}
		if combinations <= crashExhaustive {
			combinations *= uint64(len(s.versions) + 1)
		}
	}
	slices.Sort(p.times)
	p.times = slices.Compact(p.times)
	p.lengths = d.lengths
	combinations *= uint64(len(p.lengths))
	if p.every = combinations <= crashExhaustive; p.every {
		p.power = combinations
	} else {
		p.power = uint64(len(p.lengths)) * uint64(2+2*len(p.choices)+2*len(p.pages)+2*len(p.times))
	}
	return p
}

// isGentle exempts the first moment of a store: a file of one block, of which a torn sector or stale bytes cannot be
// told from somebody else's file.
func (d *simDisk) isGentle() bool { return d.gentle && d.sizeNow <= simPageSize }

// crashOutcome is what a power cut makes of the unsynced state: for each of the plan's choices the version
// that persisted (-1: none), the length, and the sectors that were in flight.
type crashOutcome struct {
	version []int
	length  simLength
	torn    map[int64]uint64 // sector number: seed of its garbage
	stale   uint64           // 0, or seed of the stale bytes in the part that was grown and not synced
}

const newestVersion = 1 << 30

// enumerated returns the k-th enumerated outcome, 0 ≤ k < p.power.
func (p *crashPlan) enumerated(k uint64) crashOutcome {
	o := crashOutcome{version: make([]int, len(p.choices))}
	o.length = p.lengths[k%uint64(len(p.lengths))]
	k /= uint64(len(p.lengths))
	if p.every {
		for i, s := range p.choices {
			n := uint64(len(s.versions) + 1)
			o.version[i] = int(k%n) - 1
			k /= n
		}
		return o
	}
	all := func(v int) {
		for i := range o.version {
			o.version[i] = v
		}
	}
	// The groups follow one another: none, all, then one outcome for each index of each group.
	i := int(k)
	within := func(n int) bool {
		if i < n {
			return true
		}
		i -= n
		return false
	}
	switch {
	case within(1):
		all(-1)
	case within(1):
		all(newestVersion)
	case within(len(p.choices)):
		all(newestVersion)
		o.version[i] = -1
	case within(len(p.choices)):
		all(-1)
		o.version[i] = newestVersion
	case within(len(p.pages)):
		all(newestVersion)
		for _, j := range p.pages[i] {
			o.version[j] = -1
		}
	case within(len(p.pages)):
		all(-1)
		for _, j := range p.pages[i] {
			o.version[j] = newestVersion
		}
	case within(len(p.times)): // prefix: the writes up to times[i]
		for j, s := range p.choices {
			o.version[j] = -1
			for v := range s.versions {
				if s.versions[v].seq <= p.times[i] {
					o.version[j] = v
				}
			}
		}
	default: // suffix: only the writes from times[i] on
		for j, s := range p.choices {
			o.version[j] = -1
			if s.versions[len(s.versions)-1].seq >= p.times[i] {
				o.version[j] = newestVersion
			}
		}
	}
	return o
}

// random returns a power cut chosen by rng.
func (p *crashPlan) random(rng *rand.Rand) crashOutcome {
	o := crashOutcome{version: make([]int, len(p.choices)), torn: map[int64]uint64{}}
	o.length = p.lengths[rng.IntN(len(p.lengths))]
	if i := rng.IntN(len(p.lengths)); i > 0 && !p.disk.isGentle() && rng.IntN(4) == 0 {
		if from, to := p.lengths[i-1], p.lengths[i]; from.size < to.size { // a length that was reached on the way
			o.length = simLength{from.size + rng.Int64N((to.size-from.size)/simPageSize+1)*simPageSize, to.seq}
		}
	}
	persists := []float64{0.1, 0.5, 0.9}[rng.IntN(3)]
	some := func(s *simSectorState) int {
		if rng.Float64() >= persists {
			return -1
		}
		if rng.IntN(3) > 0 {
			return newestVersion
		}
		return rng.IntN(len(s.versions))
	}
	if len(p.pages) == 1 || rng.IntN(2) == 0 {
		for i, s := range p.choices {
			o.version[i] = some(s)
		}
	} else {
		for _, page := range p.pages {
			v := some(p.choices[page[0]])
			for _, i := range page {
				o.version[i] = v
			}
		}
	}
	if !p.disk.cfg.noTear && !p.disk.isGentle() && len(p.dirty) > 0 && rng.IntN(2) == 0 {
		for range 1 + rng.IntN(2) {
			o.torn[p.dirty[rng.IntN(len(p.dirty))].no] = rng.Uint64()
		}
	}
	if !p.disk.isGentle() && rng.IntN(4) == 0 {
		o.stale = 1 + rng.Uint64N(1<<40)
	}
	return o
}

// content returns what is left of a sector with choice v.
func (s *simSectorState) content(v int) []byte {
	if v < 0 {
		return s.durable
	}
	return s.versions[min(v, len(s.versions)-1)].data
}

// possible returns the choice that goes with a length: a cut of the file persists with the length or not at all.
func (s *simSectorState) possible(v int, length simLength) int {
	v = min(v, len(s.versions)-1)
	for i, w := range s.versions {
		switch {
		case w.hole && w.seq > length.seq && v >= i:
			return i - 1
		case w.hole && w.seq <= length.seq && v < i:
			v = i
		}
	}
	return v
}

// tornContent is what a write that was cut leaves of a sector: noise or zeros, or the new bytes up to some place
// and then noise or the old ones.
func (s *simSectorState) tornContent(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 5))
	b := bytes.Clone(s.content(rng.IntN(len(s.versions))))
	from := 0
	if rng.IntN(2) == 0 {
		from = rng.IntN(len(b))
	}
	switch r := rng.IntN(4); {
	case r == 0 && from == 0:
		clear(b)
	case r <= 1:
		copy(b[from:], s.durable[from:])
	default:
		for i := from; i < len(b); i++ {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

// powerCut returns the disk that the outcome leaves.
func (p *crashPlan) powerCut(o crashOutcome) *simDisk {
	d := p.disk
	n := simDiskOf(d.cfg, d.live[:d.sizeNow])
	length := o.length.size
	if length > d.sizeNow {
		clear(n.live[d.sizeNow:length])
	}
	n.setSize(max(length, d.sizeNow))
	set := func(no int64, b []byte) {
		if (no+1)*simSectorSize <= n.sizeNow {
			copy(n.live[no*simSectorSize:], b)
		}
	}
	if o.stale != 0 {
		d.staleBytes(n, o.stale)
	}
	for _, s := range d.cache {
		if !s.dirty {
			set(s.no, s.durable)
		}
	}
	next := 0
	for _, s := range p.dirty {
		v := newestVersion
		if next < len(p.choices) && p.choices[next] == s {
			v = o.version[next]
			next++
		} else if o.stale>>(uint64(s.no)%32)&1 == 1 {
			v = -1 // writes that leave what the medium has: visible only over stale bytes
		}
		v = s.possible(v, o.length)
		if v < 0 && o.stale != 0 && s.no*simSectorSize >= p.lengths[0].size {
			continue // never written since the file grew: whatever staleBytes has put there
		}
		set(s.no, s.content(v))
		if seed, ok := o.torn[s.no]; ok {
			set(s.no, s.tornContent(seed))
		}
	}
	if length < n.sizeNow {
		simFill(n.live[length:n.sizeNow], simPoison)
		n.sizeNow = length
	}
	n.lengths = []simLength{{size: n.sizeNow}}
	n.gentle = d.gentle
	for no := range d.holes {
		if n.holes == nil {
			n.holes = map[int64]bool{}
		}
		n.holes[no] = true // also those whose blocks were not certain
	}
	n.remap()
	return n
}

// staleBytes fills the part of n that was grown and never synced with bytes from elsewhere in the file, page
// by page: what a file system that does not zero new blocks would show.
func (d *simDisk) staleBytes(n *simDisk, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 6))
	durable := d.lengths[0].size
	for off := durable; off+simPageSize <= n.sizeNow; off += simPageSize {
		switch {
		case durable == 0 || rng.IntN(3) == 0:
			for i := range n.live[off : off+simPageSize] {
				n.live[off+int64(i)] = byte(rng.Uint32())
			}
		default:
			from := rng.Int64N(durable/simPageSize+1) * simPageSize
			copy(n.live[off:off+simPageSize], d.live[from:])
		}
	}
}

// content is a hash of what a power cut has left.
func (d *simDisk) content() uint64 {
	h := xxhash.New()
	h.Write(d.live[:d.sizeNow])
	var b [8]byte
	for no := int64(0); len(d.holes) > 0 && no*simPageSize < int64(len(d.live)); no++ {
		if d.holes[no] {
			le.PutUint64(b[:], uint64(no))
			h.Write(b[:])
		}
	}
	return h.Sum64()
}

// killed returns the disk as the next process finds it after this one was killed during c.
func (d *simDisk) killed(c simCall, partial bool, seed uint64) *simDisk {
	n := simDiskOf(d.cfg, d.live[:d.sizeNow])
	n.seq, n.wbErr, n.gone, n.gentle = d.seq, d.wbErr, d.gone, d.gentle
	n.lengths, n.holes = slices.Clone(d.lengths), maps.Clone(d.holes)
	n.parent = d
	d.heirs++
	for _, s := range d.cache {
		t := n.track(s.no)
		t.durable, t.dirty, t.versions = s.durable, s.dirty, append(t.versions, s.versions...)
	}
	if partial && c.seq != 0 && c.len > simPageSize {
		from := c.off + rand.New(rand.NewPCG(seed, 7)).Int64N(c.len/simPageSize)*simPageSize
		for no := from / simSectorSize; no*simSectorSize < c.off+c.len; no++ {
			n.unwrite(no, c.seq)
		}
	}
	n.remap()
	return n
}

// unwrite takes the version of write seq out of a sector, if it is the newest.
func (d *simDisk) unwrite(no int64, seq uint64) {
	s := d.sectors[no]
	if s == nil || !s.dirty || s.versions[len(s.versions)-1].seq != seq {
		return
	}
	s.versions = s.versions[:len(s.versions)-1]
	if len(s.versions) == 0 {
		copy(d.live[no*simSectorSize:], s.durable)
		d.forget(s)
		return
	}
	copy(d.live[no*simSectorSize:], s.versions[len(s.versions)-1].data)
}

// simMoment is a disk in the middle of a call, of which any number of crashes are made; the disk does nothing meanwhile.
type simMoment struct {
	disk *simDisk
	call simCall
	plan *crashPlan
}

func (d *simDisk) moment(c simCall) *simMoment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &simMoment{d, c, d.plan()}
}

// crash returns what the given outcome of a crash during c leaves, also while others use the disk.
func (d *simDisk) crash(c simCall, outcome uint64) *simDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return (&simMoment{d, c, d.plan()}).left(outcome)
}

// crash returns what the given outcome leaves.
func (m *simMoment) crash(outcome uint64) *simDisk {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.left(outcome)
}

// left is crash for a caller that has the disk's lock.
func (m *simMoment) left(outcome uint64) *simDisk {
	d, p := m.disk, m.plan
	switch {
	case outcome == crashKill:
		return d.killed(m.call, false, 0)
	case outcome == crashKillPartial, outcome >= crashRandomKill:
		return d.killed(m.call, outcome%2 == 1, outcome)
	}
	if k := outcome - crashFirstPower; k < p.power {
		return p.powerCut(p.enumerated(k))
	}
	return p.powerCut(p.random(rand.New(rand.NewPCG(outcome, 8))))
}

// someOutcome returns one outcome.
func (m *simMoment) someOutcome(rng *rand.Rand) uint64 {
	p := m.plan
	switch r := rng.IntN(10); {
	case r < 2:
		return crashKill
	case r < 5:
		return crashFirstPower + rng.Uint64N(p.power)
	case r < 6:
		return crashFirstPower + rng.Uint64N(min(p.power, 2)) // usually: nothing persists, or all
	default:
		return crashRandomPower + rng.Uint64N(1<<31)
	}
}

// outcomes returns up to budget outcomes: all enumerated ones if they fit, always the two
// kills and the power cuts that keep nothing and everything, for the rest a choice by rng.
func (m *simMoment) outcomes(budget int, rng *rand.Rand) []uint64 {
	p := m.plan
	list := []uint64{crashKill}
	if m.call.seq != 0 && m.call.len > simPageSize {
		list = append(list, crashKillPartial)
	}
	enumerated := min(p.power, uint64(max(2, budget/2)))
	if enumerated == p.power {
		for k := range p.power {
			list = append(list, crashFirstPower+k)
		}
	} else {
		list = append(list, crashFirstPower, crashFirstPower+1)
		for range enumerated - 2 {
			list = append(list, crashFirstPower+2+rng.Uint64N(p.power-2))
		}
	}
	for len(list) < budget {
		if len(p.dirty) > 0 && rng.IntN(4) > 0 {
			list = append(list, crashRandomPower+rng.Uint64N(1<<31))
		} else {
			list = append(list, crashRandomKill+rng.Uint64N(1<<31))
		}
	}
	return list
}
