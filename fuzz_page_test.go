package alder

import (
	"bytes"
	"testing"
	"time"
)

// noReader is a pageReader that finds nothing.
type noReader struct{}

func (noReader) readPage(r pageRef) (page, error)      { return nil, corrupt(r.id, "not there") }
func (noReader) readRun(r overflowRef) ([]byte, error) { return nil, corrupt(r.id, "not there") }

// Ensures that no bytes of a page make the code that reads or edits pages panic or hang: either validate refuses
// them, or everything that relies on validate works within the page.
func FuzzPage(f *testing.F) {
	for _, pageSize := range []int{4096, 8192} {
		s := newSabotageTarget(f, pageSize)
		for i := range s.pages() {
			f.Add(s.image[i*pageSize : (i+1)*pageSize])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		watch := time.AfterFunc(20*time.Second, func() { panic("FuzzPage: a page is not finished with") })
		defer watch.Stop()
		p := make(page, max(minPageSize, min(len(data), maxPageSize)))
		copy(p, data)
		for slot := range 2 {
			if m, err := decodeMeta(p, slot); err == nil {
				buf := make([]byte, metaSize)
				m.encode(buf, slot)
			}
		}
		if p.validate() != nil {
			return
		}
		before := bytes.Clone(p)
		if p.isBranch() {
			readBranch(p)
		} else {
			readLeaf(p, 0)
		}
		if !bytes.Equal(before, p) {
			t.Fatal("reading has changed the page")
		}
		if !p.isBranch() {
			editLeaf(p)
		}
	})
}

// readLeaf uses all that a validated leaf offers to readers.
func readLeaf(p page, depth int) {
	n := p.count()
	p.space()
	p.used()
	for i := 0; i < n; i++ {
		readWindow(p, i, false)
		readWindow(p, i, true)
		c := p.cell(i)
		c.size(p.flags())
		if len(c.prefixable()) > 0 {
			c.headAfter(p.prefixLen())
		}
		p.cellKey(i)
		if c.flags&cellOverflowKey != 0 {
			keyRef(c.key)
		}
		if c.flags&cellOverflowValue != 0 {
			loadRef(c.value)
		}
		if c.flags&cellBucket != 0 {
			if t, _ := decodeBucket(c.value); t.inline != nil && depth < 4 {
				readLeaf(t.inline, depth+1)
			}
		}
		if i%7 == 0 {
			searchAround(p, c.key, func(key []byte) { searchLeaf(p, key, noReader{}) })
		}
	}
	searchAround(p, []byte("k"), func(key []byte) { searchLeaf(p, key, noReader{}) })
}

// readWindow holds the cells of a window that begins or ends at slot i against the leaf's own.
func readWindow(p page, i int, backward bool) {
	var w window
	if !w.fill(p, i, backward) {
		return
	}
	if int(w.first+w.at) != i {
		panic("the window stands at another slot")
	}
	for k := range w.filled {
		key, value := w.pair(k)
		if c := p.cell(int(w.first + k)); !bytes.Equal(c.key, key) || !bytes.Equal(c.value, value) || cap(key) != len(key) || cap(value) != len(value) {
			panic("the window shows another pair")
		}
	}
}

func readBranch(p page) {
	var e branchEntry
	var arena []byte
	for i := range p.count() {
		e, arena = p.entry(i, arena[:0])
		p.child(i)
		p.childCount(i)
		if e.overflow {
			keyRef(e.separator)
		}
		if i > 0 {
			e.headAfter(p.prefixLen())
		}
		searchAround(p, bytes.Clone(e.separator), func(key []byte) { searchBranch(p, key, noReader{}) })
	}
}

// searchAround searches for a key, its neighbors and its beginnings.
func searchAround(p page, key []byte, search func(key []byte)) {
	search(key)
	search(append(bytes.Clone(key), 0))
	if len(key) > 0 {
		search(key[:len(key)-1])
		search(key[:len(key)/2])
	}
	if plen := p.prefixLen(); plen <= len(key) {
		search(key[:plen])
	}
	search(nil)
	search(bytes.Repeat([]byte{0xFF}, 40))
}

// editLeaf changes a validated leaf in place, as the writer does with its copy.
func editLeaf(p page) {
	for _, c := range []leafCell{{key: []byte("k"), value: []byte("v")}, {key: []byte("key of some length"), value: make([]byte, 100)}} {
		q := bytes.Clone(p)
		page(q).insertCell(page(q).count()/2, c)
	}
	for n := p.count(); n > 0; n = p.count() {
		i := n / 2
		c := p.cell(i)
		p.replaceValue(i, leafCell{key: c.key, value: bytes.Repeat([]byte{1}, len(c.value))})
		p.removeCell(i)
		c = leafCell{key: bytes.Clone(c.key), value: bytes.Clone(c.value), flags: c.flags}
		if n%3 == 0 && p.insertCell(i, c) {
			p.removeCell(i)
		}
	}
}
