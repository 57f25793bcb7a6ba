package bench

import (
	"context"
	"time"
)

// An Outbox is a table of messages in a database, with as much as is needed to
// measure it: the raw sides are some, and so are peers (see Peer). Write is
// called by many goroutines at once.
type Outbox interface {
	// Fill writes a backlog of count messages, in whatever way is fast.
	Fill(ctx context.Context, count int, body func(n int) []byte) error

	// Write adds one to the row of table "counter" that is called row, and
	// leaves a message, in one transaction.
	Write(ctx context.Context, row string, body []byte) error

	// Relay begins to publish what is there and what will be, until stop.
	Relay(ctx context.Context, to Destination) (stop func() error, err error)

	// Enter notes ids as handled, in one transaction.
	Enter(ctx context.Context, ids []string) error

	// Hold opens a transaction that has written and looks at a snapshot, and
	// leaves it open until end is called. errors.ErrUnsupported: it would keep
	// all others from writing.
	Hold(ctx context.Context) (end func() error, err error)

	// Close removes the tables.
	Close(ctx context.Context) error
}

// A Destination is where a relay publishes to.
type Destination struct {
	// URL of a NATS server that has a stream for Subject. Empty for a stub of a
	// broker, which confirms at once.
	URL, Subject string

	// Publish publishes as the raw client does, or to the stub.
	Publish func(ctx context.Context, bodies [][]byte) error
}

// A boxSide does the work of the paths outbox and inbox.
type boxSide interface {
	drain(ctx context.Context, w work) (sample, error)   // a backlog → confirmed by the broker
	alone(ctx context.Context, w work) (sample, error)   // a backlog → a stub of a broker
	writers(ctx context.Context, w work) (sample, error) // w.callers write; delivered meanwhile, and how late
	paced(ctx context.Context, w work) (sample, error)   // committed → delivered, at w.rate
	cost(ctx context.Context, w work) (sample, error)    // w.callers write; nobody publishes
	inbox(ctx context.Context, w work) (sample, error)   // handled once; w.batch in a transaction, w.callers at once
}

// absent is a side of a target that is no transport.
type absent struct{}

func (absent) send(context.Context, work) (sample, error)    { return sample{}, errAbsent }
func (absent) receive(context.Context, work) (sample, error) { return sample{}, errAbsent }
func (absent) flow(context.Context, work) (sample, error)    { return sample{}, errAbsent }
func (absent) latency(context.Context, work) (sample, error) { return sample{}, errAbsent }
func (absent) request(context.Context, work) (sample, error) { return sample{}, errAbsent }
func (absent) close(context.Context) error                   { return nil }

func boxed(f func(boxSide) func(context.Context, work) (sample, error)) func(context.Context, *target, side, work) (sample, error) {
	return func(ctx context.Context, _ *target, s side, w work) (sample, error) {
		b, ok := s.(boxSide)
		if !ok {
			return sample{}, errAbsent
		}
		return f(b)(ctx, w)
	}
}

// boxTests are the lines of the paths outbox and inbox.
func (o *Options) boxTests(path string) (all []test) {
	one := func(variant string, t test, f func(boxSide) func(context.Context, work) (sample, error)) {
		t.path, t.variant, t.run, t.box = path, variant, boxed(f), true
		if o.LongTx > 0 && path == PathOutbox {
			t.held = true
			t.variant += ", a transaction open beside"
		}
		all = append(all, t)
	}
	if path == PathInbox {
		one("one by one, 16 at once", test{callers: 16, batch: 1}, func(b boxSide) func(context.Context, work) (sample, error) { return b.inbox })
		// A batch has one message of a key at most, and there are 64 keys.
		one("batches of up to 500, 2 at once", test{callers: 2, batch: 500, least: 20_000},
			func(b boxSide) func(context.Context, work) (sample, error) { return b.inbox })
		one("batches of 500, 2 at once, no keys", test{callers: 2, batch: 500, least: 50_000, unkeyed: true, goal: map[string]float64{"postgres": 0.80}},
			func(b boxSide) func(context.Context, work) (sample, error) { return b.inbox })
		return all
	}
	one("drain a backlog", test{count: o.Backlog, goal: map[string]float64{"postgres": 0.95}},
		func(b boxSide) func(context.Context, work) (sample, error) { return b.drain })
	one("relay alone, broker stubbed", test{count: o.Backlog}, func(b boxSide) func(context.Context, work) (sample, error) { return b.alone })
	for _, n := range o.Callers {
		one(writing(n)+" flat out, delivered meanwhile", test{callers: n, goal: map[string]float64{"postgres": 0.95}},
			func(b boxSide) func(context.Context, work) (sample, error) { return b.writers })
	}
	for _, rate := range []int{300, 2000} {
		one("commit to delivery at "+short(float64(rate))+"/s", test{latency: true, open: true, rate: rate},
			func(b boxSide) func(context.Context, work) (sample, error) { return b.paced })
	}
	for _, n := range o.Callers {
		one(writing(n)+", nobody publishes", test{callers: n, goal: map[string]float64{"postgres": 0.97}},
			func(b boxSide) func(context.Context, work) (sample, error) { return b.cost })
	}
	return all
}

func writing(n int) string {
	if n == 1 {
		return "1 writer"
	}
	return short(float64(n)) + " writers"
}

// counterRows is how many rows business transactions change, by turns: few
// enough to be in memory, enough not to wait for one another.
const counterRows = 1000

func rowName(n int) string { return keys[n%len(keys)] + "/" + keys[n/len(keys)%16] }

// numbered returns bodies that are told apart by their number.
func numbered(size int) func(n int) []byte {
	return func(n int) []byte { return stamped(size, n, int64(n)) }
}

// held keeps a transaction open beside do, for w.longTx at most.
func held(ctx context.Context, w work, hold func(context.Context) (func() error, error), do func() (sample, error)) (sample, error) {
	if w.longTx == 0 {
		return do()
	}
	end, err := hold(ctx)
	if err != nil {
		return sample{}, err
	}
	over := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		t := time.NewTimer(w.longTx)
		defer t.Stop()
		select {
		case <-t.C:
		case <-over:
		}
		ended <- end()
	}()
	s, err := do()
	close(over)
	if e := <-ended; err == nil {
		err = e
	}
	return s, err
}

// reached waits until count says that want has been reached.
func reached(ctx context.Context, w work, count func(context.Context) (int, error)) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	seen := 0
	for {
		n, err := count(ctx)
		if err != nil {
			return err
		}
		w.tick(n - seen)
		if seen = n; n >= w.count {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
