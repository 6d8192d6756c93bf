package alder

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math/bits"
)

// The check walks over everything a transaction can reach and holds it against the numbered invariants of docs/invariants.md. It
// trusts nothing that it has not verified: no loop and no recursion is longer than the store has pages.

// KVStringer turns keys and values into text for the messages of Tx.Check.
type KVStringer interface {
	KeyToString([]byte) string
	ValueToString([]byte) string
}

// HexKVStringer returns a KVStringer that writes hexadecimal digits.
func HexKVStringer() KVStringer { return hexStringer{} }

type hexStringer struct{}

func (hexStringer) KeyToString(b []byte) string   { return hex.EncodeToString(b) }
func (hexStringer) ValueToString(b []byte) string { return hex.EncodeToString(b) }

// CheckOption changes what Tx.Check does.
type CheckOption func(*checker)

// WithKVStringer sets how keys appear in messages; hexadecimal by default.
func WithKVStringer(s KVStringer) CheckOption { return func(c *checker) { c.text = s } }

// WithPageId checks only the tree page of that number and what lies below it.
func WithPageId(id uint64) CheckOption { return func(c *checker) { c.only = pgid(id) } }

// WithProgress lets fn be called now and then with the number of pages checked so far and of all pages.
func WithProgress(fn func(done, total int64)) CheckOption {
	return func(c *checker) { c.progress = fn }
}

// WithContext ends the check when ctx does, within the time that it takes to read a few pages or one long value. The check then yields the cause of
// that, as its last error.
func WithContext(ctx context.Context) CheckOption { return func(c *checker) { c.ctx = ctx } }

// Check verifies the store as the transaction sees it: the checksum of every page, the order of all keys, that separators, counts and
// references are right, and that every page is in use exactly once, or free. It yields one error for each thing that is
// wrong, and goes on behind it. A page that cannot be used is a *Damage, which says what it held and which keys are lost; other faults
// of the structure are a *CorruptionError. A whole store takes one read of the file. The loop may be left early; since a sound store
// gives it nothing to do, WithContext is the way to stop a check from outside.
//
// In a write transaction Check sees the transaction's own changes.
func (tx *Tx) Check(options ...CheckOption) iter.Seq[error] {
	return func(yield func(error) bool) {
		c := &checker{tx: tx, yield: yield, text: HexKVStringer()}
		for _, o := range options {
			o(c)
		}
		if err := tx.ready(false); err != nil {
			yield(err)
			return
		}
		if err := guarded(tx.snap.data, c.run); err != nil && err != errStopped {
			yield(err)
		}
	}
}

// errStopped ends a check whose caller has left the loop.
var errStopped = fmt.Errorf("alder: check was stopped")

type checker struct {
	tx       *Tx
	yield    func(error) bool
	text     KVStringer
	only     pgid
	progress func(done, total int64)
	ctx      context.Context // nil: nothing ends the check early

	seen  []uint64 // pages accounted for
	total pgid
	done  int64
	lost  bool // pages are in use below one that could not be read
}

func (c *checker) run() error {
	tx := c.tx
	if tx.w != nil {
		if err := tx.flushBuckets(); err != nil {
			return err
		}
		tx.look()
	}
	if err := c.interrupted(); err != nil {
		return err
	}
	c.total = tx.snap.highWater
	c.seen = make([]uint64, c.total/64+1)
	if c.only != 0 {
		return c.runBelow()
	}
	for id := pgid(0); id < firstPage; id++ {
		if err := c.claim(id, 1, "meta page"); err != nil {
			return err
		}
	}
	if err := c.bucket(&tx.root().tree, "root", nil); err != nil {
		return err
	}
	if err := c.interrupted(); err != nil {
		return err
	}
	return c.freePages()
}

func (c *checker) runBelow() error {
	if c.only < firstPage || c.only >= c.total {
		return c.report(fmt.Errorf("alder: check of page %d: pages are numbered from %d to %d", c.only, firstPage, c.total-1))
	}
	p := c.tx.snap.raw(c.only, 1)
	if k := p.kind(); k != kindLeaf && k != kindBranch {
		return c.report(fmt.Errorf("alder: check of page %d: it is a %v page, not one of a tree", c.only, k))
	}
	w := treeWalk{c: c, name: fmt.Sprintf("page %d", c.only), leafDepth: -1}
	_, err := w.page(pageRef{c.only, p.birth()}, 0, -1, nil, nil)
	return err
}

// report yields an error, and returns errStopped if the caller wants no more.
func (c *checker) report(err error) error {
	if !c.yield(err) {
		return errStopped
	}
	return nil
}

