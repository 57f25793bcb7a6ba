package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
)

// Errors that handlers of this package return without calling f.
var (
	// ErrNoMessage: the handler was called with a context that has no message, so not
	// by a service.
	ErrNoMessage = errors.New("inbox: not called for a message: pass the function to Handle or Subscribe, and give it the context that the service gives")
	// ErrDead: the message is a dead letter, and this delivery is not a requeue of it.
	// The message is dropped; the dead letter stays.
	ErrDead = errors.New("inbox: among the dead letters already: requeue that (dovetail dead requeue), rather than send it again")
	// ErrCancelled: the message was cancelled before it was delivered. It is dropped.
	ErrCancelled = errors.New("inbox: cancelled before it came")
)

// Answer returns a handler for Call.Handle and Survey.Handle that calls f in a
// transaction of box, with one effect for each request. A request that is delivered
// again gets the same answer, without a call of f.
//
// If f returns nil, its answer is kept and the transaction commits. If f returns an
// error made by dovetail.Refuse, the refusal is the answer and is kept, and what f
// changed and sent is undone. After any other error everything is undone, and the
// request is tried again by the retry policy.
//
// After the last attempt the caller gets the failure, and may ask again under the same
// id: then f is called again. The dead letter of the request stays, for people to look
// at. If it is requeued, f is called only if the request has taken no effect since.
func Answer[Tx, Req, Res any](box *outbox.Box[Tx], f func(ctx context.Context, tx Tx, out dovetail.Sender, req Req) (Res, error)) func(context.Context, Req) (Res, error) {
	return func(ctx context.Context, req Req) (Res, error) {
		var res Res
		r := run[Tx]{box: box}
		err := r.once(ctx, &res, func(ctx context.Context, tx Tx, out dovetail.Sender) (any, error) {
			var err error
			res, err = f(ctx, tx, out, req)
			return res, err
		})
		return res, err
	}
}

// Once returns a handler for events, commands and documents that calls f in a
// transaction of box, with one effect for each message. If f returns nil, the
// transaction commits. A refusal (dovetail.Refuse) is kept like a success, and what f
// changed and sent is undone. After any other error everything is undone, and the
// message is tried again by the retry policy.
func Once[Tx, T any](box *outbox.Box[Tx], f func(ctx context.Context, tx Tx, out dovetail.Sender, v T) error) func(context.Context, T) error {
	return func(ctx context.Context, v T) error {
		r := run[Tx]{box: box}
		return r.once(ctx, nil, func(ctx context.Context, tx Tx, out dovetail.Sender) (any, error) {
			return nil, f(ctx, tx, out, v)
		})
	}
}

// run is one attempt at one message.
type run[Tx any] struct {
	box *outbox.Box[Tx]
	in  *dovetail.Delivery
}

// once runs f unless the message was handled; the kept answer goes to res, if
// it is not nil.
func (r *run[Tx]) once(ctx context.Context, res any, f func(context.Context, Tx, dovetail.Sender) (any, error)) error {
	if r.in = dovetail.DeliveryFromContext(ctx); r.in == nil {
		return ErrNoMessage
	}
	if res == nil || r.in.Message.ReplyTo == "" {
		noteDeadLetter(r.box, r.in)
	} // else who asked is told of the failure, and may ask again under the same id
	entry := entryOf(r.in, time.Now())
	t, ctx, err := r.box.Begin(ctx)
	if err != nil {
		return dovetail.NotBegun(err)
	}
	defer t.Rollback(ctx) // after the commit it does nothing
	found, err := r.box.DB().Insert(ctx, t.Tx(), []store.Entry{entry})
	if err != nil {
		return dovetail.NotBegun(fmt.Errorf("inbox: %w", err))
	}
	crash.InboxEntered.Pass()
	if s := found[0].State; s != "" && s != store.Released {
		return r.known(ctx, t, found[0], res)
	}
	var v any
	begun := false
	err = t.Savepoint(ctx, func() (err error) {
		begun = true
		r.in.Begun()
		v, err = f(ctx, t.Tx(), t.Sender())
		return err
	})
	var broken *outbox.SavepointError
	switch {
	case errors.As(err, &broken):
		return broken // and not the refusal that it came with
	case err != nil && !begun:
		return dovetail.NotBegun(err)
	case err != nil && !refused(err):
		return err
	}
	reply, eerr := r.encode(res, v, err)
	if eerr != nil {
		return eerr
	}
	if reply != nil {
		t.Reply(entry.Key, *reply)
	}
	crash.InboxHandled.Pass()
	if cerr := t.Commit(ctx); cerr != nil {
		if errors.Is(cerr, store.ErrUnknown) {
			return r.resolve(ctx, entry, res, cerr)
		}
		return cerr
	}
	crash.InboxCommitted.Pass()
	return err
}

