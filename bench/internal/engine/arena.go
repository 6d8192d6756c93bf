package engine

// arenaChunk is how much an arena asks for at a time.
const arenaChunk = 1 << 20

// arena keeps copies of values for engines that refer to them until the commit. Its memory is used again by the
// next transaction.
type arena struct {
	chunks [][]byte
	at     int // the chunk that is being filled
}

func (a *arena) reset() {
	for i := range a.chunks {
		a.chunks[i] = a.chunks[i][:0]
	}
	a.at = 0
}

func (a *arena) keep(value []byte) []byte {
	if len(value) > arenaChunk/4 {
		return append([]byte(nil), value...)
	}
	for a.at < len(a.chunks) && cap(a.chunks[a.at])-len(a.chunks[a.at]) < len(value) {
		a.at++
	}
	if a.at == len(a.chunks) {
		a.chunks = append(a.chunks, make([]byte, 0, arenaChunk))
	}
	chunk := a.chunks[a.at]
	start := len(chunk)
	chunk = append(chunk, value...)
	a.chunks[a.at] = chunk
	return chunk[start:len(chunk):len(chunk)]
}
