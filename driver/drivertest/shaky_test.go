package drivertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/filebus"
)

// A shaky engine is files, which do not break, behind links that do: what Faults
// is tried against where no server is at hand. A link is a connection to an echo
// over which every call makes a round trip before and after its work.
type shaky struct {
	dir  string
	echo net.Listener
	send sender // of its links
	lose loser  // of its receivers; nil for one without a defect

	mu    sync.Mutex
	links map[*shakyLink]bool
}

type shakyLink struct {
	e    *shaky
	addr string // of the echo or a proxy before it; empty for a link that does not break

	mu     sync.Mutex
	inner  driver.Conn
	closed bool
}

// listenEcho answers with what it hears, until the test ends.
func listenEcho(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			wg.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l
}

func newShaky(t *testing.T, send sender) *shaky {
	l := listenEcho(t)
	return &shaky{dir: t.TempDir(), echo: l, send: send, links: map[*shakyLink]bool{}}
}

func (e *shaky) open(ctx context.Context) (driver.Conn, error) { return e.through(ctx, "") }

func (e *shaky) through(ctx context.Context, addr string) (driver.Conn, error) {
	c, err := filebus.Open(ctx, filebus.Options{Dir: e.dir, Sync: filebus.SyncOS})
	if err != nil {
		return nil, err
	}
	l := &shakyLink{e: e, addr: addr, inner: c}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.links[l] = true
	return l, nil
}

// restart takes every connection away and opens another in its place.
func (e *shaky) restart(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.links {
		l.mu.Lock()
		if !l.closed {
			_ = l.inner.Close(ctx)
			c, err := filebus.Open(ctx, filebus.Options{Dir: e.dir, Sync: filebus.SyncOS})
			if err != nil {
				l.mu.Unlock()
				return err
			}
			l.inner = c
		}
		l.mu.Unlock()
	}
	return nil
}

// pingTime is when a link that says nothing is given up.
const pingTime = 500 * time.Millisecond

// ping makes a round trip to addr, if there is one.
func ping(addr string) error {
	if addr == "" {
		return nil
	}
	c, err := net.DialTimeout("tcp", addr, pingTime)
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(pingTime))
		_, err = c.Write([]byte{1})
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		_ = c.Close()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", driver.ErrRetryable, err)
	}
	return nil
}

// away says of an error of a connection that was taken away that it passes.
func (l *shakyLink) away(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && driver.Classify(err) == driver.Closed {
		return fmt.Errorf("%w: the link was lost", driver.ErrRetryable)
	}
	return err
}

func (l *shakyLink) now() driver.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner
}

func (l *shakyLink) Capabilities() driver.Capabilities { return l.now().Capabilities() }
func (l *shakyLink) Classify(err error) driver.Kind    { return driver.Classify(err) }
func (l *shakyLink) Provision(ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
	return l.away(l.now().Provision(ctx, chs, subs))
}

func (l *shakyLink) Send(ctx context.Context, ms []*driver.Message) error {
	if err := ping(l.addr); err != nil {
		return err
	}
	err := l.away(l.e.send(l.now(), ctx, ms))
	if lost := ping(l.addr); err == nil {
		err = lost
	}
	if err == nil {
		return nil
	}
	se := &driver.SendError{}
	for i := range ms {
		se.Fail(i, err, true)
	}
	return se
}

func (l *shakyLink) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := ping(l.addr); err != nil {
		return nil, err
	}
	r, err := l.now().OpenReceiver(ctx, s)
	if err != nil {
		return nil, l.away(err)
	}
	rv := r.(driver.Revoker)
	if l.e.lose != nil {
		rv = l.e.lose(r, rv)
	}
	return &shakyReceiver{Receiver: r, Revoker: rv, l: l}, nil
}

func (l *shakyLink) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return l.now().Close(ctx)
}

// A shakyReceiver ends with its link, and gives what it has back.
type shakyReceiver struct {
	driver.Receiver
	driver.Revoker
	l *shakyLink
}

func (r *shakyReceiver) after(err error) error {
	if lost := ping(r.l.addr); lost != nil {
		return errors.Join(lost, r.Receiver.Close(context.Background()))
	}
	return r.l.away(err)
}

func (r *shakyReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	ds, err := r.Receiver.Receive(ctx, max)
	if err = r.after(err); err != nil {
		return nil, err
	}
	return ds, nil
}

func (r *shakyReceiver) Settle(ctx context.Context, ss []driver.Settlement) error {
	return r.after(r.Receiver.Settle(ctx, ss))
}

// choosy is a connection that refuses the second half of every third batch.
type choosy struct {
	driver.Conn
	sends int
}

func (c *choosy) Send(ctx context.Context, ms []*driver.Message) error {
	if c.sends++; c.sends%3 != 0 || len(ms) < 2 {
		return c.Conn.Send(ctx, ms)
	}
	se := &driver.SendError{}
	for i := len(ms) / 2; i < len(ms); i++ {
		se.Fail(i, driver.ErrRetryable, false)
	}
	if err := c.Conn.Send(ctx, ms[:len(ms)/2]); err != nil {
		return err
	}
	return se
}