// refused reports whether a handler's error is an answer.
func refused(err error) bool { return dovetail.RefusalOf(err) != nil }

// encode returns what the row keeps: the answer, where there is one, or the
// refusal.
func (r *run[Tx]) encode(res, v any, err error) (*dovetail.Reply, error) {
	if res == nil && err == nil {
		return nil, nil
	}
	reply, err := r.in.EncodeReply(v, err)
	if err != nil {
		return nil, err
	}
	return &reply, nil
}

// known answers a message whose row was there. The row may have been seen before
// the commit that wrote it was safe, as on a primary whose standby is away; this
// transaction, which has locked it, commits only when it is.
func (r *run[Tx]) known(ctx context.Context, t *outbox.Transaction[Tx], f store.InboxRow, res any) error {
	if err := t.Commit(ctx); err != nil {
		return dovetail.NotBegun(fmt.Errorf("%w: %w", errAway, err))
	}
	return r.again(f, res)
}

// again answers a message that was handled, or must not be.
func (r *run[Tx]) again(f store.InboxRow, res any) error {
	switch f.State {
	case store.Dead:
		return dovetail.Discard(ErrDead)
	case store.Cancelled:
		return dovetail.Discard(ErrCancelled)
	}
	if res == nil && f.Reply.Status == "" {
		return nil
	}
	return r.in.DecodeReply(f.Reply, res)
}

// resolve finds out whether a commit happened, by entering the message once
// more: the row waits for the transaction that may still be committing. While
// that cannot be asked, the message waits, and no attempt is counted for it.
func (r *run[Tx]) resolve(ctx context.Context, entry store.Entry, res any, cause error) error {
	crash.InboxUnknown.Pass()
	unknown := fmt.Errorf("%w: %w", dovetail.ErrUnknownOutcome, cause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	t, ctx, err := r.box.Begin(ctx)
	if err != nil {
		return dovetail.NotBegun(errors.Join(errAway, unknown, err))
	}
	defer t.Rollback(ctx)
	found, err := r.box.DB().Insert(ctx, t.Tx(), []store.Entry{entry})
	switch {
	case err != nil:
		return dovetail.NotBegun(errors.Join(unknown, err))
	case found[0].State == store.Handled:
		return r.known(ctx, t, found[0], res)
	}
	return unknown // the next attempt enters again, and is safe
}

// noteDeadLetter has the row say so when the message becomes a dead letter.
func noteDeadLetter[Tx any](box *outbox.Box[Tx], in *dovetail.Delivery) {
	in.OnDeadLetter(func(ctx context.Context) error {
		t, ctx, err := box.Begin(ctx)
		if err != nil {
			return err
		}
		defer t.Rollback(ctx) // after the commit it does nothing
		if _, err := box.DB().Mark(ctx, t.Tx(), []store.Entry{entryOf(in, time.Now())}, store.Dead); err != nil {
			return fmt.Errorf("inbox: %w", err)
		}
		crash.InboxMarked.Pass()
		return t.Commit(ctx)
	})
}

// maxAhead bounds how far ahead of now the age of an entry begins. A message that
// was delivered is due, whatever its sender wrote: only clocks differ.
const maxAhead = time.Hour

// entryOf is the inbox entry of a message. Its age counts from the later of now
// and when it was to be delivered.
func entryOf(in *dovetail.Delivery, now time.Time) store.Entry {
	since := now
	if in.Message.Due.After(since) {
		since = in.Message.Due
		if limit := now.Add(maxAhead); since.After(limit) {
			since = limit
		}
	}
	return store.Entry{
		Key:      store.Key{Group: in.Group, Handler: in.Handler, Source: in.Message.Source, ID: in.Message.ID},
		Requeues: in.Requeues,
		Since:    since,
	}
}
