package engine

import (
	"os"

	"golang.org/x/sys/unix"
)

// appendFlag makes each write durable when it returns.
const appendFlag = unix.O_DSYNC

func appendSync(*os.File) error { return nil }
