package alder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// salvaged is what a salvage has made.
type salvaged struct {
	report *SalvageReport
	root   *crashBucket // everything but lost+found
	found  *crashBucket // lost+found; nil if there is none
}

// salvageImage salvages a file with these bytes into a store in memory.
func salvageImage(image []byte) (*salvaged, error) {
	watch := time.AfterFunc(time.Minute, func() { panic("salvage hangs") })
	defer watch.Stop()
	d := loadSimDisk(simConfig{}, image)
	defer d.release()
	dst, err := OpenMemory(nil)
	if err != nil {
		return nil, err
	}
	defer dst.Close()
	report, err := salvage(context.Background(), d, dst, &SalvageOptions{TxMaxSize: 3000, Progress: func(done, total int64) {
		if done > total {
			panic("more is done than there is")
		}
	}})
	if !bytes.Equal(d.image(), image) {
		err = errors.Join(err, errors.New("the damaged file has been changed"))
	}
	if err != nil {
		return nil, err
	}
	s := &salvaged{report: report}
	return s, s.collect(dst)
}

// collect checks the new store and reads what it holds.
func (s *salvaged) collect(dst *DB) error {
	c := newCollector()
	err := dst.View(func(tx *Tx) error {
		if err := walkTx(tx, c); err != nil {
			return err
		}
		return checkWhole(tx)
	})
	if err != nil {
		return fmt.Errorf("the new store: %w", err)
	}
	s.root = c.path[0]
	if name := s.report.LostAndFound; name != "" {
		s.found = s.root.buckets[name]
		if s.found == nil || len(s.found.names()) == 0 {
			return fmt.Errorf("the report names bucket %q, which has nothing", name)
		}
		delete(s.root.buckets, name)
	}
	return nil
}

// sums holds the sums of the report against what there is.
func (s *salvaged) sums() error {
	keys, bytes, found := int64(0), int64(0), int64(0)
	buckets := int64(-1) // the top
	var count func(b *crashBucket)
	count = func(b *crashBucket) {
		buckets++
		for k, v := range b.values {
			keys, bytes = keys+1, bytes+int64(len(k)+len(v))
		}
		for _, sub := range b.buckets {
			count(sub)
		}
	}
	count(s.root)
	if s.found != nil {
		s.found.eachKey(nil, func([]string, string) { found++ })
	}
	r := s.report
	if r.Keys != keys || r.Buckets != buckets || r.Bytes != bytes || r.FoundKeys+r.LooseKeys != found {
		return fmt.Errorf("the report has %d keys of %d bytes, %d buckets, %d and %d keys in lost+found; the store %d of %d, %d, %d",
			r.Keys, r.Bytes, r.Buckets, r.FoundKeys, r.LooseKeys, keys, bytes, buckets, found)
	}
	return nil
}

// promises holds the result against the state it must be of: no key is wrong, and each that is missing is named as lost.
func (s *salvaged) promises(want *crashState) error {
	if err := s.sums(); err != nil {
		return err
	}
	var wrong []string
	s.root.eachKey(nil, func(path []string, key string) {
		b := want.root.at(path)
		if b == nil {
			wrong = append(wrong, fmt.Sprintf("bucket %v should not be there", path))
		} else if v, ok := b.values[key]; !ok || v != s.root.at(path).values[key] {
			wrong = append(wrong, fmt.Sprintf("key %.20q in %v should not be there, or have another value", key, path))
		}
	})
	missing := int64(0)
	want.root.eachKey(nil, func(path []string, key string) {
		if b := s.root.at(path); b != nil {
			if _, ok := b.values[key]; ok {
				return
			}
		}
		missing++
		if !slices.ContainsFunc(s.report.Damage, func(d *Damage) bool { return d.Keys != 0 && d.loses(path, key) }) {
			wrong = append(wrong, fmt.Sprintf("key %.20q in %v is missing, and the report does not say so", key, path))
		}
	})
	if missing > 0 && s.report.Lost == 0 && !s.report.Unknown {
		wrong = append(wrong, fmt.Sprintf("%d keys are missing, the report has none", missing))
	}
	if missing == 0 && s.report.Lost > 0 && s.report.Replayed == 0 && !s.lostEmptyBuckets(want) {
		wrong = append(wrong, fmt.Sprintf("no key is missing, the report says %d", s.report.Lost))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s\nreport: %+v", strings.Join(wrong, "\n"), s.text())
	}
	return nil
}

