package shop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"time"
)

// processes is the fleet in processes of their own. One that is killed is
// started again at once; one that ends by itself ends the shop.
type processes struct {
	endings
	cfg    *Config
	all    []*process
	killer sync.WaitGroup
	quit   context.CancelFunc // of the killer

	mu    sync.Mutex
	kills int
}

// A process is one instance, through all its lives.
type process struct {
	instanceName
	first chan struct{} // closed once it served for the first time

	mu     sync.Mutex
	cmd    *exec.Cmd
	serves bool
	killed bool
	past   Counts // of earlier lives
	now    Counts // of this one
}

func launchProcesses(ctx context.Context, c *Config, names []instanceName) (fleet, error) {
	base := context.WithoutCancel(ctx) // the processes end when stop says so
	killing, quit := context.WithCancel(base)
	ps := &processes{endings: endings{fail: make(chan struct{})}, cfg: c, quit: quit}
	for _, n := range names {
		p := &process{instanceName: n, first: make(chan struct{})}
		ps.all = append(ps.all, p)
		ps.start(base, n.name, func(ctx context.Context) error { return ps.keepAlive(ctx, p) })
	}
	if c.KillEvery > 0 {
		ps.killer.Go(func() { ps.kill(killing) })
	}
	return ps, nil
}

// keepAlive runs p until ctx ends, again and again if it is killed.
func (ps *processes) keepAlive(ctx context.Context, p *process) error {
	for {
		cmd := ps.cfg.Process(ctx, p.service, p.name)
		cmd.WaitDelay = ps.cfg.Patience
		killed, err := p.live(ctx, cmd)
		if !killed {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// live is one life of a process. When ctx ends, its input ends, which asks it to
// end as well; if it does not within cmd.WaitDelay, that is an error, and it is
// killed.
func (p *process) live(ctx context.Context, cmd *exec.Cmd) (killed bool, err error) {
	var said tail
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	cmd.Cancel = stdin.Close
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	p.mu.Lock()
	p.cmd, p.killed = cmd, false
	p.mu.Unlock()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		p.hear(lines.Bytes())
	}
	if err = cmd.Wait(); errors.Is(err, context.Canceled) {
		err = nil // it was asked to end, and did
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.past.add(p.now)
	p.now, p.serves, p.cmd = Counts{}, false, nil
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said.text())
	}
	return p.killed, err
}

func (p *process) hear(line []byte) {
	var r report
	if json.Unmarshal(line, &r) != nil {
		return // cut off by a kill
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.serves = r.Counts, r.Ready
	select {
	case <-p.first:
	default:
		close(p.first)
	}
}

// kill kills one process at random, every now and then. It chooses among those
// that serve, while at most one other does not: on a slow machine, where a
// process may need longer to start than the next kill is away, the shop would
// otherwise never get on.
func (ps *processes) kill(ctx context.Context) {
	random := rand.New(rand.NewPCG(ps.cfg.Seed, 1))
	tick := time.NewTicker(ps.cfg.KillEvery)
	defer tick.Stop()
	if ps.ready(ctx) != nil {
		return
	}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if ps.down() > 1 {
			continue
		}
		for _, i := range random.Perm(len(ps.all)) {
			if ps.all[i].kill() {
				ps.mu.Lock()
				ps.kills++
				ps.mu.Unlock()
				break
			}
		}
	}
}

// down is how many processes do not serve.
func (ps *processes) down() (n int) {
	for _, p := range ps.all {
		p.mu.Lock()
		if !p.serves || p.killed {
			n++
		}
		p.mu.Unlock()
	}
	return n
}

func (p *process) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || !p.serves || p.killed {
		return false
	}
	p.killed = p.cmd.Process.Kill() == nil
	return p.killed
}

func (ps *processes) ready(ctx context.Context) error {
	for _, p := range ps.all {
		select {
		case <-p.first:
		case <-ps.fail:
			return nil // stop says why
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (ps *processes) calm() {
	ps.quit()
	ps.killer.Wait()
}

func (ps *processes) counts(context.Context) (c Counts, kills int) {
	for _, p := range ps.all {
		p.mu.Lock()
		c.add(p.past)
		c.add(p.now)
		p.mu.Unlock()
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return c, ps.kills
}

// stop stops killing, and ends the processes.
func (ps *processes) stop() error {
	ps.calm()
	return ps.endings.stop()
}

// tail keeps the end of what was written to it.
type tail struct{ end []byte }

const tailSize = 4 << 10

// Write keeps the last bytes. The process's exec.Cmd is the only one to call it.
func (t *tail) Write(b []byte) (int, error) {
	t.end = append(t.end, b...)
	if len(t.end) > 2*tailSize {
		t.end = append(t.end[:0], t.end[len(t.end)-tailSize:]...)
	}
	return len(b), nil
}

func (t *tail) text() string { return string(bytes.TrimSpace(t.end)) }
