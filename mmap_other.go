//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package alder

// Elsewhere the build fails, and this line is to say why: a store needs a shared mapping of a file that is coherent with
// writes, locks that end with the process, and a way to make data durable.
var _ = alder_runs_on_Linux_macOS_Windows_FreeBSD_NetBSD_OpenBSD_and_DragonFly_only
