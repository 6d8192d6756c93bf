package alder

import (
	"iter"
	"slices"
)

// Pending pages: freed, but still part of a snapshot that somebody may read.
//
// A page born at b and freed at f may be reused when no pinned snapshot s has b ≤ s < f. (Invariant 14) Each pending run hangs on the newest pinned
// snapshot that holds it. When that is let go of, those of its runs that the next older pinned snapshot does not hold become free, and the others hang
// there from then on. So an old reader does not hold what was born after it. Runs lie in blocks, of which the youngest birth is known, and blocks that
// move as a whole are not looked into; what is to be done at the begin of a transaction depends on the snapshots that were let go of, not on how many are
// pinned, nor on how many runs wait for them. Of very many runs that become free at once each transaction frees some.

// pendingBlock is a number of runs that hang on the same snapshot.
type pendingBlock struct {
	young txid // none is born after it
	runs  []freedRun
}

const (
	pendingBlockRuns = 256
	maxSpareBlocks   = 64
	pendingAtOnce    = 1 << 14 // pages that the begin of a transaction frees, about
)

// pendingList is what hangs on a snapshot.
type pendingList struct {
	young  txid // none is born after it
	blocks []*pendingBlock
}

// pendingRuns are all pending runs but those that the log refers to.
type pendingRuns struct {
	lists map[txid]*pendingList // by the newest pinned snapshot that holds them
	loose []txid                // keys of lists whose snapshots may be let go of without being told; one may be there twice
	spare []*pendingBlock
}

// of returns the list of snapshot s.
func (p *pendingRuns) of(s txid) *pendingList {
	l := p.lists[s]
	if l == nil {
		if p.lists == nil {
			p.lists = map[txid]*pendingList{}
		}
		l = &pendingList{}
		p.lists[s] = l
		p.loose = append(p.loose, s)
	}
	return l
}

// push lets a run hang on snapshot s.
func (p *pendingRuns) push(r freedRun, s txid) {
	l := p.of(s)
	n := len(l.blocks)
	if n == 0 || len(l.blocks[n-1].runs) == pendingBlockRuns {
		b := &pendingBlock{}
		if k := len(p.spare); k > 0 {
			b, p.spare = p.spare[k-1], p.spare[:k-1]
		}
		l.blocks = append(l.blocks, b)
		n++
	}
	b := l.blocks[n-1]
	b.runs = append(b.runs, r)
	b.young, l.young = max(b.young, r.birth), max(l.young, r.birth)
}

// add lets the runs of b hang on l too.
func (p *pendingRuns) add(l *pendingList, b *pendingBlock) {
	l.young = max(l.young, b.young)
	if n := len(l.blocks); n > 0 && len(l.blocks[n-1].runs)+len(b.runs) <= pendingBlockRuns {
		last := l.blocks[n-1]
		last.runs, last.young = append(last.runs, b.runs...), max(last.young, b.young)
		p.recycle(b)
		return
	}
	l.blocks = append(l.blocks, b)
}

func (p *pendingRuns) recycle(b *pendingBlock) {
	if len(p.spare) < maxSpareBlocks {
		b.runs, b.young = b.runs[:0], 0
		p.spare = append(p.spare, b)
	}
}

// join lets all that hangs on snapshot s hang on snapshot to.
func (p *pendingRuns) join(s, to txid) {
	from, l := p.lists[s], p.of(to)
	delete(p.lists, s)
	if len(from.blocks) > len(l.blocks) {
		*l, *from = *from, *l
	}
	for _, b := range from.blocks {
		p.add(l, b)
	}
}

// all yields each run, or one of step, with the snapshot on which it hangs.
func (p *pendingRuns) all(step int) iter.Seq2[txid, freedRun] {
	return func(yield func(txid, freedRun) bool) {
		at := 0
		for s, l := range p.lists {
			for _, b := range l.blocks {
				for ; at < len(b.runs); at += step {
					if !yield(s, b.runs[at]) {
						return
					}
				}
				at -= len(b.runs)
			}
		}
	}
}

// count is the number of runs, or a little more.
func (p *pendingRuns) count() (n int) {
	for _, l := range p.lists {
		n += len(l.blocks) * pendingBlockRuns
	}
	return n
}

// ---- of the freelist

// pinSet says which snapshots are pinned.
type pinSet struct {
	few     []txid       // ascending, without those of readers that stay
	settled *settledPins // those; nil: there are none
	gone    []txid       // of settled, those that were let go of since the last call
}

// below returns the newest pinned snapshot below id; 0: there is none.
func (p *pinSet) below(id txid) txid {
	var s txid
	if p.settled != nil {
		s = p.settled.below(id)
	}
	if i, _ := slices.BinarySearch(p.few, id); i > 0 {
		s = max(s, p.few[i-1])
	}
	return s
}

// hold keeps a freed run until the snapshots that hold it are let go. newest is the newest snapshot that is pinned now.
func (f *freelist) hold(r freedRun, newest txid) error {
	if r.birth > newest {
		return f.release(r.run)
	}
	f.pending.push(r, newest)
	f.pendingPages += r.n
	return nil
}

