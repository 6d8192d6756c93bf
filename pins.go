package alder

import (
	"slices"
	"sync"
)

// settledPins are the snapshots of readers that stay, each with the number of its readers. There may be very many of them, so the writer, who has to
// know what may be reused, does not look at all of them each time: he is told which have been let go of since he asked last.
type settledPins struct {
	mu    sync.Mutex
	ids   []txid // ascending
	count []int  // readers of each, at least one
	gone  []txid // let go of since takeGone
}

// add counts a reader of snapshot id.
func (p *settledPins) add(id txid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := slices.BinarySearch(p.ids, id)
	if ok {
		p.count[i]++
		return
	}
	p.ids, p.count = slices.Insert(p.ids, i, id), slices.Insert(p.count, i, 1)
}

// remove takes a reader of snapshot id away.
func (p *settledPins) remove(id txid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := slices.BinarySearch(p.ids, id)
	if !ok {
		panic("alder: a reader ends that nobody counted")
	}
	if p.count[i]--; p.count[i] == 0 {
		p.ids, p.count = slices.Delete(p.ids, i, i+1), slices.Delete(p.count, i, i+1)
		if n := len(p.gone); n == 0 || p.gone[n-1] != id { // the same one again and again, in a store that nobody writes to
			p.gone = append(p.gone, id)
		}
	}
}

// has reports whether id is among them.
func (p *settledPins) has(id txid) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := slices.BinarySearch(p.ids, id)
	return ok
}

// below returns the newest of them below id; 0: there is none.
func (p *settledPins) below(id txid) txid {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, _ := slices.BinarySearch(p.ids, id); i > 0 {
		return p.ids[i-1]
	}
	return 0
}

// oldest returns the oldest of them; 0: there is none.
func (p *settledPins) oldest() txid {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) == 0 {
		return 0
	}
	return p.ids[0]
}

// all appends all of them, each as often as it has readers.
func (p *settledPins) all(ids []txid) []txid {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, id := range p.ids {
		for range p.count[i] {
			ids = append(ids, id)
		}
	}
	return ids
}

// takeGone appends those that were let go of since it was called last. One of them may be there again.
func (p *settledPins) takeGone(ids []txid) []txid {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids = append(ids, p.gone...)
	p.gone = p.gone[:0]
	return ids
}
