package dovetail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// headerToken is the header of a request that its replies carry again: random,
// and of that one request, whatever its id.
const headerToken = "dovetail-reply-token"

// replyBox is an instance's one reply channel and who waits there. A reply is
// matched by the token of its request. One without a token, of a program that
// knows nothing of tokens, is matched by the request's id, if that was generated:
// an id that the caller gave, or that follows from another message, can be guessed.
type replyBox struct {
	nothingInHand
	s       *Service
	channel driver.Channel

	mu      sync.Mutex
	waiting map[string]*waiter // by token, and by random id
}

// A waiter is one caller that awaits replies to one request.
type waiter struct {
	id, token string
	random    bool            // the id was generated
	typ       string          // message type of its replies
	ended     <-chan struct{} // Run is over: nothing comes any more

	mu      sync.Mutex
	replies []arrived
	from    map[string]bool // service and instance of those that came
	bytes   int             // of replies
	signal  chan struct{}   // one or more replies are there
}

// arrived is a reply that came for a waiter.
type arrived struct {
	m    *driver.Message
	over error // it is over a limit, and without its body
}

func (r *replyBox) init(s *Service) {
	r.s = s
	r.channel = driver.Channel{Name: ReplyPrefix + s.name + "." + s.opts.Instance, Transient: true}
	r.waiting = make(map[string]*waiter)
}

func (r *replyBox) subscription() driver.Subscription {
	return driver.Subscription{Channel: r.channel, Group: r.s.name, Instance: r.s.opts.Instance, Window: 4 * maxReceive}
}

func (r *replyBox) await(w *waiter) {
	w.ended, w.signal, w.from = r.s.ended, make(chan struct{}, 1), make(map[string]bool)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[w.token] = w
	if w.random {
		r.waiting[w.id] = w
	}
}

func (r *replyBox) forget(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, w.token)
	if w.random {
		delete(r.waiting, w.id)
	}
}

// take gives replies to those who wait for them; others are counted and
// dropped. It is what the sink of the reply channel's source does.
func (r *replyBox) take(src *source, ds []*driver.Delivery) {
	settlements := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		settlements[i].Delivery = d
		m := d.Message
		if driver.Structured(m) {
			if e, err := driver.DecodeStructured(m); err == nil {
				m = e
			}
		}
		if err := r.give(m); err != nil {
			r.s.notice(Notice{Kind: NoticeLateReply, Channel: r.channel.Name, Message: m, Err: err})
		}
	}
	// The transport's own deadlines end it, as they do every call to a server.
	if from, err := src.settle(context.Background(), settlements); err != nil {
		r.s.notice(Notice{Kind: NoticeSettle, Channel: r.channel.Name, Err: err})
		src.renew(from) // else they stay in its window for ever
	}
}

// Why replies are dropped.
var (
	errNobodyWaits = errors.New("nobody waits for it (any more)")
	errNoToken     = errors.New("it does not carry its request's " + headerToken + ", and its request's id was given")
	errTooMany     = errors.New("too many replies to one request wait for their caller")
)

// give hands a reply to who waits for it.
func (r *replyBox) give(m *driver.Message) error {
	token, has := m.Headers.Lookup(headerToken)
	if !has {
		token = m.CausationID
	}
	r.mu.Lock()
	w := r.waiting[token]
	r.mu.Unlock()
	switch {
	case w == nil && !has:
		return errNoToken
	case w == nil || has && w.token != token:
		return errNobodyWaits
	case m.Type != w.typ && (has || m.Type != ""): // a plain program may leave it out
		return fmt.Errorf("it is of type %q, and %q is awaited", m.Type, w.typ)
	}
	a := arrived{m: m}
	if err := r.s.opts.Limits.checkIncoming(m); err != nil {
		short := *m
		short.Body, a = nil, arrived{over: err}
		a.m = &short
	}
	return w.add(a, r.s.opts.WindowBytes)
}

// maxReplies bounds the replies to one request, each of another instance.
const maxReplies = 10_000

