package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Retryable reports whether a transaction that failed with err may succeed when
// all of it is run again: it met a deadlock, a serialization failure, a lock
// time-out or a full server, or was never sent. An unknown outcome is none of
// these.
func Retryable(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch pe.Code {
		case "40001", "40P01", "55P03", "53300", "57P03":
			return true
		}
		return false
	}
	var ce *pgconn.ConnectError
	return pgconn.SafeToRetry(err) || errors.As(err, &ce)
}

// fail wraps an error with what was being done and, where there is one, with
// the remedy.
func fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	if remedy := remedyFor(err); remedy != "" {
		return fmt.Errorf("%s: %w: %s", doing, err, remedy)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// exhausted says so where a transaction got no connection because the pool has
// no more.
func exhausted(err error, used, most int) error {
	if most <= 0 || used < most || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: all %d connections of the pool are in use: allow more (Options.Conns, or pool_max_conns in the URL; the server's max_connections bounds them), "+
		"or run fewer handlers at once (dovetail.Concurrency) and keep transactions short", err, most)
}

func remedyFor(err error) string {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return ""
	}
	switch pe.Code {
	case "42P01", "42703", "42883":
		return "the store's tables are missing or old; run Migrate or `dovetail migrate`, and look at Options.Schema and the search_path"
	case "42501":
		return "grant the connection's user the rights of the tables' owner, or have it own them"
	case "25006":
		return "the server is a standby or read-only; connect to the primary, with target_session_attrs=read-write"
	case "26000", "42P05":
		return "a pooler such as PgBouncer gives sessions away by the transaction, and prepared statements stay with them: add default_query_exec_mode=exec to the URL"
	case "53300":
		return "the server has no connections left; lower Options.Conns or raise max_connections"
	}
	return ""
}

// undone reports whether a commit that failed with err was certainly rolled
// back: the server said so, or it was never asked.
func undone(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch {
		case pe.Code == "40003", // statement_completion_unknown
			len(pe.Code) == 5 && pe.Code[:2] == "08", // connection trouble behind a pooler
			len(pe.Code) == 5 && pe.Code[:2] == "57", // ended while it waited, perhaps for a standby
			pe.Severity == "FATAL" || pe.Severity == "PANIC":
			return false
		}
		return true
	}
	return pgconn.SafeToRetry(err) || errors.Is(err, pgx.ErrTxCommitRollback)
}

// bound gives a call its deadline.
func (c *core) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.opts.Timeout)
}
