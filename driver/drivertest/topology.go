package drivertest

import (
	"slices"

	"github.com/dovetail-go/dovetail/driver"
)

var topologyTests = map[string]test{
	"Provision_again_keeps_what_is_there":           {run: testProvisionAgain},
	"Provision_with_another_kind_is_a_conflict":     {run: testProvisionConflict},
	"Provision_of_nothing_does_nothing":             {run: func(e *env) { e.provision(e.conn(), nil, nil) }},
	"Provision_refuses_a_bad_name":                  {run: testBadName},
	"Provision_after_a_loss_of_topology_works":      {run: testForget, gap: needsForget},
	"OpenReceiver_of_an_unknown_group_is_not_found": {run: testUnknownGroup},
	"Lister_tells_channels_and_groups":              {run: testLister, gap: nil},
	"Remover_removes_channels_and_groups":           {run: testRemover},
	"Backlogger_counts_what_waits":                  {run: testBacklog},
}

func needsForget(_ driver.Capabilities, h Harness) string {
	if h.Forget == nil {
		return noHook + "Forget"
	}
	return ""
}

func testProvisionAgain(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, 3, 1)...)
	r := e.receiver(c, s)
	ds := e.take(r, 1)
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	e.provision(e.conn(), []driver.Channel{ch}, []driver.Subscription{e.another(s)})
	ds = append(ds, e.take(r, 2)...)
	e.settle(r, driver.Ack, ds...)
	e.nothing(r, "three were sent")
}

func testProvisionConflict(e *env) {
	c := e.conn()
	ch, _ := e.queue(c)
	ch.Kind = driver.PublishSubscribe
	ctx, cancel := e.within()
	defer cancel()
	e.wantKind(c, c.Provision(ctx, []driver.Channel{ch}, nil), driver.Conflict, "provisioning a point-to-point channel as publish-subscribe")
	e.wantKind(e.conn(), e.conn().Provision(ctx, []driver.Channel{ch}, nil), driver.Conflict, "the same over another connection")
}

func testBadName(e *env) {
	c := e.conn()
	ctx, cancel := e.within()
	defer cancel()
	for _, name := range []string{"", "Has Space", "a..b", "wild.*", "slash/ed"} {
		if err := c.Provision(ctx, []driver.Channel{{Name: name}}, nil); err == nil {
			e.Errorf("provisioned a channel called %q", name)
		}
	}
}

func testUnknownGroup(e *env) {
	c := e.conn()
	ch, _ := e.topic(c, "known")
	ctx, cancel := e.within()
	defer cancel()
	_, err := c.OpenReceiver(ctx, e.subscription(ch, "unknown"))
	e.wantKind(c, err, driver.NotFound, "a receiver for a group that nobody provisioned")
	_, err = c.OpenReceiver(ctx, e.subscription(e.channel(driver.PointToPoint), "worker"))
	e.wantKind(c, err, driver.NotFound, "a receiver for a channel that nobody provisioned")
}

func testForget(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.message(ch, "k", 0))
	ctx, cancel := e.within()
	defer cancel()
	if err := e.h.Forget(ctx); err != nil {
		e.Fatalf("forget: %v", err)
	}
	err := c.Send(ctx, []*driver.Message{e.message(ch, "k", 1)})
	if err == nil {
		e.Fatal("a send to a channel that the engine lost was confirmed")
	}
	// The core does this when it meets ErrNotFound.
	e.eventually("provisioning to succeed again", func() bool {
		return c.Provision(ctx, []driver.Channel{ch}, []driver.Subscription{s}) == nil
	})
	e.send(c, e.message(ch, "k", 2))
	r := e.receiver(c, e.another(s))
	d := e.one(r)
	if number(d.Message) != 2 {
		e.Fatalf("got %s, want k/2", d.Message.ID)
	}
	e.settle(r, driver.Ack, d)
}

