package alder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// The laboratory's own tests. A tiny store (the whole content as one blob, two meta slots) follows the
// checkpoint protocol of the engine; each of its flaws breaks one rule of it, and the laboratory must see that.

// Places of the tiny store: the meta slots, and where blobs begin.
const (
	tinySlot  = 4096
	tinyFirst = 2 * tinySlot
)

// tinyMeta says where the newest blob is.
type tinyMeta struct {
	seq, tx     uint64
	off, length int64
	sum         uint64
	file        int64 // length of the file
	slot        int   // where the meta itself is
}

func (m *tinyMeta) fields() []any {
	return []any{&m.seq, &m.tx, &m.off, &m.length, &m.sum, &m.file}
}

// tinyStore implements crashStore.
type tinyStore struct {
	st    storage
	flaws map[string]bool

	mu     sync.Mutex
	meta   tinyMeta
	root   *crashBucket
	failed error
	pinned []tinyMeta // of open snapshots
}

func openTiny(st storage, flaws ...string) (_ crashStore, err error) {
	s := &tinyStore{st: st, flaws: map[string]bool{}}
	for _, f := range flaws {
		s.flaws[f] = true
	}
	defer func() {
		if err != nil {
			st.close()
		}
	}()
	if !s.flaws["noSyncAtOpen"] {
		if err := st.sync(); err != nil {
			return nil, fmt.Errorf("sync: %w", err)
		}
	}
	if st.size() > 0 {
		if err = s.load(); err == nil {
			return s, nil
		}
		if st.size() > tinyFirst || !errors.Is(err, errTinyNoMeta) {
			return nil, err
		}
	}
	return s, s.create()
}

var errTinyNoMeta = errors.New("no valid meta")

// create makes an empty store; a file that only holds the beginnings of one is treated as empty.
func (s *tinyStore) create() error {
	s.root = newCrashBucket()
	s.meta.slot = 1
	if s.st.size() < tinyFirst {
		if err := s.st.grow(tinyFirst); err != nil {
			return err
		}
	}
	if err := s.st.sync(); err != nil {
		return err
	}
	s.meta.off, s.meta.sum, s.meta.file = tinyFirst, xxhash.Sum64(nil), tinyFirst
	return s.writeMeta(s.meta)
}

func (s *tinyStore) load() error {
	var best *tinyMeta
	for slot := range 2 {
		buf := make([]byte, tinySlot)
		if s.st.size() < int64(slot+1)*tinySlot {
			continue
		}
		if err := s.st.readAt(buf, int64(slot)*tinySlot); err != nil {
			return err
		}
		m, ok := decodeTiny(buf, !s.flaws["noMetaChecksum"])
		if !ok {
			continue
		}
		m.slot = slot
		if best == nil || m.seq > best.seq {
			best = m
		}
	}
	if best == nil {
		return errTinyNoMeta
	}
	s.meta = *best
	if !s.flaws["noReadBack"] {
		if err := s.readBack(); err != nil {
			return err
		}
	}
	root, err := s.read(s.meta)
	s.root = root
	return err
}

// readBack makes the chosen meta durable if the medium does not hold it.
func (s *tinyStore) readBack() error {
	off := int64(s.meta.slot) * tinySlot
	cached, medium := make([]byte, tinySlot), make([]byte, tinySlot)
	if err := s.st.readAt(cached, off); err != nil {
		return err
	}
	ok, err := s.st.readMedium(medium, off)
	if err != nil {
		return err
	}
	if ok && bytes.Equal(cached, medium) && !s.flaws["rewriteAlways"] {
		return nil
	}
	return s.st.writeDurable(cached, off)
}

