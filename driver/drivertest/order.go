package drivertest

import (
	"github.com/dovetail-go/dovetail/driver"
)

var orderTests = map[string]test{
	"Order_holds_by_key_for_one_receiver":            {run: testOrderOne, gap: needsOrder(driver.OrderInstance)},
	"Order_holds_by_key_across_receivers":            {run: testOrderAcross, gap: needsOrder(driver.OrderOwner)},
	"Order_holds_by_key_while_receivers_come_and_go": {run: testOrderChurn, gap: needsOrder(driver.OrderOwner)},
	"Order_demanded_beyond_ability_is_refused":       {run: func(*env) {}, gap: hasOwner, verify: verifyOrderedRefused},
}

func needsOrder(o driver.Order) func(driver.Capabilities, Harness) string {
	return func(c driver.Capabilities, _ Harness) string {
		switch {
		case c.Order >= o:
			return ""
		case o == driver.OrderOwner:
			return "Order is below OrderOwner"
		}
		return "Order is OrderNone"
	}
}

func hasOwner(c driver.Capabilities, _ Harness) string {
	if c.Order < driver.OrderOwner {
		return "Order is below OrderOwner"
	}
	return ""
}

func verifyOrderedRefused(e *env) {
	c := e.conn()
	ch := e.channel(driver.PointToPoint)
	s := e.subscription(ch, "worker")
	s.Ordered = true
	ctx, cancel := e.within()
	defer cancel()
	err := c.Provision(ctx, []driver.Channel{ch}, []driver.Subscription{s})
	if err == nil {
		_, err = c.OpenReceiver(ctx, s)
	}
	e.wantKind(c, err, driver.Unsupported, "an Ordered subscription")
}

func testOrderOne(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	const n, keys = 500, 9
	l := newRecorder()
	e.consume(l, e.receiver(c, s), s.Group)
	ms := e.messages(ch, n, keys)
	for i := 0; i < n; i += 50 {
		e.send(c, ms[i:i+50]...)
	}
	e.awaitUnique(l, n)
	e.inOrder(l)
}

// partitioned provisions a channel of four partitions.
func (e *env) partitioned(c driver.Conn) (driver.Channel, driver.Subscription) {
	e.Helper()
	ch := e.channel(driver.PointToPoint)
	ch.Partitions = 4
	s := e.subscription(ch, "worker")
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	return ch, s
}

func testOrderAcross(e *env) {
	sender := e.conn()
	ch, s := e.partitioned(sender)
	const n, keys, receivers = 600, 40, 3
	l := newRecorder()
	for range receivers {
		e.consume(l, e.receiver(e.conn(), e.another(s)), s.Group)
	}
	ms := e.messages(ch, n, keys)
	for i := 0; i < n; i += 60 {
		e.send(sender, ms[i:i+60]...)
	}
	e.awaitUnique(l, n)
	e.inOrder(l)
	e.noCopies(l, true)
}

func testOrderChurn(e *env) {
	sender := e.conn()
	ch, s := e.partitioned(sender)
	const rounds, per, keys = 6, 80, 16
	l := newRecorder()
	e.consume(l, e.receiver(e.conn(), e.another(s)), s.Group)
	ms := e.messages(ch, rounds*per, keys)
	for round := range rounds {
		e.send(sender, ms[round*per:round*per+per/2]...)
		c := e.conn()
		r := e.receiver(c, e.another(s))
		stop := e.consume(l, r, s.Group)
		e.send(sender, ms[round*per+per/2:(round+1)*per]...)
		e.awaitUnique(l, round*per+per/2)
		stop()
		e.closeReceiver(r)
	}
	e.awaitUnique(l, rounds*per)
	e.inOrder(l)
	e.noCopies(l, true)
}
