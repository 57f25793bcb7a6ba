package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// chunk is how many rows are deleted or moved in one transaction.
const chunk = 1000

// tokenAge is how long tokens are kept.
const tokenAge = time.Hour

// promotePause is how long promoteDue waits at least when nothing was moved.
const promotePause = 5 * time.Millisecond

// promoteDue moves delayed messages into the outbox when they are due.
func (t *term[Tx]) promoteDue(ctx context.Context) {
	look := counted(&t.b.looks)
	defer look.end()
	for attempt := 0; ; {
		look.begin()
		wake := t.b.later.Wait()
		moved, next, err := t.db.Promote(ctx, t.Term, chunk)
		pause := t.opts.Poll
		switch {
		case errors.Is(err, store.ErrFenced):
			t.stop(err)
			return
		case ctx.Err() != nil:
			return
		case err != nil:
			t.b.warnings.report("move delayed messages", err)
			pause, wake = pace(attempt, 100*time.Millisecond, mostAway), nil
			attempt++
		default:
			attempt = 0
			t.b.warnings.over("move delayed messages")
			if moved > 0 {
				crash.RelayPromoted.Pass()
				t.db.Signal().Notify()
				continue
			}
			look.end()
			if !next.IsZero() { // one that is due and was not moved: somebody is cancelling it
				pause = min(pause, max(promotePause, time.Until(next)))
			}
		}
		if !t.rest(ctx, wake, pause) {
			return
		}
	}
}

// rest waits for a pause at most and reports whether there is more to do.
func (t *term[Tx]) rest(ctx context.Context, wake <-chan struct{}, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-t.stopping:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// tidy deletes what is not needed any more, now and then.
func (t *term[Tx]) tidy(ctx context.Context) {
	for t.rest(ctx, nil, backoff.Jitter(t.opts.CleanupInterval)) {
		err := t.tidyUp(ctx)
		switch {
		case errors.Is(err, store.ErrFenced):
			t.stop(err)
			return
		case ctx.Err() != nil:
			return
		case err != nil:
			t.b.warnings.report("tidy the outbox up", err)
		default:
			t.b.warnings.over("tidy the outbox up")
		}
	}
}

func (t *term[Tx]) tidyUp(ctx context.Context) error {
	now := time.Now()
	// One that fails does not keep the others from tidying up.
	err := t.retire(ctx, now)
	if t.Shard != 0 {
		return err
	}
	return errors.Join(err,
		inChunks(ctx, func(max int) (int, error) { return t.db.Forget(ctx, now.Add(-tokenAge), max) }),
		inChunks(ctx, func(max int) (int, error) { return t.db.Purge(ctx, now.Add(-t.opts.InboxRetention), max) }))
}

// retire deletes what was published long enough ago.
func (t *term[Tx]) retire(ctx context.Context, now time.Time) error {
	if t.keepsUnknown() {
		return nil
	}
	if through, ok := t.marks.before(now.Add(-t.keep())); ok {
		err := inChunks(ctx, func(max int) (int, error) {
			return t.db.Retire(ctx, t.Term, store.Retirement{Through: through, Released: now.Add(-t.keep())}, max)
		})
		if err != nil {
			return err
		}
		crash.RelayRetired.Pass()
	}
	return nil
}

// inChunks deletes until nothing is left to delete.
func inChunks(ctx context.Context, del func(max int) (int, error)) error {
	for ctx.Err() == nil {
		n, err := del(chunk)
		if err != nil || n < chunk {
			return err
		}
	}
	return nil
}

// marks remember when the cursor was where, so that messages are kept for a
// time after they were published, without a column that says when.
type marks struct {
	mu   sync.Mutex
	list []mark
}

type mark struct {
	position store.Position
	at       time.Time
}

func (m *marks) reset(p store.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = []mark{{p, time.Now()}}
}

// add takes note that everything up to p is published by now. It is as exact as
// an eighth of the time that messages are kept.
func (m *marks) add(p store.Position, keep time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if n := len(m.list); n > 1 && now.Sub(m.list[n-2].at) < keep/8 {
		m.list[n-1] = mark{p, now}
		return
	}
	m.list = append(m.list, mark{p, now})
}

// before returns up to where everything was published before a time.
func (m *marks) before(t time.Time) (p store.Position, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.list) && !m.list[n].at.After(t) {
		p, ok = m.list[n].position, true
		n++
	}
	if n > 1 {
		m.list = m.list[n-1:] // the last one stays, for what is held
	}
	return p, ok
}

// volatile is what the broker says of how much it may forget of what it confirmed.
type volatile struct {
	id     string // "" where it says none
	window time.Duration
	known  bool // the broker has answered; else this is what the cursor had
}

// keep is how long published messages are kept.
func (t *term[Tx]) keep() time.Duration {
	return max(t.opts.Retention, 2*t.volatile.Load().window)
}

// keepsUnknown reports whether the broker has not said yet how much it may
// forget.
func (t *term[Tx]) keepsUnknown() bool {
	_, forgets := t.conn.(driver.Incarnated)
	return forgets && !t.volatile.Load().known
}

// watchBroker looks whether a broker that may forget has been started again.
func (t *term[Tx]) watchBroker(ctx context.Context) {
	v, ok := t.conn.(driver.Incarnated)
	if !ok {
		return
	}
	for {
		if err := t.look(ctx, v); ctx.Err() != nil {
			return
		} else if err != nil {
			t.b.warnings.report("ask the broker for its incarnation", err)
		} else {
			t.b.warnings.over("ask the broker for its incarnation")
		}
		if !t.rest(ctx, nil, backoff.Jitter(time.Second)) {
			return
		}
	}
}

func (t *term[Tx]) look(ctx context.Context, v driver.Incarnated) error {
	id, window, err := v.Incarnation(ctx)
	last := t.volatile.Load()
	if errors.Is(err, driver.ErrUnsupported) || err == nil && id == "" { // this server says nothing of itself
		if !last.known && t.restart.Load() == nil {
			t.volatile.CompareAndSwap(last, &volatile{last.id, last.window, true})
		}
		return nil
	}
	if err != nil {
		return err
	}
	now := &volatile{id, window, true}
	switch last.id {
	case id:
		if *last != *now {
			t.volatile.CompareAndSwap(last, now)
		}
	case "":
		if err := t.db.Advance(ctx, t.Term, store.Progress{Incarnation: id}); err != nil {
			return err
		}
		t.volatile.CompareAndSwap(last, now)
	default:
		// What the old one may have forgotten is still needed: nothing is deleted
		// before the rewind, which takes over what the new one says.
		t.volatile.CompareAndSwap(last, &volatile{last.id, max(last.window, window), false})
		t.restart.Store(now)
		t.db.Signal().Notify()
	}
	return nil
}

// checkBroker looks at once, after a send has failed.
func (t *term[Tx]) checkBroker() {
	if v, ok := t.conn.(driver.Incarnated); ok {
		if err := t.look(t.send, v); err != nil {
			t.b.warnings.report("ask the broker for its incarnation", err)
		}
	}
}

// rewind begins again with everything that is retained: the broker may have
// forgotten it.
func (t *term[Tx]) rewind(ctx context.Context, v *volatile) error {
	t.reader.drain()
	t.draining.Lock()
	defer t.draining.Unlock()
	cursor, err := t.db.Rewind(ctx, t.Term, v.id)
	if err != nil {
		return err
	}
	crash.RelayRewound.Pass()
	t.b.warnings.log.Warn("the broker was started again and may have forgotten what it confirmed last: publishing it again, under the same ids")
	t.resume(cursor)
	t.volatile.Store(v)
	return nil
}
