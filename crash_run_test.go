package alder

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A run of TestCrash: seeds are handed out in order to workers, each of which has a laboratory of its own. What they have checked is counted when a case
// is done. With -alder.crashbook it goes into a file, line by line while the run goes on, and the next run goes on behind the last seed before which
// all are done; so a long run may be stopped at any moment, and costs no more than the last minute.

// crashCounts says how much was done.
type crashCounts struct {
	cases, images, repeats, points, nested, inOpen int64
}

func (c *crashCounts) add(d crashCounts) {
	c.cases += d.cases
	c.images += d.images
	c.repeats += d.repeats
	c.points += d.points
	c.nested += d.nested
	c.inOpen += d.inOpen
}

func (c crashCounts) String() string {
	return fmt.Sprintf("%d images at %d crash points of %d scripts: %d after a second or later crash, %d of crashes in an open; %d more would have been the same",
		c.images, c.points, c.cases, c.nested, c.inOpen, c.repeats)
}

// takeCounts returns what the laboratory has done since it was called last.
func (l *crashLab) takeCounts() crashCounts {
	return crashCounts{1, l.images.Swap(0), l.repeats.Swap(0), l.points.Swap(0), l.nested.Swap(0), l.inOpen.Swap(0)}
}

// crashRun is what the workers have in common.
type crashRun struct {
	t      *testing.T
	images int64 // asked for
	depth  int
	first  uint64
	begun  time.Time
	seed   atomic.Uint64 // the next one
	seen   crashCoverage

	mu     sync.Mutex
	total  crashCounts
	behind map[uint64]crashCounts // done, and one before is not
	book   *crashBook             // nil: none
}

func newCrashRun(t *testing.T, images int64) *crashRun {
	r := &crashRun{t: t, images: images, depth: alderLab().depth, first: *crashSeedFlag, begun: time.Now(), behind: map[uint64]crashCounts{}}
	if images >= 1000000 || *crashBookFlag != "" {
		r.depth = 3
	}
	if *crashBookFlag != "" {
		book, err := openCrashBook(*crashBookFlag, r.first)
		if err != nil {
			t.Fatal(err)
		}
		r.book, r.first = book, book.next
	}
	r.seed.Store(r.first)
	return r
}

