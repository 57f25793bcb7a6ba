package dovetail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// reply makes the message that answers t. Who asked is told of an answer that is
// over a limit, rather than left to wait for it.
func (b *inbound) reply(t *task, r *Reply) *driver.Message {
	m := b.encodeReply(t, r)
	if err := b.s.sendable(m); err != nil {
		err = fmt.Errorf("reply to %s: %w", t.in.Message.Type, err)
		b.s.notice(Notice{Kind: NoticeLostCaller, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Err: err})
		m = b.encodeReply(t, failedReply(err))
	}
	return m
}

func (b *inbound) encodeReply(t *task, r *Reply) *driver.Message {
	req := t.in.Message
	m := &driver.Message{
		Channel:       req.ReplyTo,
		Transient:     strings.HasPrefix(req.ReplyTo, ReplyPrefix),
		ID:            replyID(req.ID, b.group), // the same at every redelivery
		Source:        b.s.name,
		Type:          replyType(req.Type),
		Time:          now(),
		ContentType:   r.ContentType,
		Key:           req.Key,
		CorrelationID: req.CorrelationID,
		CausationID:   req.ID,
		Headers:       driver.Headers{{Name: headerInstance, Value: b.s.opts.Instance}},
		Body:          r.Body,
	}
	if m.CorrelationID == "" {
		m.CorrelationID = req.ID
	}
	if r.Status != "" {
		m.Headers = append(m.Headers,
			driver.Header{Name: headerStatus, Value: r.Status},
			driver.Header{Name: headerAttempts, Value: strconv.Itoa(t.in.Attempt)})
	}
	return m
}

func failedReply(err error) *Reply {
	body, _ := json.Marshal(problem{Detail: cut(err.Error(), maxDeadError)}) // strings always encode
	return &Reply{statusFailed, problemType, body}
}

func expiredReply() *Reply {
	body, _ := json.Marshal(problem{Detail: ErrExpired.Error()})
	return &Reply{statusExpired, problemType, body}
}

// replyBox is an instance's one reply channel and who waits there. A reply is
// matched by the id of the request that caused it.
type replyBox struct {
	s       *Service
	channel driver.Channel

	mu      sync.Mutex
	waiting map[string][]*waiter
}

// A waiter is one caller that awaits replies to one request.
type waiter struct {
	id    string
	ended <-chan struct{} // Run is over: nothing comes any more

	mu      sync.Mutex
	replies []*driver.Message
	signal  chan struct{} // one or more replies are there
}

func (r *replyBox) init(s *Service) {
	r.s = s
	r.channel = driver.Channel{Name: ReplyPrefix + s.name + "." + s.opts.Instance, Transient: true}
	r.waiting = make(map[string][]*waiter)
}

func (r *replyBox) subscription() driver.Subscription {
	return driver.Subscription{Channel: r.channel, Group: r.s.name, Instance: r.s.opts.Instance, Window: 4 * maxReceive}
}

func (r *replyBox) await(id string) *waiter {
	w := &waiter{id: id, ended: r.s.ended, signal: make(chan struct{}, 1)}
	r.mu.Lock()
	r.waiting[id] = append(r.waiting[id], w)
	r.mu.Unlock()
	return w
}

func (r *replyBox) forget(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.waiting[w.id]
	for i, o := range list {
		if o == w {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(r.waiting, w.id)
	} else {
		r.waiting[w.id] = list
	}
}

// take gives replies to those who wait for them; others are counted and
// dropped. It is the feed of the reply channel's source.
func (r *replyBox) take(src *source, ds []*driver.Delivery) {
	settlements := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		settlements[i].Delivery = d
		r.mu.Lock()
		list := r.waiting[d.Message.CausationID]
		for _, w := range list {
			w.add(d.Message)
		}
		r.mu.Unlock()
		if len(list) == 0 {
			r.s.notice(Notice{Kind: NoticeLateReply, Channel: r.channel.Name, Message: d.Message})
		}
	}
	// The transport's own deadlines end it, as they do every call to a server.
	if from, err := src.settle(context.Background(), settlements); err != nil {
		r.s.notice(Notice{Kind: NoticeSettle, Channel: r.channel.Name, Err: err})
		src.renew(from) // else they stay in its window for ever
	}
}

func (w *waiter) add(m *driver.Message) {
	w.mu.Lock()
	w.replies = append(w.replies, m)
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// next waits for a reply, until ctx or Run ends.
func (w *waiter) next(ctx context.Context) (*driver.Message, error) {
	for {
		w.mu.Lock()
		if len(w.replies) > 0 {
			m := w.replies[0]
			w.replies = w.replies[1:]
			w.mu.Unlock()
			return m, nil
		}
		w.mu.Unlock()
		select {
		case <-w.signal:
		case <-w.ended:
			return nil, fmt.Errorf("%w: Run has ended", ErrNotRunning)
		case <-ctx.Done():
			return nil, ctx.Err()
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
	m := new(driver.Message)
	if err := c.fill(m, ctx, v, o, now()); err != nil {
		return nil, ctx, cancel, err
	}
	if err := s.serving(ctx); err != nil {
		return nil, ctx, cancel, err
	}
	m.ReplyTo = s.replies.channel.Name
	m.Timeout = max(within, time.Millisecond)
	w := s.replies.await(m.ID)
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
	m, err := w.next(wctx)
	if err != nil {
		if !errors.Is(err, ErrNotRunning) && !errors.Is(ctx.Err(), context.Canceled) {
			err = ErrNoReply
		}
		return nil, fmt.Errorf("request %s (id %s): %w", c.wire, w.id, err)
	}
	if err := from.caller().opts.Limits.checkIncoming(m); err != nil {
		return nil, fmt.Errorf("reply to %s (id %s): %w", c.wire, w.id, err)
	}
	return m, nil
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
