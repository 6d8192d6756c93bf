package faultdisk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/killtest"
)

// lab is a faulty disk with a file system and a store on it, and the verifier that knows what must be in the store.
type lab struct {
	t       *testing.T
	fs      fileSystem
	rng     *rand.Rand
	work    string // holds all of the following
	image   string // of a new file system
	served  string // where the disk is
	mounted string // where its file system is
	isThere bool   // mounted now

	process    *exec.Cmd // of the disk
	control    *rpc.Client
	generation int

	round    killtest.Round
	verifier *killtest.Verifier
	total    totals
	looked   string   // what the last look has found
	story    []string // what was done, for a test that fails
}

// totals is what a lab has done.
type totals struct {
	stores, cuts, inMount, errors, complaints, failed int
	transactions                                      uint64
	keys                                              int64
	lost                                              int // file systems that could not be mounted any more
}

func newLab(t *testing.T, f fileSystem, seed uint64) *lab {
	f.need(t, "/dev/fuse")
	l := &lab{t: t, fs: f, rng: rand.New(rand.NewPCG(seed, 13)), work: tempDir(t)}
	l.round.Config = killtest.Config{Goroutines: 8, Seed: seed}
	l.image = f.image(t, l.work, f.size)
	l.served, l.mounted = filepath.Join(l.work, "disk"), filepath.Join(l.work, "mounted")
	require.NoError(t, os.Mkdir(l.served, 0o700))
	require.NoError(t, os.Mkdir(l.mounted, 0o700))
	l.startDisk()
	if f.super != nil {
		l.tell("Whole", f.super, &Nothing{})
	}
	return l
}

// startDisk starts the process of the disk, and ends it with the test.
func (l *lab) startDisk() {
	l.process = self("disk", l.served)
	l.process.Stderr = os.Stderr
	in, err := l.process.StdinPipe()
	require.NoError(l.t, err)
	out, err := l.process.StdoutPipe()
	require.NoError(l.t, err)
	require.NoError(l.t, l.process.Start())
	l.t.Cleanup(func() {
		if l.t.Failed() {
			l.t.Logf("the last that was done:\n%s", strings.Join(l.story[max(0, len(l.story)-12):], "\n"))
		}
	})
	l.control = rpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{out, in})
	l.t.Cleanup(func() {
		if l.isThere { // the test has failed
			_ = syscall.Unmount(l.mounted, syscall.MNT_DETACH)
		}
		_ = l.control.Close() // ends its standard input, so the process, so every request to the disk
		_ = l.process.Wait()
		_ = syscall.Unmount(l.served, syscall.MNT_DETACH)
	})
	if err := l.control.Call("Control.Arm", 0, &Nothing{}); err != nil {
		l.t.Skipf("no FUSE file system can be served here: %v", err)
	}
}

// note keeps what was done.
func (l *lab) note(format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	l.story = append(l.story, line)
	return line
}

// tell tells the disk something.
func (l *lab) tell(what string, argument, answer any) {
	require.NoError(l.t, l.control.Call("Control."+what, argument, answer), what)
}

func (l *lab) counts() (n Counts) {
	l.tell("Counts", Nothing{}, &n)
	return n
}

// newStore begins with a new file system and no store.
func (l *lab) newStore() {
	l.end()
	if l.fs.unique && l.total.stores > 0 {
		l.image = l.fs.image(l.t, l.work, l.fs.size)
	}
	l.tell("Load", l.image, &l.generation)
	l.round = killtest.Round{Config: l.round.Config, File: filepath.Join(l.mounted, "store.alder"), PageSize: 4096 << l.rng.IntN(4)}
	l.verifier = killtest.NewVerifier(l.round.Config)
	l.total.stores++
	require.NoError(l.t, l.mount())
}

// end ends the life of a store.
func (l *lab) end() {
	l.unmount()
	if l.verifier != nil {
		l.total.transactions += l.verifier.Transactions()
		l.verifier = nil
	}
}

// acknowledged is the number of transactions so far.
func (l *lab) acknowledged() uint64 {
	n := l.total.transactions
	if l.verifier != nil {
		n += l.verifier.Transactions()
	}
	return n
}

func (l *lab) mount() error {
	err := l.fs.mount(filepath.Join(l.served, generationName(l.generation)), l.mounted, 0)
	l.note("mount: %v", err)
	l.isThere = err == nil
	return err
}

func (l *lab) unmount() {
	if l.isThere {
		require.NoError(l.t, unmount(l.mounted))
		l.isThere = false
	}
}

