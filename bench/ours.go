package bench

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// ours does the work through Dovetail: contracts, services, the run loop.
type ours struct {
	open func(ctx context.Context) (driver.Conn, error) // another connection to one engine
	// middleware that every handler gets, as programs have some.
	middleware []dovetail.Middleware
}

func pass(next dovetail.Handler) dovetail.Handler {
	return func(ctx context.Context, in *dovetail.Delivery) error { return next(ctx, in) }
}

func (o *ours) close(context.Context) error { return nil }

func document(w work) dovetail.Document[[]byte] {
	if w.unkeyed {
		return dovetail.NewDocument[[]byte](w.channel)
	}
	return dovetail.NewDocument[[]byte](w.channel).Keyed(func(b []byte) string { return keys[b[keyAt]&63] })
}

// A member is a service on a connection of its own.
type member struct {
	*dovetail.Service
	conn driver.Conn
	stop context.CancelFunc
	end  chan error
}

func (o *ours) join(ctx context.Context, name string) (*member, error) {
	return o.joinBy(ctx, name, nil)
}

// joinBy is join with a connection that wrap has changed.
func (o *ours) joinBy(ctx context.Context, name string, wrap func(driver.Conn) driver.Conn) (*member, error) {
	conn, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	if wrap != nil {
		conn = wrap(conn)
	}
	return &member{Service: dovetail.New(name, conn, dovetail.Options{
		Logger: slog.New(slog.DiscardHandler), Middleware: o.middleware,
	}), conn: conn}, nil
}

// start runs the service and waits until it serves.
func (m *member) start(ctx context.Context) error {
	ctx, m.stop = context.WithCancel(ctx)
	m.end = make(chan error, 1)
	go func() { m.end <- m.Run(ctx) }()
	select {
	case <-m.Ready():
		return nil
	case err := <-m.end:
		m.end <- err
		return err
	}
}

// leave ends the service, its channels and its connection.
func (m *member) leave(channels ...string) error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if m.stop != nil {
		m.stop()
		errs = append(errs, <-m.end)
	} else {
		errs = append(errs, m.Close(ctx))
	}
	if r, ok := m.conn.(driver.Remover); ok {
		for _, c := range append(channels, dovetail.DeadLetterChannel(m.Name()), dovetail.RequeueChannel(m.Name())) {
			if err := m.remove(ctx, r, c); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, m.conn.Close(ctx))...)
}

// remove removes a channel, trying again where the server fails: RabbitMQ is seen
// to end a connection with an internal error when queues are deleted at once.
func (m *member) remove(ctx context.Context, from driver.Remover, channel string) error {
	for attempt := 1; ; attempt++ {
		err := from.RemoveChannel(ctx, channel)
		switch m.conn.Classify(err) {
		case driver.NotFound:
			return nil
		case driver.Retryable:
			if attempt < 5 {
				select {
				case <-time.After(200 * time.Millisecond):
					continue
				case <-ctx.Done():
				}
			}
		}
		return err
	}
}

func (o *ours) send(ctx context.Context, w work) (s sample, err error) {
	m, err := o.join(ctx, "bench-sender")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.leave(w.channel)) }()
	doc := document(w)
	m.Declare(doc)
	if err := doc.Send(ctx, m, bodies(w.size)[0]); err != nil { // provisions
		return s, err
	}
	return w.measured(func() (sample, error) { return publish(ctx, w, m.Service, doc) })
}

// publish sends w.count messages, in batches or one by one.
func publish(ctx context.Context, w work, svc *dovetail.Service, doc dovetail.Document[[]byte]) (sample, error) {
	ring := bodies(w.size)
	if w.callers > 0 {
		return timed(ctx, w, func(ctx context.Context, n int) error { return doc.Send(ctx, svc, ring[n%len(ring)]) })
	}
	begin := time.Now()
	batch := make([][]byte, 0, w.batch)
	for n := 0; n < w.count; {
		batch = batch[:0]
		for ; n < w.count && len(batch) < w.batch; n++ {
			batch = append(batch, ring[n%len(ring)])
		}
		if err := doc.SendAll(ctx, svc, batch); err != nil {
			return sample{}, err
		}
		w.tick(len(batch))
	}
	return sample{count: w.count, elapsed: time.Since(begin)}, nil
}

