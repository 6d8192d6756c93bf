package kvformat

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The formats of tab-separated columns. A line is one of
//
//	key TAB value                   a key of the bucket that is being loaded
//	bucket TAB key TAB value        a key of a bucket below it; bucket is a kvpath
//	bucket TAB TAB                  declares a bucket (no key of a store is empty)
//	bucket TAB TAB sequence=N       the same with a sequence number
//
// Keys and values are in one encoding, which must not produce tabs and line breaks.

func columnFormat(name, about string, encoding Encoding, extensions ...string) format {
	return format{
		name: name, about: about, extensions: extensions,
		reader: func(r io.Reader) Reader { return &columnReader{lines: newLineReader(r), encoding: encoding} },
		writer: func(w *bufio.Writer, _ Options) Writer { return &columnWriter{out: w, encoding: encoding} },
	}
}

type columnReader struct {
	lines    *lineReader
	encoding Encoding
	paths    pathCache
}

func (r *columnReader) Line() int { return r.lines.line }

func (r *columnReader) Read() (Record, error) {
	line, err := r.lines.next()
	if err != nil {
		return Record{}, err
	}
	var fields [3][]byte
	count := 0
	for rest, more := line, true; more; count++ {
		if count == len(fields) {
			return Record{}, r.lines.syntaxError("want key and value, or bucket, key and value, between tabs; found %d columns", bytes.Count(line, []byte("\t"))+1)
		}
		fields[count], rest, more = bytes.Cut(rest, []byte("\t"))
	}
	if count == 1 {
		return Record{}, r.lines.syntaxError("no tab between key and value")
	}
	record, err := columnsToRecord(fields[:count], r.encoding, &r.paths)
	if err != nil {
		return Record{}, &SyntaxError{Line: r.lines.line, Err: err}
	}
	return record, nil
}

// columnsToRecord makes a record of two or three columns; csv has the same ones.
func columnsToRecord(fields [][]byte, encoding Encoding, paths *pathCache) (record Record, err error) {
	if len(fields) == 3 {
		if record.Path, err = paths.parse(fields[0]); err != nil {
			return Record{}, err
		}
		if len(fields[1]) == 0 {
			record.Declaration = true
			record.Sequence, err = parseSequence(fields[2])
			return record, err
		}
		fields = fields[1:]
	}
	if record.Key, err = encoding.Decode(fields[0]); err != nil {
		return Record{}, fmt.Errorf("key: %w", err)
	}
	if len(record.Key) == 0 {
		return Record{}, errEmptyKey
	}
	if record.Value, err = encoding.Decode(fields[1]); err != nil {
		return Record{}, fmt.Errorf("value: %w", err)
	}
	return record, nil
}

var errEmptyKey = errors.New("the key is empty")

const sequencePrefix = "sequence="

func parseSequence(field []byte) (uint64, error) {
	if len(field) == 0 {
		return 0, nil
	}
	digits, ok := strings.CutPrefix(string(field), sequencePrefix)
	if !ok {
		return 0, fmt.Errorf("the key is empty (a line without a key declares a bucket, and then has nothing or %sN as its value)", sequencePrefix)
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s%s: not a number from 0 to 2^64-1", sequencePrefix, digits)
	}
	return n, nil
}

func appendSequence(dst []byte, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendUint(append(dst, sequencePrefix...), n, 10)
}

type columnWriter struct {
	out      *bufio.Writer
	encoding Encoding
	path     pathText
	line     []byte
}

func (w *columnWriter) Write(record Record) error {
	line := append(w.line[:0], w.path.format(record.Path)...)
	line = append(line, '\t')
	if record.Declaration {
		line = append(line, '\t')
		line = appendSequence(line, record.Sequence)
	} else {
		line = w.encoding.Append(line, record.Key)
		line = append(line, '\t')
		line = w.encoding.Append(line, record.Value)
	}
	w.line = append(line, '\n')
	_, err := w.out.Write(w.line)
	return err
}

func (w *columnWriter) Close() error { return w.out.Flush() }
