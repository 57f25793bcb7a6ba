package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// killTime is how long processes may take to be gone after a SIGKILL; a
// machine that swaps may need some of it.
const killTime = 20 * time.Second

// freezeTime is how long processes may take to stop; one that writes to a slow
// disk cannot at once.
const freezeTime = 5 * time.Second

// A process is a running server: the leader of a process group, with its
// descendants. It is either a child of this process or was started by another
// one that has ended.
type process struct {
	pid  int
	born string // tells it from a later process of the same number

	exited chan struct{} // closed when a child has ended; nil for others'
	err    error         // how it ended, once exited is closed
}

// spawn starts c with its output appended to the file log. A detached process
// goes on after this one.
func spawn(c Command, dir, log string, detached bool) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = environment(c, dir)
	if detached {
		session(cmd)
	} else {
		group(cmd)
	}
	if err := become(cmd, c.User); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid}
	if m, ok := lookAt(p.pid); ok {
		p.born = m.born
	}
	if detached {
		return p, cmd.Process.Release()
	}
	p.exited = make(chan struct{})
	go func() { // ended by kill and stop, which wait for it
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// environment has nothing of ours: a PGDATA or JAVA_TOOL_OPTIONS of the user's
// shell must not decide what is tested.
func environment(c Command, dir string) []string {
	env := []string{"HOME=" + dir, "LANG=C.UTF-8", "TMPDIR=" + os.TempDir(), "PATH=" + searchPath()}
	return append(env, c.Env...)
}

// searchPath is PATH with the directories that root's has and others' may not.
func searchPath() string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, d := range []string{"/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

// alive reports whether the process still runs.
func (p *process) alive() bool {
	if p.exited != nil {
		select {
		case <-p.exited:
			return false
		default:
			return true
		}
	}
	m, ok := lookAt(p.pid)
	return ok && !m.dead && m.born == p.born
}

// gone waits until the process has ended.
func (p *process) gone(ctx context.Context) error {
	if p.exited == nil {
		return poll(ctx, 5*time.Millisecond, func() bool { return !p.alive() })
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// kill ends the process and its descendants, as a crash of the machine would:
// at once, all together.
func (p *process) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	members, _ := p.freeze() // what does not stop can still be killed
	var err error
	for _, pid := range members {
		err = errors.Join(err, signal(pid, syscall.SIGKILL))
	}
	if goneErr := p.gone(ctx); goneErr != nil {
		return errors.Join(err, fmt.Errorf("wait for process %d after SIGKILL: %w", p.pid, goneErr))
	}
	// A dead process holds its shared memory and its ports for a moment longer.
	return errors.Join(err, poll(ctx, 5*time.Millisecond, func() bool {
		return !slices.ContainsFunc(members, running)
	}))
}

// freeze stops the process and its descendants, or what is left of its group
// when it has ended, and returns them. It looks
// again after stopping them, since one of them may just have started another.
func (p *process) freeze() (members []int, err error) {
	if m, ok := lookAt(p.pid); ok && m.born != p.born {
		return nil, nil // long gone: another process has its number
	}
	for {
		now := family(p.pid)
		fresh := slices.DeleteFunc(slices.Clone(now), func(pid int) bool { return slices.Contains(members, pid) })
		if len(fresh) == 0 {
			return members, err
		}
		for _, pid := range fresh {
			err = errors.Join(err, signal(pid, sigStop))
		}
		members = append(members, fresh...)
		// A thread that runs stops a little later, and may start another process.
		ctx, cancel := context.WithTimeout(context.Background(), freezeTime)
		waitErr := poll(ctx, time.Millisecond, func() bool { return !slices.ContainsFunc(fresh, moves) })
		cancel()
		if waitErr != nil {
			err = errors.Join(err, fmt.Errorf("wait for process %d to stop: %w", p.pid, waitErr))
		}
	}
}

// thaw lets frozen processes go on, the leader last: what it finds has to be
// awake.
func (p *process) thaw() (err error) {
	members := family(p.pid)
	for _, pid := range slices.Backward(members) {
		err = errors.Join(err, signal(pid, sigCont))
	}
	return err
}

func running(pid int) bool {
	m, ok := lookAt(pid)
	return ok && !m.dead
}
