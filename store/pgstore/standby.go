package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// settleSQL is what a transaction runs so that its commit writes to the log, where
// commits wait for standbys.
const settleSQL = `SELECT pg_logical_emit_message(true, 'dovetail', ''), ` + synchronous + ` WHERE current_setting('synchronous_standby_names') <> ''`

// synchronous has the transaction wait for the standbys, whatever the database's
// default is, and so for its commit to be on disk here. A snapshot that was lost in
// a crash with its transaction ids given out again would hide rows.
const synchronous = `CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN set_config('synchronous_commit', 'on', true) END`

// settled runs read, and if that saw something, returns when the standbys that
// commits wait for have all that it has seen. A commit is there for all to see
// before that if its wait was cut short: by the end of its client's patience, which
// has the server cancel it, or by a crash. It is one transaction, since two
// connections may be of two servers, the old primary and the new one.
func settled(ctx context.Context, pool *pgxpool.Pool, read func(tx pgx.Tx) (some bool, err error)) error {
	return pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		commit := watchCommit(conn.Conn())
		err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			some, err := read(tx)
			if err == nil && some {
				_, err = tx.Exec(ctx, settleSQL)
			}
			return err
		})
		if err == nil {
			err = commit.waited(ctx)
		}
		return err
	})
}

// besideSettled is settled for what is neither a transaction of the user's nor the
// relay's. Those that wait leave connections to others.
func (c *core) besideSettled(ctx context.Context, read func(tx pgx.Tx) (some bool, err error)) error {
	select {
	case c.settling <- struct{}{}:
		defer func() { <-c.settling }()
	case <-ctx.Done():
		return fmt.Errorf("%d others wait for commits that hang, or for a standby: %w", settles, ctx.Err())
	}
	return settled(ctx, c.beside, read)
}

// errCut says that a commit was answered whose wait for a standby had not ended.
var errCut = errors.New("the server says that the commit's wait for its standby was cancelled")

// watchedKey is where a connection keeps the commit that is watched on it.
const watchedKey = "dovetail commit"

// A watched commit hears whether its wait for a standby was cut short. The server
// answers such a commit like any other, behind a warning.
type watched struct{ cut atomic.Bool }

// watchCommit watches the next commit on a connection.
func watchCommit(conn *pgx.Conn) *watched {
	w := &watched{}
	conn.PgConn().CustomData()[watchedKey] = w
	return w
}

// waited returns an error if a commit that the server answered may not have waited
// to its end. w may be nil. Where connections have pgx's CancelRequestContextWatcherHandler, the
// end of ctx is enough to have the wait cancelled and the answer read.
func (w *watched) waited(ctx context.Context) error {
	if w != nil && w.cut.Load() {
		return errCut
	}
	return ctx.Err()
}

// hearCuts has connections tell the commits that are watched on them. The text of
// the warning is translated, the routine that it comes from is not.
func hearCuts(config *pgx.ConnConfig) {
	before := config.OnNotice
	config.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		if w, ok := conn.CustomData()[watchedKey].(*watched); ok && n.Routine == "SyncRepWaitForLSN" {
			w.cut.Store(true)
		}
		if before != nil {
			before(conn, n)
		}
	}
}
