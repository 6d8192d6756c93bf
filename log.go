package alder

import "github.com/cespare/xxhash/v2"

// The redo log: its form on disk. This file knows runs, frames and positions; it does not know what records say, nor when they
// are written.
//
// The log is a chain of runs of pages inside the store's file. A run is a sequence of frames, each of which begins at a
// block of logBlock bytes and is written by one durable write, filled up with zeros to the next block, so that a block with
// acknowledged records is never written again. A frame holds the records of transactions with consecutive txids. A frame says
// where the next run is, once there is one, which was durable, and zero, before; and it says whether the log goes on there,
// or behind the frame.
//
// A frame counts only if its checksum is right, which covers the log's salt, the frame's position in the file, the checksum
// of the frame before, and its body. So neither a frame of an older log at the same place nor a user's value that looks
// like a frame is ever taken for one. The log ends at the first frame that does not count. As a frame is only written when the one
// before is durable, a valid frame of later transactions behind that end means that the log was damaged in between. (Invariants 32 and 33)

const (
	logBlock  = 4096
	logHeader = 64 // bytes of a frame before its body

	frameMagic = 1735355489 // "alog"
)

// Frame header.
const (
	offFrameSum       = 0 // of all that follows, body included
	offFrameMagic     = offFrameSum + 8
	offFrameCount     = offFrameMagic + 4  // records, and frameJump
	offFrameLength    = offFrameCount + 4  // bytes of the body
	offFrameLinkPages = offFrameLength + 4 // pages of the next run; 0: there is none yet
	offFrameSalt      = offFrameLinkPages + 4
	offFramePosition  = offFrameSalt + 8 // offset of the frame in the file
	offFrameFirst     = offFramePosition + 8
	offFrameLink      = offFrameFirst + 8 // first page of the next run
	offFramePrevious  = offFrameLink + 8  // checksum of the frame before

	_ = uint(logHeader - offFramePrevious - 8) // the header has room for its fields
	_ = uint(offFramePrevious + 8 - logHeader) // and no more
)

// frameJump, in the field of the count, says that the log goes on in the next run.
const frameJump = 1 << 31

// maxFrameBody bounds the body of a frame, and so the memory that reading a log takes.
const maxFrameBody = 1 << 30

// logPosition is a place in the log: a run and an offset in bytes from its begin.
type logPosition struct {
	run
	off int64
}

// frame is what one durable write adds to the log.
type frame struct {
	count    int  // records
	first    txid // of the first record; of the next one if there is none
	link     run  // the next run; n == 0: there is none yet
	jump     bool // the log goes on in the next run
	previous uint64
	sum      uint64
	body     []byte
	offset   int64 // in the file; of a frame that was read
}

// frameSize is the number of bytes that a frame takes in the log.
func frameSize(body int) int64 {
	return (int64(body) + logHeader + logBlock - 1) &^ (logBlock - 1)
}

// seal completes buf, which has logHeader bytes of room before the body and is as long as frameSize says, for its place in the
// file.
func (f *frame) seal(buf []byte, salt uint64, offset int64) {
	le.PutUint32(buf[offFrameMagic:], frameMagic)
	le.PutUint32(buf[offFrameCount:], uint32(f.count))
	if f.jump {
		le.PutUint32(buf[offFrameCount:], uint32(f.count)|frameJump)
	}
	le.PutUint32(buf[offFrameLength:], uint32(len(f.body)))
	le.PutUint32(buf[offFrameLinkPages:], uint32(f.link.n))
	le.PutUint64(buf[offFrameSalt:], salt)
	le.PutUint64(buf[offFramePosition:], uint64(offset))
	le.PutUint64(buf[offFrameFirst:], uint64(f.first))
	le.PutUint64(buf[offFrameLink:], uint64(f.link.id))
	le.PutUint64(buf[offFramePrevious:], f.previous)
	f.sum = xxhash.Sum64(buf[offFrameMagic : logHeader+len(f.body)])
	le.PutUint64(buf[offFrameSum:], f.sum)
}

// parseFrame reads the frame at the start of b, which reaches to the end of its run. It reports false for anything that is not a
// whole frame of the log with that salt at that offset in the file; whether it is the next one is for the caller to see.
func parseFrame(b []byte, salt uint64, offset int64) (frame, bool) {
	if len(b) < logHeader || le.Uint32(b[offFrameMagic:]) != frameMagic ||
		le.Uint64(b[offFrameSalt:]) != salt || le.Uint64(b[offFramePosition:]) != uint64(offset) {
		return frame{}, false
	}
	n := int64(le.Uint32(b[offFrameLength:]))
	if n > maxFrameBody || logHeader+n > int64(len(b)) {
		return frame{}, false
	}
	count := le.Uint32(b[offFrameCount:])
	f := frame{
		count: int(count &^ frameJump), jump: count&frameJump != 0, first: txid(le.Uint64(b[offFrameFirst:])),
		link:     run{pgid(le.Uint64(b[offFrameLink:])), int(le.Uint32(b[offFrameLinkPages:]))},
		previous: le.Uint64(b[offFramePrevious:]), sum: le.Uint64(b[offFrameSum:]),
		body: b[logHeader : logHeader+n : logHeader+n], offset: offset,
	}
	return f, xxhash.Sum64(b[offFrameMagic:logHeader+n]) == f.sum
}

