package kvformat

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// readAll reads text to its end or to the first error, and keeps copies of the records.
func readAll(t require.TestingT, format string, text []byte) ([]Record, error) {
	r, err := NewReader(format, bytes.NewReader(text))
	require.NoError(t, err)
	var records []Record
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		record.Key, record.Value = bytes.Clone(record.Key), bytes.Clone(record.Value)
		records = append(records, record)
	}
}

func writeAll(t require.TestingT, format string, records []Record) []byte {
	var text bytes.Buffer
	w, err := NewWriter(format, &text, Options{MapSize: 1 << 20})
	require.NoError(t, err)
	for _, record := range records {
		require.NoError(t, w.Write(record))
	}
	require.NoError(t, w.Close())
	return text.Bytes()
}

// store is what a sequence of records makes of an empty store; two texts mean the same if their stores are equal.
// lmdb declares every bucket, the other formats only some, so the records themselves may differ.
type store struct {
	values    map[string]string
	sequences map[string]uint64
}

func load(records []Record) store {
	s := store{values: map[string]string{}, sequences: map[string]uint64{}}
	for _, record := range records {
		bucket := string(bytes.Join(record.Path, []byte{0, 1, 0}))
		if record.Declaration {
			s.sequences[bucket] = max(s.sequences[bucket], record.Sequence)
			continue
		}
		s.sequences[bucket] += 0
		s.values[bucket+"\x00\x02\x00"+string(record.Key)] = string(record.Value)
	}
	return s
}

// Ensures that every format gives back the keys, values, buckets and sequence numbers it was given, whatever their
// bytes are.
func TestFormats_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(drawRecord), 0, 20).Draw(t, "records")
		for _, format := range Formats() {
			text := writeAll(t, format, records)
			got, err := readAll(t, format, text)
			require.NoError(t, err, "%s: %q", format, text)
			require.Equal(t, load(records), load(got), "%s: %q", format, text)
		}
	})
}

func drawRecord(t *rapid.T) Record {
	record := Record{Path: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []byte { return drawBytes(t, 1) }), 0, 3).Draw(t, "path")}
	if rapid.IntRange(0, 4).Draw(t, "declaration") == 0 {
		record.Declaration = true
		record.Sequence = rapid.Uint64().Draw(t, "sequence")
		return record
	}
	record.Key, record.Value = drawBytes(t, 1), drawBytes(t, 0)
	return record
}

// Ensures that lines longer than any buffer are read whole.
func TestFormats_LongValues(t *testing.T) {
	value := bytes.Repeat([]byte("0123456789\n\"x\x00"), 100_000)
	records := []Record{
		{Path: [][]byte{[]byte("b")}, Key: bytes.Repeat([]byte("k"), 32768), Value: value},
		{Path: [][]byte{[]byte("b")}, Key: []byte("z"), Value: []byte("last")},
	}
	for _, format := range Formats() {
		got, err := readAll(t, format, writeAll(t, format, records))
		require.NoError(t, err, format)
		require.Equal(t, load(records), load(got), format)
	}
}

func kv(key, value string) Record { return Record{Key: []byte(key), Value: []byte(value)} }

// Ensures that texts of other programs are read as what they mean.
func TestReader_Foreign(t *testing.T) {
	for name, c := range map[string]struct {
		format, text string
		want         []Record
	}{
		"tsv, CR LF, no break at the end": {"tsv", "a\t1\r\nb\t2", []Record{kv("a", "1"), kv("b", "2")}},
		"tsv, empty lines and values":     {"tsv", "\na\t\n\nb\t\"\"\n\n", []Record{kv("a", ""), kv("b", "")}},
		"tsv, byte order mark":            {"tsv", "\ufeffa\t1\n", []Record{kv("a", "1")}},
		"tsv, text in quotes":             {"tsv", "\"a\\tb\"\t\"line\\n\"\n", []Record{kv("a\tb", "line\n")}},
		"csv, header of two columns":      {"csv", "key,value\r\na,1\r\n", []Record{kv("a", "1")}},
		"csv, byte order mark and header": {"csv", "\ufeffkey,value\na,1\n", []Record{kv("a", "1")}},
		"csv, no header":                  {"csv", "a,1\nkey,value\n", []Record{kv("a", "1"), kv("key", "value")}},
		"csv, CR LF and CR in quotes":     {"csv", "a,\"x\r\ny\rz\"\r\n", []Record{kv("a", "x\r\ny\rz")}},
		"csv, quotes":                     {"csv", `"a ""b""","""c"""`, []Record{kv(`a "b"`, `"c"`)}},
		"csv, empty value in quotes":      {"csv", "a,\"\"\nb,\n", []Record{kv("a", ""), kv("b", "")}},
		"jsonl, spaces and order":         {"jsonl", " { \"value\" : \"1\", \"key\":\"a\" } \r\n   \n", []Record{kv("a", "1")}},
		"jsonl, binary":                   {"jsonl", `{"key":{"base64":"/w=="},"value":"\u0000"}`, []Record{kv("\xff", "\x00")}},
		"hex, either case":                {"hex", "6A\t6b\n6f\t\n", []Record{kv("j", "k"), kv("o", "")}},
		"lmdb of mdb_dump -p": {"lmdb",
			"VERSION=3\nformat=print\ntype=btree\nmapsize=1048576\nmaxreaders=126\ndb_pagesize=4096\nHEADER=END\n key\\00\\ff\n a\\\\b\n e\n \nDATA=END\n",
			[]Record{{Declaration: true}, kv("key\x00\xff", `a\b`), kv("e", "")}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(t, c.format, []byte(c.text))
			require.NoError(t, err)
			require.Len(t, got, len(c.want))
			for i := range got {
				require.Equal(t, string(c.want[i].Key), string(got[i].Key))
				require.Equal(t, string(c.want[i].Value), string(got[i].Value))
				require.Equal(t, c.want[i].Declaration, got[i].Declaration)
			}
		})
	}
}