// lostEmptyBuckets reports whether a bucket without keys is missing, which counts as one of its parent's keys.
func (s *salvaged) lostEmptyBuckets(want *crashState) bool {
	lost := false
	var visit func(a, b *crashBucket)
	visit = func(a, b *crashBucket) {
		for name, sub := range b.buckets {
			if a.buckets[name] == nil {
				lost = true
			} else {
				visit(a.buckets[name], sub)
			}
		}
	}
	visit(s.root, want.root)
	return lost
}

func (s *salvaged) text() string {
	var w strings.Builder
	fmt.Fprintf(&w, "%+v\n", *s.report)
	for _, d := range s.report.Damage {
		fmt.Fprintf(&w, "%v\n", d)
	}
	if s.found != nil {
		s.found.describe(&w, "  ")
	}
	return w.String()
}

// everything reports whether nothing of a state is missing.
func (s *salvaged) everything(want *crashState) bool {
	return newCrashState(s.root, 0).digest == want.digest
}

// Ensures that a sound store is copied whole, and that its report has nothing but sums.
func TestSalvage_Sound(t *testing.T) {
	for _, pageSize := range []int{4096, 16384} {
		target := newSabotageTarget(t, pageSize)
		for i, image := range append(slices.Clone(target.images), target.image) {
			want := target.states[min(i, len(target.states)-1)]
			s, err := salvageImage(image)
			if err != nil {
				t.Fatal(err)
			}
			if !s.everything(want) || s.found != nil || s.report.Lost != 0 || s.report.Unknown || len(s.report.Damage) > 0 || len(s.report.Notes) > 0 {
				t.Errorf("page size %d, image %d: %s", pageSize, i, s.text())
			}
			if s.report.PageSize != pageSize || s.report.TxID < 2 || s.report.Pages != int64(len(image)/pageSize) {
				t.Errorf("page size %d, image %d: %s", pageSize, i, s.text())
			}
		}
	}
}

// Ensures that whichever page is damaged, in whichever way, no key comes out wrong, none is missing in silence, and only what lay in
// the page itself is missing; of a store that was closed, and of one that was not.
func TestSalvage_EveryPage(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		pageSize int
		killed   bool
	}{{4096, false}, {4096, true}, {8192, false}} {
		target, pageSize := newSabotageTarget(t, kind.pageSize), kind.pageSize
		whole := target.image
		if kind.killed {
			whole = target.images[len(target.images)-1]
		}
		sabotageEach(t, len(whole)/pageSize, func(i int) {
			at := i * pageSize
			p := page(whole[at : at+pageSize])
			isBranch := p.kind() == kindBranch && p.id() == pgid(i)
			try := func(what string, content []byte) {
				image := bytes.Clone(whole)
				copy(image[at:], content)
				s, err := salvageImage(image)
				if err == nil {
					err = s.promises(target.allowed(s, kind.killed))
				}
				if err == nil && isBranch && !s.everything(target.allowed(s, kind.killed)) {
					err = fmt.Errorf("a branch was damaged, and not everything is there: %s", s.text())
				}
				if err != nil {
					t.Errorf("page size %d, killed %v, page %d: %s: %v", pageSize, kind.killed, i, what, err)
				}
			}
			noise := make([]byte, pageSize)
			simFill(noise, byte(i))
			try("zeros", make([]byte, pageSize))
			try("noise", noise)
			flipped := bytes.Clone(p)
			flipped[pageSize/2] ^= 0x10
			try("a bit", flipped)
			step := 5
			if testing.Short() || raceDetector() {
				step = 17
			}
			for j := range len(whole) / pageSize {
				if j%step == i%step {
					try(fmt.Sprintf("a copy of page %d", j), whole[j*pageSize:(j+1)*pageSize])
				}
			}
			for v, old := range target.images {
				if at+pageSize <= len(old) {
					try(fmt.Sprintf("its version %d", v), old[at:at+pageSize])
				}
			}
		})
	}
}

