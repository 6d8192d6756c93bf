package alder

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Shrinking: of a failing script, parts are left out as long as the rest still fails. Calls move when the script
// changes, so each candidate is explored anew, and any violation counts.

// shrink returns the smallest failing case that it finds within the time.
func (l *crashLab) shrink(k *crashCase, v *crashViolation, limit time.Duration) (*crashCase, *crashViolation) {
	end := time.Now().Add(limit)
	best, bestViolation := k, v
	fails := func(c *crashCase) bool {
		if time.Now().After(end) {
			return false
		}
		v := l.explore(c, 24)
		if v != nil {
			best, bestViolation = c, v
		}
		return v != nil
	}
	if k.fault != nil {
		c := *k
		c.fault = nil
		fails(&c)
	}
	for progress := true; progress && time.Now().Before(end); {
		progress = false
		for size := max(1, len(best.script)/2); size > 0; size /= 2 {
			for at := 0; at < len(best.script); {
				c := *best
				c.script = slices.Delete(slices.Clone(best.script), at, min(at+size, len(best.script)))
				if fails(&c) {
					progress = true
				} else {
					at += size
				}
			}
		}
		for i := 0; i < len(best.script); i++ {
			for j := 0; j < len(best.script[i].ops); {
				c := *best
				c.script = slices.Clone(best.script)
				c.script[i].ops = slices.Delete(slices.Clone(best.script[i].ops), j, j+1)
				if fails(&c) {
					progress = true
				} else {
					j++
				}
			}
		}
	}
	return best, bestViolation
}

// explore runs a case with so many outcomes at every crash point and returns the first violation.
func (l *crashLab) explore(k *crashCase, outcomes int) *crashViolation {
	c := crashLab{open: l.open, wrap: l.wrap, depth: l.depth, hang: l.hang,
		sample: func(*rand.Rand, *crashEpisode, simCall) int { return outcomes }}
	return c.run(k)
}
