package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// Service is what an outbox needs of the service in whose name it sends: a
// *dovetail.Service.
type Service interface {
	Name() string
	Instance() string
	Prepare(ctx context.Context, messages []*driver.Message) error
	Relay(ctx context.Context, messages []*driver.Message) error
	Provision(ctx context.Context) error
	Conn() driver.Conn
	Logger() *slog.Logger
	Attach(c dovetail.Component)
}

// Options of a box. The zero value is the default.
type Options struct {
	// Batch is how many messages the relay reads and sends at once; default
	// 500.
	Batch int

	// BatchBytes bounds the bodies of what the relay reads at once; default 8
	// MiB. It holds at most a few such batches.
	BatchBytes int

	// Poll is how often the relay looks for what other processes wrote, where
	// the database does not tell; default 200 ms, with jitter. What this process
	// wrote wakes it at once.
	Poll time.Duration

	// CursorInterval is how long the relay may put off writing down how far it is, so
	// that it does not compete with the service for commits; a crash repeats
	// what was published meanwhile. Default 100 ms.
	CursorInterval time.Duration

	// Lease is how long a relay that dies keeps others from taking over;
	// default 10 s.
	Lease time.Duration

	// SendTimeout is how long the relay waits for the broker to confirm a batch;
	// what is not confirmed by then is sent again. A transport that does not come
	// back after that loses the relay its lease, and another instance publishes.
	// Default 30 s.
	SendTimeout time.Duration

	// HoldAfter is how long a channel or key may fail while others succeed
	// before its messages are set aside; default 1 s.
	HoldAfter time.Duration

	// Retention is how long published messages are kept. It is at least twice
	// the window within which a broker may forget what it confirmed
	// (driver.Incarnated), and must be less than InboxRetention. Default: until the
	// relay tidies up, every few seconds.
	Retention time.Duration

	// InboxRetention is how long what was handled is remembered, to recognise
	// it when it comes again; default 7 days. It must be longer than a broker
	// keeps messages.
	InboxRetention time.Duration

	// CleanupInterval is how often retired messages, tokens and inbox rows are deleted;
	// default 5 s.
	CleanupInterval time.Duration

	// DrainTimeout is how long the relay goes on publishing when the service ends;
	// what is left is published by the next start or another instance. Default
	// 5 s.
	DrainTimeout time.Duration

	// Resolve is how long a commit that was not answered is looked into before
	// its outcome is called unknown; default 10 s.
	Resolve time.Duration

	// NoRelay leaves publishing to other processes: `dovetail relay`, or other
	// instances.
	NoRelay bool
}

func (o Options) withDefaults() Options {
	orDefault(&o.Batch, 500)
	orDefault(&o.BatchBytes, 8<<20)
	orDefault(&o.Poll, 200*time.Millisecond)
	orDefault(&o.CursorInterval, 100*time.Millisecond)
	orDefault(&o.Lease, 10*time.Second)
	orDefault(&o.SendTimeout, 30*time.Second)
	orDefault(&o.HoldAfter, time.Second)
	orDefault(&o.InboxRetention, 7*24*time.Hour)
	orDefault(&o.CleanupInterval, 5*time.Second)
	orDefault(&o.DrainTimeout, 5*time.Second)
	orDefault(&o.Resolve, 10*time.Second)
	return o
}

func orDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func (o *Options) check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Batch", int64(o.Batch)}, {"BatchBytes", int64(o.BatchBytes)}, {"Poll", int64(o.Poll)}, {"CursorInterval", int64(o.CursorInterval)},
		{"Lease", int64(o.Lease)}, {"SendTimeout", int64(o.SendTimeout)}, {"HoldAfter", int64(o.HoldAfter)}, {"Retention", int64(o.Retention)},
		{"InboxRetention", int64(o.InboxRetention)}, {"CleanupInterval", int64(o.CleanupInterval)}, {"DrainTimeout", int64(o.DrainTimeout)}, {"Resolve", int64(o.Resolve)},
	} {
		if f.value < 0 {
			return fmt.Errorf("outbox: Options.%s: %d: want a positive value, or 0 for the default", f.name, f.value)
		}
	}
	if d := o.withDefaults(); d.Retention >= d.InboxRetention {
		return fmt.Errorf("outbox: Options.Retention: %v: want less than InboxRetention, %v: what is published again must find the inbox rows that know it",
			d.Retention, d.InboxRetention)
	}
	return nil
}

// A Box is a service's outbox in a database. Tx is the database's transaction
// type. It is safe for concurrent use.
type Box[Tx any] struct {
	svc   Service
	db    store.DB[Tx]
	conn  driver.Conn
	delay bool // the transport can wait itself
	opts  Options
	err   error // what is wrong with the options

	open      atomic.Int64 // transactions
	published atomic.Int64
	behind    atomic.Int64 // published and not written down
	leading   atomic.Int64
	looks     atomic.Int64
	rate      rate
	warnings  throttledLog
	later     store.Signal // a delayed message was written
}

// New returns the outbox of svc in db and has svc run its relay. Several boxes
// of one service and database work together: one of their relays leads, in
// whichever process. At most one Options may be given; what is wrong with it is
// returned by the service's Run and by every use.
func New[Tx any](svc Service, db store.DB[Tx], opts ...Options) *Box[Tx] {
	b := &Box[Tx]{svc: svc, db: db, conn: svc.Conn()}
	switch len(opts) {
	case 0:
	case 1:
		b.opts = opts[0]
	default:
		b.err = fmt.Errorf("outbox: %d Options given: want one", len(opts))
	}
	if err := b.opts.check(); err != nil {
		b.err = err
	}
	b.opts = b.opts.withDefaults()
	b.delay = b.conn.Capabilities().Delay
	b.warnings.log = svc.Logger().With("component", "outbox", "service", svc.Name())
	svc.Attach(component[Tx]{b})
	return b
}

// DB returns the box's database.
func (b *Box[Tx]) DB() store.DB[Tx] { return b.db }

// Wake tells the relay that messages were committed by a transaction that it
// cannot see: one that Sender or Buffered wrote to and that somebody else
// committed. Without it they are published with the next poll.
func (b *Box[Tx]) Wake() { b.db.Signal().Notify() }

// component is what the service runs of a box, so that Run is no method of it.
type component[Tx any] struct{ b *Box[Tx] }

// Run publishes until ctx ends.
func (c component[Tx]) Run(ctx context.Context) error {
	if c.b.err != nil {
		return c.b.err
	}
	if c.b.opts.NoRelay {
		<-ctx.Done()
		return nil
	}
	return c.b.relay(ctx)
}

// Stuck tells what of the outbox does not go on.
func (c component[Tx]) Stuck() []dovetail.Stuck { return c.b.warnings.stuck() }

// Replied looks for the reply that the inbox keeps for a request.
func (c component[Tx]) Replied(ctx context.Context, in *dovetail.Delivery) (r dovetail.Reply, found bool, err error) {
	key := store.Key{Group: in.Group, Handler: in.Handler, Source: in.Message.Source, ID: in.Message.ID}
	rows, err := c.b.db.Lookup(ctx, []store.Key{key})
	if err != nil || rows[0].State != store.Handled {
		return r, false, err
	}
	return rows[0].Reply, true, nil
}