// interrupted returns the cause of the end of the context, if it has ended.
func (c *checker) interrupted() error {
	if c.ctx == nil || c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}

// claim notes that n pages from id on are in use for what. (Invariant 1) Every page goes through here, so this is where a check is interrupted.
func (c *checker) claim(id pgid, n int, what string) error {
	if err := c.interrupted(); err != nil {
		return err
	}
	if id+pgid(n) > c.total {
		return c.report(corrupt(id, "%s of %d pages passes the end of the store, which has %d", what, n, c.total))
	}
	for k := id; k < id+pgid(n); k++ {
		if c.seen[k/64]>>(k%64)&1 != 0 {
			return c.report(corrupt(k, "page is in use twice, the second time in %s", what))
		}
		c.seen[k/64] |= 1 << (k % 64)
	}
	c.done += int64(n)
	if c.progress != nil {
		c.progress(c.done, int64(c.total))
	}
	return nil
}

func (c *checker) inUse(id pgid) bool { return id < c.total && c.seen[id/64]>>(id%64)&1 != 0 }

// readRun claims and verifies an overflow run and returns its data; nil and what is wrong if it is bad.
func (c *checker) readRun(r overflowRef, what string) (data []byte, bad, err error) {
	n := runPages(r.length, c.tx.pager.pageSize)
	// A run that cannot be is not noted as one: what is in its place may be in use for something else.
	if r.id < c.total && pgid(n) <= c.total-r.id {
		if err := c.claim(r.id, n, what); err != nil {
			return nil, nil, err
		}
	}
	bad = guarded(c.tx.snap.data, func() (err error) {
		verified := r.id >= firstPage && r.id+pgid(n) <= c.total && c.tx.snap.verified.has(r.id)
		if data, err = c.tx.readRun(r); err != nil || !verified {
			return err
		}
		// Verified on an earlier read; the check reads the medium's bytes anew.
		if p := c.tx.snap.raw(r.id, n)[:pageHeader+r.length]; !p.sealed() {
			return corrupt(r.id, "checksum of an overflow run of %d bytes does not match", r.length)
		}
		return nil
	})
	if bad != nil {
		return nil, bad, nil
	}
	return data, nil, nil
}

// bucket checks a tree and the buckets nested in it. path leads to it from the top.
func (c *checker) bucket(t *tree, name string, path [][]byte) error {
	w := treeWalk{c: c, name: name, path: path, leafDepth: -1}
	if t.root.id == 0 {
		if t.inline == nil {
			return nil
		}
		_, err := w.leaf(t.inline, 0, nil, nil)
		return err
	}
	n, err := w.page(t.root, 0, int64(min(t.count, maxCount)), nil, nil)
	if err != nil {
		return err
	}
	if n != t.count && !w.damaged {
		return c.report(corrupt(t.root.id, "bucket %s has %d keys, its header counts %d", name, n, t.count))
	}
	return nil
}

// treeWalk is the check of one tree.
type treeWalk struct {
	c         *checker
	name      string
	path      [][]byte // of nested buckets, without the top
	leafDepth int      // -1 until the first leaf
	damaged   bool
	last      []byte // the key before
	any       bool
}

func (w *treeWalk) report(id pgid, format string, args ...any) error {
	w.damaged = true
	return w.c.report(corrupt(id, "bucket %s: "+format, append([]any{w.name}, args...)...))
}

// lose reports a page that cannot be used.
func (w *treeWalk) lose(id pgid, kind DamageKind, keys int64, from, to []byte, cause error) error {
	w.damaged = true
	switch kind {
	case DamagedValue, DamagedSeparator: // nothing hangs on them
	default:
		w.c.lost = true
	}
	path := make([][]byte, len(w.path))
	for i, name := range w.path {
		path[i] = bytes.Clone(name)
	}
	return w.c.report(&Damage{
		Page: uint64(id), Kind: kind, Bucket: path, From: bytes.Clone(from), To: bytes.Clone(to), Keys: keys, Err: cause, key: w.c.text.KeyToString,
	})
}

// kindAt is what the page at a depth must be, as far as that is known.
func (w *treeWalk) kindAt(depth int) DamageKind {
	switch {
	case w.leafDepth < 0:
		return DamagedTree
	case depth < w.leafDepth:
		return DamagedBranch
	}
	return DamagedLeaf
}

