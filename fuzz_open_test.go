package alder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
)

// openFuzzed opens image and does with it what a program may: all reads, the check, changes, and the check again. No
// step may panic or hang; an error is fine if it is one that damage may give.
func openFuzzed(t *testing.T, image []byte) {
	watch := time.AfterFunc(30*time.Second, func() { panic("a damaged store makes the engine hang") })
	defer watch.Stop()
	for _, readOnly := range []bool{true, false} {
		d := loadSimDisk(simConfig{}, image) // one of the recycled size leaves room to grow
		db, err := openStorage(d, &Options{ReadOnly: readOnly})
		if err != nil {
			if !typedError(err) && len(image) > 0 {
				t.Errorf("open, read-only %v: %v", readOnly, err)
			}
			d.release()
			continue
		}
		readFuzzed(t, db)
		if !readOnly {
			for _, text := range []string{"put a k1 100 1\nput a k2 5000 1\ndel a k03\nnext a", "bucket - q\nput q x 10 1\ndelrange a k k2", "delbucket - a"} {
				err := db.Update(func(tx *Tx) error {
					for _, o := range parseScript("tx\n" + text)[0].ops {
						_ = o.perform(tx) // what does not exist cannot be changed
					}
					return nil
				})
				if err != nil && !typedError(err) && !errors.Is(err, ErrFailed) {
					t.Errorf("write: %v", err)
				}
			}
			readFuzzed(t, db)
		}
		_ = db.Close()
		d.release()
	}
}

func readFuzzed(t *testing.T, db *DB) {
	err := db.View(func(tx *Tx) error {
		errs := 0
		for err := range tx.Check(WithProgress(func(int64, int64) {})) {
			if !typedError(err) {
				return fmt.Errorf("check: %w", err)
			}
			if errs++; errs == 100 {
				break
			}
		}
		return nil
	})
	if err != nil && !typedError(err) {
		t.Errorf("%v", err)
	}
	err = db.View(func(tx *Tx) error {
		b := budgetWalker{left: 20000}
		if err := walkTx(tx, &b); err != nil {
			return err
		}
		for _, name := range []string{"a", "b"} {
			if b := tx.Bucket([]byte(name)); b != nil {
				readAllWays(b)
			}
		}
		return nil
	})
	if err != nil && !typedError(err) && !errors.Is(err, errWalkedEnough) && !errors.Is(err, errNoBucketThere) {
		t.Errorf("read: %v", err)
	}
}

// readAllWays uses every way to read a bucket; what comes out of a forged one is anybody's guess.
func readAllWays(b *Bucket) {
	n := b.Len()
	b.Count([]byte("k1"), []byte("k3"))
	b.Count(nil, nil)
	b.Rank([]byte("k20"))
	for i := range uint64(10) {
		b.At(i * (n/10 + 1))
	}
	b.At(1 << 60)
	left := 2000
	for range b.Backward() {
		if left--; left == 0 {
			break
		}
	}
	for range b.Prefix([]byte("k1")) {
		if left--; left <= 0 {
			break
		}
	}
	c := b.Cursor()
	c.Seek([]byte("k15"))
	for range 5 {
		c.Prev()
	}
	c.Last()
	for range 5 {
		c.Next()
	}
	b.GetMulti([][]byte{[]byte("k01"), []byte("k33"), []byte("zz")}, nil)
	b.Stats()
	b.Inspect()
}

var errWalkedEnough = fmt.Errorf("walked enough")

// budgetWalker ends a walk through a store whose tree was forged into something very large.
type budgetWalker struct{ left int }

func (w *budgetWalker) count() error {
	if w.left--; w.left < 0 {
		return errWalkedEnough
	}
	return nil
}

func (w *budgetWalker) value(_, _ []byte) error    { return w.count() }
func (w *budgetWalker) enter([]byte, uint64) error { return w.count() }
func (w *budgetWalker) leave()                     {}

