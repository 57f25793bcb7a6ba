package dovetail

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// A Handler handles one message; typed handlers are wrapped into it.
type Handler func(ctx context.Context, in *Delivery) error

// Middleware wraps a handler of one message. It runs once for every attempt.
//
// Around a batch handler it runs for each message of the batch, and all messages of a
// batch are inside it at the same time: next blocks until the batch handler has
// returned, and then returns this message's error. A message that it does not pass on
// is left out of the batch. If it passes one on twice, that one is handled alone the
// second time. What it adds to the context is in the context of its message
// (Delivery.Context), and whatever ends that context ends the batch's. A semaphore
// that admits fewer messages than a batch has never ends its wait: Batch(ctx) has the
// messages that must be admitted together.
type Middleware func(next Handler) Handler

// A BatchHandler handles several messages. It returns an error for each of them,
// by index, or none.
type BatchHandler func(ctx context.Context, ins []*Delivery) []error

// BatchMiddleware wraps a batch handler. It runs once for every attempt at a
// batch, outside the Middleware of its messages.
type BatchMiddleware func(next BatchHandler) BatchHandler

// wrap puts the middleware around the handlers, the service's outermost.
func (b *groupConsumer) wrap() {
	opts := &b.s.opts
	for _, sub := range b.subs {
		each := slices.Concat(opts.Middleware, sub.middleware)
		if sub.batch == nil {
			sub.handler = chain(each, sub.handler)
			continue
		}
		if len(each) > 0 {
			sub.batch = eachOf(each, sub.batch)
		}
		for _, m := range slices.Backward(slices.Concat(opts.BatchMiddleware, sub.batchMiddleware)) {
			sub.batch = m(sub.batch)
		}
	}
}

func chain(all []Middleware, h Handler) Handler {
	for _, m := range slices.Backward(all) {
		h = m(h)
	}
	return h
}

// eachOf wraps a batch handler by middleware of single messages.
func eachOf(all []Middleware, h BatchHandler) BatchHandler {
	return func(ctx context.Context, ins []*Delivery) []error {
		n := &nest{all: all, h: h, base: ctx, ins: ins, ran: make(chan struct{}),
			passed: make([]context.Context, len(ins)), results: make([]error, len(ins)), errs: make([]error, len(ins))}
		n.enter(0)
		n.inside.Wait()
		if n.broken != nil {
			panic(n.broken) // of the batch as a whole, whatever middleware made of it
		}
		return n.errs
	}
}

// A nest is one attempt at a batch, inside the middleware of each of its
// messages.
type nest struct {
	all  []Middleware
	h    BatchHandler
	base context.Context
	ins  []*Delivery

	passed  []context.Context // of the messages that were passed on
	results []error           // of the batch handler, by message
	errs    []error           // what the middleware made of them
	ran     chan struct{}     // closed when the batch handler has
	broken  *PanicError       // its panic
	inside  sync.WaitGroup    // messages that were passed on and have not come back
}

// enter calls the middleware of the i-th message, inside which those that follow
// are entered.
func (n *nest) enter(i int) {
	if i == len(n.ins) {
		n.run()
		return
	}
	var mu sync.Mutex // middleware may pass a message on from another goroutine
	entered := false
	first := func() bool {
		mu.Lock()
		defer mu.Unlock()
		if entered {
			return false
		}
		entered = true
		n.inside.Add(1)
		return true
	}
	in := n.ins[i]
	start := context.Context(&handlerContext{n.base, in})
	if in.item != nil { // hooks gave it a context
		start = in.item.hooked
	}
	n.errs[i] = chain(n.all, func(ctx context.Context, _ *Delivery) error {
		if !first() {
			return n.alone(ctx, i)
		}
		defer n.inside.Done()
		n.passed[i] = ctx
		n.enter(i + 1)
		<-n.ran
		return n.results[i]
	})(start, in)
	if first() {
		defer n.inside.Done()
		n.enter(i + 1)
	}
}

// alone handles a message that is passed on again.
func (n *nest) alone(ctx context.Context, i int) error {
	errs := n.h(ctx, n.ins[i:i+1:i+1])
	if len(errs) == 0 {
		return nil
	}
	return errs[0]
}

// run handles the messages that were passed on.
func (n *nest) run() {
	defer close(n.ran)
	var ins []*Delivery
	var index []int
	for i, ctx := range n.passed {
		if ctx == nil {
			continue
		}
		in := n.ins[i]
		root := context.Context(&handlerContext{n.base, in})
		if in.item != nil {
			root = in.item.root
		}
		in.item = &itemContext{handlerContext: handlerContext{nil, in}, root: root, hooked: ctx}
		ins, index = append(ins, in), append(index, i)
		n.results[i] = errEnded // unless it comes back
	}
	if len(ins) == 0 {
		return
	}
	ctx, release := n.context()
	defer release()
	defer func() {
		if v := recover(); v != nil {
			n.broken = asPanic(v)
			for _, i := range index {
				n.results[i] = n.broken
			}
		}
	}()
	errs := n.h(ctx, ins)
	for j, i := range index {
		switch {
		case len(errs) == 0:
			n.results[i] = nil
		case len(errs) != len(ins):
			n.results[i] = errCount(len(errs), len(ins))
		default:
			n.results[i] = errs[j]
		}
	}
}

func errCount(got, want int) error {
	return fmt.Errorf("batch handler returned %d errors for %d messages: want none or one each", got, want)
}

// asPanic is what was recovered, with the stack of where it was first.
func asPanic(v any) *PanicError {
	if p, ok := v.(*PanicError); ok {
		return p
	}
	return &PanicError{v, debug.Stack()}
}

// context is the batch's: it ends with that of any of its messages.
func (n *nest) context() (context.Context, func()) {
	var until time.Time
	for _, c := range n.passed {
		if c == nil || c.Done() == n.base.Done() {
			continue
		}
		if at, ok := c.Deadline(); ok && (until.IsZero() || at.Before(until)) {
			until = at
		}
	}
	ctx, cancel := context.WithCancelCause(n.base)
	var releases []func()
	if !until.IsZero() {
		timed, stop := context.WithDeadline(ctx, until)
		ctx, releases = timed, append(releases, stop)
	}
	for _, c := range n.passed {
		if c != nil && c.Done() != n.base.Done() {
			stop := context.AfterFunc(c, func() { cancel(context.Cause(c)) })
			releases = append(releases, func() { stop() })
		}
	}
	return ctx, func() {
		for _, release := range releases {
			release()
		}
		cancel(nil)
	}
}
