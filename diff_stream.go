package alder

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// The bytes of a diff between a backup and a newer snapshot: a header that says which two snapshots, blocks of records, and a last, empty
// block. Each block has a checksum that covers the one before, so that a diff in which something was changed, left out, repeated or cut
// off is found out. docs/diff.md has the tables. This file knows how records are packed, not what they mean.

// SnapshotID names one state of one store. Two snapshots with the same identity hold the same data; a copy made by Tx.WriteTo has that of the
// snapshot it was made from. When a store and its copy both go on, their later states have different identities, though store and transaction may be the same.
type SnapshotID struct {
	Store [16]byte // identity of the store, as in DB.ID
	Epoch uint64   // lower half: counts the times that transactions may have been lost in a crash; upper half: tells copies apart that went on by themselves
	TxID  uint64   // number of the last transaction
}

// Snapshot returns the identity of what the transaction reads; of a write transaction, that of what it began with.
func (tx *Tx) Snapshot() SnapshotID {
	return tx.pager.snapshotID(tx.snap.id)
}

// snapshotID is the identity of the state after transaction id.
func (pg *pager) snapshotID(id txid) SnapshotID {
	return SnapshotID{Store: pg.fileID, Epoch: pg.epochOf(id), TxID: uint64(id)}
}

// String returns the identity as text for ParseSnapshotID: 32 hexadecimal digits, epoch and transaction, with colons between them.
func (s SnapshotID) String() string { return fmt.Sprintf("%x:%d:%d", s.Store, s.Epoch, s.TxID) }

// ParseSnapshotID reads what SnapshotID.String writes.
func ParseSnapshotID(text string) (SnapshotID, error) {
	var s SnapshotID
	parts := strings.Split(text, ":")
	if len(parts) == 3 && len(parts[0]) == 2*len(s.Store) {
		_, err := hex.Decode(s.Store[:], []byte(parts[0]))
		if err == nil {
			if s.Epoch, err = strconv.ParseUint(parts[1], 10, 64); err == nil {
				if s.TxID, err = strconv.ParseUint(parts[2], 10, 64); err == nil {
					return s, nil
				}
			}
		}
	}
	return SnapshotID{}, fmt.Errorf("alder: snapshot identity %q: want 32 hexadecimal digits, epoch and transaction, with colons between", text)
}

// Errors of diffs.
var (
	// ErrDiffMismatch is returned when a diff and a backup, or a store and a backup, do not belong together.
	ErrDiffMismatch = errors.New("diff does not fit")

	// ErrDiffInvalid is returned when what should be a diff is none, is damaged, or is not complete.
	ErrDiffInvalid = errors.New("diff is damaged or incomplete")
)

var diffMagic = [8]byte{'a', 'l', 'd', 'e', 'r', 'd', 'i', 'f'}

// Header of a diff.
const (
	offDiffMagic    = 0
	offDiffVersion  = offDiffMagic + 8
	offDiffFlags    = offDiffVersion + 4
	offDiffStore    = offDiffFlags + 4
	offDiffFrom     = offDiffStore + 16
	offDiffTo       = offDiffFrom + 16
	offDiffChecksum = offDiffTo + 16
	diffHeader      = offDiffChecksum + 8

	diffVersion  = 1
	diffBlock    = 64 << 10 // most bytes of records in a block
	diffOverhead = 4 + 8    // bytes of a block around its records: their number in front, the checksum behind
)

// diffOp begins a record.
type diffOp byte

const (
	opEnd    diffOp = 0 // end of a bucket: number of keys
	opKeep   diffOp = 1 // keys up to a bound are as in the backup: their number, bound
	opCut    diffOp = 2 // end of what is listed: bound
	opPut    diffOp = 3 // key, value
	opSame   diffOp = 4 // key, length of its value, which is as in the backup
	opBucket diffOp = 5 // name and sequence number of a nested bucket, whose content follows
	opIntact diffOp = 6 // name, sequence number and number of keys of a nested bucket whose content is as in the backup
)

// ---- writing

// diffOutput packs records into blocks. The first error stays; finish returns it.
type diffOutput struct {
	w   io.Writer
	buf []byte // length of the block at work, and its records
	sum uint64 // of the block before
	n   int64  // bytes written
	err error
}

