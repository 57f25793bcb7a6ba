package storetest_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

const (
	laterCase  = "Delayed_messages_enter_the_outbox_when_they_are_due"
	cancelCase = "Delayed_message_can_be_cancelled_until_it_is_due"
	tokenCase  = "Token_tells_whether_a_transaction_committed"
	fenceCase  = "Token_that_was_resolved_keeps_its_transaction_from_committing"
)

// dues are the due times of messages that a mutant keeps as others.
type dues struct {
	mu sync.Mutex
	of map[string]time.Time
}

// redue keeps due times changed, and gives them out as they were.
func redue(change func(time.Time) time.Time, back func(time.Time) time.Time) func(*lab) {
	return func(l *lab) {
		d := dues{of: map[string]time.Time{}}
		l.stores = func(m *driver.Message) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if !m.Due.IsZero() {
				d.of[m.ID] = m.Due
				m.Due = change(m.Due)
			}
		}
		l.reads = func(r *store.Row) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if due, ok := d.of[r.Message.ID]; ok {
				r.Message.Due = due
			}
		}
		l.promote = func(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
			n, next, err := l.inner.Promote(ctx, t, max)
			if !next.IsZero() {
				next = back(next)
			}
			return n, next, err
		}
	}
}

func same(t time.Time) time.Time { return t }

// promoting changes what Promote returns.
func promoting(change func(n int, next time.Time) (int, time.Time)) func(*lab) {
	return func(l *lab) {
		l.promote = func(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
			n, next, err := l.inner.Promote(ctx, t, max)
			n, next = change(n, next)
			return n, next, err
		}
	}
}

// resolving changes what Resolve returns.
func resolving(change func(token string, committed bool) bool) func(*lab) {
	return func(l *lab) {
		l.resolve = func(ctx context.Context, token string) (bool, error) {
			committed, err := l.inner.Resolve(ctx, token)
			return change(token, committed), err
		}
	}
}

var outboxMutants = map[string]mutant{
	"loses the last message of a commit": {by: "Write_in_a_transaction_commits_with_it", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			w.Messages = w.Messages[:max(0, len(w.Messages)-1)]
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"writes the messages of a commit backwards": {by: "Cursor_never_goes_back|Next_stops_at_its_limits|Cursor_stays_where_it_was_advanced_to", plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			slices.Reverse(w.Messages)
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"forgets what was written when it commits": {by: "Write_in_a_transaction_commits_with_it", plant: func(l *lab) {
		l.write = func(context.Context, tx, store.Writes) error { return nil }
	}},
	"promotes a minute early": {by: "Promote_moves_nothing_early", plant: redue(
		func(t time.Time) time.Time { return t.Add(-time.Minute) }, func(t time.Time) time.Time { return t.Add(time.Minute) })},
	"promotes a second early": {by: "Promote_moves_nothing_early", plant: redue(
		func(t time.Time) time.Time { return t.Add(-2500 * time.Millisecond) }, func(t time.Time) time.Time { return t.Add(2500 * time.Millisecond) })},
	"promotes a second late": {by: "Promote_moves_nothing_early", plant: redue(
		func(t time.Time) time.Time { return t.Add(time.Second) }, func(t time.Time) time.Time { return t.Add(-time.Second) })},
	"promotes in the order of writing": {by: laterCase, plant: redue(func(t time.Time) time.Time {
		if t.Before(time.Now()) {
			return time.Unix(1, 0)
		}
		return t
	}, same)},
	"promotes more than it is asked to": {by: laterCase, plant: func(l *lab) {
		l.promote = func(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
			return l.inner.Promote(ctx, t, max+1)
		}
	}},
	"promotes and does not say when the next is due": {by: laterCase, plant: promoting(func(n int, _ time.Time) (int, time.Time) { return n, time.Time{} })},
	"promotes and says that it moved nothing":        {by: laterCase, plant: promoting(func(_ int, next time.Time) (int, time.Time) { return 0, next })},
	"forgets the due time of what it promotes": {by: laterCase, plant: func(l *lab) {
		l.reads = func(r *store.Row) { r.Message.Due = time.Time{} }
	}},
	"lets others of a key pass one that is being cancelled": {by: "Promote_keeps_the_order_of_a_key_beside_a_cancel", plant: func(l *lab) {
		var ids diary[[]string]
		l.cancel = func(ctx context.Context, t tx, source string, some []string) (int, error) {
			ids.set(t, some)
			return l.inner.Cancel(ctx, t, source, some)
		}
		l.rollback = func(ctx context.Context, t tx) error {
			var w store.Writes
			for _, id := range ids.get(t) {
				w.Later = append(w.Later, &driver.Message{ID: id, Channel: "stock", Key: "tea", Due: time.Now()})
			}
			if len(w.Later) == 0 {
				return l.inner.Rollback(ctx, t)
			}
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"cancels messages of others": {by: cancelCase, plant: func(l *lab) {
		l.cancel = func(ctx context.Context, t tx, _ string, ids []string) (int, error) {
			return l.inner.Cancel(ctx, t, "catalog", ids)
		}
	}},
	"cancels although it rolls back": {by: cancelCase, plant: func(l *lab) {
		l.cancel = func(ctx context.Context, t tx, source string, ids []string) (n int, err error) {
			return l.inner.Cancel(ctx, t, source, ids)
		}
		l.rollback = func(ctx context.Context, t tx) error { return l.inner.Commit(ctx, t, store.Writes{}) }
	}},
	"counts what it did not find as cancelled": {by: cancelCase, plant: func(l *lab) {
		l.cancel = func(ctx context.Context, t tx, source string, ids []string) (int, error) {
			_, err := l.inner.Cancel(ctx, t, source, ids)
			return len(ids), err
		}
	}},
	"cancels nothing": {by: cancelCase, plant: func(l *lab) {
		l.cancel = func(context.Context, tx, string, []string) (int, error) { return 0, nil }
	}},
	"takes every token for a commit": {by: tokenCase, plant: resolving(func(string, bool) bool { return true })},
	"takes no token for a commit":    {by: tokenCase, plant: resolving(func(string, bool) bool { return false })},
	"takes its own fence for a commit": {by: tokenCase, plant: func(l *lab) {
		var asked sync.Map
		resolving(func(token string, committed bool) bool {
			_, again := asked.LoadOrStore(token, true)
			return committed || again
		})(l)
	}},
	"writes no token": {by: tokenCase, plant: func(l *lab) {
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			w.Token = ""
			return l.inner.Commit(ctx, t, w)
		}
	}},
	"resolves a token without standing in its way": {by: fenceCase, plant: func(l *lab) {
		var mu sync.Mutex
		seen := map[string]bool{}
		l.commit = func(ctx context.Context, t tx, w store.Writes) error {
			mu.Lock()
			defer mu.Unlock()
			token := w.Token
			w.Token = ""
			err := l.inner.Commit(ctx, t, w)
			seen[token] = seen[token] || err == nil
			return err
		}
		l.resolve = func(_ context.Context, token string) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			return seen[token], nil
		}
	}},
	"forgets young tokens": {by: "Token_is_forgotten_by_age", plant: func(l *lab) {
		l.forget = func(ctx context.Context, _ time.Time, max int) (int, error) {
			return l.inner.Forget(ctx, time.Now(), max)
		}
	}},
	"forgets more tokens than it is asked to": {by: "Token_is_forgotten_by_age", plant: func(l *lab) {
		l.forget = func(ctx context.Context, before time.Time, _ int) (int, error) {
			return l.inner.Forget(ctx, before, 1<<30)
		}
	}},
}
