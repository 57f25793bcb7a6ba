package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// Do runs f in a transaction and commits it together with what f sends through
// out, or, if f returns an error or panics, neither. Messages are checked when
// they are sent and written just before the commit.
//
// f's ctx belongs to the transaction: a Do of the same database within f joins
// it, as a part that is undone alone if it fails. Whatever else f does must be
// harmless if the transaction is rolled back.
//
// A commit that the database did not answer is looked into; if its outcome
// cannot be found out within Options.Resolve, the error is
// dovetail.ErrUnknownOutcome. Any other error means that it was rolled back.
func (b *Box[Tx]) Do(ctx context.Context, f func(ctx context.Context, tx Tx, out dovetail.Sender) error) error {
	if outer := b.current(ctx); outer != nil {
		return outer.nested(ctx, f)
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
	ended   bool
}

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
	tx, err := b.db.Begin(ctx)
	if err != nil {
		return nil, ctx, fmt.Errorf("outbox: %w", err)
	}
	t := &Transaction[Tx]{box: b, tx: tx, out: &buffer{svc: b.svc, delay: b.delay}}
	if token {
		t.token = dovetail.NewID()
	}
	return t, context.WithValue(ctx, currentKey{b.db}, t), nil
}

// currentKey finds the transaction of a database in a context.
type currentKey struct{ db any }

func (b *Box[Tx]) current(ctx context.Context) *Transaction[Tx] {
	t, _ := ctx.Value(currentKey{b.db}).(*Transaction[Tx])
	if t == nil || t.ended {
		return nil
	}
	return t
}

// Tx returns the database's transaction.
func (t *Transaction[Tx]) Tx() Tx { return t.tx }

// Sender returns what buffers the transaction's messages.
func (t *Transaction[Tx]) Sender() dovetail.Sender { return t.out }

// Reply has an inbox row keep a reply when the transaction commits.
func (t *Transaction[Tx]) Reply(k store.Key, r store.Reply) {
	t.replies = append(t.replies, store.KeptReply{Key: k, Reply: r})
}

// Commit writes the messages and commits.
func (t *Transaction[Tx]) Commit(ctx context.Context) error {
	if t.ended {
		return errEnded
	}
	t.ended = true
	w := t.out.end()
	w.Token, w.Replies = t.token, t.replies
	err := t.box.db.Commit(ctx, t.tx, w)
	switch {
	case err == nil:
		crash.WriterCommitted.Pass()
		t.box.delayed(w)
		return nil
	case t.token != "" && errors.Is(err, store.ErrUnknown):
		return t.resolve(ctx, err)
	}
	return fmt.Errorf("outbox: %w", err)
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
		case !wait(ctx, backoff(attempt, 10*time.Millisecond, time.Second)):
			return fmt.Errorf("outbox: %w: %w: %w", dovetail.ErrUnknownOutcome, cause, err)
		}
	}
}

// withoutUnknown is an error whose outcome is known by now.
type withoutUnknown struct{ error }

// Rollback undoes the transaction. After the end it does nothing.
func (t *Transaction[Tx]) Rollback(ctx context.Context) error {
	if t.ended {
		return nil
	}
	t.ended = true
	t.out.end()
	if err := t.box.db.Rollback(context.WithoutCancel(ctx), t.tx); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

// abandon rolls back when a function panicked or ended its goroutine.
func (t *Transaction[Tx]) abandon(ctx context.Context) {
	if err := t.Rollback(ctx); err != nil {
		t.box.trouble.log.Error("transaction of a function that panicked was not rolled back", "error", err)
	}
}

// Part runs f as a part of the transaction: if f returns an error or panics,
// what it changed and sent is undone, and nothing else.
func (t *Transaction[Tx]) Part(ctx context.Context, f func() error) (err error) {
	if t.ended {
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
		if t.ended {
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
			err = errors.Join(err, &PartError{uerr})
		}
	}()
	if err := f(); err != nil {
		return err
	}
	undo = false
	return nil
}

// A PartError says that a part could not be undone alone: the whole transaction
// must be rolled back.
type PartError struct{ Err error }

// Error tells why.
func (e *PartError) Error() string { return "outbox: part of a transaction: " + e.Err.Error() }

// Unwrap returns why.
func (e *PartError) Unwrap() error { return e.Err }

// nested is a Do within t.
func (t *Transaction[Tx]) nested(ctx context.Context, f func(ctx context.Context, tx Tx, out dovetail.Sender) error) error {
	return t.Part(ctx, func() error { return f(ctx, t.tx, t.out) })
}
