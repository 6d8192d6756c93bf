//go:build !(amd64 || arm64) || purego

package prefetch

// Works tells whether Bytes does anything. It is a constant, so that where it is false the compiler drops what only finds out
// what to ask for.
const Works = false

// Bytes does nothing on this system.
func Bytes([]byte) {}
