package alder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Salvage rebuilds a store from a damaged file. Three promises order what it does:
//
//   - what lies outside of the bucket lost+found is of the last state of the damaged store, key for key;
//   - nothing is taken whose checksum is wrong;
//   - what is known to be lost is in the report.
//
// First it walks over what can be reached from the newest meta. If that is not everything, it reads the file from its
// beginning to its end and looks at each leaf and branch that is whole and was not met. The free map tells those that were in
// use from older versions. Trees in use whose keys fit one of the gaps, and are as many as it lacks, are put there; other trees in use, whose
// bucket nobody knows, go to lost+found, each to a bucket of its own. Last, of the older versions, and of single leaves that nobody can
// place, the newest version of each key that lies in a gap goes to lost+found/loose. At the end, what the redo log says is done again.

// SalvageOptions says how Salvage works. The zero value is good for all uses.
type SalvageOptions struct {
	// Timeout is how long to wait for another process to close the damaged store; see Options.Timeout.
	Timeout time.Duration

	// TxMaxSize is the size of the transactions that write the new store, in bytes of keys and values; 0 is 32 MiB.
	TxMaxSize int64

	// Progress is called now and then with the pages that have been dealt with, and their number.
	Progress func(done, total int64)
}

// SalvageReport says what Salvage has found and what is lost.
type SalvageReport struct {
	PageSize int    // of the damaged store, in bytes
	Pages    int64  // in the file
	TxID     uint64 // the transaction whose state this is; 0 if no meta is intact and no root was found

	// What is in the new store, without lost+found. Buckets do not count as keys.
	Buckets, Keys, Bytes int64

	// Damage has an element for each page that could not be used, the first 10,000 of them; its Keys are what is still lost. More is the
	// number of the others.
	Damage []*Damage
	More   int64

	Lost    int64 // keys that are lost from their buckets, as far as somebody had counted them
	Unknown bool  // there are others that nobody had counted; those of lost buckets, for example

	Replayed int // transactions of the redo log that were done again

	Placed int64 // of Keys: found without the page that led to them; where they belong follows from the keys and their number

	// What is in the bucket LostAndFound, whose name is lost+found or begins with it; empty: there is none.
	LostAndFound string
	FoundTrees   int64 // trees of which nobody knows the bucket, each in a bucket page-N, where N is the number of its root page
	FoundKeys    int64 // keys in them
	LooseKeys    int64 // keys in the bucket loose: of keys that are lost, the newest version that was found; it may be an old one, or deleted

	// Notes are sentences about what cannot be told.
	Notes []string
}

// maxSalvageDamage is how many pages the report names; maxSalvageGaps, how many gaps are kept in mind in order to fill them.
const (
	maxSalvageDamage  = 10_000
	maxSalvageGaps    = 10_000
	defaultSalvageMax = 32 << 20
)

// Salvage copies everything that can be read of the damaged store in the file at path into dst, a new store without any bucket,
// and reports what is lost. The file is only read; nobody can have it open for writing meanwhile. Whatever its bytes are, the result is
// a report or an error.
//
// Outside of the bucket lost+found dst then has keys of the last state only. In lost+found is what could be read and not be placed: a
// bucket page-N for each tree of which nobody knows whose it was, and a bucket loose, with the newest version that was found of
// keys that are lost. If no meta page is intact, the root with the newest transaction is taken.
//
// With dst nil nothing is written, and the file is not searched for pages that nothing leads to: the report says what a walk finds.
//
// Errors are a *LockError, those that match ErrInvalid (nothing of an alder store is in the file; ErrBoltFile too if it is one of
// bbolt) and ErrVersionMismatch, and what writing to dst returns; dst then holds a part. Cost: one read of the file if all can be
// reached, two otherwise. Memory: the largest value, four bits for each page of the file, what a transaction of dst
// takes, and a little for each damaged page.
func Salvage(ctx context.Context, path string, dst *DB, options *SalvageOptions) (*SalvageReport, error) {
	if options == nil {
		options = &SalvageOptions{}
	}
	file, _, err := openFileStorage(path, 0, fileOptions{readOnly: true, timeout: options.Timeout})
	if err != nil {
		return nil, err
	}
	defer file.close()
	report, err := salvage(ctx, file, dst, options)
	var coded *fs.PathError
	if err != nil && !errors.As(err, &coded) {
		err = &fs.PathError{Op: "salvage", Path: path, Err: err}
	}
	return report, err
}

// salvager is the work of one call.
type salvager struct {
	src    *salvageSource
	out    *salvageWriter
	report *SalvageReport
	top    *salvageBucket

	gaps    []*lostKeys
	anyKey  bool    // a lost key can have any bytes: there were too many gaps, or buckets in them
	noRoot  bool    // it is not known what was the last state
	topLost bool    // names of buckets are lost
	ranges  []gap   // of the gaps, for wanted
	orphans *orphan // while pages are dealt with that nothing leads to
	counter *int64  // of the keys that are put
	log     *logScan
	logLost bool // transactions in the log are lost

	progress func(done, total int64)
	done     int64

	levels     []page // buffers, one for each level of recursion
	level      int
	key, value []byte // of the last long key and the last long value
}

