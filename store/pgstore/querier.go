package pgstore

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// querier runs statements in a transaction of either flavour.
type querier interface {
	exec(ctx context.Context, text string, args ...any) (int64, error)
	query(ctx context.Context, text string, args ...any) (rowSet, error)
}

// rowSet is what pgx.Rows and *sql.Rows have in common.
type rowSet interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	done()
}

type pgxQuerier struct{ pgx.Tx }

type pgxRows struct{ pgx.Rows }

func (r pgxRows) done() { r.Close() }

func (q pgxQuerier) exec(ctx context.Context, text string, args ...any) (int64, error) {
	tag, err := q.Exec(ctx, text, args...)
	return tag.RowsAffected(), err
}

func (q pgxQuerier) query(ctx context.Context, text string, args ...any) (rowSet, error) {
	rows, err := q.Query(ctx, text, args...)
	return pgxRows{rows}, err
}

// sqlQuerier is for a transaction of package sql, with what the store knows of it:
// nothing, if somebody else began it.
type sqlQuerier struct {
	*sql.Tx
	state *sqlState
}

// watching has the transaction's first statement watch the commit. Package sql
// tells nobody which connection a transaction is on; pgx tells its rewriter.
func (q sqlQuerier) watching(args []any) []any {
	if q.state == nil || q.state.commit != nil {
		return args
	}
	return append([]any{q.state}, args...)
}

// RewriteQuery leaves the statement as it is.
func (s *sqlState) RewriteQuery(_ context.Context, conn *pgx.Conn, text string, args []any) (string, []any, error) {
	s.commit = watchCommit(conn)
	return text, args, nil
}

type sqlRows struct{ *sql.Rows }

func (r sqlRows) done() { _ = r.Close() } // Err has said what went wrong

func (q sqlQuerier) exec(ctx context.Context, text string, args ...any) (int64, error) {
	res, err := q.ExecContext(ctx, text, q.watching(args)...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (q sqlQuerier) query(ctx context.Context, text string, args ...any) (rowSet, error) {
	rows, err := q.QueryContext(ctx, text, q.watching(args)...)
	return sqlRows{rows}, err
}

// each calls f for every row of a query.
func each(ctx context.Context, q querier, text string, args []any, f func(rowSet) error) error {
	rows, err := q.query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.done()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// poolQuerier runs statements on a connection of a pool, each by itself.
type poolQuerier struct{ *pgxpool.Pool }

func (q poolQuerier) exec(ctx context.Context, text string, args ...any) (int64, error) {
	tag, err := q.Exec(ctx, text, args...)
	return tag.RowsAffected(), err
}

func (q poolQuerier) query(ctx context.Context, text string, args ...any) (rowSet, error) {
	rows, err := q.Query(ctx, text, args...)
	return pgxRows{rows}, err
}
