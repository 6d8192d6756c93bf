package alder

import (
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
)

// A read of a mapped page can fail: the disk reports an error, or the file was truncated under us. The system
// says so with a signal (an exception on Windows), which ends a Go program unless the goroutine has asked for a
// panic instead. A call that reads pages guards itself with two lines and a named error result:
//
//	defer restoreFault(debug.SetPanicOnFault(true))
//	defer recoverFault(m.data, &err)
//
// Calls so short that a nanosecond or two matters write the same out, because a closure that calls recover itself is cheaper
// than a function that does (BenchmarkGuard):
//
//	old := debug.SetPanicOnFault(true)
//	defer func() {
//		debug.SetPanicOnFault(old)
//		if r := recover(); r != nil {
//			err = faultIn(m.data, r)
//		}
//	}()
//
// Which guard to use: guarded for a function that returns an error; Tx.endRead for methods that have no error to return, Tx.endWrite
// for those that have one; Tx.finish around the caller's function of View and Update.
//
// Only a fault whose address lies inside data becomes an error. Every other panic, a nil pointer in
// the caller's function included, goes on unchanged. Guards nest.

// FaultError reports that a page could not be read through the mapping of the file: the disk failed, or somebody
// truncated the file while it was open.
type FaultError struct {
	Op     string // what was being done: "read"
	Offset int64  // where in the file
	Err    error  // what the runtime said of the fault
}

// Error says it in a sentence.
func (e *FaultError) Error() string {
	return fmt.Sprintf("%s of the mapped file failed at offset %d: the disk reported an error, or the file was truncated while open (%v)",
		e.Op, e.Offset, e.Err)
}

// Unwrap returns the runtime's error.
func (e *FaultError) Unwrap() error { return e.Err }

// restoreFault puts back what debug.SetPanicOnFault returned.
func restoreFault(old bool) { debug.SetPanicOnFault(old) }

// recoverFault, deferred, turns a fault inside data into a *FaultError in *err and lets every other panic go on.
// It replaces an error that was already there: the fault is what happened last.
func recoverFault(data []byte, err *error) {
	if r := recover(); r != nil {
		*err = faultIn(data, r)
	}
}

// damageIn is faultIn for calls that run no code of the caller's: there an index out of range comes from a page that is not any more what
// it was when it was verified, because the system has dropped it after a failed write and read other bytes back.
func damageIn(data []byte, r any) error {
	if e, ok := r.(runtime.Error); ok && strings.Contains(e.Error(), "out of range") {
		return &CorruptionError{Detail: fmt.Sprintf("a page has changed since it was verified: %v", e)}
	}
	return faultIn(data, r)
}

// faultIn returns the error for the recovered value r, or panics with it again when it is no fault in data.
func faultIn(data []byte, r any) error {
	fault, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		panic(r)
	}
	// The address of data as a number, without unsafe; this path is rare enough for reflection.
	start := reflect.ValueOf(data).Pointer()
	addr := fault.Addr()
	if addr < start || addr-start >= uintptr(len(data)) {
		panic(r)
	}
	return &FaultError{Op: "read", Offset: int64(addr - start), Err: fault}
}
