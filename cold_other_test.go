//go:build !linux

package alder

import "testing"

// See cold_linux_test.go.
const inPageCacheTold = false

func evict(t *testing.T, path string) {}