// A meta is a checksum, a byte that says whether it covers the whole slot, and the fields, spread over one sector
// so that a torn sector mixes them. If the checksum covers several sectors, a meta that was torn in one of them
// can be completed by a part of its successor that has the same bytes there; it then points to what was
// overwritten since: that is a flaw to be found.
func decodeTiny(buf []byte, checked bool) (*tinyMeta, bool) {
	if buf[8] == 1 {
		buf = buf[:simSectorSize]
	}
	if buf[8] == 0 || checked && xxhash.Sum64(buf[8:]) != binary.LittleEndian.Uint64(buf) {
		return nil, false
	}
	var m tinyMeta
	encoded := make([]byte, 6*8)
	for i := range encoded {
		encoded[i] = buf[16+8*i]
	}
	for i, f := range m.fields() {
		if _, err := binary.Decode(encoded[8*i:], binary.LittleEndian, f); err != nil {
			return nil, false
		}
	}
	return &m, m.off >= 0 && m.length >= 0 && m.off+m.length <= m.file && m.file <= simDefaultCapacity
}

func (s *tinyStore) writeMeta(m tinyMeta) error {
	slot := 1 - s.meta.slot
	if s.flaws["sameSlot"] {
		slot = 0
	}
	m.seq, m.slot = s.meta.seq+1, slot
	buf := make([]byte, tinySlot)
	buf[8] = 1
	covered := buf[8:simSectorSize]
	if s.flaws["metaOverSectors"] {
		buf[8] = 2
		covered = buf[8:]
	}
	var encoded []byte
	for _, f := range m.fields() {
		encoded, _ = binary.Append(encoded, binary.LittleEndian, f)
	}
	for i, b := range encoded {
		buf[16+8*i] = b
	}
	binary.LittleEndian.PutUint64(buf, xxhash.Sum64(covered))
	write := s.st.writeDurable
	if s.flaws["metaNotDurable"] {
		write = s.st.writeAt
	}
	if err := write(buf, int64(slot)*tinySlot); err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	s.meta = m
	return nil
}

// encodeTiny appends the content of b; every string and map is preceded by its length.
func encodeTiny(p []byte, b *crashBucket) []byte {
	str := func(s string) { p = append(binary.AppendUvarint(p, uint64(len(s))), s...) }
	p = binary.AppendUvarint(p, b.sequence)
	p = binary.AppendUvarint(p, uint64(len(b.values)))
	for k, v := range b.values {
		str(k)
		str(v)
	}
	p = binary.AppendUvarint(p, uint64(len(b.buckets)))
	for name, sub := range b.buckets {
		str(name)
		p = encodeTiny(p, sub)
	}
	return p
}

func decodeTinyBucket(p []byte) (*crashBucket, []byte) {
	number := func() uint64 {
		v, n := binary.Uvarint(p)
		p = p[n:]
		return v
	}
	str := func() string {
		n := number()
		s := string(p[:n])
		p = p[n:]
		return s
	}
	b := newCrashBucket()
	b.sequence = number()
	for range number() {
		k := str()
		b.values[k] = str()
	}
	for range number() {
		name := str()
		b.buckets[name], p = decodeTinyBucket(p)
	}
	return b, p
}

// read loads the blob of a meta from the mapping.
func (s *tinyStore) read(m tinyMeta) (*crashBucket, error) {
	if s.st.size() < m.file {
		return nil, fmt.Errorf("file of %d bytes is shorter than %d", s.st.size(), m.file)
	}
	blob := s.st.mapping().data[m.off : m.off+m.length]
	if xxhash.Sum64(blob) != m.sum {
		return nil, fmt.Errorf("blob at %d: %w", m.off, ErrCorrupt)
	}
	if m.length == 0 {
		return newCrashBucket(), nil
	}
	root, _ := decodeTinyBucket(blob)
	return root, nil
}

func (s *tinyStore) apply(ops []scriptOp) *crashBucket {
	root := s.root.next()
	for _, o := range ops {
		o.apply(root)
	}
	return root
}

func (s *tinyStore) rollback(ops []scriptOp) error {
	s.apply(ops)
	return nil
}

