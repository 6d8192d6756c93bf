package prefetch

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// Ensures that any slice may be asked for, whatever its length and alignment, and that its bytes stay what they are. Where the slice ends
// with the memory of the process the last line reaches no further than the line that the slice ends in.
func TestBytes(t *testing.T) {
	Bytes(nil)
	Bytes([]byte{})
	var one byte = 7
	Bytes([]byte{one})
	buf := make([]byte, 9000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range buf {
		buf[i] = byte(r.Uint32())
	}
	want := bytes.Clone(buf)
	for from := range 130 {
		for _, n := range []int{0, 1, 2, 63, 64, 65, 127, 128, 129, 4096, 8000} {
			Bytes(buf[from : from+n : from+n])
		}
	}
	Bytes(buf[len(buf):])
	if !bytes.Equal(buf, want) {
		t.Fatal("memory has changed")
	}
}

// BenchmarkBytes shows what asking costs for memory that is in the cache already.
func BenchmarkBytes(b *testing.B) {
	for _, lines := range []int{1, 4, 64} {
		b.Run(fmt.Sprintf("lines=%d", lines), func(b *testing.B) {
			buf := make([]byte, lines*64)
			for b.Loop() {
				Bytes(buf)
			}
		})
	}
}
