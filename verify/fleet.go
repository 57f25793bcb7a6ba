package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// fleet is the processes of a run. One that ends is started again, until the
// fleet is told to stop.
type fleet struct {
	command  func() *exec.Cmd
	log      *slog.Logger
	patience int         // how often in a row a process may end by itself before it was ready
	excused  func() bool // reports whether such an end does not count just now; nil for never
	members  []*member
	failed   chan struct{} // closed when a member will not come up

	handled atomic.Int64 // by all groups, as the consumers' database said last

	mu     sync.Mutex
	err    error
	kills  int
	starts int      // that came to nothing
	falls  []string // what processes said that had been ready and ended by themselves
	ends   []string // what processes said that were told to end, and did not do so as they should
}

// maxFalls is the patience of a run. It lasts for about 50 s and the time that so
// many starts take, for a server that is restarted by somebody else.
const maxFalls = 60

// ending is how long a process may take to end after it was told to.
const ending = 45 * time.Second

// start starts a process and keeps it alive.
func (f *fleet) start(j job, spare bool) {
	ctx, quit := context.WithCancel(context.Background())
	m := &member{job: j, spare: spare, quit: quit, first: make(chan struct{}), ended: make(chan struct{})}
	f.members = append(f.members, m)
	go func() {
		defer close(m.ended)
		f.keepAlive(ctx, m)
	}()
}

func (f *fleet) keepAlive(ctx context.Context, m *member) {
	falls, counted := 0, 0
	for life := uint64(1); ; life++ {
		killed, was, err := m.live(ctx, f.command(), life)
		if ctx.Err() != nil {
			if err != nil && was && (!killed || m.renewed) { // one that was still starting may say so
				f.badEnd(m, err)
			}
			return
		}
		if killed {
			if err != nil && was && m.renewed {
				f.badEnd(m, err)
			}
			continue
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		f.fell(m, was, err)
		falls++
		if f.excused == nil || !f.excused() {
			counted++
		}
		if was {
			falls, counted = 0, 0
		}
		if counted > f.patience {
			f.fail(fmt.Errorf("%s does not come up: %w", m.job.Instance, err))
			return
		}
		backoff.Sleep(ctx, min(time.Second, time.Duration(falls+1)*50*time.Millisecond))
	}
}

// fell notes down that a process ended by itself. That one does not come up
// while a server is away is no news; that one ends that served is.
func (f *fleet) fell(m *member, was bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !was {
		f.starts++
		f.log.Info("a process did not come up and is started again", "process", m.job.Instance, "error", err)
		return
	}
	f.falls = append(f.falls, m.job.Instance+": "+err.Error())
	f.log.Warn("a process ended by itself and is started again", "process", m.job.Instance, "error", err)
}

// badEnd notes down that a process was told to end, and did not do so as it should.
func (f *fleet) badEnd(m *member, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends = append(f.ends, m.job.Instance+": "+err.Error())
	f.log.Warn("a process did not end as it should", "process", m.job.Instance, "error", err)
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.failed)
	}
}

// counts are those of all lives of all members.
func (f *fleet) counts() (r report, kills int) {
	for _, m := range f.members {
		m.mu.Lock()
		r.add(m.past)
		r.add(m.now)
		m.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return r, f.kills
}

// lines is how many lines the members of a role have logged.
func (f *fleet) lines(of role) (n int64) {
	for _, m := range f.members {
		m.mu.Lock()
		if m.job.Role == of {
			n += m.past.Lines + m.now.Lines
		}
		m.mu.Unlock()
	}
	return n
}

// far is how far the members of a role are together.
func (f *fleet) far(r role) int64 {
	if r == consuming {
		return f.handled.Load()
	}
	counts, _ := f.counts()
	return counts.Published
}

// ready waits until every member has been ready once.
func (f *fleet) ready(ctx context.Context) error {
	for _, m := range f.members {
		select {
		case <-m.first:
		case <-f.failed:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stop ends members of a role, at the same time, and waits for them.
func (f *fleet) stop(r role) {
	for _, m := range f.members {
		if m.job.Role == r {
			m.quit()
		}
	}
	for _, m := range f.members {
		if m.job.Role == r {
			<-m.ended
		}
	}
}

// ring keeps the end of what was written to it.
type ring struct{ end []byte }

const ringSize = 2 << 10

// Write keeps the last bytes. The process's exec.Cmd is the only one to call it.
func (t *ring) Write(b []byte) (int, error) {
	t.end = append(t.end, b...)
	if len(t.end) > 2*ringSize {
		t.end = append(t.end[:0], t.end[len(t.end)-ringSize:]...)
	}
	return len(b), nil
}

func (t *ring) text() string { return string(bytes.TrimSpace(t.end)) }