// allowed is the state that a salvage must have found, by the transaction that it says: the last one, unless a meta or the log
// was damaged.
func (s *sabotageTarget) allowed(r *salvaged, killed bool) *crashState {
	if v := int(r.report.TxID) - int(initialTxid) - 1; v >= 0 && v < len(s.states)-1 {
		for _, d := range r.report.Damage {
			if d.Kind == DamagedMeta || d.Kind == DamagedLog {
				return s.states[v]
			}
		}
		if killed {
			return s.states[v] // the last frame of a log may be damaged, and nobody can tell
		}
	}
	return s.last()
}

// Ensures that two damaged pages, and files cut anywhere, keep the promises too.
func TestSalvage_TwoPagesAndCuts(t *testing.T) {
	t.Parallel()
	target := newSabotageTarget(t, 4096)
	ps := target.pageSize
	rng := rand.New(rand.NewPCG(5, 5))
	type pair struct{ a, b int }
	var pairs []pair
	for range 300 {
		pairs = append(pairs, pair{2 + rng.IntN(target.pages()-2), 2 + rng.IntN(target.pages()-2)})
	}
	sabotageEach(t, len(pairs), func(i int) {
		image := bytes.Clone(target.image)
		clear(image[pairs[i].a*ps:][:ps])
		simFill(image[pairs[i].b*ps:][:ps], 0xA7)
		s, err := salvageImage(image)
		if err == nil {
			err = s.promises(target.last())
		}
		if err != nil {
			t.Errorf("pages %v: %v", pairs[i], err)
		}
	})
	sabotageEach(t, len(target.image)/512, func(i int) {
		length := i * 512
		s, err := salvageImage(target.image[:length])
		if length <= metaSize && err != nil && typedError(err) {
			return
		}
		if err == nil {
			err = s.promises(target.last())
		}
		if err != nil {
			t.Errorf("cut to %d bytes: %v", length, err)
		}
	})
}

// Ensures that a store that has lost both metas is found by its newest root.
func TestSalvage_NoMeta(t *testing.T) {
	for _, pageSize := range []int{4096, 32768} {
		target := newSabotageTarget(t, pageSize)
		for _, damage := range []string{"zeros", "a byte"} {
			image := bytes.Clone(target.image)
			if damage == "zeros" {
				clear(image[:2*pageSize])
			} else {
				image[100]++
				image[pageSize+100]++
			}
			s, err := salvageImage(image)
			if err != nil {
				t.Fatalf("page size %d, %s: %v", pageSize, damage, err)
			}
			if !s.everything(target.last()) || len(s.report.Notes) < 2 || len(s.report.Damage) != 2 {
				t.Errorf("page size %d, %s: %s", pageSize, damage, s.text())
			}
		}
	}
}

