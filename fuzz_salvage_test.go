package alder

import (
	"bytes"
	"testing"
)

// What FuzzSalvage damages.
const (
	fuzzSmall  = iota // a store that was closed
	fuzzLarge         // with larger pages
	fuzzKilled        // a store that was not closed, with a log
	fuzzRecord        // the same; the bytes are the first record of its log
	fuzzKinds
)

// Ensures that no file makes Salvage panic or hang, and that what it makes is a sound store: a store with bytes changed, pages copied,
// right checksums over forged content, and anything for a record of its log.
func FuzzSalvage(f *testing.F) {
	small := newSabotageTarget(f, 4096)
	large := newSabotageTarget(f, 8192)
	killed := small.images[len(small.images)-1]
	whole := uint32(1 << 20)
	f.Add(byte(fuzzSmall), whole, []byte{})
	f.Add(byte(fuzzKilled), whole, []byte{})
	f.Add(byte(fuzzSmall), uint32(5000), []byte{4, 0, 0, 0, 0, 0, 0, 255})
	for id := range byte(27) {
		f.Add(id%3, whole, []byte{4, id, 0, 0, 0, 0, 0, 0})
		f.Add((id+1)%3, whole, []byte{4, id, 0, 0, 0, 0, 0, 0, 8, id * 5, id * 7, 0, 0xFE, 0, 0, 0})
		f.Add((id+2)%3, uint32(id)*8192, []byte{3, id, 0, 0, id + 1, 0, 0, 0, 6, id, 0, 0, 3, 0, 0, 0})
	}
	// Both metas gone, one page forged.
	f.Add(byte(fuzzSmall), whole, []byte{4, 0, 0, 0, 0, 0, 0, 255, 4, 1, 0, 0, 0, 0, 0, 255, 5, 9, 26, 0, 255, 255, 0, 0})
	for _, record := range logRecords(f, killed, small.pageSize) {
		if len(record) < 300 {
			f.Add(byte(fuzzRecord), whole, record)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, length uint32, program []byte) {
		if len(program) > 400 {
			return
		}
		var image []byte
		switch kind % fuzzKinds {
		case fuzzSmall:
			image = patchStore(small.image, small.pageSize, program)
		case fuzzLarge:
			image = patchStore(large.image, large.pageSize, program)
		case fuzzKilled:
			image = patchStore(killed, small.pageSize, program)
		case fuzzRecord:
			image = forgeRecord(t, killed, small.pageSize, program)
		}
		image = image[:min(int(length), len(image))]
		if _, err := salvageImage(bytes.Clone(image)); err != nil && !typedError(err) {
			t.Error(err)
		}
	})
}

// logOf reads the log of a store that was not closed.
func logOf(t testing.TB, image []byte, pageSize int) (*meta, *logScan) {
	d := loadSimDisk(simConfig{}, image)
	defer d.release()
	chosen, err := readMetas(d)
	if err != nil {
		t.Fatal(err)
	}
	r := logReader{pageSize: pageSize, end: pgid(len(image) / pageSize), read: func(r run) []byte {
		return image[int(r.id)*pageSize : (int(r.id)+r.n)*pageSize]
	}}
	scan, err := r.scan(chosen.meta)
	if err != nil || len(scan.frames) == 0 {
		t.Fatalf("no log: %v", err)
	}
	return chosen.meta, scan
}

// logRecords returns the records of a log.
func logRecords(t testing.TB, image []byte, pageSize int) (records [][]byte) {
	_, scan := logOf(t, image, pageSize)
	for _, f := range scan.frames {
		if err := f.records(func(_ txid, record []byte) error {
			records = append(records, bytes.Clone(record))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// forgeRecord makes the log of a store one frame with one record.
func forgeRecord(t testing.TB, image []byte, pageSize int, record []byte) []byte {
	image = bytes.Clone(image)
	m, _ := logOf(t, image, pageSize)
	f := frame{count: 1, first: m.txid + 1, previous: m.logPrevious, body: appendRecord(nil, record)}
	offset := int64(m.logBegin)*int64(pageSize) + int64(m.logOffset)
	buf := make([]byte, frameSize(len(f.body)))
	copy(buf[logHeader:], f.body)
	f.seal(buf, m.logSalt, offset)
	copy(image[offset:], buf)
	return image
}
