package drivertest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// mortal is an engine that keeps everything but its connections when it is
// restarted, over a bus in memory: what the suite's tests of restarts are tried
// against where no server is at hand.
type mortal struct {
	bus *membus.Bus

	mu    sync.Mutex
	links map[*link]bool
}

// link is a connection that mends itself at the next call.
type link struct {
	m *mortal

	mu     sync.Mutex
	inner  *membus.Conn
	term   int
	closed bool
}

func (m *mortal) open(context.Context) (driver.Conn, error) {
	l := &link{m: m, inner: m.bus.Connect()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links[l] = true
	return l, nil
}

func (m *mortal) restart(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.links {
		l.mu.Lock()
		if !l.closed {
			l.inner.Close(ctx)
			l.inner = m.bus.Connect()
			l.term++
		}
		l.mu.Unlock()
	}
	return nil
}

func (l *link) now() (*membus.Conn, int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner, l.term, l.closed
}

// mend says of an error of a link that was cut that it is only for now.
func (l *link) mend(err error) error {
	if _, _, closed := l.now(); !closed && driver.Classify(err) == driver.Closed {
		return fmt.Errorf("%w: the link was cut", driver.ErrRetryable)
	}
	return err
}

func (l *link) Capabilities() driver.Capabilities {
	inner, _, _ := l.now()
	caps := inner.Capabilities()
	caps.Durable = true
	return caps
}

func (l *link) Provision(ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
	inner, _, _ := l.now()
	return l.mend(inner.Provision(ctx, chs, subs))
}

func (l *link) Send(ctx context.Context, ms []*driver.Message) error {
	inner, _, _ := l.now()
	return l.mend(inner.Send(ctx, ms))
}

func (l *link) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	inner, term, _ := l.now()
	r, err := inner.OpenReceiver(ctx, s)
	if err != nil {
		return nil, l.mend(err)
	}
	return &mortalReceiver{l: l, s: s, inner: r, term: term}, nil
}

func (l *link) Classify(err error) driver.Kind { return driver.Classify(err) }

func (l *link) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.inner.Close(ctx)
}

type mortalReceiver struct {
	l *link
	s driver.Subscription

	mu     sync.Mutex
	inner  driver.Receiver
	term   int
	closed bool
}

// now returns the receiver of the present link.
func (r *mortalReceiver) now(ctx context.Context) (driver.Receiver, error) {
	conn, term, closed := r.l.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if term != r.term && !closed && !r.closed {
		inner, err := conn.OpenReceiver(ctx, r.s)
		if err != nil {
			return nil, err
		}
		r.inner, r.term = inner, term
	}
	return r.inner, nil
}

func (r *mortalReceiver) fix(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return err
	}
	return r.l.mend(err)
}

func (r *mortalReceiver) Receive(ctx context.Context, n int) ([]*driver.Delivery, error) {
	inner, err := r.now(ctx)
	if err != nil {
		return nil, r.fix(err)
	}
	ds, err := inner.Receive(ctx, n)
	return ds, r.fix(err)
}

func (r *mortalReceiver) Settle(ctx context.Context, ss []driver.Settlement) error {
	inner, err := r.now(ctx)
	if err != nil {
		return r.fix(err)
	}
	return r.fix(inner.Settle(ctx, ss))
}

func (r *mortalReceiver) Close(ctx context.Context) error {
	inner, _ := r.now(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if inner == nil {
		return nil
	}
	return inner.Close(ctx)
}

func TestRun_passes_an_engine_that_survives_its_restarts(t *testing.T) {
	bus, err := membus.New(membus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{bus: bus, links: map[*link]bool{}}
	drivertest.Run(t, drivertest.Harness{Open: m.open, Restart: m.restart})
}

// A transport's test of conformance.
func ExampleRun() {
	test := func(t *testing.T) { // func TestConformance(t *testing.T)
		bus, err := membus.New(membus.Options{})
		if err != nil {
			t.Fatal(err)
		}
		drivertest.Run(t, drivertest.Harness{
			Open: func(context.Context) (driver.Conn, error) { return bus.Connect(), nil },
		})
	}
	_ = test
}
