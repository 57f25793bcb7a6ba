package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// heldPoll is how often the store is asked for held messages that people have
// made due.
const heldPoll = 5 * time.Second

// drain publishes the held messages that are due and returns when to look
// again, zero if nothing is held.
func (t *term[Tx]) drain(ctx context.Context) (next time.Time, err error) {
	for {
		skip, held, retry, writes := t.skipped()
		if !held {
			return time.Time{}, nil
		}
		if err := errors.Join(ctx.Err(), t.send.Err()); err != nil {
			return time.Time{}, err
		}
		// People must not change what is being sent, and nothing of it is sent
		// after the time for which it was taken.
		until := time.Now().Add(t.opts.SendTimeout)
		rows, due, err := t.db.Due(ctx, t.Term, skip, store.Limit{Rows: t.opts.Batch, Bytes: t.opts.BatchBytes}, t.opts.SendTimeout+2*sendGrace)
		if err != nil {
			return time.Time{}, err
		}
		if len(rows) > 0 {
			if err := t.drainRows(ctx, rows, until); err != nil {
				return time.Time{}, err
			}
			continue
		}
		if due.IsZero() && len(skip) == 0 && t.nothingHeld(writes) {
			return time.Time{}, nil
		}
		next = time.Now().Add(backoff.Jitter(heldPoll))
		for _, at := range []time.Time{due, retry} {
			if !at.IsZero() && at.Before(next) {
				next = at
			}
		}
		return next, nil
	}
}

// skipped returns the channels that are down and not to be tried yet, whether
// anything may be held, when the first of those channels is tried again, and
// how often messages were held so far.
func (t *term[Tx]) skipped() (names []string, held bool, retry time.Time, writes int) {
	now := time.Now()
	c := &t.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, ch := range c.m {
		held = held || ch.held
		if ch.down && ch.retry.After(now) {
			names = append(names, name)
			if retry.IsZero() || ch.retry.Before(retry) {
				retry = ch.retry
			}
		}
	}
	return names, held, retry, c.writes
}

// nothingHeld takes note that the store has no held messages, unless some may
// have been written since it was asked.
func (t *term[Tx]) nothingHeld(writes int) bool {
	c := &t.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) > 0 || c.writes != writes {
		return false
	}
	for _, ch := range c.m {
		ch.held = false
	}
	t.b.warnings.over(heldTrouble)
	return true
}

// drainRows tries held messages once: those of a lane until the first fails.
// t.draining keeps a rewind waiting for the end of it: releases of messages that the
// broker confirmed before it was started again must be written before the rewind,
// which undoes releases.
func (t *term[Tx]) drainRows(ctx context.Context, rows []store.Held, until time.Time) error {
	t.draining.Lock()
	defer t.draining.Unlock()
	send, cancel := context.WithDeadline(t.send, until)
	defer cancel()
	w := t.window.emptyCopy()
	for i := range rows {
		e := w.add(rows[i].Row, laneKey{rows[i].Message.Channel, rows[i].Lane.Name})
		e.held = &rows[i]
	}
	var p store.Progress
	for w.waiting > 0 {
		if !t.valid() {
			return store.ErrFenced
		}
		ready, _ := w.ready(time.Now(), t.batch())
		if len(ready) == 0 {
			break // the rest is behind those that failed
		}
		err := t.sendAll(send, messagesOf(ready))
		if errors.Is(err, errHangs) {
			return err
		}
		if t.send.Err() != nil {
			break
		}
		t.drained(send, w, ready, err, &p)
		if send.Err() != nil {
			break // who knows whether somebody has changed the rest
		}
	}
	t.unreadable(w, &p)
	if len(p.Release)+len(p.Retry) == 0 {
		return nil
	}
	if len(p.Release) > 0 {
		crash.RelayDrained.Pass()
	}
	if err := t.db.Advance(ctx, t.Term, p); err != nil {
		return err
	}
	if len(p.Release) > 0 {
		crash.RelayReleased.Pass()
	}
	return t.revive(ctx)
}

// revive makes the lanes of channels due that are not down any more.
func (t *term[Tx]) revive(ctx context.Context) error {
	var names []string
	c := &t.channels
	c.mu.Lock()
	for name, ch := range c.m {
		if ch.revived {
			ch.revived = false
			names = append(names, name)
		}
	}
	c.mu.Unlock()
	for _, name := range names {
		if _, err := t.db.RetryHeld(ctx, name, ""); err != nil {
			return err
		}
	}
	return nil
}

