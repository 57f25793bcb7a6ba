package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
)

// An engine is a database with tables of their own for each round. Tx is its
// transaction type.
type engine[Tx any] struct {
	// open makes the tables, counter among them; drop removes them.
	open func(ctx context.Context, round string) (db store.DB[Tx], drop func(context.Context) error, err error)
	// change adds one to a row of counter.
	change func(ctx context.Context, round string, tx Tx, row string) error
	// hold is Outbox.Hold.
	hold func(ctx context.Context, round string) (end func() error, err error)
}

// roundName is a name for a round's tables.
func roundName(w work) string { return strings.NewReplacer(".", "_", "-", "_").Replace(w.channel) }

// oursBox does the work of outbox and inbox through packages outbox and inbox.
type oursBox[Tx any] struct {
	absent
	bus    *ours // services on the broker
	engine engine[Tx]
	nats   *rawNATS // to look at the stream
}

// A boxRound is one round's service, outbox and tables.
type boxRound[Tx any] struct {
	*member
	box  *outbox.Box[Tx]
	doc  dovetail.Document[[]byte]
	name string
	o    *oursBox[Tx]
}

// round opens an outbox for do and removes it afterwards. wrap changes the
// connection to the broker.
func (o *oursBox[Tx]) round(ctx context.Context, w work, wrap func(driver.Conn) driver.Conn, opts outbox.Options, do func(*boxRound[Tx]) (sample, error)) (s sample, err error) {
	r := &boxRound[Tx]{name: roundName(w), doc: document(w), o: o}
	db, drop, err := o.engine.open(ctx, r.name)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
	if r.member, err = o.bus.joinBy(ctx, "bench-sender", wrap); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, r.leave(w.channel)) }()
	r.box = outbox.New(r.Service, db, opts)
	r.Declare(r.doc)
	return do(r)
}

// write is one business transaction.
func (r *boxRound[Tx]) write(ctx context.Context, row string, body []byte) error {
	return r.box.Do(ctx, func(ctx context.Context, tx Tx, out dovetail.Sender) error {
		if err := r.o.engine.change(ctx, r.name, tx, row); err != nil {
			return err
		}
		return r.doc.Send(ctx, out, body)
	})
}

// fill writes a backlog, in transactions of a thousand.
func (r *boxRound[Tx]) fill(ctx context.Context, w work) error {
	const size = 1000
	body := numbered(w.size)
	parts := work{count: (w.count + size - 1) / size, callers: 2, tick: func(int) {}}
	_, err := many(ctx, parts, func(ctx context.Context, n int) error {
		return r.box.Do(ctx, func(ctx context.Context, _ Tx, out dovetail.Sender) error {
			all := make([][]byte, 0, size)
			for i := n * size; i < min(w.count, (n+1)*size); i++ {
				all = append(all, body(i))
			}
			return r.doc.SendAll(ctx, out, all)
		})
	})
	return err
}

// empty fills the outbox and has it published.
func (r *boxRound[Tx]) empty(ctx context.Context, w work, count func(context.Context) (int, error)) (sample, error) {
	if err := r.fill(ctx, w); err != nil {
		return sample{}, err
	}
	return r.held(ctx, w, func() (sample, error) {
		return drained(ctx, w, func() (func() error, error) { return func() error { return nil }, r.start(ctx) }, count)
	})
}

func (r *boxRound[Tx]) held(ctx context.Context, w work, do func() (sample, error)) (sample, error) {
	return held(ctx, w, func(ctx context.Context) (func() error, error) { return r.o.engine.hold(ctx, r.name) }, do)
}

func (o *oursBox[Tx]) drain(ctx context.Context, w work) (sample, error) {
	return o.round(ctx, w, nil, outbox.Options{}, func(r *boxRound[Tx]) (sample, error) {
		// The channel is made now, so that the stream can be looked at.
		if err := r.Provision(ctx); err != nil {
			return sample{}, err
		}
		js, err := o.nats.jetstream()
		if err != nil {
			return sample{}, err
		}
		return r.empty(ctx, w, func(ctx context.Context) (int, error) { return inStream(ctx, js, w) })
	})
}

