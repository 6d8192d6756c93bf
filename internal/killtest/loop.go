package killtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alderdb/alder"
)

// Loop kills a writer process at random moments, and verifies what it leaves, again and again.
type Loop struct {
	Config
	Dir string // where the stores are made

	// Command makes the process of a round, which must call WriteAndReport.
	Command func(r Round) *exec.Cmd

	// Full lets the writers meet a full disk, again and again: they cannot let the store grow much in one life.
	Full bool

	// Tight and CopyOnWrite say that Dir is on a file system that may be full. See Round.
	Tight, CopyOnWrite bool

	// Before, if it is not nil, is called before each life of a writer.
	Before func(r Round, rng *rand.Rand) error

	// Until is asked before each round.
	Until func(Totals) bool

	// Progress, if it is not nil, is called after each round.
	Progress func(Totals)
}

// Totals is what was done.
type Totals struct {
	Kills        int   `json:"kills"`
	Stores       int   `json:"stores"`
	Transactions int64 `json:"transactions"`   // acknowledged
	Keys         int64 `json:"keys"`           // verified, again after each kill
	Full         int   `json:"full,omitempty"` // lives in which transactions found no room
}

// Failure ends a loop. The store is left as it was found.
type Failure struct {
	Broken bool // the store has broken a promise; else something around it has failed, as a full disk
	Round  Round
	Kill   int
	Stderr string // of the writer
	Err    error
}

func (f *Failure) Error() string { return fmt.Sprintf("%s, kill %d: %v", f.Round.File, f.Kill, f.Err) }
func (f *Failure) Unwrap() error { return f.Err }

const (
	killsPerStore = 25
	firstKill     = 30 * time.Millisecond  // kills in the open come within this
	laterKill     = 250 * time.Millisecond // and others within this after the first acknowledgement
	hangs         = 2 * time.Minute        // no disk is as slow
)

// Run kills until Until says so, ctx ends, which is no error, or a promise is broken, which is a *Failure.
func (l *Loop) Run(ctx context.Context) (total Totals, err error) {
	rng := rand.New(rand.NewPCG(l.Seed, 0))
	var round Round
	var v *Verifier
	for !l.Until(total) && ctx.Err() == nil {
		if total.Kills%killsPerStore == 0 { // so that its creation is killed too
			if err := remove(round.File); err != nil {
				return total, err
			}
			round = Round{Config: l.Config, File: filepath.Join(l.Dir, fmt.Sprintf("torture-%d.alder", total.Stores))}
			round.PageSize = 4096 << rng.IntN(4)
			round.Tight, round.CopyOnWrite = l.Tight, l.CopyOnWrite
			v = NewVerifier(l.Config)
			total.Stores++
		}
		round.Vary(rng)
		if l.Full {
			if round.FileLimit, err = limit(round.File, rng); err != nil {
				return total, err
			}
		}
		if l.Before != nil {
			if err := l.Before(round, rng); err != nil {
				return total, err
			}
		}
		stderr, err := l.kill(ctx, round, v, rng)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			var keys int64
			keys, err = Look(round, v, rng.IntN(2) == 0)
			total.Keys += keys
			if round.stuck(err) {
				err = nil
			}
		}
		if total.Kills++; err != nil {
			return total, &Failure{Broken: broken(err), Round: round, Kill: total.Kills, Stderr: stderr, Err: err}
		}
		if strings.Contains(stderr, noRoom) {
			total.Full++
		}
		total.Transactions += int64(v.Transactions())
		v.total = 0
		if l.Progress != nil {
			l.Progress(total)
		}
	}
	return total, remove(round.File)
}

// Vary chooses options for another life of a writer.
func (r *Round) Vary(rng *rand.Rand) {
	r.NoSync, r.Mixed = rng.IntN(5) == 0, rng.IntN(3) == 0
	r.DirtyLimit = []int{0, 64 << 10, 1 << 20}[rng.IntN(3)]
	r.LogSize = []int{0, 100_000, 1 << 20}[rng.IntN(3)] // a small one means many checkpoints
}

// limit returns how long the store may become in its next life: often not longer than it is. So recovery too meets a full disk.
func limit(file string, rng *rand.Rand) (int64, error) {
	fi, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newLimit, nil
	case err != nil:
		return 0, err
	}
	return max(fi.Size()+rng.Int64N(4)*rng.Int64N(newLimit/4), newLimit), nil
}

const newLimit = 4 << 20 // bytes that a new store may have

// broken reports whether an error of a round is one of the store.
func broken(err error) bool {
	var ended *endedError
	if errors.As(err, &ended) {
		return strings.Contains(ended.stderr, ErrBroken.Error()) || strings.Contains(ended.stderr, alder.ErrCorrupt.Error()) ||
			strings.Contains(ended.stderr, "panic:") || strings.Contains(ended.stderr, "fatal error:")
	}
	return !errors.Is(err, syscall.ENOSPC)
}

