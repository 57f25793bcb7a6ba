package clustertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// A fault breaks nodes and, all but one, brings them back. It says when it disturbs
// the cluster, and between when and when there is no majority.
type fault struct {
	name string
	long bool // not in a short run
	do   func(ctx context.Context, h Harness, o Lengths, at *moments) error
}

// lost is the last fault: the node does not come back.
const lost = "lost"

var nodeFaults = []fault{
	{"kill", false, func(ctx context.Context, h Harness, o Lengths, at *moments) error {
		at.disturb()
		return errors.Join(h.Nodes[0].Kill(), rest(ctx, o.Watch), h.Nodes[0].Restart(ctx))
	}},
	{"stop", false, func(ctx context.Context, h Harness, o Lengths, at *moments) error {
		at.orderly()
		return errors.Join(h.Nodes[1].Stop(ctx), rest(ctx, o.Watch), h.Nodes[1].Restart(ctx))
	}},
	{"freeze", false, func(ctx context.Context, h Harness, o Lengths, at *moments) error {
		at.disturb()
		err := errors.Join(h.Nodes[2].Pause(), rest(ctx, o.Frozen))
		at.disturb()
		return errors.Join(err, h.Nodes[2].Resume())
	}},
	{"two gone", true, func(ctx context.Context, h Harness, o Lengths, at *moments) error {
		at.gone()
		err := errors.Join(h.Nodes[0].Kill(), h.Nodes[1].Kill(), rest(ctx, o.Gone))
		var back sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			back.Go(func() { errs[i] = h.Nodes[i].Restart(ctx) })
		}
		back.Wait()
		at.back()
		return errors.Join(append(errs, err)...)
	}},
	{"rolling", true, func(ctx context.Context, h Harness, o Lengths, at *moments) error {
		for _, n := range h.Nodes {
			at.orderly()
			if err := errors.Join(n.Stop(ctx), n.Restart(ctx), rest(ctx, o.Watch/2)); err != nil {
				return err
			}
		}
		return nil
	}},
	{lost, false, func(ctx context.Context, h Harness, o Lengths, at *moments) error {
		at.disturb()
		return h.Nodes[0].Close()
	}},
}

// Break breaks the nodes while services work, and tells what came of each fault.
// An error says that it could not be done.
func Break[Tx any](ctx context.Context, h Harness, db Database[Tx], o Lengths, report func(Outcome)) error {
	l, err := start(ctx, h, db)
	if err != nil {
		return err
	}
	faults := h.faults
	if faults == nil {
		faults = nodeFaults
	}
	for _, f := range faults {
		if f.long && !o.Long || !h.has(f.name, o) {
			continue
		}
		out, faultErr := l.through(ctx, f, o)
		report(out)
		if faultErr != nil {
			err = fmt.Errorf("%s: %w", f.name, faultErr)
			break
		}
	}
	return errors.Join(err, l.stop())
}

// effectPatience is how long after a handler its transaction may take to commit.
const effectPatience = 3 * time.Second

// checked is what is wrong once the transactions of all handlers have had time.
func (l *load[Tx]) checked(ctx context.Context) (problems []string) {
	for until := time.Now().Add(effectPatience); ; {
		problems = l.check(ctx)
		if len(problems) == 0 || time.Now().After(until) || rest(ctx, 50*time.Millisecond) != nil {
			return problems
		}
	}
}

// through has one fault happen, and waits until what was committed is handled.
func (l *load[Tx]) through(ctx context.Context, f fault, o Lengths) (Outcome, error) {
	if err := rest(ctx, time.Second); err != nil {
		return Outcome{}, err
	}
	began := l.record.begin()
	at := &moments{late: o.Late}
	err := f.do(ctx, l.h, o, at)
	// Late requests are those that begin when the first ten seconds are over.
	err = errors.Join(err, rest(ctx, max(0, time.Until(at.last().Add(o.Late+o.Watch)))))
	end := time.Now()
	l.pause(true)
	handled := l.record.all(ctx, o.Patience)
	err = errors.Join(err, l.record.settled(ctx, end))
	problems := l.checked(ctx)
	l.pause(false)
	out := l.record.outcome(f.name, began, end, at)
	out.Problems, out.Ended = problems, l.ended()
	if !handled {
		out.Problems = append(out.Problems, fmt.Sprintf("%d messages were committed and not handled within %v", out.Committed-out.Handled, o.Patience))
	}
	if o.Long {
		out.Problems = append(out.Problems, out.tooLong(l.h.most(at), l.h.stops)...)
	}
	if out.Ended > 0 {
		out.Problems = append(out.Problems, fmt.Sprintf("%d services ended: %v", out.Ended, l.ends()))
	}
	if out.FailedLate > 0 && o.Long {
		out.Problems = append(out.Problems, fmt.Sprintf("%d requests failed later than %v after the last disturbance: they began after %v", out.FailedLate, o.Late, out.late))
	}
	return out, err
}

// most is how long a message or a request may wait after a fault.
func (h *Harness) most(at *moments) time.Duration {
	if !at.sudden && h.Orderly > 0 {
		return h.Orderly + Slack
	}
	return h.Detection + Slack
}

// tooLong says what waited for more than most.
func (o *Outcome) tooLong(most time.Duration, stops bool) (problems []string) {
	check := func(what string, waited time.Duration) {
		if waited > most {
			problems = append(problems, fmt.Sprintf("%s for %v: want %v at most", what, waited, most))
		}
	}
	check("a message waited", o.Waited)
	check("no request was answered", o.Unanswered)
	if stops {
		check("no message was handled", o.Still)
	}
	return problems
}

// moments are when a fault disturbed the cluster.
type moments struct {
	late     time.Duration
	mu       sync.Mutex
	at       []time.Time
	from, to time.Time // no majority
	sudden   bool      // a node went without announcing it
}

// disturb notes that a node goes, or is back, without a word.
func (m *moments) disturb() {
	m.orderly()
	m.sudden = true
}

// orderly notes that a node says that it goes.
func (m *moments) orderly() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = append(m.at, time.Now())
}

func (m *moments) gone() {
	m.disturb()
	m.from = time.Now()
}

func (m *moments) back() {
	m.disturb()
	m.to = time.Now()
}

func (m *moments) last() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[len(m.at)-1]
}

// since is how long after t something happened at end, the time without a majority
// left out.
func (m *moments) since(t, end time.Time) time.Duration {
	without := max(0, min(end.Sub(t), m.to.Sub(t))-max(0, m.from.Sub(t)))
	if m.from.IsZero() {
		without = 0
	}
	return max(0, end.Sub(t)-without)
}

// isLate reports whether a request that began at t is far enough from every
// disturbance: from one that came while it was under way as well.
func (m *moments) isLate(t time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range m.at {
		if t.After(at.Add(-m.late)) && t.Before(at.Add(m.late)) {
			return false
		}
	}
	return !(t.After(m.from) && t.Before(m.to))
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	if !backoff.Sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}
