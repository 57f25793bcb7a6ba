//go:build unix

package servers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// tryLock takes the lock of an open file, unless somebody has it. Closing the
// file gives it back.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// group makes cmd the leader of a process group of its own, which a Ctrl-C at
// the terminal does not reach.
func group(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// session makes cmd the leader of a session of its own, and so of a group: the
// end of the terminal does not reach it either.
func session(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
}

// become has cmd run as the named user where this process is root.
func become(cmd *exec.Cmd, name string) error {
	uid, gid, err := idsOf(name)
	if err != nil || uid < 0 {
		return err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

// give makes the named user the owner of a file or directory where this
// process is root.
func give(path, name string) error {
	uid, gid, err := idsOf(name)
	if err != nil || uid < 0 {
		return err
	}
	return os.Chown(path, uid, gid)
}

// idsOf returns -1 where nothing has to change.
func idsOf(name string) (uid, gid int, err error) {
	if name == "" || os.Geteuid() != 0 {
		return -1, -1, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// signal sends sig to one process. One that is gone is no error.
func signal(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", sig, pid, err)
	}
	return nil
}

// A member is a process as /proc tells of it.
type member struct {
	pid, parent, group int
	dead               bool   // ended, and nobody has asked how
	born               string // in ticks since the machine started: tells it from a later one of the same number
}

// lookAt reads one process. ok is false where there is none.
func lookAt(pid int) (m member, ok bool) {
	fields := statOf(fmt.Sprintf("/proc/%d/stat", pid))
	if fields == nil {
		return member{}, false
	}
	// The first thread of a process that is being killed may have ended while
	// others still hold its files and ports.
	m = member{pid: pid, dead: ended(fields) && !anyThread(pid, func(fields []string) bool { return !ended(fields) }), born: fields[19]}
	m.parent, _ = strconv.Atoi(fields[1])
	m.group, _ = strconv.Atoi(fields[2])
	return m, true
}

// statOf returns the fields of a stat file from the state on, or nil where
// there is no such process: "123 (a name) S 1 123 …", and the name may have
// spaces and parentheses.
func statOf(name string) []string {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return nil
	}
	return fields
}

// ended reports whether a thread is one that has ended, by its stat file.
func ended(fields []string) bool { return fields[0] == "Z" || fields[0] == "X" }

// moves reports whether any thread of the process is not stopped.
func moves(pid int) bool {
	return anyThread(pid, func(fields []string) bool { return !strings.Contains("TtZX", fields[0]) })
}

// anyThread reports whether is holds for the stat file of a thread of the process.
func anyThread(pid int, is func(fields []string) bool) bool {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, name := range names {
		if fields := statOf(name); fields != nil && is(fields) {
			return true
		}
	}
	return false
}

// family returns the living processes that descend from pid or are in its
// group, itself first. PostgreSQL's children are in groups of their own.
func family(pid int) []int {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	var group []int
	for _, name := range names {
		n, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		m, ok := lookAt(n)
		switch {
		case !ok || m.dead:
		case m.pid == pid || m.group == pid:
			group = append(group, m.pid)
		default:
			children[m.parent] = append(children[m.parent], m.pid)
		}
	}
	all := group
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
