package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// Do calls f once, with a transaction and a sender. If f returns nil, Do commits the
// changes of f and the messages that f sent through out, together. If f returns an
// error or panics, Do rolls both back, and returns the error or panics. Messages are
// checked when they are sent and written just before the commit. tx and out are f's
// until it returns; goroutines of f may use out at once, and tx as the database allows.
//
// f gets a context that belongs to the transaction. A Do with this context, on a box of
// the same database, joins the transaction as a part: if it fails, the part alone is
// undone. One part runs at a time, and gets a context of its own. A service that is
// given such a context does not send (dovetail.ErrInTransaction), except with
// dovetail.Outside. Effects of f outside of the database are not undone.
//
// A Do within f with any other context begins a second transaction. A database with one
// writer, or a pool without a free connection, never begins it; after 30 s Do returns an
// error that says so.
//
// If the database did not answer the commit, Do finds out whether it happened, for up to
// Options.Resolve, also if ctx ends. If it cannot, the error is
// dovetail.ErrUnknownOutcome. Any other error says that the transaction was rolled back.
func (b *Box[Tx]) Do(ctx context.Context, f func(ctx context.Context, tx Tx, out dovetail.Sender) error) error {
	if outer, p := b.current(ctx); outer != nil {
		return outer.nested(ctx, p, f)
	}
	t, ctx, err := b.begin(ctx, true)
	if err != nil {
		return err
	}
	defer t.abandon(ctx) // after the commit it does nothing
	crash.WriterBegun.Pass()
	if err := f(ctx, t.tx, t.out); err != nil {
		return errors.Join(err, t.Rollback(ctx))
	}
	crash.WriterHandled.Pass()
	return t.Commit(ctx)
}

// A Transaction is a transaction with its outgoing messages. It is for packages that
// build on the outbox; others use Do. It is used by one goroutine at a time, except
// for its Sender.
type Transaction[Tx any] struct {
	box     *Box[Tx]
	tx      Tx
	out     *buffer
	replies []store.KeptReply
	token   string
	depth   int
	ended   atomic.Bool
	part    atomic.Pointer[part] // the innermost Do that runs
	release context.CancelFunc   // of the context that it was begun with
}

// A part is a Do, or one within another.
type part struct{ _ byte } // a size, so that each has an address of its own

var errParts = errors.New("outbox: another Do within this transaction is running: one runs at a time, and a Do within it needs the context that its function was given")

// Begin begins a transaction and returns it, with the context to use it with. It waits
// for a connection until ctx ends, and at most 30 s while other transactions of the box
// are open. The caller ends the transaction with Commit or
// Rollback. A Commit whose error is store.ErrUnknown may have happened: unlike Do, the
// caller finds that out by other means, such as an inbox row.
func (b *Box[Tx]) Begin(ctx context.Context) (*Transaction[Tx], context.Context, error) {
	return b.begin(ctx, false)
}

func (b *Box[Tx]) begin(ctx context.Context, token bool) (*Transaction[Tx], context.Context, error) {
	if b.err != nil {
		return nil, ctx, b.err
	}
	tx, release, err := b.grant(ctx)
	if err != nil {
		return nil, ctx, fmt.Errorf("outbox: %w", err)
	}
	b.open.Add(1)
	t := &Transaction[Tx]{box: b, tx: tx, out: &buffer{svc: b.svc, delay: b.delay}, release: release}
	if token {
		t.token = dovetail.NewID()
	}
	whole := new(part)
	t.part.Store(whole)
	ctx = dovetail.WithinTransaction(ctx, func() bool { return !t.ended.Load() })
	return t, b.with(ctx, t, whole), nil
}

// end ends the transaction for its users, once; it reports whether it did.
func (t *Transaction[Tx]) end() bool {
	if t.ended.Swap(true) {
		return false
	}
	t.box.open.Add(-1)
	return true
}

// currentKey finds the transaction of a database in a context.
type currentKey struct{ db any }

// A place is a part of a transaction.
type place[Tx any] struct {
	t *Transaction[Tx]
	p *part
}

func (b *Box[Tx]) with(ctx context.Context, t *Transaction[Tx], p *part) context.Context {
	return context.WithValue(ctx, currentKey{b.db}, place[Tx]{t, p})
}

func (b *Box[Tx]) current(ctx context.Context) (*Transaction[Tx], *part) {
	at, _ := ctx.Value(currentKey{b.db}).(place[Tx])
	if at.t == nil || at.t.ended.Load() {
		return nil, nil
	}
	return at.t, at.p
}

// Tx returns the database's transaction. The caller does not end it.
func (t *Transaction[Tx]) Tx() Tx { return t.tx }

// Sender returns the sender that keeps the transaction's messages until Commit. It is
// safe for concurrent use.
func (t *Transaction[Tx]) Sender() dovetail.Sender { return t.out }

