//go:build unix

package main

import (
	"errors"
	"syscall"
)

// isBrokenPipe reports whether err is a write to a pipe that nobody reads any more.
func isBrokenPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }
