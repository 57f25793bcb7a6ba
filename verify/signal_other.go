//go:build !unix

package verify

import (
	"errors"
	"os"
	"os/exec"
)

// canStop says whether processes can be stopped here.
const canStop = false

func (m *member) sleep() bool { return false }
func (m *member) wake()       {}

// Freeze refuses: this system does not stop processes where they are.
func Freeze(*os.Process) error {
	return errors.New("processes cannot be frozen on this system: leave freeze out of the faults")
}

// Thaw does nothing, for no process is frozen.
func Thaw(*os.Process) error { return nil }

// Apart does nothing: this system has no process groups.
func Apart(*exec.Cmd) {}

func endShell(cmd *exec.Cmd) error { return cmd.Process.Kill() }