func testLister(e *env) {
	c := e.conn()
	l, ok := c.(driver.Lister)
	if !ok {
		e.gap("driver.Lister is not implemented")
		return
	}
	queue, s := e.queue(c)
	topic, _ := e.topic(c, "one", "two")
	e.send(c, e.messages(queue, 5, 1)...)
	r := e.receiver(c, s)
	ds := e.take(r, 2)
	ctx, cancel := e.within()
	defer cancel()
	infos, err := l.Channels(ctx)
	if err != nil {
		e.Fatalf("channels: %v", err)
	}
	find := func(name string) driver.ChannelInfo {
		i := slices.IndexFunc(infos, func(c driver.ChannelInfo) bool { return c.Channel.Name == name })
		if i < 0 {
			e.Fatalf("channel %s is not listed among %d", name, len(infos))
		}
		return infos[i]
	}
	if q := find(queue.Name); q.Channel.Kind != driver.PointToPoint || q.Messages != 5 && q.Messages != -1 {
		e.Errorf("queue is listed as %+v, want point-to-point with 5 messages at rest", q)
	} else if len(q.Groups) != 1 || q.Groups[0].Name != s.Group {
		e.Errorf("queue is listed with groups %+v, want %s", q.Groups, s.Group)
	} else if g := q.Groups[0]; g.Backlog >= 0 && g.Pending >= 0 && g.Backlog+g.Pending != 5 {
		e.Errorf("group is listed as %+v, want 5 in backlog and pending together", g)
	}
	var names []string
	t := find(topic.Name)
	for _, g := range t.Groups {
		names = append(names, g.Name)
	}
	slices.Sort(names)
	if t.Channel.Kind != driver.PublishSubscribe || !slices.Equal(names, []string{"one", "two"}) {
		e.Errorf("topic is listed as %+v, want publish-subscribe with groups one and two", t)
	}
	e.settle(r, driver.Ack, ds...)
}

func testRemover(e *env) {
	c := e.conn()
	rm, ok := c.(driver.Remover)
	if !ok {
		e.gap("driver.Remover is not implemented")
		return
	}
	ctx, cancel := e.within()
	defer cancel()
	ch, subs := e.topic(c, "stays", "goes")
	if err := rm.RemoveGroup(ctx, ch.Name, "goes"); err != nil {
		e.Fatalf("remove group: %v", err)
	}
	_, err := c.OpenReceiver(ctx, subs[1])
	e.wantKind(c, err, driver.NotFound, "a receiver of a removed group")
	r := e.receiver(c, subs[0])
	e.send(c, e.message(ch, "k", 0))
	e.settle(r, driver.Ack, e.one(r))
	e.closeReceiver(r)
	if err := rm.RemoveChannel(ctx, ch.Name); err != nil {
		e.Fatalf("remove channel: %v", err)
	}
	e.wantKind(c, c.Send(ctx, []*driver.Message{e.message(ch, "k", 1)}), driver.NotFound, "send to a removed channel")
	for what, err := range map[string]error{"channel": rm.RemoveChannel(ctx, ch.Name), "group": rm.RemoveGroup(ctx, ch.Name, "stays")} {
		if err != nil && c.Classify(err) != driver.NotFound {
			e.Errorf("removing a %s that is gone: %v, want no error or ErrNotFound", what, err)
		}
	}
	// A name that was removed can be used again, and remembers nothing.
	e.provision(c, []driver.Channel{ch}, subs[:1])
	r = e.receiver(c, e.another(subs[0]))
	e.nothing(r, "the channel is new")
}

func testBacklog(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Window = 3
	r := e.receiver(c, s)
	b, ok := r.(driver.Backlogger)
	if !ok {
		e.gap("driver.Backlogger is not implemented")
		return
	}
	e.send(c, e.messages(ch, 10, 1)...)
	ds := e.take(r, 3)
	backlog := func(want int64) func() bool {
		return func() bool {
			ctx, cancel := e.within()
			defer cancel()
			n, err := b.Backlog(ctx)
			if err != nil {
				e.Fatalf("backlog: %v", err)
			}
			return n == want
		}
	}
	e.eventually("a backlog of 7 with 3 of 10 in hand", backlog(7))
	e.settle(r, driver.Ack, ds...)
	for range 7 {
		e.settle(r, driver.Ack, e.one(r))
	}
	e.eventually("a backlog of 0", backlog(0))
}
