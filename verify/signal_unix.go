//go:build unix

package verify

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// canStop says whether processes can be stopped here.
const canStop = true

// sleep stops the process where it is.
func (m *member) sleep() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil || !m.ready || m.killed || m.asleep {
		return false
	}
	m.asleep = Freeze(m.cmd.Process) == nil
	return m.asleep
}

// wake has a stopped process go on.
func (m *member) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil || !m.asleep {
		return
	}
	_ = Thaw(m.cmd.Process) // one that was killed meanwhile needs none
	m.asleep = false
	if m.in != nil {
		_ = m.in.Encode(order{Pause: m.paused}) // it may have missed one
	}
}

// Freeze stops a process where it is, as SIGSTOP does; its connections stay open.
// Where the system cannot do that, the error says so.
func Freeze(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

// Thaw has a process go on that Freeze stopped.
func Thaw(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

// Apart keeps a Ctrl-C at the terminal from cmd, which is not started yet, and what
// it starts, so that it ends when it is told to. It does nothing where the system
// has no process groups.
func Apart(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// endShell ends a shell with what it has started.
func endShell(cmd *exec.Cmd) error {
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process group %d: %w", cmd.Process.Pid, err)
	}
	return nil
}
