package kvformat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// JSON lines. A line is one of
//
//	{"bucket": "a/b", "key": KEY, "value": VALUE}    bucket is a kvpath and may be left out
//	{"bucket": "a/b", "sequence": 7}                 declares a bucket; sequence may be left out
//
// where KEY and VALUE are as in Bytes.

type jsonlReader struct {
	lines *lineReader
	paths pathCache
}

type jsonlLine struct {
	Bucket   *Bytes  `json:"bucket"`
	Key      *Bytes  `json:"key"`
	Value    *Bytes  `json:"value"`
	Sequence *uint64 `json:"sequence"`
}

func (r *jsonlReader) Line() int { return r.lines.line }

func (r *jsonlReader) Read() (Record, error) {
	line, err := r.lines.next()
	for line = bytes.TrimSpace(line); err == nil && len(line) == 0; line = bytes.TrimSpace(line) {
		line, err = r.lines.next()
	}
	if err != nil {
		return Record{}, err
	}
	record, err := r.parse(line)
	if err != nil {
		return Record{}, &SyntaxError{Line: r.lines.line, Err: err}
	}
	return record, nil
}

func (r *jsonlReader) parse(line []byte) (record Record, err error) {
	if kind := jsonKind(line); kind != "an object" && json.Valid(line) {
		return Record{}, fmt.Errorf("want a JSON object, found %s", kind)
	}
	var fields jsonlLine
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&fields); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Record{}, errors.New("not JSON: the object is not complete")
		}
		return Record{}, jsonReason(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Record{}, errors.New("something follows the object")
	}
	if fields.Bucket != nil {
		if record.Path, err = r.paths.parse(*fields.Bucket); err != nil {
			return Record{}, err
		}
	}
	switch {
	case fields.Key == nil && fields.Value != nil:
		return Record{}, errors.New("a value without a key")
	case fields.Key == nil && fields.Bucket == nil:
		return Record{}, errors.New("neither a key nor a bucket")
	case fields.Key == nil:
		record.Declaration = true
		if fields.Sequence != nil {
			record.Sequence = *fields.Sequence
		}
		return record, nil
	case fields.Value == nil:
		return Record{}, errors.New("a key without a value")
	case fields.Sequence != nil:
		return Record{}, errors.New("a sequence number belongs to a bucket, not to a key")
	case len(*fields.Key) == 0:
		return Record{}, errEmptyKey
	}
	record.Key, record.Value = *fields.Key, *fields.Value
	return record, nil
}

type jsonlWriter struct {
	out  *bufio.Writer
	path pathText
	line []byte
}

func (w *jsonlWriter) Write(record Record) error {
	line := append(w.line[:0], `{"bucket":`...)
	line = AppendJSON(line, []byte(w.path.format(record.Path)))
	switch {
	case !record.Declaration:
		line = AppendJSON(append(line, `,"key":`...), record.Key)
		line = AppendJSON(append(line, `,"value":`...), record.Value)
	case record.Sequence != 0:
		line = strconv.AppendUint(append(line, `,"sequence":`...), record.Sequence, 10)
	}
	w.line = append(line, "}\n"...)
	_, err := w.out.Write(w.line)
	return err
}

func (w *jsonlWriter) Close() error { return w.out.Flush() }
