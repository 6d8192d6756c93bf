package alder

// Space says what the bytes of a store's file are used for.
type Space struct {
	File    int64 // length of the file
	Trees   int64 // in use: keys, values and the pages that lead to them
	Map     int64 // the map of free pages
	Free    int64 // can be used again at once
	Pinned  int64 // given up, but part of a snapshot that is being read, or that of the last checkpoint
	Log     int64 // the redo log
	Reserve int64 // behind the last page that was ever used

	TxID    uint64 // number of the newest snapshot
	Readers int    // open read transactions
	Behind  uint64 // transactions between the oldest snapshot that is being read and the newest; 0 without readers
}

// Space returns what the file is used for. It waits for nobody and reads no page. While a write transaction is open, or a
// checkpoint begins, the numbers are those of different moments since the snapshot that was published last, and what is in no other field is in
// Log.
func (db *DB) Space() Space {
	pg := db.pager
	if pg == nil || pg.published.Load() == nil {
		return Space{}
	}
	space := pg.space()
	space.TxID = max(pg.visible.Load(), space.TxID)
	for _, id := range pg.readers.pinned(nil) {
		space.Readers++
		// A reader that has begun since may have a newer one.
		space.Behind = max(space.Behind, space.TxID-min(space.TxID, uint64(id)))
	}
	return space
}

// space is the part of Space that is about bytes.
func (pg *pager) space() Space {
	bytes := func(pages int) int64 { return int64(pages) << pg.shift }
	s := pg.published.Load()
	if s == nil {
		return Space{}
	}
	space := Space{File: pg.st.size(), TxID: uint64(s.id)}
	select {
	case pg.writing <- struct{}{}:
		defer pg.unlock()
		f := pg.fl
		space.Trees, space.Map, space.Free, space.Pinned = bytes(pg.treePages()), bytes(f.mapPages()), bytes(f.free), bytes(f.pendingPages)
		space.Log = bytes(pg.logPages())
		space.Reserve = max(space.File-bytes(int(f.highWater)), 0)
	default:
		space.Trees, space.Map = bytes(s.treePages), bytes(int(pg.mapPages.Load()))
		space.Free, space.Pinned = bytes(int(pg.freeN.Load())), bytes(int(pg.pendingN.Load()))
		used := bytes(int(s.highWater))
		space.Reserve = max(space.File-used, 0)
		space.Log = max(used-bytes(int(firstPage))-space.Trees-space.Map-space.Free-space.Pinned, 0)
	}
	return space
}

// Failed returns why the store is in the failed state, in which it writes nothing until it is opened again, as an error that matches ErrFailed;
// nil if it is not.
func (db *DB) Failed() error {
	if db.pager == nil {
		return nil
	}
	return db.pager.failed()
}
