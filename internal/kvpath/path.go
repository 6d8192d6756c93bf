// Package kvpath writes the place of a nested bucket as one line of text, and reads it back.
//
// A path is the names of the buckets from the outermost to the innermost, separated by slashes: "users/emails".
// Bucket names are arbitrary bytes, so a backslash escapes what could not stand for itself:
//
//	\/    a slash inside a name
//	\\    a backslash
//	\xHH  the byte with this hexadecimal value
//
// Every path that Format writes is valid UTF-8 without control characters, hence without tabs and newlines. It can be
// a column of a text file, and Parse returns exactly the names that were given to Format.
package kvpath

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// Parse splits a path into bucket names. The empty text is the empty path, which stands for the top level of a store.
// An empty name ("a//b", or a slash at either end) is an error, and so is an unknown escape.
func Parse(text string) ([][]byte, error) {
	if text == "" {
		return nil, nil
	}
	var path [][]byte
	var name []byte
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case '/':
			if len(name) == 0 {
				return nil, fmt.Errorf("bucket path %#q: empty name before the slash at offset %d", text, i)
			}
			path = append(path, name)
			name = nil
			i++
		case '\\':
			b, size, err := unescape(text[i:])
			if err != nil {
				return nil, fmt.Errorf("bucket path %#q: %w at offset %d", text, err, i)
			}
			name = append(name, b)
			i += size
		default:
			name = append(name, c)
			i++
		}
	}
	if len(name) == 0 {
		return nil, fmt.Errorf("bucket path %#q: empty name at the end", text)
	}
	return append(path, name), nil
}

// unescape reads one escape sequence at the start of text and returns the byte it stands for and its length.
func unescape(text string) (b byte, size int, err error) {
	if len(text) < 2 {
		return 0, 0, fmt.Errorf(`backslash without a character to escape (write \\ for a backslash)`)
	}
	switch text[1] {
	case '/', '\\':
		return text[1], 2, nil
	case 'x':
		if len(text) >= 4 {
			high, ok1 := unhex(text[2])
			low, ok2 := unhex(text[3])
			if ok1 && ok2 {
				return high<<4 | low, 4, nil
			}
		}
		return 0, 0, fmt.Errorf(`\x without two hexadecimal digits`)
	default:
		return 0, 0, fmt.Errorf(`unknown escape %#q (known are \/, \\ and \xHH)`, text[:2])
	}
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// Format writes a path so that Parse returns the same names.
func Format(path [][]byte) string {
	var text strings.Builder
	for i, name := range path {
		if i > 0 {
			text.WriteByte('/')
		}
		formatName(&text, name)
	}
	return text.String()
}

func formatName(text *strings.Builder, name []byte) {
	for len(name) > 0 {
		r, size := utf8.DecodeRune(name)
		switch {
		case r == '/' || r == '\\':
			text.WriteByte('\\')
			text.WriteByte(name[0])
		case r == utf8.RuneError && size == 1, !unicode.IsPrint(r):
			for _, b := range name[:size] {
				text.WriteString(`\x`)
				text.WriteByte(hexDigits[b>>4])
				text.WriteByte(hexDigits[b&15])
			}
		default:
			text.Write(name[:size])
		}
		name = name[size:]
	}
}
