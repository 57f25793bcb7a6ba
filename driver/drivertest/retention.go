package drivertest

import (
	"github.com/dovetail-go/dovetail/driver"
)

var retentionTests = map[string]test{
	"Trimmed_channel_tells_a_group_that_lost_messages": {run: testTrimmed, gap: needsTrim},
	"Trimmed_channel_is_nothing_to_a_group_that_is_on": {run: testTrimmedBehind, gap: needsTrim},
}

func needsTrim(c driver.Capabilities, h Harness) string {
	if h.Trim == nil {
		return noHook + "Trim"
	}
	return ""
}

func (e *env) trim(channel string) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	if err := e.h.Trim(ctx, channel); err != nil {
		e.Fatalf("trim: %v", err)
	}
}

// testTrimmed deletes what a group has not handled: it is told, and not handed
// what comes behind as if nothing had been.
func testTrimmed(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	const n = 10
	e.send(c, e.messages(ch, n, 1)...)
	r := e.receiver(c, s)
	e.settle(r, driver.Ack, e.take(r, 3)...)
	e.closeReceiver(r)
	e.trim(ch.Name)
	e.send(c, e.message(ch, "later", 0))
	ctx, cancel := e.within()
	defer cancel()
	r, err := c.OpenReceiver(ctx, e.another(s))
	if err == nil {
		e.Cleanup(func() { _ = r.Close(ctx) })
		for err == nil || c.Classify(err) == driver.Retryable {
			var ds []*driver.Delivery
			if ds, err = r.Receive(ctx, 10); len(ds) > 0 {
				e.Fatalf("the engine deleted %d messages that the group had not handled, and it got %s as if nothing had been", n-3, ids(ds))
			}
		}
	}
	e.wantKind(c, err, driver.PositionLost, "receiving where messages were deleted that the group had not handled")
	rm, ok := c.(driver.Remover)
	if !ok {
		e.gap("driver.Remover is not implemented: the way out is not tried")
		return
	}
	if r != nil {
		e.closeReceiver(r)
	}
	if err := rm.RemoveGroup(ctx, ch.Name, s.Group); err != nil {
		e.Fatalf("remove group: %v", err)
	}
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	r = e.receiver(c, e.another(s))
	e.send(c, e.message(ch, "last", 0))
	for {
		d := e.one(r)
		e.settle(r, driver.Ack, d)
		if d.Message.Key == "last" {
			return
		}
	}
}

func testTrimmedBehind(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, 10, 1)...)
	r := e.receiver(c, s)
	e.settle(r, driver.Ack, e.take(r, 10)...)
	e.closeReceiver(r)
	e.trim(ch.Name)
	e.send(c, e.message(ch, "later", 0))
	r = e.receiver(c, e.another(s))
	if d := e.one(r); d.Message.Key != "later" {
		e.Fatalf("got %s, want later/0", d.Message.ID)
	}
}
