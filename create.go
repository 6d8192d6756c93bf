package alder

import (
	"bytes"
	"fmt"
)

// How a new store comes into being. Before anything else a marker is written durably into the first sector; then the first pages are
// written and synced, and then the first meta goes durably into slot 1. A crash on the way leaves the marker without a meta in slot
// 1, or a file of zeros: nothing was ever stored in it, and it is made anew. The first commit puts its meta in the marker's place.

var creationMarker = [...]byte{'a', 'l', 'd', 'e', 'r', ' ', 's', 't', 'o', 'r', 'e', ' ', 'i', 'n', ' ', 'c', 'r', 'e', 'a', 't', 'i', 'o', 'n', '\n'}

// The pages of a new store: an empty root. It has no free map, for no page of it is free, and room for the first commit, which writes
// a root and a map while the first meta, which is the one to fall back on, still leads to this one.
const (
	initialRoot  = firstPage
	initialPages = 8
	initialTxid  = txid(1)
)

// initialImage is a new store without its metas. It depends on nothing but the page size.
func initialImage(ps int) []byte {
	buf := make([]byte, initialPages*ps)
	root := page(buf[initialRoot*pgid(ps) : (initialRoot+1)*pgid(ps)])
	root.clearHeader(kindLeaf, pageRef{initialRoot, initialTxid})
	root.seal()
	return buf
}

// create lays out an empty store.
func (pg *pager) create() error {
	ps := pg.opts.newPageSize
	pg.setPageSize(ps)
	image := initialImage(ps)
	length := int64(len(image))
	if pg.st.size() > length {
		if err := pg.st.truncate(length); err != nil {
			return err
		}
	}
	slot := make([]byte, metaSize)
	if err := pg.growTo(metaSize); err != nil {
		return err
	}
	// A marker that is there from the last try is not written again, lest it be torn. It must be on the medium: after a failed
	// write it may be in the page cache alone, where it looks clean.
	if err := pg.st.sync(); err != nil {
		return err
	}
	pg.dropCache() // if the last try failed, for it has left no word: see markFailed
	if ok, err := pg.st.readMedium(slot, 0); err != nil || !ok || !bytes.HasPrefix(slot, creationMarker[:]) {
		clear(slot)
		copy(slot, creationMarker[:])
		if err := pg.st.writeDurable(slot, 0); err != nil {
			return err
		}
	}
	if err := pg.growTo(length); err != nil {
		return err
	}
	if err := pg.st.writeAt(image[metaSize:], metaSize); err != nil {
		return err
	}
	if err := pg.st.sync(); err != nil {
		return err
	}
	m := meta{
		pageSize: ps, fileID: newFileID(), sequence: 1, txid: initialTxid, root: pageRef{initialRoot, initialTxid},
		highWater: initialRoot + 1, fileLength: length, clean: true, place: placeOf(pg.st),
	}
	m.encode(slot, 1)
	return pg.st.writeDurable(slot, int64(ps))
}

func (pg *pager) growTo(length int64) error {
	if pg.st.size() >= length {
		return nil
	}
	return pg.st.grow(length)
}

// unfinishedStore reports whether the file is what a crash inside create can leave.
func unfinishedStore(st storage) (bool, error) {
	if st.size() > initialPages*maxPageSize {
		return false, nil
	}
	// Most files show in their first bytes that they are none.
	got := make([]byte, min(st.size(), int64(len(creationMarker))))
	if err := st.readAt(got, 0); err != nil {
		return false, fmt.Errorf("reading the file: %w", err)
	}
	if !bytes.Equal(got, creationMarker[:]) && len(bytes.Trim(got, "\x00")) != 0 {
		return false, nil
	}
	got = make([]byte, st.size())
	if err := st.readAt(got, 0); err != nil {
		return false, fmt.Errorf("reading the file: %w", err)
	}
	if !bytes.HasPrefix(got, creationMarker[:]) {
		return len(bytes.Trim(got, "\x00")) == 0, nil
	}
	for ps := minPageSize; ps <= maxPageSize && ps+metaSize <= len(got); ps *= 2 {
		if m, err := decodeMeta(got[ps:], 1); err == nil && m.pageSize == ps {
			return false, nil
		}
	}
	return true, nil
}
