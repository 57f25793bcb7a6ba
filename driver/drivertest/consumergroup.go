package drivertest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// A ConsumerGroup is several instances of a group that handle messages as the core does,
// and a sender that sends until each message is confirmed. It keeps account of
// both: [ConsumerGroup.Check] fails the test when a message was lost, invented or changed,
// or when the first copies of a key did not come in order. Faults uses it, and
// tests of what only one transport has may. Its methods are safe for
// concurrent use.
type ConsumerGroup struct {
	// Patience bounds every wait; 2 minutes unless it is set.
	Patience time.Duration

	// Each is what handling one batch takes.
	Each time.Duration

	t         testing.TB
	s         driver.Subscription
	resume    bool // of a broadcast: the group is there already
	unordered bool
	recorder  *recorder

	// Of the sender, under the recorder's lock.
	failed  int  // Sends
	unknown int  // messages that were sent again and may have been there
	hurried bool // it does not wait for what it sent to be handled
}

// NewConsumerGroup returns a group for a subscription that exists.
func NewConsumerGroup(t testing.TB, s driver.Subscription) *ConsumerGroup {
	return &ConsumerGroup{Patience: 2 * time.Minute, t: t, s: s, recorder: newRecorder()}
}

// Numbered returns the messages from up to but without to of an endless row for
// a channel. Each of so many keys, whose names begin with prefix, is numbered
// from 0.
func Numbered(channel, prefix string, from, to, keys int) []*driver.Message {
	ms := make([]*driver.Message, 0, to-from)
	for i := from; i < to; i++ {
		ms = append(ms, numbered(channel, prefix+strconv.Itoa(i%keys), i/keys))
	}
	return ms
}

// Join has an instance work until leave is called or the test ends: it finishes
// the batch in hand and gives the rest back.
func (c *ConsumerGroup) Join(conn driver.Conn, instance string) (leave func()) {
	return c.join(conn, instance, c.t.Errorf)
}

// join is Join that says to whom the instance reports what should not be.
func (c *ConsumerGroup) join(conn driver.Conn, instance string, fail func(format string, args ...any)) (leave func()) {
	s := c.s
	s.Instance, s.Resume = instance, c.resume
	h := &member{conn: conn, s: s, each: c.Each, fail: fail,
		note: func(ds ...*driver.Delivery) { c.Note(instance, ds...) }}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.work(ctx) })
	leave = sync.OnceFunc(func() { cancel(); wg.Wait() })
	c.t.Cleanup(leave)
	return leave
}

// Sent keeps account of what the test itself sent.
func (c *ConsumerGroup) Sent(ms ...*driver.Message) { c.recorder.send(ms) }

// Note keeps account of what the test itself handles.
func (c *ConsumerGroup) Note(instance string, ds ...*driver.Delivery) {
	c.recorder.note(instance, c.s.Group, ds...)
}

// Send sends messages until each is confirmed: what was not goes again, in order
// and under the same id. A failure that does not pass is returned.
func (c *ConsumerGroup) Send(ctx context.Context, conn driver.Conn, ms []*driver.Message) error {
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	c.recorder.send(ms)
	for {
		err := conn.Send(ctx, ms)
		if err == nil {
			return nil
		}
		if k := conn.Classify(err); k != driver.Retryable && k != driver.Unclassified {
			return fmt.Errorf("a send is %q, want it retryable: %w", k, err)
		}
		unknown := 0
		var se *driver.SendError
		if errors.As(err, &se) {
			if err := overtaken(ms, se, conn.Capabilities()); err != nil {
				return err
			}
			left := make([]*driver.Message, len(se.Failures))
			for i, f := range se.Failures {
				if left[i] = ms[f.Index]; f.Unknown {
					unknown++
				}
			}
			ms = left
		}
		c.recorder.mu.Lock()
		c.failed++
		c.unknown += unknown
		c.recorder.tell()
		c.recorder.mu.Unlock()
		if !backoff.Sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%d messages are not confirmed after %v: %w", len(ms), c.Patience, err)
		}
	}
}

// overtaken is an error if something was confirmed behind a message of its key
// that was refused or, in a pipeline that keeps its order, failed in any way.
func overtaken(ms []*driver.Message, se *driver.SendError, caps driver.Capabilities) error {
	if !caps.OrderedBatch && !caps.OrderedPipeline {
		return nil
	}
	failed := map[string]int{}
	failures := se.Failures
	for i, m := range ms {
		if len(failures) == 0 || failures[0].Index != i {
			if at, ok := failed[m.Channel+"|"+m.Key]; ok && m.Key != "" {
				return fmt.Errorf("message %d of a batch was confirmed, and message %d of its key was not: %w", i, at, se)
			}
			continue
		}
		if !failures[0].Unknown || caps.OrderedPipeline {
			failed[m.Channel+"|"+m.Key] = i
		}
		failures = failures[1:]
	}
	return nil
}

// Failed returns how many Sends have failed so far.
func (c *ConsumerGroup) Failed() int {
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	return c.failed
}

// hurry has the sender wait for nobody, or wait again.
func (c *ConsumerGroup) hurry(yes bool) {
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	c.hurried = yes
	c.recorder.tell()
}

// reach waits for a condition on the recorder, as long as ctx and patience last.
func (c *ConsumerGroup) reach(ctx context.Context, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	for {
		c.recorder.mu.Lock()
		ok, changed := done(), c.recorder.changed
		c.recorder.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// until is reach for the test's own goroutine.
func (c *ConsumerGroup) until(what string, done func() bool) {
	c.t.Helper()
	if c.reach(context.Background(), done) != nil {
		c.recorder.mu.Lock()
		defer c.recorder.mu.Unlock()
		c.t.Fatalf("waited %v in vain for %s; %d messages were sent, %d handled, the partitions were last with %v",
			c.Patience, what, len(c.recorder.sent), len(c.recorder.count), c.recorder.owner)
	}
}

// more waits until so many more messages were handled.
func (c *ConsumerGroup) more(n int) {
	c.t.Helper()
	have, _ := c.recorder.unique()
	c.until(fmt.Sprintf("%d more messages", n), func() bool { return len(c.recorder.count) >= have+n })
}

// owns is, for until, how many partitions an instance had last.
func (c *ConsumerGroup) owns(instance string) (n int) {
	for _, owner := range c.recorder.owner {
		if owner == instance {
			n++
		}
	}
	return n
}

// Check waits until everything that was sent was handled, and fails the test for
// each thing that is wrong with what was.
func (c *ConsumerGroup) Check() {
	c.t.Helper()
	if c.reach(context.Background(), func() bool { return len(c.recorder.count) >= len(c.recorder.sent) }) != nil {
		c.t.Errorf("waited %v in vain for all messages", c.Patience)
	}
	for _, wrong := range c.recorder.faults(c.s.Group, !c.unordered) {
		c.t.Error(wrong)
	}
	l := c.recorder
	l.mu.Lock()
	defer l.mu.Unlock()
	c.t.Logf("%d messages, %d came again, %d changes of owner, %d sends failed, %d messages with an unknown outcome",
		len(l.sent), l.dupes, l.changes, c.failed, c.unknown)
}

// checkMarked fails the test when more copies claimed to be the first attempt
// than the sender may have made.
func (c *ConsumerGroup) checkMarked() {
	c.t.Helper()
	l := c.recorder
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unmark > c.unknown {
		c.t.Errorf("%d copies claim to be the first attempt, and %d messages were sent again with an unknown outcome", l.unmark, c.unknown)
	}
}
