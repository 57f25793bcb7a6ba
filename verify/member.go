package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// A member is one process, through all its lives.
type member struct {
	job   job
	spare bool          // it is not killed
	first chan struct{} // closed once it was ready for the first time
	quit  context.CancelFunc
	ended chan struct{} // closed when it is over

	mu     sync.Mutex
	cmd    *exec.Cmd
	in     *json.Encoder
	ready  bool
	asleep bool // stopped
	killed bool
	paused bool
	stdin  io.Closer
	fresh  bool // the life that runs was begun with the job as it is now
	past   report
	now    report

	renewed bool        // this life was told to end for another job
	overdue *time.Timer // kills it if it does not
}

// live is one life. When ctx ends, so does the process's input, which asks it to
// end; if it does not, it is killed. ready says whether the process was ready, or had
// to be killed for that.
func (m *member) live(ctx context.Context, cmd *exec.Cmd, life uint64) (killed, ready bool, err error) {
	said := &ring{}
	cmd.Stderr = said
	Apart(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return false, false, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, false, err
	}
	if err := cmd.Start(); err != nil {
		return false, false, err
	}
	in := json.NewEncoder(stdin)
	m.mu.Lock()
	j := m.job
	j.Life, m.fresh = life, true
	_ = in.Encode(j) // one that is dead already is met below
	m.cmd, m.in, m.stdin, m.killed, m.asleep, m.renewed = cmd, in, stdin, false, false, false
	if m.paused {
		_ = in.Encode(order{Pause: true})
	}
	m.mu.Unlock()
	over := make(chan struct{})
	var watch sync.WaitGroup
	late := false
	watch.Go(func() {
		select {
		case <-ctx.Done():
			_ = stdin.Close()
			m.wake()
		case <-over:
			return
		}
		timer := time.NewTimer(ending)
		defer timer.Stop()
		select {
		case <-timer.C:
			late = true
			_ = cmd.Process.Kill()
		case <-over:
		}
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		m.hear(lines.Bytes())
	}
	_, _ = io.Copy(io.Discard, stdout)
	m.mu.Lock()
	was := m.ready
	m.ready, m.cmd, m.in, m.stdin = false, nil, nil, nil // before Wait, so that no other process of that number is hit
	m.past.add(m.now)
	m.now = report{}
	killed = m.killed
	if m.overdue != nil {
		m.overdue.Stop()
		m.overdue = nil
	}
	m.mu.Unlock()
	err = cmd.Wait()
	close(over)
	watch.Wait()
	_ = stdin.Close()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said.text())
	}
	if late {
		was, err = true, errors.Join(fmt.Errorf("it did not end within %v", ending), err)
	}
	return killed, was, err
}

func (m *member) hear(line []byte) {
	var r report
	if json.Unmarshal(line, &r) != nil {
		return // cut off by a kill
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = r
	if m.now.Ready && !m.ready {
		m.ready = true
		select {
		case <-m.first:
		default:
			close(m.first)
		}
	}
}

// kill kills the process, if it is ready and not to be spared.
func (m *member) kill() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil || !m.ready || m.killed || m.spare {
		return false
	}
	m.killed = m.cmd.Process.Kill() == nil
	return m.killed
}

// renew has the process end as it should and start again with another job; if it
// does not end, it is killed. That counts like a kill.
func (m *member) renew(change func(*job)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.job)
	m.fresh = false
	if m.cmd != nil && !m.killed {
		m.killed, m.renewed = true, true
		_ = m.stdin.Close() // one that is dead takes the new job when it comes back
		process := m.cmd.Process
		m.overdue = time.AfterFunc(ending, func() { _ = process.Kill() })
	}
}

// again waits until a process that was renewed is ready with its new job, or for
// d.
func (m *member) again(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for backoff.Sleep(ctx, 50*time.Millisecond) {
		m.mu.Lock()
		ready := m.fresh && m.ready
		m.mu.Unlock()
		if ready {
			return
		}
	}
}

// pause has a writer pause or go on.
func (m *member) pause(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paused == yes {
		return
	}
	m.paused = yes
	if m.in != nil && !m.asleep {
		_ = m.in.Encode(order{Pause: yes}) // one that is dead is told when it comes back
	}
}
