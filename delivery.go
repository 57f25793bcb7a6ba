package dovetail

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/codec"
	"github.com/dovetail-go/dovetail/driver"
)

// A Delivery is a message in the hands of a handler. Middleware and packages like
// inbox read it; handlers rarely need it. Its fields must not be changed.
type Delivery struct {
	Message  *driver.Message
	Service  string // that handles it
	Instance string
	Group    string // the subscription's group
	Handler  string // the handler's name within the group: the contract's type
	Attempt  int    // from 1, since it was delivered to this process
	Requeues int    // how often it was sent again from the dead letters

	svc        *Service
	replyCodec codec.Codec  // of the contract; nil where nothing is replied
	answer     *Reply       // what the handler answered
	token      string       // of the request that it is, for the reply
	item       *itemContext // what hooks and middleware gave it; its Context is not set
	begun      func()       // who waits for the handler to begin; nil for nobody

	mu     sync.Mutex
	derive map[string]equals                 // ids derived so far
	later  map[string]place                  // those of them that are not the first of their equals
	onDead []func(ctx context.Context) error // see OnDeadLetter
}

// A Reply is an encoded answer, as an inbox keeps it.
type Reply = driver.Reply

// DeliveryFromContext returns the message that the handler which was given ctx is handling,
// and nil outside of handlers.
func DeliveryFromContext(ctx context.Context) *Delivery {
	in, _ := ctx.Value(incomingKey{}).(*Delivery)
	return in
}

// Batch returns the messages that a batch handler is handling, in the order of
// its values, and nil outside of batch handlers. What a batch handler sends with
// its own context has no cause, and another id each time it is sent; with the
// Context of one of these, both follow from that message.
func Batch(ctx context.Context) []*Delivery {
	ins, _ := ctx.Value(batchKey{}).([]*Delivery)
	return ins
}

// Context returns ctx as the handler of in alone: what is sent with it is
// caused by in, and the values that hooks gave to the handling of in are in it.
// Batch handlers use it for their items.
func (in *Delivery) Context(ctx context.Context) context.Context {
	if in.item == nil {
		return &handlerContext{ctx, in}
	}
	own := *in.item
	own.Context = ctx
	return &own
}

type (
	incomingKey struct{}
	batchKey    struct{}
)

// handlerContext carries the incoming message; a type of its own because it is
// made for every message.
type handlerContext struct {
	context.Context
	in *Delivery
}

func (c *handlerContext) Value(key any) any {
	if _, ok := key.(incomingKey); ok {
		return c.in
	}
	return c.Context.Value(key)
}

// itemContext is the handlerContext of one message of a batch, with the values
// that a hook added to the context that it was given. All else is the batch's.
type itemContext struct {
	handlerContext
	hooked context.Context // what the hook returned
	root   context.Context // what it was given
}

func (c *itemContext) Value(key any) any {
	if v := c.hooked.Value(key); v != nil && !same(v, c.root.Value(key)) {
		return v
	}
	return c.handlerContext.Value(key)
}

// same reports whether two values are equal. Values that cannot be compared count as
// equal.
func same(a, b any) bool {
	if reflect.TypeOf(a) == reflect.TypeOf(b) && !reflect.ValueOf(a).Comparable() {
		return true
	}
	return a == b
}

// causes makes m follow from in: the same conversation, caused by it, and,
// where none was given, an id that follows from in, the handler, and what m
// says, so that a handler that runs again sends the same ids.
func (in *Delivery) causes(m *driver.Message) {
	m.CorrelationID = in.Message.CorrelationID
	if m.CorrelationID == "" {
		m.CorrelationID = in.Message.ID
	}
	m.CausationID = in.Message.ID
	if m.ID != "" {
		return
	}
	first := deriveID(m.Body, 0, in.Message.Source, in.Message.ID, in.Group, in.Handler, m.Type, m.Key)
	m.ID = first
	if n := in.nth(first); n > 0 { // the n-th among equals
		m.ID = deriveID(nil, n, first)
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.later == nil {
			in.later = make(map[string]place)
		}
		in.later[m.ID] = place{first, n}
	}
}