// Ensures that what a format does not allow is refused with the line at which it stands, and that the records before
// it are delivered.
func TestReader_Refuses(t *testing.T) {
	lmdb := func(data string) string { return "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n" + data }
	for _, c := range []struct {
		format, text string
		before       int
		want         string
	}{
		{"tsv", "a\t1\nno tab here\n", 1, "line 2: no tab between key and value"},
		{"tsv", "a\tb\tc\td\n", 0, "line 1: want key and value, or bucket, key and value, between tabs; found 4 columns"},
		{"tsv", "\tvalue\n", 0, "line 1: the key is empty"},
		{"tsv", "b\t\"\"\tvalue\n", 0, "line 1: the key is empty"},
		{"tsv", "b\t\tvalue\n", 0, "line 1: the key is empty (a line without a key declares a bucket"},
		{"tsv", "b\t\tsequence=-1\n", 0, "line 1: sequence=-1: not a number"},
		{"tsv", "a//b\tk\tv\n", 0, "line 1: bucket path `a//b`: empty name"},
		{"tsv", "a\t\"open\n", 0, "line 1: value: starts with a double quote"},
		{"hex", "61\t62\n6\t62\n", 1, "line 2: key: not hexadecimal"},
		{"base64", "YQ==\t!\n", 0, "line 1: value: not base64"},
		{"csv", "key,value\na,1\nb,\"x\ny\nz\n", 1, "line 3: a quote is opened and never closed"},
		{"csv", "a,\"x\ny\"z\n", 0, "line 1: something follows the closing quote"},
		{"csv", "a,b\"c\"\n", 0, "line 1: a quote inside a field"},
		{"csv", "a\n", 0, "line 1: want key and value, or bucket, key and value; found one field"},
		{"csv", "a,b,c,d\n", 0, "line 1: want key and value, or bucket, key and value; found 4 fields"},
		{"csv", "\"x\n\",1\n,1\n", 1, "line 3: the key is empty"},
		{"jsonl", "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\n", 1, "line 2: not JSON: the object is not complete"},
		{"jsonl", "{key}\n", 0, "line 1: not JSON"},
		{"jsonl", "17\n", 0, "line 1: want a JSON object, found a number"},
		{"jsonl", "null\n", 0, "line 1: want a JSON object, found null"},
		{"jsonl", "\"a\"\n", 0, "line 1: want a JSON object, found a string"},
		{"jsonl", "[1]\n", 0, "line 1: want a JSON object, found an array"},
		{"jsonl", "{}\n", 0, "line 1: neither a key nor a bucket"},
		{"jsonl", `{"key":"a"}`, 0, "line 1: a key without a value"},
		{"jsonl", `{"value":"a"}`, 0, "line 1: a value without a key"},
		{"jsonl", `{"key":"","value":"a"}`, 0, "line 1: the key is empty"},
		{"jsonl", `{"key":"a","value":1}`, 0, `line 1: want a string or {"base64": "..."}, found a number`},
		{"jsonl", `{"key":"a","value":"b","ttl":"c"}`, 0, `line 1: unknown field "ttl"`},
		{"jsonl", `{"key":"a","value":"b","sequence":1}`, 0, "line 1: a sequence number belongs to a bucket"},
		{"jsonl", `{"bucket":"a","sequence":-1}`, 0, "line 1: sequence: a number -1 is not allowed"},
		{"jsonl", `{"bucket":"a//b"}`, 0, "line 1: bucket path `a//b`: empty name"},
		{"jsonl", `{"key":"a","value":"b"} {}`, 0, "line 1: something follows the object"},
		{"lmdb", "a\t1\n", 0, "line 1: want VERSION=3"},
		{"lmdb", "VERSION=2\n", 0, "line 1: VERSION=2: only version 3"},
		{"lmdb", "VERSION=3\nformat=print\n", 0, "line 2: the text ends before HEADER=END"},
		{"lmdb", "VERSION=3\nformat=html\n", 0, "line 2: format=html"},
		{"lmdb", "VERSION=3\nduplicates=1\n", 0, "line 2: the database has several values for one key"},
		{"lmdb", "VERSION=3\ntype=hash\n", 0, "line 2: type=hash"},
		{"lmdb", "VERSION=3\nrubbish\n", 0, "line 2: want a header line"},
		{"lmdb", lmdb(" 61\n"), 1, "line 5: the text ends between a key and its value"},
		{"lmdb", lmdb(" 61\n 62\n"), 2, "line 6: the text ends before DATA=END"},
		{"lmdb", lmdb(" 6\n 62\n"), 1, "line 5: not hexadecimal"},
		{"lmdb", lmdb(" 61\n62\n"), 1, "line 6: want a data line"},
		{"lmdb", lmdb(" \n 62\n"), 1, "line 5: the key is empty"},
		{"lmdb", "VERSION=3\nformat=print\nHEADER=END\n a\\zz\n b\n", 1, `line 4: \zz is not`},
		{"lmdb", "VERSION=3\nformat=print\nHEADER=END\n a\\1\n b\n", 1, "line 4: a backslash without"},
	} {
		records, err := readAll(t, c.format, []byte(c.text))
		require.ErrorContains(t, err, c.want, "%s %q", c.format, c.text)
		var syntax *SyntaxError
		require.ErrorAs(t, err, &syntax)
		require.Len(t, records, c.before, "%s %q", c.format, c.text)
	}
}

