//go:build !unix

package round

import "os/exec"

// inOwnGroup does nothing where there are no process groups: the trial's own process is ended alone.
func inOwnGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}
