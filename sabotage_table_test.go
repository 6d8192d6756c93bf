package alder

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// sabotageScene is a store about to be damaged, with the places of its parts.
type sabotageScene struct {
	t      testing.TB
	target *sabotageTarget
	image  []byte

	newest, older        pgid // metas
	root                 pgid // of the store: the leaf of the top buckets
	branch               pgid // root of bucket a
	leaf, second         pgid // children of branch
	rewritten            pgid // a leaf that has an older version at the same place
	overflow             pgid // first page of a large value
	mapIndex, mapBits    pgid
	free                 pgid
	rewrittenIn          int // index of the image with the older version
	highWater, lastInUse pgid
}

func newSabotageScene(t testing.TB, s *sabotageTarget) *sabotageScene {
	c := &sabotageScene{t: t, target: s, image: bytes.Clone(s.image)}
	d := loadSimDisk(simConfig{}, s.image)
	defer d.release()
	chosen, err := readMetas(d)
	if err != nil {
		t.Fatal(err)
	}
	m := chosen.meta
	c.newest, c.older, c.root, c.mapIndex, c.highWater = pgid(chosen.slot), pgid(1-chosen.slot), m.root.id, m.mapRoot.id, m.highWater
	c.mapBits = pgid(load48(c.page(c.mapIndex)[mapHeader:]))
	db, err := openStorage(d, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *Tx) error {
		c.branch = tx.Bucket([]byte("a")).tree.root.id
		p := c.page(c.branch)
		c.leaf, c.second = p.child(0).id, p.child(1).id
		for i := range p.count() {
			id := p.child(i).id
			for v, old := range s.images {
				if (int(id)+1)*s.pageSize > len(old) {
					continue
				}
				q := page(old[int(id)*s.pageSize:])
				if q.kind() == kindLeaf && q.birth() != c.page(id).birth() && q[:s.pageSize].sealed() {
					c.rewritten, c.rewrittenIn = id, v
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	words := c.page(c.mapBits)[mapHeader:]
	for id := firstPage; id < c.highWater; id++ {
		p := c.page(id)
		if p.kind() == kindOverflow && p.runLength() == int64(2*s.pageSize+200) && p.birth() > 2 {
			c.overflow = id
		}
		if le.Uint64(words[id/64*8:])>>(id%64)&1 == 1 {
			c.free = id
		} else {
			c.lastInUse = id
		}
	}
	for what, id := range map[string]pgid{"branch": c.branch, "overflow run": c.overflow, "free page": c.free, "rewritten leaf": c.rewritten} {
		if id < firstPage {
			t.Fatalf("the store to be damaged has no %s", what)
		}
	}
	return c
}

func (c *sabotageScene) page(id pgid) page {
	ps := c.target.pageSize
	return page(c.image[int(id)*ps : (int(id)+1)*ps])
}

// forge edits a page and gives it a right checksum.
func (c *sabotageScene) forge(id pgid, edit func(p page)) {
	p := c.page(id)
	edit(p)
	p.seal()
}

// forgeMeta edits a meta and writes it as the engine would.
func (c *sabotageScene) forgeMeta(slot pgid, edit func(m *meta)) {
	m, err := decodeMeta(c.page(slot), int(slot))
	if err != nil {
		c.t.Fatal(err)
	}
	edit(m)
	buf := make([]byte, metaSize)
	m.encode(buf, int(slot))
	copy(c.page(slot), buf)
}

// sabotage is one thing that can happen to a store, and how it must show.
type sabotage struct {
	name   string
	damage func(c *sabotageScene)
	want   sabotageResult
	is     error  // that the first error matches
	says   string // in its text
	forged bool   // right checksums, wrong content: only the check must know; nothing is written into it
}

// sabotages has the kinds of damage. The forged ones have right checksums: no disk does that, but the structures must
// not be trusted for it.
var sabotages = []sabotage{
	{name: "nothing", damage: func(*sabotageScene) {}, want: sabotageHarmless},
	{name: "older meta zeroed", damage: func(c *sabotageScene) { clear(c.page(c.older)) }, want: sabotageHarmless},
	{name: "owner page is noise", damage: func(c *sabotageScene) { simFill(c.page(ownerPage), 0xA7) }, want: sabotageHarmless},
	{name: "free page is noise", damage: func(c *sabotageScene) { simFill(c.page(c.free), 0xA7) }, want: sabotageHarmless},
	{name: "file is longer", damage: func(c *sabotageScene) { c.image = append(c.image, bytes.Repeat([]byte{7}, 3*4096)...) }, want: sabotageHarmless},

	{name: "both metas zeroed", damage: func(c *sabotageScene) { clear(c.image[:2*c.target.pageSize]) },
		want: sabotageRefused, is: ErrInvalid},
	{name: "one byte of both metas", damage: func(c *sabotageScene) { c.page(0)[100]++; c.page(1)[100]++ },
		want: sabotageRefused, is: ErrChecksum},
	{name: "another format version", damage: func(c *sabotageScene) {
		for i := range pgid(2) {
			p := c.page(i)
			le.PutUint32(p[offMetaVersion:], formatVersion+1)
		}
	}, want: sabotageRefused, is: ErrVersionMismatch},
	{name: "a bbolt file", damage: func(c *sabotageScene) { clear(c.image); le.PutUint32(c.image[16:], 0xED0CDAED) },
		want: sabotageRefused, is: ErrBoltFile},
	{name: "text", damage: func(c *sabotageScene) { c.image = bytes.Repeat([]byte("not a store\n"), 5000) },
		want: sabotageRefused, is: ErrInvalid},
	{name: "forged page size", damage: func(c *sabotageScene) {
		c.forgeMeta(0, func(m *meta) { m.pageSize = 3000 })
		c.forgeMeta(1, func(m *meta) { m.pageSize = 3000 })
	}, want: sabotageRefused},
	{name: "forged root", damage: func(c *sabotageScene) { c.forgeMeta(c.newest, func(m *meta) { m.root.id = c.mapBits }) },
		want: sabotageRefused, is: ErrCorrupt},
	{name: "forged root past the end", damage: func(c *sabotageScene) {
		c.forgeMeta(c.newest, func(m *meta) { m.root.id = maxPgid })
		c.forgeMeta(c.older, func(m *meta) { m.root.id = maxPgid })
	}, want: sabotageRefused, is: ErrCorrupt},
	{name: "forged high water mark", damage: func(c *sabotageScene) { c.forgeMeta(c.newest, func(m *meta) { m.highWater = maxPgid }) },
		want: sabotageRefused, is: ErrCorrupt},
	{name: "forged key count of the root", damage: func(c *sabotageScene) { c.forgeMeta(c.newest, func(m *meta) { m.rootCount = 77 }) },
		want: sabotageChecked, is: ErrCorrupt, forged: true},

	{name: "root zeroed", damage: func(c *sabotageScene) { clear(c.page(c.root)) }, want: sabotageRefused, is: ErrCorrupt, says: "lost or misdirected"},
	{name: "branch zeroed", damage: func(c *sabotageScene) { clear(c.page(c.branch)) }, want: sabotageDetected, is: ErrCorrupt, says: "lost or misdirected"},
	{name: "leaf zeroed", damage: func(c *sabotageScene) { clear(c.page(c.leaf)) }, want: sabotageDetected, is: ErrCorrupt, says: "lost or misdirected"},
	{name: "write of a leaf lost", damage: func(c *sabotageScene) {
		at := int(c.rewritten) * c.target.pageSize
		copy(c.page(c.rewritten), c.target.images[c.rewrittenIn][at:])
	}, want: sabotageDetected, is: ErrCorrupt, says: "lost or misdirected"},
	{name: "leaves swapped", damage: func(c *sabotageScene) {
		first := bytes.Clone(c.page(c.leaf))
		copy(c.page(c.leaf), c.page(c.second))
		copy(c.page(c.second), first)
	}, want: sabotageDetected, is: ErrCorrupt, says: "lost or misdirected"},
	{name: "one bit of a leaf", damage: func(c *sabotageScene) { c.page(c.leaf)[2000] ^= 4 }, want: sabotageDetected, is: ErrCorrupt, says: "checksum"},
	{name: "half of a leaf zeroed", damage: func(c *sabotageScene) { clear(c.page(c.leaf)[2048:]) }, want: sabotageDetected, is: ErrCorrupt, says: "checksum"},
	{name: "forged order of keys", damage: func(c *sabotageScene) {
		c.forge(c.leaf, func(p page) {
			n := p.count()
			a, b, ha, hb := p.cellOffset(0, n), p.cellOffset(1, n), p.head(0), p.head(1)
			p.setCellOffset(0, n, b)
			p.setCellOffset(1, n, a)
			p.setHead(0, hb)
			p.setHead(1, ha)
		})
	}, want: sabotageChecked, is: ErrCorrupt, says: "not above", forged: true},
	{name: "forged count of slots", damage: func(c *sabotageScene) { c.forge(c.leaf, func(p page) { p.setCount(60000) }) },
		want: sabotageDetected, is: ErrCorrupt},
	{name: "forged kind", damage: func(c *sabotageScene) { c.forge(c.leaf, func(p page) { p.setKind(kindBranch) }) },
		want: sabotageDetected, is: ErrCorrupt},
	{name: "branch forged to be its own child", damage: func(c *sabotageScene) {
		c.forge(c.branch, func(p page) { p.setChild(0, p.ref()) })
	}, want: sabotageDetected, is: ErrCorrupt},
	{name: "branch forged with one child twice", damage: func(c *sabotageScene) {
		c.forge(c.branch, func(p page) { p.setChild(1, p.child(0)) })
	}, want: sabotageChecked, is: ErrCorrupt, forged: true},
	{name: "forged key count of a child", damage: func(c *sabotageScene) {
		c.forge(c.branch, func(p page) {
			n, refs := p.childCount(1)
			p.setChildCount(1, n+1, refs)
		})
	}, want: sabotageChecked, is: ErrCorrupt, says: "counts", forged: true},
	{name: "forged child far outside", damage: func(c *sabotageScene) {
		c.forge(c.branch, func(p page) { p.setChild(1, pageRef{maxPgid, 3}) })
	}, want: sabotageDetected, is: ErrCorrupt, says: "past the end"},

	{name: "first page of a large value zeroed", damage: func(c *sabotageScene) { clear(c.page(c.overflow)) },
		want: sabotageDetected, is: ErrCorrupt, says: "lost or misdirected"},
	{name: "second page of a large value zeroed", damage: func(c *sabotageScene) { clear(c.page(c.overflow + 1)) },
		want: sabotageDetected, is: ErrCorrupt, says: "checksum"},
	{name: "forged length of a large value", damage: func(c *sabotageScene) { c.page(c.overflow).setRunLength(1 << 40) },
		want: sabotageDetected, is: ErrCorrupt},

	{name: "map index zeroed", damage: func(c *sabotageScene) { clear(c.page(c.mapIndex)) }, want: sabotageRefused, is: ErrCorrupt},
	{name: "one bit of the free map", damage: func(c *sabotageScene) { c.page(c.mapBits)[mapHeader] ^= 0x20 }, want: sabotageChecked, is: ErrCorrupt, says: "checksum"},
	{name: "a page in use forged to be free", damage: func(c *sabotageScene) {
		c.forge(c.mapBits, func(p page) {
			p[mapHeader+int(c.leaf)/8] |= 1 << (c.leaf % 8)
			p[mapHeader+int(c.free)/8] &^= 1 << (c.free % 8)
		})
	}, want: sabotageChecked, is: ErrCorrupt, says: "in use, and free", forged: true},
	{name: "a free page forged to be in use", damage: func(c *sabotageScene) {
		c.forge(c.mapBits, func(p page) { p[mapHeader+int(c.free)/8] &^= 1 << (c.free % 8) })
	}, want: sabotageChecked, is: ErrCorrupt},
}

// Ensures that each named kind of damage shows in the way it should, with an error that says what is wrong.
func TestSabotage_Table(t *testing.T) {
	target := newSabotageTarget(t, 4096)
	for _, s := range sabotages {
		t.Run(s.name, func(t *testing.T) {
			c := newSabotageScene(t, target)
			s.damage(c)
			if s.forged {
				s.mustBeChecked(t, c)
				return
			}
			for _, readOnly := range []bool{true, false} {
				d := loadSimDisk(simConfig{}, c.image)
				r, err := target.examine(d, readOnly, false)
				d.release()
				if err != nil || r.result != s.want {
					t.Fatalf("read-only %v: %v, want %v; shown: %v; broken: %v", readOnly, r.result, s.want, r.shown, err)
				}
				s.mustBe(t, r.shown)
			}
		})
	}
}

// mustBe holds an error against what the table wants.
func (s *sabotage) mustBe(t *testing.T, err error) {
	if s.is != nil && !errors.Is(err, s.is) {
		t.Errorf("the error does not match %v: %v", s.is, err)
	}
	if s.says != "" && !strings.Contains(fmt.Sprint(err), s.says) {
		t.Errorf("the error does not say %q: %v", s.says, err)
	}
}

// mustBeChecked looks for the error in the check only.
func (s *sabotage) mustBeChecked(t *testing.T, c *sabotageScene) {
	d := loadSimDisk(simConfig{}, c.image)
	defer d.release()
	db, err := openStorage(d, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var errs []error
	err = db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return nil
	})
	if err != nil || len(errs) == 0 {
		t.Fatalf("the check finds nothing; view: %v", err)
	}
	s.mustBe(t, errors.Join(errs...))
}

// sabotageFile writes an image to a file.
func sabotageFile(t *testing.T, image []byte) string {
	dir, err := os.MkdirTemp("", "alder-sabotage-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "store.db")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Ensures that a file that was cut at a page is refused by the real Open too, for reading and for writing.
func TestSabotage_TruncatedFile(t *testing.T) {
	s := newSabotageTarget(t, 4096)
	for n := 1; n < s.pages(); n++ {
		file := sabotageFile(t, s.image[:n*s.pageSize])
		for _, readOnly := range []bool{true, false} {
			db, err := Open(file, 0o600, &Options{ReadOnly: readOnly})
			if err == nil {
				db.Close()
				t.Fatalf("a file cut to %d of %d pages was opened, read-only %v", n, s.pages(), readOnly)
			}
			if !typedError(err) {
				t.Errorf("cut to %d pages: %v", n, err)
			}
		}
	}
}

// Ensures that a file that is cut while it is open gives errors to its readers and its writer, and ends no program.
func TestSabotage_TruncatedWhileOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not shorten a mapped file")
	}
	s := newSabotageTarget(t, 4096)
	faults := 0
	for n := range s.pages() {
		db, err := Open(sabotageFile(t, s.image), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(db.Path(), int64(n*s.pageSize)); err != nil {
			t.Fatal(err)
		}
		digest := newCrashDigest()
		err = db.View(func(tx *Tx) error { return walkTx(tx, digest) })
		var fault *FaultError
		switch {
		case errors.As(err, &fault):
			faults++
		case err != nil && !typedError(err):
			t.Errorf("cut to %d pages: %v", n, err)
		case err == nil && digest.sum() != s.last().digest:
			t.Errorf("cut to %d pages: wrong content", n)
		}
		if err := lookUpAll(db, s.last().root, nil); err != nil {
			t.Errorf("cut to %d pages: %v", n, err)
		}
		// The writer may fail or not; it must not panic, and the store must close.
		_ = db.Update(func(tx *Tx) error { return applyOps(tx, parseScript("tx\n put a k05 70 9\n put b k1 5000 9")[0].ops) })
		_ = db.Close()
	}
	if faults == 0 {
		t.Error("no cut has met a fault in the mapping")
	}
}
