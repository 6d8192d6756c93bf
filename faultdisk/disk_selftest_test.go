package faultdisk

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const imageSize = 64 << 10

func sectors(content byte, n int) []byte { return bytes.Repeat([]byte{content}, n*sectorSize) }

// content reads a sector, and requires that all of it is the same.
func content(t *testing.T, d *disk, sector int64) byte {
	t.Helper()
	b := make([]byte, sectorSize)
	n, errno := d.read(d.generation, b, sector*sectorSize)
	require.Zero(t, errno)
	require.Equal(t, sectorSize, n)
	require.Equal(t, bytes.Repeat(b[:1], sectorSize), b, "a torn sector")
	return b[0]
}

// Ensures that a power cut keeps what was flushed, and of what was not any part, in any order: each sector is as it was after one of its writes,
// and over many cuts every combination comes.
func TestDisk_Cut(t *testing.T) {
	type pair struct{ first, second byte }
	seen := map[pair]int{}
	for seed := range uint64(400) {
		d := newDisk(make([]byte, imageSize))
		require.Zero(t, d.write(1, sectors(1, 2), 8*sectorSize))
		require.Zero(t, d.write(1, sectors(9, 1), 20*sectorSize))
		require.Zero(t, d.flush(1))
		require.Zero(t, d.write(1, sectors(2, 2), 8*sectorSize))
		require.Zero(t, d.write(1, sectors(3, 1), 8*sectorSize))
		require.EqualValues(t, 3, content(t, d, 8))
		require.EqualValues(t, 2, content(t, d, 9))
		require.Equal(t, 2, d.cut(seed))
		seen[pair{content(t, d, 8), content(t, d, 9)}]++
		require.EqualValues(t, 9, content(t, d, 20), "what was flushed")
		require.Equal(t, d.medium, d.cache)
		require.Equal(t, syscall.EIO, d.write(1, sectors(7, 1), 0), "the generation is gone")
		require.Equal(t, syscall.EIO, d.flush(1))
	}
	require.Len(t, seen, 6, "%v", seen)
}

// Ensures that a disk that is frozen answers nobody until the cut, that a write which came meanwhile may reach the medium, and that a flush which
// came meanwhile has no effect.
func TestDisk_Freeze(t *testing.T) {
	reached := 0
	for seed := range uint64(50) {
		d := newDisk(make([]byte, imageSize))
		d.arm(2)
		require.Zero(t, d.write(1, sectors(1, 1), 8*sectorSize))
		answers := make(chan syscall.Errno, 2)
		go func() { answers <- d.write(1, sectors(2, 1), 9*sectorSize) }()
		require.True(t, d.waitFrozen(time.Minute))
		go func() { answers <- d.flush(1) }()
		select {
		case errno := <-answers:
			t.Fatalf("answered with %v", errno)
		case <-time.After(2 * time.Millisecond):
		}
		d.cut(seed)
		require.Equal(t, syscall.EIO, <-answers)
		require.Equal(t, syscall.EIO, <-answers)
		if content(t, d, 9) == 2 {
			reached++
		}
		require.Zero(t, d.counts.Flushes)
	}
	require.Positive(t, reached)
	require.Less(t, reached, 50)
	require.False(t, newDisk(nil).waitFrozen(time.Millisecond))
}

// Ensures that a failed write leaves a part of itself, that a failed flush leaves the rest for the next one, and that a fault that stays lets
// everything fail.
func TestDisk_Faults(t *testing.T) {
	parts := map[byte]int{}
	for seed := range uint64(50) {
		d := newDisk(make([]byte, imageSize))
		d.setFault(Fault{Write: 2, Seed: seed})
		require.Zero(t, d.write(1, sectors(1, 1), 8*sectorSize))
		require.Equal(t, syscall.EIO, d.write(1, sectors(2, 1), 8*sectorSize))
		require.Zero(t, d.write(1, sectors(3, 1), 9*sectorSize))
		parts[content(t, d, 8)]++

		d.setFault(Fault{Flush: 1, Seed: seed})
		require.Equal(t, syscall.EIO, d.flush(1))
		require.EqualValues(t, 3, content(t, d, 9), "the cache still has it")
		require.Zero(t, d.flush(1))
		d.cut(seed)
		require.EqualValues(t, 3, content(t, d, 9), "a flush has succeeded")

		d.setFault(Fault{Flush: 1, More: 1, Seed: seed})
		require.Equal(t, syscall.EIO, d.flush(2))
		require.Equal(t, syscall.EIO, d.flush(2))
		require.Zero(t, d.flush(2))

		d.setFault(Fault{Write: 1, Sticky: true, Seed: seed})
		require.Equal(t, syscall.EIO, d.write(2, sectors(4, 1), 8*sectorSize))
		require.Equal(t, syscall.EIO, d.flush(2))
		require.Equal(t, syscall.EIO, d.write(2, sectors(4, 1), 8*sectorSize))
		d.setFault(Fault{})
		require.Zero(t, d.flush(2))
	}
	require.Len(t, parts, 2)
}

// Ensures that the blocks of the superblocks, and no others, are written as a whole.
func TestDisk_Whole(t *testing.T) {
	d := newDisk(nil)
	ends := func(offset int64) (ends []int64) {
		for _, s := range d.sectors(piece{offset, make([]byte, wholeSize)}) {
			ends = append(ends, s.offset+int64(len(s.data)))
		}
		return ends
	}
	require.Equal(t, []int64{4096, 4608, 5120}, ends(1024))
	d.whole = []int64{0, 64 << 10}
	require.Equal(t, []int64{4096, 4608, 5120}, ends(1024))
	require.Len(t, ends(4096), 8)
	require.Equal(t, []int64{64<<10 - 512, 64 << 10, 67 << 10}, ends(63<<10))
}