// page checks the subtree below r, whose keys must be in [lo, hi), nil for no bound, and returns their number. Its parent
// counts want keys, -1 if there is none.
func (w *treeWalk) page(r pageRef, depth int, want int64, lo, hi []byte) (uint64, error) {
	c := w.c
	if depth > maxDepth {
		c.lost = true
		return 0, w.report(r.id, "tree is deeper than %d levels", maxDepth)
	}
	if c.inUse(r.id) {
		return 0, w.report(r.id, "page is in use twice")
	}
	if r.id < c.total {
		// It is in use, whatever is wrong with it.
		if err := c.claim(r.id, 1, w.name); err != nil {
			return 0, err
		}
	}
	p, bad := c.readPage(r)
	if bad != nil {
		return 0, w.lose(r.id, w.kindAt(depth), want, lo, hi, bad)
	}
	if now := c.tx.number(); r.birth > now {
		if err := w.report(r.id, "page was born in transaction %d, which is in the future of %d", r.birth, now); err != nil {
			return 0, err
		}
	}
	if p.isBranch() {
		return w.branch(p, depth, lo, hi)
	}
	return w.leaf(p, depth, lo, hi)
}

// readPage reads a tree page and verifies it anew. (Invariants 2 and 3)
func (c *checker) readPage(r pageRef) (p page, err error) {
	err = guarded(c.tx.snap.data, func() (err error) {
		if p, err = c.tx.readPage(r); err != nil {
			return err
		}
		if !c.tx.inMemory(p) && !p.sealed() { // pages that are not in the file have no checksum yet
			return corrupt(r.id, "checksum does not match")
		}
		return p.validate()
	})
	return p, err
}

// branch checks a branch page. (Invariants 4 to 7)
func (w *treeWalk) branch(p page, depth int, lo, hi []byte) (uint64, error) {
	n := p.count()
	if n < 2 && depth >= 0 {
		if err := w.report(p.id(), "branch has %d children, must have two", n); err != nil {
			return 0, err
		}
	}
	lower, upper, err := w.bounds(p, lo, hi)
	if err != nil {
		return 0, err
	}
	var sum uint64
	for i := range n {
		if i%announceEvery == 0 {
			w.c.tx.snap.announceChildren(p, i, 1)
		}
		want, refs := p.childCount(i)
		damaged := w.damaged
		w.damaged = false
		got, err := w.page(p.child(i), depth+1, int64(want), lower[i], upper[i])
		if err != nil {
			return 0, err
		}
		if !w.damaged && got != want {
			if err := w.report(p.id(), "slot %d counts %d keys below, there are %d", i, want, got); err != nil {
				return 0, err
			}
		}
		if !w.damaged && !refs && w.flagged(p.child(i)) {
			if err := w.report(p.id(), "slot %d says that no leaf below holds long keys, long values or buckets, but one does", i); err != nil {
				return 0, err
			}
		}
		w.damaged = w.damaged || damaged
		sum += got
	}
	return sum, nil
}

// bounds reads the separators of branch p, whose keys must be in [lo, hi), and returns the bounds of each child.
func (w *treeWalk) bounds(p page, lo, hi []byte) (lower, upper [][]byte, err error) {
	n := p.count()
	lower, upper = make([][]byte, n), make([][]byte, n)
	lower[0], upper[n-1] = lo, hi
	var unread []int // slots whose separator cannot be read, each with what is wrong with it
	var whys []error
	for i := 1; i < n; i++ {
		e, _ := p.entry(i, nil)
		s := e.separator
		if e.overflow {
			data, bad, err := w.c.readRun(keyRef(e.separator), w.name+" (separator)")
			if err != nil {
				return nil, nil, err
			}
			if bad != nil {
				unread, whys = append(unread, i), append(whys, bad)
			}
			s = data
		}
		if p.head(i) != e.headAfter(p.prefixLen()) {
			if err := w.report(p.id(), "slot %d: head is %#x, which is not that of its separator", i, p.head(i)); err != nil {
				return nil, nil, err
			}
		}
		lower[i], upper[i-1] = s, s
		if s == nil {
			lower[i] = lower[i-1] // the next best
			continue
		}
		if bytes.Compare(s, lower[i-1]) <= 0 && lower[i-1] != nil || hi != nil && bytes.Compare(s, hi) >= 0 {
			if err := w.report(p.id(), "slot %d: separator %s is out of order", i, w.c.text.KeyToString(s)); err != nil {
				return nil, nil, err
			}
		}
	}
	for i := n - 2; i >= 0; i-- {
		if upper[i] == nil {
			upper[i] = upper[i+1]
		}
	}
	for k, i := range unread {
		e, _ := p.entry(i, nil)
		if err := w.lose(keyRef(e.separator).id, DamagedSeparator, 0, lower[i-1], upper[i], whys[k]); err != nil {
			return nil, nil, err
		}
	}
	return lower, upper, nil
}

