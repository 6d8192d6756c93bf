package alder

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"runtime/debug"
	"slices"
)

// A transaction that puts very many keys at random places meets another leaf with each: when the dirty pages are more than may stay in
// memory, every put brings one back and sends one away. From then on puts are collected and done in the order of their keys,
// many at a time, so that each leaf comes and goes once for all that it gets. (The idea is that of the buffers in
// buffer trees: L. Arge, WADS 1995.)
//
// Puts of one bucket are collected. Whatever else is done with that bucket has them done first (Bucket.usable, Bucket.flush), so nobody sees
// the difference; the record for the redo log has them in the order in which they came.

// putBuffer is the memory for it.
type putBuffer struct {
	bucket  *Bucket // whose puts they are; nil: none
	entries []bufferedPut
	arena   []byte // keys and values
	memory  []byte // behind the arena
	room    int    // bytes that both may take
}

// reserve takes the memory for n puts with that many bytes in all. It is not on the heap, which the garbage collector would let grow by as much again.
func (buf *putBuffer) reserve(n, size int) (err error) {
	if buf.memory, err = alignedBuffer(max(size, 1)); err != nil {
		return err
	}
	buf.arena = buf.memory[:0]
	buf.entries = make([]bufferedPut, 0, n)
	return nil
}

// release gives the memory back. Nobody has a slice of it afterwards.
func (buf *putBuffer) release(ws *workspace) error {
	memory := buf.memory
	*buf = putBuffer{}
	if memory == nil {
		return nil
	}
	clear(ws.cells[:cap(ws.cells)]) // some of which were in it
	return releaseMemory(memory)
}

// bufferedPut is one put. Its head orders most keys without a look at them.
type bufferedPut struct {
	head       uint64
	at         int
	key, value int32 // lengths
}

// bufferPart is the part of the memory for dirty pages that stays theirs when the rest is used to collect puts.
const bufferPart = 4

// bufferedPutBytes is what one entry takes.
const bufferedPutBytes = 24

// collects reports whether puts to b can be collected: its tree is larger than memory, and has no cells but plain ones, so that a put
// cannot fail because of what is there.
func (b *Bucket) collects() bool {
	tx := b.tx
	if tx.w.stats.Spill == 0 || b.tree.root.id == 0 {
		return false
	}
	root, err := tx.readPage(b.tree.root)
	if err != nil || !root.isBranch() {
		return false
	}
	for i := range root.count() {
		if _, refs := root.childCount(i); refs {
			return false
		}
	}
	return true
}

// collect takes a put of b into the buffer; false if it must be done at once. The caller has checked the arguments.
func (b *Bucket) collect(key, value []byte) (bool, error) {
	tx := b.tx
	buf := &tx.w.puts
	if buf.bucket != b {
		if err := tx.drain(); err != nil {
			return false, err
		}
		if !b.tree.jumps(tx, key) || !b.collects() {
			return false, nil
		}
		buf.bucket = b
	}
	pageSize := tx.pager.pageSize
	if len(key) > maxInlineKey(pageSize) || len(key)+len(value) > maxCell(pageSize)/2 {
		return false, tx.drain()
	}
	if buf.arena == nil {
		limit := tx.w.dirtyLimit / bufferPart
		room := tx.pager.opts.dirtyLimit - limit
		// As many as if all were like the first one, so that entries need not grow. They may be longer; bytes that are not used cost nothing.
		if buf.reserve(room/(len(key)+len(value)+bufferedPutBytes), room) != nil {
			return false, tx.drain() // it only takes longer without
		}
		tx.w.dirtyLimit, buf.room = limit, room
	}
	if len(buf.arena)+len(key)+len(value)+(len(buf.entries)+1)*bufferedPutBytes > buf.room {
		if err := tx.drain(); err != nil {
			return false, err
		}
		buf.bucket = b
	}
	buf.entries = append(buf.entries, bufferedPut{putHead(key), len(buf.arena), int32(len(key)), int32(len(value))})
	buf.arena = append(append(buf.arena, key...), value...)
	return true, nil
}

// putHead is the first eight bytes of a key as a number that orders as they do; shorter keys end in zeros.
func putHead(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

// drain does the puts that have been collected. An error makes the transaction worthless.
func (tx *Tx) drain() error {
	if tx.w == nil || tx.w.puts.bucket == nil {
		return nil
	}
	buf := &tx.w.puts
	b := buf.bucket
	buf.bucket = nil // before anything that asks for the bucket's puts to be done
	err := tx.setErr(buf.apply(b))
	buf.entries, buf.arena = buf.entries[:0], buf.arena[:0]
	return err
}

// apply does the puts in the order of their keys.
func (buf *putBuffer) apply(b *Bucket) (err error) {
	tx := b.tx
	defer tx.endWrite(debug.SetPanicOnFault(true), &err)
	key := func(e bufferedPut) []byte { return buf.arena[e.at : e.at+int(e.key)] }
	slices.SortFunc(buf.entries, func(x, y bufferedPut) int {
		if x.head != y.head {
			return cmp.Compare(x.head, y.head)
		}
		if d := bytes.Compare(key(x), key(y)); d != 0 {
			return d
		}
		return cmp.Compare(x.at, y.at)
	})
	for i, e := range buf.entries {
		k := key(e)
		if i+1 < len(buf.entries) && e.head == buf.entries[i+1].head && bytes.Equal(k, key(buf.entries[i+1])) {
			continue // a later put of the same key
		}
		if err := tx.spill(); err != nil {
			return err
		}
		value := buf.arena[e.at+int(e.key) : e.at+int(e.key)+int(e.value)]
		if _, err := b.tree.put(tx, k, value, 0); err != nil {
			return err
		}
	}
	return nil
}
