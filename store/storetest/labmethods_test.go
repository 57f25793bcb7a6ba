package storetest_test

import (
	"context"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

func (l *lab) Begin(ctx context.Context) (tx, error) { return l.begin(ctx) }

func (l *lab) Commit(ctx context.Context, t tx, w store.Writes) error {
	return l.commit(ctx, t, l.stored(w))
}

func (l *lab) Rollback(ctx context.Context, t tx) error { return l.rollback(ctx, t) }

func (l *lab) Savepoint(ctx context.Context, t tx, name string) error {
	return l.savepoint(ctx, t, name)
}

func (l *lab) RollbackTo(ctx context.Context, t tx, name string) error {
	return l.rollbackTo(ctx, t, name)
}

func (l *lab) Release(ctx context.Context, t tx, name string) error { return l.release(ctx, t, name) }

func (l *lab) Write(ctx context.Context, t tx, w store.Writes) error {
	return l.write(ctx, t, l.stored(w))
}

func (l *lab) Cancel(ctx context.Context, t tx, source string, ids []string) (int, error) {
	return l.cancel(ctx, t, source, ids)
}

func (l *lab) Resolve(ctx context.Context, token string) (bool, error) { return l.resolve(ctx, token) }

func (l *lab) Forget(ctx context.Context, before time.Time, max int) (int, error) {
	return l.forget(ctx, before, max)
}

func (l *lab) Signal() *store.Signal { return l.signal() }

func (l *lab) Insert(ctx context.Context, t tx, entries []store.Entry) ([]store.InboxRow, error) {
	return l.enter(ctx, t, l.entries(entries))
}

func (l *lab) Undo(ctx context.Context, t tx, entries []store.Entry, found []store.InboxRow) error {
	return l.leave(ctx, t, l.entries(entries), found)
}

func (l *lab) Mark(ctx context.Context, t tx, entries []store.Entry, s store.State) ([]store.InboxRow, error) {
	return l.mark(ctx, t, l.entries(entries), s)
}

func (l *lab) Lookup(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
	all := append([]store.Key{}, keys...)
	for i := range all {
		l.keys(&all[i])
	}
	return l.lookup(ctx, all)
}

func (l *lab) Purge(ctx context.Context, before time.Time, max int) (int, error) {
	return l.purge(ctx, before, max)
}

func (l *lab) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	return l.acquire(ctx, name, holder, ttl)
}

func (l *lab) Resign(ctx context.Context, lease store.Lease) error { return l.resign(ctx, lease) }

func (l *lab) Shards() int { return 1 }

func (l *lab) Resume(ctx context.Context, t store.Term, service string) (store.Cursor, error) {
	return l.resume(ctx, t, service)
}

func (l *lab) Next(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
	page, err := l.next(ctx, t, after, done, max)
	for i := range page.Rows {
		l.reads(&page.Rows[i])
	}
	return page, err
}

func (l *lab) Advance(ctx context.Context, t store.Term, p store.Progress) error {
	return l.advance(ctx, t, p)
}

func (l *lab) Promote(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
	return l.promote(ctx, t, max)
}

func (l *lab) Rewind(ctx context.Context, t store.Term, incarnation string) (store.Cursor, error) {
	return l.rewind(ctx, t, incarnation)
}

func (l *lab) Retire(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
	return l.retire(ctx, t, r, max)
}

func (l *lab) Stats(ctx context.Context, shard int) (store.Stats, error) { return l.stats(ctx, shard) }

func (l *lab) Blocked(ctx context.Context, t store.Term, lanes []store.Lane) ([]bool, error) {
	return l.blocked(ctx, t, lanes)
}

func (l *lab) Due(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) ([]store.Held, time.Time, error) {
	rows, next, err := l.due(ctx, t, skip, max, take)
	return l.held(rows), next, err
}

func (l *lab) RetryHeld(ctx context.Context, channel, name string) (int, error) {
	return l.retryHeld(ctx, channel, name)
}

func (l *lab) Browse(ctx context.Context, shard int, after store.Position, max int) ([]store.Held, error) {
	rows, err := l.browse(ctx, shard, after, max)
	return l.held(rows), err
}

// held are held rows as they are read.
func (l *lab) held(rows []store.Held) []store.Held {
	for i := range rows {
		l.reads(&rows[i].Row)
	}
	return rows
}

func (l *lab) Edit(ctx context.Context, shard int, p store.Position, m *driver.Message) error {
	err := l.edit(ctx, shard, p, m)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.spoilt, m.ID)
	}
	return err
}

func (l *lab) Discard(ctx context.Context, shard int, ps []store.Position) (int, error) {
	return l.discard(ctx, shard, ps)
}

func (l *lab) Migrations() []store.Migration { return l.inner.Migrations() }

func (l *lab) Migrate(ctx context.Context) error { return l.migrate(ctx) }