// flagged reports whether the child itself is a leaf with cell flags, or a branch with an entry that says so.
func (w *treeWalk) flagged(r pageRef) bool {
	p, err := w.c.tx.readPage(r)
	if err != nil {
		return false
	}
	if !p.isBranch() {
		for i := range p.count() {
			if p.cell(i).flags != 0 {
				return true
			}
		}
		return false
	}
	for i := range p.count() {
		if _, refs := p.childCount(i); refs {
			return true
		}
	}
	return false
}

// leaf checks a leaf. (Invariants 8 to 10)
func (w *treeWalk) leaf(p page, depth int, lo, hi []byte) (uint64, error) {
	if w.leafDepth < 0 {
		w.leafDepth = depth
	} else if w.leafDepth != depth {
		if err := w.report(p.id(), "leaf lies at depth %d, others at %d", depth, w.leafDepth); err != nil {
			return 0, err
		}
	}
	n := p.count()
	if n == 0 && depth > 0 {
		if err := w.report(p.id(), "leaf is empty"); err != nil {
			return 0, err
		}
	}
	for i := range n {
		cell := p.cell(i)
		key := cell.key
		if cell.flags&cellOverflowKey != 0 {
			r := keyRef(cell.key)
			data, bad, err := w.c.readRun(r, w.name+" (key)")
			if err == nil && bad != nil {
				err = w.lose(r.id, DamagedKey, 1, cell.key[:inlinePrefix], nil, bad)
			}
			if err != nil {
				return 0, err
			}
			if key = data; bad != nil {
				continue
			}
		}
		if err := w.key(p, i, cell, key, lo, hi); err != nil {
			return 0, err
		}
		w.last = append(w.last[:0], key...)
		w.any = true
		if err := w.value(key, cell, p); err != nil {
			return 0, err
		}
	}
	return uint64(n), nil
}

func (w *treeWalk) key(p page, i int, cell leafCell, key, lo, hi []byte) error {
	text := w.c.text
	switch {
	case len(key) == 0:
		return w.report(p.id(), "slot %d: key is empty", i)
	case w.any && bytes.Compare(w.last, key) >= 0:
		return w.report(p.id(), "slot %d: key %s is not above the one before, %s", i, text.KeyToString(key), text.KeyToString(w.last))
	case lo != nil && bytes.Compare(key, lo) < 0:
		return w.report(p.id(), "slot %d: key %s is below its separator %s", i, text.KeyToString(key), text.KeyToString(lo))
	case hi != nil && bytes.Compare(key, hi) >= 0:
		return w.report(p.id(), "slot %d: key %s is not below the next separator %s", i, text.KeyToString(key), text.KeyToString(hi))
	case p.prefixLen() > 0 && !bytes.Equal(p.cell(0).key[:p.prefixLen()], key[:p.prefixLen()]):
		return w.report(p.id(), "slot %d: key %s does not have the prefix of the page", i, text.KeyToString(key))
	case p.head(i) != cell.headAfter(p.prefixLen()):
		return w.report(p.id(), "slot %d: head is %#x, which is not that of key %s", i, p.head(i), text.KeyToString(key))
	case cell.flags&cellOverflowKey != 0 && !bytes.HasPrefix(key, cell.key[:inlinePrefix]):
		return w.report(p.id(), "slot %d: the inline prefix is not that of the overflow key", i)
	}
	return nil
}

func (w *treeWalk) value(key []byte, cell leafCell, p page) error {
	if cell.flags&cellOverflowValue != 0 {
		r := loadRef(cell.value)
		_, bad, err := w.c.readRun(r, w.name+" (value)")
		if err != nil || bad == nil {
			return err
		}
		return w.lose(r.id, DamagedValue, 1, key, append(bytesOf(key), 0), bad)
	}
	if cell.flags&cellBucket == 0 {
		return nil
	}
	t, _ := decodeBucket(cell.value)
	if len(w.path) > maxNesting {
		w.c.lost = true
		return w.report(p.id(), "buckets are nested deeper than %d levels", maxNesting)
	}
	path := append(w.path[:len(w.path):len(w.path)], key)
	return w.c.bucket(&t, w.name+"/"+w.c.text.KeyToString(key), path)
}

