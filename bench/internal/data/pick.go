package data

import (
	"fmt"
	"math"
	"sync"
)

// Picker chooses record numbers, the same sequence for the same seed.
type Picker interface {
	// Next returns a number in [0, n), where n is what the picker was made for.
	Next() int
}

// Distributions names what NewPicker takes.
var Distributions = []string{"uniform", "zipfian", "latest", "sequential"}

// NewPicker returns a picker over n records. Each goroutine has one of its own, with a seed of its own.
func NewPicker(distribution string, n int, seed uint64) (Picker, error) {
	if n <= 0 {
		return nil, fmt.Errorf("cannot pick from %d records", n)
	}
	switch distribution {
	case "uniform", "":
		return &uniform{n: uint64(n), rng: Rand{state: Mix(seed)}}, nil
	case "zipfian":
		return &zipfian{zipf: newZipf(n), rng: Rand{state: Mix(seed)}, scramble: true}, nil
	case "latest":
		return &zipfian{zipf: newZipf(n), rng: Rand{state: Mix(seed)}}, nil
	case "sequential":
		return &sequential{n: n, next: int(Mix(seed) % uint64(n))}, nil
	}
	return nil, fmt.Errorf("no distribution %q; there are %v", distribution, Distributions)
}

// Rand is a small fast generator of random numbers (splitmix64).
type Rand struct{ state uint64 }

// NewRand returns a generator for a seed.
func NewRand(seed uint64) *Rand { return &Rand{state: Mix(seed)} }

// Uint64 returns the next number.
func (r *Rand) Uint64() uint64 {
	r.state += 0x9e3779b97f4a7c15
	return Mix(r.state)
}

// Below returns a number in [0, n).
func (r *Rand) Below(n uint64) uint64 {
	return r.Uint64() % n
}

// Float returns a number in [0, 1).
func (r *Rand) Float() float64 {
	return float64(r.Uint64()>>11) / (1 << 53)
}

type uniform struct {
	n   uint64
	rng Rand
}

func (u *uniform) Next() int { return int(u.rng.Below(u.n)) }

type sequential struct{ n, next int }

func (s *sequential) Next() int {
	i := s.next
	if s.next++; s.next == s.n {
		s.next = 0
	}
	return i
}

// theta is the skew that YCSB uses.
const theta = 0.99

// zipf draws ranks with a Zipf distribution of exponent theta < 1, by the method of Gray et al. ("Quickly
// generating billion-record synthetic databases"), which YCSB uses too. math/rand's Zipf needs an exponent above 1.
type zipf struct {
	n           float64
	alpha, zeta float64
	eta, half   float64
}

// zipfs keeps what was computed for each number of records: the sum takes 50 ns for each.
var zipfs sync.Map

func newZipf(n int) zipf {
	if z, ok := zipfs.Load(n); ok {
		return z.(zipf)
	}
	z := computeZipf(n)
	zipfs.Store(n, z)
	return z
}

func computeZipf(n int) zipf {
	zeta := 0.0
	for i := 1; i <= n; i++ {
		zeta += 1 / math.Pow(float64(i), theta)
	}
	two := 1 + math.Pow(0.5, theta)
	z := zipf{n: float64(n), alpha: 1 / (1 - theta), zeta: zeta, half: two}
	z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - two/zeta)
	return z
}

func (z *zipf) rank(u float64) int {
	uz := u * z.zeta
	if uz < 1 || z.n < 2 {
		return 0
	}
	if uz < z.half {
		return 1
	}
	rank := int(z.n * math.Pow(z.eta*u-z.eta+1, z.alpha))
	return min(rank, int(z.n)-1)
}

// zipfian picks few records often. Scrambled, the popular ones are spread over the whole set; otherwise they are
// those with the highest numbers, the latest inserted.
type zipfian struct {
	zipf     zipf
	rng      Rand
	scramble bool
}

func (z *zipfian) Next() int {
	rank := z.zipf.rank(z.rng.Float())
	if z.scramble {
		return int(Mix(uint64(rank)) % uint64(z.zipf.n))
	}
	return int(z.zipf.n) - 1 - rank
}
