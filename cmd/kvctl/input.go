package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/alderdb/alder"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// openInput opens the file of --file; "-" is standard input. size is -1 where it is not known in advance.
func (c *cli) openInput(path string) (in io.ReadCloser, name string, size int64, err error) {
	f, name := c.stdin, "standard input"
	if path != "-" {
		name = path
		if f, err = os.Open(path); err != nil {
			return nil, "", 0, err
		}
	}
	size = -1
	if fi, err := f.Stat(); err == nil {
		if fi.IsDir() {
			f.Close()
			return nil, "", 0, usageErrorf("%s is a directory; kvctl load --dir loads the files in it", name)
		}
		if fi.Mode().IsRegular() {
			size = fi.Size()
		}
	}
	return f, name, size, nil
}

// readValue reads a whole value. It is an error for it to be longer than a store can hold, found before all of it
// is in memory.
func readValue(ctx context.Context, in io.Reader, name string, size int64) ([]byte, error) {
	if size > alder.MaxValueSize {
		return nil, fmt.Errorf("%s: %w", name, tooLarge(size))
	}
	value, err := io.ReadAll(io.LimitReader(interruptible(ctx, in), alder.MaxValueSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, innermost(err))
	}
	if len(value) > alder.MaxValueSize {
		return nil, fmt.Errorf("%s: %w", name, tooLarge(int64(len(value))))
	}
	return value, nil
}

// tooLarge is the error for a value of at least this size.
func tooLarge(size int64) error {
	return usageErrorf("the value has %d bytes or more; the limit is %d", size, int64(alder.MaxValueSize))
}

// interruptible returns a reader of the same bytes that gives up as soon as ctx ends, although a read from a terminal or
// a pipe cannot be interrupted and may last for ever. Such a read is left to its goroutine, which ends with the process. The
// goroutine also reads ahead while the caller is busy.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	r := &interruptibleReader{ctx: ctx, chunks: make(chan chunk), free: make(chan []byte, 2)}
	for range cap(r.free) {
		r.free <- make([]byte, 256<<10)
	}
	go r.readAhead(in)
	return r
}

type interruptibleReader struct {
	ctx     context.Context
	chunks  chan chunk  // what was read
	free    chan []byte // buffers to read into
	current chunk
	rest    []byte // of current.data
}

type chunk struct {
	buffer []byte
	n      int
	err    error
}

func (r *interruptibleReader) readAhead(in io.Reader) {
	for {
		select {
		case buffer := <-r.free:
			n, err := in.Read(buffer)
			select {
			case r.chunks <- chunk{buffer, n, err}:
			case <-r.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *interruptibleReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.current.err != nil {
			return 0, r.current.err
		}
		if r.current.buffer != nil {
			r.free <- r.current.buffer
		}
		select {
		case r.current = <-r.chunks:
			r.rest = r.current.buffer[:r.current.n]
		case <-r.ctx.Done():
			r.current = chunk{err: r.ctx.Err()}
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
