//go:build (amd64 || arm64) && !purego

package prefetch

// Works tells whether Bytes does anything. It is a constant, so that where it is false the compiler drops what only finds out
// what to ask for.
const Works = true

// Bytes asks for all lines of b, first to last. It costs about half a nanosecond a line while the processor has room for more lines under
// way, ten or so, and waits for room then.
//
//go:noescape
func Bytes(b []byte)
