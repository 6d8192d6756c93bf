// Package kvformat is the text formats that kvctl reads and writes.
//
// An Encoding is one key or value as text. A format is a sequence of records as text: Reader and Writer are its two
// directions, and what a Writer wrote, a Reader of the same format reads as the same records.
package kvformat

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alderdb/alder/internal/kvpath"
)

// Record is one entry of a dump: a key with its value, or the declaration of a bucket.
type Record struct {
	// Path is the bucket, relative to where the dump begins. It stays valid, unlike Key and Value.
	Path [][]byte

	// Key and Value are valid until the next Read.
	Key, Value []byte

	// Declaration is set where the record declares the bucket at Path instead of a key: an empty bucket, or one with
	// a sequence number. Key and Value are nil.
	Declaration bool

	// Sequence is the bucket's sequence number in a declaration.
	Sequence uint64
}

// Reader yields the records of a text. Read returns io.EOF after the last one, and a *SyntaxError where the text is
// not of its format. Line is the line, counted from 1, at which the last record or error begins.
type Reader interface {
	Read() (Record, error)
	Line() int
}

// Writer writes records. Close ends the text and flushes it; it does not close the file below.
type Writer interface {
	Write(Record) error
	Close() error
}

// SyntaxError is a place in a text that its format does not allow.
type SyntaxError struct {
	Line int
	Err  error
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Err) }

func (e *SyntaxError) Unwrap() error { return e.Err }

// Options are settings that one format or another needs.
type Options struct {
	// MapSize is written by the lmdb format, so that mdb_load makes its environment large enough.
	MapSize int64
}

// format is an entry of the table of formats.
type format struct {
	name       string
	about      string
	extensions []string
	reader     func(io.Reader) Reader
	writer     func(*bufio.Writer, Options) Writer
}

var formats = []format{
	columnFormat("tsv", "key and value in tab-separated columns, quoted where needed", Quoted, ".tsv", ".tab"),
	{
		name: "csv", about: "RFC 4180 with a header line; every byte of a value is kept",
		extensions: []string{".csv"},
		reader:     func(r io.Reader) Reader { return newCSVReader(r) },
		writer:     func(w *bufio.Writer, _ Options) Writer { return &csvWriter{out: w} },
	},
	{
		name: "jsonl", about: "one JSON object a line",
		extensions: []string{".jsonl", ".ndjson"},
		reader:     func(r io.Reader) Reader { return &jsonlReader{lines: newLineReader(r)} },
		writer:     func(w *bufio.Writer, _ Options) Writer { return &jsonlWriter{out: w} },
	},
	columnFormat("hex", "tab-separated columns in hexadecimal", Hex, ".hex"),
	columnFormat("base64", "tab-separated columns in base64", Base64),
	{
		name: "lmdb", about: "the text of mdb_dump, for mdb_load",
		extensions: []string{".mdb", ".lmdb"},
		reader:     func(r io.Reader) Reader { return &lmdbReader{lines: newLineReader(r)} },
		writer:     func(w *bufio.Writer, o Options) Writer { return &lmdbWriter{out: w, mapSize: o.MapSize} },
	},
}

// Formats lists the names of all formats.
func Formats() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// Describe is a table of the formats for help texts, one a line.
func Describe() string {
	var text strings.Builder
	for _, f := range formats {
		fmt.Fprintf(&text, "  %-7s %s\n", f.name, f.about)
	}
	return text.String()
}

// ByExtension returns the name of the format whose files end like this one, or "".
func ByExtension(file string) string {
	for _, f := range formats {
		for _, extension := range f.extensions {
			if strings.HasSuffix(strings.ToLower(file), extension) {
				return f.name
			}
		}
	}
	return ""
}

// NewReader reads text of the named format.
func NewReader(name string, r io.Reader) (Reader, error) {
	f, err := lookup(name)
	if err != nil {
		return nil, err
	}
	return f.reader(r), nil
}

// NewWriter writes text of the named format to w.
func NewWriter(name string, w io.Writer, options Options) (Writer, error) {
	f, err := lookup(name)
	if err != nil {
		return nil, err
	}
	return f.writer(bufio.NewWriterSize(w, 256<<10), options), nil
}

func lookup(name string) (format, error) {
	for _, f := range formats {
		if f.name == name {
			return f, nil
		}
	}
	return format{}, fmt.Errorf("unknown format %q, want one of %s", name, strings.Join(Formats(), ", "))
}

// lineReader splits a text into lines of any length.
type lineReader struct {
	in   *bufio.Reader
	long []byte // collects a line that does not fit in's buffer
	line int    // number of the last line returned
}

func newLineReader(r io.Reader) *lineReader {
	in := bufio.NewReaderSize(r, 256<<10)
	// A byte order mark says nothing about UTF-8; spreadsheets write one all the same.
	if mark, err := in.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = in.Discard(3)
	}
	return &lineReader{in: in}
}

// nextRaw returns the next line with its line break, if it has one, or io.EOF. The line is valid until the next call.
func (l *lineReader) nextRaw() ([]byte, error) {
	l.long = l.long[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			l.long = append(l.long, part...)
			continue
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if len(l.long) > 0 {
			l.long = append(l.long, part...)
			part = l.long
		}
		if len(part) == 0 {
			return nil, io.EOF
		}
		l.line++
		return part, nil
	}
}

// next returns the next line that is not empty, without its line break (LF or CR LF).
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.nextRaw()
		if err != nil {
			return nil, err
		}
		if line = trimLineBreak(line); len(line) > 0 {
			return line, nil
		}
	}
}

func trimLineBreak(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

func (l *lineReader) syntaxError(format string, args ...any) error {
	return &SyntaxError{Line: l.line, Err: fmt.Errorf(format, args...)}
}

// pathCache parses bucket paths; the records of one bucket follow each other, so the last answer mostly serves again.
type pathCache struct {
	text string
	path [][]byte
}

func (c *pathCache) parse(text []byte) ([][]byte, error) {
	if string(text) == c.text {
		return c.path, nil
	}
	path, err := kvpath.Parse(string(text))
	if err != nil {
		return nil, err
	}
	c.text, c.path = string(text), path
	return path, nil
}

// pathText is the way back: it formats a path only when it differs from the last one.
type pathText struct {
	path [][]byte
	text string
}

func (p *pathText) format(path [][]byte) string {
	if !samePath(p.path, path) {
		p.path, p.text = path, kvpath.Format(path)
	}
	return p.text
}

func samePath(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}
