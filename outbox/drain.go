package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
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
		rows, due, err := t.db.Due(ctx, t.Term, skip, store.Limit{Rows: t.opts.Batch, Bytes: t.opts.BatchBytes})
		if err != nil {
			return time.Time{}, err
		}
		if len(rows) > 0 {
			if err := t.drainRows(ctx, rows); err != nil {
				return time.Time{}, err
			}
			continue
		}
		if due.IsZero() && len(skip) == 0 && t.nothingHeld(writes) {
			return time.Time{}, nil
		}
		next = time.Now().Add(jitter(heldPoll))
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
	return true
}

// drainRows tries held messages once: those of a lane until the first fails. The
// broker is not taken for another one meanwhile: what it confirmed before it
// forgot must be released before the rewind takes releases back.
func (t *term[Tx]) drainRows(ctx context.Context, rows []store.Held) error {
	t.draining.Lock()
	defer t.draining.Unlock()
	w := t.window.anew()
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
		messages := make([]*driver.Message, len(ready))
		for i, e := range ready {
			messages[i] = e.Message
		}
		err := t.conn.Send(t.send, messages)
		if t.send.Err() != nil {
			break
		}
		t.drained(w, ready, err, &p)
	}
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
		if err := t.db.RetryHeld(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// drained sorts out what became of held messages that were sent.
func (t *term[Tx]) drained(w *window, sent []*entry, err error, p *store.Progress) {
	var se *driver.SendError
	var failures []driver.SendFailure
	if errors.As(err, &se) {
		failures = se.Failures
	} else if err != nil {
		if len(sent) > 1 && isRefusal(t.conn.Classify(err)) {
			t.drainSingly(w, sent, p) // one spoils it for the others
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
			w.again(e)
			if e.lane.queue[0] == e {
				l := e.held.Lane
				l.Attempts++
				l.Error = f.Err.Error()
				l.Retry = now.Add(backoff(l.Attempts-1, time.Second, time.Minute))
				p.Retry = append(p.Retry, l)
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

// drainSingly sends messages one by one, and none whose predecessor has failed.
func (t *term[Tx]) drainSingly(w *window, sent []*entry, p *store.Progress) {
	for i, e := range sent {
		if t.send.Err() != nil || !t.valid() {
			for _, e := range sent[i:] {
				w.again(e)
			}
			return
		}
		if e.lane.queue[0] != e {
			w.again(e)
			continue
		}
		t.drained(w, []*entry{e}, t.conn.Send(t.send, []*driver.Message{e.Message}), p)
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
			ch.down, ch.revived = false, true
			t.b.trouble.over("publish to channel " + name)
		}
	case ch.down:
		ch.attempts++
		ch.err = err.Error()
		ch.retry = time.Now().Add(backoff(ch.attempts, time.Second, time.Minute))
	}
}
