package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/store"
)

// Begin waits for a connection, at most Options.Timeout, for a transaction that
// begins with its first statement, in the same round trip. Its own Commit and
// Rollback work as well, but only the store's write what the outbox has to
// write.
func (s *Store) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := store.Networked(); err != nil {
		return nil, fail("begin", err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		stat := s.pool.Stat()
		return nil, fail("begin", exhausted(err, int(stat.AcquiredConns()), int(stat.MaxConns())))
	}
	return &transaction{store: s, pooled: pooled, conn: pooled.Conn()}, nil
}

// Commit writes w and commits, in one round trip.
func (s *Store) Commit(ctx context.Context, tx pgx.Tx, w store.Writes) error {
	t, ok := tx.(*transaction)
	if !ok {
		return fmt.Errorf("commit: a %T: want a transaction that the store's Begin returned", tx)
	}
	if t.ended {
		return fmt.Errorf("commit: %w", pgx.ErrTxClosed)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	all, err := s.statements(w, t.wrote)
	switch {
	case err != nil:
	case ctx.Err() != nil:
		err = ctx.Err()
	case t.failed():
		err = pgx.ErrTxCommitRollback // it was the first statement, and nobody cared
	case t.Tx == nil && len(all) == 0:
		t.end() // nothing was done
		return nil
	}
	if err != nil {
		return errors.Join(fmt.Errorf("commit: %w", err), t.rollBack(ctx))
	}
	t.ahead = nil // parts end with the whole
	b := t.batch()
	for _, st := range all {
		b.Queue(st.text, st.args...)
	}
	b.Queue("commit")
	commit := watchCommit(t.conn)
	answer, err := t.send(ctx, b)
	store.Sent.Pass()
	if err == nil {
		err = outcome(answer, all)
	} else {
		err = unlessUndone("begin", err)
	}
	if err == nil {
		if cut := commit.waited(ctx); cut != nil {
			err = fmt.Errorf("commit: %w: %w", store.ErrUnknown, cut)
		}
	}
	if err != nil {
		if rerr := t.rollBack(ctx); rerr != nil && !errors.Is(err, store.ErrUnknown) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	t.end()
	s.written(w)
	return nil
}

// outcome says what became of a commit's batch.
func outcome(res pgx.BatchResults, all []statement) error {
	doing, err := "commit", error(nil)
	for _, st := range all {
		if _, err = res.Exec(); err != nil {
			doing = st.doing
			break
		}
	}
	if err == nil {
		tag, cerr := res.Exec()
		if err = cerr; err == nil && tag.String() != "COMMIT" {
			err = pgx.ErrTxCommitRollback // a statement had failed, and nobody cared
		}
	}
	if cerr := res.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		return nil
	}
	return unlessUndone(doing, err)
}

// unlessUndone is an error of a commit, unknown unless it certainly was undone.
func unlessUndone(doing string, err error) error {
	if undone(err) {
		return fail(doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, store.ErrUnknown, err)
}

// Rollback undoes the transaction.
func (s *Store) Rollback(ctx context.Context, tx pgx.Tx) error {
	var err error
	if t, ok := tx.(*transaction); ok {
		err = t.rollBack(ctx)
	} else {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		err = tx.Rollback(ctx)
	}
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return fail("roll back", err)
}

// Savepoint begins a part of the transaction that can be undone alone. The
// server hears of it with the next statement.
func (s *Store) Savepoint(ctx context.Context, tx pgx.Tx, name string) error {
	return s.part(ctx, tx, (*transaction).savepoint, "SAVEPOINT ", name)
}

// RollbackTo undoes what was done since the savepoint.
func (s *Store) RollbackTo(ctx context.Context, tx pgx.Tx, name string) error {
	return s.part(ctx, tx, (*transaction).rollbackTo, "ROLLBACK TO ", name)
}

// Release forgets a savepoint. The server hears of it with the next statement,
// if at all.
func (s *Store) Release(ctx context.Context, tx pgx.Tx, name string) error {
	return s.part(ctx, tx, (*transaction).release, "RELEASE ", name)
}

func (s *Store) part(ctx context.Context, tx pgx.Tx, of func(*transaction, context.Context, string) error, do, name string) error {
	t, ok := tx.(*transaction)
	if !ok { // somebody else's
		return s.mark(ctx, pgxQuerier{tx}, do, name)
	}
	if err := of(t, ctx, name); err != nil {
		return fmt.Errorf("%s%s: %w", do, name, err)
	}
	return nil
}

func (c *core) mark(ctx context.Context, q querier, do, name string) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return mark(ctx, q, do, name)
}

// Write writes messages at once, in any transaction on this database.
func (s *Store) Write(ctx context.Context, tx pgx.Tx, w store.Writes) error {
	if t, ok := tx.(*transaction); ok {
		t.wrote = !s.opts.NoReorder
	} else if t, ok := s.begun.Load(tx.Conn()); ok {
		t.(*transaction).wrote = !s.opts.NoReorder
	}
	return s.write(ctx, pgxQuerier{tx}, w)
}

// Cancel deletes messages that were to be sent later.
func (s *Store) Cancel(ctx context.Context, tx pgx.Tx, source string, ids []string) (int, error) {
	return s.cancel(ctx, pgxQuerier{tx}, source, ids)
}

// Insert inserts an inbox row for each entry that has none. What follows is most
// often the handler's part, so its savepoint goes along.
func (s *Store) Insert(ctx context.Context, tx pgx.Tx, entries []store.Entry) ([]store.InboxRow, error) {
	if t, ok := tx.(*transaction); ok {
		t.behind = store.PartName(1)
		defer func() { t.behind = "" }()
	}
	return s.enter(ctx, pgxQuerier{tx}, entries)
}

// Undo undoes Insert for some entries.
func (s *Store) Undo(ctx context.Context, tx pgx.Tx, entries []store.Entry, found []store.InboxRow) error {
	return s.leave(ctx, pgxQuerier{tx}, entries, found)
}

// Mark sets the state of inbox rows that are not handled.
func (s *Store) Mark(ctx context.Context, tx pgx.Tx, entries []store.Entry, state store.State) ([]store.InboxRow, error) {
	return s.markInbox(ctx, pgxQuerier{tx}, entries, state)
}

// clock is the time that leases and due times are told by in this process.
func clock() time.Time { return time.Now() }
