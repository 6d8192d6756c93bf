package measure

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// However many lines of each page are read, a walk comes through every page before it comes through one again, and
// the lines of a page are different ones.
func TestChase(t *testing.T) {
	const pages = 100
	c, err := NewChase(t.TempDir(), pages*chasePage)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	for lines := 1; lines <= ChaseLines; lines++ {
		seen := map[uint64]bool{}
		page := uint64(0)
		for range pages {
			require.False(t, seen[page])
			seen[page] = true
			touched := map[uint64]bool{page: true}
			at := page
			for range lines - 1 {
				at = page + binary.LittleEndian.Uint64(c.mapped[at:])
				touched[at] = true
			}
			require.Len(t, touched, lines)
			page = binary.LittleEndian.Uint64(c.mapped[at+8:])
		}
		require.Zero(t, page)
		require.Positive(t, c.Walk(lines, time.Millisecond))
	}
}
