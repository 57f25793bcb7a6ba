package verify

import (
	"context"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/netfault"
)

// away is how long the consumers' database is away in a run that does not say.
const away = 3 * time.Second

// An Outage is what happened around the time in which the consumers' database
// was away.
type Outage struct {
	Seconds float64 `json:"seconds"`
	// Recovered is how long after its return everything of path outage was
	// handled that had been committed by then, in seconds; -1 for never.
	Recovered float64 `json:"recovered_seconds"`
	// Lines is how many lines all consumers logged from its beginning to the end
	// of the run.
	Lines int64 `json:"log_lines"`
}

// A Deploy is what happened around the restart of the consumers with handlers of
// version 2.
type Deploy struct {
	Began   float64 `json:"began_seconds"` // after the writers
	Seconds float64 `json:"seconds"`       // until the last of them was restarted
	Second  int64   `json:"second"`        // messages of version 2 that were committed
	// Waited is how often one came to an instance without its handler; a lower
	// bound, like all that processes count.
	Waited int64 `json:"waited"`
}

// episode is an outage in hand.
type episode struct {
	proxy *netfault.Proxy // before the consumers' database
	hold  func(ctx context.Context) (release func() error, err error)

	mu    sync.Mutex
	on    bool
	was   bool
	from  time.Time
	to    time.Time
	lines int64 // before it
	took  time.Duration
	err   error
}

// noOutage says why the consumers' database cannot be kept away.
func (r *run) noOutage() string {
	if r.gone == nil {
		return "the consumers' store cannot be cut off: its URL names no host and port, and it is no file with one writer"
	}
	return ""
}

// is reports whether the database is away.
func (e *episode) is() bool {
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.on
}

// keepAway keeps the database away for d, or until ctx ends.
func (e *episode) keepAway(ctx context.Context, d time.Duration, lines func() int64) {
	e.mu.Lock()
	e.on, e.was, e.from, e.lines = true, true, time.Now(), lines()
	e.mu.Unlock()
	var err error
	if e.proxy != nil {
		e.proxy.Cut()
		backoff.Sleep(ctx, d)
		e.proxy.Heal()
	} else {
		var release func() error
		if release, err = e.hold(context.WithoutCancel(ctx)); err == nil {
			backoff.Sleep(ctx, d)
			err = release()
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.on, e.to, e.took, e.err = false, time.Now(), time.Since(e.from), err
}

// report is what came of it; nil if there was none.
func (e *episode) report(lines int64) *Outage {
	if e == nil || !e.was {
		return nil
	}
	return &Outage{Seconds: seconds(e.took), Lines: lines - e.lines}
}

// recovery finds out when everything was handled that path outage had when the
// database came back. It is given what was sent, then the effects.
type recovery struct {
	back time.Time
	open map[string]bool // ids of what has no effect yet
	last time.Time       // of their effects
}

func (r *run) recovery() *recovery {
	v := &recovery{open: map[string]bool{}}
	if r.gone != nil {
		v.back = r.gone.to // the zero time is before all that was sent
	}
	return v
}

func (v *recovery) sent(s Sent) {
	if PathOf(s.Key) == outage && !s.At.After(v.back) {
		v.open[s.ID] = true
	}
}

func (v *recovery) effect(e Effect) {
	if v.open[e.ID] { // its first one
		delete(v.open, e.ID)
		if e.At.After(v.last) {
			v.last = e.At
		}
	}
}

// seconds is how long after the return of the database it was; -1 for never.
func (v *recovery) seconds() float64 {
	if len(v.open) > 0 {
		return -1
	}
	return seconds(max(0, v.last.Sub(v.back)))
}

// outage keeps the database away in the middle of the run.
func (r *run) outage(ctx context.Context) {
	d := r.Outage
	if d == 0 {
		d = min(away, r.length()/3)
	}
	if backoff.Sleep(ctx, (r.length()-d)/2) {
		r.gone.keepAway(ctx, d, func() int64 { return r.fleet.lines(consuming) })
	}
}

// renewal is how long a process that is restarted may take before the next one
// is.
const renewal = 15 * time.Second

// deploy restarts the consumers one by one with handlers of version 2, from a
// third of the run on; when ctx ends, those that are left at once.
func (r *run) deploy(ctx context.Context) {
	backoff.Sleep(ctx, r.length()/3)
	from := time.Now()
	r.deployed = &Deploy{Began: seconds(from.Sub(r.writing))}
	defer func() { r.deployed.Seconds = seconds(time.Since(from)) }()
	for _, m := range r.fleet.members {
		if m.job.Role == consuming && m.job.Group == r.last().Name {
			m.renew(func(j *job) { j.Deployed = true })
			m.again(ctx, renewal)
			backoff.Sleep(ctx, r.length()/20) // instances with and without the handler are there side by side
		}
	}
}
