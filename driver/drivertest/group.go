package drivertest

import (
	"github.com/dovetail-go/dovetail/driver"
)

var groupTests = map[string]test{
	"Group_instances_compete":                               {run: testCompete},
	"Group_of_many_receivers_shares_the_work":               {run: testManyReceivers},
	"PointToPoint_gives_each_message_to_one_group_at_most":  {run: testSecondGroup},
	"Group_each_gets_all_of_publish_subscribe":              {run: testGroups},
	"Group_provisioned_gets_what_is_sent_while_none_listen": {run: testRetained, gap: needsRetained},
	"Group_provisioned_later_gets_only_what_is_sent_later":  {run: testLateGroup, gap: needsRetained},
	"PointToPoint_keeps_what_is_sent_before_a_subscription": {run: testQueueKeeps},
	"Broadcast_reaches_each_instance":                       {run: testBroadcast, gap: needsBroadcast, verify: verifyBroadcastRefused},
	"Transient_channel_carries_to_those_who_listen":         {run: testTransient},
}

func needsRetained(c driver.Capabilities, _ Harness) string {
	if !c.PublishRetained {
		return "PublishRetained is not declared"
	}
	return ""
}

func needsBroadcast(c driver.Capabilities, _ Harness) string {
	if !c.Broadcast {
		return "Broadcast is not declared"
	}
	return ""
}

// topic provisions a new publish–subscribe channel with these groups.
func (e *env) topic(c driver.Conn, groups ...string) (driver.Channel, []driver.Subscription) {
	e.Helper()
	ch := e.channel(driver.PublishSubscribe)
	subs := make([]driver.Subscription, len(groups))
	for i, g := range groups {
		subs[i] = e.subscription(ch, g)
	}
	e.provision(c, []driver.Channel{ch}, subs)
	return ch, subs
}

func testCompete(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	const n, receivers = 400, 3
	l := newRecorder()
	rebalances := false
	for range receivers {
		r := e.receiver(e.conn(), e.another(s))
		_, revokes := r.(driver.Revoker)
		rebalances = rebalances || revokes
		e.consume(l, r, s.Group)
	}
	ms := e.messages(ch, n, 50)
	for i := 0; i < n; i += 20 {
		e.send(sender, ms[i:i+20]...)
	}
	e.awaitUnique(l, n)
	e.noCopies(l, rebalances || e.caps.Lease > 0)
}

func testGroups(e *env) {
	c := e.conn()
	ch, subs := e.topic(c, "billing", "mail", "stock.audit")
	const n = 60
	l := newRecorder()
	for _, s := range subs {
		e.consume(l, e.receiver(c, s), s.Group)
		e.consume(l, e.receiver(e.conn(), e.another(s)), s.Group)
	}
	e.send(e.conn(), e.messages(ch, n, 6)...)
	e.awaitUnique(l, n*len(subs))
	e.noCopies(l, true)
}

func testRetained(e *env) {
	c := e.conn()
	ch, subs := e.topic(c, "billing", "mail")
	ms := e.messages(ch, 20, 1)
	e.send(c, ms[:10]...)
	for _, s := range subs {
		r := e.receiver(c, s)
		e.settle(r, driver.Ack, e.take(r, 10)...)
		e.closeReceiver(r)
	}
	e.send(c, ms[10:]...) // between receivers
	for _, s := range subs {
		r := e.receiver(c, e.another(s))
		for i, d := range e.take(r, 10) {
			if e.caps.Order >= driver.OrderInstance && number(d.Message) != 10+i {
				e.Fatalf("group %s got %s as number %d, want %d", s.Group, d.Message.ID, i, 10+i)
			}
			e.settle(r, driver.Ack, d)
		}
	}
}

func testLateGroup(e *env) {
	c := e.conn()
	ch, _ := e.topic(c, "early")
	e.send(c, e.message(ch, "before", 0))
	late := e.subscription(ch, "late")
	e.provision(c, nil, []driver.Subscription{late})
	e.send(c, e.message(ch, "after", 0))
	r := e.receiver(c, late)
	if d := e.one(r); d.Message.Key != "after" {
		e.Fatalf("a new group got %s, want after/0 alone", d.Message.ID)
	}
}

func testQueueKeeps(e *env) {
	c := e.conn()
	ch := e.channel(driver.PointToPoint)
	e.provision(c, []driver.Channel{ch}, nil)
	e.send(c, e.messages(ch, 5, 1)...)
	s := e.subscription(ch, "worker")
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	r := e.receiver(c, s)
	e.settle(r, driver.Ack, e.take(r, 5)...)
	e.nothing(r, "five were sent")
}

func testBroadcast(e *env) {
	sender := e.conn()
	ch, subs := e.topic(sender, "cache", "other")
	const instances, n = 3, 10
	var rs []driver.Receiver
	for range instances {
		s := e.another(subs[0])
		s.Broadcast, s.Ordered = true, false
		rs = append(rs, e.receiver(e.conn(), s))
	}
	e.send(sender, e.messages(ch, n, 1)...)
	for i, r := range rs {
		for k, d := range e.take(r, n) {
			if e.caps.Order >= driver.OrderInstance && number(d.Message) != k {
				e.Fatalf("instance %d got %s as number %d", i, d.Message.ID, k)
			}
			e.settle(r, driver.Ack, d)
		}
		e.nothing(r, "each was sent once")
	}
}

func verifyBroadcastRefused(e *env) {
	c := e.conn()
	_, subs := e.topic(c, "cache")
	s := e.another(subs[0])
	s.Broadcast, s.Ordered = true, false
	ctx, cancel := e.within()
	defer cancel()
	_, err := c.OpenReceiver(ctx, s)
	e.wantKind(c, err, driver.Unsupported, "a Broadcast subscription")
}

func testTransient(e *env) {
	c := e.conn()
	ch := e.channel(driver.PointToPoint)
	ch.Transient = true
	s := e.subscription(ch, "caller")
	s.Ordered = false
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	r := e.receiver(c, s)
	const n = 20
	e.send(e.conn(), e.messages(ch, n, 1)...)
	e.settle(r, driver.Ack, e.take(r, n)...)
	e.nothing(r, "all came")
}

func testManyReceivers(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	const n, receivers = 480, 12
	l := newRecorder()
	c := e.conn()
	for range receivers {
		e.consume(l, e.receiver(c, e.another(s)), s.Group)
	}
	ms := e.messages(ch, n, 97)
	for i := 0; i < n; i += 48 {
		e.send(sender, ms[i:i+48]...)
	}
	e.awaitUnique(l, n)
	if e.caps.Order >= driver.OrderOwner {
		e.inOrder(l)
	}
	e.noCopies(l, true)
}

// testSecondGroup asks for a second group on a point-to-point channel: that is
// a conflict, or both share the messages as one.
func testSecondGroup(e *env) {
	c := e.conn()
	ch, first := e.queue(c)
	second := e.subscription(ch, "second")
	ctx, cancel := e.within()
	defer cancel()
	err := c.Provision(ctx, []driver.Channel{ch}, []driver.Subscription{second})
	if err != nil {
		e.wantKind(c, err, driver.Conflict, "a second group on a point-to-point channel")
		return
	}
	const n = 30
	l := newRecorder()
	for _, s := range []driver.Subscription{first, second} {
		e.consume(l, e.receiver(c, s), "either")
	}
	e.send(c, e.messages(ch, n, n)...)
	e.awaitUnique(l, n)
	e.noCopies(l, e.caps.Lease > 0)
}
