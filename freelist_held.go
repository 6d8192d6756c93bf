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
	n := 0
	for _, runs := range f.pending {
		n += len(runs)
	}
	step := n/heldSample + 1
	// A run that hangs on snapshot s is held by the snapshots from its birth to s: add at the first of them, take away behind the last.
	delta := make([]int64, len(ids)+1)
	at := 0
	for s, runs := range f.pending {
		last, exact := slices.BinarySearch(ids, s)
		if exact {
			last++
		}
		for ; at < len(runs); at += step {
			r := runs[at]
			first, _ := slices.BinarySearch(ids, r.birth)
			if first < last {
				delta[first] += int64(r.n * step)
				delta[last] -= int64(r.n * step)
			}
		}
		at -= len(runs)
	}
	pages := make([]int64, len(ids))
	var sum int64
	for i := range pages {
		sum += delta[i]
		pages[i] = sum
	}
	return pages
}
