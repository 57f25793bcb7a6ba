package dovetail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A batcher joins the single sends of many callers to one channel into batches.
// A few sends are under way at once, each over its own round trip to the broker;
// callers beyond that queue, and the first of them sends for all. A caller who is
// alone sends at once, and no goroutine is needed. Each channel has its own, so
// that one whose broker side is slow does not hold up another.
//
// At most one send of a key is under way. Otherwise a caller who gave up could send
// the next message of the key while another caller still tries the first.
//
// Every caller has the service's SendTimeout, from when it came. A flight ends
// when the time of its leader is up. The leader came before all whom the flight
// keeps waiting, and so nobody needs a timer in order to leave the queue in time.
type batcher struct {
	mu      sync.Mutex
	flights int               // sends under way
	serial  uint64            // names flights
	keys    map[string]uint64 // that are under way, and in which flight
	queue   sendQueue
	why     error // why the last flight failed; nil if it did not
}

const (
	// maxFlights is how many sends are under way at once. More make batches smaller
	// and gain nothing (bench, send and latency with 16 and 64 callers).
	maxFlights = 4

	// maxJoined bounds how many sends share a batch.
	maxJoined = 512
)

func (b *batcher) send(ctx context.Context, s *Service, messages []*driver.Message, until time.Time) error {
	b.mu.Lock()
	if b.flights < maxFlights && b.queue.first() == nil && b.free(messages[0].Key) {
		flight := b.begin(messages)
		b.mu.Unlock()
		var err error
		defer func() { b.end(ctx, flight, messages, err) }()
		err = s.deliver(ctx, messages, until)
		return err
	}
	q := &queuedSend{messages: messages, until: until, lead: make(chan struct{}), done: make(chan error, 1)}
	b.queue.push(q, b.free(messages[0].Key))
	b.promote()
	b.mu.Unlock()
	select {
	case err := <-q.done:
		return err
	case <-q.lead:
		return b.sendAll(ctx, s, q)
	case <-ctx.Done():
		return b.abandon(ctx, q)
	}
}

// free reports whether no flight has a message of the key.
func (b *batcher) free(key string) bool {
	_, taken := b.keys[key]
	return !taken
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

// end ends a flight, which came to err, and gives its turn to others.
func (b *batcher) end(ctx context.Context, flight uint64, messages []*driver.Message, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() == nil { // else err is about the leader
		b.why = err
	}
	b.flights--
	for _, m := range messages {
		if b.keys[m.Key] == flight {
			delete(b.keys, m.Key)
			b.queue.unblock(m.Key)
		}
	}
	b.promote()
}

// promote gives the turn to the first of those whose keys are free.
func (b *batcher) promote() {
	if b.flights == maxFlights {
		return
	}
	q := b.queue.first()
	if q == nil {
		return
	}
	b.queue.remove(q)
	b.queue.block(q.messages[0].Key)
	q.flight = b.begin(q.messages)
	close(q.lead) // it sends for the others as well, as far as it can
}

// join takes those who queue, in order, into the flight that q leads, as far as
// their keys are not under way in another.
func (b *batcher) join(q *queuedSend) (others []*queuedSend) {
	b.queue.unblock(q.messages[0].Key) // its own key's may come along
	for o := b.queue.first(); o != nil && len(others) < maxJoined-1; o = b.queue.first() {
		b.queue.remove(o)
		b.take(o.messages, q.flight)
		others = append(others, o)
	}
	b.queue.block(q.messages[0].Key)
	for _, o := range others {
		b.queue.block(o.messages[0].Key)
	}
	return others
}

// sendAll sends for all who queue, q first. If its time ends before the others'
// messages are confirmed, they queue again, before all who came later.
func (b *batcher) sendAll(ctx context.Context, s *Service, q *queuedSend) error {
	b.mu.Lock()
	others := b.join(q)
	b.promote() // whom this flight has no room for
	why := b.why
	b.mu.Unlock()
	batch := q.messages
	if len(others) > 0 {
		batch = make([]*driver.Message, 0, 1+len(others))
		batch = append(batch, q.messages...)
		for _, o := range others {
			batch = append(batch, o.messages...)
		}
	}
	var err error
	defer func() { b.end(ctx, q.flight, batch, err) }()
	if why != nil && time.Until(q.until) <= 0 {
		err = neverTried(s, batch, why)
	} else {
		err = s.deliver(ctx, batch, q.until)
	}
	if len(others) == 0 {
		return q.outcome(err)
	}
	gaveUp := ctx.Err() != nil
	at := time.Now()
	timeUp, enough := !at.Before(q.until), at.Add(s.opts.SendTimeout/10)
	b.mu.Lock()
	defer b.mu.Unlock() // before it ends
	var left []*queuedSend
	for i, o := range others {
		own := share(err, i+1)
		if own != nil && !o.gone && (gaveUp || timeUp && o.until.After(enough)) {
			o.unsure = o.unsure || errors.Is(own, ErrUnknownOutcome)
			left = append(left, o)
			continue
		}
		o.done <- o.outcome(own)
	}
	for _, o := range slices.Backward(left) {
		b.queue.putBack(o, o.messages[0].Key == "") // this flight still has its key
	}
	return q.outcome(share(err, 0))
}

// neverTried is the error of messages whose callers' time was up before it was
// their turn. why is what kept those before them.
func neverTried(s *Service, messages []*driver.Message, why error) error {
	var se *SendError
	if errors.As(why, &se) && len(se.Failures) > 0 {
		why = se.Failures[0].Err
	}
	d := newPendingSend(s, messages)
	d.fail(fmt.Errorf("waited %v behind others of the channel: %w", s.opts.SendTimeout, why))
	return d.result()
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
	i, failed := slices.BinarySearchFunc(se.Failures, index, func(f driver.SendFailure, index int) int { return f.Index - index })
	if !failed {
		return nil
	}
	return unsent(se.Failures[i].Err, se.Failures[i].Unknown)
}

// abandon leaves the queue because the caller's context has ended. Whoever was
// given the turn meanwhile lets others have it.
func (b *batcher) abandon(ctx context.Context, q *queuedSend) error {
	b.mu.Lock()
	if q.lane != nil {
		b.queue.remove(q)
		b.mu.Unlock()
		return q.outcome(ctx.Err())
	}
	q.gone = true
	b.mu.Unlock()
	select {
	case <-q.lead: // closed before it left the queue
		b.end(ctx, q.flight, q.messages, nil)
		return q.outcome(ctx.Err())
	case err := <-q.done:
		return err
	default:
	}
	return unsent(ctx.Err(), true) // another caller is sending it
}