func newDiffOutput(w io.Writer, from, to SnapshotID) *diffOutput {
	o := &diffOutput{w: w, buf: make([]byte, 4, diffBlock+diffOverhead)}
	h := make([]byte, diffHeader)
	copy(h, diffMagic[:])
	le.PutUint32(h[offDiffVersion:], diffVersion)
	copy(h[offDiffStore:], to.Store[:])
	le.PutUint64(h[offDiffFrom:], from.Epoch)
	le.PutUint64(h[offDiffFrom+8:], from.TxID)
	le.PutUint64(h[offDiffTo:], to.Epoch)
	le.PutUint64(h[offDiffTo+8:], to.TxID)
	o.sum = xxhash.Sum64(h[:offDiffChecksum])
	le.PutUint64(h[offDiffChecksum:], o.sum)
	o.write(h)
	return o
}

func (o *diffOutput) write(b []byte) {
	if o.err != nil {
		return
	}
	n, err := o.w.Write(b)
	o.n += int64(n)
	o.err = err
}

// diffSum is the checksum of a block, its length included, that follows one with the checksum before.
func diffSum(before uint64, block []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(le.AppendUint64(nil, before))
	_, _ = d.Write(block)
	return d.Sum64()
}

// flush writes the block at work.
func (o *diffOutput) flush() {
	le.PutUint32(o.buf, uint32(len(o.buf)-4))
	o.sum = diffSum(o.sum, o.buf)
	o.write(le.AppendUint64(o.buf, o.sum))
	o.buf = o.buf[:4]
}

// finish writes what is left and the last block, and returns the first error.
func (o *diffOutput) finish() error {
	if len(o.buf) > 4 {
		o.flush()
	}
	o.flush()
	return o.err
}

func (o *diffOutput) raw(b []byte) {
	for len(b) > 0 {
		n := min(len(b), diffBlock+4-len(o.buf))
		o.buf = append(o.buf, b[:n]...)
		b = b[n:]
		if len(o.buf) == diffBlock+4 {
			o.flush()
		}
	}
}

func (o *diffOutput) op(op diffOp) { o.raw([]byte{byte(op)}) }

func (o *diffOutput) number(v uint64) {
	var b [binary.MaxVarintLen64]byte
	o.raw(b[:binary.PutUvarint(b[:], v)])
}

func (o *diffOutput) bytes(b []byte) {
	o.number(uint64(len(b)))
	o.raw(b)
}

// bound is a key, or nil for the end of the bucket.
func (o *diffOutput) bound(key []byte) {
	if key == nil {
		o.raw([]byte{0})
		return
	}
	o.raw([]byte{1})
	o.bytes(key)
}

// ---- reading

// diffInput unpacks blocks. Nothing of a block is given out before its checksum has been verified.
type diffInput struct {
	r        io.Reader
	from, to SnapshotID
	block    []byte // what is left of the block at work
	buf      []byte
	sum      uint64
	n        int64 // bytes read
	last     bool  // the last block has been read
}

func newDiffInput(r io.Reader) (*diffInput, error) {
	in := &diffInput{r: r, buf: make([]byte, diffBlock+diffOverhead)}
	h := in.buf[:diffHeader]
	if err := in.fill(h); err != nil {
		return nil, err
	}
	if [8]byte(h) != diffMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrDiffInvalid)
	}
	if v := le.Uint32(h[offDiffVersion:]); v != diffVersion {
		return nil, fmt.Errorf("%w: the diff has version %d, this program reads version %d", ErrVersionMismatch, v, diffVersion)
	}
	in.sum = xxhash.Sum64(h[:offDiffChecksum])
	if in.sum != le.Uint64(h[offDiffChecksum:]) {
		return nil, fmt.Errorf("%w: the checksum of its header does not match", ErrDiffInvalid)
	}
	if flags := le.Uint32(h[offDiffFlags:]); flags != 0 {
		return nil, fmt.Errorf("%w: the diff has flags %#x, this program knows none", ErrVersionMismatch, flags)
	}
	in.to.Store = [16]byte(h[offDiffStore:])
	in.from.Store = in.to.Store
	in.from.Epoch, in.from.TxID = le.Uint64(h[offDiffFrom:]), le.Uint64(h[offDiffFrom+8:])
	in.to.Epoch, in.to.TxID = le.Uint64(h[offDiffTo:]), le.Uint64(h[offDiffTo+8:])
	return in, nil
}

// DiffRange reads the beginning of a diff and returns the identities of the backup that it is for and of the snapshot that comes out. The
// error matches ErrDiffInvalid if r holds no diff, or ErrVersionMismatch. Whether the rest is there CheckDiff tells.
func DiffRange(r io.Reader) (from, to SnapshotID, err error) {
	in, err := newDiffInput(r)
	if err != nil {
		return from, to, err
	}
	return in.from, in.to, nil
}