// logScan is what a log holds.
type logScan struct {
	runs     []run // in order; the first is the one in which the log begins
	frames   []frame
	position logPosition // behind the last frame
	next     txid        // of the record that would follow
	previous uint64      // checksum of the last frame
	bytes    int64       // of all frames
	link     run         // the run that the last frame says is the next
}

// logReader is what scanning a log needs to know of the store.
type logReader struct {
	pageSize int
	end      pgid // pages of the file
	read     func(r run) []byte
}

// scan reads the log that m points to, once, from its begin to its end.
func (r *logReader) scan(m *meta) (*logScan, error) {
	s := &logScan{position: logPosition{run{m.logBegin, m.logPages}, int64(m.logOffset)}, next: m.txid + 1, previous: m.logPrevious}
	pages := 0
	for {
		p := &s.position
		if err := r.checkRun(p, &pages); err != nil {
			return nil, err
		}
		s.runs = append(s.runs, p.run)
		b := r.read(p.run)
		base := int64(p.id) * int64(r.pageSize)
		linked := false
		for p.off < int64(len(b)) {
			f, ok := parseFrame(b[p.off:], m.logSalt, base+p.off)
			if !ok || f.first != s.next || f.previous != s.previous {
				break
			}
			s.frames = append(s.frames, f)
			s.next += txid(f.count)
			s.previous = f.sum
			s.bytes += frameSize(len(f.body))
			p.off += frameSize(len(f.body))
			s.link = f.link
			if linked = f.jump; linked {
				s.position = logPosition{run: f.link}
				break
			}
		}
		if !linked {
			return s, r.checkEnd(s, b, m.logSalt)
		}
	}
}

// checkRun refuses a run that cannot be: links are checked by checksums, but a file can be forged.
func (r *logReader) checkRun(p *logPosition, pages *int) error {
	if p.id < firstPage || p.n < 1 || p.id >= r.end || pgid(p.n) > r.end-p.id {
		return corrupt(p.id, "the chain of log runs leads to %d pages here, but pages end at %d", p.n, r.end)
	}
	if p.off < 0 || p.off%logBlock != 0 || p.off > int64(p.n)*int64(r.pageSize) {
		return corrupt(p.id, "the redo log begins at offset %d of a run of %d pages here", p.off, p.n)
	}
	if *pages += p.n; pgid(*pages) > r.end {
		return corrupt(p.id, "the chain of log runs goes in a circle")
	}
	return nil
}

// checkEnd looks behind the end of the log, in the rest b of its last run and at the begin of the next, for frames that were
// written later.
func (r *logReader) checkEnd(s *logScan, b []byte, salt uint64) error {
	later := func(b []byte, base int64) error {
		f, ok := parseFrame(b, salt, base)
		if !ok || f.first < s.next {
			return nil
		}
		return corrupt(s.position.id, "redo log: what was written at offset %d of this run for transaction %d is damaged, but there are later transactions, from %d on",
			s.position.off, s.next, f.first)
	}
	base := int64(s.position.id) * int64(r.pageSize)
	for off := s.position.off + logBlock; off < int64(len(b)); off += logBlock {
		if err := later(b[off:], base+off); err != nil {
			return err
		}
	}
	next := logPosition{run: s.link}
	if r.checkRun(&next, new(int)) != nil || next.id == s.position.id {
		return nil // there is none, or it was cut off with the rest of the file: nothing was ever written there
	}
	return later(r.read(next.run), int64(next.id)*int64(r.pageSize))
}

// ---- records

// Records lie in the body of a frame one behind the other, each with its length before it.

func appendRecord(body, record []byte) []byte {
	body = le.AppendUint32(body, uint32(len(record)))
	return append(body, record...)
}

// records calls fn with each record of the frame and its txid.
func (f *frame) records(fn func(txid, []byte) error) error {
	b := f.body
	for i := range f.count {
		if len(b) < 4 || uint64(le.Uint32(b)) > uint64(len(b)-4) {
			return corrupt(0, "redo log: the record of transaction %d is longer than its frame", f.first+txid(i))
		}
		n := 4 + int(le.Uint32(b))
		if err := fn(f.first+txid(i), b[4:n:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	if len(b) > 0 {
		return corrupt(0, "redo log: a frame of %d records has %d bytes more", f.count, len(b))
	}
	return nil
}
