package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// callTimeout bounds every call of the relay to its database: one that is not
// answered must not keep the relay's lease.
const callTimeout = 30 * time.Second

// bounded is a database whose calls that the relay makes end by themselves.
type bounded[Tx any] struct{ store.DB[Tx] }

func atMost(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

func (b bounded[Tx]) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Acquire(ctx, name, holder, ttl)
}

func (b bounded[Tx]) Resign(ctx context.Context, l store.Lease) error {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Resign(ctx, l)
}

func (b bounded[Tx]) Resume(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Resume(ctx, t, service)
}

func (b bounded[Tx]) Next(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Next(ctx, t, after, done, max)
}

func (b bounded[Tx]) Advance(ctx context.Context, t store.Term, p store.Progress) error {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Advance(ctx, t, p)
}

func (b bounded[Tx]) Promote(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Promote(ctx, t, max)
}

func (b bounded[Tx]) Rewind(ctx context.Context, t store.Term, incarnation string) (store.Cursor, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Rewind(ctx, t, incarnation)
}

func (b bounded[Tx]) Retire(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Retire(ctx, t, r, max)
}

func (b bounded[Tx]) Stats(ctx context.Context, shard int) (store.Stats, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Stats(ctx, shard)
}

func (b bounded[Tx]) Blocked(ctx context.Context, t store.Term, lanes []store.Lane) ([]bool, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Blocked(ctx, t, lanes)
}

func (b bounded[Tx]) Due(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Due(ctx, t, skip, max, take)
}

func (b bounded[Tx]) RetryHeld(ctx context.Context, channel, name string) (int, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.RetryHeld(ctx, channel, name)
}

func (b bounded[Tx]) Forget(ctx context.Context, before time.Time, max int) (int, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Forget(ctx, before, max)
}

func (b bounded[Tx]) Purge(ctx context.Context, before time.Time, max int) (int, error) {
	ctx, cancel := atMost(ctx)
	defer cancel()
	return b.DB.Purge(ctx, before, max)
}

// sendGrace is how long a transport may take to come back after its context
// has ended.
const sendGrace = 5 * time.Second

// errHangs ends a term: the transport has not come back from a send.
var errHangs = errors.New("the transport has not come back from a send after its time was over")

// errHandOver ends a term: the broker has been away for long, and may be there
// for another instance.
var errHandOver = errors.New("left to another instance for a while")

// sendAll sends messages, for Options.SendTimeout at most. If the transport does
// not come back even then, the term is over: another instance may have more
// luck, and the messages are repeated, as after a crash.
func (t *term[Tx]) sendAll(ctx context.Context, messages []*driver.Message) error {
	if t.hangs.Load() {
		return errHangs
	}
	ctx, cancel := context.WithTimeout(ctx, t.opts.SendTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- t.b.svc.Relay(ctx, messages) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(sendGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
	}
	t.hangs.Store(true)
	t.b.warnings.report("send to the broker", errHangs)
	t.stop(errHangs)
	return errHangs
}
