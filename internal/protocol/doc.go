// Package protocol has no code of its own, only tests: a small model of the way in which the store becomes durable and recovers, whose
// states are explored one and all.
//
// The crash tests of the store try very many of the things that can happen to it; the model tries all of them, in a world
// that is small enough: a few transactions, two leaves, runs of two blocks, one or two crashes. It has the steps of the
// engine (docs/architecture.md) and what a disk may do between them (docs/durability.md). model_test.go has the disk, what
// lies on it and what is asked of every state; steps_test.go what the store does; recovery_test.go how it opens;
// explore_test.go goes through all states, and takes rules out to see that something goes wrong then.
package protocol
