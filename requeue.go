package dovetail

import (
	"context"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// requeues makes the source of the service's requeue channel: what comes there
// goes to the inbound whose group it names, into the lane of its key, so that
// it is never handled beside another message of that key. Without handlers
// there is none.
func (r *run) requeues() *source {
	if !r.keepsDeadLetters() {
		return nil
	}
	s := r.s
	src := &source{
		s: s,
		sub: driver.Subscription{
			Channel: driver.Channel{Name: RequeueChannel(s.name)}, Group: s.name,
			Instance: s.opts.Instance, Window: requeueWindow, WindowBytes: s.opts.WindowBytes,
		},
		leave: func(of func(*task) *exit) {
			for _, b := range r.inbounds {
				b.sched.drop(of)
			}
		},
		let: func(e *exit) (n int) {
			for _, b := range r.inbounds {
				n += b.sched.abandon(e)
			}
			return n
		},
	}
	src.tasks = func(f func(*task)) {
		for _, b := range r.inbounds {
			b.sched.each(src, f)
		}
	}
	src.room = func(ctx context.Context) (int, error) {
		return requeueWindow, ctx.Err()
	}
	src.feed = func(src *source, ds []*driver.Delivery) {
		for _, d := range ds {
			b, one := r.revive(src, d)
			b.sched.push(one)
		}
	}
	return src
}

// requeueWindow bounds what is handled again at a time; the transport counts.
const requeueWindow = 64

// revive makes a requeued delivery a task of the inbound that it names; of any,
// with no handler, where there is none of that name: it becomes a dead letter
// again.
func (r *run) revive(src *source, d *driver.Delivery) (*inbound, []*task) {
	h := d.Message.Headers
	group, handler := h.Get(headerDeadGroup), h.Get(headerDeadHandler)
	requeues := atoi(h.Get(headerDeadRequeues))
	m := d.Message
	if group != "" { // else it did not come from a dead letter
		m = original(m)
	}
	m = identified(m)
	target, found := r.find(group, m.Channel)
	ts := target.tasks(src, []*driver.Delivery{d})
	t := ts[0]
	t.in.Message = m
	t.in.Requeues = max(1, requeues)
	t.in.Group, t.in.Handler = group, handler
	t.sub = nil
	if found {
		t.sub = target.subs[handler]
	}
	return target, ts
}

// find returns the inbound of a group and channel. A broadcast group bears its
// instance's name: where that instance is gone, this one takes its place. If
// there is none, any is returned.
func (r *run) find(group, channel string) (b *inbound, found bool) {
	for _, b := range r.inbounds {
		if b.group == group && b.channel.Name == channel {
			return b, true
		}
	}
	for _, b := range r.inbounds {
		own := strings.TrimSuffix(b.group, r.s.opts.Instance)
		if b.broadcast && b.channel.Name == channel && strings.HasPrefix(group, own) {
			return b, true
		}
	}
	return r.inbounds[0], false
}

// keepsDeadLetters reports whether anything that the service handles can become
// a dead letter.
func (r *run) keepsDeadLetters() bool {
	for _, b := range r.inbounds {
		if !b.channel.Transient && !(b.broadcast && b.answersOnly()) {
			return true
		}
	}
	return false
}

// answersOnly reports whether all handlers of b are those of surveys, whose
// failures go to who asked.
func (b *inbound) answersOnly() bool {
	for _, sub := range b.subs {
		if sub.spec.Kind != KindSurvey {
			return false
		}
	}
	return true
}
