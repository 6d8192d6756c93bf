package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/killtest"
)

// torture --power and --verify: what cannot be verified by the process itself, because it will not be there any more.

// storedConfig reads what the writers of an earlier run were; nil if there is no store, or none with a transaction.
func (t *tortureCommand) storedConfig(ctx context.Context, store string) (c *killtest.Config, err error) {
	if _, err := os.Stat(store); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	err = t.view(ctx, store, func(tx *alder.Tx) (err error) {
		c, err = killtest.StoredConfig(tx)
		return err
	})
	if errors.Is(err, alder.ErrInvalid) && !errors.Is(err, alder.ErrBoltFile) {
		return nil, nil // its creation did not end; the open for writing knows better
	}
	return c, err
}

func (t *tortureCommand) runPower(ctx context.Context, store string, configured bool) error {
	if t.json {
		return usageErrorf("torture: --power prints acknowledgements, and no JSON")
	}
	had, err := t.storedConfig(ctx, store)
	if err != nil {
		return err
	}
	config := t.config()
	if had != nil {
		if configured && *had != config {
			return usageErrorf("torture: %s was made with --seed %d --goroutines %d; give the same, or neither, or remove it", store, had.Seed, had.Goroutines)
		}
		config = *had
	}
	acks, err := t.openAcks()
	if err != nil {
		return err
	}
	if t.time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.time)
		defer cancel()
	}
	sink := newAckSink(acks)
	if err := sink.put(headerLine(config)); err != nil {
		return errors.Join(err, sink.close())
	}
	if !t.quiet {
		fmt.Fprintf(t.stderr, "writing to %s until the power fails or an interrupt; then: kvctl torture %s --verify --ack FILE, with the lines that have arrived\n",
			store, filepath.Dir(store))
	}
	n := 0
	err = killtest.Write(ctx, killtest.Round{Config: config, File: store}, func(a killtest.Ack) error {
		n++
		return sink.put(a.String())
	})
	err = errors.Join(err, sink.close())
	if err == nil && !t.quiet {
		fmt.Fprintf(t.stderr, "%s acknowledged\n", counted(n, "transaction"))
	}
	return err
}

// openAcks opens what --ack names for writing.
func (t *tortureCommand) openAcks() (io.WriteCloser, error) {
	address, isTCP := strings.CutPrefix(t.ack, "tcp://")
	switch {
	case t.ack == "-":
		return writerOnly{t.namedStdout()}, nil
	case isTCP:
		connection, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			return nil, fmt.Errorf("--ack: %w; listen there first, with nc -l PORT >acks.txt", err)
		}
		return connection, nil
	}
	f, err := os.OpenFile(t.ack, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("--ack: %w", err)
	}
	return f, nil
}

// writerOnly is a stream that somebody else closes.
type writerOnly struct{ io.Writer }

func (writerOnly) Close() error { return nil }

// ackSink sends lines as soon as it can, several at once if they come faster than they go. Whoever puts one does not wait for it, unless
// many are waiting.
type ackSink struct {
	out    io.WriteCloser
	lines  chan string
	done   chan struct{}
	failed chan struct{} // closed after err is set
	err    error
}

func newAckSink(out io.WriteCloser) *ackSink {
	s := &ackSink{out: out, lines: make(chan string, 4096), done: make(chan struct{}), failed: make(chan struct{})}
	go s.send()
	return s
}

func (s *ackSink) send() {
	defer close(s.done)
	out := bufio.NewWriterSize(s.out, 64<<10)
	for line := range s.lines {
		_, err := out.WriteString(line)
		if err == nil && len(s.lines) == 0 {
			err = out.Flush()
		}
		if err != nil {
			s.err = fmt.Errorf("sending acknowledgements: %w", err)
			close(s.failed)
			for range s.lines { // nobody shall wait for ever
			}
			return
		}
	}
}

func (s *ackSink) put(line string) error {
	select {
	case <-s.failed:
		return s.err
	default:
	}
	select {
	case s.lines <- line:
		return nil
	case <-s.failed:
		return s.err
	}
}

func (s *ackSink) close() error {
	close(s.lines)
	<-s.done
	return errors.Join(s.err, s.out.Close())
}

// powerResult is the verdict of --verify.
type powerResult struct {
	OK           bool   `json:"ok"`
	Acknowledged uint64 `json:"acknowledged"`
	Found        uint64 `json:"found"` // transactions in the store
	Keys         int64  `json:"keys"`  // verified
	Unreadable   int    `json:"unreadable_lines,omitempty"`
	Error        string `json:"error,omitempty"`
}

