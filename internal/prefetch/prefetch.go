// Package prefetch tells the processor which memory will be read soon, so that it is in the cache by then. Nothing waits for it,
// and nothing depends on it: where there is no such instruction, or with the build tag purego, Bytes does nothing.
//
// Why Go is not enough: a load that nobody needs brings a line into the cache as well, but the processor cannot retire it, nor what comes
// after it, before the line is there; docs/decisions/0007 has the figures. Why it is safe: the instruction reads nothing that the
// program could see, changes nothing, and never faults, not even for an address that is not mapped.
package prefetch
