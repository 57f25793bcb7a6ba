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

// Do runs f in a transaction and commits it together with what f sends through
// out, or, if f returns an error or panics, neither. Messages are checked when
// they are sent and written just before the commit.
//
// f's ctx belongs to the transaction: a Do of the same database within f joins
// it, as a part that is undone alone if it fails. One part runs at a time: f
// waits for it, and the part gets a context of its own. A service that is given
// such a context refuses to send at once (dovetail.ErrInTransaction); with
// dovetail.Outside it sends. Whatever else f does must be harmless if the
// transaction is rolled back.
//
// A Do within f that is given another context begins another transaction, which
// a database with one writer, or a pool that is empty, never grants. After 30 s
// the error says so.
//
// A commit that the database did not answer is looked into; if its outcome
// cannot be found out within Options.Resolve, the error is
// dovetail.ErrUnknownOutcome. Any other error means that it was rolled back.
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

// A Transaction is a transaction with its outgoing messages, for packages that
// build on the outbox; others use Do. It is used by one goroutine at a time.
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

// Begin begins a transaction and returns it with the context that it is to be
// used with. It must be ended with Commit or Rollback. The transaction writes
// no token: whoever begins it has other means, such as an inbox row, to find
// out whether a commit that fails with store.ErrUnknown happened.
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

// Tx returns the database's transaction.
func (t *Transaction[Tx]) Tx() Tx { return t.tx }

// Sender returns what buffers the transaction's messages.
func (t *Transaction[Tx]) Sender() dovetail.Sender { return t.out }

// Reply has an inbox row keep a reply when the transaction commits.
func (t *Transaction[Tx]) Reply(k store.Key, r driver.Reply) {
	t.replies = append(t.replies, store.KeptReply{Key: k, Reply: r})
}

// Commit writes the messages and commits.
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

// Rollback undoes the transaction. After the end it does nothing.
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

// Savepoint runs f as a part of the transaction: if f returns an error or panics,
// what it changed and sent is undone, and nothing else.
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

// A SavepointError says that a part could not be undone alone: the whole transaction
// must be rolled back.
type SavepointError struct{ Err error }

// Error tells why.
func (e *SavepointError) Error() string { return "outbox: part of a transaction: " + e.Err.Error() }

// Unwrap returns why.
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