// Ensures that salvage does with each named kind of damage what it promises.
func TestSalvage_Table(t *testing.T) {
	t.Parallel()
	target := newSabotageTarget(t, 4096)
	for _, sabotage := range sabotages {
		t.Run(sabotage.name, func(t *testing.T) {
			c := newSabotageScene(t, target)
			sabotage.damage(c)
			s, err := salvageImage(c.image)
			switch sabotage.name {
			case "another format version", "a bbolt file", "text":
				if !errors.Is(err, sabotage.is) || !errors.Is(err, ErrInvalid) && sabotage.is != ErrVersionMismatch {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := s.promises(target.allowed(s, false)); err != nil && !sabotage.forged {
				t.Error(err)
			}
			if sabotage.want == sabotageHarmless && !s.everything(target.last()) {
				t.Error(s.text())
			}
		})
	}
}

// Ensures that nothing is read or written where nothing can be, with an error that says so.
func TestSalvage_Refuses(t *testing.T) {
	for _, image := range [][]byte{{}, []byte("no store"), make([]byte, 8192), bytes.Repeat([]byte("text of some length\n"), 10000)} {
		if _, err := salvageImage(image); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes: %v", len(image), err)
		}
	}
	target := newSabotageTarget(t, 4096)
	file := sabotageFile(t, target.image)
	if _, err := Salvage(context.Background(), file+".none", nil, nil); err == nil {
		t.Error("no error for a file that is not there")
	}
	dst, err := OpenMemory(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := dst.Update(func(tx *Tx) error { _, err := tx.CreateBucket([]byte("b")); return err }); err != nil {
		t.Fatal(err)
	}
	if _, err := Salvage(context.Background(), file, dst, nil); err == nil || !strings.Contains(err.Error(), "has buckets already") {
		t.Error(err)
	}
	db, err := Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Salvage(context.Background(), file, nil, nil); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Salvage(ctx, file, nil, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	report, err := Salvage(context.Background(), file, nil, nil)
	if err != nil || report.Keys == 0 || report.Lost != 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// largeTarget is a store with trees of several levels, long keys and values, nested buckets, and older versions of much of it.
func largeTarget(t testing.TB, keys int) (image []byte, want *crashState) {
	d := newSimDisk(simConfig{capacity: 64 << 20})
	defer d.release()
	db, err := openStorage(d, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	root := newCrashBucket()
	update := func(fn func(put func(path string, key, value string), del func(path, key string))) {
		err := db.Update(func(tx *Tx) error {
			fn(func(path string, key, value string) {
				b, in := tx.root(), root
				for name := range strings.SplitSeq(path, "/") {
					var err error
					if b, err = b.CreateBucketIfNotExists([]byte(name)); err != nil {
						t.Fatal(err)
					}
					if in.buckets[name] == nil {
						in.buckets[name] = newCrashBucket()
					}
					in = in.buckets[name]
				}
				if err := b.Put([]byte(key), []byte(value)); err != nil {
					t.Fatal(err)
				}
				in.values[key] = value
			}, func(path, key string) {
				b, in := tx.Bucket([]byte(path)), root.buckets[path]
				if err := b.Delete([]byte(key)); err != nil {
					t.Fatal(err)
				}
				delete(in.values, key)
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(9, 9))
	value := func() string { return strings.Repeat(string(rune('a'+rng.IntN(26))), 20+rng.IntN(200)) }
	type put = func(path string, key, value string)
	type del = func(path, key string)
	update(func(put put, del del) {
		for i := range keys {
			put("users", fmt.Sprintf("user%07d-%s", i, strings.Repeat("x", i%60)), value())
			if i%40 == 0 {
				put(fmt.Sprintf("groups/g%05d", i), "name", value())
				put("long", strings.Repeat("k", 600)+fmt.Sprint(i), value())
			}
			if i%300 == 0 {
				put("files", fmt.Sprintf("file%d", i), strings.Repeat(value(), 100))
				for j := range 150 {
					put(fmt.Sprintf("groups/g%05d/members", i), fmt.Sprintf("m%05d", j), value())
				}
			}
		}
	})
	for range 5 {
		update(func(put put, del del) {
			for range keys / 50 {
				i := rng.IntN(keys)
				put("users", fmt.Sprintf("user%07d-%s", i, strings.Repeat("x", i%60)), value())
				i = rng.IntN(keys)
				del("users", fmt.Sprintf("user%07d-%s", i, strings.Repeat("x", i%60)))
			}
		})
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return d.image(), newCrashState(root, 0)
}

// Ensures that the promises hold for trees of several levels, that a damaged branch costs nothing, that of other pages only
// what they held is missing, and that with more damage there is still most of it.
func TestSalvage_Large(t *testing.T) {
	t.Parallel()
	keys := 12000
	if testing.Short() || raceDetector() {
		keys = 3000
	}
	const ps = 4096
	image, want := largeTarget(t, keys)
	pages := len(image) / ps
	var branches []int
	for id := 3; id < pages; id++ {
		if p := page(image[id*ps : (id+1)*ps]); p.id() == pgid(id) && p.kind() == kindBranch && p.sealed() {
			branches = append(branches, id)
		}
	}
	total := 0
	want.root.eachKey(nil, func([]string, string) { total++ })
	count := func(s *salvaged) (n int) {
		s.root.eachKey(nil, func([]string, string) { n++ })
		return n
	}
	for _, damage := range []string{"zeros", "noise", "a bit", "unmapped"} {
		rng := rand.New(rand.NewPCG(4, uint64(len(damage))))
		for round := range 6 {
			bad := bytes.Clone(image)
			hit := []int{branches[rng.IntN(len(branches))]}
			if round >= 3 {
				for range 8 {
					hit = append(hit, 3+rng.IntN(pages-3))
				}
			}
			if damage == "unmapped" { // the free map too
				for id := 3; id < pages; id++ {
					if p := page(image[id*ps : (id+1)*ps]); p.kind() == kindMapIndex || p.kind() == kindMapBits {
						hit = append(hit, id)
					}
				}
			}
			for _, id := range hit {
				switch damage {
				case "noise":
					simFill(bad[id*ps:(id+1)*ps], byte(id))
				case "a bit":
					bad[id*ps+100+rng.IntN(3000)] ^= 4
				default:
					clear(bad[id*ps : (id+1)*ps])
				}
			}
			s, err := salvageImage(bad)
			if err == nil {
				err = s.promises(want)
			}
			if err != nil {
				t.Fatalf("%s, pages %v: %.3000v", damage, hit, err)
			}
			if damage != "unmapped" && round < 3 && !s.everything(want) {
				t.Errorf("%s, pages %v: %d of %d keys; %.3000s", damage, hit, count(s), total, s.text())
			}
			if n := count(s) + int(s.report.FoundKeys+s.report.LooseKeys); n < total*8/10 {
				t.Errorf("%s, pages %v: %d of %d keys in total; %.3000s", damage, hit, n, total, s.text())
			}
		}
	}
	// Without metas and half of the branches.
	clear(image[:2*ps])
	for i, id := range branches {
		if i%2 == 0 {
			clear(image[id*ps : (id+1)*ps])
		}
	}
	s, err := salvageImage(image)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(s) + int(s.report.FoundKeys+s.report.LooseKeys); n < total*8/10 {
		t.Errorf("no metas: %d of %d keys; %.3000s", n, total, s.text())
	}
}

// Ensures that of a key that is lost with its leaf an older version comes out in lost+found, the newest one, and that a bucket of the user's
// with that name is left alone.
func TestSalvage_OlderVersions(t *testing.T) {
	d := newSimDisk(simConfig{})
	defer d.release()
	db, err := openStorage(d, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	for version := range 4 {
		if version > 0 { // with the log, pages that no checkpoint knows are used again at once
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			d.reopen()
			if db, err = openStorage(d, &Options{}); err != nil {
				t.Fatal(err)
			}
		}
		err := db.Update(func(tx *Tx) error {
			for _, name := range []string{"a", "lost+found"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				for i := range 30 {
					if err := b.Put(fmt.Appendf(nil, "%s%02d", name, i), fmt.Appendf(nil, "version %d %s", version, strings.Repeat("x", 100))); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	leaf := func() (id pgid) {
		if err := db.View(func(tx *Tx) error { id = tx.Bucket([]byte("a")).tree.root.id; return nil }); err != nil {
			t.Fatal(err)
		}
		return id
	}()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	image := d.image()
	clear(image[leaf*4096 : (leaf+1)*4096])
	s, err := salvageImage(image)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.root.buckets["a"].values) != 0 || len(s.root.buckets["lost+found"].values) != 30 || s.report.LostAndFound != "lost+found-2" || s.report.Lost != 30 {
		t.Fatal(s.text())
	}
	loose := s.found.buckets["loose"].values
	for i := range 30 {
		if v := loose[fmt.Sprintf("a%02d", i)]; !strings.HasPrefix(v, "version 2") {
			t.Errorf("key %d is %.12q", i, v)
		}
	}
	if s.report.LooseKeys < 30 {
		t.Error(s.text())
	}
}

// Ensures that buckets whose names are lost with the root come back under their names if they have not changed since the meta before, and
// else in lost+found.
func TestSalvage_RootLost(t *testing.T) {
	target := newSabotageTarget(t, 4096)
	c := newSabotageScene(t, target)
	clear(c.page(c.root))
	s, err := salvageImage(c.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.promises(target.last()); err != nil {
		t.Error(err)
	}
	if s.found == nil || s.report.FoundTrees == 0 || s.report.FoundKeys < 30 || s.root.buckets["a"] != nil {
		t.Error(s.text()) // the last transaction has changed a
	}

	// Now one that changes only b.
	d := loadSimDisk(simConfig{}, target.image)
	defer d.release()
	db, err := openStorage(d, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	var root pgid
	err = db.Update(func(tx *Tx) error { return tx.Bucket([]byte("b")).Put([]byte("new"), []byte("value")) })
	if err == nil {
		err = db.View(func(tx *Tx) error { root = tx.snap.root.id; return nil })
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	image := d.image()
	clear(image[root*4096 : (root+1)*4096])
	if s, err = salvageImage(image); err != nil {
		t.Fatal(err)
	}
	if s.root.buckets["a"] == nil || len(s.root.buckets["a"].values) != len(target.last().root.buckets["a"].values) || s.root.buckets["b"] != nil {
		t.Error(s.text())
	}
}

// Ensures that of a log that is damaged in the middle what comes before is done again, and that the report says so; and that what it puts into a
// bucket that is lost is there.
func TestSalvage_Log(t *testing.T) {
	target := newSabotageTarget(t, 4096)
	killed := target.images[len(target.images)-1]
	m, scan := logOf(t, killed, 4096)
	frames := slices.DeleteFunc(scan.frames, func(f frame) bool { return f.count == 0 })
	image := bytes.Clone(killed)
	image[bytes.Index(image, frames[1].body)]++
	s, err := salvageImage(image)
	if err != nil {
		t.Fatal(err)
	}
	if r := s.report; !s.everything(target.states[1]) || r.Replayed != 1 || !r.Unknown || len(r.Damage) != 1 || r.Damage[0].Kind != DamagedLog {
		t.Error(s.text())
	}

	image = bytes.Clone(killed)
	clear(image[m.root.id*4096 : (m.root.id+1)*4096])
	if s, err = salvageImage(image); err != nil {
		t.Fatal(err)
	}
	if err := s.promises(target.last()); err != nil {
		t.Error(err)
	}
	if a := s.root.buckets["a"]; a == nil || a.values["k12"] != target.last().root.buckets["a"].values["k12"] || s.report.Replayed != 5 {
		t.Error(s.text())
	}
}

// unreadable is a storage some of whose pages cannot be read.
type unreadable struct {
	storage
	bad      map[pgid]bool
	pageSize int64
}

func (u *unreadable) readAt(p []byte, off int64) error {
	for id := off / u.pageSize; id*u.pageSize < off+int64(len(p)); id++ {
		if u.bad[pgid(id)] {
			return fmt.Errorf("reading at %d: %w", off, syscall.EIO)
		}
	}
	return u.storage.readAt(p, off)
}

// Ensures that pages that the disk refuses to read are lost like those with wrong bytes, and cost nothing else.
func TestSalvage_ReadErrors(t *testing.T) {
	target := newSabotageTarget(t, 4096)
	sabotageEach(t, target.pages(), func(i int) {
		dst, err := OpenMemory(nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer dst.Close()
		d := loadSimDisk(simConfig{}, target.image)
		defer d.release()
		s := &salvaged{}
		bad := &unreadable{storage: d, bad: map[pgid]bool{pgid(i): true}, pageSize: 4096}
		if s.report, err = salvage(context.Background(), bad, dst, &SalvageOptions{}); err != nil {
			t.Errorf("page %d: %v", i, err)
			return
		}
		if err := s.collect(dst); err != nil {
			t.Errorf("page %d: %v", i, err)
		} else if err := s.promises(target.allowed(s, false)); err != nil {
			t.Errorf("page %d: %v", i, err)
		}
		p := page(target.image[i*4096 : (i+1)*4096])
		if p.kind() == kindBranch && !s.everything(target.last()) {
			t.Errorf("page %d, a branch: %s", i, s.text())
		}
		for _, damage := range s.report.Damage {
			if damage.Page == uint64(i) && !errors.Is(damage, syscall.EIO) {
				t.Errorf("page %d: %v", i, damage)
			}
		}
	})
}