// Ensures that no file makes Open, or what follows it, panic or hang: a store with a part overwritten and cut to a
// length, or, if the part lies outside the store, the part alone.
func FuzzOpen(f *testing.F) {
	s := newSabotageTarget(f, 4096)
	size := uint32(len(s.image))
	f.Add(uint32(0), []byte{}, size)
	f.Add(uint32(0), []byte{}, size-1)
	f.Add(uint32(0), []byte{}, uint32(3*4096))
	f.Add(uint32(100), bytes.Repeat([]byte{0xA7}, 5000), size)
	f.Add(uint32(4096), make([]byte, 4096), size)
	f.Add(uint32(4*4096+12), []byte{9}, size)
	f.Add(size, []byte("not a store"), size)
	f.Add(size, make([]byte, 8192), size)
	f.Add(size, s.image[:600], size)
	f.Add(size, append(creationMarker[:], make([]byte, 8000)...), size)
	f.Fuzz(func(t *testing.T, at uint32, part []byte, length uint32) {
		image := bytes.Clone(s.image)
		if int(at) < len(image) {
			copy(image[at:], part)
		} else {
			image = part
		}
		if len(image) > 1<<19 {
			return
		}
		openFuzzed(t, image[:min(int(length), len(image))])
	})
}

// patchStore applies a program of 8-byte instructions to a store: what it changes can be given right checksums, so
// that forged structures get past them.
func patchStore(image []byte, pageSize int, program []byte) []byte {
	image = bytes.Clone(image)
	for ; len(program) >= 8 && len(image) >= 2*pageSize; program = program[8:] {
		pages := len(image) / pageSize
		id := int(program[1]) % pages
		p := page(image[id*pageSize : (id+1)*pageSize])
		off := int(binary.LittleEndian.Uint16(program[2:])) % (pageSize - 8)
		v := binary.LittleEndian.Uint32(program[4:])
		switch program[0] % 9 {
		case 0:
			p[off] = byte(v)
		case 1:
			le.PutUint16(p[off:], uint16(v))
		case 2:
			le.PutUint32(p[off:], v)
		case 3:
			copy(p, image[int(v%uint32(pages))*pageSize:][:pageSize])
		case 4:
			clear(p[off:])
		case 5: // the header decides most: small numbers at its fields
			le.PutUint16(p[off%pageHeader:], uint16(v))
		case 6:
			p.setRef(pageRef{pgid(id), txid(v % 16)})
		case 7:
			image = image[:len(image)-int(v%uint32(pageSize))]
			continue
		case 8: // in the slots
			p[pageHeader+off%256] = byte(v)
		}
		seal(p, program[0])
	}
	return image
}

// seal gives a patched page a right checksum, in most cases.
func seal(p page, how byte) {
	switch {
	case how >= 240:
	case p.kind() == kindMeta:
		p[:metaBytes].seal()
	case p.kind() == kindOverflow:
		if n := p.runLength(); n >= 0 && n <= int64(len(p)-pageHeader) {
			p[:pageHeader+int(n)].seal()
		}
	default:
		p.seal()
	}
}

// Ensures that no structure with right checksums makes the engine panic or hang.
func FuzzPatchedOpen(f *testing.F) {
	small := newSabotageTarget(f, 4096)
	large := newSabotageTarget(f, 8192)
	f.Add(false, []byte{0, 3, 40, 0, 1, 0, 0, 0})
	f.Add(true, []byte{5, 9, 26, 0, 200, 0, 0, 0, 6, 9, 0, 0, 3, 0, 0, 0})
	for id := range byte(27) {
		f.Add(id%2 == 0, []byte{5, id, 26, 0, 255, 255, 0, 0})
		f.Add(id%2 == 0, []byte{8, id, id * 7, 0, 0xFE, 0, 0, 0})
		f.Add(id%2 == 1, []byte{3, id, 0, 0, id + 1, 0, 0, 0, 6, id, 0, 0, 3, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, big bool, program []byte) {
		s := small
		if big {
			s = large
		}
		if len(program) > 400 {
			return
		}
		openFuzzed(t, patchStore(s.image, s.pageSize, program))
	})
}
