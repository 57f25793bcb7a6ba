package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Conn is a pair of connections to a RabbitMQ server or cluster, one for
// publishing and one for everything else, and more where receivers need more
// channels than one connection has. It is a driver.Conn, and a driver.Browser,
// Lister, Remover and Examiner.
type Conn struct {
	opts  Options
	delay bool // the server can
	pub   *link
	sub   *link
	chans channelCache

	linking sync.Mutex // held while a link is looked for or opened

	mu        sync.Mutex
	links     []*link // on which receivers are: sub, and what was opened beside it
	closed    bool
	receivers map[*receiver]struct{}
	delays    delays
	sizes     sync.Map // queues of a group → *sizes
	groups    sync.Map // channel → *nameSet of the queues of groups that were provisioned here
	sends     sync.WaitGroup
	blind     sync.Once // the warning that policies cannot be looked at
}

var (
	_ driver.Conn     = (*Conn)(nil)
	_ driver.Browser  = (*Conn)(nil)
	_ driver.Lister   = (*Conn)(nil)
	_ driver.Examiner = (*Conn)(nil)
	_ driver.Remover  = (*Conn)(nil)
)

// Connect connects to the server or cluster that o names. It tries each server
// once; a connection that was lost later comes back by itself, without end.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Conn{opts: o, receivers: map[*receiver]struct{}{}}
	if c.sub, err = openLink(ctx, &c.opts, "receive"); err != nil {
		return nil, translate("connect", err)
	}
	c.links = []*link{c.sub}
	if c.pub, err = openLink(ctx, &c.opts, "publish"); err != nil {
		return nil, errors.Join(translate("connect", err), c.sub.close(ctx))
	}
	if s, err := c.sub.session(); err == nil {
		major, minor := s.serverVersion()
		c.delay = major > 3 || major == 3 && minor >= 10
	}
	return c, nil
}

// As sets *target to the present *amqp.Connection underneath, the one for
// everything but publishing, and reports whether target points at one and there
// is one. After the link was lost it is another.
func (c *Conn) As(target any) bool {
	t, ok := target.(**amqp.Connection)
	if !ok {
		return false
	}
	s, err := c.sub.session()
	if err == nil {
		*t = s.conn
	}
	return err == nil
}

// Capabilities says what this transport can do.
func (c *Conn) Capabilities() driver.Capabilities {
	caps := driver.Capabilities{
		Name:            "rabbitbus",
		Durable:         true,
		Shared:          true,
		Order:           driver.OrderInstance,
		PartitionOwners: true,
		CountsAttempts:  !c.opts.Classic,
		Broadcast:       true,
		PublishRetained: true,
		Delay:           c.delay,
		MaxBytes:        c.opts.MaxBytes,
		AckTimeout:      c.opts.AckTimeout,
	}
	if c.opts.Partitions > 0 {
		caps.Order = driver.OrderOwner
	}
	return caps
}

// enter notes a receiver, for Close.
func (c *Conn) enter(r *receiver) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("rabbitbus: connection %w", driver.ErrClosed)
	}
	c.receivers[r] = struct{}{}
	return nil
}

func (c *Conn) leave(r *receiver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.receivers, r)
	r.link.used -= r.channels()
}

// spareChannels are kept on each link for calls and members.
const spareChannels = 47

// linkFor returns a link that has n channels to spare, and takes them.
func (c *Conn) linkFor(ctx context.Context, n int) (*link, error) {
	c.linking.Lock()
	defer c.linking.Unlock()
	c.mu.Lock()
	for _, l := range c.links {
		if l.used == 0 || l.used+n <= int(l.channels.Load())-spareChannels {
			l.used += n
			c.mu.Unlock()
			return l, nil
		}
	}
	role := fmt.Sprintf("receive %d", len(c.links)+1)
	c.mu.Unlock()
	l, err := openLink(ctx, &c.opts, role)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		l.used = n
		c.links = append(c.links, l)
	}
	c.mu.Unlock()
	if closed {
		return nil, errors.Join(fmt.Errorf("rabbitbus: connection %w", driver.ErrClosed), l.close(ctx))
	}
	return l, nil
}

// Close closes the receivers, which gives what is unsettled back, lets sends
// that have begun end for as long as ctx and the options' time-out allow, and
// ends the connection.
func (c *Conn) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	open := make([]*receiver, 0, len(c.receivers))
	for r := range c.receivers {
		open = append(open, r)
	}
	c.mu.Unlock()
	var errs []error
	if ctx.Err() == nil {
		for _, r := range open {
			errs = append(errs, r.Close(ctx))
		}
		c.awaitSends(ctx)
	}
	errs = append(errs, c.pub.close(ctx))
	c.mu.Lock()
	links := c.links
	c.mu.Unlock()
	for _, l := range links {
		errs = append(errs, l.close(ctx))
	}
	for _, r := range open {
		_ = r.Close(ctx) // those that ctx left open
	}
	return translate("close", errors.Join(errs...))
}

// awaitSends waits for sends that are under way, which have deadlines.
func (c *Conn) awaitSends(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	done := make(chan struct{})
	go func() { c.sends.Wait(); close(done) }() // ends when the link does, at the latest
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// begin notes a Send that is under way.
func (c *Conn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("rabbitbus: connection %w", driver.ErrClosed)
	}
	c.sends.Add(1)
	return nil
}
