package kvformat

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Ensures that every encoding gives back the bytes it was given, and that all but raw keep to one line without tabs.
func TestEncoding_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := drawBytes(t, 0)
		for _, name := range Encodings() {
			e, err := ParseEncoding(name)
			require.NoError(t, err)
			text := e.Append(nil, data)
			if e != Raw {
				require.NotContains(t, string(text), "\n", name)
				require.NotContains(t, string(text), "\t", name)
			}
			got, err := e.Decode(text)
			require.NoError(t, err, name)
			require.Equal(t, string(data), string(got), name)
		}
	})
}

// Ensures that the JSON which AppendJSON writes is what encoding/json reads, for text as a plain string.
func TestEncoding_JSONIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		var got string
		require.NoError(t, json.Unmarshal(AppendJSON(nil, []byte(s)), &got))
		require.Equal(t, s, got)
	})
}

// Ensures that quoted text is left alone where a reader of the line cannot misunderstand it.
func TestEncoding_Quoted(t *testing.T) {
	for data, want := range map[string]string{
		"":             "",
		"plain key":    "plain key",
		`C:\new\table`: `C:\new\table`,
		`say "hi"`:     `say "hi"`,
		"größe":        "größe",
		`"hi"`:         `"\"hi\""`,
		"a\tb\n":       `"a\tb\n"`,
		"\x00\xff":     `"\x00\xff"`,
		"non\u00a0brk": `"non\u00a0brk"`,
	} {
		require.Equal(t, want, string(Quoted.Append(nil, []byte(data))), "%q", data)
	}
}

// Ensures that text which an encoding does not allow is refused in words that name the fault.
func TestEncoding_Refuses(t *testing.T) {
	for _, c := range []struct {
		encoding   Encoding
		text, want string
	}{
		{Quoted, `"open`, "not a complete Go string literal"},
		{Quoted, `"a" b`, "not a complete Go string literal"},
		{Quoted, `"bad \q"`, "not a complete Go string literal"},
		{Hex, "abc", "not hexadecimal"},
		{Hex, "zz", "not hexadecimal"},
		{Base64, "YQ=", "not base64"},
		{Base64, "YR==", "not base64"}, // bits that no byte holds
		{JSON, `"open`, "not JSON"},
		{JSON, `17`, "found a number"},
		{JSON, `{"base64":"?"}`, "not base64"},
		{JSON, `{"base64":"YQ==","x":1}`, `must be {"base64"`},
		{JSON, `{}`, `must be {"base64"`},
		{JSON, `"\ud800"`, "half of a surrogate pair"},
		{JSON, `"\ud800\u0041"`, "half of a surrogate pair"},
		{JSON, `"\udc00"`, "half of a surrogate pair"},
		{JSON, "\"\xff\"", "not UTF-8"},
	} {
		_, err := c.encoding.Decode([]byte(c.text))
		require.ErrorContains(t, err, c.want, "%s %s", c.encoding, c.text)
	}
	got, err := JSON.Decode([]byte(`"\ud83d\ude00"`))
	require.NoError(t, err)
	require.Equal(t, "😀", string(got))
	_, err = ParseEncoding("utf8")
	require.ErrorContains(t, err, strings.Join(Encodings(), ", "))
}

// drawBytes draws byte strings that are binary, plain, or full of what the formats treat specially.
func drawBytes(t *rapid.T, minimum int) []byte {
	special := rapid.Map(rapid.StringOfN(rapid.RuneFrom([]rune("\"',\\\t\r\n \x00\x7f/=é\u00a0\u2028\ufeff\ufffd")), minimum, 10, -1),
		func(s string) []byte { return []byte(s) })
	plain := rapid.Map(rapid.StringMatching(`[a-z0-9]{1,20}`), func(s string) []byte { return []byte(s) })
	return rapid.OneOf(rapid.SliceOfN(rapid.Byte(), minimum, 20), special, plain).Draw(t, "bytes")
}
