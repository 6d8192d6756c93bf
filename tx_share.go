package alder

// Transactions of one group share pages. A page that an earlier transaction has written, and that is part of no pinned snapshot, belongs to
// nobody but the tip: the next transaction changes a copy of it under the same number and birth, so nothing is allocated, nothing freed, and
// the branch above need not learn of a new place. When the transaction joins, its version takes the place of the one before; if it is
// rolled back, its copy is dropped.
//
// Meanwhile somebody may have begun to want the version before: a group was closed, a checkpoint began, a reader came. The
// transaction learns of it when it joins, and then it gives its versions numbers of their own. (Invariant 46)

// unshare gives the shared pages that the transaction has changed numbers of their own. From then on it shares no page.
func (tx *Tx) unshare() error {
	w, d := tx.w, &tx.pager.dirty
	shared := w.shared > 0
	w.shared, w.floor = 0, w.id-1
	if !shared {
		return nil
	}
	moved := map[pgid]pageRef{}
	for _, i := range append([]int32(nil), d.taken...) {
		p := d.buffers[i]
		if d.ids[i] == 0 || p.birth() == w.id {
			continue
		}
		old := p.ref()
		id, err := tx.allocate(1)
		if err != nil {
			return err
		}
		d.renumber(i, id)
		p.setRef(pageRef{id, w.id})
		moved[old.id] = p.ref()
		if err := tx.freePage(old); err != nil {
			return err
		}
	}
	for i, id := range d.ids {
		if id != 0 {
			d.buffers[i].follow(moved)
		}
	}
	w.root.follow(moved)
	return nil
}

// follow lets the references of p, and those of the buckets in its cells, lead to the new places of pages that have moved.
func (p page) follow(moved map[pgid]pageRef) {
	if p.isBranch() {
		for i := range p.count() {
			if to, ok := moved[p.child(i).id]; ok {
				p.setChild(i, to)
			}
		}
		return
	}
	if p.flags()&flagCellFlags == 0 {
		return
	}
	for i := range p.count() {
		c := p.cell(i)
		if c.flags&cellBucket == 0 {
			continue
		}
		if to, ok := moved[pgid(load48(c.value[offBucketRoot:]))]; ok {
			store48(c.value[offBucketRoot:], uint64(to.id))
			store48(c.value[offBucketBirth:], uint64(to.birth))
		}
	}
}