// A stubbed connection confirms everything at once.
type stubbed struct {
	driver.Conn
	n *atomic.Int64
}

func (s stubbed) Send(_ context.Context, ms []*driver.Message) error {
	s.n.Add(int64(len(ms)))
	return nil
}

func (o *oursBox[Tx]) alone(ctx context.Context, w work) (sample, error) {
	var n atomic.Int64
	stub := func(c driver.Conn) driver.Conn { return stubbed{c, &n} }
	return o.round(ctx, w, stub, outbox.Options{}, func(r *boxRound[Tx]) (sample, error) {
		return r.empty(ctx, w, func(context.Context) (int, error) { return int(n.Load()), nil })
	})
}

// delivering runs do while the relay publishes and another service consumes.
func (o *oursBox[Tx]) delivering(ctx context.Context, w work, do func(*boxRound[Tx], *lags) (sample, error)) (sample, error) {
	return o.round(ctx, w, nil, outbox.Options{}, func(r *boxRound[Tx]) (s sample, err error) {
		l := newLags(w)
		to, err := o.bus.join(ctx, "bench-receiver")
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, to.leave()) }()
		r.doc.Handle(to.Service, func(_ context.Context, b []byte) error { l.deliver(b); return nil })
		for _, m := range []*member{to, r.member} {
			if err := m.start(ctx); err != nil {
				return s, err
			}
		}
		return r.held(ctx, w, func() (sample, error) {
			return w.measured(func() (sample, error) { return do(r, l) })
		})
	})
}

func (o *oursBox[Tx]) writers(ctx context.Context, w work) (sample, error) {
	return o.delivering(ctx, w, func(r *boxRound[Tx], l *lags) (sample, error) { return l.whileWriting(ctx, w, r.write) })
}

func (o *oursBox[Tx]) paced(ctx context.Context, w work) (sample, error) {
	return o.delivering(ctx, w, func(r *boxRound[Tx], l *lags) (sample, error) { return l.paced(ctx, w, r.write) })
}

func (o *oursBox[Tx]) cost(ctx context.Context, w work) (sample, error) {
	return o.round(ctx, w, nil, outbox.Options{NoRelay: true}, func(r *boxRound[Tx]) (sample, error) {
		ring := bodies(w.size)
		return r.held(ctx, w, func() (sample, error) {
			return w.measured(func() (sample, error) {
				return timed(ctx, w, func(ctx context.Context, n int) error { return r.write(ctx, rowName(n), ring[n%len(ring)]) })
			})
		})
	})
}

// inbox has a service handle what is in a channel in memory, once.
func (o *oursBox[Tx]) inbox(ctx context.Context, w work) (s sample, err error) {
	db, drop, err := o.engine.open(ctx, roundName(w))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, drop(context.WithoutCancel(ctx))) }()
	memory := &ours{open: func(ctx context.Context) (driver.Conn, error) {
		return driver.Open(ctx, fmt.Sprintf("mem:%s?messages=4000000&bytes=8589934592", roundName(w)))
	}}
	m, err := memory.join(ctx, "bench-receiver")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.leave(w.channel)) }()
	box := outbox.New(m.Service, db)
	doc := document(w)
	m.Declare(doc)
	fill := w
	fill.callers, fill.batch, fill.tick = 0, 1000, func(int) {}
	if _, err := publish(ctx, fill, m.Service, doc); err != nil {
		return s, err
	}
	a := newArrival(w)
	handle := func(context.Context, Tx, dovetail.Sender, []byte) error { a.add(); return nil }
	if w.batch > 1 {
		doc.HandleBatch(m.Service, inbox.Batch(box, handle), dovetail.BatchSize(w.batch), dovetail.Concurrency(w.callers))
	} else {
		doc.Handle(m.Service, inbox.Once(box, handle), dovetail.Concurrency(w.callers))
	}
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
