package dovetail

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// requeues makes the source of the service's requeue channel: what comes there
// goes to the group consumer whose group it names, into the lane of its key, so that
// this instance never handles it beside another message of that key. Another
// instance may own the key's partition meanwhile: where the order of keys is kept
// across instances, this one claims the key first (lock.go). Without handlers
// there is none.
func (r *run) requeues() *source {
	if !r.keepsDeadLetters() {
		return nil
	}
	s := r.s
	return r.returning(driver.Subscription{
		Channel: driver.Channel{Name: RequeueChannel(s.name)}, Group: s.name,
		Instance: s.opts.Instance, Window: requeueWindow, WindowBytes: s.opts.WindowBytes,
	})
}

// returning makes the source of a channel of letters that are to be handled.
func (r *run) returning(sub driver.Subscription) *source {
	return &source{s: r.s, sub: sub, sink: letters{r}}
}

// letters is the sink of what comes back from the dead letters: each goes to the
// group consumer that it names.
type letters struct{ r *run }

func (letters) room(ctx context.Context) (int, error) { return requeueWindow, ctx.Err() }

func (l letters) take(from *source, ds []*driver.Delivery) {
	for _, d := range ds {
		b, one := l.r.fromDeadLetter(from, d)
		from.widen(b.sched.push(one))
	}
}

func (l letters) each(from *source, f func(*item)) {
	for _, b := range l.r.consumers {
		b.sched.each(from, f)
	}
}

func (l letters) drop(of func(*item) *exit) {
	for _, b := range l.r.consumers {
		b.sched.drop(of)
	}
}

func (l letters) abandon(e *exit) (n int) {
	for _, b := range l.r.consumers {
		n += b.sched.abandon(e)
	}
	return n
}

// requeueWindow bounds what is handled again at a time; the transport counts.
const requeueWindow = 64

// fromDeadLetter makes a letter an item of the group consumer that it names. What is no letter
// of this service's becomes a dead letter. A letter of a handler that this
// instance does not have waits for an instance that has it.
func (r *run) fromDeadLetter(src *source, d *driver.Delivery) (*groupConsumer, []*item) {
	letter, err := ParseDeadLetter(d.Message)
	if err == nil && letter.Service != r.s.name {
		err = fmt.Errorf("letter %s is of service %q, and came to %s", d.Message.ID, letter.Service, r.s.name)
	}
	target, sub, why := r.find(&letter)
	ts := target.items(src, []*driver.Delivery{d})
	t := ts[0]
	t.letter = true
	if err != nil {
		t.fault, t.sub = err, nil
		return target, ts
	}
	m, fault := target.accepted(letter.Message, d.Fault)
	if len(letter.Cut) > 0 {
		t.rare = &rare{cut: letter.Cut, cutBody: letter.Body}
	}
	if letter.Body != "" {
		fault = errors.Join(fault, fmt.Errorf("its body was too large to be kept (%s): it cannot be handled again", letter.Body))
	}
	t.in.Message, t.fault = m, errors.Join(fault, why)
	t.in.Requeues, t.in.token = letter.Requeues, letter.token
	t.in.Group, t.in.Handler = letter.Group, letter.Handler
	if t.sub = sub; sub != nil {
		t.in.Handler = sub.wire
	}
	return target, ts
}

// find returns the group consumer and the handler that a letter names: of its group,
// and of its channel where several have the handler. A broadcast group bears its
// instance's name: where that instance is gone, this one takes its place. If
// there is no such handler, any group consumer is returned, and why nothing can be done
// about it, unless to wait.
func (r *run) find(d *DeadLetter) (found *groupConsumer, sub *subscription, why error) {
	base, _, broadcast := strings.Cut(d.Group, broadcastMark)
	for _, b := range r.consumers {
		own, _, _ := strings.Cut(b.group, broadcastMark)
		if own != base || b.broadcast != broadcast {
			continue
		}
		same := b.channel.Name == d.Message.Channel
		has := b.subs[d.Handler]
		if has == nil && same && d.Handler == d.Message.Type { // nobody has handled it yet
			has = b.handlerOf(d.Message)
		}
		if has != nil && (found == nil || same) {
			found, sub = b, has
		}
	}
	switch {
	case found != nil:
		return found, sub, nil
	case broadcast:
		why = fmt.Errorf("requeued to %s in group %s: that was a broadcast subscription, which this instance does not have", d.Handler, d.Group)
	}
	return r.consumers[0], nil, why
}

// keepsDeadLetters reports whether anything that the service handles can become
// a dead letter.
func (r *run) keepsDeadLetters() bool {
	for _, b := range r.consumers {
		if !b.channel.Transient && !(b.broadcast && b.answersOnly()) {
			return true
		}
	}
	return false
}

// answersOnly reports whether all handlers of b are those of surveys, whose
// failures go to who asked.
func (b *groupConsumer) answersOnly() bool {
	for _, sub := range b.subs {
		if sub.spec.Kind != KindSurvey {
			return false
		}
	}
	return true
}
