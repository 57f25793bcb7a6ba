package pgstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// closing is a connection that is closed, at this end, once a COMMIT was sent
// and before its answer is read.
type closing struct {
	net.Conn
	armed *atomic.Bool
	sent  bool
}

func (c *closing) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil && c.armed.Load() && bytes.Contains(bytes.ToLower(p), []byte("commit")) {
		c.sent = true
	}
	return n, err
}

func (c *closing) Read(p []byte) (int, error) {
	if c.sent {
		_ = c.Conn.Close() // the read says so
	}
	return c.Conn.Read(p)
}

// Nobody may run a transaction again whose commit may have happened.
func TestCommit_whose_connection_is_closed_before_the_answer_is_unknown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	config, err := pgxpool.ParseConfig(server(t))
	must(t, err)
	var armed atomic.Bool
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &closing{Conn: c, armed: &armed}, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(t, err)
	defer pool.Close()
	opts := pgstore.Options{Schema: schema(t.TempDir())}
	s, err := pgstore.New(ctx, pool, opts)
	must(t, err)
	defer s.Close()
	tx, err := s.Begin(ctx)
	must(t, err)
	var one int
	must(t, tx.QueryRow(ctx, `SELECT 1 + $1::int`, 1).Scan(&one))
	armed.Store(true)
	err = s.Commit(ctx, tx, store.Writes{Token: "closed", Messages: []*driver.Message{benchMessage(1)}})
	armed.Store(false)
	if !errors.Is(err, store.ErrUnknown) || pgstore.Retryable(err) {
		t.Errorf("commit: %v, retryable %v, want an unknown outcome", err, pgstore.Retryable(err))
	}
	committed, err := s.Resolve(ctx, "closed")
	must(t, err)
	st, err := s.Stats(ctx, 0)
	must(t, err)
	if committed != (st.Backlog == 1) {
		t.Errorf("committed %v, and the backlog is %d", committed, st.Backlog)
	}

	q, err := pgstore.NewSQL(ctx, pool, opts)
	must(t, err)
	defer q.Close()
	stx, err := q.Begin(ctx)
	must(t, err)
	must(t, stx.QueryRowContext(ctx, `SELECT 1`).Scan(&one))
	armed.Store(true)
	err = q.Commit(ctx, stx, store.Writes{Token: "closed, too"})
	armed.Store(false)
	if !errors.Is(err, store.ErrUnknown) || pgstore.Retryable(err) {
		t.Errorf("commit over database/sql: %v, retryable %v, want an unknown outcome", err, pgstore.Retryable(err))
	}
}
