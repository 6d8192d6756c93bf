package kvpath

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func names(s ...string) [][]byte {
	var path [][]byte
	for _, name := range s {
		path = append(path, []byte(name))
	}
	return path
}

// Ensures that each escape means what the package comment says.
func TestParse(t *testing.T) {
	for text, want := range map[string][][]byte{
		"":            nil,
		"a":           names("a"),
		"a/b/c":       names("a", "b", "c"),
		`a\/b`:        names("a/b"),
		`a\\/b`:       names(`a\`, "b"),
		`\x00\xFf/x`:  names("\x00\xff", "x"),
		"naïve/größe": names("naïve", "größe"),
		"with space":  names("with space"),
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

// Ensures that what cannot be a path is refused with the place of the fault.
func TestParse_Refuses(t *testing.T) {
	for text, want := range map[string]string{
		"/a":    "empty name before the slash at offset 0",
		"a//b":  "empty name before the slash at offset 2",
		"a/":    "empty name at the end",
		"/":     "empty name before the slash at offset 0",
		`a\`:    "backslash without a character",
		`a\n`:   "unknown escape `\\n`",
		`a\x`:   "without two hexadecimal digits at offset 1",
		`a\x1`:  "without two hexadecimal digits at offset 1",
		`a\xgg`: "without two hexadecimal digits at offset 1",
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

// Ensures that any non-empty names survive Format and Parse, and that the text has nothing that a line of a text
// file could not hold.
func TestFormat_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SliceOfN(rapid.Byte(), 1, 12)
		special := rapid.Map(rapid.StringOfN(rapid.RuneFrom([]rune("/\\x0aé\t\u00a0\ufffd")), 1, 8, -1), func(s string) []byte { return []byte(s) })
		path := rapid.SliceOfN(rapid.OneOf(name, special), 1, 4).Draw(t, "path")

		text := Format(path)
		require.True(t, utf8.ValidString(text))
		require.False(t, strings.ContainsFunc(text, unicode.IsControl))
		got, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, path, got)
	})
}

// FuzzParse ensures that Parse never panics, and that what it accepts is a path that Format writes in a form that
// parses to the same names.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a/b", `a\/b\\\x00`, "//", `\`, "\xff/\xfe"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(Format(path))
		require.NoError(t, err)
		require.Equal(t, path, again)
	})
}
