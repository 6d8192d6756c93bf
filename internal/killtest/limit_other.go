//go:build !unix

package killtest

import (
	"errors"
	"syscall"
)

func limitFiles(int64) error { return errors.ErrUnsupported }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }
