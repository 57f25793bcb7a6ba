package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Conn is a connection to a NATS server or cluster. It is a driver.Conn, and a
// driver.Browser, Lister, Remover, Examiner and Incarnated.
type Conn struct {
	opts  Options
	nc    *nats.Conn
	js    jetstream.JetStream
	acks  *ackInbox
	chans channelCache
	told  sync.Map // warnings of settings that were logged

	denials denials

	closed atomic.Bool
	gone   chan struct{} // closed once the client underneath has ended

	mu        sync.Mutex
	link      chan struct{} // closed and replaced when the link comes or goes
	receivers map[closer]struct{}
	delayed   map[string]*delays // by stream and group
}

type closer interface{ Close(context.Context) error }

var (
	_ driver.Conn       = (*Conn)(nil)
	_ driver.Browser    = (*Conn)(nil)
	_ driver.Lister     = (*Conn)(nil)
	_ driver.Examiner   = (*Conn)(nil)
	_ driver.Remover    = (*Conn)(nil)
	_ driver.Incarnated = (*Conn)(nil)
)

// Connect connects to the server or cluster that o names. It tries once; a
// connection that was lost later comes back by itself, without end.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Conn{opts: o, gone: make(chan struct{}), link: make(chan struct{}), receivers: map[closer]struct{}{}, delayed: map[string]*delays{}}
	timeout := o.Timeout
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(d), time.Millisecond))
	}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials are rotated; giving up would need an operator
		nats.ReconnectBufSize(-1),   // what cannot be written is an error now, never sent behind the caller's back
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(o.Ping),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(o.Timeout),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.linkChanged("link lost", err) }),
		nats.ReconnectHandler(func(*nats.Conn) { c.linkChanged("link is back", nil) }),
		nats.ClosedHandler(func(*nats.Conn) { c.linkChanged("", nil); close(c.gone) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) { c.foreignError(s, err) }),
	}
	if o.User != "" {
		options = append(options, nats.UserInfo(o.User, o.Password))
	}
	if o.Token != "" {
		options = append(options, nats.Token(o.Token))
	}
	if o.Credentials != "" {
		options = append(options, nats.UserCredentials(o.Credentials))
	}
	if o.Inbox != "" {
		options = append(options, nats.CustomInboxPrefix(o.Inbox))
	}
	if o.TLS != nil {
		options = append(options, nats.Secure(o.TLS))
	}
	c.nc, err = connect(ctx, o.URL, append(options, o.Client...))
	if err != nil {
		return nil, translate("connect", err)
	}
	watch := c.watchDenials()
	if c.js, err = jetstream.New(c.nc, jetstream.WithDefaultTimeout(o.Timeout)); err == nil {
		c.acks, err = newAckInbox(c.nc)
	}
	if err == nil { // answers of our own to ourselves keep the order of others'
		if err = c.nc.Publish(c.acks.prefix+"0", nil); err == nil {
			err = watch.of(ctx, c.inbox()+".")
		}
	}
	if err != nil {
		c.nc.Close()
		<-c.gone
		return nil, translate("connect", err)
	}
	return c, nil
}

// connect is nats.Connect that ends with ctx.
func connect(ctx context.Context, url string, options []nats.Option) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := nats.Connect(url, options...)
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		go func() { // ends with the client's own time-out
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

func reconnectDelay(attempts int) time.Duration {
	return backoff.Double(attempts, 50*time.Millisecond, 2*time.Second)
}

func (c *Conn) linkChanged(what string, err error) {
	c.mu.Lock()
	close(c.link)
	c.link = make(chan struct{})
	c.mu.Unlock()
	if what == "" || c.closed.Load() {
		return
	}
	if err != nil {
		c.opts.Logger.Warn("natsbus: "+what, "error", err)
	} else {
		c.opts.Logger.Info("natsbus: "+what, "server", c.nc.ConnectedServerName())
	}
}

// epoch counts the links: another number is another link. It is read from the
// client, whose notices come later than what arrives on a new link.
func (c *Conn) epoch() uint64 { return c.nc.Stats().Reconnects }

// A linkWatch tells whether the link was lost since the watch began.
type linkWatch struct {
	c     *Conn
	epoch uint64
	event <-chan struct{} // look again when it is closed
	since time.Time
}

func (c *Conn) watchLink() linkWatch { return linkWatch{c, c.epoch(), c.linkEvent(), time.Now()} }

// ended is asked after an event: it returns why no answer comes any more from
// what was published to subjects with these prefixes, if so.
func (w *linkWatch) ended(doing string, subjects ...string) error {
	if w.lost() {
		return errLinkLost(doing)
	}
	if err := w.c.denials.since(w.since, subjects...); err != nil {
		return fmt.Errorf("natsbus: %s: %w", doing, err)
	}
	return nil
}

// lost is asked after an event, which may be a late notice of what was before.
func (w *linkWatch) lost() bool {
	w.event = w.c.linkEvent()
	return !w.c.nc.IsConnected() || w.c.epoch() != w.epoch
}

func errLinkLost(doing string) error {
	return fmt.Errorf("natsbus: %s: %w: the link was lost before the server answered", doing, driver.ErrRetryable)
}

// linkEvent returns what is closed when the link next comes or goes.
func (c *Conn) linkEvent() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

func (c *Conn) foreignError(s *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) || errors.Is(err, nats.ErrBadHeaderMsg) {
		return // the receiver reports it
	}
	if c.denials.note(err) {
		c.linkChanged("", nil) // those who wait look
	}
	subject := ""
	if s != nil {
		subject = s.Subject
	}
	c.opts.Logger.Warn("natsbus: server error outside any call", "error", err, "subject", subject)
}

