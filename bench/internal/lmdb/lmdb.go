//go:build cgo && unix

package lmdb

/*
#cgo CFLAGS: -O2
#cgo linux LDFLAGS: -ldl
#cgo noescape alder_get
#cgo nocallback alder_get
#cgo noescape alder_put
#cgo nocallback alder_put
#cgo noescape alder_del
#cgo nocallback alder_del
#cgo noescape alder_seek
#cgo nocallback alder_seek
#cgo noescape alder_step
#cgo nocallback alder_step
#cgo nocallback alder_renew
#cgo nocallback alder_reset
#include <stdlib.h>
#include "creader/lmdb_api.h"

static const char *alder_load(void) { return mdb_load(); }
static const char *alder_strerror(int rc) { return mdb.strerror(rc); }
static const char *alder_version(void) { return mdb.version(NULL, NULL, NULL); }

static int alder_open(const char *path, size_t mapsize, unsigned int readers, unsigned int flags, MDB_env **env) {
	int rc = mdb.env_create(env);
	if (rc) return rc;
	if ((rc = mdb.env_set_mapsize(*env, mapsize)) || (rc = mdb.env_set_maxreaders(*env, readers)) ||
	    (rc = mdb.env_open(*env, path, flags, 0644)))
		mdb.env_close(*env);
	return rc;
}
static int alder_sync(MDB_env *env) { return mdb.env_sync(env, 1); }
static void alder_close(MDB_env *env) { mdb.env_close(env); }
static int alder_begin(MDB_env *env, unsigned int flags, MDB_txn **txn) { return mdb.txn_begin(env, NULL, flags, txn); }
static int alder_commit(MDB_txn *txn) { return mdb.txn_commit(txn); }
static void alder_abort(MDB_txn *txn) { mdb.txn_abort(txn); }
static void alder_reset(MDB_txn *txn) { mdb.txn_reset(txn); }
static int alder_renew(MDB_txn *txn) { return mdb.txn_renew(txn); }
static int alder_dbi(MDB_txn *txn, MDB_dbi *dbi) { return mdb.dbi_open(txn, NULL, 0, dbi); }

static int alder_get(MDB_txn *txn, MDB_dbi dbi, const void *k, size_t kn, MDB_val *v) {
	MDB_val key = {kn, (void *)k};
	return mdb.get(txn, dbi, &key, v);
}
static int alder_put(MDB_txn *txn, MDB_dbi dbi, const void *k, size_t kn, const void *v, size_t vn, unsigned int flags) {
	MDB_val key = {kn, (void *)k}, value = {vn, (void *)v};
	return mdb.put(txn, dbi, &key, &value, flags);
}
static int alder_del(MDB_txn *txn, MDB_dbi dbi, const void *k, size_t kn) {
	MDB_val key = {kn, (void *)k};
	return mdb.del(txn, dbi, &key, NULL);
}
static int alder_cursor(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **c) { return mdb.cursor_open(txn, dbi, c); }
static int alder_cursor_renew(MDB_txn *txn, MDB_cursor *c) { return mdb.cursor_renew(txn, c); }
static void alder_cursor_close(MDB_cursor *c) { mdb.cursor_close(c); }
static int alder_seek(MDB_cursor *c, const void *k, size_t kn, MDB_val *out) {
	MDB_val key = {kn, (void *)k};
	int rc = mdb.cursor_get(c, &key, &out[1], MDB_SET_RANGE);
	if (!rc) out[0] = key; // now a place in the map: no Go pointer stays behind
	return rc;
}
static int alder_step(MDB_cursor *c, int op, MDB_val *out) { return mdb.cursor_get(c, &out[0], &out[1], op); }
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// Env is an open store with one database, LMDB's unnamed one.
type Env struct {
	env *C.MDB_env
	dbi C.MDB_dbi
}

// Config says how to open an Env. The flags are LMDB's of the same names.
type Config struct {
	MapBytes int64
	NoSync   bool
	WriteMap bool
	// NoReadAhead is LMDB's advice for stores larger than the memory.
	NoReadAhead bool
}

var load = sync.OnceValue(func() error {
	if missing := C.alder_load(); missing != nil {
		return errors.New(C.GoString(missing))
	}
	return nil
})

// Available returns nil where LMDB can be used, or says what is missing.
func Available() error { return load() }

// Version is the library's own description of itself.
func Version() string {
	if err := load(); err != nil {
		return err.Error()
	}
	return C.GoString(C.alder_version())
}

func fail(op string, rc C.int) error {
	if rc == 0 {
		return nil
	}
	return fmt.Errorf("lmdb %s: %s", op, C.GoString(C.alder_strerror(rc)))
}

// readers is how many read transactions there can be: LMDB's default, which the 64 goroutines of the largest
// workload fit into.
const readers = 126

// Open opens or creates the store in directory dir.
func Open(dir string, config Config) (*Env, error) {
	if err := load(); err != nil {
		return nil, err
	}
	// Read transactions move between threads with their goroutines, which MDB_NOTLS allows.
	flags := C.uint(C.MDB_NOTLS)
	if config.NoSync {
		flags |= C.MDB_NOSYNC
	}
	if config.WriteMap {
		flags |= C.MDB_WRITEMAP
	}
	if config.NoReadAhead {
		flags |= C.MDB_NORDAHEAD
	}
	path := C.CString(dir)
	defer C.free(unsafe.Pointer(path))
	e := &Env{}
	if err := fail("open", C.alder_open(path, C.size_t(config.MapBytes), readers, flags, &e.env)); err != nil {
		return nil, err
	}
	tx, err := e.BeginWrite()
	if err != nil {
		C.alder_close(e.env)
		return nil, err
	}
	if err := fail("dbi open", C.alder_dbi(tx.txn, &e.dbi)); err != nil {
		tx.Abort()
		C.alder_close(e.env)
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		C.alder_close(e.env)
		return nil, err
	}
	return e, nil
}

// Sync flushes to disk what transactions without sync have left.
func (e *Env) Sync() error { return fail("sync", C.alder_sync(e.env)) }

// Close closes the store; no transaction may be open.
func (e *Env) Close() { C.alder_close(e.env) }

// WriteTx is a write transaction. It is bound to its goroutine's thread from begin to end, as LMDB demands.
type WriteTx struct {
	env *Env
	txn *C.MDB_txn
}

// BeginWrite waits for the writer's lock and begins.
func (e *Env) BeginWrite() (WriteTx, error) {
	runtime.LockOSThread()
	tx := WriteTx{env: e}
	if err := fail("begin", C.alder_begin(e.env, 0, &tx.txn)); err != nil {
		runtime.UnlockOSThread()
		return WriteTx{}, err
	}
	return tx, nil
}

// Put stores a record; appending, the key must be the greatest so far.
func (tx WriteTx) Put(key, value []byte, appending bool) error {
	var flags C.uint
	if appending {
		flags = C.MDB_APPEND
	}
	rc := C.alder_put(tx.txn, tx.env.dbi, unsafe.Pointer(unsafe.SliceData(key)), C.size_t(len(key)),
		unsafe.Pointer(unsafe.SliceData(value)), C.size_t(len(value)), flags)
	return fail("put", rc)
}

// Delete removes a record, if it is there.
func (tx WriteTx) Delete(key []byte) error {
	rc := C.alder_del(tx.txn, tx.env.dbi, unsafe.Pointer(unsafe.SliceData(key)), C.size_t(len(key)))
	if rc == C.MDB_NOTFOUND {
		return nil
	}
	return fail("delete", rc)
}

// Commit ends the transaction and keeps what it did.
func (tx WriteTx) Commit() error {
	defer runtime.UnlockOSThread()
	return fail("commit", C.alder_commit(tx.txn))
}

// Abort ends the transaction and drops what it did.
func (tx WriteTx) Abort() {
	defer runtime.UnlockOSThread()
	C.alder_abort(tx.txn)
}

// ReadTx is a read transaction that is renewed and reset rather than made anew, as LMDB's documentation advises,
// and a cursor that is renewed with it.
type ReadTx struct {
	env    *Env
	txn    *C.MDB_txn
	cursor *C.MDB_cursor
	fresh  bool // the cursor belongs to the present snapshot
	out    [2]C.MDB_val
}

// NewReadTx makes a read transaction that is not begun yet.
func (e *Env) NewReadTx() (*ReadTx, error) {
	tx := &ReadTx{env: e}
	if err := fail("begin read", C.alder_begin(e.env, C.MDB_RDONLY, &tx.txn)); err != nil {
		return nil, err
	}
	if err := fail("cursor open", C.alder_cursor(tx.txn, e.dbi, &tx.cursor)); err != nil {
		C.alder_abort(tx.txn)
		return nil, err
	}
	C.alder_reset(tx.txn)
	return tx, nil
}

// Begin takes a snapshot.
func (tx *ReadTx) Begin() error { return fail("renew", C.alder_renew(tx.txn)) }

// End gives the snapshot up; what Get and the cursor returned is no longer valid.
func (tx *ReadTx) End() {
	tx.fresh = false
	C.alder_reset(tx.txn)
}

// Close frees the transaction.
func (tx *ReadTx) Close() {
	C.alder_cursor_close(tx.cursor)
	C.alder_abort(tx.txn)
}

// Get returns the value of key, nil if there is none.
func (tx *ReadTx) Get(key []byte) ([]byte, error) {
	rc := C.alder_get(tx.txn, tx.env.dbi, unsafe.Pointer(unsafe.SliceData(key)), C.size_t(len(key)), &tx.out[1])
	if rc != 0 {
		if rc == C.MDB_NOTFOUND {
			return nil, nil
		}
		return nil, fail("get", rc)
	}
	return bytesOf(&tx.out[1]), nil
}

func bytesOf(v *C.MDB_val) []byte {
	return unsafe.Slice((*byte)(v.mv_data), int(v.mv_size))
}

// Seek goes to the first key at or after the given one and returns its record; key is nil at the end.
func (tx *ReadTx) Seek(key []byte) (k, v []byte, err error) {
	if err := tx.renewCursor(); err != nil {
		return nil, nil, err
	}
	rc := C.alder_seek(tx.cursor, unsafe.Pointer(unsafe.SliceData(key)), C.size_t(len(key)), &tx.out[0])
	return tx.found("seek", rc)
}

// First, Last, Next and Prev move the cursor and return the record it comes to; key is nil past the ends.
func (tx *ReadTx) First() (k, v []byte, err error) { return tx.step(C.MDB_FIRST) }
func (tx *ReadTx) Last() (k, v []byte, err error)  { return tx.step(C.MDB_LAST) }
func (tx *ReadTx) Next() (k, v []byte, err error)  { return tx.step(C.MDB_NEXT) }
func (tx *ReadTx) Prev() (k, v []byte, err error)  { return tx.step(C.MDB_PREV) }

func (tx *ReadTx) step(op C.int) (k, v []byte, err error) {
	if err := tx.renewCursor(); err != nil {
		return nil, nil, err
	}
	return tx.found("cursor", C.alder_step(tx.cursor, op, &tx.out[0]))
}

func (tx *ReadTx) renewCursor() error {
	if tx.fresh {
		return nil
	}
	tx.fresh = true
	return fail("cursor renew", C.alder_cursor_renew(tx.txn, tx.cursor))
}

func (tx *ReadTx) found(op string, rc C.int) (k, v []byte, err error) {
	if rc != 0 {
		if rc == C.MDB_NOTFOUND {
			return nil, nil, nil
		}
		return nil, nil, fail(op, rc)
	}
	return bytesOf(&tx.out[0]), bytesOf(&tx.out[1]), nil
}
