package tinybus

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// A Conn is a connection to a Bus.
type Conn struct {
	bus       *Bus
	closed    bool // guarded by bus.mu
	receivers []*receiver
}

// Connect opens a connection.
func (b *Bus) Connect() *Conn { return &Conn{bus: b} }

// Capabilities implements driver.Conn.
func (c *Conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{Name: "tinybus", PublishRetained: true}
}

// Provision implements driver.Conn.
func (c *Conn) Provision(ctx context.Context, channels []driver.Channel, subscriptions []driver.Subscription) error {
	unlock, err := c.begin(ctx, "provision")
	if err != nil {
		return err
	}
	defer unlock()
	for _, spec := range channels {
		if _, err := c.bus.provision(spec); err != nil {
			return err
		}
	}
	for _, s := range subscriptions {
		if err := c.refuse(s); err != nil {
			return err
		}
		ch, err := c.bus.provision(s.Channel)
		if err != nil {
			return err
		}
		if err := ch.subscribe(s.Group); err != nil {
			return err
		}
	}
	return nil
}

// refuse says no to what the capabilities do not promise.
func (c *Conn) refuse(s driver.Subscription) error {
	if s.Ordered || s.Broadcast {
		return fmt.Errorf("subscribe %s to %s: tinybus has neither order nor broadcast: %w", s.Group, s.Channel.Name, driver.ErrUnsupported)
	}
	return nil
}

// Send implements driver.Conn.
func (c *Conn) Send(ctx context.Context, messages []*driver.Message) error {
	unlock, err := c.begin(ctx, "send")
	if err != nil {
		return err
	}
	defer unlock()
	failed := &driver.SendError{}
	for i, m := range messages {
		if err := c.bus.send(m); err != nil {
			failed.Fail(i, err, false)
		}
	}
	return failed.OrNil()
}

// OpenReceiver implements driver.Conn.
func (c *Conn) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	unlock, err := c.begin(ctx, "open receiver")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.refuse(s); err != nil {
		return nil, err
	}
	ch := c.bus.channels[s.Channel.Name]
	if ch == nil || ch.groups[s.Group] == nil {
		return nil, fmt.Errorf("open receiver of %s for %s: %w", s.Channel.Name, s.Group, driver.ErrNotFound)
	}
	r := &receiver{bus: c.bus, group: ch.groups[s.Group], window: s.Window, bytes: s.WindowBytes, hands: map[*driver.Delivery]item{}, done: make(chan struct{})}
	c.receivers = append(c.receivers, r)
	return r, nil
}

// Classify implements driver.Conn.
func (c *Conn) Classify(err error) driver.Kind { return driver.Classify(err) }

// Close implements driver.Conn.
func (c *Conn) Close(context.Context) error {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	c.closed = true
	for _, r := range c.receivers {
		r.close()
	}
	c.receivers = nil
	return nil
}

// begin locks the bus for an operation, if it may begin.
func (c *Conn) begin(ctx context.Context, doing string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	c.bus.mu.Lock()
	if c.closed {
		c.bus.mu.Unlock()
		return nil, fmt.Errorf("%s: connection: %w", doing, driver.ErrClosed)
	}
	return c.bus.mu.Unlock, nil
}