// work takes one case after the other until there are enough images.
func (r *crashRun) work() {
	l := alderLab()
	l.depth = r.depth
	for r.enough(0) < r.images && !r.t.Failed() {
		k := crashCaseOf(r.seed.Add(1) - 1)
		v := l.run(k)
		if v != nil {
			l.report(r.t, k, v, r.enough(l.images.Load()))
			break
		}
		r.done(k.seed, l.takeCounts())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.add(&l.seen)
}

// enough is the number of images so far, with more of a case that is not done.
func (r *crashRun) enough(more int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total.images + more
}

// done counts a case.
func (r *crashRun) done(seed uint64, c crashCounts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.add(c)
	if r.book == nil {
		return
	}
	r.behind[seed] = c
	for {
		c, ok := r.behind[r.book.next]
		if !ok {
			break
		}
		delete(r.behind, r.book.next)
		r.book.add(c)
	}
	if time.Since(r.book.written) > crashBookInterval {
		r.write()
	}
}

func (r *crashRun) write() {
	if err := r.book.write(); err != nil {
		r.t.Error(err)
	}
}

func (r *crashRun) end() {
	t := r.t
	t.Logf("%v; %.0f images/s", r.total, float64(r.total.images)/time.Since(r.begun).Seconds())
	t.Log(&r.seen)
	if r.book != nil {
		r.write()
		before := r.book.before
		t.Logf("in all runs of %s, seeds from %d to %d: %v; %v; %d versions of the engine and its tests", *crashBookFlag, r.book.first, r.book.next-1, before.counts, before.time.Round(time.Second), len(before.builds))
		t.Logf("crashbook|%d", before.counts.images)
	}
	counted(t, "C1", "crash images checked", r.total.images)
}

// ---- the book

const crashBookInterval = time.Minute

// crashBook is a file in which each line tells of seeds that were done, without a violation.
type crashBook struct {
	name    string
	build   string
	first   uint64 // of all
	next    uint64 // the seed behind the last that is done
	written time.Time

	before crashBookTotal // of the file
	from   uint64         // of what is not written yet
	new    crashCounts
}

type crashBookTotal struct {
	counts crashCounts
	time   time.Duration
	builds map[string]bool
}

const crashBookLine = "seeds %d to %d: %d images, %d repeats, %d points, %d nested, %d in an open; %d ms, build %s\n"

// openCrashBook reads what a book says. One that is not there, or empty, begins with the given seed.
func openCrashBook(name string, first uint64) (*crashBook, error) {
	b := &crashBook{name: name, first: first, next: first, written: time.Now(), before: crashBookTotal{builds: map[string]bool{}}}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	code, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	b.build = fmt.Sprintf("%016x", xxhash.Sum64(code))
	f, err := os.Open(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			if err := b.read(lines.Text(), n == 1); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, n, err)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	b.from = b.next
	return b, nil
}

// read takes in one line.
func (b *crashBook) read(line string, isFirst bool) error {
	var from, to uint64
	var c crashCounts
	var ms int64
	var build string
	if _, err := fmt.Sscanf(line+"\n", crashBookLine, &from, &to, &c.images, &c.repeats, &c.points, &c.nested, &c.inOpen, &ms, &build); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	if isFirst {
		b.first, b.next = from, from
	}
	if from != b.next || to < from {
		return fmt.Errorf("seeds %d to %d do not follow those up to %d", from, to, b.next-1)
	}
	c.cases = int64(to - from + 1)
	b.next = to + 1
	b.before.counts.add(c)
	b.before.time += time.Duration(ms) * time.Millisecond
	b.before.builds[build] = true
	return nil
}

// add notes the case of the next seed.
func (b *crashBook) add(c crashCounts) {
	b.next++
	b.new.add(c)
}

// write adds a line for what is new.
func (b *crashBook) write() error {
	now := time.Now()
	took := now.Sub(b.written)
	b.written = now
	if b.next == b.from {
		return nil
	}
	line := fmt.Sprintf(crashBookLine, b.from, b.next-1, b.new.images, b.new.repeats, b.new.points, b.new.nested, b.new.inOpen, took.Milliseconds(), b.build)
	f, err := os.OpenFile(b.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	c := b.new
	b.before.counts.add(c)
	b.before.time += took
	b.before.builds[b.build] = true
	b.from, b.new = b.next, crashCounts{}
	return nil
}

// Ensures that a book is read as it was written, that a run goes on where the one before has ended, whatever the order in which its cases were done, and
// that a line which does not follow the one before is refused.
func TestCrashBook(t *testing.T) {
	name := t.TempDir() + "/book"
	open := func() *crashRun {
		book, err := openCrashBook(name, 100)
		if err != nil {
			t.Fatal(err)
		}
		return &crashRun{t: t, book: book, behind: map[uint64]crashCounts{}}
	}
	c := crashCounts{1, 10, 2, 3, 4, 1}
	r := open()
	for _, seed := range []uint64{101, 100, 104, 102} { // 103 is not done
		r.done(seed, c)
	}
	r.write()
	r.write() // nothing is new
	r = open()
	if r.book.first != 100 || r.book.next != 103 || r.book.before.counts != (crashCounts{3, 30, 6, 9, 12, 3}) || len(r.book.before.builds) != 1 {
		t.Fatalf("read as %+v", r.book)
	}
	r.done(103, c)
	r.done(104, c)
	r.write()
	r = open()
	if r.book.next != 105 || r.book.before.counts.images != 50 {
		t.Fatalf("read as %+v", r.book)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(name, []byte(string(text)+first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openCrashBook(name, 1); err == nil {
		t.Fatal("the same seeds count twice")
	}
}
