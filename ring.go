package alder

import (
	"errors"
	"runtime"
	"sync/atomic"
)

// This layer writes durably without a thread that waits for the disk: the system writes beside the program, and when it is done it says so in memory
// that both share. Whoever looks there first wakes the one who waits, and lets him have its processor. ring_linux.go does it (io_uring); ring_other.go says that there
// is no such thing.

// attendance is where everybody looks. It outlives the ring that it belongs to, but what the ring shares with the system does not: only those may
// look whose end is waited for before the ring is closed.
type attendance struct {
	_ [64]byte // the state changes often, what others have in this line need not

	// state has in its last two bits what becomes of the write under way, and above them the number of writes there were; so it never has the
	// same value twice, and who takes a write for done, by a compare-and-swap, has looked at that very write.
	state atomic.Uint64

	// Constant from the first write on.
	posted *uint32 // the number of writes that the system has done; atomic

	taken atomic.Uint32 // the number of those whose result has been taken; constant while a write is under way

	parked atomic.Bool // the one who waits has nothing else to do meanwhile

	done chan bool     // has a value for each write that somebody has noticed: whether he waits to go on
	back chan struct{} // has a value for each who can

	_ [64]byte
}

// What becomes of a write.
const (
	attendIdle    = iota // there was none for some time
	attendWriting        // under way
	attendNoticed        // done; the one who waits for it has been woken
	attendResumed        // and goes on, until he writes again
	attendPhases
)

// finding is what a look has found.
type finding int

const (
	foundNothing finding = iota
	foundWaiting         // somebody waits for a processor, because his write is done
	foundDone            // the same, and the finder has woken him and is to wait
)

func newAttendance() *attendance {
	return &attendance{done: make(chan bool, 1), back: make(chan struct{}, 64)} // some may be slow to take what they are given
}

// onlooker is what somebody who looks again and again remembers. The zero value is one who has not looked yet.
type onlooker struct {
	state uint64 // that he saw last
	times uint32 // how often he has seen it
}

// look finds out whether somebody waits for a processor because his write is done, and wakes him if nobody has done so yet. If something is found, the caller
// must give way.
func (a *attendance) look(o *onlooker) finding {
	s := a.state.Load()
	if s%attendPhases == attendIdle {
		return foundNothing
	}
	return a.lookInto(s, o)
}

// lookInto is look in state s; without o for one who does not give way.
func (a *attendance) lookInto(s uint64, o *onlooker) finding {
	if s%attendPhases != attendWriting {
		return a.lookAfter(s, o)
	}
	if atomic.LoadUint32(a.posted) == a.taken.Load() || !a.state.CompareAndSwap(s, s+attendNoticed-attendWriting) {
		return foundNothing
	}
	// Who finds it goes on when the writer waits again. If the writer is still busy with what he does beside the write, that may be long.
	wait := o != nil && a.parked.Load() && s/attendPhases%attendTurns != 0
	a.done <- wait
	if wait {
		return foundDone
	}
	return foundWaiting
}

// lookAfter looks whether the one who was woken has a processor. When his write is done he is about to run, mostly, but the runtime may have taken another one from its queue
// first. When he has gone on, the runtime may have taken his processor from him, in a system call, or because his time was over; then he is at the end of its queue.
// Nobody knows, so those who see the same for long give way, the less often the longer it is.
func (a *attendance) lookAfter(s uint64, o *onlooker) finding {
	if o == nil {
		return foundNothing
	}
	if o.state != s {
		*o = onlooker{state: s}
		return foundNothing
	}
	o.times++
	if s%attendPhases == attendNoticed || o.times >= attendPatience && o.times&(o.times-1) == 0 {
		return foundWaiting
	}
	return foundNothing
}

// attendPatience is how often somebody sees a writer who goes on before he gives way: longer than it takes to begin the next write.
const attendPatience = 128

// attendTurns is the number of writes of which one lets the others have a turn who wait for a processor. The runtime counts the time of a goroutine and of those that it
// wakes, one after the other, as one turn, and when that is over whoever runs goes to the end of the queue. That should not be the writer.
const attendTurns = 8

// giveWay lets the one whose write is done run on this processor. He who has woken him goes on when he has work to wait for, before others; that is short. Someone else queues up behind
// all others.
func (a *attendance) giveWay(f finding) {
	if f == foundDone {
		<-a.back
	} else if f == foundWaiting {
		runtime.Gosched()
	}
}

// rest says that there is none, nor will be soon.
func (a *attendance) rest() {
	if s := a.state.Load(); s%attendPhases != attendIdle {
		a.state.Store(a.next())
	}
}

func (a *attendance) next() uint64 { return (a.state.Load()/attendPhases + 1) * attendPhases }

// errNotTaken is the error of a write that the system did not begin.
var errNotTaken = errors.New("the system does not write beside the program")
