package dovetail

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A batcher joins the single sends of many callers to one channel into batches:
// one caller sends while the others queue, and the first of them then sends for
// all. A caller that is alone sends at once, and no goroutine is needed. Each
// channel has its own, so that one whose broker side is slow does not hold up
// another.
type batcher struct {
	mu    sync.Mutex
	busy  bool
	queue []*queuedSend
}

type queuedSend struct {
	messages []*driver.Message // one
	lead     chan struct{}     // closed: it is your turn to send, for all who queue
	done     chan error        // your message's outcome
	unsure   bool              // it may have been sent by a leader who gave up
	gone     bool              // nobody waits for it any more
}

// maxJoined bounds how many sends share a batch.
const maxJoined = 512

func (b *batcher) send(ctx context.Context, s *Service, messages []*driver.Message) error {
	b.mu.Lock()
	if !b.busy {
		b.busy = true
		b.mu.Unlock()
		defer b.handOver()
		return s.deliver(ctx, messages)
	}
	q := &queuedSend{messages: messages, lead: make(chan struct{}), done: make(chan error, 1)}
	b.queue = append(b.queue, q)
	b.mu.Unlock()
	select {
	case err := <-q.done:
		return err
	case <-q.lead:
		return b.sendAll(ctx, s, q)
	case <-ctx.Done():
		return b.abandon(ctx, s, q)
	}
}

// sendAll sends for all who queue, q first. If its context ends before the
// others' messages are confirmed, they queue again, before all who came later.
func (b *batcher) sendAll(ctx context.Context, s *Service, q *queuedSend) error {
	defer b.handOver()
	b.mu.Lock()
	n := min(len(b.queue), maxJoined-1)
	others := b.queue[:n:n]
	b.queue = b.queue[n:]
	b.mu.Unlock()
	if len(others) == 0 {
		return q.outcome(s.deliver(ctx, q.messages))
	}
	batch := make([]*driver.Message, 0, 1+len(others))
	batch = append(batch, q.messages...)
	for _, o := range others {
		batch = append(batch, o.messages...)
	}
	err := s.deliver(ctx, batch)
	gaveUp := err != nil && ctx.Err() != nil
	b.mu.Lock()
	defer b.mu.Unlock() // before it hands over
	var left []*queuedSend
	for i, o := range others {
		own := share(err, i+1)
		if own != nil && gaveUp && !o.gone {
			o.unsure = o.unsure || errors.Is(own, ErrUnknownOutcome)
			left = append(left, o)
			continue
		}
		o.done <- o.outcome(own)
	}
	if len(left) > 0 {
		b.queue = append(left, b.queue...)
	}
	return q.outcome(share(err, 0))
}

// outcome is what the caller is told of its last attempt: a failure is an
// unknown outcome if an earlier attempt was.
func (q *queuedSend) outcome(err error) error {
	if err == nil || !q.unsure || errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	return unsent(err, true)
}

// unsent is the error of a send of one message.
func unsent(why error, unknown bool) error {
	own := &SendError{}
	own.Fail(0, why, unknown)
	if unknown {
		return &unknownOutcome{own}
	}
	return own
}

// share is the part of a batch's error that is about the message at index.
func share(err error, index int) error {
	var se *SendError
	if err == nil || !errors.As(err, &se) {
		return err
	}
	i := slices.IndexFunc(se.Failures, func(f driver.SendFailure) bool { return f.Index == index })
	if i < 0 {
		return nil
	}
	return unsent(se.Failures[i].Err, se.Failures[i].Unknown)
}

// abandon leaves the queue because the caller's context has ended. Whoever was
// given the turn meanwhile still sends for the others.
func (b *batcher) abandon(ctx context.Context, s *Service, q *queuedSend) error {
	b.mu.Lock()
	if i := slices.Index(b.queue, q); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
		b.mu.Unlock()
		return q.outcome(ctx.Err())
	}
	q.gone = true
	b.mu.Unlock()
	select {
	case <-q.lead: // closed before it left the queue
		b.handOver()
		return q.outcome(ctx.Err())
	case err := <-q.done:
		return err
	default:
	}
	return unsent(ctx.Err(), true) // another caller is sending it
}

// handOver gives the turn to the first who queues.
func (b *batcher) handOver() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.busy, b.queue = false, nil
		return
	}
	close(b.queue[0].lead)
	b.queue = b.queue[1:]
}
