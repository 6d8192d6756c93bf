package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Ensures that a key lies before the end of a prefix, and not below the prefix, exactly if it begins with it.
func TestPrefixEnd(t *testing.T) {
	// Few letters, so that keys often begin with the prefix.
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 0xfe, 0xff}), 0, 5)
	rapid.Check(t, func(t *rapid.T) {
		prefix, key := key.Draw(t, "prefix"), key.Draw(t, "key")
		end := prefixEnd(prefix)
		inside := bytes.Compare(key, prefix) >= 0 && (end == nil || bytes.Compare(key, end) < 0)
		require.Equal(t, bytes.HasPrefix(key, prefix), inside, "end %q", end)
	})
}