// Ensures that a fault of the input itself is not taken for the end of the text.
func TestReader_PassesReadErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, format := range Formats() {
		text := writeAll(t, format, []Record{{Path: [][]byte{[]byte("b")}, Key: []byte("key"), Value: []byte("value")}})
		for cut := range text {
			r, err := NewReader(format, io.MultiReader(bytes.NewReader(text[:cut]), errReader{broken}))
			require.NoError(t, err)
			for err == nil {
				_, err = r.Read()
			}
			require.ErrorIs(t, err, broken, "%s %q", format, text[:cut])
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestByExtension(t *testing.T) {
	for file, want := range map[string]string{"a.tsv": "tsv", "B.CSV": "csv", "x.y.jsonl": "jsonl", "d.hex": "hex", "dump.mdb": "lmdb", "a.txt": "", "tsv": ""} {
		require.Equal(t, want, ByExtension(file), file)
	}
	_, err := NewReader("xml", strings.NewReader(""))
	require.ErrorContains(t, err, "tsv, csv, jsonl")
	_, err = NewWriter("xml", io.Discard, Options{})
	require.ErrorContains(t, err, `unknown format "xml"`)
}

// FuzzReader ensures that no text makes a reader panic, that every text ends in io.EOF or an error, and that what was
// read can be written and read again as the same.
func FuzzReader(f *testing.F) {
	for i := range Formats() {
		f.Add(uint8(i), []byte("a\t1\nb\t\tsequence=7\nb/c\t\"k\\n\"\tv\n"))
		f.Add(uint8(i), []byte("bucket,key,value\nb,\"a\"\"\r\n\",1\nb,,sequence=3\n"))
		f.Add(uint8(i), []byte(`{"bucket":"a/b","key":{"base64":"/w=="},"value":"\ud83d\ude00"}`+"\n"+`{"bucket":"c","sequence":7}`))
		f.Add(uint8(i), []byte("VERSION=3\nformat=print\ndatabase=a/b\nsequence=1\nHEADER=END\n a\\00\n \nDATA=END\n"))
	}
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		format := Formats()[int(which)%len(Formats())]
		records, err := readAll(t, format, text)
		if err != nil {
			return
		}
		again, err := readAll(t, format, writeAll(t, format, records))
		require.NoError(t, err)
		require.Equal(t, load(records), load(again))
	})
}
