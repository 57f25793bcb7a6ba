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

// Service is what an outbox needs of the service in whose name it sends. A
// *dovetail.Service is one; its methods say what each does. They are safe for
// concurrent use.
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

// Options of a box. A field that is zero stands for its default; a negative one is an
// error.
type Options struct {
	// Batch is the most messages that the relay reads and sends at once. Default:
	// 500.
	Batch int

	// BatchBytes is the most bytes of bodies that the relay reads at once; it has a
	// few times as many in memory. One message is read whatever its size. Default: 8
	// MiB.
	BatchBytes int

	// Poll is how often the relay looks for messages of other processes, more or less
	// a quarter. Messages of this process, and of others where the database can tell,
	// are read at once. Default: 200 ms.
	Poll time.Duration

	// CursorInterval is how long the relay may wait before it writes its cursor, the
	// place up to which everything is published. A longer one costs fewer commits; after
	// a crash, what was published meanwhile is published again. Default: 100 ms.
	CursorInterval time.Duration

	// Lease is how long the lease of a relay lasts unless the relay extends it. When
	// the process dies, another one takes over after this time. Default: 10 s.
	Lease time.Duration

	// SendTimeout is how long the relay waits for the broker to confirm a batch. What
	// is not confirmed by then is sent again. Where the transport does not return even
	// then, the relay gives up its lease, and another instance publishes. Default: 30 s.
	SendTimeout time.Duration

	// HoldAfter is how long sending to a channel, or of a key, may fail while others
	// succeed, before its messages are set aside (see FindHeld). Default: 1 s.
	HoldAfter time.Duration

	// Retention is how long published messages stay in the database. Where the broker
	// may lose what it confirmed (driver.Incarnated), they stay at least twice as long
	// as the broker's window. It must be less than InboxRetention. Default: until the
	// next cleanup.
	Retention time.Duration

	// InboxRetention is how long package inbox remembers what was handled. It must be
	// longer than the broker keeps a message: one that is delivered later than that is
	// handled again. Default: 7 days.
	InboxRetention time.Duration

	// CleanupInterval is how often the relay deletes published messages, tokens of
	// commits and inbox rows whose time is over, more or less a quarter. Default: 5 s.
	CleanupInterval time.Duration

	// DrainTimeout is how long the relay goes on publishing when the service ends.
	// What is left then is published by another instance or by the next start. Default:
	// 5 s.
	DrainTimeout time.Duration

	// Resolve is how long Do tries to find out what became of a commit that the
	// database did not answer, before it returns ErrUnknownOutcome. Default: 10 s.
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

// A Box is a service's outbox in a database. Tx is the type of the database's
// transactions, such as *sql.Tx or pgx.Tx. A Box is safe for concurrent use.
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

// New returns the outbox of svc in db, and attaches its relay to svc, which runs it.
// Call New before the service's Run. Several boxes of one service and one database are
// one outbox, also in several processes: one of their relays publishes at a time. The
// outbox belongs to the first service whose relay has run; the relay of a service with
// another name ends that service's Run with store.ErrOwner. At most one Options may be
// given. What is wrong with it is returned by Run and by every use of the box. The box
// does not close db.
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

// DB returns the database that New was given.
func (b *Box[Tx]) DB() store.DB[Tx] { return b.db }

// Wake has the relay look for new messages now. Call it after the commit of a
// transaction that Sender or Buffered wrote to. Without it, these messages are
// published after the next poll (Options.Poll). It does not block.
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
