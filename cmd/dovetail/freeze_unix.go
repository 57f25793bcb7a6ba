//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// freeze stops a process where it is; thaw has it go on.
func freeze(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }
func thaw(p *os.Process) error   { return p.Signal(syscall.SIGCONT) }

// ownGroup keeps a Ctrl-C at the terminal from cmd.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
