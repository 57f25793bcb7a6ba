package dovetail

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A batcher joins the single sends of many callers to one channel into batches.
// A few sends are under way at once, each over its own round trip to the broker;
// callers beyond that queue, and the first of them sends for all. A caller who is
// alone sends at once, and no goroutine is needed. Each channel has its own, so
// that one whose broker side is slow does not hold up another.
//
// Of one key only one send is under way: a caller who gave up on its message, of
// which the sender may yet be trying, can send the next of its key.
type batcher struct {
	mu      sync.Mutex
	flights int               // sends under way
	serial  uint64            // names flights
	keys    map[string]uint64 // that are under way, and in which flight
	queue   []*queuedSend
}

type queuedSend struct {
	messages []*driver.Message // one
	lead     chan struct{}     // closed: it is your turn to send, for all who queue
	flight   uint64            // that it leads
	done     chan error        // your message's outcome
	unsure   bool              // it may have been sent by a leader who gave up
	gone     bool              // nobody waits for it any more
}

const (
	// maxFlights is how many sends are under way at once. More take from batches
	// what they gain (bench, send and latency with 16 and 64 callers).
	maxFlights = 4

	// maxJoined bounds how many sends share a batch.
	maxJoined = 512
)

func (b *batcher) send(ctx context.Context, s *Service, messages []*driver.Message) error {
	b.mu.Lock()
	if b.flights < maxFlights && len(b.queue) == 0 && b.free(messages, 0) {
		flight := b.begin(messages)
		b.mu.Unlock()
		defer b.end(flight, messages)
		return s.deliver(ctx, messages)
	}
	q := &queuedSend{messages: messages, lead: make(chan struct{}), done: make(chan error, 1)}
	b.queue = append(b.queue, q)
	b.promote()
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

// free reports whether a message's key is not under way in another flight.
func (b *batcher) free(messages []*driver.Message, flight uint64) bool {
	in, taken := b.keys[messages[0].Key]
	return !taken || in == flight
}

// begin makes a new flight of a message.
func (b *batcher) begin(messages []*driver.Message) (flight uint64) {
	b.flights++
	b.serial++
	b.take(messages, b.serial)
	return b.serial
}

// take takes a message into a flight.
func (b *batcher) take(messages []*driver.Message, flight uint64) {
	if messages[0].Key == "" {
		return
	}
	if b.keys == nil {
		b.keys = make(map[string]uint64)
	}
	b.keys[messages[0].Key] = flight
}

// end ends a flight, and gives its turn to others.
func (b *batcher) end(flight uint64, messages []*driver.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flights--
	for _, m := range messages {
		if b.keys[m.Key] == flight {
			delete(b.keys, m.Key)
		}
	}
	b.promote()
}

// promote gives turns to those who queue, in order, as far as their keys are free.
func (b *batcher) promote() {
	for i := 0; i < len(b.queue) && b.flights < maxFlights; i++ {
		if q := b.queue[i]; b.free(q.messages, 0) {
			q.flight = b.begin(q.messages)
			b.queue = slices.Delete(b.queue, i, i+1)
			close(q.lead)
			return // it sends for the others as well, as far as it can
		}
	}
}

// join takes those who queue, in order, into a flight, as far as their keys are
// not under way in another.
func (b *batcher) join(flight uint64) (others []*queuedSend) {
	left := b.queue[:0]
	for _, o := range b.queue {
		if len(others) < maxJoined-1 && b.free(o.messages, flight) {
			b.take(o.messages, flight)
			others = append(others, o)
			continue
		}
		left = append(left, o)
	}
	clear(b.queue[len(left):])
	b.queue = left
	return others
}

// sendAll sends for all who queue, q first. If its context ends before the
// others' messages are confirmed, they queue again, before all who came later.
func (b *batcher) sendAll(ctx context.Context, s *Service, q *queuedSend) error {
	b.mu.Lock()
	others := b.join(q.flight)
	b.promote() // whom this flight has no room for
	b.mu.Unlock()
	batch := q.messages
	if len(others) > 0 {
		batch = make([]*driver.Message, 0, 1+len(others))
		batch = append(batch, q.messages...)
		for _, o := range others {
			batch = append(batch, o.messages...)
		}
	}
	defer b.end(q.flight, batch)
	err := s.deliver(ctx, batch)
	if len(others) == 0 {
		return q.outcome(err)
	}
	gaveUp := err != nil && ctx.Err() != nil
	b.mu.Lock()
	defer b.mu.Unlock() // before it ends
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
		b.end(q.flight, q.messages)
		return q.outcome(ctx.Err())
	case err := <-q.done:
		return err
	default:
	}
	return unsent(ctx.Err(), true) // another caller is sending it
}
