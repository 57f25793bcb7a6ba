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

// sendAll sends for all who queue, q first.
func (b *batcher) sendAll(ctx context.Context, s *Service, q *queuedSend) error {
	defer b.handOver()
	b.mu.Lock()
	n := min(len(b.queue), maxJoined-1)
	others := b.queue[:n:n]
	b.queue = b.queue[n:]
	b.mu.Unlock()
	if len(others) == 0 {
		return s.deliver(ctx, q.messages)
	}
	batch := make([]*driver.Message, 0, 1+len(others))
	batch = append(batch, q.messages...)
	for _, o := range others {
		batch = append(batch, o.messages...)
	}
	// The others' messages must not hang on the context of this caller.
	err := s.deliver(context.WithoutCancel(ctx), batch)
	for i, o := range others {
		o.done <- share(err, i+1)
	}
	return share(err, 0)
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
	own := &SendError{}
	own.Fail(0, se.Failures[i].Err, se.Failures[i].Unknown)
	if se.Failures[i].Unknown {
		return &unknownOutcome{own}
	}
	return own
}

// abandon leaves the queue because the caller's context has ended. Whoever was
// given the turn meanwhile still sends for the others.
func (b *batcher) abandon(ctx context.Context, s *Service, q *queuedSend) error {
	b.mu.Lock()
	if i := slices.Index(b.queue, q); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
		b.mu.Unlock()
		return ctx.Err()
	}
	b.mu.Unlock()
	select {
	case <-q.lead: // closed before it left the queue
		b.handOver()
		return ctx.Err()
	case err := <-q.done:
		return err
	default:
	}
	own := &SendError{}
	own.Fail(0, ctx.Err(), true) // another caller is sending it
	return &unknownOutcome{own}
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
