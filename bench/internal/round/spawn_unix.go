//go:build unix

package round

import (
	"os/exec"
	"syscall"
)

// inOwnGroup makes the command the first of a process group, which is ended as a whole: a trial may have started
// programs, and one that is left behind would be measured with everything that comes next.
func inOwnGroup(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
}

// endGroup ends what a trial has left behind.
func endGroup(command *exec.Cmd) {
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // nobody left is the rule
	}
}
