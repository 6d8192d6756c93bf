package alder

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// windowLeaf makes a leaf of n cells, all alike or of lengths that differ.
func windowLeaf(n int, alike bool) page {
	p := make(page, 16384)
	p.clearHeader(kindLeaf, pageRef{7, 7})
	cells := make([]leafCell, n)
	for i := range cells {
		cells[i] = leafCell{key: fmt.Appendf(nil, "key%04d", i), value: bytes.Repeat([]byte{byte(i)}, 9)}
		if !alike {
			cells[i].key = append(cells[i].key, "tail"[:i%5]...)
			cells[i].value = cells[i].value[:i%7]
		}
	}
	p.buildLeaf(cells)
	return p
}

// Ensures that windows in both directions show every cell of a leaf, and that they are of about the same size.
func TestWindow(t *testing.T) {
	for _, alike := range []bool{true, false} {
		size := windowSizes
		if alike {
			size = windowCells
		}
		for _, n := range []int{1, 2, size - 1, size, size + 1, 2 * size, 2*size + 1, 5*size - 1, 300} {
			p := windowLeaf(n, alike)
			require.Equal(t, alike || n == 1, p.flags() == 0)
			var w window
			shown, windows := 0, 0
			for i := 0; i < n; i = int(w.first + w.filled) {
				require.True(t, w.fill(p, i, false))
				require.Zero(t, w.at)
				require.EqualValues(t, i, w.first)
				require.LessOrEqual(t, int(w.filled), size)
				require.Greater(t, 2*int(w.filled), min(size, n)-2, "the last of the windows over %d cells is small", n)
				readWindow(p, i, false)
				shown += int(w.filled)
				windows++
			}
			require.Equal(t, n, shown)
			require.Equal(t, (n+size-1)/size, windows)
			for i := n - 1; i >= 0; i = int(w.first) - 1 {
				require.True(t, w.fill(p, i, true))
				require.Equal(t, w.filled-1, w.at)
				readWindow(p, i, true)
				shown -= int(w.filled)
			}
			require.Zero(t, shown)
		}
	}
}

// Ensures that a window shows nothing of a leaf whose cells have flags, even if it has shown another leaf before.
func TestWindow_Flags(t *testing.T) {
	var w window
	require.True(t, w.fill(windowLeaf(5, true), 2, false))
	p := make(page, 4096)
	p.clearHeader(kindLeaf, pageRef{7, 7})
	p.buildLeaf([]leafCell{{key: []byte("a"), value: []byte("b")}, {flags: cellBucket, key: []byte("c"), value: make([]byte, bucketHeader)}})
	require.False(t, w.fill(p, 0, false))
	require.Zero(t, w.filled)
}