// CheckDiff is DiffRange that reads the diff to its end and verifies that all of it is there and unchanged: a diff that is the base of the next one is worth
// no more than its last block. The error matches ErrDiffInvalid if it is not, or ErrVersionMismatch, or is that of r.
func CheckDiff(r io.Reader) (from, to SnapshotID, err error) {
	in, err := newDiffInput(r)
	if err != nil {
		return from, to, err
	}
	for !in.last {
		if err := in.next(); err != nil {
			return from, to, err
		}
	}
	return in.from, in.to, in.finish()
}

// fill reads all of b.
func (in *diffInput) fill(b []byte) error {
	n, err := io.ReadFull(in.r, b)
	in.n += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends after %d bytes", ErrDiffInvalid, in.n)
	}
	return err
}

// next reads a block that has records.
func (in *diffInput) next() error {
	if in.last {
		return fmt.Errorf("%w: a record is missing at its end", ErrDiffInvalid)
	}
	at := in.n
	if err := in.fill(in.buf[:4]); err != nil {
		return err
	}
	n := int(min(le.Uint32(in.buf), diffBlock+1))
	if n > diffBlock {
		return fmt.Errorf("%w: the block at offset %d says that it has %d bytes, more than there can be", ErrDiffInvalid, at, le.Uint32(in.buf))
	}
	if err := in.fill(in.buf[4 : n+diffOverhead]); err != nil {
		return err
	}
	in.sum = diffSum(in.sum, in.buf[:4+n])
	if in.sum != le.Uint64(in.buf[4+n:]) {
		return fmt.Errorf("%w: the checksum of the block at offset %d does not match", ErrDiffInvalid, at)
	}
	in.block = in.buf[4 : 4+n]
	in.last = n == 0
	return nil
}

// finish makes sure that nothing follows the last record.
func (in *diffInput) finish() error {
	if len(in.block) > 0 {
		return fmt.Errorf("%w: %d bytes follow the last record", ErrDiffInvalid, len(in.block))
	}
	if !in.last {
		if err := in.next(); err != nil {
			return err
		}
		if !in.last {
			return fmt.Errorf("%w: a block follows the last record", ErrDiffInvalid)
		}
	}
	if n, err := io.ReadFull(in.r, in.buf[:1]); n > 0 {
		return fmt.Errorf("%w: something follows its end at offset %d", ErrDiffInvalid, in.n)
	} else if err != io.EOF {
		return err
	}
	return nil
}

// ReadByte and Read are those of the records' bytes.
func (in *diffInput) ReadByte() (byte, error) {
	for len(in.block) == 0 {
		if err := in.next(); err != nil {
			return 0, err
		}
	}
	b := in.block[0]
	in.block = in.block[1:]
	return b, nil
}

func (in *diffInput) Read(p []byte) (int, error) {
	for len(in.block) == 0 {
		if err := in.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.block)
	in.block = in.block[n:]
	return n, nil
}

func (in *diffInput) op() (diffOp, error) {
	b, err := in.ReadByte()
	return diffOp(b), err
}

func (in *diffInput) number() (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		if shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%w: a number before offset %d has more than 64 bits", ErrDiffInvalid, in.n)
}

// bytes returns the next bytes, at most limit, in memory of their own. What a damaged length asks for is not allocated at once.
func (in *diffInput) bytes(limit int, what string) ([]byte, error) {
	n, err := in.number()
	if err != nil {
		return nil, err
	}
	if n > uint64(limit) {
		return nil, fmt.Errorf("%w: a %s before offset %d has %d bytes, the limit is %d", ErrDiffInvalid, what, in.n, n, limit)
	}
	if n <= diffBlock {
		b := make([]byte, n)
		_, err = io.ReadFull(in, b)
		return b, err
	}
	var b bytes.Buffer
	_, err = io.CopyN(&b, in, int64(n))
	return b.Bytes(), err
}

// key is bytes for a key, or the name of a bucket.
func (in *diffInput) key() ([]byte, error) {
	k, err := in.bytes(MaxKeySize, "key")
	if err == nil && len(k) == 0 {
		return nil, fmt.Errorf("%w: a key before offset %d is empty", ErrDiffInvalid, in.n)
	}
	return k, err
}

// bound returns nil for the end of the bucket.
func (in *diffInput) bound() ([]byte, error) {
	b, err := in.ReadByte()
	switch {
	case err != nil || b == 0:
		return nil, err
	case b == 1:
		return in.key()
	}
	return nil, fmt.Errorf("%w: a bound before offset %d begins with %d", ErrDiffInvalid, in.n, b)
}
