package drivertest

import (
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

var identityTests = map[string]test{
	"Identity_has_the_type_in_it":                {run: testIdentityType},
	"Identity_has_the_channel_in_it":             {run: testIdentityChannel},
	"Identity_has_the_source_in_it":              {run: testIdentitySource},
	"Identity_twice_is_two_messages_or_declared": {run: testIdentityTwice},
	"Names_that_differ_in_a_character_are_two":   {run: testNamesApart},
	"Groups_that_differ_in_a_character_are_two":  {run: testGroupsApart, gap: needsRetained},
	"Names_of_200_characters_stay_apart":         {run: testLongNamesApart},
}

// bothCome takes so many messages, and no more.
func (e *env) bothCome(r driver.Receiver, n int, what string) {
	e.Helper()
	ds := e.take(r, n)
	e.settle(r, driver.Ack, ds...)
	e.nothing(r, what)
}

func testIdentityType(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	placed, paid := e.message(ch, "order-42", 0), e.message(ch, "order-42", 0)
	placed.Type, paid.Type = "ordering.placed.v1", "ordering.paid.v1"
	e.send(c, placed)
	e.send(c, paid)
	e.bothCome(e.receiver(c, s), 2, "two types with one id are two messages")
}

func testIdentityChannel(e *env) {
	c := e.conn()
	a, sa := e.queue(c)
	b, sb := e.queue(c)
	e.send(c, e.message(a, "k", 0), e.message(b, "k", 0))
	e.bothCome(e.receiver(c, sa), 1, "one was sent")
	e.bothCome(e.receiver(c, sb), 1, "one was sent")
}

func testIdentitySource(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	ours, theirs := e.message(ch, "k", 0), e.message(ch, "k", 0)
	theirs.Source = "somebody-else"
	e.send(c, ours, theirs)
	e.bothCome(e.receiver(c, s), 2, "two sources with one id are two messages")
}

func testIdentityTwice(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.message(ch, "k", 0))
	e.send(c, e.message(ch, "k", 0))
	r := e.receiver(c, s)
	if e.caps.Deduplicates {
		e.bothCome(r, 1, "Deduplicates is declared: the second is the first")
		return
	}
	e.bothCome(r, 2, "Deduplicates is not declared: a message that is sent twice comes twice")
}

// alike are names that an engine with fewer characters could take for one.
func alike(name string) []string {
	return []string{name + ".x.y", name + "-x-y", name + "_x_y", name + "-x.y", name + "_x.y", name + ".xy", name + "xy"}
}

func testNamesApart(e *env) {
	c := e.conn()
	e.apart(c, alike(e.unique("n")))
}

// apart provisions channels of these names and looks whether each has what was
// sent to it. A name that the engine cannot tell from another may be refused.
func (e *env) apart(c driver.Conn, names []string) {
	e.Helper()
	var chs []driver.Channel
	var subs []driver.Subscription
	for _, name := range names {
		ch := driver.Channel{Name: name}
		s := e.subscription(ch, "worker")
		ctx, cancel := e.within()
		err := c.Provision(ctx, []driver.Channel{ch}, []driver.Subscription{s})
		cancel()
		if k := c.Classify(err); err != nil && (k == driver.Conflict || k == driver.Unsupported) {
			e.gap("refused: " + err.Error())
			continue
		}
		if err != nil {
			e.Fatalf("provision %s: %v", name, err)
		}
		chs, subs = append(chs, ch), append(subs, s)
	}
	if len(chs) < 2 {
		e.Fatalf("of %d channels whose names differ, %d could be provisioned", len(names), len(chs))
	}
	for i, ch := range chs {
		e.send(c, e.message(ch, "k", i))
	}
	for i, s := range subs {
		r := e.receiver(c, s)
		d := e.one(r)
		if number(d.Message) != i || d.Message.Channel != s.Channel.Name {
			e.Errorf("channel %s got message %d of %s, want %d", s.Channel.Name, number(d.Message), d.Message.Channel, i)
		}
		e.settle(r, driver.Ack, d)
		e.nothing(r, "one was sent to each channel")
		e.closeReceiver(r)
	}
}

func testGroupsApart(e *env) {
	c := e.conn()
	names := alike("g")
	ch, subs := e.topic(c, names...)
	e.send(c, e.message(ch, "k", 0))
	for _, s := range subs {
		r := e.receiver(c, s)
		e.settle(r, driver.Ack, e.one(r))
		e.nothing(r, "one was sent")
		e.closeReceiver(r)
	}
}

func testLongNamesApart(e *env) {
	c := e.conn()
	name := e.unique("n")
	name += "-" + strings.Repeat("n", 198-len(name))
	e.apart(c, []string{name + "a", name + "b", name[:150] + "c" + name[151:] + "a"})
	if !e.caps.PublishRetained {
		return
	}
	group := strings.Repeat("g", 120) // with the channel's name what the narrowest engine takes
	ch, subs := e.topic(c, group+"a", group+"b")
	e.send(c, e.message(ch, "k", 0))
	for _, s := range subs {
		r := e.receiver(c, s)
		e.settle(r, driver.Ack, e.one(r))
		e.nothing(r, "one was sent")
		e.closeReceiver(r)
	}
}
