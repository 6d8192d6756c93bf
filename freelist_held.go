package alder

import (
	"slices"
)

// heldSample is how many pending runs are looked at to say what each snapshot holds.
const heldSample = 1 << 16

// held returns, for each of the snapshots in ids, which ascend, how many pages are pending that it has: what would be free, or could be
// freed by a checkpoint, if nobody read it or any other snapshot that has the same page. Of very many pending runs only some are looked at, and
// the rest is taken to be like them.
func (f *freelist) held(ids []txid) []int64 {
	step := f.pending.count()/heldSample + 1
	// A run is held by the snapshots from its birth to the one on which it hangs: add at the first of them, take away behind the last.
	delta := make([]int64, len(ids)+1)
	add := func(s txid, r freedRun, times int) {
		last, exact := slices.BinarySearch(ids, s)
		if exact {
			last++
		}
		first, _ := slices.BinarySearch(ids, r.birth)
		if first < last {
			delta[first] += int64(r.n * times)
			delta[last] -= int64(r.n * times)
		}
	}
	for _, r := range f.retainedRuns {
		add(logged, r, 1)
	}
	for s, r := range f.pending.all(step) {
		add(s, r, step)
	}
	pages := make([]int64, len(ids))
	var sum int64
	for i := range pages {
		sum += delta[i]
		pages[i] = sum
	}
	return pages
}
