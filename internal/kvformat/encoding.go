package kvformat

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Encoding is a way to write the bytes of one key or value as text.
type Encoding string

const (
	// Raw is the bytes themselves.
	Raw Encoding = "raw"

	// Quoted is the bytes themselves while they are printable UTF-8 that does not start with a double quote, and
	// a Go string literal in double quotes otherwise. It never contains a tab or a line break.
	Quoted Encoding = "quoted"

	// Hex is two hexadecimal digits a byte.
	Hex Encoding = "hex"

	// Base64 is standard base64 with padding.
	Base64 Encoding = "base64"

	// JSON is a JSON string, or {"base64": "..."} for bytes that are not UTF-8.
	JSON Encoding = "json"
)

// Encodings lists every encoding, for help texts and completion.
func Encodings() []string {
	return []string{string(Raw), string(Quoted), string(Hex), string(Base64), string(JSON)}
}

// ParseEncoding returns the encoding of this name.
func ParseEncoding(name string) (Encoding, error) {
	if !slices.Contains(Encodings(), name) {
		return "", fmt.Errorf("unknown encoding %q, want one of %s", name, strings.Join(Encodings(), ", "))
	}
	return Encoding(name), nil
}

// Append appends the text of data to dst.
func (e Encoding) Append(dst, data []byte) []byte {
	switch e {
	case Raw:
		return append(dst, data...)
	case Quoted:
		return appendQuoted(dst, data)
	case Hex:
		return hex.AppendEncode(dst, data)
	case Base64:
		return base64.StdEncoding.AppendEncode(dst, data)
	case JSON:
		return AppendJSON(dst, data)
	}
	panic("kvformat: unknown encoding " + string(e))
}

// Decode returns the bytes that text stands for. The result may share memory with text, and is never nil unless
// there is an error.
func (e Encoding) Decode(text []byte) ([]byte, error) {
	switch e {
	case Raw:
		return text, nil
	case Quoted:
		return decodeQuoted(text)
	case Hex:
		data, err := hex.AppendDecode([]byte{}, text)
		if err != nil {
			return nil, fmt.Errorf("not hexadecimal: %s", strings.TrimPrefix(err.Error(), "encoding/hex: "))
		}
		return data, nil
	case Base64:
		data, err := base64.StdEncoding.Strict().AppendDecode([]byte{}, text)
		if err != nil {
			return nil, fmt.Errorf("not base64: %w", err)
		}
		return data, nil
	case JSON:
		var data Bytes
		if err := json.Unmarshal(text, &data); err != nil {
			return nil, jsonReason(err)
		}
		return data, nil
	}
	panic("kvformat: unknown encoding " + string(e))
}

func appendQuoted(dst, data []byte) []byte {
	if isBare(data) {
		return append(dst, data...)
	}
	return strconv.AppendQuote(dst, string(data))
}

// isBare reports whether data stands for itself in the quoted encoding.
func isBare(data []byte) bool {
	if len(data) > 0 && data[0] == '"' {
		return false
	}
	for i := 0; i < len(data); {
		if c := data[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) {
			return false
		}
		i += size
	}
	return true
}

func decodeQuoted(text []byte) ([]byte, error) {
	if len(text) == 0 || text[0] != '"' {
		return text, nil
	}
	data, err := strconv.Unquote(string(text))
	if err != nil {
		return nil, errors.New("starts with a double quote but is not a complete Go string literal")
	}
	return []byte(data), nil
}

// Bytes is any byte string in JSON: a string where the bytes are UTF-8, else {"base64": "..."}.
type Bytes []byte

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) { return AppendJSON(nil, b), nil }

// UnmarshalJSON implements json.Unmarshaler. Unlike encoding/json it refuses a string that UTF-8 cannot hold instead
// of replacing its characters.
func (b *Bytes) UnmarshalJSON(text []byte) error {
	switch {
	case len(text) > 0 && text[0] == '"':
		data, err := unescapeJSON(text[1 : len(text)-1])
		*b = data
		return err
	case len(text) > 0 && text[0] == '{':
		var object struct {
			Base64 *string `json:"base64"`
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&object); err != nil || object.Base64 == nil {
			return errors.New(`an object here must be {"base64": "..."}`)
		}
		data, err := base64.StdEncoding.Strict().AppendDecode([]byte{}, []byte(*object.Base64))
		if err != nil {
			return fmt.Errorf("not base64: %w", err)
		}
		*b = data
		return nil
	}
	return fmt.Errorf(`want a string or {"base64": "..."}, found %s`, jsonKind(text))
}

// AppendJSON appends data as a JSON string, or as {"base64":"..."} where it is not UTF-8.
func AppendJSON(dst, data []byte) []byte {
	if !utf8.Valid(data) {
		dst = append(dst, `{"base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, data)
		return append(dst, `"}`...)
	}
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i, c := range data {
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		dst = append(dst, data[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, data[start:]...)
	return append(dst, '"')
}

// unescapeJSON returns the bytes of a JSON string, whose syntax has been checked, without its quotes. It refuses what
// encoding/json would silently turn into U+FFFD: bytes that are not UTF-8, and halves of a surrogate pair.
func unescapeJSON(text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return nil, errors.New(`the text is not UTF-8 (write such bytes as {"base64": "..."})`)
	}
	data := make([]byte, 0, len(text))
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return append(data, text...), nil
		}
		data = append(data, text[:i]...)
		escape := text[i+1]
		text = text[i+2:]
		switch escape {
		case 'b':
			data = append(data, '\b')
		case 'f':
			data = append(data, '\f')
		case 'n':
			data = append(data, '\n')
		case 'r':
			data = append(data, '\r')
		case 't':
			data = append(data, '\t')
		case 'u':
			r := hexUnit(text)
			text = text[4:]
			if utf16.IsSurrogate(r) {
				half := r
				if r = utf8.RuneError; len(text) >= 6 && text[0] == '\\' && text[1] == 'u' {
					r = utf16.DecodeRune(half, hexUnit(text[2:]))
				}
				if r == utf8.RuneError {
					return nil, fmt.Errorf(`\u%04x is half of a surrogate pair`, half)
				}
				text = text[6:]
			}
			data = utf8.AppendRune(data, r)
		default: // a quote, a slash or a backslash
			data = append(data, escape)
		}
	}
}

// hexUnit reads the four digits of a \u escape.
func hexUnit(text []byte) rune {
	unit, _ := strconv.ParseUint(string(text[:4]), 16, 16)
	return rune(unit)
}

func jsonKind(text []byte) string {
	switch {
	case len(text) == 0:
		return "nothing"
	case text[0] == '{':
		return "an object"
	case text[0] == '"':
		return "a string"
	case text[0] == '[':
		return "an array"
	case text[0] == 't', text[0] == 'f':
		return "a boolean"
	case text[0] == 'n':
		return "null"
	}
	return "a number"
}

// jsonReason words an error of encoding/json without the names of Go types.
func jsonReason(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not JSON: %w at offset %d", err, syntax.Offset)
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("%s: a %s is not allowed here", mismatch.Field, mismatch.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
