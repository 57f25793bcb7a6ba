package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"

	"modernc.org/sqlite"
)

// errLost says that SQLite has ended a transaction by itself: it does so when a
// statement is interrupted or the disk is full.
var errLost = errors.New("SQLite has rolled the transaction back by itself, after a statement that was interrupted or met a full disk: run all of it again")

// guarding is in the context with which Begin begins a transaction: a function
// that ends the context when the transaction has ended.
type guarding struct{}

// guardConnector opens connections that are guarded. After SQLite has ended a
// transaction by itself, each further statement would commit alone, and the
// commit in the end would have nothing to take back.
type guardConnector struct{ driver.Connector }

// guardedConn is what it opens: what the driver's connection can.
type guardedConn struct {
	conn
	guarded bool // a transaction of Begin's is open: nothing but its commit may commit
	lost    bool // and SQLite has rolled it back
}

type conn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

func (g guardConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := g.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	able, ok := inner.(conn)
	hooks, hooked := inner.(sqlite.HookRegisterer)
	if !ok || !hooked {
		return nil, errors.Join(errors.New("the driver's connection has no hooks"), inner.Close())
	}
	c := &guardedConn{conn: able}
	hooks.RegisterCommitHook(func() int32 {
		if c.guarded {
			return 1 // SQLite rolls back instead
		}
		return 0
	})
	hooks.RegisterRollbackHook(func() { c.lost = true })
	return c, nil
}

// ended returns an error if the transaction was lost.
func (c *guardedConn) ended() error {
	if c.guarded && c.lost {
		return errLost
	}
	return nil
}

// ResetSession begins another use of the connection.
func (c *guardedConn) ResetSession(ctx context.Context) error {
	c.guarded, c.lost = false, false
	return c.conn.ResetSession(ctx)
}

func (c *guardedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	end, guarded := ctx.Value(guarding{}).(context.CancelFunc)
	c.guarded, c.lost = guarded, false
	if !guarded {
		end = func() {}
	}
	return guardedTx{c, tx, end}, nil
}

func (c *guardedConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.ended(); err != nil {
		return nil, err
	}
	return c.conn.ExecContext(ctx, text, args)
}

func (c *guardedConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.ended(); err != nil {
		return nil, err
	}
	return c.conn.QueryContext(ctx, text, args)
}

func (c *guardedConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	inner, err := c.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	able, ok := inner.(stmt)
	if !ok {
		return nil, errors.Join(errors.New("the driver's statements take no context"), inner.Close())
	}
	return &guardedStmt{able, c}, nil
}

type stmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// guardedStmt is a prepared statement.
type guardedStmt struct {
	stmt
	c *guardedConn
}

func (s *guardedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.c.ended(); err != nil {
		return nil, err
	}
	return s.stmt.ExecContext(ctx, args)
}

func (s *guardedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.c.ended(); err != nil {
		return nil, err
	}
	return s.stmt.QueryContext(ctx, args)
}

// guardedTx is a transaction, guarded or not.
type guardedTx struct {
	c   *guardedConn
	tx  driver.Tx
	end func()
}

// Commit commits, unless the transaction was lost: then whatever may have been
// begun since is rolled back.
func (t guardedTx) Commit() error {
	defer t.end()
	err := t.c.ended()
	t.c.guarded = false
	if err != nil {
		_ = t.tx.Rollback() // most often there is nothing to roll back
		return err
	}
	return t.tx.Commit()
}

// Rollback rolls back, or finds that SQLite has.
func (t guardedTx) Rollback() error {
	defer t.end()
	lost := t.c.ended() != nil
	t.c.guarded = false
	err := t.tx.Rollback()
	if lost {
		return nil
	}
	return err
}