// freePages holds the free map against the pages that are in use. (Invariants 11 and 12)
func (c *checker) freePages() error {
	free := make([]uint64, len(c.seen))
	mark := func(r run) {
		for k := r.id; k < r.id+pgid(r.n) && k < c.total; k++ {
			free[k/64] |= 1 << (k % 64)
		}
	}
	var err error
	if c.tx.w != nil {
		err = c.writerFree(mark)
	} else if c.tx.snap.mapLevels > 0 {
		err = c.diskFree(mark)
	} else {
		// A snapshot that was published without being durable has no map of its own on disk; that nothing is in use
		// twice has been seen.
		if c.progress != nil {
			c.progress(int64(c.total), int64(c.total))
		}
		return nil
	}
	if err != nil {
		return err
	}
	unreached, first := 0, pgid(0)
	for i := range free {
		both, neither := free[i]&c.seen[i], ^(free[i] | c.seen[i])
		for ; both != 0; both &= both - 1 {
			id := pgid(i*64 + bits.TrailingZeros64(both))
			if err := c.report(corrupt(id, "page is in use, and free in the map")); err != nil {
				return err
			}
		}
		for ; neither != 0; neither &= neither - 1 {
			id := pgid(i*64 + bits.TrailingZeros64(neither))
			if id >= c.total {
				break
			}
			if c.lost {
				if unreached++; unreached == 1 {
					first = id
				}
				continue
			}
			if err := c.report(corrupt(id, "page is neither in use nor free")); err != nil {
				return err
			}
		}
	}
	if unreached > 0 {
		// One error, for they follow from the damage that was reported.
		if err := c.report(corrupt(first, "no page that can be read leads to this page, nor to %d others that are not free: they belong to what is lost",
			unreached-1)); err != nil {
			return err
		}
	}
	if c.progress != nil {
		c.progress(int64(c.total), int64(c.total))
	}
	return nil
}

// diskFree reads the map on disk that belongs to the snapshot.
func (c *checker) diskFree(mark func(run)) error {
	s := c.tx.snap
	fl := newFreelist(c.tx.pager.pageSize, func(r pageRef, k pageKind) (page, error) { return s.readMap(r, k) })
	m := meta{highWater: s.highWater, mapRoot: s.mapRoot, mapLevels: s.mapLevels, mapFree: s.mapFree}
	if err := guarded(s.data, func() error { return fl.open(&m) }); err != nil {
		c.noMap(mark, 0, c.total)
		return c.loseMap(err, m.mapRoot.id)
	}
	for l, refs := range fl.levels {
		for _, r := range refs {
			if err := c.claim(r.id, 1, fmt.Sprintf("free map, level %d", l)); err != nil {
				return err
			}
		}
	}
	return c.markFree(fl, mark)
}

// loseMap reports a page of the free map that cannot be used.
func (c *checker) loseMap(cause error, at pgid) error {
	var bad *CorruptionError
	if errors.As(cause, &bad) {
		at = pgid(bad.Page)
	}
	return c.report(&Damage{Page: uint64(at), Kind: DamagedMap, Err: cause})
}

// noMap takes for free what is not in use from page lo to hi, of which the map does not tell.
func (c *checker) noMap(mark func(run), lo, hi pgid) {
	for id := lo; id < min(hi, c.total); id++ {
		if !c.inUse(id) {
			mark(run{id, 1})
		}
	}
}

func (c *checker) markFree(fl *freelist, mark func(run)) error {
	span := mapSpan(fl.pageSize)
	for i := range fl.chunks {
		if err := c.interrupted(); err != nil {
			return err
		}
		var ch *mapChunk
		err := guarded(c.tx.snap.data, func() (err error) {
			ch, err = fl.chunk(i)
			return err
		})
		if err != nil {
			c.noMap(mark, pgid(i*span), pgid((i+1)*span))
			if err := c.loseMap(err, 0); err != nil {
				return err
			}
			continue
		}
		for w, word := range ch.words {
			for ; word != 0; word &= word - 1 {
				mark(run{pgid(i*span + w*64 + bits.TrailingZeros64(word)), 1})
			}
		}
	}
	return nil
}

// writerFree takes what the write transaction could reuse now or later.
func (c *checker) writerFree(mark func(run)) error {
	fl := c.tx.pager.fl
	for l, refs := range append(fl.levels[:len(fl.levels):len(fl.levels)], fl.surplus) {
		for _, r := range refs {
			if err := c.claim(r.id, 1, fmt.Sprintf("free map, level %d", l)); err != nil {
				return err
			}
		}
	}
	for _, r := range fl.allPending() {
		mark(r.run)
	}
	for _, r := range c.tx.w.freed {
		mark(r.run)
	}
	for _, r := range c.tx.pager.logRuns {
		if err := c.claim(r.id, r.n, "redo log"); err != nil {
			return err
		}
	}
	return c.markFree(fl, mark)
}
