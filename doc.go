// Package alder is an embedded, ordered, transactional key-value store. A store is one file of fixed-size pages, mapped into
// memory: read transactions walk a copy-on-write B+tree without copying and without locks, one write transaction at a time makes
// the next version of it. Names, signatures and meanings are those of bbolt wherever it has one.
//
// # What there is
//
// A [DB] is an open store. [DB.View] and [DB.Update] run a function in a transaction and end it; [DB.Begin] leaves the end
// to the caller. A [Tx] is a snapshot to read, or the one writer. A [Bucket] is an ordered set of keys with values, and of
// buckets inside it. A [Cursor] walks over a bucket; so do the iterators [Bucket.All], [Bucket.Range] and [Bucket.Prefix].
//
//	db, err := alder.Open("app.alder", 0o600, nil)
//	…
//	err = db.Update(func(tx *alder.Tx) error {
//		b, err := tx.CreateBucketIfNotExists([]byte("users"))
//		if err != nil {
//			return err
//		}
//		return b.Put([]byte("alice"), []byte("Alice"))
//	})
//
// A DB may be used by any number of goroutines, a read transaction and its buckets too, each with cursors of its own. A write
// transaction belongs to one goroutine at a time.
//
// # Backups and changes
//
// [Tx.WriteTo] writes a snapshot as a store of its own, [Tx.WriteDiff] what has changed since an older backup, and [Restore] and [ApplyDiff]
// put them together. [Tx.Diff] lists what changed between two snapshots. All go on beside readers and the writer, and a diff costs what has
// changed, however large the store is.
//
// None of these takes a context: they go on for as long as the [io.Writer] or [io.Reader] that the caller gives them does, whose error ends them at once, matches
// theirs, and leaves nothing behind. One that looks at a context in each call stops them. What they do without it, the copy of the backup by ApplyDiff and the check of
// it by Restore, goes to its end. [Tx.Check] takes [WithContext].
//
// [DB.Changes] follows the store: it lists what each transaction did, as they become durable, and waits for more.
//
// # Lifetimes
//
// Keys and values that a transaction returns are slices of the mapped file, or copies where the transaction itself has changed
// the page. They are valid until the transaction ends and must not be modified; a file that is open for writing is mapped
// read-only, so that a stray write is a fault, not damage. After the end they may show other data, or be gone: copy what
// is kept. They have no spare capacity, so that append copies. Slices given to Put may be reused at once.
//
// Transactions and buckets say so when they are used after the end: methods with an error result return ErrTxClosed, the others
// nil. Old slices cannot.
//
// Every transaction must be ended. A read transaction that is left open keeps its snapshot's pages from being reused, so
// that the file grows; a write transaction keeps all other writers waiting. [DB.Close] waits for both.
//
// # Durability
//
// When [Tx.Commit] or Update returns nil, the changes survive a crash of the process, of the system, and a power cut. That is one write to
// a redo log inside the file, which transactions that commit at the same time share: many goroutines that call [DB.Update] are the fast path,
// and need no [DB.Batch]. When it returns an
// error, the transaction has been rolled back and the store goes on, unless the error matches [ErrFailed]: a write or a sync
// has failed, it is not known whether the transaction will be there after the next Open, and the store writes
// nothing more until then. Reads go on.
//
// [Tx.SetDurability], or [Options.Durability] for a whole store, trades that for speed: a lazy transaction is durable within
// [Options.SyncInterval], or after [DB.Sync]. A crash may take the last ones back, whole and from the end, and nothing else. [Options.NoSync] is
// the same. docs/durability.md has the cases and what is assumed of disks.
//
// # Errors of reads
//
// Get, cursors and iterators return no error. A page that is damaged, or a part of the file that cannot be read, makes them return
// nil or end, and the transaction keeps the error: View and Update return it, [Tx.Err] tells at any time, [Bucket.Lookup] is a
// Get with an error. Damage matches [ErrCorrupt]; a read error or a truncated file is a [*FaultError].
//
// # The three paths
//
//	read    Bucket.Get → tree.get → pageReader.readPage → searchLeaf, page.lowerHead
//	write   Bucket.Put → tree.put → Tx.touch → page.insertCell, tree.split
//	commit  Tx.Commit → Bucket.flush → pager.join → pager.await → pager.lead → pager.appendGroup
//
// Tx.touch is the only place where a page is copied in order to be changed. pageReader is all that a lookup is given, so that
// it cannot change anything.
//
// # Read the source in this order
//
// page.go (with page_leaf.go, page_branch.go and page_validate.go): the bytes of one page. btree.go and its parts: how pages form
// an ordered tree. pager.go: what they all are part of; snapshot.go, pager_space.go. tx.go: a snapshot or the writer; tx_commit.go: the steps of a commit. group.go: how commits
// become durable together, and visible; redolog.go and log.go: the log that they go to; checkpoint.go: how the log is made needless; recover.go:
// how it is done again. bucket.go and cursor.go: named trees and walks over them. db.go: opening, closing, beginning.
//
// Then what makes it safe to use a page again: meta.go, freelist.go and readers.go. And what lies below: storage.go is the
// seam, behind which are a file, memory, and a private view of a file for read-only opens.
//
// A file uses only what stands below it; a test holds that. docs/architecture.md has the layers, the locks and what a crash
// leaves at each step, docs/format.md every byte of a file, docs/invariants.md what is always true.
package alder