// As sets *target to the client underneath, a *nats.Conn, or to its
// jetstream.JetStream, and reports whether target points at one of them. What
// the caller does with it may break promises of ours.
func (c *Conn) As(target any) bool {
	switch t := target.(type) {
	case **nats.Conn:
		*t = c.nc
	case *jetstream.JetStream:
		*t = c.js
	default:
		return false
	}
	return true
}

// Capabilities says what this transport can do.
func (c *Conn) Capabilities() driver.Capabilities {
	order, owners := driver.OrderInstance, c.serverAtLeast(2, 11)
	if c.opts.Partitions > 0 && owners {
		order = driver.OrderOwner
	}
	return driver.Capabilities{
		Name:            "natsbus",
		Durable:         true,
		Shared:          true,
		Order:           order,
		PartitionOwners: owners,
		OrderedBatch:    c.serverAtLeast(2, 14), // else a batch of one key goes message by message
		RetryAfter:      true,
		CountsAttempts:  true,
		Broadcast:       true,
		PublishRetained: true,
		Lease:           c.opts.AckWait,
		MaxBatch:        maxBatch,
		MaxBytes:        int(c.nc.MaxPayload()),
	}
}

// Classify says what kind of error err is.
func (c *Conn) Classify(err error) driver.Kind {
	if k := driver.Classify(err); k != driver.Unclassified {
		return k
	}
	if meaning := meaningOf(err); meaning != nil {
		return driver.Classify(meaning)
	}
	return driver.Unclassified
}

// Close closes the receivers, hands their acknowledgements to the server, and
// ends the connection.
func (c *Conn) Close(ctx context.Context) error {
	if c.closed.Swap(true) {
		select {
		case <-c.gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	open := make([]closer, 0, len(c.receivers))
	for r := range c.receivers {
		open = append(open, r)
	}
	c.mu.Unlock()
	var errs []error
	for _, r := range open {
		errs = append(errs, r.Close(ctx))
	}
	if c.nc.IsConnected() && ctx.Err() == nil {
		errs = append(errs, c.flush(ctx))
	}
	c.nc.Close()
	<-c.gone
	return errors.Join(errs...)
}

// ready returns why no call can be made now, if so.
func (c *Conn) ready() error {
	if c.closed.Load() {
		return fmt.Errorf("natsbus: connection %w", driver.ErrClosed)
	}
	if !c.nc.IsConnected() {
		return fmt.Errorf("natsbus: %w: not connected to %s; it is being retried", driver.ErrRetryable, c.opts.servers())
	}
	return nil
}

// flush waits until the server has read all that was written.
func (c *Conn) flush(ctx context.Context) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	err := c.nc.FlushWithContext(ctx)
	if errors.Is(err, nats.ErrConnectionClosed) && !c.nc.IsClosed() {
		err = nats.ErrDisconnected // the link broke during the flush: the client has one error for both
	}
	return translate("flush", err)
}

func (c *Conn) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.opts.Timeout)
}

func (c *Conn) enter(r closer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return fmt.Errorf("natsbus: connection %w", driver.ErrClosed)
	}
	c.receivers[r] = struct{}{}
	return nil
}

func (c *Conn) leave(r closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.receivers, r)
}