// unpin moves or frees the pending runs of snapshots that are no longer pinned, of those that become free about as many as have the given number
// of pages. It reports whether there are more.
func (f *freelist) unpin(pins *pinSet, pages int) (more bool, err error) {
	p := &f.pending
	loose := append(p.loose, pins.gone...)
	p.loose = nil
	k := 0
	defer func() {
		// What an error, or the panic of a fault, has left for the next try.
		p.loose = append(p.loose, loose[k:]...)
		slices.Sort(p.loose)
		p.loose = slices.Compact(p.loose)
	}()
	for ; k < len(loose); k++ {
		s := loose[k]
		if p.lists[s] == nil || pins.settled != nil && pins.settled.has(s) {
			continue // if that ends it will be told
		}
		if _, ok := slices.BinarySearch(pins.few, s); ok {
			p.loose = append(p.loose, s)
			continue
		}
		pages, err = f.letGoOf(s, pins.below(s), pages)
		if err != nil {
			return true, err
		}
		if p.lists[s] != nil {
			p.loose = append(p.loose, s)
			more = true
		}
	}
	return more, nil
}

// letGoOf frees what hangs on snapshot s but what older, the next older pinned one, holds too: that hangs on older now. older may be 0. It ends early when
// about the given number of pages are free, and returns how many are left of it.
func (f *freelist) letGoOf(s, older txid, pages int) (left int, err error) {
	p := &f.pending
	l := p.lists[s]
	for n := len(l.blocks); n > 0 && l.young > older; n-- {
		b := l.blocks[n-1]
		if b.young > older {
			if pages <= 0 {
				return 0, nil
			}
			if pages, err = f.freeYoung(b, older, pages); err != nil {
				return 0, err
			}
		}
		l.blocks = l.blocks[:n-1]
		if len(b.runs) > 0 {
			p.add(p.of(older), b)
		} else {
			p.recycle(b)
		}
	}
	if len(l.blocks) > 0 {
		p.join(s, older)
	}
	delete(p.lists, s)
	return pages, nil
}

// freeYoung frees what in b was born after older. After an error, or beside the panic of a fault, the rest is still there.
func (f *freelist) freeYoung(b *pendingBlock, older txid, pages int) (left int, err error) {
	var young txid
	for i := len(b.runs) - 1; i >= 0; i-- {
		r := b.runs[i]
		if r.birth <= older {
			young = max(young, r.birth)
			continue
		}
		if err := f.release(r.run); err != nil {
			return pages, err
		}
		f.pendingPages -= r.n
		pages -= r.n
		last := len(b.runs) - 1
		b.runs[i], b.runs = b.runs[last], b.runs[:last]
	}
	b.young = young
	return pages, nil
}

// allPending yields all pending runs, with the snapshot on which each hangs, or logged.
func (f *freelist) allPending() iter.Seq2[txid, freedRun] {
	return func(yield func(txid, freedRun) bool) {
		for _, r := range f.retainedRuns {
			if !yield(logged, r) {
				return
			}
		}
		f.pending.all(1)(yield)
	}
}

// forgetPending takes out of the pending runs those at or past end.
func (f *freelist) forgetPending(end pgid) {
	gone := func(r freedRun) bool {
		if r.id >= end {
			f.pendingPages -= r.n
		}
		return r.id >= end
	}
	f.retainedRuns = slices.DeleteFunc(f.retainedRuns, gone)
	for _, l := range f.pending.lists {
		for _, b := range l.blocks {
			b.runs = slices.DeleteFunc(b.runs, gone)
		}
	}
}

// ---- of the log

// logged stands for the log where the snapshot is meant on which a run hangs.
const logged = txid(maxTxid + 1)

// retain keeps a freed run that the log refers to: whatever is pinned, replay must find it until a checkpoint of its transaction, or a later
// one, is durable. (Invariant 41)
func (f *freelist) retain(r freedRun) {
	f.retainedRuns = append(f.retainedRuns, r)
	f.pendingPages += r.n
}

// retained is the number of pages in retained runs of transactions up to id.
func (f *freelist) retained(id txid) (pages int64) {
	for _, r := range f.retainedRuns {
		if r.birth <= id {
			pages += int64(r.n)
		}
	}
	return pages
}

// letGo treats the retained runs of transactions up to floor, which nobody will look for, like any that are freed.
func (f *freelist) letGo(floor, newest txid) error {
	runs := f.retainedRuns
	kept, k := runs[:0], 0
	defer func() { f.retainedRuns = append(kept, runs[k:]...) }() // after an error, or beside the panic of a fault, the rest is still there
	for ; k < len(runs); k++ {
		r := runs[k]
		if r.birth > floor {
			kept = append(kept, r)
			continue
		}
		if err := f.hold(r, newest); err != nil {
			return err
		}
		f.pendingPages -= r.n
	}
	return nil
}