func (o *ours) receive(ctx context.Context, w work) (s sample, err error) {
	m, err := o.join(ctx, "bench-receiver")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.leave(w.channel)) }()
	doc := document(w)
	m.Declare(doc)
	fill := w
	fill.callers, fill.batch, fill.tick = 0, 1000, func(int) {}
	if _, err := publish(ctx, fill, m.Service, doc); err != nil {
		return s, err
	}
	a := newArrival(w)
	doc.Handle(m.Service, func(context.Context, []byte) error { a.add(); return nil })
	return w.measured(func() (sample, error) {
		if err := m.start(ctx); err != nil {
			return sample{}, err
		}
		if err := a.wait(ctx); err != nil {
			return sample{}, err
		}
		return a.between(), nil
	})
}

func (o *ours) flow(ctx context.Context, w work) (s sample, err error) {
	from, to, err := o.pair(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, from.leave(), to.leave(w.channel)) }()
	doc := document(w)
	a := newArrival(w)
	doc.Handle(to.Service, func(context.Context, []byte) error { a.add(); return nil })
	from.Declare(doc)
	if err := to.start(ctx); err != nil {
		return s, err
	}
	sending := w
	sending.tick = func(int) {}
	return w.measured(func() (sample, error) {
		begin := time.Now()
		if _, err := publish(ctx, sending, from.Service, doc); err != nil {
			return sample{}, err
		}
		if err := a.wait(ctx); err != nil {
			return sample{}, err
		}
		return sample{count: w.count, elapsed: time.Since(begin)}, nil
	})
}

func (o *ours) pair(ctx context.Context) (from, to *member, err error) {
	if from, err = o.join(ctx, "bench-sender"); err != nil {
		return nil, nil, err
	}
	if to, err = o.join(ctx, "bench-receiver"); err != nil {
		return nil, nil, errors.Join(err, from.leave())
	}
	return from, to, nil
}

func (o *ours) latency(ctx context.Context, w work) (s sample, err error) {
	from, to, err := o.pair(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, from.leave(), to.leave(w.channel)) }()
	doc := document(w)
	watch := newStopwatch(w)
	doc.Handle(to.Service, func(_ context.Context, b []byte) error { watch.see(b); return nil })
	from.Declare(doc)
	if err := to.start(ctx); err != nil {
		return s, err
	}
	return w.measured(func() (sample, error) {
		err := openLoop(ctx, w, func(ctx context.Context, body []byte) error { return doc.Send(ctx, from.Service, body) })
		if err != nil {
			return sample{}, err
		}
		if err := watch.wait(ctx); err != nil {
			return sample{}, err
		}
		return watch.sample(), nil
	})
}

func (o *ours) request(ctx context.Context, w work) (sample, error) {
	return o.ask(ctx, w, dovetail.NewCall[[]byte, []byte](w.channel).AtMostOnce())
}

// ask measures requests on a transient channel or a durable one.
func (o *ours) ask(ctx context.Context, w work, call dovetail.Call[[]byte, []byte]) (s sample, err error) {
	from, to, err := o.pair(ctx)
	if err != nil {
		return s, err
	}
	defer func() {
		err = errors.Join(err, from.leave(), to.leave(w.channel))
	}()
	call.Handle(to.Service, func(_ context.Context, b []byte) ([]byte, error) { return b, nil }, dovetail.Concurrency(max(16, w.callers)))
	from.Declare(call)
	if err := to.start(ctx); err != nil {
		return s, err
	}
	if err := from.start(ctx); err != nil {
		return s, err
	}
	ring := bodies(w.size)
	one := func(ctx context.Context, n int) error {
		_, err := call.Request(ctx, from.Service, ring[n%len(ring)])
		return err
	}
	if err := one(ctx, 0); err != nil {
		return s, err
	}
	return w.measured(func() (sample, error) { return timed(ctx, w, one) })
}

// durable is ours with requests that survive the receiver's death.
type durable struct{ ours }

func (d *durable) request(ctx context.Context, w work) (sample, error) {
	return d.ask(ctx, w, dovetail.NewCall[[]byte, []byte](w.channel))
}