// equals counts the messages that would have the same id.
type equals struct {
	next int
	free []int // places of those that were undone
}

// A place is that of a message among its equals.
type place struct {
	first string // the id of the first
	n     int
}

// nth takes the next place among the equals whose first has that id.
func (in *Delivery) nth(first string) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	e := in.derive[first]
	if n := len(e.free); n > 0 {
		least := slices.Min(e.free)
		e.free = slices.DeleteFunc(e.free, func(n int) bool { return n == least })
		in.derive[first] = e
		return least
	}
	if in.derive == nil {
		in.derive = make(map[string]equals)
	}
	e.next++
	in.derive[first] = e
	return e.next - 1
}

// Undone says that messages that the handler sent are undone, in this attempt:
// equal ones that it sends from now on have the same ids. Packages that hold
// what handlers send in a transaction use it.
func (in *Delivery) Undone(messages ...*driver.Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, m := range messages {
		p, ok := in.later[m.ID]
		if !ok {
			p = place{m.ID, 0}
		}
		if e, known := in.derive[p.first]; known && p.n < e.next && !slices.Contains(e.free, p.n) {
			e.free = append(e.free, p.n)
			in.derive[p.first] = e
		}
	}
}

// restart forgets what an earlier attempt at in has sent, so that the next one
// derives the same ids.
func (in *Delivery) restart() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.derive, in.later = nil, nil
	in.onDead = nil
	in.answer = nil
}

// Begun says that all is there that the handler needs, and that it begins now.
// Packages that return NotBegun call it: messages that wait for that go on
// before this handler has ended.
func (in *Delivery) Begun() {
	if in.begun != nil {
		in.begun()
	}
}

// OnDeadLetter has f called if this attempt is the last: after the broker has
// confirmed the dead letter, and before the message is settled. It holds for this
// attempt alone: register f in each. Each call has ten seconds. If f fails it is
// called again, for two minutes at most and not after the service has begun to end;
// then the message is settled without it, or left unsettled and redelivered.
func (in *Delivery) OnDeadLetter(f func(ctx context.Context) error) {
	in.mu.Lock()
	in.onDead = append(in.onDead, f)
	in.mu.Unlock()
}

// EncodeReply encodes what a handler of in returned as the reply that the
// sender of in will get. A nil error gives an answer, a refusal (RefusalOf) one
// that refuses; any other error is no reply and comes back. A reply that cannot be
// encoded, or is over a limit of the service or the broker, is a Permanent error:
// who asked gets it in place of the answer, and what the handler did should be
// undone.
func (in *Delivery) EncodeReply(v any, err error) (Reply, error) {
	if err != nil && RefusalOf(err) == nil {
		return Reply{}, err
	}
	r, err := encodeReply(in.replyCodec, v, err)
	if err == nil && in.svc != nil && in.Message.ReplyTo != "" {
		err = in.svc.sendable(in.reply(&r))
	}
	if err != nil {
		return Reply{}, Permanent(fmt.Errorf("reply to %s: %w", in.Message.Type, err))
	}
	return r, nil
}

// DecodeReply undoes EncodeReply: it decodes an answer into v, a pointer, and
// returns a refusal as *Refusal.
func (in *Delivery) DecodeReply(r Reply, v any) error {
	return decodeKept(in.replyCodec, r, v)
}

// Expired reports whether the sender stopped waiting for an answer long enough
// ago that clocks cannot explain it: two seconds.
func (in *Delivery) Expired() bool { return expired(in.Message, time.Now()) }

const clockSkew = 2 * time.Second

func expired(m *driver.Message, at time.Time) bool {
	until, ok := deadline(m)
	return ok && !at.Before(until)
}

// deadline is when the sender of m has surely stopped waiting for its answer.
func deadline(m *driver.Message) (until time.Time, ok bool) {
	if m.Timeout <= 0 || m.Time.IsZero() {
		return until, false
	}
	return m.Time.Add(m.Timeout).Add(clockSkew), true
}

// now is the time for a message's attribute: UTC, to the microsecond, so that
// it survives every wire format.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
