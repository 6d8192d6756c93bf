package alder

import (
	"errors"
	"fmt"
)

// Errors of Open and of methods on a DB.
var (
	// ErrDatabaseNotOpen is returned when a DB is used after Close.
	ErrDatabaseNotOpen = errors.New("database not open")

	// ErrInvalid is returned by Open when the file is not an alder store.
	ErrInvalid = errors.New("invalid database")

	// ErrBoltFile is returned by Open, together with ErrInvalid, when the file is a bbolt store.
	ErrBoltFile = errors.New("the file is a bbolt database")

	// ErrInvalidMapping is kept for source compatibility with bbolt; alder never returns it.
	ErrInvalidMapping = errors.New("database isn't correctly mapped")

	// ErrVersionMismatch is returned by Open when the file was written in another format version.
	ErrVersionMismatch = errors.New("version mismatch")

	// ErrChecksum is returned by Open, together with ErrCorrupt, when no meta page has a valid checksum.
	ErrChecksum = errors.New("checksum error")

	// ErrTimeout matches every *LockError, as bbolt's lock time-out does.
	ErrTimeout = errors.New("timeout")

	// ErrLocked matches every *LockError: another process, or another DB in this one, has the store open.
	ErrLocked = errors.New("database is locked")

	// ErrCorrupt matches every *CorruptionError.
	ErrCorrupt = errors.New("database is corrupt")

	// ErrFailed is returned by write operations, with the cause, once a sync or a meta write has failed. The
	// store then accepts no writes until it is opened again; reads of the last durable state go on.
	ErrFailed = errors.New("database is in the failed state")

	// ErrRemoved is returned by Commit and Sync when the file was deleted, or replaced by a rename, while it was
	// open: what would be written could not outlive the process.
	ErrRemoved = errors.New("database file was removed or replaced while open")
)

// Errors of transactions.
var (
	// ErrTxNotWritable is returned by operations that change something in a read transaction.
	ErrTxNotWritable = errors.New("tx not writable")

	// ErrTxClosed is returned when a transaction is used after Commit or Rollback.
	ErrTxClosed = errors.New("tx closed")

	// ErrBusy is returned by TryBegin when another write transaction is open.
	ErrBusy = errors.New("another write transaction is open")

	// ErrDatabaseReadOnly is returned when a write transaction is begun on a store opened read-only.
	ErrDatabaseReadOnly = errors.New("database is in read-only mode")

	// ErrFreePagesNotLoaded is kept for source compatibility with bbolt; alder never returns it.
	ErrFreePagesNotLoaded = errors.New("free pages are not pre-loaded")
)

// Errors of putting and deleting keys and buckets.
var (
	// ErrBucketNotFound is returned when a bucket that does not exist is deleted or moved.
	ErrBucketNotFound = errors.New("bucket not found")

	// ErrBucketExists is returned when a bucket is created, or moved to, where one exists.
	ErrBucketExists = errors.New("bucket already exists")

	// ErrBucketNameRequired is returned when a bucket is created with an empty name.
	ErrBucketNameRequired = errors.New("bucket name required")

	// ErrBucketTooDeep is returned when a bucket would be nested deeper than MaxBucketDepth.
	ErrBucketTooDeep = errors.New("bucket nested too deep")

	// ErrKeyRequired is returned when an empty key is put.
	ErrKeyRequired = errors.New("key required")

	// ErrKeyTooLarge is returned when a key is longer than MaxKeySize.
	ErrKeyTooLarge = errors.New("key too large")

	// ErrValueTooLarge is returned when a value is longer than MaxValueSize.
	ErrValueTooLarge = errors.New("value too large")

	// ErrMaxSizeReached is returned when the file would have to grow beyond Options.MaxSize.
	ErrMaxSizeReached = errors.New("database reached maximum size")

	// ErrIncompatibleValue is returned when a key operation meets a bucket, or a bucket operation a key.
	ErrIncompatibleValue = errors.New("incompatible value")

	// ErrSameBuckets is returned when a bucket is moved to where it already is.
	ErrSameBuckets = errors.New("the source and target are the same bucket")

	// ErrDifferentDB is returned when a bucket is moved between two stores.
	ErrDifferentDB = errors.New("the source and target buckets are in different database files")
)

// CorruptionError reports bytes in the file that no version of alder could have written: a checksum that does not
// match, a page that is not where its parent says, a slot outside its page. It matches ErrCorrupt.
type CorruptionError struct {
	Page   uint64 // number of the page; its offset in the file is Page times the page size
	Detail string // which field, what was found, what is allowed
}

// Error says it in a sentence.
func (e *CorruptionError) Error() string {
	return fmt.Sprintf("database is corrupt: page %d: %s", e.Page, e.Detail)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptionError) Is(target error) bool { return target == ErrCorrupt }