// Reply has the inbox row of k keep the reply r when the transaction commits. The
// transaction must have inserted that row.
func (t *Transaction[Tx]) Reply(k store.Key, r driver.Reply) {
	t.replies = append(t.replies, store.KeptReply{Key: k, Reply: r})
}

// Commit writes the messages and commits, in one round trip where the database can.
// The transaction has ended then, whatever the error: store.ErrUnknown says that it may
// have committed, any other error that it is rolled back. After the end, Commit returns
// an error.
func (t *Transaction[Tx]) Commit(ctx context.Context) error {
	if !t.end() {
		return errEnded
	}
	defer t.release()
	w := t.out.end()
	w.Token, w.Replies = t.token, t.replies
	err := t.box.db.Commit(ctx, t.tx, w)
	switch {
	case err == nil:
		crash.WriterCommitted.Pass()
		t.box.delayed(w)
		return nil
	case t.token != "" && errors.Is(err, store.ErrUnknown):
		err = t.resolve(ctx, err)
	default:
		err = fmt.Errorf("outbox: %w", err)
	}
	if err != nil {
		t.out.cut(0)
	}
	return err
}

// resolve finds out whether a commit that failed with cause happened.
func (t *Transaction[Tx]) resolve(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.box.opts.Resolve)
	defer cancel()
	crash.WriterUnknown.Pass()
	for attempt := 0; ; attempt++ {
		committed, err := t.box.db.Resolve(ctx, t.token)
		crash.WriterResolved.Pass()
		switch {
		case err == nil && committed:
			t.box.Wake()
			return nil
		case err == nil:
			return fmt.Errorf("outbox: rolled back: %w", withoutUnknown{cause})
		case !backoff.Sleep(ctx, pace(attempt, 10*time.Millisecond, time.Second)):
			return fmt.Errorf("outbox: %w: %w: %w", dovetail.ErrUnknownOutcome, cause, err)
		}
	}
}

// withoutUnknown is an error whose outcome is known by now.
type withoutUnknown struct{ error }

// Rollback undoes the transaction and drops its messages, also if ctx has ended. After
// the end it does nothing.
func (t *Transaction[Tx]) Rollback(ctx context.Context) error {
	if !t.end() {
		return nil
	}
	defer t.release()
	t.out.end()
	t.out.cut(0)
	if err := t.box.db.Rollback(context.WithoutCancel(ctx), t.tx); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// abandon rolls back when a function panicked or ended its goroutine.
func (t *Transaction[Tx]) abandon(ctx context.Context) {
	if err := t.Rollback(ctx); err != nil {
		t.box.warnings.log.Error("transaction of a function that panicked was not rolled back", "error", err)
	}
}

// Savepoint calls f as a part of the transaction. If f returns an error or panics, only
// what f changed and sent is undone, and Savepoint returns the error or panics. A
// SavepointError in the result says that it could not be undone.
func (t *Transaction[Tx]) Savepoint(ctx context.Context, f func() error) (err error) {
	if t.ended.Load() {
		return errEnded
	}
	t.depth++
	name := store.PartName(t.depth)
	mark := t.out.mark()
	if err := t.box.db.Savepoint(ctx, t.tx, name); err != nil {
		t.depth--
		return fmt.Errorf("outbox: %w", err)
	}
	undo := true
	defer func() {
		t.depth--
		if t.ended.Load() {
			return
		}
		ctx := context.WithoutCancel(ctx)
		var uerr error
		if undo {
			t.out.cut(mark)
			uerr = t.box.db.RollbackTo(ctx, t.tx, name)
		}
		// Even after the roll-back the savepoint is there, and its name is
		// used again.
		if rerr := t.box.db.Release(ctx, t.tx, name); uerr == nil {
			uerr = rerr
		}
		if uerr != nil {
			err = errors.Join(err, &SavepointError{uerr})
		}
	}()
	if err := f(); err != nil {
		return err
	}
	undo = false
	return nil
}

// A SavepointError says that a part of a transaction could not be undone, or its
// savepoint not released: the caller must roll back the whole transaction.
type SavepointError struct{ Err error }

// Error says why.
func (e *SavepointError) Error() string { return "outbox: part of a transaction: " + e.Err.Error() }

// Unwrap returns the database's error.
func (e *SavepointError) Unwrap() error { return e.Err }

// nested is a Do within the part p of t.
func (t *Transaction[Tx]) nested(ctx context.Context, p *part, f func(ctx context.Context, tx Tx, out dovetail.Sender) error) error {
	own := &part{}
	if !t.part.CompareAndSwap(p, own) {
		return errParts
	}
	defer t.part.Store(p)
	return t.Savepoint(ctx, func() error { return f(t.box.with(ctx, t, own), t.tx, t.out) })
}
