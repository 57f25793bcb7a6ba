package store

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Leases hands out what only one holder may have at a time.
type Leases interface {
	// Acquire takes the lease called name for ttl, or extends the one that
	// holder has: then its term stays. While another's lasts it is ErrLeased.
	// A holder's lease that has passed begins a new term, also if nobody else
	// had it meanwhile. One that would last longer than MaxLease(ttl) is from a
	// clock that was wrong: it is taken over, and Lease.Ahead says so.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (Lease, error)

	// Resign ends a lease early, so that the next holder need not wait. One
	// that has passed is left alone.
	Resign(ctx context.Context, l Lease) error
}

// A Lease is the right to something until a time. Whatever is written under it
// is checked against its term in the same statement, so that a holder that was
// stopped and wakes up too late changes nothing.
type Lease struct {
	Name   string
	Holder string    // unique for each process and run
	Term   int64     // grows with each holder
	Until  time.Time // by this process's clock, counted from before the lease was asked for

	// Ahead is how much longer the lease of another would have lasted that was
	// taken over because it would have lasted too long; zero if there was none.
	Ahead time.Duration
}

// MaxLease is how long another's lease may still last for one who asks for ttl.
func MaxLease(ttl time.Duration) time.Duration { return max(10*ttl, time.Minute) }

// Valid reports whether l lasts at t. Nothing in a message broker checks a
// term, so a relay looks at this before each batch.
func (l Lease) Valid(t time.Time) bool { return t.Before(l.Until) }

// A Term is a lease on one shard of the outbox.
type Term struct {
	Lease
	Shard int
}

// Lead takes or extends the lease on a shard of the outbox.
func Lead(ctx context.Context, l Leases, shard int, holder string, ttl time.Duration) (Term, error) {
	lease, err := l.Acquire(ctx, fmt.Sprintf("relay/%d", shard), holder, ttl)
	return Term{lease, shard}, err
}

// A Position is a place in a shard's order. Only the store that made it knows
// what its parts mean; the zero Position is before everything.
type Position struct {
	Window, Seq int64
}

// A Row is a message in the outbox.
type Row struct {
	Position Position
	Message  *driver.Message

	// Err says why the row cannot be read, whoever wrote it; nil if it can. The
	// message then has what could be read, always its channel, key, id and body,
	// and Text is what is stored of its attributes and headers. Such a row is
	// given out as every other: nothing that comes after it waits for it.
	Err  error
	Text string
}

// Read takes text, which is stored of the attributes and headers of r.Message,
// into the message, or into Err and Text if it cannot be read.
func (r *Row) Read(text string) {
	if r.Err = ParseHeaders(r.Message, text); r.Err != nil {
		r.Text = text
	}
}

// A Limit bounds what is read at once. At least one row is read, whatever its
// size.
type Limit struct {
	Rows  int
	Bytes int // of bodies
}

// A Cursor is how far a shard was published.
type Cursor struct {
	Position    Position
	Incarnation string   // of the broker to which it was published; see driver.Incarnated
	Channels    []string // of which messages are held
	Restored    string   // why everything retained is published again, where Resume found that the database was restored
}

// A Page is what Next read.
type Page struct {
	Rows []Row
	// Advanced says that the cursor was moved along, as far as Next was told.
	Advanced bool
}

// Progress is a step of the relay, written in one transaction.
type Progress struct {
	To          Position // everything up to here is published or held; zero to leave the cursor
	Incarnation string   // the broker's, if it is to be remembered
	Release     []Held   // were published out of the held ones: kept until retired
	Retry       []Lane   // have been tried again without success: error, attempts and time of the next
	Hold        []Held   // are set aside, in order, as they are in the outbox now; those held already, and those that are not there any more, are passed over
}

// Relay is the reading side of the outbox. What takes a term returns ErrFenced,
// and has changed nothing, once the term has passed.
type Relay interface {
	// Shards is how many relays may work side by side, at least 1. All messages
	// of one channel and key are in one shard.
	Shards() int

	// Resume begins a term: it returns where the last one ended. The first
	// service to resume owns the outbox; for another it is ErrOwner.
	Resume(ctx context.Context, t Term, service string) (Cursor, error)

	// Next returns messages that come after a position: the cursor's or the
	// last one that Next returned. It shows only what can have no predecessor
	// any more. What it only reads need not look at the term; a store that has
	// to write down how far it has looked checks the term as all else does, and
	// may move the cursor to done in the same transaction. Everything up to done
	// is published or held; zero is to leave the cursor.
	Next(ctx context.Context, t Term, after, done Position, max Limit) (Page, error)

	// Advance moves the cursor and sets messages aside or releases them, all in
	// one transaction: released first, then held.
	Advance(ctx context.Context, t Term, p Progress) error

	// Promote moves at most max messages that were to be sent later and are due
	// into the outbox, by their due times. It returns how many, and when the
	// next is due, zero if there is none.
	Promote(ctx context.Context, t Term, max int) (moved int, next time.Time, err error)

	// Rewind sets the cursor before the first message that is still there, and
	// takes back the release of held ones, so that everything retained is
	// published again, in order. It remembers the broker's new incarnation.
	Rewind(ctx context.Context, t Term, incarnation string) (Cursor, error)

	// Retire deletes at most max published messages, or, where that is cheaper,
	// whole partitions of them, which may count as one each. It never deletes
	// one that the cursor has not passed.
	Retire(ctx context.Context, t Term, r Retirement, max int) (int, error)

	// Stats counts, without a term.
	Stats(ctx context.Context, shard int) (Stats, error)
}

// A Listener is a DB that can hear of what other processes write.
type Listener interface {
	// Listen notifies the Signal whenever another process has written messages,
	// until ctx ends or the connection is lost. It calls begun when it hears.
	Listen(ctx context.Context, begun func()) error
}

// A Retirement says which published messages are not needed any more.
type Retirement struct {
	Through  Position  // messages up to here
	Released time.Time // held ones that were published before this
}

// Stats describe a shard of the outbox. Counts may be estimates.
type Stats struct {
	Backlog int64     // written and not yet published, without the held ones
	Oldest  time.Time // when the oldest of them was written; zero if there is none
	Held    int64     // set aside, not yet published
	Later   int64     // not yet due
	Service string    // that owns the outbox: the first to resume; empty before
}
