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

// outcome sorts out what became of entries that were sent.
func (t *term[Tx]) outcome(sent []*entry, err error) {
	if err == nil {
		t.published(sent)
		t.available()
		t.limit = min(2*t.limit, t.batch())
		return
	}
	var se *driver.SendError
	if !errors.As(err, &se) || len(se.Failures) == 0 {
		if se = t.nothingSent(sent, err); se == nil {
			return
		}
	}
	ok := make([]*entry, 0, len(sent))
	failures := se.Failures
	for i, e := range sent {
		if len(failures) == 0 || failures[0].Index != i {
			ok = append(ok, e)
			continue
		}
		failures = failures[1:]
	}
	t.published(ok)
	t.available() // it answers, though not as hoped
	now := time.Now()
	for _, f := range se.Failures {
		switch e := sent[f.Index]; {
		case e.done: // set aside with the one before it
		case e.lane.queue[0] != e: // it waits for that one
			t.window.unsent(e)
		default:
			t.failed(e, f.Err, now)
		}
	}
}

// nothingSent sorts out a send that failed as a whole: the broker is away, or
// one of the messages spoils it for the others. It returns the failure of a
// message that was sent alone.
func (t *term[Tx]) nothingSent(sent []*entry, err error) *driver.SendError {
	refused := isRefusal(t.conn.Classify(err))
	if refused && len(sent) == 1 {
		se := &driver.SendError{}
		se.Fail(0, err, false)
		return se
	}
	for _, e := range sent {
		t.window.unsent(e)
	}
	if refused {
		t.limit = max(1, len(sent)/2) // smaller batches, down to the one that is at fault
		return nil
	}
	if t.send.Err() != nil {
		return nil // we ended it
	}
	now := time.Now()
	if t.outages == 0 {
		t.awaySince = now
	}
	t.away = now.Add(pace(t.outages, 20*time.Millisecond, mostAway))
	t.outages++
	if now.Sub(t.awaySince) > max(handOver, 3*t.opts.Lease) && !t.ending() {
		err = fmt.Errorf("%w; %w", err, errHandOver)
		t.stop(errHandOver)
	}
	t.b.warnings.report("send to the broker", err)
	t.checkBroker()
	return nil
}

// handOver is after what time, at least, a relay that does not reach the broker
// leaves the outbox to another instance, which may.
const handOver = 30 * time.Second

// available says that the broker is there.
func (t *term[Tx]) available() {
	if t.outages > 0 || !t.answered { // or an earlier term has said so
		t.outages, t.answered = 0, true
		t.b.warnings.over("send to the broker")
	}
}

// isRefusal reports whether an error is the broker's answer rather than its
// absence.
func isRefusal(k driver.Kind) bool {
	switch k {
	case driver.TooLarge, driver.Unsupported, driver.NotFound, driver.Denied, driver.Conflict:
		return true
	}
	return false
}

// published takes note of entries that the broker has confirmed.
func (t *term[Tx]) published(sent []*entry) {
	if len(sent) == 0 {
		return
	}
	crash.RelayConfirmed.Pass()
	t.b.published.Add(int64(len(sent)))
	t.b.rate.add(time.Now(), len(sent))
	c := &t.channels
	c.mu.Lock()
	c.total += int64(len(sent))
	for _, e := range sent {
		ch := c.of(e.Message.Channel)
		ch.published++
		if ch.troubled {
			ch.troubled = false
			t.b.warnings.over("publish to channel " + e.Message.Channel)
		}
	}
	c.mu.Unlock()
	for _, e := range sent {
		e.lane.attempts, e.lane.failure = 0, failure{}
		t.window.finish(e)
	}
}

// failed decides whether a message that was not confirmed is sent again, its
// lane waiting meanwhile, or its lane is held.
func (t *term[Tx]) failed(e *entry, err error, now time.Time) {
	t.window.unsent(e)
	l := e.lane
	c := &t.channels
	c.mu.Lock()
	ch := c.of(e.Message.Channel)
	if l.attempts == 0 {
		l.failure = failure{first: now, others: c.total, othersChannel: ch.published}
	}
	l.attempts++
	l.err, l.kind = err, t.conn.Classify(err)
	l.retry = now.Add(pace(l.attempts-1, 20*time.Millisecond, time.Second))
	others := c.total > l.others
	alone := ch.published > l.othersChannel // others of its channel succeed
	c.mu.Unlock()
	if l.kind == driver.NotFound {
		t.lostTopology(now)
	}
	switch l.kind {
	case driver.TooLarge, driver.Unsupported:
		t.holdLane(l, now)
		return
	case driver.NotFound, driver.Denied, driver.Conflict:
		if !others { // nobody knows whether it is the channel or the broker
			t.channelTrouble(e.Message.Channel, err)
			return
		}
	default:
		if !others && l.attempts >= 3 {
			t.channelTrouble(e.Message.Channel, err)
		}
		if !others || l.attempts < 3 || now.Sub(l.first) < t.opts.HoldAfter {
			return
		}
	}
	if !alone {
		t.channelDown(e.Message.Channel, err)
	}
	t.holdLane(l, now)
}