// lostKeys is a gap: keys that the walk could not read.
type lostKeys struct {
	damage *Damage
	to     *salvageBucket
	birth  txid // nothing in the gap is younger
	plain  bool // no buckets are lost in it
}

func salvage(ctx context.Context, st storage, dst *DB, o *SalvageOptions) (_ *SalvageReport, err error) {
	src, err := openSalvageSource(st)
	if err != nil {
		return nil, err
	}
	s := &salvager{
		src: src, report: &SalvageReport{PageSize: src.pageSize, Pages: int64(src.pages)}, top: &salvageBucket{},
		out: &salvageWriter{ctx: ctx, dst: dst, max: o.TxMaxSize}, progress: o.Progress,
	}
	s.counter = &s.report.Keys
	if s.out.max <= 0 {
		s.out.max = defaultSalvageMax
	}
	if err := s.out.begin(); err != nil {
		return nil, err
	}
	defer s.out.rollback()
	if dst != nil && s.out.tx.root().Len() > 0 {
		return nil, errors.New("alder: the store to salvage into has buckets already; give a new one")
	}
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := s.out.commit(); err != nil {
		return nil, err
	}
	s.report.Unknown = s.uncounted() || s.logLost
	if s.progress != nil {
		s.progress(2*int64(src.pages), 2*int64(src.pages))
	}
	return s.report, nil
}

func (s *salvager) run() error {
	if err := s.walkMeta(); err != nil {
		return err
	}
	if s.out.dst != nil && (s.src.m == nil || s.incomplete()) {
		if err := s.searchOrphans(); err != nil {
			return err
		}
	}
	return s.replayLog()
}

// incomplete reports whether something is lost that a search may find.
func (s *salvager) incomplete() bool { return s.report.Lost > 0 || s.uncounted() }

// uncounted reports whether keys are lost that nobody has counted.
func (s *salvager) uncounted() bool {
	return s.noRoot || len(s.gaps) == maxSalvageGaps || slices.ContainsFunc(s.gaps, func(g *lostKeys) bool {
		return g.damage.Keys < 0 || g.damage.Keys > 0 && g.to == s.top
	})
}

// walkMeta takes everything that the newest meta leads to.
func (s *salvager) walkMeta() error {
	src, r := s.src, s.report
	for i, bad := range src.bad {
		if bad != nil {
			s.note(&Damage{Page: uint64(i), Kind: DamagedMeta, Err: bad})
		}
	}
	m := src.m
	if m == nil {
		if s.out.dst == nil {
			return fmt.Errorf("%w: %w: neither meta page is intact", &CorruptionError{Page: 0, Detail: "meta"}, ErrChecksum)
		}
		r.Notes = append(r.Notes, "neither meta page is intact: what was the last state, and which pages were free in it, is not known")
		s.anyKey, s.topLost, s.noRoot = true, true, true
		return nil
	}
	r.TxID = uint64(m.txid)
	if src.bad[0] != nil || src.bad[1] != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("one meta page is damaged: if it was the newer one, what transactions after %d have changed is missing", m.txid))
	}
	if m.fileLength > src.size {
		r.Notes = append(r.Notes, fmt.Sprintf("the file has been cut: it has %d bytes, the meta page says %d", src.size, m.fileLength))
	}
	s.readLog()
	if err := src.readFreeMap(); err != nil {
		var bad *CorruptionError
		at := uint64(m.mapRoot.id)
		if errors.As(err, &bad) {
			at = bad.Page
		}
		s.note(&Damage{Page: at, Kind: DamagedMap, Err: err})
	}
	w := &salvageTree{s: s, to: s.top, leafDepth: -1}
	if _, err := w.page(subtree{ref: m.root, keys: int64(min(m.rootCount, maxCount))}); err != nil {
		return err
	}
	other := src.metas[0]
	if other == m {
		other = src.metas[1]
	}
	if s.topLost && other != nil {
		return s.namesFrom(other.root, nil)
	}
	return nil
}

