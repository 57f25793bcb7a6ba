package dovetail

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/crash"
)

// A groupConsumer is what one group receives from one channel: the handlers by message
// type, the scheduler, the workers that run them and the completer that answers
// and settles. Messages come from the channel's receiver, and from the service's
// requeue channel when they are handled again.
type groupConsumer struct {
	s           *Service
	channel     driver.Channel
	group       string
	broadcast   bool
	ordered     bool
	keyed       bool // some of its messages have keys
	concurrency int
	subs        map[string]*subscription // by message type
	names       map[string]bool          // of the contracts, without versions
	any         *subscription            // takes what no other does; may be nil
	sched       *scheduler
	recall      recall
	overdue     overdue
	workers     sync.WaitGroup
}

var errEnded = errors.New("handler ended its goroutine")

// start has workers run, as they are needed, until the scheduler closes; base is
// their context.
func (b *groupConsumer) start(base context.Context) {
	b.sched.told, b.sched.recall = b.gateNews, &b.recall
	b.sched.pool.most = b.concurrency
	b.sched.pool.start = func() {
		b.workers.Add(1)
		go b.work(base)
	}
}

func (b *groupConsumer) work(base context.Context) {
	var (
		items []*item
		ins   []*Delivery
		ended bool
	)
	defer func() {
		if !ended {
			// The handler ended its goroutine (runtime.Goexit, as t.FailNow
			// does); the message must not be lost with it.
			b.classifyBatch(base, items, errEnded)
			go b.again(base, items)
			return
		}
		b.workers.Done()
	}()
	for {
		items = b.sched.exchange(items)
		if len(items) == 0 {
			ended = true
			return
		}
		if t := items[0]; t.sub == nil || t.sub.batch == nil {
			b.attempt(base, t)
			continue
		}
		ins = b.attemptBatch(base, items, ins[:0])
		clear(ins) // a worker that waits keeps no memory
	}
}

// again gives items back and goes on working in their worker's stead.
func (b *groupConsumer) again(base context.Context, items []*item) {
	b.sched.giveBack(items)
	b.work(base)
}

// attempt runs one attempt at one message.
func (b *groupConsumer) attempt(base context.Context, t *item) {
	t.unseen = true
	if !b.recall.begins(t) {
		return
	}
	if err, final := b.precheck(base, t); final {
		b.classify(base, t, err)
		return
	}
	t.unseen = false
	ctx := context.Context(&t.ctx)
	if t.ctx.Context == nil { // what an earlier attempt left behind may still read it
		t.ctx.Context = base
	}
	if until, ok := deadline(t.in.Message); ok {
		d := &deadlineContext{Context: ctx, until: until}
		defer d.release()
		ctx = d
	}
	if t.sub.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.sub.timeout)
		defer cancel()
	}
	var err error
	if len(b.s.hooks.handle) > 0 {
		err = b.observe(t.sub.handler, ctx, &t.in)
	} else {
		err = protect(t.sub.handler, ctx, &t.in)
	}
	crash.ConsumerHandled.Pass()
	b.classify(base, t, err)
	b.answerNow(base, t)
}

// observe is protect with a hook, which hears of the end whatever it is.
func (b *groupConsumer) observe(h Handler, ctx context.Context, in *Delivery) (err error) {
	root := ctx
	hooked, after := b.s.handleHook(root, in)
	in.item = &itemContext{handlerContext: handlerContext{nil, in}, root: root, hooked: hooked}
	if after != nil {
		err = errEnded
		defer func() { after(err) }()
	}
	return protect(h, hooked, in)
}

// answerNow sends an answer to a waiting caller from the worker: transient
// channels confirm nothing, and the way through the completer costs the caller
// the time that it takes to wake another goroutine. What fails here is sent by
// the completer.
func (b *groupConsumer) answerNow(ctx context.Context, t *item) {
	if t.result != resultDone || !strings.HasPrefix(t.in.Message.ReplyTo, ReplyPrefix) || !b.asked(t) {
		return
	}
	if r := b.answer(t); r != nil {
		m := b.reply(t, r)
		if t.answered = b.s.carry(ctx, []*driver.Message{m}) == nil; !t.answered {
			t.unanswered = m
		}
		crash.ConsumerReplied.Pass()
	}
}

// precheck settles what no handler should see, and counts the attempt.
func (b *groupConsumer) precheck(ctx context.Context, t *item) (err error, final bool) {
	if t.in.Attempt > 0 || t.unready > 0 || t.alone {
		t.in.restart()
	}
	t.in.Attempt++
	switch {
	case t.fault != nil:
		return Permanent(t.fault), true
	case t.sub == nil:
		return errUnhandled, true
	}
	if err := b.s.opts.Limits.checkIncoming(t.in.Message); err != nil {
		return Permanent(err), true
	}
	if t.in.Expired() {
		return b.expired(ctx, t)
	}
	return nil, false
}

