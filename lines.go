package alder

import "crypto/rand"

// A store can go on in more than one file: a backup that was restored, a file that was copied with other programs, one that an older state was put back
// to. Each of them gives out the same numbers to transactions of its own, so that the number of a transaction does not say which state it has made.
//
// The line does. A line is what is committed in one file, as long as it is the same file. Its number is random, the upper half of the epoch, and 0 for the
// file in which the store was created. A store that is opened for writing and finds itself in another file than the one in which its meta was
// written, or in a copy, goes on under a new line with its next transaction. The meta says for the last eight lines on which it was before which
// of their transactions are its own: so it is known of a state whether it is part of the past of this file. (Invariant 48)

// lineOf is the line of an epoch.
func lineOf(epoch uint64) uint32 { return uint32(epoch >> 32) }

// killsOf is the number of recoveries in an epoch.
func killsOf(epoch uint64) uint32 { return uint32(epoch) }

// onLine is the epoch on another line.
func onLine(line uint32, epoch uint64) uint64 { return uint64(line)<<32 | uint64(killsOf(epoch)) }

// nextLine begins a new line behind transaction last of a store with this epoch and these lines before.
func nextLine(epoch uint64, past [knownLines]pastLine, last txid) (uint64, [knownLines]pastLine) {
	if last > past[0].last { // else nothing was committed on the present one
		copy(past[1:], past[:])
		past[0] = pastLine{lineOf(epoch), last}
	}
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return onLine(le.Uint32(b[:])|1, epoch), past
}

// beginLine lets what is committed from now on be of a new line if the store lies in another file than when m was written. last is the newest transaction
// that it holds.
func (pg *pager) beginLine(m *meta, last txid) {
	if m.place != pg.place {
		pg.epoch, pg.lines = nextLine(pg.epoch, pg.lines, last)
	}
}

// epochOf is the epoch that names the state after transaction id, of this file's past or present.
func (pg *pager) epochOf(id txid) uint64 {
	epoch := pg.epoch
	for _, l := range pg.lines {
		if id > l.last {
			break
		}
		epoch = onLine(l.line, epoch)
	}
	return epoch
}

// linesBefore are the lines before that of transaction id.
func (pg *pager) linesBefore(id txid) [knownLines]pastLine {
	past := pg.lines
	for id <= past[0].last {
		copy(past[:], past[1:])
		past[knownLines-1] = pastLine{}
	}
	return past
}

// lineEnd is the last transaction of a line that is in the past of this file, or may come to be; false: the line is not known to be in it.
func (pg *pager) lineEnd(line uint32) (last txid, known bool) {
	if line == lineOf(pg.epoch) {
		return maxTxid, true
	}
	for _, l := range pg.lines {
		if l.line == line && l.last > 0 {
			return l.last, true
		}
	}
	return 0, false
}

// placeOf says in which file a store lies.
func placeOf(st storage) uint64 {
	if p, ok := st.(placedStorage); ok {
		return p.place()
	}
	return noPlace
}