// namesFrom looks for lost buckets of the top in an older version of it, whose root is r. A bucket that has not changed since has its name
// there, and its root page is still in use. With o, it must be one that no other page in use leads to.
func (s *salvager) namesFrom(r pageRef, o *orphan) error {
	left := int(s.src.pages)
	found := 0
	err := s.eachTop(r, 0, &left, func(name []byte, t *tree, sequence uint64) error {
		if t.root.id == 0 || t.root.id >= s.src.pages || s.src.class(t.root.id) != pageInUse || s.src.taken(t.root.id) || o != nil && o.hasParent(t.root) {
			return nil
		}
		if s.src.readPage(t.root, s.probe()) != nil || s.out.has(s.top, name) {
			return nil
		}
		b := s.top.inner(name)
		if err := s.out.create(b, sequence); refused(err) {
			return nil
		} else if err != nil {
			return err
		}
		found++
		s.report.Buckets++
		for _, g := range s.gaps {
			if g.to == s.top && g.has(name) && g.damage.Keys > 0 {
				g.damage.Keys--
				s.report.Lost--
				break
			}
		}
		return s.tree(t, b)
	})
	if found > 0 {
		s.report.Notes = append(s.report.Notes,
			fmt.Sprintf("the names of %d top buckets are those of transaction %d; their content is of the last state", found, r.birth))
	}
	return err
}

// eachTop calls fn for each bucket with pages of its own in the top bucket whose root is r, passing over what cannot be read and
// claiming nothing. left bounds the pages it looks at.
func (s *salvager) eachTop(r pageRef, depth int, left *int, fn func(name []byte, t *tree, sequence uint64) error) error {
	p := s.buffer()
	defer s.release()
	if *left--; *left < 0 || depth > maxDepth {
		return nil
	}
	clear(p)
	if s.src.readTo(p, r.id) != nil || p.ref() != r || !p.sealed() || p.validate() != nil {
		return nil
	}
	for i := range p.count() {
		if p.isBranch() {
			if err := s.eachTop(p.child(i), depth+1, left, fn); err != nil {
				return err
			}
			continue
		}
		c := p.cell(i)
		if c.flags&cellBucket == 0 || c.flags&cellOverflowKey != 0 {
			continue
		}
		t, sequence := decodeBucket(c.value)
		if err := fn(c.key, &t, sequence); err != nil {
			return err
		}
	}
	return nil
}

// ---- what is lost

// note adds a damaged page to the report.
func (s *salvager) note(d *Damage) {
	if len(s.report.Damage) == maxSalvageDamage {
		s.report.More++
		return
	}
	s.report.Damage = append(s.report.Damage, d)
}

// lose notes a gap.
func (s *salvager) lose(g lostKeys) error {
	d := g.damage
	if g.to.absent {
		return nil // an older version, which may have gone any time
	}
	s.note(d)
	switch {
	case d.Keys == 0:
		return nil
	case s.orphans != nil:
		// The gap that it was found for has been counted.
	case d.Keys > 0:
		s.report.Lost += d.Keys
	}
	if !g.plain && d.Kind != DamagedValue && s.src.free == nil {
		s.anyKey = true // leaves of lost buckets cannot be told from older versions
	}
	if g.to.parent == nil {
		s.topLost = true
	}
	if len(s.gaps) == maxSalvageGaps {
		s.anyKey = true
		return nil
	}
	s.gaps = append(s.gaps, &g)
	return nil
}

// has reports whether the key is, or may be, in the gap.
func (g *lostKeys) has(key []byte) bool {
	d := g.damage
	if d.Kind == DamagedKey {
		return bytes.HasPrefix(key, d.From)
	}
	return bytes.Compare(key, d.From) >= 0 && (d.To == nil || bytes.Compare(key, d.To) < 0)
}

// noteKey counts a key that was put.
func (s *salvager) noteKey(bytes int) {
	*s.counter++
	if s.counter == &s.report.Keys {
		s.report.Bytes += int64(bytes)
	}
}

// ---- buffers

func (s *salvager) buffer() page {
	if s.level == len(s.levels) {
		s.levels = append(s.levels, make(page, s.src.pageSize))
	}
	s.level++
	return s.levels[s.level-1]
}

func (s *salvager) release() { s.level-- }

// probe is a buffer for a look at a page.
func (s *salvager) probe() page {
	defer s.release()
	return s.buffer()
}

// readKey reads a long key; it is valid until the next one is read.
func (s *salvager) readKey(r overflowRef) (key []byte, err error) {
	if r.length > MaxKeySize {
		return nil, corrupt(r.id, "a key of %d bytes", r.length)
	}
	s.key, err = s.src.readRun(r, s.key)
	return s.key, err
}

// readValue reads a long value; it is valid until the next one is read.
func (s *salvager) readValue(r overflowRef) (value []byte, err error) {
	const keep = 16 << 20
	if cap(s.value) > keep && r.length < keep {
		s.value = nil // one large value shall not take memory for ever
	}
	s.value, err = s.src.readRun(r, s.value)
	return s.value, err
}

// advance counts pages that have been dealt with.
func (s *salvager) advance(n int64) {
	if s.done += n; s.progress != nil && s.done%64 == 0 {
		s.progress(min(s.done, 2*int64(s.src.pages)), 2*int64(s.src.pages))
	}
}
