// Package errors has the errors of alder under the import path that programs know from bbolt: a program that imports
// go.etcd.io/bbolt/errors moves by changing that import. Each variable is the very value that package alder exports under the
// same name, where its documentation stands; new programs use those.
package errors

import "github.com/alderdb/alder"

// Errors of Open and of methods on a DB.
var (
	ErrDatabaseNotOpen = alder.ErrDatabaseNotOpen
	ErrInvalid         = alder.ErrInvalid
	ErrInvalidMapping  = alder.ErrInvalidMapping
	ErrVersionMismatch = alder.ErrVersionMismatch
	ErrChecksum        = alder.ErrChecksum
	ErrTimeout         = alder.ErrTimeout
)

// Errors of transactions.
var (
	ErrTxNotWritable      = alder.ErrTxNotWritable
	ErrTxClosed           = alder.ErrTxClosed
	ErrDatabaseReadOnly   = alder.ErrDatabaseReadOnly
	ErrFreePagesNotLoaded = alder.ErrFreePagesNotLoaded
)

// Errors of putting and deleting keys and buckets.
var (
	ErrBucketNotFound     = alder.ErrBucketNotFound
	ErrBucketExists       = alder.ErrBucketExists
	ErrBucketNameRequired = alder.ErrBucketNameRequired
	ErrKeyRequired        = alder.ErrKeyRequired
	ErrKeyTooLarge        = alder.ErrKeyTooLarge
	ErrValueTooLarge      = alder.ErrValueTooLarge
	ErrMaxSizeReached     = alder.ErrMaxSizeReached
	ErrIncompatibleValue  = alder.ErrIncompatibleValue
	ErrSameBuckets        = alder.ErrSameBuckets
	ErrDifferentDB        = alder.ErrDifferentDB
)