func (s *tinyStore) commit(ops []scriptOp, _ Durability) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil && !s.flaws["goesOnAfterFailure"] {
		return fmt.Errorf("%w: %w", ErrFailed, s.failed)
	}
	root := s.apply(ops)
	blob := encodeTiny(nil, root)
	next := tinyMeta{tx: s.meta.tx + 1, length: int64(len(blob)), sum: xxhash.Sum64(blob), file: s.st.size()}
	room := (next.length + tinySlot - 1) / tinySlot * tinySlot
	next.off = s.place(room)
	if next.off+room > s.st.size() {
		next.file = next.off + room
		if err := s.st.grow(next.file); err != nil {
			return err
		}
	}
	// Two calls, so that there is a crash point between them.
	blob = append(blob, make([]byte, room-next.length)...)
	half := room / 2 / tinySlot * tinySlot
	write := func() error {
		if half > 0 {
			if err := s.st.writeAt(blob[:half], next.off); err != nil {
				return err
			}
		}
		return s.st.writeAt(blob[half:], next.off+half)
	}
	steps := []func() error{write, s.syncStep, func() error { return s.writeMeta(next) }}
	if s.flaws["metaBeforeSync"] {
		steps[1], steps[2] = steps[2], steps[1]
	}
	for i, step := range steps {
		if err := step(); err != nil {
			if i > 0 {
				s.failed = err
			}
			return err
		}
	}
	s.root = root
	return nil
}

