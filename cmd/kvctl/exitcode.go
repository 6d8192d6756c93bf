package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/alderdb/alder"
)

// exitCode is what the process returns. docs and the root command's help list the codes.
type exitCode int

const (
	exitOK          exitCode = 0
	exitNotFound    exitCode = 1   // no such key or bucket
	exitUsage       exitCode = 2   // the command line or the input is wrong
	exitFailure     exitCode = 3   // I/O error, locked store, not a store
	exitCorrupt     exitCode = 4   // the store is damaged
	exitInterrupted exitCode = 130 // SIGINT or SIGTERM, as shells count it
	exitBrokenPipe  exitCode = 141 // nobody reads standard output any more, as shells count SIGPIPE
)

// codedError is an error that knows its exit code. Others get theirs from what they are; see codeOf.
type codedError struct {
	code exitCode
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// usageErrorf makes an error of the command line, or of the data given to a command.
func usageErrorf(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// notFoundErrorf makes the error for a key or bucket that is not there.
func notFoundErrorf(format string, args ...any) error {
	return &codedError{exitNotFound, fmt.Errorf(format, args...)}
}

// interruptedErrorf makes the error of a command that stopped because it was asked to, and says what it had done.
func interruptedErrorf(format string, args ...any) error {
	return &codedError{exitInterrupted, fmt.Errorf("interrupted; "+format, args...)}
}

// advisedError is an error whose text already says what the user can do.
type advisedError struct{ error }

func (e advisedError) Unwrap() error { return e.error }

// errSilent is returned by a command that has said all there is to say and only wants the code of its cause.
type errSilent struct{ error }

func (e errSilent) Unwrap() error { return e.error }

// codeOf maps an error to the exit code.
func codeOf(err error) exitCode {
	var coded *codedError
	switch {
	case err == nil:
		return exitOK
	case isBrokenPipe(err):
		return exitBrokenPipe
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, alder.ErrCorrupt), errors.Is(err, alder.ErrChecksum):
		return exitCorrupt
	case errors.Is(err, alder.ErrKeyRequired), errors.Is(err, alder.ErrKeyTooLarge), errors.Is(err, alder.ErrValueTooLarge),
		errors.Is(err, alder.ErrBucketNameRequired), errors.Is(err, alder.ErrIncompatibleValue),
		errors.Is(err, alder.ErrDiffMismatch), errors.Is(err, alder.ErrDiffInvalid):
		return exitUsage
	}
	return exitFailure
}

// report writes the line for an error and returns the exit code.
func (c *cli) report(err error) exitCode {
	code := codeOf(err)
	var silent errSilent
	switch {
	case code == exitOK, code == exitBrokenPipe, errors.As(err, &silent):
	case code == exitNotFound && c.quiet:
	default:
		fmt.Fprintf(c.stderr, "kvctl: %s\n", errorLine(err))
	}
	return code
}

// errorLine is an error with what can be done about it, on one line.
func errorLine(err error) string {
	var coded *codedError
	if errors.Is(err, context.Canceled) && !errors.As(err, &coded) {
		return "interrupted"
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if hint := hintFor(err); hint != "" {
		text += "; " + hint
	}
	return text
}

// hintFor says what the user can do about an error of the store or of the system.
func hintFor(err error) string {
	var advised advisedError
	switch {
	case errors.As(err, &advised):
		return ""
	case errors.Is(err, alder.ErrLocked):
		return "stop that process, or wait for it with --timeout 30s"
	case errors.Is(err, alder.ErrBoltFile):
		return "" // the store's own error says how to move
	case errors.Is(err, alder.ErrVersionMismatch):
		return "use the kvctl that wrote it to dump it, and load the dump with this one"
	case errors.Is(err, alder.ErrCorrupt), errors.Is(err, alder.ErrChecksum):
		return "list all damage with kvctl check, and restore a backup, or rebuild the store with kvctl salvage"
	case errors.Is(err, alder.ErrDiffInvalid):
		return "get the diff once more, or make a new one since the same backup"
	case errors.Is(err, alder.ErrInvalid):
		return "give the path of a store that kvctl or alder wrote"
	case errors.Is(err, alder.ErrRemoved):
		return "do not move, replace or delete the file while it is in use"
	case errors.Is(err, syscall.ENOSPC):
		return "free some space and try again"
	case errors.Is(err, fs.ErrPermission):
		return "check the permissions of the file and its directory"
	}
	return ""
}
