package measure

import (
	"bufio"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Chase is a mapped file of pages that lead to one another in random order: a walk through it can do nothing but wait
// for memory. It is to look-ups what a bare append is to commits.
type Chase struct {
	mapped []byte
	path   string
}

const (
	chasePage = 4 << 10
	chaseLine = 64
	// ChaseLines is the most lines of a page that a walk can ask for, one behind the other.
	ChaseLines = 4
)

// NewChase writes a file of about size bytes in dir, a page at a time as a store does, and maps it.
func NewChase(dir string, size int64) (c *Chase, err error) {
	pages := max(2, int(size/chasePage))
	path := filepath.Join(dir, "chase")
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			c = nil
			err = errors.Join(err, os.Remove(path))
		}
	}()
	rng := rand.New(rand.NewPCG(1, uint64(pages)))
	order := rng.Perm(pages) // one circle through all of them
	next := make([]int, pages)
	for i, n := range order {
		next[n] = order[(i+1)%pages]
	}
	w := bufio.NewWriterSize(file, chasePage)
	var page [chasePage]byte
	for _, to := range next {
		// Each line has the place of the line to go to within the page, and the page to go to instead.
		clear(page[:])
		at := 0
		for _, line := range rng.Perm(chasePage/chaseLine - 1)[:ChaseLines-1] {
			chaseStep(&page, at, (line+1)*chaseLine, to)
			at = (line + 1) * chaseLine
		}
		chaseStep(&page, at, 0, to)
		if _, err := w.Write(page[:]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Flush(), file.Sync()); err != nil {
		return nil, err
	}
	mapped, err := unix.Mmap(int(file.Fd()), 0, pages*chasePage, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &Chase{mapped: mapped, path: path}, nil
}

func chaseStep(page *[chasePage]byte, at, line, next int) {
	binary.LittleEndian.PutUint64(page[at:], uint64(line))
	binary.LittleEndian.PutUint64(page[at+8:], uint64(next)*chasePage)
}

// Walk goes from page to page for the time d and returns the nanoseconds for each, of which lines cache lines are
// read, one behind the other: the least of many parts of the walk, since what others do to the machine makes it only longer.
func (c *Chase) Walk(lines int, d time.Duration) float64 {
	page := uint64(0)
	walk := func(pages int) {
		for range pages {
			at := page
			for range lines - 1 {
				at = page + binary.LittleEndian.Uint64(c.mapped[at:])
			}
			page = binary.LittleEndian.Uint64(c.mapped[at+8:])
		}
	}
	walk(len(c.mapped) / chasePage) // each page once: the first touch of a page is a fault
	const part = 10_000
	least := math.Inf(1)
	for end := time.Now().Add(d); time.Now().Before(end); {
		began := time.Now()
		walk(part)
		least = min(least, float64(time.Since(began).Nanoseconds())/part)
	}
	return least
}

// Close takes the file away.
func (c *Chase) Close() error {
	return errors.Join(unix.Munmap(c.mapped), os.Remove(c.path))
}
