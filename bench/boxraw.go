package bench

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

// rawBox does the work of outbox and inbox with an Outbox and nats.go.
type rawBox struct {
	absent
	open func(ctx context.Context, round string) (Outbox, error)
	nats *rawNATS
	url  string // of its server
}

// round opens an outbox for do and removes it afterwards.
func (r *rawBox) round(ctx context.Context, w work, do func(Outbox) (sample, error)) (s sample, err error) {
	ob, err := r.open(ctx, roundName(w))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, ob.Close(context.WithoutCancel(ctx))) }()
	return do(ob)
}

func (r *rawBox) drain(ctx context.Context, w work) (sample, error) {
	return r.round(ctx, w, func(ob Outbox) (s sample, err error) {
		js, remove, err := r.nats.stream(ctx, w)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, remove()) }()
		return r.empty(ctx, w, ob, r.to(js, w), func(ctx context.Context) (int, error) { return inStream(ctx, js, w) })
	})
}

func (r *rawBox) alone(ctx context.Context, w work) (sample, error) {
	return r.round(ctx, w, func(ob Outbox) (sample, error) {
		var n atomic.Int64
		stub := Destination{Publish: func(_ context.Context, bodies [][]byte) error { n.Add(int64(len(bodies))); return nil }}
		return r.empty(ctx, w, ob, stub, func(context.Context) (int, error) { return int(n.Load()), nil })
	})
}

// empty fills the outbox and has it published.
func (r *rawBox) empty(ctx context.Context, w work, ob Outbox, to Destination, count func(context.Context) (int, error)) (sample, error) {
	if err := ob.Fill(ctx, w.count, numbered(w.size)); err != nil {
		return sample{}, err
	}
	return held(ctx, w, ob.Hold, func() (sample, error) {
		return drained(ctx, w, func() (func() error, error) { return ob.Relay(ctx, to) }, count)
	})
}

// to is the round's stream.
func (r *rawBox) to(js jetstream.JetStream, w work) Destination {
	subject := w.channel + ".p0"
	return Destination{URL: r.url, Subject: subject, Publish: func(ctx context.Context, bodies [][]byte) error {
		acks := make([]jetstream.PubAckFuture, len(bodies))
		for i, b := range bodies {
			var err error
			if acks[i], err = js.PublishMsgAsync(r.nats.message(subject, b)); err != nil {
				return err
			}
		}
		for _, a := range acks {
			select {
			case <-a.Ok():
			case err := <-a.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}}
}

// delivering runs do while a relay publishes and a consumer consumes.
func (r *rawBox) delivering(ctx context.Context, w work, do func(Outbox, *lags) (sample, error)) (sample, error) {
	return r.round(ctx, w, func(ob Outbox) (s sample, err error) {
		js, remove, err := r.nats.stream(ctx, w)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, remove()) }()
		l := newLags(w)
		end, err := r.nats.consume(ctx, w, l.deliver)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, end()) }()
		stop, err := ob.Relay(ctx, r.to(js, w))
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		return held(ctx, w, ob.Hold, func() (sample, error) {
			return w.measured(func() (sample, error) { return do(ob, l) })
		})
	})
}

func (r *rawBox) writers(ctx context.Context, w work) (sample, error) {
	return r.delivering(ctx, w, func(ob Outbox, l *lags) (sample, error) { return l.whileWriting(ctx, w, ob.Write) })
}

func (r *rawBox) paced(ctx context.Context, w work) (sample, error) {
	return r.delivering(ctx, w, func(ob Outbox, l *lags) (sample, error) { return l.paced(ctx, w, ob.Write) })
}

func (r *rawBox) cost(ctx context.Context, w work) (sample, error) {
	return r.round(ctx, w, func(ob Outbox) (sample, error) {
		ring := bodies(w.size)
		return held(ctx, w, ob.Hold, func() (sample, error) {
			return w.measured(func() (sample, error) {
				return timed(ctx, w, func(ctx context.Context, n int) error { return ob.Write(ctx, rowName(n), ring[n%len(ring)]) })
			})
		})
	})
}

// inbox enters ids that the goroutines take turns to make.
func (r *rawBox) inbox(ctx context.Context, w work) (sample, error) {
	return r.round(ctx, w, func(ob Outbox) (sample, error) {
		return w.measured(func() (sample, error) {
			batches := w
			batches.count, batches.tick = (w.count+w.batch-1)/w.batch, func(n int) { w.tick(n * w.batch) }
			s, err := many(ctx, batches, func(ctx context.Context, n int) error {
				ids := make([]string, 0, w.batch)
				for i := n * w.batch; i < min(w.count, (n+1)*w.batch); i++ {
					ids = append(ids, "0197f2a1-0000-7000-8000-"+strconv.Itoa(100_000_000_000+i))
				}
				return ob.Enter(ctx, ids)
			})
			s.count = w.count
			return s, err
		})
	})
}

// relayOf publishes what take gives until stop: take is called by workers at
// once, and again at once as long as it returns rows, else after a poll.
func relayOf(ctx context.Context, workers int, take func(context.Context) (int, error)) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		running.Go(func() {
			p := newPacer()
			defer p.stop()
			for ctx.Err() == nil {
				n, err := take(ctx)
				if err != nil && ctx.Err() == nil {
					errs[i] = err
					return
				}
				if n == 0 {
					p.wait(rawPoll)
				}
			}
		})
	}
	return func() error {
		cancel()
		running.Wait()
		return errors.Join(errs...)
	}
}
