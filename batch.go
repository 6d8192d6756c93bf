package alder

import (
	"errors"
	"fmt"
)

// Calls of Batch queue up. One of them at a time is on its way to the writer lock; once it has the lock, it takes all that have come
// by then into its transaction, and the next one that is in the queue, or comes, sets out. So a batch is what came while the
// batch before was at work in the tree. Nobody waits for others to come, nor for the batch before to become durable.

// Batch calls fn inside a write transaction, like Update, but may join the calls of several goroutines into one transaction. fn may
// be called more than once, alone the second time if it has failed, so its effects outside the transaction must be the same however often it is called; they should
// take permanent effect only after Batch has returned nil. If fn returns an error or panics, only its own call is
// affected. If one of the functions asks for full durability (Tx.SetDurability), or does not ask and it is the store's, all wait for that.
//
// Batch is of use only when several goroutines call it at once, and then saves most of what a transaction costs besides the disk. It need not be
// used for the disk's sake: calls of Update that commit at the same time share a write to the disk too. See DB.MaxBatchSize.
func (db *DB) Batch(fn func(*Tx) error) error {
	if db.MaxBatchSize <= 1 {
		return db.Update(fn)
	}
	c := &batchCall{fn: fn, done: make(chan error, 1)}
	db.batchMu.Lock()
	db.batchQueue = append(db.batchQueue, c)
	lead := !db.batchLed
	db.batchLed = true
	db.batchMu.Unlock()
	if !lead {
		err := <-c.done
		if err != errLeadBatch {
			return db.batched(fn, err)
		}
	}
	tx, err := db.Begin(true)
	calls := db.takeBatch()
	if len(calls) == 1 && err == nil {
		return tx.update(fn)
	}
	// Not in this goroutine: a function of somebody else may end it (runtime.Goexit, as testing's FailNow does).
	go db.runBatch(tx, err, calls)
	return db.batched(fn, <-c.done)
}

// batched returns what Batch returns for a call whose batch ended so.
func (db *DB) batched(fn func(*Tx) error, err error) error {
	if err == errRunAlone {
		return db.Update(fn)
	}
	return err
}

type batchCall struct {
	fn   func(*Tx) error
	done chan error // has room for one
}

var (
	// errRunAlone tells a call that its function failed in a batch and must be tried in a transaction of its own.
	errRunAlone = errors.New("batch function failed and must be run alone")

	// errLeadBatch tells the first call in the queue that it is its turn to take the writer lock.
	errLeadBatch = errors.New("batch call is to lead")
)

// takeBatch takes calls out of the queue, and lets the first of those that stay lead. The first of those taken is the caller's.
func (db *DB) takeBatch() []*batchCall {
	db.batchMu.Lock()
	defer db.batchMu.Unlock()
	n := min(len(db.batchQueue), max(db.MaxBatchSize, 1))
	calls := db.batchQueue[:n:n]
	db.batchQueue = db.batchQueue[n:]
	if len(db.batchQueue) == 0 {
		db.batchQueue, db.batchLed = nil, false
	} else {
		db.batchQueue[0].done <- errLeadBatch
	}
	return calls
}

// runBatch commits the calls together, in tx, which could be begun if err is nil. A call that fails is taken out, to be run alone by its own
// goroutine, and the others are tried again.
func (db *DB) runBatch(tx *Tx, err error, calls []*batchCall) {
	// A function that ends this goroutine must not leave the others waiting.
	defer func() {
		for _, c := range calls {
			c.done <- errRunAlone
		}
	}()
	for len(calls) > 0 {
		failed := -1
		if err == nil {
			err = tx.update(func(tx *Tx) error {
				var err error
				failed, err = callAll(tx, calls)
				return err
			})
		}
		if failed < 0 {
			for _, c := range calls {
				c.done <- err
			}
			calls = nil
			return
		}
		c := calls[failed]
		calls = append(calls[:failed:failed], calls[failed+1:]...)
		c.done <- errRunAlone
		if len(calls) > 0 {
			tx, err = db.Begin(true)
		}
	}
}

// callAll calls the functions of a batch in one transaction, whose durability is the strongest that one of them wants. It returns which
// one has failed; -1 if none has.
func callAll(tx *Tx, calls []*batchCall) (failed int, err error) {
	level := DurabilityLazy
	for i, c := range calls {
		tx.w.level = DurabilityDefault
		if err := callSafely(c.fn, tx); err != nil {
			return i, err
		}
		if !tx.lazy() {
			level = DurabilityFull
		}
	}
	tx.w.level = level
	return -1, nil
}

// callSafely turns a panic of fn into an error; the call is run again alone, where the panic reaches its caller.
func callSafely(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("batch function panicked: %v", r)
		}
	}()
	return fn(tx)
}
