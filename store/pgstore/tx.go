package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// transaction is what Begin gives out: pgx's own transaction, and with it the
// connection, so that Commit can send the last statements and COMMIT together.
// pgx's transaction does not hear of that commit; here it is remembered.
type transaction struct {
	pgx.Tx
	store *Store
	conn  *pgxpool.Conn
	wrote bool // messages that are numbered anew at the commit
	ended bool
}

// end gives the connection back. The pool closes one that is not idle.
func (t *transaction) end() {
	if !t.ended {
		t.ended = true
		t.store.begun.Delete(t.conn.Conn())
		t.conn.Release()
	}
}

func (t *transaction) Commit(ctx context.Context) error {
	if t.ended {
		return pgx.ErrTxClosed
	}
	defer t.end()
	return t.Tx.Commit(ctx)
}

func (t *transaction) Rollback(ctx context.Context) error {
	if t.ended {
		return pgx.ErrTxClosed
	}
	defer t.end()
	return t.Tx.Rollback(ctx)
}

func (t *transaction) Begin(ctx context.Context) (pgx.Tx, error) {
	if t.ended {
		return nil, pgx.ErrTxClosed
	}
	return t.Tx.Begin(ctx)
}

func (t *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error) {
	if t.ended {
		return 0, pgx.ErrTxClosed
	}
	return t.Tx.CopyFrom(ctx, table, columns, src)
}

func (t *transaction) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if t.ended {
		return closedResults{}
	}
	return t.Tx.SendBatch(ctx, b)
}

func (t *transaction) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if t.ended {
		return nil, pgx.ErrTxClosed
	}
	return t.Tx.Prepare(ctx, name, sql)
}

func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.ended {
		return pgconn.CommandTag{}, pgx.ErrTxClosed
	}
	return t.Tx.Exec(ctx, sql, args...)
}

func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if t.ended {
		return nil, pgx.ErrTxClosed
	}
	return t.Tx.Query(ctx, sql, args...)
}

func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if t.ended {
		return closedRow{}
	}
	return t.Tx.QueryRow(ctx, sql, args...)
}

// closedRow and closedResults answer for a transaction that has ended.
type closedRow struct{}

func (closedRow) Scan(...any) error { return pgx.ErrTxClosed }

type closedResults struct{}

func (closedResults) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, pgx.ErrTxClosed }
func (closedResults) Query() (pgx.Rows, error)         { return nil, pgx.ErrTxClosed }
func (closedResults) QueryRow() pgx.Row                { return closedRow{} }
func (closedResults) Close() error                     { return pgx.ErrTxClosed }
func (closedResults) Tx() pgx.Tx                       { return nil }

// endTime bounds a roll-back, which the end of the caller's context must not
// prevent.
const endTime = 5 * time.Second

// rollBack ends a transaction without regard to ctx's end.
func (t *transaction) rollBack(ctx context.Context) error {
	if t.ended {
		return nil
	}
	defer t.end()
	if t.conn.Conn().IsClosed() {
		return nil // the server has rolled back by itself, or will
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	err := t.Tx.Rollback(ctx)
	if err != nil && t.conn.Conn().IsClosed() {
		return nil
	}
	return err
}
