package bench

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// rawNATS is nats.go used as its documents say for throughput: publishing
// pipelined and confirmed, a pull consumer that is kept full, an explicit
// acknowledgement for each message. Streams are as natsbus makes them.
type rawNATS struct {
	from, to *nats.Conn  // sender and receiver
	envelope nats.Header // what its messages carry beside the body; nil for nothing
	done     func(ctx context.Context) error
}

func (r *rawNATS) close(ctx context.Context) error { return r.done(ctx) }

func (r *rawNATS) carry() {
	r.envelope = nats.Header{}
	for _, a := range envelopeOf("ce-", true) {
		r.envelope[a.Name] = []string{a.Value}
	}
}

// message makes a message; the headers are shared, as nobody changes them.
func (r *rawNATS) message(subject string, body []byte) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: r.envelope, Data: body}
}

func (r *rawNATS) jetstream() (jetstream.JetStream, error) { return jetstream.New(r.from) }

func streamOf(w work) string { return strings.ReplaceAll(w.channel, ".", "+") }

// stream makes the round's stream and returns what removes it.
func (r *rawNATS) stream(ctx context.Context, w work) (js jetstream.JetStream, remove func() error, err error) {
	if js, err = jetstream.New(r.from, jetstream.WithPublishAsyncMaxPending(max(w.batch, 1))); err != nil {
		return nil, nil, err
	}
	// A server that is removing the last of its streams removes the directory that
	// the next one is made in.
	const noStore = 10049
	var refused *jetstream.APIError
	for try := 0; try == 0 || try < 10 && errors.As(err, &refused) && refused.ErrorCode == noStore; try++ {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: streamOf(w), Subjects: []string{w.channel + ".*"}, Retention: jetstream.WorkQueuePolicy,
			Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, Duplicates: 30 * time.Second, AllowDirect: true,
		})
	}
	return js, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		return js.DeleteStream(ctx, streamOf(w))
	}, err
}

func (r *rawNATS) send(ctx context.Context, w work) (s sample, err error) {
	js, remove, err := r.stream(ctx, w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if _, err := js.Publish(ctx, w.channel+".p0", bodies(w.size)[0]); err != nil {
		return s, err
	}
	return w.measured(func() (sample, error) { return r.publish(ctx, js, w) })
}

// publish is one caller that keeps the pipeline full, or w.callers that each
// wait for their confirmations.
func (r *rawNATS) publish(ctx context.Context, js jetstream.JetStream, w work) (sample, error) {
	ring, subject := bodies(w.size), w.channel+".p0"
	if w.callers > 0 {
		return timed(ctx, w, func(ctx context.Context, n int) error {
			_, err := js.PublishMsg(ctx, r.message(subject, ring[n%len(ring)]))
			return err
		})
	}
	begin := time.Now()
	acks := make([]jetstream.PubAckFuture, 0, w.count)
	for n := range w.count {
		f, err := js.PublishMsgAsync(r.message(subject, ring[n%len(ring)]))
		for errors.Is(err, jetstream.ErrTooManyStalledMsgs) && ctx.Err() == nil {
			f, err = js.PublishMsgAsync(r.message(subject, ring[n%len(ring)])) // the pipeline was full for 200 ms: a slow disk
		}
		if err != nil {
			return sample{}, err
		}
		acks = append(acks, f)
		if n&255 == 255 {
			w.tick(256)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return sample{}, ctx.Err()
	}
	took := time.Since(begin)
	for _, f := range acks {
		select {
		case err := <-f.Err():
			return sample{}, err
		default:
		}
	}
	return sample{count: w.count, elapsed: took}, nil
}

// consume begins to consume with see as the handler. What it returns ends it
// once the server has the acknowledgements.
func (r *rawNATS) consume(ctx context.Context, w work, see func([]byte)) (stop func() error, err error) {
	js, err := jetstream.New(r.to)
	if err != nil {
		return nil, err
	}
	cons, err := js.CreateConsumer(ctx, streamOf(w), jetstream.ConsumerConfig{
		Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 65_536,
	})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var failed error
	run, err := cons.Consume(func(m jetstream.Msg) {
		see(m.Data())
		if err := m.Ack(); err != nil {
			mu.Lock()
			failed = err
			mu.Unlock()
		}
	}, jetstream.PullMaxMessages(1280))
	if err != nil {
		return nil, err
	}
	return func() error {
		run.Stop()
		<-run.Closed()
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(failed, r.to.Flush())
	}, nil
}

func (r *rawNATS) receive(ctx context.Context, w work) (s sample, err error) {
	js, remove, err := r.stream(ctx, w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	fill := w
	fill.callers, fill.batch, fill.tick = 0, 1000, func(int) {}
	if _, err := r.publish(ctx, js, fill); err != nil {
		return s, err
	}
	a := newArrival(w)
	return w.measured(func() (sample, error) {
		stop, err := r.consume(ctx, w, func([]byte) { a.add() })
		if err != nil {
			return sample{}, err
		}
		err = a.wait(ctx)
		return a.between(), errors.Join(err, stop())
	})
}

func (r *rawNATS) flow(ctx context.Context, w work) (s sample, err error) {
	js, remove, err := r.stream(ctx, w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	a := newArrival(w)
	sending := w
	sending.tick = func(int) {}
	return w.measured(func() (sample, error) {
		stop, err := r.consume(ctx, w, func([]byte) { a.add() })
		if err != nil {
			return sample{}, err
		}
		begin := time.Now()
		_, err = r.publish(ctx, js, sending)
		if err == nil {
			err = a.wait(ctx)
		}
		return sample{count: w.count, elapsed: time.Since(begin)}, errors.Join(err, stop())
	})
}

func (r *rawNATS) latency(ctx context.Context, w work) (s sample, err error) {
	js, remove, err := r.stream(ctx, w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	watch := newStopwatch(w)
	return w.measured(func() (sample, error) {
		stop, err := r.consume(ctx, w, watch.see)
		if err != nil {
			return sample{}, err
		}
		err = openLoop(ctx, w, func(ctx context.Context, body []byte) error {
			_, err := js.PublishMsg(ctx, r.message(w.channel+".p0", body))
			return err
		})
		if err == nil {
			err = watch.wait(ctx)
		}
		return watch.sample(), errors.Join(err, stop())
	})
}

// request is request/reply of core NATS.
func (r *rawNATS) request(ctx context.Context, w work) (s sample, err error) {
	sub, err := r.to.Subscribe(w.channel+".t", func(m *nats.Msg) {
		_ = m.RespondMsg(r.message("", m.Data)) // an answer that is lost is a request that fails
	})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, sub.Unsubscribe()) }()
	if err := r.to.Flush(); err != nil {
		return s, err
	}
	ring := bodies(w.size)
	return w.measured(func() (sample, error) {
		return timed(ctx, w, func(ctx context.Context, n int) error {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			_, err := r.from.RequestMsgWithContext(ctx, r.message(w.channel+".t", ring[n%len(ring)]))
			return err
		})
	})
}
