package clustertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
)

// record is what the services did, as the test's process saw it.
type record struct {
	mu      sync.Mutex
	sent    []sent
	times   map[string]time.Time // when a note was first handled, by its id
	asking  map[int]time.Time    // when requests began that are under way
	asked   int
	replies []reply
	lines   []line
	undone  int           // transactions that failed
	unknown int           // transactions of which nobody could say whether they happened
	event   chan struct{} // closed when something is handled
}

type sent struct {
	id string
	at time.Time
}

type reply struct {
	began, ended time.Time
	err          error
}

type line struct {
	at    time.Time
	text  string
	extra bool // of the load's own, and no service's
}

func newRecord() *record {
	return &record{times: map[string]time.Time{}, asking: map[int]time.Time{}, event: make(chan struct{})}
}

// failed notes that a transaction failed, and why.
func (r *record) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, dovetail.ErrUnknownOutcome) {
		r.unknown++
	} else {
		r.undone++
	}
	r.lines = append(r.lines, line{time.Now(), fmt.Sprintf("a commit failed: %v", err), true})
}

func (r *record) committed(n note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, sent{n.id(), time.Now()})
}

func (r *record) handled(n note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.times[n.id()].IsZero() {
		r.times[n.id()] = time.Now()
	}
	r.happened()
}

// ask notes that a request begins; answered is to be called with what came of it.
func (r *record) ask() (answered func(err error)) {
	began := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	n := r.asked
	r.asking[n] = began
	return func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.asking, n)
		r.replies = append(r.replies, reply{began, time.Now(), err})
		r.happened()
	}
}

// happened wakes those who wait for something to happen.
func (r *record) happened() {
	close(r.event)
	r.event = make(chan struct{})
}

// A mark is where the record was when a fault began.
type mark struct {
	at      time.Time
	replies int
	sent    int
}

func (r *record) begin() mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines, r.undone, r.unknown = nil, 0, 0
	return mark{time.Now(), len(r.replies), len(r.sent)}
}

// settled waits until each request that began before end has its answer, or its
// time-out.
func (r *record) settled(ctx context.Context, end time.Time) error {
	for {
		r.mu.Lock()
		open := false
		for began := range maps.Values(r.asking) {
			open = open || began.Before(end)
		}
		event := r.event
		r.mu.Unlock()
		if !open {
			return nil
		}
		select {
		case <-event:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// all waits until everything that was committed is handled, and reports whether it
// is.
func (r *record) all(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		r.mu.Lock()
		missing := false
		for _, s := range r.sent {
			missing = missing || r.times[s.id].IsZero()
		}
		event := r.event
		r.mu.Unlock()
		if !missing {
			return true
		}
		select {
		case <-event:
		case <-ctx.Done():
			return false
		}
	}
}

// outcome is what happened since from.
func (r *record) outcome(name string, from mark, end time.Time, at *moments) Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := Outcome{Fault: name, Undone: r.undone, Unknown: r.unknown}
	for _, l := range r.lines {
		if !l.extra {
			o.Lines++
		}
	}
	for _, l := range r.lines[:min(30, len(r.lines))] {
		o.Said = append(o.Said, fmt.Sprintf("after %.1f s: %s", l.at.Sub(from.at).Seconds(), l.text))
	}
	last := from.at
	for _, s := range r.sent[from.sent:] {
		o.Committed++
		done, ok := r.times[s.id]
		if !ok {
			done = time.Now()
		} else {
			o.Handled++
		}
		o.Waited = max(o.Waited, at.since(s.at, done))
	}
	// In the order in which they were handled.
	for _, t := range sorted(r.times, from.at) {
		o.Still = max(o.Still, at.since(last, t))
		last = t
	}
	var ends []time.Time
	for _, q := range r.replies[from.replies:] {
		if q.began.After(end) {
			continue
		}
		o.Requests++
		switch {
		case q.err == nil:
			ends = append(ends, q.ended)
		case at.isLate(q.began):
			o.FailedLate++
			o.late = append(o.late, q.began.Sub(from.at).Truncate(time.Second/10))
			fallthrough
		default:
			o.Failed++
			if len(o.Said) < 40 {
				o.Said = append(o.Said, fmt.Sprintf("after %.1f s: a request failed: %v", q.began.Sub(from.at).Seconds(), q.err))
			}
		}
	}
	last = from.at
	for _, t := range ends { // in the order in which they came
		o.Unanswered = max(o.Unanswered, at.since(last, t))
		last = t
	}
	o.Unanswered = max(o.Unanswered, at.since(last, end))
	return o
}

// Enabled leaves out what is no warning.
func (r *record) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle keeps a line.
func (r *record) Handle(_ context.Context, rec slog.Record) error {
	var b strings.Builder
	b.WriteString(rec.Message)
	rec.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line{time.Now(), b.String(), false})
	return nil
}

// WithAttrs returns the same record.
func (r *record) WithAttrs([]slog.Attr) slog.Handler { return r }

// WithGroup returns the same record.
func (r *record) WithGroup(string) slog.Handler { return r }
