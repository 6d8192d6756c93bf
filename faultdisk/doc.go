// Package faultdisk has no code but tests: alder on real file systems that live on a disk that fails.
//
// The disk is a file that a FUSE program of these tests serves (disk_test.go, serve_linux_test.go). It has a volatile cache: what was
// written and not synced may be lost, in any part and any order, when its power is cut; and writes and syncs of it can fail. The kernel takes
// the file for a disk through a loop device and has ext4, xfs or btrfs on it, with their own journals, page cache and write-back. On that a
// process writes to a store, until the disk stops. What is left is mounted again, as after a power cut, and the store must hold
// every transaction that was acknowledged.
//
// The kills of internal/killtest run here too, on file systems of other kinds and on small ones that are full.
//
// All of it needs Linux, root, loop devices, and for the disk /dev/fuse, and skips where they are missing. It runs in a mount namespace of
// its own, so that nothing stays mounted, however it ends.
package faultdisk
