package drivertest

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var delayTests = map[string]test{
	"Delay_holds_a_message_until_it_is_due":       {run: testDelay, gap: needsDelay},
	"Delay_lets_later_messages_of_the_key_pass":   {run: testDelayPass, gap: needsDelay},
	"Delay_ends_in_the_order_in_which_it_was_due": {run: testDelayOrder, gap: needsDelay},
	"Delay_outlives_the_sender":                   {run: testDelayOutlives, gap: needsDelay},
}

func needsDelay(c driver.Capabilities, _ Harness) string {
	if !c.Delay {
		return "Delay is not declared"
	}
	return ""
}

// due is a delay long enough to be told from none.
func (e *env) due() time.Duration { return max(3*e.h.Quiet, 400*time.Millisecond) }

func (e *env) notBefore(d *driver.Delivery, due time.Time) {
	e.Helper()
	if early := time.Until(due); early > 20*time.Millisecond {
		e.Fatalf("%s came %v before it was due", d.Message.ID, early)
	}
}

func testDelay(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	m := e.message(ch, "k", 0)
	m.Due = time.Now().Add(e.due())
	e.send(c, m)
	r := e.receiver(c, s)
	e.nothing(r, "it is not due")
	d := e.one(r)
	e.notBefore(d, m.Due)
	e.settle(r, driver.Ack, d)
	e.nothing(r, "it was acknowledged")
}

func testDelayPass(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	ms := e.messages(ch, 2, 1)
	ms[0].Due = time.Now().Add(e.due())
	e.send(c, ms...)
	r := e.receiver(c, s)
	if d := e.one(r); number(d.Message) != 1 {
		e.Fatalf("got %s, want k0/1, which is due at once", d.Message.ID)
	} else {
		e.settle(r, driver.Ack, d)
	}
	d := e.one(r)
	e.notBefore(d, ms[0].Due)
	e.settle(r, driver.Ack, d)
}

func testDelayOrder(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	ms := e.messages(ch, 4, 1)
	for i, m := range ms { // the last is due first, all well apart
		m.Due = time.Now().Add(e.due() + time.Duration(len(ms)-i)*200*time.Millisecond)
	}
	e.send(c, ms...)
	r := e.receiver(c, s)
	for want := len(ms) - 1; want >= 0; want-- {
		d := e.one(r)
		if number(d.Message) != want {
			e.Fatalf("got %s, want k0/%d, which is due earlier", d.Message.ID, want)
		}
		e.notBefore(d, ms[want].Due)
		e.settle(r, driver.Ack, d)
	}
}

func testDelayOutlives(e *env) {
	c, sender := e.conn(), e.conn()
	ch, s := e.queue(c)
	m := e.message(ch, "k", 0)
	m.Due = time.Now().Add(e.due())
	e.send(sender, m)
	ctx, cancel := e.within()
	defer cancel()
	if err := sender.Close(ctx); err != nil {
		e.Fatalf("close: %v", err)
	}
	r := e.receiver(c, s)
	d := e.one(r)
	e.notBefore(d, m.Due)
	e.settle(r, driver.Ack, d)
}
