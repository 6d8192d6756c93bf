package alder

// Validation makes a page from a file one that accessors can trust, whatever its bytes are.

// validate checks that every slot and cell of a tree page lies inside it, so that accessors can trust it. It does not
// compare keys; Tx.Check does.
func (p page) validate() error {
	id, n := p.id(), p.count()
	switch p.kind() {
	case kindLeaf:
		return p.validateLeaf(id, n)
	case kindBranch:
		return p.validateBranch(id, n)
	}
	return corrupt(id, "kind is %d, a tree has leaf and branch pages only", p.kind())
}

func (p page) validateArea(id pgid, n int) (lo int, err error) {
	slots := pageHeader + n*p.slotSize()
	lo = len(p) - p.cellBytes()
	if lo < slots {
		return 0, corrupt(id, "%d slots and %d bytes of cells do not fit in %d bytes", n, p.cellBytes(), len(p))
	}
	if p.garbage() > p.cellBytes() {
		return 0, corrupt(id, "%d bytes of garbage in %d bytes of cells", p.garbage(), p.cellBytes())
	}
	return lo, nil
}

func (p page) validateLeaf(id pgid, n int) error {
	flags := p.flags()
	if flags&^leafFlagsMask != 0 {
		return corrupt(id, "leaf flags are %#x, allowed are %#x", flags, leafFlagsMask)
	}
	lo, err := p.validateArea(id, n)
	if err != nil {
		return err
	}
	hdr := cellHeader(flags)
	plen := p.prefixLen()
	keySize, valueSize := int(le.Uint16(p[offKeySize:])), int(le.Uint16(p[offValueSize:]))
	if flags == 0 {
		// All cells are alike: only their offsets can be wrong.
		size := keySize + valueSize
		if n*size != p.cellBytes()-p.garbage() {
			return corrupt(id, "%d cells of %d bytes, but %d bytes of cells and %d of garbage", n, size, p.cellBytes(), p.garbage())
		}
		if n > 0 && plen > keySize {
			return corrupt(id, "prefix of %d bytes, keys of %d", plen, keySize)
		}
		for i := range n {
			if off := p.cellOffset(i, n); off < lo || off+size > len(p) {
				return corrupt(id, "slot %d: cell at %d of %d bytes is not in [%d,%d)", i, off, size, lo, len(p))
			}
		}
		return nil
	}
	total := p.garbage()
	for i := range n {
		off := p.cellOffset(i, n)
		if off < lo || off+hdr > len(p) {
			return corrupt(id, "slot %d: cell at %d is not in [%d,%d)", i, off, lo, len(p))
		}
		var cf uint8
		o := off
		if flags&flagCellFlags != 0 {
			cf = p[o]
			o++
		}
		klen, vlen := keySize, valueSize
		if flags&flagKeyLen != 0 {
			klen = int(le.Uint16(p[o:]))
			o += 2
		}
		if flags&flagValueLen != 0 {
			vlen = int(le.Uint16(p[o:]))
			o += 2
		}
		if o+klen+vlen > len(p) {
			return corrupt(id, "slot %d: key of %d and value of %d bytes at %d pass the end of the page", i, klen, vlen, o)
		}
		if err := validateCell(id, i, cf, klen, vlen, plen); err != nil {
			return err
		}
		if cf&cellBucket != 0 {
			if err := validateBucket(id, i, p[o+klen:o+klen+vlen]); err != nil {
				return err
			}
		}
		total += hdr + klen + vlen
	}
	if total != p.cellBytes() {
		return corrupt(id, "cells and garbage take %d bytes, the header says %d", total, p.cellBytes())
	}
	return nil
}

func validateCell(id pgid, i int, cf uint8, klen, vlen, plen int) error {
	switch {
	case cf&^cellFlagsMask != 0:
		return corrupt(id, "slot %d: cell flags are %#x, allowed are %#x", i, cf, cellFlagsMask)
	case cf&cellOverflowKey != 0 && klen != inlinePrefix+refSize:
		return corrupt(id, "slot %d: stored overflow key has %d bytes, must have %d", i, klen, inlinePrefix+refSize)
	case cf&cellOverflowKey != 0 && plen > maxOverflowPrefix:
		return corrupt(id, "slot %d: prefix of %d bytes is longer than what an overflow key keeps", i, plen)
	case cf&cellOverflowKey == 0 && plen > klen:
		return corrupt(id, "slot %d: key of %d bytes is shorter than the prefix of %d", i, klen, plen)
	case cf&cellOverflowValue != 0 && (vlen != refSize || cf&cellBucket != 0):
		return corrupt(id, "slot %d: overflow value reference of %d bytes, flags %#x", i, vlen, cf)
	case cf&cellBucket != 0 && vlen != bucketHeader && vlen < bucketHeader+pageHeader:
		return corrupt(id, "slot %d: bucket of %d bytes", i, vlen)
	}
	return nil
}

