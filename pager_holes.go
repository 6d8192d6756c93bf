package alder

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Holes: free pages in the middle of the file whose blocks go back to the file system, and get blocks again before they are given out. (Invariant 24)
// docs/decisions/0014-holes.md says why it is done this way.

const (
	punchLeast  = 64 << 10 // bytes of a run of free pages that is worth a hole
	punchStep   = 8 << 20  // bytes that are given back at a time
	punchChunks = 4        // parts of the map, each of a page, that are looked through before the clock is looked at
	solidAtOnce = 64       // pages that get blocks again together, where so many are neighbors
)

// solidify gives the pages that have just been taken blocks of their own. If there are none to be had they are given back, and others are taken, which have some.
func (pg *pager) solidify(r run, before pgid) (pgid, error) {
	f := pg.fl
	if len(f.holes.taken) == 0 {
		return r.id, nil
	}
	taken := slices.Clone(f.holes.taken)
	var err error
	for _, t := range taken {
		if err = pg.reserve(t); err != nil {
			break
		}
	}
	if err == nil {
		return r.id, nil
	}
	if f.highWater > before {
		f.highWater = before
		f.holes.back(before)
	} else {
		if e := f.release(r); e != nil {
			return 0, errors.Join(err, e)
		}
		for _, t := range taken {
			if e := f.setBare(t); e != nil {
				return 0, errors.Join(err, e)
			}
		}
	}
	other, e := f.nextFree(firstPage, f.highWater, r.n, false)
	if e != nil || other.n < r.n {
		return 0, errors.Join(err, e)
	}
	return other.id, f.take(run{other.id, r.n})
}

// reserve gives pages blocks of their own that have been taken, and some of those behind them, if that is no more work.
func (pg *pager) reserve(r run) error {
	more := pg.fl.bareFollowing(r.id+pgid(r.n)-1, max(solidAtOnce-r.n, 0))
	err := pg.st.refill(pg.offset(r.id), int64(r.n+more.n)<<pg.shift)
	if err == nil {
		return pg.fl.setSolid(more)
	}
	if more.n > 0 {
		err = pg.st.refill(pg.offset(r.id), int64(r.n)<<pg.shift)
	}
	if err != nil {
		return fmt.Errorf("getting blocks for %d pages from page %d on, which had been given back: %w", r.n, r.id, err)
	}
	return nil
}

// haveSolid sees to it that n free pages have blocks, if so many are free, and all of those behind the high water mark.
func (pg *pager) haveSolid(n int) error {
	f := pg.fl
	if !f.holes.possible {
		return nil
	}
	for at := firstPage; f.solidFree() < n && f.holes.count > 0; {
		r, err := f.nextFree(at, f.highWater, 1, true)
		if err != nil {
			return err
		}
		if r.n == 0 {
			break
		}
		r.n = min(r.n, max(n-f.solidFree(), solidAtOnce))
		if err := pg.st.refill(pg.offset(r.id), int64(r.n)<<pg.shift); err != nil {
			return fmt.Errorf("getting blocks for %d pages that had been given back: %w", r.n, err)
		}
		if err := f.setSolid(r); err != nil {
			return err
		}
		at = r.id + pgid(r.n)
	}
	h := &f.holes
	if from, to := pg.offset(max(h.bareFrom, f.highWater)), min(pg.offset(h.bareTo), pg.st.size()); f.solidFree() < n && from < to {
		if err := pg.st.refill(from, to-from); err != nil {
			return fmt.Errorf("getting blocks for the end of the file: %w", err)
		}
		h.bareFrom = h.bareTo
	}
	return nil
}

// hasHoles reports whether the next map may have free pages that have no blocks. The caller has the writer lock.
func (pg *pager) hasHoles() bool {
	h := &pg.fl.holes
	return h.possible && (h.count > 0 || h.bareTo > max(h.bareFrom, pg.fl.highWater))
}

// ---- punching

// punchFrom is the page from which on free pages may lose their blocks: those before it are the first that are taken again.
func (pg *pager) punchFrom() (pgid, error) {
	spare := (int(pg.fl.highWater)-pg.fl.free)/shrinkSlack + pg.fl.updatePagesAtMost()
	var failed error
	n := sort.Search(int(pg.fl.highWater), func(id int) bool {
		free, err := pg.fl.freeBetween(firstPage, pgid(id))
		failed = errors.Join(failed, err)
		return free >= spare
	})
	return max(pgid(n), firstPage), failed
}

// punchSome gives blocks back for a short time, and returns the page from which on to continue; maxPgid at the end. The caller has the writer lock, and no checkpoint is
// under way.
func (pg *pager) punchSome(from pgid, punched *int64) (pgid, error) {
	f := pg.fl
	for until := time.Now().Add(pg.opts.shrinkTime); time.Now().Before(until); {
		span := mapSpan(pg.pageSize)
		end := min(f.highWater, pgid((int(from)/span+punchChunks)*span))
		r, err := f.nextFree(from, end, max(int(pg.opts.punchLeast>>pg.shift), 1), false)
		if err != nil || r.n == 0 && end == f.highWater {
			return maxPgid, err
		}
		if r.n == 0 {
			from = end
			continue
		}
		r.n = min(r.n, punchStep>>pg.shift)
		// Who opens the store after a crash must know it before the first hole is made.
		if err := pg.noteHoles(); err != nil {
			return maxPgid, err
		}
		if err := f.setBare(r); err != nil {
			return maxPgid, err
		}
		ok, err := pg.st.punch(pg.offset(r.id), int64(r.n)<<pg.shift)
		if err != nil {
			return maxPgid, fmt.Errorf("giving back the blocks of %d pages from page %d on: %w", r.n, r.id, err)
		}
		if !ok {
			return maxPgid, nil
		}
		*punched += int64(r.n) << pg.shift
		from = r.id + pgid(r.n)
	}
	return from, nil
}

// noteHoles makes durable that free pages may have no blocks.
func (pg *pager) noteHoles() error {
	pg.fl.holes.possible = true
	pg.commitMu.Lock()
	m := pg.durable
	pg.commitMu.Unlock()
	if m.holes {
		return nil
	}
	if err := pg.checkRemoved(); err != nil {
		return err
	}
	m.sequence++
	m.holes = true
	return pg.writeMeta(m)
}
