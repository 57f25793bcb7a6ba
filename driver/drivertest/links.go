package drivertest

import (
	"context"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/netfault"
)

// through opens a connection over a new proxy.
func (e *env) through() (*netfault.Proxy, func() driver.Conn) {
	e.Helper()
	p, err := netfault.Listen(e.h.Addr)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(p.Close)
	return p, func() driver.Conn {
		return e.open(func(ctx context.Context) (driver.Conn, error) { return e.h.Through(ctx, p.Addr()) })
	}
}

// link lets one of a group and its sender work over a link that is in trouble again
// and again.
func (e *env) link(times int, trouble func(i int, p *netfault.Proxy, group *ConsumerGroup)) {
	p, far := e.through()
	group := e.group(e.conn())
	group.Each = 2 * time.Millisecond // so that something is in hand
	group.Join(far(), "far")
	if e.several() > 1 {
		group.Join(e.conn(), "near")
	}
	stop := e.feed(group, far())
	for i := range times {
		group.more(300)
		group.hurry(true) // whether anything gets through or not
		trouble(i, p, group)
		p.Heal()
		group.hurry(false)
	}
	group.more(300)
	stop()
	group.Check()
}

func testLinkCut(e *env) {
	e.link(6, func(i int, p *netfault.Proxy, _ *ConsumerGroup) {
		p.Cut()
		backoff.Sleep(context.Background(), time.Duration(i)*50*time.Millisecond)
	})
}

// testLinkHalfOpen leaves the link silent until the sender has given it up. By
// turns the network has forgotten what was written meanwhile, or delivers it
// late, beside what was sent again since.
func testLinkHalfOpen(e *env) {
	e.link(4, func(i int, p *netfault.Proxy, group *ConsumerGroup) {
		p.Stall()
		before := group.Failed()
		group.until("the sender to give a silent link up", func() bool { return group.failed > before })
		if i%2 == 0 {
			p.Cut()
		}
	})
}
