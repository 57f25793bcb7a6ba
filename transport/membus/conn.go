package membus

import (
	"context"
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A Conn is a connection to a [Bus]. Besides driver.Conn it implements
// driver.Browser, driver.Lister and driver.Remover; its receivers implement
// driver.Backlogger.
type Conn struct {
	bus  *Bus
	done chan struct{}

	mu        sync.Mutex
	closed    bool
	receivers map[*receiver]struct{}
}

var (
	_ driver.Conn       = (*Conn)(nil)
	_ driver.Browser    = (*Conn)(nil)
	_ driver.Lister     = (*Conn)(nil)
	_ driver.Remover    = (*Conn)(nil)
	_ driver.Receiver   = (*receiver)(nil)
	_ driver.Backlogger = (*receiver)(nil)
)

// Capabilities implements driver.Conn.
func (c *Conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "membus", Order: driver.OrderOwner, OrderedPipeline: true, Delay: true, RetryAfter: true, CountsAttempts: true,
		Broadcast: true, PublishRetained: true, MaxBytes: c.bus.opts.MessageBytes,
	}
}

// Classify implements driver.Conn.
func (c *Conn) Classify(err error) driver.Kind { return driver.Classify(err) }

// usable returns an error unless c is open and ctx has not ended.
func (c *Conn) usable(ctx context.Context, doing string) error {
	select {
	case <-c.done:
		return fmt.Errorf("membus: %s: connection: %w", doing, driver.ErrClosed)
	default:
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("membus: %s: %w", doing, err)
	}
	return nil
}

// Provision implements driver.Conn. A second group on a point-to-point channel
// is driver.ErrConflict.
func (c *Conn) Provision(ctx context.Context, channels []driver.Channel, subscriptions []driver.Subscription) error {
	if err := c.usable(ctx, "provision"); err != nil {
		return err
	}
	return c.bus.provision(channels, subscriptions)
}

// OpenReceiver implements driver.Conn.
func (c *Conn) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := c.usable(ctx, "open receiver"); err != nil {
		return nil, err
	}
	if s.Window < 1 {
		return nil, fmt.Errorf("membus: open receiver of %s: Subscription.Window is %d: want at least 1", s.Channel.Name, s.Window)
	}
	ch := c.bus.lookup(s.Channel.Name)
	if ch == nil {
		return nil, fmt.Errorf("membus: open receiver: %w", notProvisioned(s.Channel.Name))
	}
	r := &receiver{conn: c, ch: ch, window: s.Window, bytes: s.WindowBytes, wake: make(chan struct{}, 1), done: make(chan struct{})}
	r.hands.prev, r.hands.next = &r.hands, &r.hands
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("membus: open receiver: connection: %w", driver.ErrClosed)
	}
	if err := r.attach(s); err != nil {
		return nil, err
	}
	c.receivers[r] = struct{}{}
	return r, nil
}

// attach joins the receiver to its group, which for a broadcast is its own.
func (r *receiver) attach(s driver.Subscription) error {
	ch := r.ch
	ch.mu.Lock()
	defer ch.mu.Unlock()
	switch {
	case ch.gone:
		return fmt.Errorf("membus: open receiver: %w", notProvisioned(ch.spec.Name))
	case s.Broadcast && ch.spec.Kind == driver.PointToPoint:
		return fmt.Errorf("membus: channel %s is point-to-point and cannot be broadcast: %w; make it publish-subscribe", ch.spec.Name, driver.ErrConflict)
	case s.Broadcast:
		if err := r.attachBroadcast(s); err != nil {
			return err
		}
	default:
		if r.g = ch.group(s.Group); r.g == nil || s.Group == "" {
			return fmt.Errorf("membus: group %q of channel %s: %w", s.Group, ch.spec.Name, driver.ErrNotFound)
		}
	}
	r.g.join(r)
	return nil
}

// attachBroadcast finds the group of an instance that goes on, or makes a new
// one in place of what there is. ch.mu is held.
func (r *receiver) attachBroadcast(s driver.Subscription) error {
	ch, old := r.ch, r.ch.group(s.GroupName())
	switch {
	case old == nil && s.Resume:
		return fmt.Errorf("membus: group %s of channel %s: %w: open it without Resume to go on from now", s.GroupName(), ch.spec.Name, driver.ErrPositionLost)
	case old != nil && len(old.receivers) > 0:
		return fmt.Errorf("membus: group %s of channel %s has an open receiver: %w; close that first", s.GroupName(), ch.spec.Name, driver.ErrConflict)
	case s.Resume:
		old.owner = r.conn
		r.g = old
		return nil
	case old != nil:
		ch.removeGroup(old)
	}
	r.g = newGroup(ch, s.GroupName())
	r.g.owner = r.conn
	ch.groups = append(ch.groups, r.g)
	return nil
}

// Close implements driver.Conn. It removes the broadcast groups of the
// connection's instances, for nobody else can go on with them. It closes the connection's receivers; senders
// that wait for room get driver.ErrClosed.
func (c *Conn) Close(context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	receivers := c.receivers
	c.receivers = nil
	c.mu.Unlock()
	close(c.done)
	for r := range receivers {
		r.close()
	}
	c.bus.removeGroupsOf(c)
	c.bus.release()
	return nil
}
