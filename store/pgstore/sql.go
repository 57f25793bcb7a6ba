package pgstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dovetail-go/dovetail/store"
)

// SQLStore is a PostgreSQL database for services that use database/sql, over
// pgx's driver. It is a store.DB and a store.Listener.
type SQLStore struct {
	*core
	db  *sql.DB
	txs sync.Map // *sql.Tx → *sqlState
}

// sqlState is what the store knows of a transaction that it has begun.
type sqlState struct {
	ctx    context.Context    // its own: it outlives Begin
	cancel context.CancelFunc // of ctx
	wrote  bool               // messages that are numbered again at the commit
	commit *watched           // nil before the store's first statement
}

var (
	_ store.DB[*sql.Tx] = (*SQLStore)(nil)
	_ store.Listener    = (*SQLStore)(nil)
)

// OpenSQL is Open for services that use database/sql.
func OpenSQL(ctx context.Context, url string, opts ...Options) (*SQLStore, error) {
	c, err := open(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	return &SQLStore{core: c, db: stdlib.OpenDBFromPool(c.pool)}, nil
}

// NewSQL is New for services that use database/sql.
func NewSQL(ctx context.Context, pool *pgxpool.Pool, opts ...Options) (*SQLStore, error) {
	c, err := newCore(ctx, pool, opts)
	if err != nil {
		return nil, err
	}
	return &SQLStore{core: c, db: stdlib.OpenDBFromPool(c.pool)}, nil
}

// DB returns the connections of business transactions: for the service's own
// queries.
func (s *SQLStore) DB() *sql.DB { return s.db }

// Close closes the store's connections. Transactions must have ended.
func (s *SQLStore) Close() error {
	return errors.Join(s.db.Close(), s.core.Close())
}

// Begin waits for a connection, at most Options.Timeout, and begins a
// transaction. If ctx ends before the transaction does, it is rolled back.
func (s *SQLStore) Begin(ctx context.Context) (*sql.Tx, error) {
	if err := store.Networked(); err != nil {
		return nil, fail("begin", err)
	}
	// The transaction's context outlives this call; it is cancelled to end the
	// waits for a connection and for the commit.
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(s.opts.Timeout, cancel)
	tx, err := s.db.BeginTx(ctx, nil)
	timer.Stop()
	if err != nil {
		cancel()
		stat := s.pool.Stat()
		return nil, fail("begin", exhausted(err, int(stat.AcquiredConns()), int(stat.MaxConns())))
	}
	s.txs.Store(tx, &sqlState{ctx: ctx, cancel: cancel})
	return tx, nil
}

// Commit writes w and commits.
func (s *SQLStore) Commit(ctx context.Context, tx *sql.Tx, w store.Writes) error {
	known, ok := s.txs.LoadAndDelete(tx)
	if !ok {
		return fmt.Errorf("commit: the transaction has ended, or the store's Begin did not begin it: %w", sql.ErrTxDone)
	}
	state := known.(*sqlState)
	defer state.cancel()
	all, err := s.statements(w, state.wrote)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.run(ctx, sqlQuerier{tx, state}, all)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("commit: %w", err), rollBackSQL(tx))
	}
	store.Written.Pass()
	timer := time.AfterFunc(s.opts.Timeout, state.cancel)
	err = tx.Commit()
	timer.Stop()
	if err == nil {
		if err = state.commit.waited(state.ctx); err == nil {
			s.written(w)
			return nil
		}
		return fmt.Errorf("commit: %w: %w", store.ErrUnknown, err)
	}
	switch {
	case err == context.Canceled, err == context.DeadlineExceeded, errors.Is(err, sql.ErrTxDone), undone(err):
		// Bare, a context's error says that package sql did not get as far as
		// committing.
		return fail("commit", err)
	}
	return fmt.Errorf("commit: %w: %w", store.ErrUnknown, err)
}

func (s *SQLStore) run(ctx context.Context, q sqlQuerier, all []statement) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for _, st := range all {
		if _, err := q.exec(ctx, st.text, st.args...); err != nil {
			return fail(st.doing, err)
		}
	}
	return nil
}

// Rollback undoes the transaction.
func (s *SQLStore) Rollback(_ context.Context, tx *sql.Tx) error {
	if known, ok := s.txs.LoadAndDelete(tx); ok {
		cancel := known.(*sqlState).cancel
		defer cancel() // after the roll-back: before, it would take the connection with it
		timer := time.AfterFunc(endTime, cancel)
		defer timer.Stop()
	}
	return rollBackSQL(tx)
}

// in runs statements in a transaction, be it the store's or somebody else's.
func (s *SQLStore) in(tx *sql.Tx) sqlQuerier {
	known, _ := s.txs.Load(tx)
	state, _ := known.(*sqlState)
	return sqlQuerier{tx, state}
}

func rollBackSQL(tx *sql.Tx) error {
	// A connection that is gone is rolled back by the server.
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) && undone(err) {
		return fail("roll back", err)
	}
	return nil
}

// Savepoint begins a part of the transaction that can be undone alone.
func (s *SQLStore) Savepoint(ctx context.Context, tx *sql.Tx, name string) error {
	return s.mark(ctx, s.in(tx), "SAVEPOINT ", name)
}

// RollbackTo undoes what was done since the savepoint.
func (s *SQLStore) RollbackTo(ctx context.Context, tx *sql.Tx, name string) error {
	return s.mark(ctx, s.in(tx), "ROLLBACK TO ", name)
}

// Release forgets a savepoint.
func (s *SQLStore) Release(ctx context.Context, tx *sql.Tx, name string) error {
	return s.mark(ctx, s.in(tx), "RELEASE ", name)
}

// Write writes messages at once, in any transaction on this database that goes
// over pgx's driver.
func (s *SQLStore) Write(ctx context.Context, tx *sql.Tx, w store.Writes) error {
	q := s.in(tx)
	if q.state != nil {
		q.state.wrote = !s.opts.NoReorder
	}
	return s.write(ctx, q, w)
}

// Cancel deletes messages that were to be sent later.
func (s *SQLStore) Cancel(ctx context.Context, tx *sql.Tx, source string, ids []string) (int, error) {
	return s.cancel(ctx, s.in(tx), source, ids)
}

// Insert inserts an inbox row for each entry that has none.
func (s *SQLStore) Insert(ctx context.Context, tx *sql.Tx, entries []store.Entry) ([]store.InboxRow, error) {
	return s.enter(ctx, s.in(tx), entries)
}

// Undo undoes Insert for some entries.
func (s *SQLStore) Undo(ctx context.Context, tx *sql.Tx, entries []store.Entry, found []store.InboxRow) error {
	return s.leave(ctx, s.in(tx), entries, found)
}

// Mark sets the state of inbox rows that are not handled.
func (s *SQLStore) Mark(ctx context.Context, tx *sql.Tx, entries []store.Entry, state store.State) ([]store.InboxRow, error) {
	return s.markInbox(ctx, s.in(tx), entries, state)
}
