package dovetail

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// take takes in deliveries, all at once, so that a batch handler sees them
// together.
func (b *groupConsumer) take(from *source, ds []*driver.Delivery) {
	from.widen(b.sched.push(b.items(from, ds)))
}

// items makes deliveries items of this group consumer.
func (b *groupConsumer) items(from *source, ds []*driver.Delivery) []*item {
	ts := make([]*item, len(ds))
	for i, d := range ds {
		t := new(item)
		ts[i] = t
		m, fault := b.accepted(d.Message, d.Fault)
		t.in = Delivery{
			Message: m, Service: b.s.name, Instance: b.s.opts.Instance,
			Group: b.group, Handler: m.Type, svc: b.s,
		}
		t.ctx.in = &t.in
		t.from, t.receiver, t.delivery, t.fault = from, from.taken, d, fault
		if m.ReplyTo != "" {
			t.in.token = last(d.Message.Headers, headerToken)
		}
		if t.sub = b.handlerOf(m); t.sub != nil {
			t.in.Handler = t.sub.wire
		}
		t.size = m.Size()
		if t.again() {
			b.s.counts.redelivered.Add(1)
		}
	}
	return ts
}

// handlerOf returns who handles m. A message without a type is taken for one of
// the channel's one contract. nil stands for nobody.
func (b *groupConsumer) handlerOf(m *driver.Message) *subscription {
	if sub := b.subs[m.Type]; sub != nil {
		return sub
	}
	if m.Type == "" && len(b.subs) == 1 {
		for _, sub := range b.subs {
			return sub
		}
	}
	return b.any
}

// accepted is a message as handlers get it, and why none can. What only we may
// write is read on our own channels alone.
func (b *groupConsumer) accepted(m *driver.Message, fault error) (*driver.Message, error) {
	if driver.Structured(m) && b.subs[m.Type] == nil {
		if e, err := driver.DecodeStructured(m); err == nil {
			m = e
		} else {
			fault = errors.Join(fault, err)
		}
	}
	if b.channel.Name != answersChannel(b.s.name) {
		m = plain(m)
	}
	return identified(m), fault
}

// plain is m without the headers that only we may write.
func plain(m *driver.Message) *driver.Message {
	if !slices.ContainsFunc(m.Headers, ours) {
		return m
	}
	c := *m
	c.Headers = slices.DeleteFunc(slices.Clone(m.Headers), ours)
	return &c
}

// ours reports whether a header is one that controls what becomes of a message.
func ours(h driver.Header) bool {
	const prefix = "dovetail-"
	return len(h.Name) > len(prefix) && strings.EqualFold(h.Name[:len(prefix)], prefix)
}

// identified gives a message an id that came without one, from a program that
// knows nothing of ids: an inbox would take the second of them for the first
// come again, and a broker their dead letters for copies of one. Such a message
// that is delivered again is another.
func identified(m *driver.Message) *driver.Message {
	if m.ID != "" {
		return m
	}
	c := *m
	c.ID = NewID()
	return &c
}

// room waits until messages may be taken in, and returns how many.
func (b *groupConsumer) room(ctx context.Context) (int, error) {
	for {
		if n := b.sched.capacity(); n > 0 {
			b.sched.signalRoom() // another source may wait as well
			return n, nil
		}
		select {
		case <-b.sched.room:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (b *groupConsumer) each(from *source, f func(*item)) { b.sched.each(from, f) }
func (b *groupConsumer) drop(of func(*item) *exit)        { b.sched.drop(of) }
func (b *groupConsumer) abandon(e *exit) int              { return b.sched.abandon(e) }

// drained waits until nothing is in hand, for at most d.
func (b *groupConsumer) drained(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for b.sched.inHand() > 0 {
		select {
		case <-b.sched.room:
		case <-t.C:
			return b.sched.inHand() == 0
		}
	}
	return true
}