// add takes a reply in, one of each instance.
func (w *waiter) add(a arrived, maxBytes int) error {
	who := a.m.Source + "/" + a.m.Headers.Get(headerInstance)
	w.mu.Lock()
	defer w.mu.Unlock()
	size := a.m.Size()
	switch {
	case w.from[who]:
		return nil // a redelivery, answered again
	case len(w.from) == maxReplies, w.bytes > 0 && w.bytes+size > maxBytes:
		return errTooMany
	}
	w.from[who] = true
	w.replies = append(w.replies, a)
	w.bytes += size
	select {
	case w.signal <- struct{}{}:
	default:
	}
	return nil
}

// next waits for a reply, until ctx or Run ends.
func (w *waiter) next(ctx context.Context) (arrived, error) {
	for {
		w.mu.Lock()
		if len(w.replies) > 0 {
			a := w.replies[0]
			w.replies[0] = arrived{}
			w.replies = w.replies[1:]
			w.bytes -= a.m.Size()
			w.mu.Unlock()
			return a, nil
		}
		w.mu.Unlock()
		select {
		case <-w.signal:
		case <-w.ended:
			return arrived{}, fmt.Errorf("%w: Run has ended", ErrNotRunning)
		case <-ctx.Done():
			return arrived{}, ctx.Err()
		}
	}
}

// begin sends a request and returns who waits for its replies, with a context
// that ends when the wait does.
func begin[T any](ctx context.Context, from Caller, c *contract[T], v T, o *sendOptions) (*waiter, context.Context, context.CancelFunc, error) {
	s := from.caller()
	if err := outside(ctx, c.wire); err != nil {
		return nil, ctx, func() {}, err
	}
	within := o.within
	if deadline, ok := ctx.Deadline(); ok && (within <= 0 || time.Until(deadline) < within) {
		within = time.Until(deadline)
	} else if within <= 0 {
		within = s.opts.RequestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	own, err := o.of(0)
	if err != nil {
		return nil, ctx, cancel, err
	}
	m := new(driver.Message)
	if err := c.fill(m, ctx, v, own, now()); err != nil {
		return nil, ctx, cancel, err
	}
	if err := s.serving(ctx); err != nil {
		return nil, ctx, cancel, err
	}
	w := &waiter{id: m.ID, token: newID(m.Time), random: own.id == "" && DeliveryFromContext(ctx) == nil, typ: replyType(c.wire)}
	m.ReplyTo = s.replies.channel.Name
	m.Timeout = max(within, time.Millisecond)
	m.Headers = append(m.Headers.Without(headerToken), driver.Header{Name: headerToken, Value: w.token})
	s.replies.await(w)
	if err := s.Send(ctx, []*driver.Message{m}); err != nil && !errors.Is(err, ErrUnknownOutcome) {
		s.replies.forget(w)
		return nil, ctx, cancel, err
	}
	// A request whose sending has an unknown outcome may be answered yet.
	return w, ctx, cancel, nil
}

// request sends a request and waits for its reply.
func request[T any](ctx context.Context, from Caller, c *contract[T], v T, opts []RequestOption) (*driver.Message, error) {
	o := collect(opts)
	w, wctx, cancel, err := begin(ctx, from, c, v, &o)
	defer cancel()
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", c.wire, err)
	}
	defer from.caller().replies.forget(w)
	reply, err := w.next(wctx)
	if err != nil {
		if !errors.Is(err, ErrNotRunning) && !errors.Is(ctx.Err(), context.Canceled) {
			err = ErrNoReply
		}
		return nil, fmt.Errorf("request %s (id %s): %w", c.wire, w.id, err)
	}
	if reply.over != nil {
		return nil, fmt.Errorf("reply to %s (id %s): %w", c.wire, w.id, reply.over)
	}
	return reply.m, nil
}

// serving waits until Run serves, without which no reply can come.
func (s *Service) serving(ctx context.Context) error {
	select {
	case <-s.ready:
		select {
		case <-s.ended:
			return fmt.Errorf("%w: Run has ended", ErrNotRunning)
		default:
			return nil
		}
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		return fmt.Errorf("%w: Run has ended", ErrNotRunning)
	case <-ctx.Done():
		return fmt.Errorf("%w: replies are received by Run, which did not serve in time: %w", ErrNotRunning, ctx.Err())
	}
}
