package data

import "encoding/binary"

// Check compares what a look-up returned with what it must return. It looks at the length and the first eight
// bytes, which cost a nanosecond and tell every record from every other; whole values are compared by Set.Verify
// outside of the timed part.
type Check struct {
	head   uint64
	length int
	seen   uint64
	wrong  uint64
}

// See takes the value that the engine found, nil if none.
func (c *Check) See(value []byte) {
	c.seen++
	if len(value) != c.length || head64(value) != c.head {
		c.wrong++
	}
}

// Seen is the number of values compared so far.
func (c *Check) Seen() uint64 { return c.seen }

// Wrong is the number of those that were not what the set holds.
func (c *Check) Wrong() uint64 { return c.wrong }

// Sum is a digest of the records that a scan visited: enough to notice a missing, doubled or damaged record, and
// the same for both directions. Order is verified separately, see Order.
type Sum struct {
	Count  uint64
	Bytes  uint64
	Keys   uint64
	Values uint64
}

// Add takes one visited record.
func (s *Sum) Add(key, value []byte) {
	s.Count++
	s.Bytes += uint64(len(key) + len(value))
	s.Keys += tail64(key)
	s.Values += head64(value)
}

// SumOf digests records from..to-1 of a set, as a scan over them would. The values' heads do not depend on
// their versions.
func SumOf(set Set, from, to int) Sum {
	var s Sum
	var key, value []byte
	for i := from; i < to; i++ {
		key = set.Key(i, key)
		value = set.Value(i, 0, value)
		s.Add(key, value)
	}
	return s
}

// head64 is the first eight bytes as a number, little-endian, short ones filled with zeros.
func head64(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return short64(b)
}

// tail64 is the last eight bytes as a number, little-endian.
func tail64(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b[len(b)-8:])
	}
	return short64(b)
}

func short64(b []byte) uint64 {
	var full [8]byte
	copy(full[:], b)
	return binary.LittleEndian.Uint64(full[:])
}
