package alder

// storage is the seam between the pager and whatever holds the bytes of a store: the real file
// (storage_file.go), memory (storage_memory.go), a private copy-on-write mapping for read-only opens
// (storage_private.go), and the simulated disk of the crash tests.
//
// Offsets and lengths are bytes. The pager writes whole pages, or whole 4 KiB blocks of the meta slots.
// Only the one writer (or the checkpointer it hands over to) calls the methods that change something;
// readers use nothing but the mapping.
type storage interface {
	// mapping returns the current mapping. Its data reaches at least to size() and may reach far beyond;
	// bytes at or past size() must not be touched (they fault). A mapping never moves and never shrinks;
	// when grow cannot extend it in place it makes a new one and the old one stays valid until it is
	// handed to unmap.
	mapping() *mapping

	// unmap releases a mapping that is no longer current and that no reader uses any more.
	unmap(m *mapping) error

	// size is the current length of the store.
	size() int64

	// readAt reads through the ordinary (cached) path; it is for the few reads made before a mapping
	// may be trusted. A short read is an error.
	readAt(p []byte, off int64) error

	// readMedium reads what is on the medium itself, past the page cache (O_DIRECT). ok is false, with no
	// error, where the system offers no such read; the caller must then assume nothing about the medium.
	// off and len(p) are multiples of 4096.
	readMedium(p []byte, off int64) (ok bool, err error)

	// writeAt puts p at off, inside size(). On return every reader of the mapping sees it; it is durable only
	// after sync. A short write is an error.
	writeAt(p []byte, off int64) error

	// writeDurable is writeAt, and on return the range itself is durable (O_DSYNC, write-through, or
	// a full flush where the system has nothing better). It does not flush other dirty ranges where that can
	// be avoided.
	writeDurable(p []byte, off int64) error

	// sync makes everything written before the call durable, length included.
	sync() error

	// grow extends the store to size bytes, zero-filled, with real blocks reserved, so that a full disk is
	// met here and not at write-back. On error the store is as it was.
	grow(size int64) error

	// truncate cuts the store to size bytes. No reader may use anything beyond.
	truncate(size int64) error

	// punch gives the blocks of n bytes from off on back to the file system; nobody reads them before they are written again. ok is false, with no error,
	// where that cannot be done. off and n are multiples of the page size.
	punch(off, n int64) (ok bool, err error)

	// refill gives n bytes from off on blocks of their own, which may have been given back. What they hold is lost.
	refill(off, n int64) error

	// removed reports whether the file has lost its last name (deleted or replaced by a rename), so
	// that nothing written to it can survive the process.
	removed() (bool, error)

	// close releases descriptors, locks and all mappings.
	close() error
}

// fetcher is a storage whose mapping may have to wait for a disk.
type fetcher interface {
	storage
	// fetch brings n bytes at off into memory in a system call, and reports whether it had to wait for them.
	fetch(off, n int64) (waited bool)
	// announce lets the system begin to read n bytes at off, and waits for nothing.
	announce(off, n int64)
	// touchRandomly says that the mapping is, or is not, touched at random places.
	touchRandomly(on bool)
}

// attendedStorage is a storage that can write durably without a thread that waits for the disk. Whoever is at work looks whether such a write is done,
// and lets the one who waits for it go on.
type attendedStorage interface {
	storage
	// writeAttended is writeDurable, one at a time. It returns sooner if many look at the attendance meanwhile; it returns if nobody does. beside is called
	// once, while the write is under way, or not at all.
	writeAttended(p []byte, off int64, beside func()) error
	// attendance is where to look, always the same; nil where no write is attended. Who looks must not do so while the storage is closed, or
	// afterwards.
	attendance() *attendance
}

// pacer is a storage that can write parts of what it has in a cache.
type pacer interface {
	storage
	// writeBack writes what is cached of n bytes at off, and waits for that. It makes nothing durable. What cannot be written is an error, which
	// the next sync need not tell again. False: there is no such thing here.
	writeBack(off, n int64) (bool, error)
}

// mapping is one view of the store's bytes. It is immutable; see storage.mapping.
type mapping struct {
	data []byte
}

// placedStorage is a storage that can say which file it is: by a number that no copy of the file has, and the file keeps whatever it is called. What
// cannot say it is at noPlace.
type placedStorage interface {
	place() uint64
}

// noPlace is where a store is if that is not known.
const noPlace = 1

// cachedStorage is a storage over a page cache that can be told to forget.
type cachedStorage interface {
	// dropCache lets the system forget all that it has cached of the file and can read again. It must come before the mapping is used, and before
	// keepInMemory.
	dropCache() error

	// keepInMemory keeps what is cached in memory, if that was asked for when the storage was opened.
	keepInMemory() error
}
