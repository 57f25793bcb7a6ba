package natsbus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// transientBound is how many messages of a transient channel wait for a slow
// receiver, beyond its window; more are dropped and reported.
const transientBound = 4096

// A transientReceiver listens to a channel that is not kept, on a plain
// subscription of NATS: in the group's queue, or for itself for a broadcast, and
// for replies. A server that does not notice that a client lost its link keeps it
// in the queue for minutes, and half of the replies would be sent there.
type transientReceiver struct {
	c   *Conn
	s   driver.Subscription
	in  chan *nats.Msg
	sub *nats.Subscription

	closing   chan struct{}
	end       sync.Once
	receiving sync.Mutex
	freed     chan struct{} // capacity 1: a settlement made room

	mu      sync.Mutex
	held    int
	again   []retried // by due time
	dropped int       // reported so far
}

type retried struct {
	due time.Time
	m   *nats.Msg
	n   int // attempts so far
}

type transientReceipt struct {
	r    *transientReceiver
	m    *nats.Msg
	n    int
	done bool
}

// A transientSlot is what a delivery takes in memory.
type transientSlot struct {
	d driver.Delivery
	m driver.Message
	r transientReceipt
}

func (c *Conn) openTransient(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	doing := "receive from " + s.Channel.Name + " as " + s.Group
	r := &transientReceiver{c: c, s: s, in: make(chan *nats.Msg, s.Window+transientBound), closing: make(chan struct{}), freed: make(chan struct{}, 1)}
	watch := c.watchDenials()
	var err error
	if s.Broadcast || driver.IsReply(s.Channel.Name, s.Channel.Transient) {
		r.sub, err = c.nc.ChanSubscribe(transientSubject(s.Channel.Name), r.in)
	} else {
		r.sub, err = c.nc.ChanQueueSubscribe(transientSubject(s.Channel.Name), objectName(s.Group), r.in)
	}
	if err != nil {
		return nil, translate(doing, err)
	}
	// Once the server knows of it, messages sent by anybody arrive.
	if err := watch.of(ctx, transientSubject(s.Channel.Name)); err != nil {
		_ = r.sub.Unsubscribe()
		return nil, translate(doing, err)
	}
	if err := c.enter(r); err != nil {
		_ = r.sub.Unsubscribe()
		return nil, err
	}
	return r, nil
}

// Receive waits for messages; those sent while the link is away are lost, as
// is the nature of the channel.
func (r *transientReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	r.receiving.Lock()
	defer r.receiving.Unlock()
	for {
		if err := r.open(); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, translate("receive from "+r.s.Channel.Name, err)
		}
		if n, err := r.sub.Dropped(); err == nil && n > r.dropped {
			lost := n - r.dropped
			r.dropped = n
			r.c.opts.Logger.Warn("natsbus: slow receiver of a transient channel: messages were dropped", "channel", r.s.Channel.Name, "group", r.s.Group, "dropped", lost)
			return nil, fmt.Errorf("natsbus: receive from %s: %w: %d messages were dropped because this receiver is slow: widen its window or its concurrency",
				r.s.Channel.Name, driver.ErrRetryable, lost)
		}
		ds, wait := r.take(max)
		if len(ds) > 0 {
			return ds, nil
		}
		if err := r.wait(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func (r *transientReceiver) open() error {
	select {
	case <-r.closing:
		return fmt.Errorf("natsbus: receiver of %s for %s %w", r.s.Group, r.s.Channel.Name, driver.ErrClosed)
	default:
		return r.c.ready()
	}
}

// take returns what is there, or how long until a retried message is due, 0 where
// there is none.
func (r *transientReceiver) take(max int) (ds []*driver.Delivery, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	max = min(max, r.s.Window-r.held)
	for len(ds) < max {
		if len(r.again) > 0 {
			if first := r.again[0]; !now.Before(first.due) {
				r.again = r.again[1:]
				ds = append(ds, r.deliver(first.m, first.n+1))
				continue
			}
			wait = r.again[0].due.Sub(now)
		}
		select {
		case m := <-r.in:
			if m.Header == nil || m.Header.Get(probeHeader) == "" {
				ds = append(ds, r.deliver(m, 1))
			}
			continue
		default:
		}
		break
	}
	r.held += len(ds)
	return ds, wait
}

func (r *transientReceiver) deliver(m *nats.Msg, attempt int) *driver.Delivery {
	s := &transientSlot{r: transientReceipt{r: r, m: m, n: attempt}}
	s.d = driver.Delivery{Message: &s.m, Attempt: attempt, Receipt: &s.r}
	body := m.Data
	if attempt > 1 {
		body = slices.Clone(body) // the first delivery's receiver may have written into it
	}
	s.d.Fault = decode(&s.m, r.s.Channel.Name, m.Header, body)
	return &s.d
}

// wait returns when take may have something, or with why not.
func (r *transientReceiver) wait(ctx context.Context, due time.Duration) error {
	r.mu.Lock()
	in := r.in
	if r.held >= r.s.Window {
		in = nil // until a settlement makes room
	}
	r.mu.Unlock()
	var timeout <-chan time.Time
	if due > 0 {
		timer := time.NewTimer(due)
		defer timer.Stop()
		timeout = timer.C
	}
	link := r.c.linkEvent()
	select {
	case m := <-in:
		r.mu.Lock()
		defer r.mu.Unlock()
		if m.Header == nil || m.Header.Get(probeHeader) == "" {
			r.again = slices.Insert(r.again, 0, retried{m: m}) // due at once
		}
	case <-r.freed:
	case <-timeout:
	case <-link:
	case <-r.closing:
	case <-ctx.Done():
	}
	return nil
}

// Settle takes note; only Retry means something, and to this receiver alone.
func (r *transientReceiver) Settle(_ context.Context, settlements []driver.Settlement) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range settlements {
		s := &settlements[i]
		rc, ok := s.Delivery.Receipt.(*transientReceipt)
		if !ok || rc.r != r || rc.done {
			continue
		}
		rc.done = true
		r.held--
		if s.Outcome == driver.Retry {
			again := retried{time.Now().Add(s.After), rc.m, rc.n}
			at, _ := slices.BinarySearchFunc(r.again, again, func(a, b retried) int {
				if a.due.After(b.due) {
					return 1
				}
				return -1
			})
			r.again = slices.Insert(r.again, at, again)
		}
	}
	select {
	case r.freed <- struct{}{}:
	default:
	}
	return nil
}

// Close ends the subscription. What is unsettled is lost with it.
func (r *transientReceiver) Close(context.Context) error {
	r.end.Do(func() {
		close(r.closing)
		r.receiving.Lock()
		defer r.receiving.Unlock()
		_ = r.sub.Unsubscribe()
		r.c.leave(r)
	})
	return nil
}