// drained sorts out what became of held messages that were sent.
func (t *term[Tx]) drained(ctx context.Context, w *window, sent []*entry, err error, p *store.Progress) {
	var se *driver.SendError
	var failures []driver.SendFailure
	if errors.As(err, &se) {
		failures = se.Failures
	} else if err != nil {
		if len(sent) > 1 && isRefusal(t.conn.Classify(err)) {
			t.drainSingly(ctx, w, sent, p) // one spoils it for the others
			return
		}
		for i := range sent {
			failures = append(failures, driver.SendFailure{Index: i, Err: err})
		}
	}
	now := time.Now()
	failed := map[string]error{} // channels on which nothing went well
	for i, e := range sent {
		if len(failures) > 0 && failures[0].Index == i {
			f := failures[0]
			failures = failures[1:]
			if t.conn.Classify(f.Err) == driver.NotFound {
				t.lostTopology(now)
			}
			w.unsent(e)
			if e.lane.queue[0] == e {
				l := e.held.Lane
				l.Attempts++
				l.Error = store.ErrorText(f.Err)
				l.Retry = now.Add(pace(l.Attempts-1, time.Second, t.longestRest(f.Err)))
				p.Retry = append(p.Retry, l)
				t.stillHeld(e, f.Err)
			}
			e.lane.attempts++
			e.lane.retry = now.Add(time.Hour) // not in this round
			if _, known := failed[e.Message.Channel]; !known {
				failed[e.Message.Channel] = f.Err
			}
			continue
		}
		p.Release = append(p.Release, *e.held)
		w.finish(e)
		t.b.published.Add(1)
		t.b.rate.add(now, 1)
		failed[e.Message.Channel] = nil
	}
	for name, err := range failed {
		t.tried(name, err)
	}
}

// unreadable puts off the lanes at whose beginning there is what cannot be read,
// until somebody edits or discards it.
func (t *term[Tx]) unreadable(w *window, p *store.Progress) {
	for _, e := range w.entries {
		if e.done || e.Err == nil || e.lane.queue[0] != e {
			continue
		}
		l := e.held.Lane
		l.Attempts++
		l.Error = store.ErrorText(e.Err)
		l.Retry = time.Now().Add(pace(l.Attempts-1, time.Second, time.Minute))
		p.Retry = append(p.Retry, l)
		t.stillHeld(e, e.Err)
	}
}

// heldTrouble is what the relay is about while messages are held.
const heldTrouble = "publish messages that were set aside"

// stillHeld says that a message is held, and what about it.
func (t *term[Tx]) stillHeld(e *entry, err error) {
	t.b.warnings.report(heldTrouble, fmt.Errorf("channel %s, message %s: %w", e.Message.Channel, e.Message.ID, err))
}

// drainSingly sends messages one by one, and none whose predecessor has failed.
func (t *term[Tx]) drainSingly(ctx context.Context, w *window, sent []*entry, p *store.Progress) {
	for i, e := range sent {
		if ctx.Err() != nil || !t.valid() {
			for _, e := range sent[i:] {
				w.unsent(e)
			}
			return
		}
		if e.lane.queue[0] != e {
			w.unsent(e)
			continue
		}
		t.drained(ctx, w, []*entry{e}, t.sendAll(ctx, []*driver.Message{e.Message}), p)
	}
}

// tried takes note of how a channel with held messages does.
func (t *term[Tx]) tried(name string, err error) {
	c := &t.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.of(name)
	switch {
	case err == nil:
		ch.published++
		c.total++
		if ch.down {
			ch.down, ch.revived, ch.troubled = false, true, false
			t.b.warnings.over("publish to channel " + name)
		}
	case ch.down:
		ch.attempts++
		ch.err = store.ErrorText(err)
		ch.retry = time.Now().Add(pace(ch.attempts, time.Second, t.longestRest(err)))
	}
}

// longestRest is how long held messages wait for the next try at most. What is
// temporarily away may be back within seconds, as when a cluster has elected another
// leader; what is refused waits for a person.
func (t *term[Tx]) longestRest(err error) time.Duration {
	if t.conn.Classify(err) == driver.Retryable {
		return 3 * time.Second
	}
	return time.Minute
}