// errExpired is answered to a caller that has stopped waiting.
var errExpired = Discard(ErrExpired)

// expired answers a request that came too late: with the reply that was given
// in time, if a component remembers one.
func (b *groupConsumer) expired(ctx context.Context, t *item) (err error, final bool) {
	for _, c := range b.s.components {
		replier, ok := c.(Replier)
		if !ok {
			continue
		}
		var (
			r     Reply
			found bool
		)
		err := guarded(func() (err error) {
			r, found, err = replier.Replied(ctx, &t.in)
			return err
		})
		if err != nil {
			return NotBegun(err), true
		}
		// It has answered: what handlers need is most likely there again. If it is
		// not, as where they lack a connection and this took another, the gate closes
		// again with the next.
		t.unseen = false
		if found {
			t.in.answer = &r
			return nil, true
		}
	}
	t.in.answer = expiredReply()
	return errExpired, true
}

// attemptBatch runs one attempt at several messages of one batch handler.
func (b *groupConsumer) attemptBatch(base context.Context, items []*item, ins []*Delivery) []*Delivery {
	begun := make([]*item, 0, len(items))
	for _, t := range items {
		t.unseen = true
		if !b.recall.begins(t) {
			continue
		}
		if err, final := b.precheck(base, t); final {
			b.classify(base, t, err)
			continue
		}
		t.unseen = false
		begun, ins = append(begun, t), append(ins, &t.in)
	}
	if len(begun) == 0 {
		return ins
	}
	ctx := context.WithValue(base, batchKey{}, slices.Clone(ins))
	if d := begun[0].sub.timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	var (
		errs   []error
		broken error
	)
	if len(b.s.hooks.handle) > 0 {
		errs, broken = b.observeBatch(begun[0].sub.batch, ctx, ins)
	} else {
		errs, broken = protectBatch(begun[0].sub.batch, ctx, ins)
	}
	crash.ConsumerHandled.Pass()
	if broken != nil {
		b.classifyBatch(base, begun, broken)
		return ins
	}
	for i, t := range begun {
		b.classify(base, t, errs[i])
	}
	return ins
}

// classifyBatch judges messages whose handler came to no end. One of several may be
// the cause: each is then handled alone, and this was no attempt at them.
func (b *groupConsumer) classifyBatch(base context.Context, items []*item, err error) {
	for _, t := range items {
		if len(items) == 1 {
			b.classify(base, t, err)
			continue
		}
		t.alone = true
		t.err, t.result, t.after = err, resultRetry, 0
		t.in.Attempt--
		b.s.notice(Notice{Kind: NoticeRetry, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Attempt: t.in.Attempt, Err: err})
	}
}

// observeBatch is protectBatch with a hook, which is called for each message.
func (b *groupConsumer) observeBatch(h BatchHandler, ctx context.Context, ins []*Delivery) (errs []error, broken error) {
	after := make([]func(error), len(ins))
	for i, in := range ins {
		root := &handlerContext{ctx, in}
		in.item = &itemContext{handlerContext: handlerContext{nil, in}, root: root}
		in.item.hooked, after[i] = b.s.handleHook(root, in)
	}
	broken = errEnded
	defer func() {
		for i, f := range after {
			switch {
			case f == nil:
			case broken != nil:
				f(broken)
			default:
				f(errs[i])
			}
		}
	}()
	return protectBatch(h, ctx, ins)
}

// classify decides what becomes of a message after an attempt.
func (b *groupConsumer) classify(ctx context.Context, t *item, err error) {
	if err == errUnhandled {
		b.classifyUnhandled(t)
		return
	}
	policy := b.s.opts.Retry
	if t.sub != nil && t.sub.retry != nil {
		policy = *t.sub.retry
	}
	t.err = err
	t.result, t.after = policy.classify(err, t.in.Attempt)
	if t.result == resultDeadLetter {
		switch {
		case ctx.Err() != nil:
			t.result = resultRetry // it failed because the service ends: it is handed back
		case errors.Is(err, context.DeadlineExceeded) && t.in.Expired():
			t.result, t.after = resultRetry, 0 // it failed because its caller has left: it is answered so
		}
	}
	switch t.result {
	case resultNotBegun:
		t.in.Attempt--
		b.s.notice(Notice{Kind: NoticeNotBegun, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Err: err})
	case resultDone:
		b.s.counts.handled.Add(1)
		if err != nil && !b.asked(t) { // refused, and nobody to be told
			b.s.notice(Notice{Kind: NoticeRefused, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Attempt: t.in.Attempt, Err: err})
		}
	case resultRetry:
		b.s.notice(Notice{Kind: NoticeRetry, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Attempt: t.in.Attempt, After: t.after, Err: err})
	case resultDrop:
		kind := NoticeDiscard
		if err == errExpired {
			kind = NoticeExpired
		}
		b.s.notice(Notice{Kind: kind, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Attempt: t.in.Attempt, Err: err})
	}
}