func (t *tortureCommand) runVerify(ctx context.Context, store string) error {
	if t.ack == "-" && isTerminal(t.stdin) {
		return usageErrorf("torture: --verify needs the acknowledgements; give --ack FILE, or pipe them in")
	}
	if strings.HasPrefix(t.ack, "tcp://") {
		return usageErrorf("torture: --verify reads acknowledgements from a file or standard input")
	}
	config, err := t.storedConfig(ctx, store)
	if err == nil && config == nil {
		return &codedError{exitFailure, fmt.Errorf("%s: there is no store with a transaction; if lines have arrived, it has lost them all", store)}
	}
	if err != nil {
		return t.verdict(store, powerResult{}, err)
	}
	v := killtest.NewVerifier(*config)
	v.Lossy = true
	result := powerResult{}
	if result.Unreadable, err = t.readAcks(ctx, v); err == nil {
		result.Acknowledged = v.Transactions()
		result.Keys, err = t.verifyStore(ctx, store, v)
		result.Found = v.Found()
	}
	var coded *codedError
	if errors.As(err, &coded) || errors.Is(err, context.Canceled) {
		return err
	}
	return t.verdict(store, result, err)
}

// readAcks tells the verifier of all acknowledgements.
func (t *tortureCommand) readAcks(ctx context.Context, v *killtest.Verifier) (unreadable int, err error) {
	in, name, size, err := t.openInput(t.ack)
	if err != nil {
		return 0, &codedError{exitFailure, err}
	}
	defer in.Close()
	bar := t.startProgress("reading "+filepath.Base(name), size, unitBytes)
	defer bar.finish()
	counting := &countingReader{in: interruptible(ctx, in)}
	for lines := bufio.NewReader(counting); ; {
		line, err := lines.ReadString('\n')
		bar.set(counting.n)
		if err != nil && !errors.Is(err, io.EOF) {
			return unreadable, &codedError{codeOf(err), fmt.Errorf("reading %s: %w", name, err)}
		}
		if a, ok := killtest.ParseAck(line); ok {
			if err := v.Acked(a); err != nil {
				return unreadable, fmt.Errorf("a transaction was lost between two runs: %w", err)
			}
		} else if c, ok, bad := parseHeader(line); ok && bad == nil && c != v.Config {
			return unreadable, usageErrorf("torture: %s has acknowledgements of a store made with --seed %d --goroutines %d, this one was made with --seed %d --goroutines %d",
				name, c.Seed, c.Goroutines, v.Config.Seed, v.Config.Goroutines)
		} else if (!ok || bad != nil) && strings.TrimSpace(line) != "" {
			unreadable++
		}
		if err != nil {
			break
		}
	}
	if v.Transactions() == 0 {
		return unreadable, usageErrorf("torture: %s has no acknowledgement", name)
	}
	return unreadable, nil
}

// verifyStore looks at the store, first without changing it.
func (t *tortureCommand) verifyStore(ctx context.Context, store string, v *killtest.Verifier) (keys int64, err error) {
	bar := t.startProgress("working out what must be there", -1, unitTransactions)
	v.Progress = func(done, _ uint64) { bar.set(int64(done)) }
	defer bar.finish()
	for _, readOnly := range []bool{true, false} {
		db, err := t.open(ctx, store, alder.Options{ReadOnly: readOnly})
		if err != nil {
			return keys, err
		}
		keys, err = v.Verify(db)
		if err = errors.Join(err, db.Close()); err != nil {
			return keys, fmt.Errorf("opened with read-only %v: %w", readOnly, err)
		}
	}
	return keys, nil
}

// verdict prints the result of --verify.
func (t *tortureCommand) verdict(store string, r powerResult, err error) error {
	var system *fs.PathError
	if errors.As(err, &system) && codeOf(err) == exitFailure {
		return err // it could not even be opened, for a reason that is none of the store's
	}
	if r.OK = err == nil; err != nil {
		r.Error = err.Error()
	}
	if t.json {
		if err := t.printValue(r, nil); err != nil {
			return err
		}
	}
	if err != nil {
		return &codedError{exitCorrupt, advisedError{fmt.Errorf("torture: %s: %w", store, err)}}
	}
	if t.json || t.quiet {
		return nil
	}
	text := fmt.Sprintf("%s: %s acknowledged, all there, of %s in the store; %s verified: no fault",
		store, counted(r.Acknowledged, "transaction"), grouped(r.Found), counted(r.Keys, "key"))
	if r.Unreadable > 0 {
		text += fmt.Sprintf(" (%s could not be read)", counted(r.Unreadable, "line"))
	}
	return t.printValue(r, text)
}
