//go:build !unix

package verify

import "os/exec"

// canStop says whether processes can be stopped here.
const canStop = false

func (m *member) sleep() bool { return false }
func (m *member) wake()       {}

func apart(*exec.Cmd) {}

func endShell(cmd *exec.Cmd) error { return cmd.Process.Kill() }
