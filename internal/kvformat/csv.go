package kvformat

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Comma-separated values as in RFC 4180, with the columns of columns.go. A field in quotes keeps every byte, line
// breaks included, so any key and value can be written as it is; encoding/csv is not used because it turns CR LF inside
// quotes into LF. The first line is a header where it reads "bucket,key,value" or "key,value".

type csvReader struct {
	lines   *lineReader
	fields  [][]byte
	text    []byte // the fields' bytes, one after the other
	begin   int    // line at which the record begins
	started bool   // the header, if any, is behind us
	paths   pathCache
}

func newCSVReader(r io.Reader) *csvReader { return &csvReader{lines: newLineReader(r)} }

func (r *csvReader) Line() int { return r.begin }

func (r *csvReader) Read() (Record, error) {
	if err := r.readFields(); err != nil {
		return Record{}, err
	}
	if !r.started {
		r.started = true
		if header := string(bytes.Join(r.fields, []byte(","))); header == "bucket,key,value" || header == "key,value" {
			if err := r.readFields(); err != nil {
				return Record{}, err
			}
		}
	}
	if len(r.fields) != 2 && len(r.fields) != 3 {
		found := "one field"
		if len(r.fields) != 1 {
			found = fmt.Sprintf("%d fields", len(r.fields))
		}
		return Record{}, r.syntaxError("want key and value, or bucket, key and value; found %s", found)
	}
	record, err := columnsToRecord(r.fields, Raw, &r.paths)
	if err != nil {
		return Record{}, &SyntaxError{Line: r.begin, Err: err}
	}
	return record, nil
}

func (r *csvReader) syntaxError(format string, args ...any) error {
	err := r.lines.syntaxError(format, args...).(*SyntaxError)
	err.Line = r.begin
	return err
}

// readFields reads the fields of the next record that is not an empty line.
func (r *csvReader) readFields() error {
	line, err := r.lines.nextRaw()
	for err == nil && len(trimLineBreak(line)) == 0 {
		line, err = r.lines.nextRaw()
	}
	if err != nil {
		return err
	}
	r.begin = r.lines.line
	r.text = r.text[:0]
	var ends []int
	for more := true; more; {
		if len(line) > 0 && line[0] == '"' {
			line, more, err = r.quotedField(line[1:])
		} else {
			line, more, err = r.bareField(line)
		}
		if err != nil {
			return err
		}
		ends = append(ends, len(r.text))
	}
	// Fields are cut only now: text may have moved while it grew.
	r.fields = r.fields[:0]
	start := 0
	for _, end := range ends {
		r.fields = append(r.fields, r.text[start:end:end])
		start = end
	}
	return nil
}

// bareField appends the field at the start of line to text and returns what follows its comma; more is false at the
// end of the record.
func (r *csvReader) bareField(line []byte) (rest []byte, more bool, err error) {
	field, rest, more := bytes.Cut(line, []byte(","))
	if !more {
		field = trimLineBreak(field)
	}
	if bytes.IndexByte(field, '"') >= 0 {
		return nil, false, r.syntaxError(`a quote inside a field that does not begin with one (write "" inside quotes)`)
	}
	r.text = append(r.text, field...)
	return rest, more, nil
}

// quotedField is bareField after an opening quote; it reads on over line breaks up to the closing one.
func (r *csvReader) quotedField(line []byte) (rest []byte, more bool, err error) {
	for {
		i := bytes.IndexByte(line, '"')
		if i < 0 {
			r.text = append(r.text, line...)
			line, err = r.lines.nextRaw()
			if errors.Is(err, io.EOF) {
				return nil, false, r.syntaxError("a quote is opened and never closed")
			}
			if err != nil {
				return nil, false, err
			}
			continue
		}
		r.text = append(r.text, line[:i]...)
		line = line[i+1:]
		switch {
		case len(line) > 0 && line[0] == '"':
			r.text = append(r.text, '"')
			line = line[1:]
		case len(line) > 0 && line[0] == ',':
			return line[1:], true, nil
		case len(trimLineBreak(line)) == 0:
			return nil, false, nil
		default:
			return nil, false, r.syntaxError("something follows the closing quote of a field")
		}
	}
}

type csvWriter struct {
	out     *bufio.Writer
	started bool
	path    pathText
	line    []byte
}

func (w *csvWriter) Write(record Record) error {
	if err := w.header(); err != nil {
		return err
	}
	line := appendCSV(w.line[:0], []byte(w.path.format(record.Path)))
	line = append(line, ',')
	if record.Declaration {
		line = append(line, ',')
		line = appendSequence(line, record.Sequence)
	} else {
		line = appendCSV(line, record.Key)
		line = append(line, ',')
		line = appendCSV(line, record.Value)
	}
	w.line = append(line, '\n')
	_, err := w.out.Write(w.line)
	return err
}

func (w *csvWriter) header() error {
	if w.started {
		return nil
	}
	w.started = true
	_, err := w.out.WriteString("bucket,key,value\n")
	return err
}

func (w *csvWriter) Close() error {
	if err := w.header(); err != nil {
		return err
	}
	return w.out.Flush()
}

// appendCSV quotes a field where the format needs it, and where a spreadsheet would otherwise trim it.
func appendCSV(dst, field []byte) []byte {
	needed := bytes.ContainsAny(field, "\",\r\n") || len(field) > 0 &&
		(strings.IndexByte(" \t", field[0]) >= 0 || strings.IndexByte(" \t", field[len(field)-1]) >= 0)
	if !needed {
		return append(dst, field...)
	}
	dst = append(dst, '"')
	for {
		before, after, found := bytes.Cut(field, []byte(`"`))
		dst = append(dst, before...)
		if !found {
			return append(dst, '"')
		}
		dst = append(dst, `""`...)
		field = after
	}
}
