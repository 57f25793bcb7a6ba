package drivertest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A lab is an engine in memory that can do all that the suite asks for: it is
// restarted, trimmed and cut off, and keeps what it confirmed. With a mutant it
// has one fault; without, it passes.
type lab struct {
	m    mutant
	bus  *membus.Bus
	full *membus.Bus // with little room
	echo net.Listener

	mu      sync.Mutex
	links   map[*link]bool
	trimmed map[string]bool // "channel|group" that lost messages
}

func newLab(t *testing.T, m mutant) *lab {
	bus, err := membus.New(membus.Options{Bytes: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	full, err := membus.New(membus.Options{Messages: 90, Wait: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return &lab{m: m, bus: bus, full: full, echo: listenEcho(t), links: map[*link]bool{}, trimmed: map[string]bool{}}
}

func (e *lab) harness() drivertest.Harness {
	h := drivertest.Harness{
		Open:    func(context.Context) (driver.Conn, error) { return e.connect(e.bus, ""), nil },
		Through: func(_ context.Context, addr string) (driver.Conn, error) { return e.connect(e.bus, addr), nil },
		Addr:    e.echo.Addr().String(),
		Full:    func(context.Context) (driver.Conn, error) { return e.connect(e.full, ""), nil },
		Restart: e.restart, Forget: e.forget, Trim: e.trim,
		Inject: func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
			return e.inject(ctx, &driver.Message{Channel: channel, Headers: headers, Body: body})
		},
		InjectKeyed: func(ctx context.Context, channel string, key []byte, headers driver.Headers, body []byte) error {
			return e.inject(ctx, &driver.Message{Channel: channel, Key: string(key), Headers: headers, Body: body})
		},
		KnownGaps: map[string]string{"URL": "other processes do not get into this one's memory"},
		Many:      1000, Quiet: 60 * time.Millisecond, Lease: leaseTime,
	}
	if e.m.harness != nil {
		e.m.harness(&h)
	}
	return h
}

func (e *lab) connect(bus *membus.Bus, addr string) *link {
	l := &link{e: e, bus: bus, addr: addr, inner: bus.Connect()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.links[l] = true
	return l
}

func (e *lab) inject(ctx context.Context, m *driver.Message) error {
	c := e.bus.Connect()
	return errors.Join(c.Send(ctx, []*driver.Message{m}), c.Close(ctx))
}

// restart takes every connection away and opens another in its place.
func (e *lab) restart(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for l := range e.links {
		l.mu.Lock()
		if !l.closed {
			_ = l.inner.Close(ctx)
			l.inner = l.bus.Connect()
			l.term++
		}
		l.mu.Unlock()
	}
	if e.m.restarted != nil {
		return e.m.restarted(ctx, e)
	}
	return nil
}

func (e *lab) forget(ctx context.Context) error {
	c := e.bus.Connect()
	infos, err := c.Channels(ctx)
	for _, info := range infos {
		err = errors.Join(err, c.RemoveChannel(ctx, info.Channel.Name))
	}
	return errors.Join(err, c.Close(ctx))
}

// trim empties a channel. Who has lost something by that is told.
func (e *lab) trim(ctx context.Context, channel string) error {
	c := e.bus.Connect()
	infos, err := c.Channels(ctx)
	i := slices.IndexFunc(infos, func(info driver.ChannelInfo) bool { return info.Channel.Name == channel })
	if err != nil || i < 0 {
		return fmt.Errorf("trim %s: %w", channel, err)
	}
	e.mu.Lock()
	for _, g := range infos[i].Groups {
		e.trimmed[channel+"|"+g.Name] = g.Backlog+g.Pending > 0 && !e.m.trimsInSilence
	}
	e.mu.Unlock()
	return errors.Join(purge(ctx, c, channel), c.Close(ctx))
}

// purge removes every message of a channel.
func purge(ctx context.Context, c *membus.Conn, channel string) error {
	page, err := c.Browse(ctx, channel, "", 1<<20)
	at := make([]string, len(page))
	for i, st := range page {
		at[i] = st.Position
	}
	return errors.Join(err, c.Remove(ctx, channel, at))
}

func (e *lab) lost(channel, group string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trimmed[channel+"|"+group]
}

// A link is a connection that comes back at the next call. With an address its
// calls make a round trip to it before or after their work.
type link struct {
	e    *lab
	bus  *membus.Bus
	addr string

	mu     sync.Mutex
	inner  *membus.Conn
	term   int
	closed bool
}

func (l *link) now() (*membus.Conn, int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner, l.term, l.closed
}

func (l *link) conn() *membus.Conn {
	inner, _, _ := l.now()
	return inner
}

// away says of an error of a link that was cut that it is only for now.
func (l *link) away(err error) error {
	if _, _, closed := l.now(); !closed && driver.Classify(err) == driver.Closed {
		return fmt.Errorf("%w: the link was cut", driver.ErrRetryable)
	}
	return err
}

func (l *link) Capabilities() driver.Capabilities {
	caps := l.conn().Capabilities()
	caps.Durable, caps.Shared = true, true
	if l.e.m.caps != nil {
		l.e.m.caps(&caps)
	}
	return caps
}

func (l *link) Provision(ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
	if err := ping(l.addr); err != nil {
		return err
	}
	if l.e.m.provision != nil {
		return l.away(l.e.m.provision(l.conn(), ctx, chs, subs))
	}
	return l.away(l.conn().Provision(ctx, chs, subs))
}

func (l *link) Send(ctx context.Context, ms []*driver.Message) error {
	send := l.e.m.send
	if send == nil {
		send = driver.Conn.Send
	}
	err := l.away(send(l.conn(), ctx, ms))
	if lost := ping(l.addr); lost != nil && err == nil {
		<-time.After(l.e.m.hangs)
		if l.e.m.forgetsWhatItWrote {
			return lost
		}
		se := &driver.SendError{}
		for i := range ms {
			se.Fail(i, lost, true)
		}
		return se
	}
	return err
}

// Incarnation asks the engine over the link.
func (l *link) Incarnation(context.Context) (id string, window time.Duration, err error) {
	if err := ping(l.addr); err != nil {
		if l.e.m.deniesIncarnation {
			return "", 0, fmt.Errorf("this engine: %w", driver.ErrUnsupported)
		}
		return "", 0, err
	}
	return "lab", time.Minute, nil
}

func (l *link) Classify(err error) driver.Kind {
	if l.e.m.classify != nil {
		return l.e.m.classify(err)
	}
	return driver.Classify(err)
}

func (l *link) Close(ctx context.Context) error {
	if l.e.m.closeConn != nil {
		return l.e.m.closeConn(l, ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.inner.Close(ctx)
}

func (l *link) Browse(ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
	if l.e.m.browse != nil {
		return l.e.m.browse(l.conn(), ctx, channel, after, max)
	}
	return l.conn().Browse(ctx, channel, after, max)
}

func (l *link) Remove(ctx context.Context, channel string, positions []string) error {
	if l.e.m.remove != nil {
		return l.e.m.remove(l.conn(), ctx, channel, positions)
	}
	return l.conn().Remove(ctx, channel, positions)
}

func (l *link) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	infos, err := l.conn().Channels(ctx)
	if l.e.m.list != nil {
		l.e.m.list(infos)
	}
	return infos, err
}

func (l *link) RemoveChannel(ctx context.Context, channel string) error {
	return l.conn().RemoveChannel(ctx, channel)
}

func (l *link) RemoveGroup(ctx context.Context, channel, group string) error {
	if l.e.m.removeGroup != nil {
		return l.e.m.removeGroup(l.conn(), ctx, channel, group)
	}
	l.e.mu.Lock()
	delete(l.e.trimmed, channel+"|"+group)
	l.e.mu.Unlock()
	return l.conn().RemoveGroup(ctx, channel, group)
}
