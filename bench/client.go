package bench

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Client is a library that carries messages, with as much as is needed to
// measure it: the raw clients of RabbitMQ and Kafka are some, and so are peers
// (see Peer). Its methods are safe for concurrent use. What is confirmed must
// be as safe as on the other sides.
type Client interface {
	// Prepare makes a channel for one round – a queue, a stream, a topic – and
	// returns what removes it.
	Prepare(ctx context.Context, channel string) (remove func() error, err error)

	// Send sends one message and returns once it is confirmed.
	Send(ctx context.Context, channel string, body []byte) error

	// Stream sends count messages in order as fast as one caller can, about
	// window of them unconfirmed, and returns once all are confirmed.
	Stream(ctx context.Context, channel string, count, window int, body func(n int) []byte) error

	// Consume begins to call handle for each message, which is acknowledged
	// once handle has returned; handle may be called from several goroutines.
	// It returns when the consumer is ready. stop ends it and returns when the
	// server has the acknowledgements.
	Consume(ctx context.Context, channel string, handle func(body []byte)) (stop func() error, err error)

	// Answer begins to answer requests with what they carry.
	Answer(ctx context.Context, channel string) (stop func() error, err error)

	// Request asks and waits for the answer.
	Request(ctx context.Context, channel string, body []byte) error

	Close(ctx context.Context) error
}

// KeyOf is the key of a body that Stream or Send is given: messages of one key
// keep their order.
func KeyOf(body []byte) string { return keys[body[keyAt]&63] }

// plain does the work through a Client.
type plain struct{ Client }

func (p plain) close(ctx context.Context) error { return p.Close(ctx) }

func (p plain) carry() {
	if c, ok := p.Client.(enveloped); ok {
		c.carry()
	}
}

// round prepares a channel for do and removes it afterwards.
func (p plain) round(ctx context.Context, w work, do func() (sample, error)) (s sample, err error) {
	remove, err := p.Prepare(ctx, w.channel)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return do()
}

// publish is one caller that keeps the pipeline full, or w.callers that each
// wait for their confirmations.
func (p plain) publish(ctx context.Context, w work) (sample, error) {
	ring := bodies(w.size)
	if w.callers > 0 {
		return timed(ctx, w, func(ctx context.Context, n int) error { return p.Send(ctx, w.channel, ring[n%len(ring)]) })
	}
	begin := time.Now()
	err := p.Stream(ctx, w.channel, w.count, max(w.batch, 1), func(n int) []byte {
		if n&255 == 255 {
			w.tick(256)
		}
		return ring[n%len(ring)]
	})
	return sample{count: w.count, elapsed: time.Since(begin)}, err
}

func (p plain) send(ctx context.Context, w work) (sample, error) {
	return p.round(ctx, w, func() (sample, error) {
		if err := p.Send(ctx, w.channel, bodies(w.size)[0]); err != nil {
			return sample{}, err
		}
		return w.measured(func() (sample, error) { return p.publish(ctx, w) })
	})
}

func (p plain) receive(ctx context.Context, w work) (sample, error) {
	return p.round(ctx, w, func() (sample, error) {
		fill := w
		fill.callers, fill.batch, fill.tick = 0, 1000, func(int) {}
		if _, err := p.publish(ctx, fill); err != nil {
			return sample{}, err
		}
		a := newArrival(w)
		return w.measured(func() (sample, error) {
			stop, err := p.Consume(ctx, w.channel, func([]byte) { a.add() })
			if err != nil {
				return sample{}, err
			}
			err = a.wait(ctx)
			return a.between(), errors.Join(err, stop())
		})
	})
}

// consume is Consume that has had a message, of a kind that see is not shown:
// what a client has to learn of a new channel before it can send and receive is
// no part of a flow.
func (p plain) consume(ctx context.Context, w work, see func([]byte)) (stop func() error, err error) {
	if err := p.Send(ctx, w.channel, []byte{keyAt: 0}); err != nil {
		return nil, err
	}
	came := make(chan struct{})
	var once sync.Once
	stop, err = p.Consume(ctx, w.channel, func(b []byte) {
		if len(b) < minSize {
			once.Do(func() { close(came) })
			return
		}
		see(b)
	})
	if err != nil {
		return nil, err
	}
	if err := waitFor(ctx, came); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

func (p plain) flow(ctx context.Context, w work) (sample, error) {
	return p.round(ctx, w, func() (sample, error) {
		a := newArrival(w)
		sending := w
		sending.tick = func(int) {}
		stop, err := p.consume(ctx, w, func([]byte) { a.add() })
		if err != nil {
			return sample{}, err
		}
		s, err := w.measured(func() (sample, error) {
			begin := time.Now()
			_, err := p.publish(ctx, sending)
			if err == nil {
				err = a.wait(ctx)
			}
			return sample{count: w.count, elapsed: time.Since(begin)}, err
		})
		return s, errors.Join(err, stop())
	})
}

func (p plain) latency(ctx context.Context, w work) (sample, error) {
	return p.round(ctx, w, func() (sample, error) {
		watch := newStopwatch(w)
		stop, err := p.consume(ctx, w, watch.see)
		if err != nil {
			return sample{}, err
		}
		s, err := w.measured(func() (sample, error) {
			err := openLoop(ctx, w, func(ctx context.Context, body []byte) error { return p.Send(ctx, w.channel, body) })
			if err == nil {
				err = watch.wait(ctx)
			}
			return watch.sample(), err
		})
		return s, errors.Join(err, stop())
	})
}

func (p plain) request(ctx context.Context, w work) (s sample, err error) {
	stop, err := p.Answer(ctx, w.channel)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	ring := bodies(w.size)
	one := func(ctx context.Context, n int) error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		return p.Request(ctx, w.channel, ring[n%len(ring)])
	}
	if err := one(ctx, 0); err != nil {
		return s, err
	}
	return w.measured(func() (sample, error) { return timed(ctx, w, one) })
}
