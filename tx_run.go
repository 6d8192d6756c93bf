package alder

// Long keys and values: overflow runs, written to their places at once.

// writeRun stores data in a new overflow run. It goes to its place in the file at once: nothing refers to it yet, and large values
// need no memory.
func (tx *Tx) writeRun(data []byte) (overflowRef, error) {
	pg := tx.pager
	n := runPages(len(data), pg.pageSize)
	id, err := tx.allocate(n)
	if err != nil {
		return overflowRef{}, err
	}
	r := overflowRef{pageRef{id, tx.w.id}, len(data)}
	var header [pageHeader]byte
	page(header[:]).clearHeader(kindOverflow, r.pageRef)
	page(header[:]).setRunLength(int64(len(data)))
	sealRun(header[:], data)
	if len(data) >= pg.opts.longValue && tx.logsValues() {
		tx.w.values += int64(len(data))
		tx.w.valueRun = r
		if !tx.lazy() {
			return r, tx.writeRunDurably(r, header[:], data)
		}
		tx.w.unsynced = true
	}
	// The first page with the header, the middle straight from data, and the last page filled up with zeros.
	head := min(len(data), pg.pageSize-pageHeader)
	buf := pg.stage(pg.pageSize)
	copy(buf, header[:])
	clear(buf[pageHeader+copy(buf[pageHeader:], data[:head]):])
	if err := pg.writePages(buf, id); err != nil {
		return r, err
	}
	rest := data[head:]
	if whole := len(rest) &^ (pg.pageSize - 1); whole > 0 {
		if err := pg.writePages(rest[:whole], id+1); err != nil {
			return r, err
		}
		rest = rest[whole:]
	}
	if len(rest) > 0 {
		clear(buf[copy(buf, rest):])
		if err := pg.writePages(buf, id+pgid(n-1)); err != nil {
			return r, err
		}
	}
	tx.snap.verified.set(id)
	return r, nil
}

// durableChunk is the number of bytes of a long value that are written durably at a time.
const durableChunk = 4 << 20

// logsValues reports whether the log will refer to long values of the transaction, which has no record else.
func (tx *Tx) logsValues() bool { return !tx.pager.record.tooLong }

// writeRunDurably writes an overflow run through the synchronous descriptor.
func (tx *Tx) writeRunDurably(r overflowRef, header, data []byte) error {
	pg := tx.pager
	buf := pg.stage(min(runPages(len(data), pg.pageSize)<<pg.shift, durableChunk))
	if err := pg.runParts(header, data, buf, func(part []byte, off int64) error {
		return pg.writeDurable("writing a value", part, pg.offset(r.id)+off)
	}); err != nil {
		return err
	}
	tx.snap.verified.set(r.id)
	return nil
}

// adoptRun makes an overflow run that a record of the log refers to one of the transaction's.
func (tx *Tx) adoptRun(r overflowRef) error {
	if _, err := tx.readRun(r); err != nil {
		return err
	}
	tx.w.noteChange(run{r.id, runPages(r.length, tx.pager.pageSize)}, false)
	return nil
}
