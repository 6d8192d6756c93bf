package alder

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// The lock on a store is a lock of the operating system on the open file, so it ends with the process, however that
// ends. A writer holds it exclusively, read-only opens share it. It does not hinder anybody from reading the bytes, which
// is how a LockError can say who the holder is.

// errLockHeld is returned by lockFile when somebody else, in this process or another, holds a lock that excludes the
// wanted one.
var errLockHeld = errors.New("lock is held by someone else")

// LockError is returned by Open when the store is open elsewhere, in another process or in this one, and stayed so for
// Options.Timeout. It matches ErrLocked and ErrTimeout.
type LockError struct {
	Path     string        // the store
	Holder   string        // who has it open, as far as can be known
	Waited   time.Duration // how long Open waited
	ReadOnly bool          // Open was to be read-only, so the holder is a writer
}

// Error says it in a sentence.
func (e *LockError) Error() string {
	text := "open " + e.Path + ": database is locked"
	if e.ReadOnly {
		text += " for writing"
	}
	if e.Holder != "" {
		text += " by " + e.Holder
	}
	if e.Waited >= time.Millisecond {
		text += fmt.Sprintf(" (waited %v)", e.Waited.Round(time.Millisecond))
	}
	return text
}

// Is makes errors.Is(err, ErrLocked) and errors.Is(err, ErrTimeout) true.
func (e *LockError) Is(target error) bool { return target == ErrLocked || target == ErrTimeout }

// How often a held lock is tried again: soon at first, for most holders are about to finish.
const (
	firstLockPoll = time.Millisecond
	lastLockPoll  = 50 * time.Millisecond
)

// waitLock takes the lock on f, trying until the deadline; at least once, and once only where the deadline has passed.
// It returns errLockHeld when the lock stayed taken. The kernel's own wait is of no use here, it knows no deadline.
func waitLock(f *os.File, exclusive bool, deadline time.Time) error {
	for pause := firstLockPoll; ; pause = min(2*pause, lastLockPoll) {
		err := lockFile(f, exclusive)
		if err == nil || !errors.Is(err, errLockHeld) {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return err
		}
		time.Sleep(min(pause, left))
	}
}

// describeHolders puts into words who holds the lock: the processes the kernel names, and what the store itself says of its
// last writer. The latter is left out where the kernel says that the holders only read, for then it is old news.
func describeHolders(holders []lockHolder, written string) string {
	var names []string
	for _, h := range holders {
		name := "process " + strconv.Itoa(h.pid)
		if h.pid == os.Getpid() {
			name = "this " + name
		}
		if h.command != "" {
			name += " (" + h.command + ")"
		}
		if h.shared {
			name += ", reading"
			written = ""
		}
		names = append(names, name)
	}
	kernel := strings.Join(names, "; ")
	switch {
	case written == "":
		return kernel
	case kernel == "" || len(holders) == 1 && strings.HasPrefix(written, fmt.Sprintf("process %d ", holders[0].pid)):
		return written // the store says the same, and more
	default:
		return kernel + ": " + written
	}
}

// lockHolder is a process that holds a lock on a file.
type lockHolder struct {
	pid     int
	command string // name of its program, if known
	shared  bool
}
