package kvformat

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The text of LMDB's mdb_dump, which mdb_load reads: for each database a header, then a line for each key and each
// value, behind a space and in hexadecimal (format=bytevalue) or with escapes (format=print), then DATA=END. A bucket is
// a database whose name is the bucket's kvpath. A sequence number other than zero is a header line of its own,
// "sequence=N", which mdb_load reports and ignores.

type lmdbReader struct {
	lines   *lineReader
	inData  bool
	print   bool // format=print
	key     []byte
	value   []byte
	path    [][]byte
	keyLine int
	paths   pathCache
}

func (r *lmdbReader) Line() int { return r.keyLine }

func (r *lmdbReader) Read() (Record, error) {
	if !r.inData {
		return r.readHeader()
	}
	line, err := r.lines.next()
	r.keyLine = r.lines.line
	if errors.Is(err, io.EOF) {
		return Record{}, r.lines.syntaxError("the text ends before DATA=END")
	}
	if err != nil {
		return Record{}, err
	}
	if string(line) == "DATA=END" {
		r.inData = false
		return r.readHeader()
	}
	if r.key, err = r.decode(r.key[:0], line); err != nil {
		return Record{}, err
	}
	if len(r.key) == 0 {
		return Record{}, &SyntaxError{Line: r.keyLine, Err: errEmptyKey}
	}
	if line, err = r.lines.nextRaw(); errors.Is(err, io.EOF) {
		return Record{}, r.lines.syntaxError("the text ends between a key and its value")
	} else if err != nil {
		return Record{}, err
	}
	if r.value, err = r.decode(r.value[:0], trimLineBreak(line)); err != nil {
		return Record{}, err
	}
	return Record{Path: r.path, Key: r.key, Value: r.value}, nil
}

// readHeader reads up to HEADER=END and returns the declaration of the bucket, or io.EOF when no database follows.
func (r *lmdbReader) readHeader() (Record, error) {
	record := Record{Declaration: true}
	r.print = false
	for first := true; ; first = false {
		line, err := r.lines.next()
		r.keyLine = r.lines.line
		if errors.Is(err, io.EOF) {
			if first {
				return Record{}, io.EOF
			}
			return Record{}, r.lines.syntaxError("the text ends before HEADER=END")
		}
		if err != nil {
			return Record{}, err
		}
		if string(line) == "HEADER=END" {
			r.inData, r.path = true, record.Path
			return record, nil
		}
		name, value, found := strings.Cut(string(line), "=")
		if first && name != "VERSION" {
			return Record{}, r.lines.syntaxError("want VERSION=3, the first line of an mdb_dump")
		}
		if !found {
			return Record{}, r.lines.syntaxError("want a header line of the form name=value, or HEADER=END")
		}
		if err := r.headerLine(&record, name, value); err != nil {
			return Record{}, &SyntaxError{Line: r.lines.line, Err: err}
		}
	}
}

func (r *lmdbReader) headerLine(record *Record, name, value string) (err error) {
	switch name {
	case "VERSION":
		if value != "3" {
			return fmt.Errorf("VERSION=%s: only version 3 of the dump format is known", value)
		}
	case "format":
		if value != "print" && value != "bytevalue" {
			return fmt.Errorf("format=%s: want bytevalue or print", value)
		}
		r.print = value == "print"
	case "type":
		if value != "btree" {
			return fmt.Errorf("type=%s: only btree databases can be loaded", value)
		}
	case "database":
		record.Path, err = r.paths.parse([]byte(value))
		return err
	case "sequence":
		if record.Sequence, err = strconv.ParseUint(value, 10, 64); err != nil {
			return fmt.Errorf("sequence=%s: not a number from 0 to 2^64-1", value)
		}
	case "duplicates", "dupsort":
		if value != "0" {
			return errors.New("the database has several values for one key (dupsort), which a bucket cannot hold")
		}
	case "integerkey":
		if value != "0" {
			return errors.New("the database has integer keys in the byte order of its machine, which would sort differently here")
		}
	case "reversekey":
		if value != "0" {
			return errors.New("the database compares keys from their end, which would sort differently here")
		}
	}
	// Others (mapsize, maxreaders, db_pagesize ...) describe the environment, not the data.
	return nil
}

// dumpWithoutP is what to do about a text that cannot be told apart from another.
const dumpWithoutP = "mdb_dump -p of some versions of LMDB does not escape backslashes, so dump without -p"

// decode appends the bytes of one data line.
func (r *lmdbReader) decode(dst, line []byte) ([]byte, error) {
	if len(line) == 0 || line[0] != ' ' {
		return nil, r.lines.syntaxError("want a data line, which begins with a space, or DATA=END")
	}
	line = line[1:]
	if !r.print {
		data, err := hex.AppendDecode(dst, line)
		if err != nil {
			return nil, r.lines.syntaxError("not hexadecimal: %s", strings.TrimPrefix(err.Error(), "encoding/hex: "))
		}
		return data, nil
	}
	for {
		i := bytes.IndexByte(line, '\\')
		if i < 0 {
			return append(dst, line...), nil
		}
		dst = append(dst, line[:i]...)
		line = line[i+1:]
		if len(line) > 0 && line[0] == '\\' {
			dst = append(dst, '\\')
			line = line[1:]
			continue
		}
		if len(line) < 2 {
			return nil, r.lines.syntaxError(`a backslash without \ or two hexadecimal digits behind it; ` + dumpWithoutP)
		}
		var err error
		if dst, err = hex.AppendDecode(dst, line[:2]); err != nil {
			return nil, r.lines.syntaxError(`\%s is not a backslash with two hexadecimal digits; `+dumpWithoutP, line[:2])
		}
		line = line[2:]
	}
}

type lmdbWriter struct {
	out     *bufio.Writer
	mapSize int64
	open    bool // a database has been begun and not ended
	path    pathText
	current string
	line    []byte
}

func (w *lmdbWriter) Write(record Record) error {
	path := w.path.format(record.Path)
	if record.Declaration || !w.open || path != w.current {
		if err := w.begin(path, record.Sequence); err != nil {
			return err
		}
	}
	if record.Declaration {
		return nil
	}
	line := hex.AppendEncode(append(w.line[:0], ' '), record.Key)
	line = hex.AppendEncode(append(line, "\n "...), record.Value)
	w.line = append(line, '\n')
	_, err := w.out.Write(w.line)
	return err
}

func (w *lmdbWriter) begin(path string, sequence uint64) error {
	if err := w.end(); err != nil {
		return err
	}
	w.open, w.current = true, path
	header := "VERSION=3\nformat=bytevalue\n"
	if path != "" {
		header += "database=" + path + "\n"
	}
	header += "type=btree\n"
	if w.mapSize > 0 {
		header += fmt.Sprintf("mapsize=%d\n", w.mapSize)
	}
	if sequence != 0 {
		header += fmt.Sprintf("%s%d\n", sequencePrefix, sequence)
	}
	_, err := w.out.WriteString(header + "HEADER=END\n")
	return err
}

func (w *lmdbWriter) end() error {
	if !w.open {
		return nil
	}
	w.open = false
	_, err := w.out.WriteString("DATA=END\n")
	return err
}

func (w *lmdbWriter) Close() error {
	if err := w.end(); err != nil {
		return err
	}
	return w.out.Flush()
}