// lostTopology provisions the channels again, at most once a second: a broker
// that does not know them may have lost them.
func (t *term[Tx]) lostTopology(now time.Time) {
	last := t.provisioned.Load()
	if now.UnixNano()-last < int64(time.Second) || !t.provisioned.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	if err := t.b.svc.Provision(t.send); err != nil && t.send.Err() == nil {
		t.b.warnings.report("provision", err)
	}
}

// channelTrouble says that nothing goes to a channel, until something does.
func (t *term[Tx]) channelTrouble(name string, err error) {
	c := &t.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(name).troubled = true
	t.b.warnings.report("publish to channel "+name, err)
}

// channelDown has new messages of a channel held without being tried.
func (t *term[Tx]) channelDown(name string, err error) {
	c := &t.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.of(name)
	if !ch.down {
		ch.down, ch.attempts = true, 0
		ch.retry = time.Now().Add(backoff.Jitter(time.Second))
		ch.err = store.ErrorText(err)
		t.b.warnings.report("publish to channel "+name, err)
	}
}

// stuck decides what to do when the window is full of lanes that wait for their
// next attempt. If the broker answers they are held; if not, something else to
// send would tell, so the window grows.
func (t *term[Tx]) stuck(now time.Time) (changed bool) {
	for _, e := range t.window.entries {
		l := e.lane
		if e.done || e.sent || l.attempts < 3 || now.Sub(l.first) < t.opts.HoldAfter {
			continue
		}
		if isRefusal(l.kind) || l.kind == driver.Unclassified {
			t.holdLane(l, now)
			changed = true
		}
	}
	if !changed && t.reader.grown < 3 && t.window.bytes < 2*t.opts.BatchBytes {
		t.reader.grown++
		changed = true
	}
	return changed
}

// holdLane sets all messages of a lane aside that the window has; what is read
// later follows them.
func (t *term[Tx]) holdLane(l *lane, now time.Time) {
	lane := store.Lane{Channel: l.key.channel, Name: l.key.name, Attempts: l.attempts, Error: store.ErrorText(l.err), Retry: now.Add(backoff.Jitter(time.Second))}
	t.b.warnings.log.Warn("message set aside: the broker does not take it, while others pass", "channel", lane.Channel,
		"id", l.queue[0].Message.ID, "waiting", len(l.queue), "error", l.err)
	t.stillHeld(l.queue[0], l.err)
	t.setAsideAll(l, lane)
}

// holdUnreadable sets aside what cannot be read, once everything before it in
// its lane is published. What comes behind it waits with it.
func (t *term[Tx]) holdUnreadable(now time.Time) {
	for _, e := range t.window.entries {
		if e.done || e.Err == nil || e.lane.queue[0] != e {
			continue
		}
		lane := store.Lane{Channel: e.lane.key.channel, Name: e.lane.key.name, Attempts: 1, Error: store.ErrorText(e.Err), Retry: now.Add(backoff.Jitter(time.Second))}
		t.b.warnings.log.Error("message set aside: its row in the outbox cannot be read", "channel", lane.Channel,
			"id", e.Message.ID, "waiting", len(e.lane.queue), "error", e.Err)
		t.stillHeld(e, e.Err)
		t.setAsideAll(e.lane, lane)
	}
}

// setAsideAll has what the window has of a lane held.
func (t *term[Tx]) setAsideAll(l *lane, as store.Lane) {
	for len(l.queue) > 0 {
		t.setAside(l.queue[0], as)
	}
}

// setAside has an entry held with the next advance.
func (t *term[Tx]) setAside(e *entry, l store.Lane) {
	c := &t.channels
	c.mu.Lock()
	c.of(l.Channel).held = true
	c.pending[laneKey{l.Channel, l.Name}] = true
	c.writes++
	c.mu.Unlock()
	t.stamp()
	t.step.hold = append(t.step.hold, store.Held{Row: e.Row, Lane: l, Since: time.Now()})
	t.window.finish(e)
}

// drainHeld tries held messages again when their time has come, in order.
func (t *term[Tx]) drainHeld(ctx context.Context) {
	look := counted(&t.b.looks)
	defer look.end()
	for attempt := 0; ; {
		look.begin()
		next, err := t.drain(ctx)
		switch {
		case errors.Is(err, store.ErrFenced):
			t.stop(err)
			return
		case ctx.Err() != nil, t.send.Err() != nil:
			return
		case err != nil:
			t.b.warnings.report("publish held messages", err)
			next = time.Now().Add(pace(attempt, 100*time.Millisecond, mostAway))
			attempt++
		default:
			attempt = 0
			look.end()
			t.b.warnings.over("publish held messages")
		}
		if !t.awaitDrain(ctx, next) {
			return
		}
	}
}

func (t *term[Tx]) wakeDrain() {
	select {
	case t.drainNow <- struct{}{}:
	default:
	}
}

// awaitDrain waits until next, or, where that is zero, until something is held.
func (t *term[Tx]) awaitDrain(ctx context.Context, next time.Time) bool {
	var timer <-chan time.Time
	if !next.IsZero() {
		tm := time.NewTimer(time.Until(next))
		defer tm.Stop()
		timer = tm.C
	}
	select {
	case <-t.drainNow:
	case <-timer:
	case <-t.stopping:
		return false // what is held stays for the next start
	case <-ctx.Done():
		return false
	}
	return true
}