// cut takes the power away: what was not flushed is lost, or not.
func (l *lab) cut() {
	l.tell("Cut", l.rng.Uint64(), &l.generation)
	l.note("power cut")
	l.total.cuts++
}

// mountAgain mounts what a cut has left. Now and then the power fails again while the file system recovers.
func (l *lab) mountAgain() error {
	l.unmount()
	for range l.rng.IntN(3) {
		l.tell("Arm", 1+l.rng.IntN(20), &Nothing{})
		done := make(chan error, 1)
		go func() { done <- l.mount() }()
		var err error
		frozen, ended := false, false
		for !frozen && !ended {
			select {
			case err = <-done:
				ended = true
				l.tell("Arm", 0, &Nothing{})
				l.tell("Frozen", time.Duration(0), &frozen)
			default:
				l.tell("Frozen", 2*time.Millisecond, &frozen)
			}
		}
		if frozen {
			l.cut()
			l.total.inMount++
		}
		if !ended {
			for waiting := true; waiting; {
				select {
				case <-done: // with an error, or a file system on a disk that is gone
					waiting = false
				case <-time.After(20 * time.Millisecond):
					giveUp(l.served)
				}
			}
		} else if err != nil {
			return err
		}
		l.unmount()
	}
	return l.mount()
}

// verify looks at the store that is mounted, first without changing it.
func (l *lab) verify() error {
	write := l.rng.IntN(2) == 0
	keys, err := killtest.Look(l.round, l.verifier, write)
	l.total.keys += keys
	l.looked = l.note("found %d transactions, writing %v: %v", l.verifier.Found(), write, err)
	if err != nil && l.verifier.Untouched() && errors.Is(err, alder.ErrInvalid) {
		return os.Remove(l.round.File) // the power failed while the store was made: the file may be anything then
	}
	return err
}

// life is one life of a writer process.
type life struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	stderr  strings.Builder
	verdict *verdict
	acks    []killtest.Ack
	read    chan error // gets the end of its output
}

// start starts a writer on the store, and tells the verifier what it acknowledges.
func (l *lab) start(part string) *life {
	p := &life{cmd: self(part, l.round.String()), read: make(chan error, 1)}
	p.cmd.Stderr = &p.stderr
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(l.t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(l.t, err)
	require.NoError(l.t, p.cmd.Start())
	go func() {
		p.read <- lines(out, func(line string) error {
			if strings.HasPrefix(line, "{") {
				p.verdict = &verdict{}
				return json.Unmarshal([]byte(line), p.verdict)
			}
			a, ok := killtest.ParseAck(line)
			if !ok {
				return fmt.Errorf("the writer printed %.100q", line)
			}
			p.acks = append(p.acks, a)
			return l.verifier.Acked(a)
		})
	}()
	return p
}

// kill kills a writer. It ends when the disk answers.
func (p *life) kill() { _ = p.cmd.Process.Kill() }

// wait waits for the end of a writer, and returns what was wrong with what it has printed.
func (l *lab) wait(p *life) error {
	wrong := <-p.read
	l.note("a life of %s, its last acknowledgements: %+v", l.round, p.acks[max(0, len(p.acks)-20):])
	_ = p.cmd.Wait()
	_ = p.stdin.Close()
	return wrong
}

// stir makes the kernel write what is dirty in the store's file, at random moments and without a flush, as it would for want of memory, until
// the returned function is called.
func (l *lab) stir() (stop func()) {
	pause := []time.Duration{0, time.Millisecond, 10 * time.Millisecond}[l.rng.IntN(3)]
	if pause == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			time.Sleep(pause)
			if f, err := os.Open(l.round.File); err == nil {
				_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // fails with the disk
				f.Close()
			}
		}
	}()
	return func() { cancel(); <-done }
}

const powerOn = 2 * time.Second // no life is longer

// liveUntilCut lets a writer write until the power is cut, unmounts, and leaves what is on the disk to be mounted. The writer must go on
// until then.
func (l *lab) liveUntilCut(part string) error {
	l.round.Vary(l.rng)
	n := 1 << l.rng.IntN(11)
	l.tell("Arm", n+l.rng.IntN(n), &Nothing{})
	p := l.start(part)
	stop := l.stir()
	var frozen bool
	l.tell("Frozen", powerOn, &frozen)
	l.tell("Freeze", Nothing{}, &Nothing{})
	p.kill() // between here and its end it cannot acknowledge anything that was not durable when the disk stopped
	l.cut()
	wrong := l.wait(p)
	stop()
	if wrong != nil {
		return wrong
	}
	if p.stderr.Len() > 0 {
		return fmt.Errorf("the writer ended before the power was cut: %s", p.stderr.String())
	}
	return nil
}
