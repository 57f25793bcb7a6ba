package drivertest

import (
	"context"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

var broadcastTests = map[string]test{
	"Broadcast_that_resumes_goes_on_where_it_was":            {run: testBroadcastResumes, gap: needsBroadcast},
	"Broadcast_that_resumes_keeps_the_order":                 {run: testBroadcastResumesInOrder, gap: needsBroadcastAndOrder},
	"Broadcast_without_Resume_begins_from_now":               {run: testBroadcastAnew, gap: needsBroadcast},
	"Broadcast_that_resumes_without_a_group_is_told":         {run: testBroadcastGone, gap: needsBroadcast},
	"Broadcast_group_is_removed_by_its_name":                 {run: testBroadcastRemoved, gap: needsBroadcast},
	"Broadcast_of_another_instance_is_another_group":         {run: testBroadcastInstances, gap: needsBroadcast},
	"Broadcast_across_a_cut_link_loses_nothing":              {run: testBroadcastCut, gap: needsBroadcastAndThrough},
	"Broadcast_reopened_over_and_over_under_load_loses_none": {run: testBroadcastReopened, gap: needsBroadcast},
}

func needsBroadcastAndOrder(c driver.Capabilities, h Harness) string {
	if why := needsBroadcast(c, h); why != "" {
		return why
	}
	return needsOrder(driver.OrderInstance)(c, h)
}

func needsBroadcastAndThrough(c driver.Capabilities, h Harness) string {
	if why := needsBroadcast(c, h); why != "" {
		return why
	}
	return needsThrough(c, h)
}

// broadcast provisions a new channel and returns an instance's interest in it.
func (e *env) broadcast(c driver.Conn) (driver.Channel, driver.Subscription) {
	e.Helper()
	ch := e.channel(driver.PublishSubscribe)
	s := e.subscription(ch, "cache")
	s.Broadcast, s.Ordered = true, false
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	return ch, s
}

func resuming(s driver.Subscription) driver.Subscription {
	s.Resume = true
	return s
}

// testBroadcastResumes closes a receiver with some settled and some in hand, and
// sends while none is open.
func testBroadcastResumes(e *env) {
	c := e.conn()
	ch, s := e.broadcast(c)
	const n, between = 10, 5
	ms := e.messages(ch, n+between+1, 1)
	r := e.receiver(c, s)
	e.send(c, ms[:n]...)
	ds := e.take(r, n)
	e.settle(r, driver.Ack, ds[:4]...)
	e.closeReceiver(r)
	e.send(c, ms[n:n+between]...)
	r = e.receiver(c, resuming(s))
	e.send(c, ms[n+between])
	left, settled := map[string]bool{}, map[string]bool{}
	for i, m := range ms {
		if i < 4 {
			settled[m.ID] = true
		} else {
			left[m.ID] = true
		}
	}
	for len(left) > 0 {
		d := e.one(r)
		switch id := d.Message.ID; {
		case left[id]:
			delete(left, id)
		case settled[id]:
			e.Fatalf("the receiver that resumed got %s, which was settled", id)
		default:
			e.Fatalf("the receiver that resumed got %s twice", id)
		}
		e.settle(r, driver.Ack, d)
	}
	e.nothing(r, "everything was settled")
	e.closeReceiver(r)
	e.nothing(e.receiver(c, resuming(s)), "everything was settled before it was reopened")
}

func testBroadcastResumesInOrder(e *env) {
	c := e.conn()
	ch, s := e.broadcast(c)
	const n = 12
	ms := e.messages(ch, n, 1)
	r := e.receiver(c, s)
	e.send(c, ms[:8]...)
	ds := e.take(r, 8)
	e.settle(r, driver.Ack, ds[:3]...)
	e.closeReceiver(r)
	e.send(c, ms[8:]...)
	r = e.receiver(c, resuming(s))
	for want := 3; want < n; want++ {
		d := e.one(r)
		if number(d.Message) != want {
			e.Fatalf("the receiver that resumed got %s, want k0/%d", d.Message.ID, want)
		}
		e.settle(r, driver.Ack, d)
	}
}

func testBroadcastAnew(e *env) {
	c := e.conn()
	ch, s := e.broadcast(c)
	r := e.receiver(c, s)
	e.send(c, e.message(ch, "k", 0))
	e.one(r) // and does not settle it
	e.closeReceiver(r)
	e.send(c, e.message(ch, "k", 1))
	r = e.receiver(c, s)
	e.nothing(r, "a group that was opened without Resume begins from now")
	e.send(c, e.message(ch, "k", 2))
	if d := e.one(r); number(d.Message) != 2 {
		e.Fatalf("got %s, want k/2 alone", d.Message.ID)
	}
}

func testBroadcastGone(e *env) {
	c := e.conn()
	_, s := e.broadcast(c)
	ctx, cancel := e.within()
	defer cancel()
	_, err := c.OpenReceiver(ctx, resuming(s))
	e.wantKind(c, err, driver.PositionLost, "OpenReceiver with Resume of a group that never was")
	r := e.receiver(c, s)
	e.closeReceiver(r)
	rm, ok := c.(driver.Remover)
	if !ok {
		e.gap("driver.Remover is not implemented: a group that was removed is not tried")
		return
	}
	if err := rm.RemoveGroup(ctx, s.Channel.Name, s.GroupName()); err != nil {
		e.Fatalf("remove the group %s of a broadcast instance: %v", s.GroupName(), err)
	}
	_, err = c.OpenReceiver(ctx, resuming(s))
	e.wantKind(c, err, driver.PositionLost, "OpenReceiver with Resume of a group that was removed")
	e.receiver(c, s) // and without it there is one again
}

func testBroadcastRemoved(e *env) {
	c := e.conn()
	ch, s := e.broadcast(c)
	rm, ok := c.(driver.Remover)
	if !ok {
		e.gap("driver.Remover is not implemented")
		return
	}
	r := e.receiver(c, s)
	e.closeReceiver(r)
	ctx, cancel := e.within()
	defer cancel()
	groups := func() (n int) {
		l, ok := c.(driver.Lister)
		if !ok {
			return -1
		}
		infos, err := l.Channels(ctx)
		if err != nil {
			e.Fatalf("channels: %v", err)
		}
		for _, info := range infos {
			if info.Channel.Name == ch.Name {
				for _, g := range info.Groups {
					if g.Name != s.GroupName() {
						e.Errorf("the group of a broadcast instance is listed as %q, want %q", g.Name, s.GroupName())
					}
				}
				return len(info.Groups)
			}
		}
		return 0
	}
	if n := groups(); n > 1 {
		e.Errorf("%d groups are listed after one instance closed its receiver, want one at most", n)
	}
	if err := rm.RemoveGroup(ctx, ch.Name, s.GroupName()); err != nil {
		e.Fatalf("remove the group %s of a broadcast instance: %v", s.GroupName(), err)
	}
	if n := groups(); n > 0 {
		e.Errorf("%d groups are listed after the only one was removed", n)
	}
	e.send(c, e.message(ch, "k", 0))
	r = e.receiver(c, s)
	e.nothing(r, "it was sent while there was no group")
}

func testBroadcastInstances(e *env) {
	c := e.conn()
	ch, s := e.broadcast(c)
	other := e.another(s)
	r := e.receiver(c, s)
	e.receiver(c, other)
	e.send(c, e.message(ch, "k", 0))
	e.settle(r, driver.Ack, e.one(r))
	e.closeReceiver(r)
	e.send(c, e.message(ch, "k", 1))
	third := e.another(s)
	ctx, cancel := e.within()
	defer cancel()
	_, err := c.OpenReceiver(ctx, resuming(third))
	e.wantKind(c, err, driver.PositionLost, "OpenReceiver with Resume of an instance that had no group")
	r = e.receiver(c, resuming(s))
	if d := e.one(r); number(d.Message) != 1 {
		e.Fatalf("got %s, want k/1", d.Message.ID)
	}
}

// listener is an instance that hears everything, as a group of its own.
func (e *env) listener(c driver.Conn) *ConsumerGroup {
	_, s := e.broadcast(c)
	s.Window = 200
	group := NewConsumerGroup(e.T, s)
	group.Patience, group.unordered = e.h.Patience, e.caps.Order < driver.OrderInstance
	return group
}

// testBroadcastCut cuts the link of an instance for 3 s while messages are sent
// over another.
func testBroadcastCut(e *env) {
	p, far := e.through()
	sender := e.conn()
	group := e.listener(sender)
	group.Each = time.Millisecond
	// The group comes into being with its receiver: nothing is sent before.
	c := far()
	r := e.receiver(c, group.s)
	e.closeReceiver(r)
	group.resume = true
	group.Join(c, group.s.Instance)
	stop := e.feed(group, sender)
	group.more(200)
	group.hurry(true)
	p.Cut()
	backoff.Sleep(context.Background(), 3*time.Second)
	p.Heal()
	group.hurry(false)
	group.more(200)
	stop()
	group.Check()
}

func testBroadcastReopened(e *env) {
	c := e.conn()
	group := e.listener(c)
	r := e.receiver(c, group.s)
	e.closeReceiver(r)
	group.resume = true
	leave := group.Join(c, group.s.Instance)
	stop := e.feed(group, c)
	for range 10 {
		group.more(40)
		leave()
		leave = group.Join(c, group.s.Instance)
	}
	group.more(40)
	stop()
	group.Check()
	group.recorder.mu.Lock()
	defer group.recorder.mu.Unlock()
	if group.recorder.dupes > 0 && e.caps.CountsAttempts && group.recorder.unmark > group.unknown {
		e.Errorf("%d messages came again as if for the first time", group.recorder.unmark)
	}
}
