// Package data makes the records that every engine is given: the same keys and values for all, from a fixed
// seed, and the answers that a correct engine must return for them.
//
// A Set is numbered 0..Len-1. Its keys and values are functions of the number (values also of a version), so
// that no table of expected answers has to be kept in memory beside the engine that is measured.
package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Set is the content of a store.
type Set interface {
	// Len is the number of records a loaded store holds.
	Len() int
	// Key returns record i's key; it may use buf's memory. Numbers at and past Len name records that the load
	// does not contain, where the set can make such.
	Key(i int, buf []byte) []byte
	// Value returns record i's value as written the version-th time (0 = by the load); it may use buf's memory.
	Value(i int, version uint64, buf []byte) []byte
	// Expect sets c up for record i: what a look-up has to return, whichever version was written last.
	Expect(i int, c *Check)
	// Verify compares a whole value with what record i may hold.
	Verify(i int, value []byte) error
	// Extensible reports whether numbers at and past Len are valid.
	Extensible() bool
}

// stampSize is the part of a synthetic value that names its record and version.
const stampSize = 16

// Synthetic is a Set of keys and values of fixed sizes.
type Synthetic struct {
	n         int
	keySize   int
	valueSize int
	sorted    bool
	keySeed   uint64
	valueSeed uint64
	pool      []byte
}

// bodyPool is how many distinct places in the pool of random bytes the body of a value may begin at.
const bodyPool = 1 << 20

// largeValue is the size from which on the bodies of all values are alike, so that making one costs a stamp
// and not a copy that would be measured with the put.
const largeValue = 64 << 10

// NewSynthetic returns n records. Sorted keys ascend with their number; others are spread at random, so that
// loading them in the order of their numbers is a random load. compressible is the share of each value (0 to 1)
// that a compressor can remove.
func NewSynthetic(n, keySize, valueSize int, sorted bool, seed uint64, compressible float64) (*Synthetic, error) {
	if keySize < 8 || valueSize < stampSize {
		return nil, fmt.Errorf("keys need 8 bytes and values %d at least, not %d and %d", stampSize, keySize, valueSize)
	}
	if compressible < 0 || compressible > 1 {
		return nil, fmt.Errorf("the compressible share is %v, outside 0 to 1", compressible)
	}
	s := &Synthetic{
		n: n, keySize: keySize, valueSize: valueSize, sorted: sorted,
		keySeed: Mix(seed), valueSeed: Mix(seed + 1),
	}
	s.pool = randomPool(bodyPool+valueSize, seed+2, compressible)
	return s, nil
}

// randomPool returns size bytes of which, in each stretch of 64, the given share is zero.
func randomPool(size int, seed uint64, compressible float64) []byte {
	pool := make([]byte, (size+7)&^7)
	for i := 0; i < len(pool); i += 8 {
		binary.LittleEndian.PutUint64(pool[i:], Mix(seed+uint64(i)))
	}
	zero := int(64 * compressible)
	for i := 0; i+64 <= len(pool); i += 64 {
		clear(pool[i : i+zero])
	}
	return pool
}

// Mix is the finalizer of splitmix64: a bijection of 64-bit numbers whose outputs look random. The C programs
// that read with other languages' bindings make their keys with the same function.
func Mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

func (s *Synthetic) Len() int         { return s.n }
func (s *Synthetic) Extensible() bool { return true }

// Seed is what the first eight bytes of a random key are made from: Mix(Seed+i), big-endian.
func (s *Synthetic) Seed() uint64 { return s.keySeed }

// ValueSeed is what a value's stamp is made from: Mix(ValueSeed^i), little-endian.
func (s *Synthetic) ValueSeed() uint64 { return s.valueSeed }

func (s *Synthetic) Key(i int, buf []byte) []byte {
	if cap(buf) < s.keySize {
		buf = make([]byte, s.keySize)
	}
	key := buf[:s.keySize]
	first := uint64(i)
	if !s.sorted {
		first = Mix(s.keySeed + uint64(i))
	}
	binary.BigEndian.PutUint64(key, first)
	x := ^first
	for at := 8; at < len(key); at += 8 {
		x = Mix(x)
		if at+8 <= len(key) {
			binary.BigEndian.PutUint64(key[at:], x)
			continue
		}
		var tail [8]byte
		binary.BigEndian.PutUint64(tail[:], x)
		copy(key[at:], tail[:])
	}
	return key
}

func (s *Synthetic) Value(i int, version uint64, buf []byte) []byte {
	fresh := cap(buf) < s.valueSize
	if fresh {
		buf = make([]byte, s.valueSize)
	}
	value := buf[:s.valueSize]
	if s.valueSize < largeValue || fresh {
		copy(value[stampSize:], s.body(i, version))
	}
	binary.LittleEndian.PutUint64(value, s.stamp(i))
	binary.LittleEndian.PutUint64(value[8:], version)
	return value
}

func (s *Synthetic) stamp(i int) uint64 { return Mix(s.valueSeed ^ uint64(i)) }

func (s *Synthetic) body(i int, version uint64) []byte {
	if s.valueSize >= largeValue {
		return s.pool[:s.valueSize-stampSize]
	}
	at := Mix(uint64(i)^version<<40) % bodyPool
	return s.pool[at : at+uint64(s.valueSize-stampSize)]
}

func (s *Synthetic) Expect(i int, c *Check) {
	c.head, c.length = s.stamp(i), s.valueSize
}

func (s *Synthetic) Verify(i int, value []byte) error {
	if len(value) != s.valueSize {
		return fmt.Errorf("record %d has a value of %d bytes, not %d", i, len(value), s.valueSize)
	}
	if got := binary.LittleEndian.Uint64(value); got != s.stamp(i) {
		return fmt.Errorf("record %d has the stamp %#x, not %#x", i, got, s.stamp(i))
	}
	version := binary.LittleEndian.Uint64(value[8:])
	if !bytes.Equal(value[stampSize:], s.body(i, version)) {
		return fmt.Errorf("record %d, version %d, has a damaged body", i, version)
	}
	return nil
}
