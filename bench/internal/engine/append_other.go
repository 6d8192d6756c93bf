//go:build !linux

package engine

import "os"

const appendFlag = 0

// appendSync makes a write durable where the system's packages have no O_DSYNC.
func appendSync(f *os.File) error { return f.Sync() }
