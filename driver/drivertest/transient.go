package drivertest

import (
	"github.com/dovetail-go/dovetail/driver"
)

// The instances of a service tell each other on such a channel which keys they have
// in hand.
var transientTests = map[string]test{
	"Transient_broadcast_reaches_every_instance_and_who_sends": {run: testTransientBroadcast, gap: needsBroadcast},
	"Transient_broadcast_opened_again_hears_what_is_sent_then": {run: testTransientReopened, gap: needsBroadcast},
}

// spoken provisions a new transient channel of broadcasts, and returns an
// instance's interest in it.
func (e *env) spoken(c driver.Conn) (driver.Channel, driver.Subscription) {
	e.Helper()
	ch := e.channel(driver.PublishSubscribe)
	ch.Transient = true
	s := e.subscription(ch, "talk")
	s.Broadcast, s.Ordered = true, false
	e.provision(c, []driver.Channel{ch}, nil)
	return ch, s
}

// transient are messages as who sends to a transient channel sends them.
func transient(ms []*driver.Message) []*driver.Message {
	for _, m := range ms {
		m.Transient = true
	}
	return ms
}

func testTransientBroadcast(e *env) {
	const instances, n = 3, 5
	var cs []driver.Conn
	var rs []driver.Receiver
	var ch driver.Channel
	var s driver.Subscription
	for range instances {
		c := e.conn()
		if ch.Name == "" {
			ch, s = e.spoken(c)
		} else {
			e.provision(c, []driver.Channel{ch}, nil)
		}
		cs, rs = append(cs, c), append(rs, e.receiver(c, e.another(s)))
	}
	ms := transient(e.messages(ch, instances*n, instances))
	for i, c := range cs {
		e.send(c, ms[i*n:(i+1)*n]...)
	}
	for i, r := range rs {
		left := map[string]bool{}
		for _, m := range ms {
			left[m.ID] = true
		}
		for len(left) > 0 {
			d := e.one(r)
			if !left[d.Message.ID] {
				e.Fatalf("instance %d got %s twice", i, d.Message.ID)
			}
			delete(left, d.Message.ID)
			e.settle(r, driver.Ack, d)
		}
		e.nothing(r, "each was sent once")
	}
}

func testTransientReopened(e *env) {
	c := e.conn()
	ch, s := e.spoken(c)
	ms := transient(e.messages(ch, 3, 1))
	for i, how := range []driver.Subscription{s, resuming(s), s} {
		r := e.receiver(c, how)
		e.send(c, ms[i])
		d := e.one(r)
		if d.Message.ID != ms[i].ID {
			e.Fatalf("the receiver that was opened as number %d got %s, want %s", i, d.Message.ID, ms[i].ID)
		}
		e.settle(r, driver.Ack, d)
		e.closeReceiver(r)
	}
}
