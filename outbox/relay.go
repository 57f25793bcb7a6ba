package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// relay publishes every shard until ctx ends. It returns an error only for what
// waiting does not help.
func (b *Box[Tx]) relay(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	errs := make([]error, b.db.Shards())
	for shard := range errs {
		running.Go(func() {
			if errs[shard] = b.shard(ctx, shard); errs[shard] != nil {
				stop()
			}
		})
	}
	if l, ok := b.db.(store.Listener); ok {
		running.Go(func() { b.listen(ctx, l) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// listen has the database say when other processes have written.
func (b *Box[Tx]) listen(ctx context.Context, l store.Listener) {
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := l.Listen(ctx, func() { b.warnings.over("listen for outbox writes") })
		if ctx.Err() != nil {
			return
		}
		b.warnings.report("listen for outbox writes", err)
		if time.Since(began) > time.Minute {
			attempt = 0
		}
		if !backoff.Sleep(ctx, pace(attempt, 100*time.Millisecond, 10*time.Second)) {
			return
		}
	}
}

// shard leads a shard whenever nobody else does.
func (b *Box[Tx]) shard(ctx context.Context, shard int) error {
	holder := b.svc.Instance() + "/" + dovetail.NewID()
	for attempt := 0; ; attempt++ {
		term, err := store.Lead(ctx, bounded[Tx]{b.db}, shard, holder, b.opts.Lease)
		switch {
		case err == nil:
			b.warnings.over("lease the relay")
			attempt = 0
			crash.RelayLeased.Pass()
			if term.Ahead > 0 {
				b.warnings.log.Warn("the relay's lease was another's, for longer than anybody asks for: a clock was wrong; taken over",
					"shard", shard, "lasting", term.Ahead)
			}
			left, err := b.lead(ctx, term)
			if err != nil {
				return err
			}
			if left && !backoff.Sleep(ctx, b.opts.Lease*9/20) { // another asks every third of a lease
				return nil
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrLeased):
			attempt = 0
			b.warnings.over("lease the relay")
			if !backoff.Sleep(ctx, backoff.Jitter(b.opts.Lease/3)) {
				return nil
			}
			continue
		default:
			b.warnings.report("lease the relay", err)
		}
		if ctx.Err() != nil || !backoff.Sleep(ctx, pace(attempt, 50*time.Millisecond, mostAway)) {
			return nil
		}
	}
}

// lead publishes a shard for one term. It returns nil when the term is over or
// the service has ended, whether the shard was left to another instance, and an
// error for what another term would not help.
func (b *Box[Tx]) lead(ctx context.Context, term store.Term) (left bool, err error) {
	// The last messages are published after the service has ended, for a while.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	cursor, err := bounded[Tx]{b.db}.Resume(work, term, b.svc.Name())
	switch {
	case errors.Is(err, store.ErrOwner):
		return false, fmt.Errorf("outbox: %w", err)
	case err != nil:
		b.warnings.report("resume the relay", err)
		return false, nil
	}
	crash.RelayResumed.Pass()
	b.warnings.over("resume the relay")
	if cursor.Restored != "" {
		b.warnings.log.Error("the database was restored: publishing everything that it retains again, under the same ids", "because", cursor.Restored)
	}
	t := newTerm(b, term, ctx.Done(), stop)
	t.resume(cursor)
	t.checkBroker() // before anything is published to one that has forgotten
	b.looks.Add(2)  // of drainHeld and promoteDue
	b.leading.Add(1)
	defer b.leading.Add(-1)
	var beside sync.WaitGroup
	for _, run := range []func(context.Context){t.keepLease, t.boundFlush, t.drainHeld, t.promoteDue, t.tidy, t.watchBroker} {
		beside.Go(func() { run(work) })
	}
	err = t.run(work)
	cause := context.Cause(work)
	fenced := errors.Is(err, store.ErrFenced) || errors.Is(cause, store.ErrFenced)
	left = errors.Is(cause, errHangs) || errors.Is(cause, errHandOver)
	stop(nil)
	beside.Wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(b.opts.DrainTimeout, time.Second))
	defer cancel()
	if fenced {
		b.warnings.log.Info("the relay's lease was lost: another took over, or this process was stopped for too long", "shard", term.Shard, "term", term.Term)
	} else if err := t.leave(end); err != nil {
		b.warnings.report("end the relay's term", err)
	}
	b.behind.Add(-int64(t.step.passed)) // whoever follows begins at the cursor
	if fenced {
		b.warnings.forget("publish ") // it is another's now
	}
	return left, nil
}

// keepLease extends the lease, and ends the term when it is lost.
func (t *term[Tx]) keepLease(ctx context.Context) {
	every := t.opts.Lease / 3
	for {
		pause := min(every, time.Until(t.until()))
		if !backoff.Sleep(ctx, pause) {
			return
		}
		renew, cancel := context.WithDeadline(ctx, t.until())
		next, err := store.Lead(renew, t.db, t.Shard, t.Holder, t.opts.Lease)
		cancel()
		switch {
		case err == nil && next.Term != t.Term.Term, errors.Is(err, store.ErrLeased):
			t.stop(store.ErrFenced)
			return
		case err == nil:
			t.b.warnings.over("extend the relay's lease")
			t.extended.Store(&next.Until)
			every = t.opts.Lease / 3
		case ctx.Err() != nil:
			return
		default:
			t.b.warnings.report("extend the relay's lease", err)
			every = t.opts.Lease / 20
		}
		if !t.valid() {
			t.stop(store.ErrFenced)
			return
		}
	}
}

// boundFlush cancels what is being sent when the service has ended for too
// long.
func (t *term[Tx]) boundFlush(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-t.stopping:
		backoff.Sleep(ctx, t.opts.DrainTimeout)
	}
	t.endSend()
}