// Bucket header: the value of a cell with cellBucket begins with it. A bucket whose root is page 0 is empty or inline:
// the image of its only leaf follows. Behind each of the first three fields, of 48 bits, are 16 bits of the transaction that moved the bucket
// to its place.
const (
	offBucketRoot     = 0
	offBucketMoved0   = offBucketRoot + 6
	offBucketBirth    = offBucketMoved0 + 2
	offBucketMoved1   = offBucketBirth + 6
	offBucketCount    = offBucketMoved1 + 2
	offBucketMoved2   = offBucketCount + 6
	offBucketSequence = offBucketMoved2 + 2
	bucketHeader      = offBucketSequence + 8
)

// bucketMoved is the transaction that moved a bucket to its place, 0 for one that was created there.
func bucketMoved(header []byte) txid {
	return txid(le.Uint16(header[offBucketMoved0:])) | txid(le.Uint16(header[offBucketMoved1:]))<<16 | txid(le.Uint16(header[offBucketMoved2:]))<<32
}

func setBucketMoved(header []byte, t txid) {
	le.PutUint16(header[offBucketMoved0:], uint16(t))
	le.PutUint16(header[offBucketMoved1:], uint16(t>>16))
	le.PutUint16(header[offBucketMoved2:], uint16(t>>32))
}

func validateBucket(id pgid, i int, v []byte) error {
	root, count := load48(v[offBucketRoot:]), load48(v[offBucketCount:])
	if len(v) == bucketHeader {
		if root == 0 && count != 0 {
			return corrupt(id, "slot %d: empty bucket counts %d keys", i, count)
		}
		return nil
	}
	p := page(v[bucketHeader:])
	switch {
	case root != 0:
		return corrupt(id, "slot %d: inline bucket has root page %d", i, root)
	case p.kind() != kindLeaf || uint64(p.count()) != count:
		return corrupt(id, "slot %d: inline bucket is a %v with %d keys, its header counts %d", i, p.kind(), p.count(), count)
	}
	n := p.count()
	if err := p.validateLeaf(id, n); err != nil {
		return err
	}
	for j := range n {
		if p.flags()&flagCellFlags != 0 && p.cell(j).flags&cellBucket != 0 {
			return corrupt(id, "slot %d: inline bucket has a bucket inside", i)
		}
	}
	return nil
}

func (p page) validateBranch(id pgid, n int) error {
	if n == 0 {
		return corrupt(id, "branch without children")
	}
	lo, err := p.validateArea(id, n)
	if err != nil {
		return err
	}
	plen := p.prefixLen()
	if plen > p.cellBytes() {
		return corrupt(id, "prefix of %d bytes in %d bytes of cells", plen, p.cellBytes())
	}
	end := len(p) - plen
	total := plen
	for i := range n {
		off := p.cellOffset(i, n)
		if off <= headSize {
			continue
		}
		if off < lo || off+2 > end {
			return corrupt(id, "slot %d: separator at %d is not in [%d,%d)", i, off, lo, end)
		}
		l := int(le.Uint16(p[off:]))
		overflow := l&separatorOverflow != 0
		l &^= separatorOverflow
		if off+2+l > end {
			return corrupt(id, "slot %d: separator of %d bytes at %d passes %d", i, l, off, end)
		}
		if overflow && plen+l != inlinePrefix+refSize {
			return corrupt(id, "slot %d: stored overflow separator of %d bytes, must have %d", i, plen+l, inlinePrefix+refSize)
		}
		if overflow && plen > maxOverflowPrefix {
			return corrupt(id, "slot %d: prefix of %d bytes is longer than what an overflow separator keeps", i, plen)
		}
		total += 2 + l
	}
	if total != p.cellBytes() || p.garbage() != 0 {
		return corrupt(id, "separators take %d bytes, the header says %d and %d of garbage", total, p.cellBytes(), p.garbage())
	}
	return nil
}