// endedError is a writer that ended by itself.
type endedError struct {
	err    error
	stderr string
}

func (e *endedError) Error() string {
	return fmt.Sprintf("the writer ended by itself: %v: %s", e.err, lastLine(e.stderr))
}

// remove removes a store, if there is one.
func remove(file string) error {
	if file == "" {
		return nil
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Look verifies a store after a crash: first without changing anything, so that what is found can be looked at again, and then perhaps by an
// open for writing.
func Look(r Round, v *Verifier, write bool) (keys int64, err error) {
	if fi, err := os.Stat(r.File); err != nil || fi.Size() == 0 {
		// Killed before the store was there. A read-only open does not create one.
		if !v.Untouched() {
			return 0, errors.Join(errors.New("the store is gone or empty"), err)
		}
		return 0, nil
	}
	for _, readOnly := range []bool{true, false} {
		if !readOnly && !write {
			continue
		}
		n, err := open(r, v, readOnly)
		if keys += n; err != nil {
			return keys, fmt.Errorf("opened with read-only %v: %w", readOnly, err)
		}
	}
	return keys, nil
}

func open(r Round, v *Verifier, readOnly bool) (keys int64, err error) {
	db, err := alder.Open(r.File, 0o600, &alder.Options{ReadOnly: readOnly})
	if readOnly && v.Untouched() && errors.Is(err, alder.ErrInvalid) {
		return 0, nil // killed while the store was made: only an open for writing makes it anew
	}
	if err != nil {
		return 0, err
	}
	keys, err = v.Verify(db)
	return keys, errors.Join(err, db.Close())
}

// victim is a writer process.
type victim struct {
	cmd        *exec.Cmd
	complaints bytes.Buffer // what it wrote to stderr; to be read when it has ended
	killed     atomic.Bool
	hung       atomic.Bool
}

func (p *victim) kill() {
	p.killed.Store(true)
	_ = p.cmd.Process.Kill() // it may have ended by itself, which shows
}

// kill runs the writer, kills it, and tells the verifier what it has acknowledged. An error is one of the writer, which has to
// go on until it is killed.
func (l *Loop) kill(ctx context.Context, r Round, v *Verifier, rng *rand.Rand) (stderr string, err error) {
	p := &victim{cmd: l.Command(r)}
	p.cmd.Stderr = &p.complaints
	stdin, err := p.cmd.StdinPipe() // its end tells the writer that we are gone
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := p.cmd.Start(); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, p.kill)()
	defer time.AfterFunc(hangs, func() { p.hung.Store(true); p.kill() }).Stop()
	later := time.Duration(rng.Int64N(int64(laterKill)))
	if r.FileLimit > 0 || r.Tight { // nobody may ever have room to commit
		defer time.AfterFunc(2*laterKill, p.kill).Stop()
	}
	if rng.IntN(4) == 0 {
		defer time.AfterFunc(time.Duration(rng.Int64N(int64(firstKill))), p.kill).Stop()
	}
	wrong := p.listen(out, v, later)
	if wrong != nil {
		p.kill()
	}
	ended := p.cmd.Wait()
	stderr = p.complaints.String()
	switch {
	case wrong != nil:
		return stderr, wrong
	case p.hung.Load():
		return stderr, fmt.Errorf("the writer was still alive after %v: it hangs, or the disk does", hangs)
	case !p.killed.Load() || strings.Contains(stderr, writerFailed):
		return stderr, &endedError{ended, stderr}
	}
	return stderr, nil
}

// listen reads acknowledgements until the writer is dead, which it is some time after the first one.
func (p *victim) listen(out io.Reader, v *Verifier, after time.Duration) error {
	var timer *time.Timer
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil // the last line may be a part
		}
		a, ok := ParseAck(line)
		if !ok {
			return fmt.Errorf("the writer printed %.100q", line)
		}
		if err := v.Acked(a); err != nil {
			return err
		}
		if timer == nil {
			timer = time.AfterFunc(after, p.kill)
			defer timer.Stop()
		}
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

const (
	writerFailed = "writer: "
	noRoom       = "no room for a transaction\n"
)

// WriteAndReport is the writer process: it writes until it is killed, or its standard input ends because whoever started it is gone. Its error
// has been written to stderr.
func WriteAndReport(r Round, stdin io.Reader, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	var err error
	if r.FileLimit > 0 || r.Tight {
		r.met = sync.OnceFunc(func() { fmt.Fprint(stderr, noRoom) })
	}
	if r.FileLimit > 0 {
		err = limitFiles(r.FileLimit)
	}
	if err == nil {
		err = Write(ctx, r, func(a Ack) error {
			_, err := io.WriteString(stdout, a.String())
			return err
		})
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s%v\n", writerFailed, err)
	}
	return err
}
