package alder

import (
	"slices"
	"sync"
)

// Pages of committed transactions that are not in the file yet. The writer finds here what the mapping does not show; readers need none
// of it, for before they get a snapshot its pages are written (pager.materialize).
//
// A page that is given up before anybody needed it in the file is never written: that is how transactions that change the same
// pages again and again share their cost.
//
// Why no lock guards the table: only the holder of the writer lock uses it. Others see the queue, under mu, whose
// entries lead to pages that never change. Pages on their way to the file belong to a pinned snapshot, so they are not given up
// meanwhile. The buffer of a page goes back to the pool when no transaction can have slices of it: when none is at work.
type unwrittenPages struct {
	// Writer only.
	table  []*unwrittenChunk // by pgid / unwrittenSpan
	chunks []*unwrittenChunk // empty ones
	pool   []page
	inUse  bool // a transaction is at work, which may have slices of pages that are given up

	mu      sync.Mutex       // guards what follows, and freed of the entries
	queue   []*unwrittenPage // by birth
	dropped int              // entries of queue that were given up
	live    int              // the others
	written []*unwrittenPage // not in queue any more, but in table
	idle    []*unwrittenPage // entries to be used again
}

type unwrittenPage struct {
	id      pgid
	birth   txid
	freed   txid // transaction that freed it; 0: none
	p       page // nil: given up
	written bool // and in the list of those
}

// unwrittenChunk has the entries of unwrittenSpan pages.
type unwrittenChunk struct {
	pages [unwrittenSpan]*unwrittenPage
	used  int
}

const (
	unwrittenSpan   = 64
	maxPooled       = 16 << 20 // bytes of buffers that the pool keeps
	maxIdleChunks   = 1 << 10
	unwrittenBlock  = 64 // entries that are made at a time
	maxIdleEntries  = 1 << 14
	dropsBeforeTidy = 64
)

// entry returns the entry of page id; nil if there is none.
func (u *unwrittenPages) entry(id pgid) *unwrittenPage {
	if i := int(id / unwrittenSpan); i < len(u.table) && u.table[i] != nil {
		return u.table[i].pages[id%unwrittenSpan]
	}
	return nil
}

// set gives page id an entry in the table.
func (u *unwrittenPages) set(id pgid, e *unwrittenPage) {
	i := int(id / unwrittenSpan)
	for len(u.table) <= i {
		u.table = append(u.table, nil)
	}
	c := u.table[i]
	if c == nil {
		if n := len(u.chunks); n > 0 {
			c, u.chunks = u.chunks[n-1], u.chunks[:n-1]
		} else {
			c = &unwrittenChunk{}
		}
		u.table[i] = c
	}
	if c.pages[id%unwrittenSpan] == nil {
		c.used++
	}
	c.pages[id%unwrittenSpan] = e
}

// remove takes the entry of page id, which has one, out of the table.
func (u *unwrittenPages) remove(id pgid) {
	i := int(id / unwrittenSpan)
	c := u.table[i]
	c.pages[id%unwrittenSpan] = nil
	if c.used--; c.used == 0 {
		u.table[i] = nil
		if len(u.chunks) < maxIdleChunks {
			u.chunks = append(u.chunks, c)
		}
	}
}

// find returns the page that r refers to, if it is here.
func (u *unwrittenPages) find(r pageRef) page {
	if e := u.entry(r.id); e != nil && e.birth == r.birth {
		return e.p
	}
	return nil
}

// buffer returns a page to write on.
func (u *unwrittenPages) buffer(size int) page {
	if n := len(u.pool); n > 0 {
		p := u.pool[n-1]
		u.pool = u.pool[:n-1]
		return p
	}
	return make(page, size)
}

func (u *unwrittenPages) recycle(p page) {
	if !u.inUse && len(u.pool)*len(p) < maxPooled {
		u.pool = append(u.pool, p)
	}
}

// ref is the page with its number that a transaction hands over.
type handedPage struct {
	id pgid
	p  page
}

// add takes over pages of transaction birth, which is newer than all that are here.
func (u *unwrittenPages) add(birth txid, pages []handedPage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, h := range pages {
		if len(u.idle) == 0 {
			block := make([]unwrittenPage, unwrittenBlock)
			for i := range block {
				u.idle = append(u.idle, &block[i])
			}
		}
		e := u.idle[len(u.idle)-1]
		u.idle = u.idle[:len(u.idle)-1]
		*e = unwrittenPage{id: h.id, birth: birth, p: h.p}
		u.set(h.id, e)
		u.queue = append(u.queue, e)
	}
	u.live += len(pages)
}

// renew puts p, a newer version, in the place of the page of the same number and birth, which is part of no pinned snapshot.
func (u *unwrittenPages) renew(p page) {
	e := u.entry(p.id())
	u.mu.Lock()
	old := e.p
	e.p = p
	u.mu.Unlock()
	u.recycle(old)
}

// free notes that transaction id has freed the page that r refers to: snapshots from id on do not need it.
func (u *unwrittenPages) free(r pageRef, id txid) {
	if e := u.entry(r.id); e != nil && e.birth == r.birth {
		u.mu.Lock()
		e.freed = id
		u.mu.Unlock()
	}
}

// drop forgets page id, which no snapshot needs. No transaction may be at work but the one that ends.
func (u *unwrittenPages) drop(id pgid) {
	e := u.entry(id)
	if e == nil {
		return
	}
	u.remove(id)
	u.mu.Lock()
	defer u.mu.Unlock()
	if e.written {
		return // settle has its buffer
	}
	u.recycle(e.p)
	e.p = nil
	u.live--
	if u.dropped++; u.dropped > dropsBeforeTidy && u.dropped > u.live {
		u.tidy()
	}
}

// tidy takes out of the queue what need not be written any more. The caller has mu.
func (u *unwrittenPages) tidy() {
	u.queue = slices.DeleteFunc(u.queue, func(e *unwrittenPage) bool {
		if e.p == nil {
			u.retire(e)
		}
		return e.written || e.p == nil
	})
	u.dropped = 0
}

// retire keeps an entry that nothing leads to any more, to be used again. The caller has mu.
func (u *unwrittenPages) retire(e *unwrittenPage) {
	if len(u.idle) < maxIdleEntries {
		u.idle = append(u.idle, e)
	}
}

// settle forgets what has been written meanwhile. The writer calls it before its transaction begins.
func (u *unwrittenPages) settle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, e := range u.written {
		if u.entry(e.id) == e {
			u.remove(e.id)
		}
		u.recycle(e.p)
		u.retire(e)
		u.written[i] = nil
	}
	u.written = u.written[:0]
}

// count is the number of pages that are not written.
func (u *unwrittenPages) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.live
}

// due appends the pages that a snapshot of transaction id needs in the file. It must be pinned until done is called.
func (u *unwrittenPages) due(id txid, pages []*unwrittenPage) []*unwrittenPage {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.queue {
		if e.birth > id {
			break
		}
		if e.p != nil && (e.freed == 0 || e.freed > id) {
			pages = append(pages, e)
		}
	}
	return pages
}

// done notes that these pages are in the file.
func (u *unwrittenPages) done(pages []*unwrittenPage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range pages {
		e.written = true
	}
	u.live -= len(pages)
	u.written = append(u.written, pages...)
	u.tidy()
}