func (s *tinyStore) syncStep() error {
	if s.flaws["noSync"] {
		return nil
	}
	if err := s.st.sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// place finds the first room that no pinned blob needs.
func (s *tinyStore) place(room int64) int64 {
	taken := slices.Clone(s.pinned)
	if !s.flaws["overwritesCurrent"] {
		taken = append(taken, s.meta)
	}
	if s.flaws["forgetsReaders"] {
		taken = []tinyMeta{s.meta}
	}
	off := int64(tinyFirst)
	slices.SortFunc(taken, func(a, b tinyMeta) int { return int(a.off - b.off) })
	for _, m := range taken {
		if off+room <= m.off {
			break
		}
		off = max(off, (m.off+m.length+tinySlot-1)/tinySlot*tinySlot)
	}
	return off
}

// seal: every commit is a checkpoint.
func (s *tinyStore) seal() (func() error, error) { return nil, nil }

func (s *tinyStore) background() {}

func (s *tinyStore) busy() (appending, writing bool, tip int) { return false, false, 0 }

func (s *tinyStore) close() error { return s.st.close() }

func (s *tinyStore) sync() error {
	if s.flaws["goesOnAfterFailure"] {
		return nil
	}
	return s.failed
}

type tinySnapshot struct {
	s    *tinyStore
	meta tinyMeta
}

func (s *tinyStore) snapshot() (crashSnapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinned = append(s.pinned, s.meta)
	return &tinySnapshot{s, s.meta}, nil
}

func (v *tinySnapshot) digest() (uint64, error) {
	root, err := v.s.read(v.meta)
	if err != nil {
		return 0, err
	}
	return newCrashState(root, 0).digest, nil
}

func (v *tinySnapshot) describe() string {
	root, err := v.s.read(v.meta)
	if err != nil {
		return err.Error()
	}
	return newCrashState(root, int(v.meta.tx)).String()
}

func (v *tinySnapshot) check() error {
	_, err := v.s.read(v.meta)
	return err
}

func (v *tinySnapshot) end() error {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	i := slices.Index(v.s.pinned, v.meta)
	v.s.pinned = slices.Delete(v.s.pinned, i, i+1)
	return nil
}

// ---- tests

func tinyLab(flaws ...string) *crashLab {
	return &crashLab{
		open:   func(st storage, _ crashConfig) (crashStore, error) { return openTiny(st, flaws...) },
		sample: sampleSome,
		depth:  2,
		hang:   time.Minute,
	}
}

// search runs cases until a violation is found or the number of images is reached. aim, which may be nil, changes
// each case so that it looks where the violation must be.
func (l *crashLab) search(images int64, aim func(*crashLab, *crashCase)) (*crashCase, *crashViolation) {
	for seed := uint64(1); l.images.Load() < images; seed++ {
		k := crashCaseOf(seed)
		if aim != nil {
			aim(l, k)
		}
		if v := l.run(k); v != nil {
			return k, v
		}
	}
	return nil, nil
}

// aimAtFailedMeta lets a durable write fail: what was in the page cache is lost later.
func aimAtFailedMeta(_ *crashLab, k *crashCase) {
	k.config.disk.noDirect, k.config.lazy = false, false
	k.fault = &crashFault{op: simWriteDurable, call: 2 + int(k.seed%6), fault: simFault{err: syscall.EIO, kind: simFailFlush, seed: k.seed}}
}

// aimAtFailedSync lets a sync fail.
func aimAtFailedSync(_ *crashLab, k *crashCase) {
	k.config.lazy = false
	k.fault = &crashFault{op: simSync, call: 2 + int(k.seed%6), fault: simFault{err: syscall.EIO, kind: simFailFlush, seed: k.seed}}
}

// aimAtTornSectors lets nothing but the power fail, on a disk that tears.
func aimAtTornSectors(l *crashLab, k *crashCase) {
	k.config.disk.noTear, k.config.disk.noDirect = false, false
	k.fault = nil
	l.sample = sampleDurable
}

// Ensures that a correct protocol passes: the laboratory reports nothing that a disk cannot do.
func TestCrashLab_CorrectStore(t *testing.T) {
	l := tinyLab()
	images := int64(20000)
	if testing.Short() {
		images = 2000
	}
	if k, v := l.search(images, nil); v != nil {
		t.Fatalf("seed %d, point %d, outcome %d: %v\n%s\n%s", k.seed, v.point, v.outcome, k, v, k.script)
	}
	t.Logf("%d images at %d crash points, %d after a second crash, %d of an open", l.images.Load(), l.points.Load(), l.nested.Load(), l.inOpen.Load())
}

// Ensures that each broken rule is found.
func TestCrashLab_FlawedStores(t *testing.T) {
	for flaw, aim := range map[string]func(*crashLab, *crashCase){
		"noSync": nil, "metaBeforeSync": nil, "metaNotDurable": nil, "noMetaChecksum": nil, "sameSlot": nil,
		"overwritesCurrent": nil, "forgetsReaders": nil, "noSyncAtOpen": nil, "rewriteAlways": aimAtTornSectors,
		"metaOverSectors": aimAtTornSectors, "noReadBack": aimAtFailedMeta, "goesOnAfterFailure": aimAtFailedMeta,
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			l := tinyLab(flaw)
			k, v := l.search(100000, aim)
			if v == nil {
				t.Fatalf("the flaw was not found in %d images", l.images.Load())
			}
			t.Logf("found after %d images: seed %d, point %d, outcome %d: %s", l.images.Load(), k.seed, v.point, v.outcome, firstLine(v.what))
		})
	}
}

// Ensures that a store that hangs is noticed, in the first run as well as in an image.
func TestCrashLab_Hang(t *testing.T) {
	t.Parallel()
	for at, in := range map[int]string{1: "in the first run", 5: "crash at call"} {
		l := tinyLab()
		l.hang = time.Second
		said, goOn := "", make(chan struct{})
		l.hung = func(what string) {
			said = what
			close(goOn)
		}
		opens := 0
		l.open = func(st storage, _ crashConfig) (crashStore, error) {
			if opens++; opens == at {
				select {
				case <-goOn:
				case <-time.After(time.Minute):
					t.Error("nobody notices")
				}
			}
			return openTiny(st)
		}
		if v := l.run(crashCaseOf(1)); v != nil {
			t.Fatal(v)
		}
		if opens < at || !strings.Contains(said, "hangs: seed 1\n  "+in) {
			t.Errorf("%d opens, it was said: %q", opens, said)
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Ensures that a storage that breaks its promises is found out with a correct store on it.
func TestCrashLab_BrokenStorages(t *testing.T) {
	for name, broken := range brokenStorages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken.mustBeFound(t, tinyLab())
		})
	}
}
