package alder

import (
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/alderdb/alder/internal/prefetch"
)

// A lookup of one key spends most of its time waiting for memory: a page's header, its heads, the cell, each known only when the one
// before has arrived. GetMulti takes several keys down the tree side by side, so that they wait at the same time. A
// processor has room for ten or more such waits; Go has no prefetch instruction, but loads that nothing depends on do the
// same. (C. Kim et al., "FAST", SIGMOD 2010, and S. Chen et al. on group prefetching, ICDE 2004, have the idea.)

// multiWidth is the number of keys that go down side by side.
const multiWidth = 16

// GetMulti looks up all keys and returns their values in the same order, each as Get would return it. It uses the memory
// of values if that is long enough. For keys in no particular order in a large store it is much faster than as many Gets;
// the order of keys does not matter.
func (b *Bucket) GetMulti(keys [][]byte, values [][]byte) [][]byte {
	values = slices.Grow(values[:0], len(keys))[:len(keys)]
	clear(values)
	if b.usable(false) != nil {
		return values
	}
	defer b.tx.endRead(debug.SetPanicOnFault(true))
	for i := 0; i < len(keys); i += multiWidth {
		end := min(i+multiWidth, len(keys))
		if err := b.getGroup(keys[i:end], values[i:end]); err != nil {
			b.tx.setErr(err)
			clear(values[i:])
			return values
		}
	}
	return values
}

// getGroup looks up at most multiWidth keys.
func (b *Bucket) getGroup(keys, values [][]byte) error {
	tx := b.tx
	root, err := b.tree.rootPage(tx)
	if err != nil {
		return err
	}
	var pages [multiWidth]page
	var refs [multiWidth]pageRef
	for i := range keys {
		pages[i] = root
	}
	for depth := 0; pages[0].isBranch(); depth++ {
		if depth == maxDepth {
			return tooDeep(pages[0])
		}
		for i, k := range keys {
			j, err := searchBranch(pages[i], k, tx)
			if err != nil {
				return err
			}
			refs[i] = pages[i].child(j)
			tx.warm(refs[i])
		}
		for i := range keys {
			if pages[i], err = tx.readPage(refs[i]); err != nil {
				return err
			}
			if pages[i].isBranch() != pages[0].isBranch() {
				return corrupt(refs[i].id, "a leaf and a branch lie at the same depth")
			}
		}
	}
	var slots [multiWidth]int
	for i, k := range keys {
		slots[i] = warmCell(pages[i], k)
	}
	for i, k := range keys {
		j, exact, err := searchLeafFrom(pages[i], k, slots[i], tx)
		if err != nil {
			return err
		}
		if !exact {
			continue
		}
		if values[i], err = b.value(pages[i], j); err != nil {
			return err
		}
	}
	return nil
}

// warm asks for the first lines of the page that r means, if it lies in the mapping.
func (tx *Tx) warm(r pageRef) {
	s := tx.snap
	if r.id >= s.highWater || tx.w != nil && r.birth > tx.w.written {
		return
	}
	if s.cold.active() && !s.verified.has(r.id) {
		s.cold.announce(r.id, r.id+1, s.shift) // the disk too can work on all of them at the same time
		return
	}
	warmBytes(s.raw(r.id, 1)[:firstLines])
}

// warmCell asks for the cell where key is likely to be found, and returns its slot.
func warmCell(p page, key []byte) int {
	n := p.count()
	j := p.lowerHead(0, n, headAfter(key, p.prefixLen()))
	if j < n {
		off := p.cellOffset(j, n)
		warmBytes(p[off:min(off+cacheLine, len(p))])
	}
	return j
}

// warmBytes brings b, which is a few lines, closer to the processor.
func warmBytes(b []byte) {
	if prefetch.Works {
		prefetch.Bytes(b)
		return
	}
	var sum byte
	for i := 0; i < len(b); i += cacheLine {
		sum += b[i]
	}
	runtime.KeepAlive(sum)
}
