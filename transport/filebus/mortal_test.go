package filebus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// An engine is a directory and the connections to it. Restarting it kills them
// all, as the death of their processes would, and opens new ones beneath those
// who hold them.
type engine struct {
	opts  Options
	mu    sync.Mutex
	conns []*mortal
}

func (e *engine) Open(ctx context.Context) (driver.Conn, error) {
	c, err := Open(ctx, e.opts)
	if err != nil {
		return nil, err
	}
	m := &mortal{engine: e, inner: c}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns = append(e.conns, m)
	return m, nil
}

func (e *engine) Restart(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, m := range e.conns {
		m.mu.Lock()
		if !m.closed {
			errs = append(errs, m.inner.crash())
		}
	}
	for _, m := range e.conns {
		if !m.closed {
			c, err := Open(ctx, e.opts)
			errs = append(errs, err)
			m.inner = c
		}
		m.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Trim deletes what a channel holds, as by hand.
func (e *engine) Trim(ctx context.Context, channel string) error {
	c, err := Open(ctx, e.opts)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	ch, err := c.channel(ctx, channel)
	if err != nil {
		return err
	}
	if err := ch.log.acquire(ctx); err != nil {
		return err
	}
	defer ch.log.release()
	before, err := segments(ch.log.dir)
	if err == nil {
		err = ch.log.roll(ch.log.mark.next, ch.log.mark.counts)
	}
	for _, base := range before {
		err = errors.Join(err, os.Remove(segmentPath(ch.log.dir, base)))
	}
	return err
}

// inject sends what package dovetail would not.
func (e *engine) inject(ctx context.Context, m *driver.Message) error {
	c, err := Open(ctx, e.opts)
	if err != nil {
		return err
	}
	return errors.Join(c.Send(ctx, []*driver.Message{m}), c.Close(ctx))
}

// mortal is a connection that comes back after a restart, as one over a network
// would.
type mortal struct {
	*engine
	mu     sync.Mutex
	inner  *Conn
	closed bool
}

func (m *mortal) conn() *Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inner
}

// away turns the end of a process into the loss of a link.
func (m *mortal) away(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, driver.ErrClosed) && !m.closed {
		return fmt.Errorf("the process was restarted: %w", driver.ErrRetryable)
	}
	return err
}

func (m *mortal) Capabilities() driver.Capabilities { return m.conn().Capabilities() }
func (m *mortal) Classify(err error) driver.Kind    { return m.conn().Classify(err) }
func (m *mortal) Provision(ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
	return m.away(m.conn().Provision(ctx, chs, subs))
}
func (m *mortal) Send(ctx context.Context, ms []*driver.Message) error {
	return m.away(m.conn().Send(ctx, ms))
}
func (m *mortal) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.inner.Close(ctx)
}
func (m *mortal) crash() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.inner.crash()
}
func (m *mortal) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	return m.conn().Channels(ctx)
}
func (m *mortal) RemoveChannel(ctx context.Context, ch string) error {
	return m.conn().RemoveChannel(ctx, ch)
}
func (m *mortal) RemoveGroup(ctx context.Context, ch, g string) error {
	return m.conn().RemoveGroup(ctx, ch, g)
}
func (m *mortal) Browse(ctx context.Context, ch, after string, max int) ([]driver.StoredMessage, error) {
	return m.conn().Browse(ctx, ch, after, max)
}
func (m *mortal) Remove(ctx context.Context, ch string, positions []string) error {
	return m.conn().Remove(ctx, ch, positions)
}

func (m *mortal) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r := &mortalReceiver{m: m, s: s}
	return r, r.reopen(ctx)
}

// mortalReceiver opens its receiver again after a restart.
type mortalReceiver struct {
	m *mortal
	s driver.Subscription

	mu     sync.Mutex
	inner  *receiver
	of     *Conn
	closed bool
}

func (r *mortalReceiver) reopen(ctx context.Context) error {
	c := r.m.conn()
	in, err := c.OpenReceiver(ctx, r.s)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inner, r.of = in.(*receiver), c
	return nil
}

func (r *mortalReceiver) now() *receiver {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inner
}

func (r *mortalReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	ds, err := r.now().Receive(ctx, max)
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if err == nil || closed {
		return ds, err
	}
	if err = r.m.away(err); errors.Is(err, driver.ErrRetryable) {
		if err := r.reopen(ctx); err != nil {
			return nil, r.m.away(err)
		}
	}
	return nil, err
}

func (r *mortalReceiver) Settle(ctx context.Context, ss []driver.Settlement) error {
	err := r.now().Settle(ctx, ss)
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return err
	}
	return r.m.away(err)
}
func (r *mortalReceiver) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	return r.now().Close(ctx)
}
func (r *mortalReceiver) Backlog(ctx context.Context) (int64, error) { return r.now().Backlog(ctx) }
func (r *mortalReceiver) Revoked() <-chan []int                      { return r.now().Revoked() }
func (r *mortalReceiver) Release(ctx context.Context, parts []int) error {
	return r.now().Release(ctx, parts)
}
