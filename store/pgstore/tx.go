package pgstore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// transaction is what Begin gives out: pgx's own transaction, and with it the
// connection, so that statements which nobody waits for go with others: BEGIN
// with the first statement, the last ones with COMMIT. pgx's transaction does
// not hear of that commit; here it is remembered.
type transaction struct {
	pgx.Tx // nil until BEGIN is sent
	store  *Store
	pooled *pgxpool.Conn
	conn   *pgx.Conn
	ahead  []string // savepoints and their releases, to be sent before the next statement
	behind string   // a savepoint to be sent behind the first statement
	spare  string   // a savepoint that nothing was sent after, and nobody has asked for yet
	wrote  bool     // messages that are numbered again at the commit
	known  bool     // by its connection
	ended  bool
}

// end gives the connection back. The pool closes one that is not idle.
func (t *transaction) end() {
	if t.ended {
		return
	}
	t.ended = true
	if t.known {
		t.store.begun.Delete(t.conn)
	}
	t.pooled.Release()
}

// failed reports whether the first statement failed and BEGIN was undone with
// it, or not sent at all.
func (t *transaction) failed() bool {
	return t.Tx != nil && t.conn.PgConn().TxStatus() == 'I'
}

// aborted reports whether a statement has failed, so that all others will until
// there is a roll-back.
func (t *transaction) aborted() bool { return t.conn.PgConn().TxStatus() == 'E' }

// batch begins a batch with what waits for the next statement.
func (t *transaction) batch() *pgx.Batch {
	b := &pgx.Batch{}
	if t.Tx == nil {
		b.BeginTx(pgx.TxOptions{})
	}
	for _, text := range t.ahead {
		b.Queue(text)
	}
	return b
}

// send sends a batch that batch began, and reads the answers to what it began
// with.
func (t *transaction) send(ctx context.Context, b *pgx.Batch) (res pgx.BatchResults, err error) {
	n := len(t.ahead)
	t.ahead, t.spare = nil, ""
	if t.Tx == nil {
		n++
		res = t.conn.SendBatch(ctx, b)
		t.Tx = res.Tx()
	} else {
		res = t.Tx.SendBatch(ctx, b)
	}
	for range n {
		if _, err = res.Exec(); err != nil {
			break
		}
	}
	if err == nil {
		return res, nil
	}
	_ = res.Close() // it says the same
	var refused *pgconn.PgError
	if t.failed() && !t.conn.IsClosed() && !errors.As(err, &refused) {
		t.Tx = nil // nothing was sent, and what comes next may be
	}
	return nil, err
}

// flush sends what waits, before what cannot go with it.
func (t *transaction) flush(ctx context.Context) error {
	switch {
	case t.ended:
		return pgx.ErrTxClosed
	case t.Tx != nil && len(t.ahead) == 0:
		t.spare = ""
		return nil
	}
	res, err := t.send(ctx, t.batch())
	if err != nil {
		return err
	}
	return res.Close()
}

// first reports whether a statement may go with BEGIN: as the first, if it is
// certainly one statement, as only those without arguments need not be, and has
// none of pgx's own options. Savepoints do not go with it: where its arguments
// cannot be encoded, pgx gives up the connection, and with it what is before
// the savepoint.
func (t *transaction) first(text string, args []any) bool {
	if t.Tx != nil || t.ended || len(t.ahead) > 0 || text == "" || len(args) == 0 {
		return false
	}
	switch args[0].(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
		return false
	}
	return true
}

// sendFirst sends BEGIN and the first statement, and a savepoint behind it, if
// there is to be one.
func (t *transaction) sendFirst(ctx context.Context, text string, args []any) (pgx.BatchResults, error) {
	b := t.batch()
	b.Queue(text, args...)
	spare := t.behind
	if t.behind = ""; spare != "" {
		b.Queue("SAVEPOINT " + spare)
	}
	res, err := t.send(ctx, b)
	if err == nil {
		t.spare = spare
	}
	return res, err
}

func (t *transaction) Exec(ctx context.Context, text string, args ...any) (tag pgconn.CommandTag, err error) {
	if !t.first(text, args) {
		if err := t.flush(ctx); err != nil {
			return tag, err
		}
		return t.Tx.Exec(ctx, text, args...)
	}
	res, err := t.sendFirst(ctx, text, args)
	if err != nil {
		return tag, err
	}
	tag, err = res.Exec()
	if cerr := res.Close(); err == nil {
		err = cerr
	}
	return tag, err
}

func (t *transaction) Query(ctx context.Context, text string, args ...any) (pgx.Rows, error) {
	if !t.first(text, args) {
		if err := t.flush(ctx); err != nil {
			return failed(err).Query()
		}
		return t.Tx.Query(ctx, text, args...)
	}
	res, err := t.sendFirst(ctx, text, args)
	if err != nil {
		return failed(err).Query()
	}
	rows, err := res.Query()
	r := &batchRows{Rows: rows, res: res}
	if err != nil {
		r.Close()
	}
	return r, err
}

func (t *transaction) QueryRow(ctx context.Context, text string, args ...any) pgx.Row {
	if !t.first(text, args) {
		if err := t.flush(ctx); err != nil {
			return failed(err).QueryRow()
		}
		return t.Tx.QueryRow(ctx, text, args...)
	}
	res, err := t.sendFirst(ctx, text, args)
	if err != nil {
		return failed(err).QueryRow()
	}
	return batchRow{res.QueryRow(), res}
}

// Begin begins a pseudo nested transaction.
func (t *transaction) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	t.know()
	return t.Tx.Begin(ctx)
}

// know has the transaction found by its connection, as it must be from within
// those nested in it.
func (t *transaction) know() {
	if !t.known {
		t.known = true
		t.store.begun.Store(t.conn, t)
	}
}

func (t *transaction) Commit(ctx context.Context) error {
	if t.ended {
		return pgx.ErrTxClosed
	}
	defer t.end()
	if err := t.flush(ctx); err != nil {
		return err
	}
	return t.Tx.Commit(ctx)
}

func (t *transaction) Rollback(ctx context.Context) error {
	switch {
	case t.ended:
		return pgx.ErrTxClosed
	case t.Tx == nil, t.failed():
		t.end()
		return nil
	}
	defer t.end()
	return t.Tx.Rollback(ctx)
}

func (t *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error) {
	if err := t.flush(ctx); err != nil {
		return 0, err
	}
	return t.Tx.CopyFrom(ctx, table, columns, src)
}

func (t *transaction) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := t.flush(ctx); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return t.Tx.SendBatch(ctx, b)
}

func (t *transaction) Prepare(ctx context.Context, name, text string) (*pgconn.StatementDescription, error) {
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	return t.Tx.Prepare(ctx, name, text)
}

// Conn returns the connection, on which the transaction has begun. There is no
// way to say that it could not: then the connection is closed.
func (t *transaction) Conn() *pgx.Conn {
	t.flushOrClose()
	t.know()
	return t.conn
}

func (t *transaction) LargeObjects() pgx.LargeObjects {
	t.flushOrClose()
	return t.Tx.LargeObjects()
}

func (t *transaction) flushOrClose() {
	if err := t.flushSoon(context.Background()); err != nil && !t.ended {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		_ = t.conn.Close(ctx) // what fails with it is told there
	}
}

// flushSoon is flush within Options.Timeout.
func (t *transaction) flushSoon(ctx context.Context) error {
	ctx, cancel := t.store.bound(ctx)
	defer cancel()
	return t.flush(ctx)
}

// savepoint begins a part. What has failed before is told at once.
func (t *transaction) savepoint(ctx context.Context, name string) error {
	if t.spare == name && !t.aborted() {
		t.spare = ""
		return nil
	}
	t.ahead = append(t.ahead, "SAVEPOINT "+name)
	if t.ended || t.aborted() {
		return t.flushSoon(ctx)
	}
	return nil
}

// release ends a part. If nothing happened in it the server need not hear of it.
func (t *transaction) release(ctx context.Context, name string) error {
	if n := len(t.ahead); n > 0 && t.ahead[n-1] == "SAVEPOINT "+name {
		t.ahead = t.ahead[:n-1]
		return nil
	}
	t.ahead = append(t.ahead, "RELEASE "+name)
	if t.ended || t.aborted() {
		return t.flushSoon(ctx)
	}
	return nil
}

// rollbackTo undoes a part: all of it that the server has heard of. What waits
// was within it.
func (t *transaction) rollbackTo(ctx context.Context, name string) error {
	if n := slices.Index(t.ahead, "SAVEPOINT "+name); n >= 0 {
		t.ahead = t.ahead[:n+1]
		return nil
	}
	t.ahead = nil
	ctx, cancel := t.store.bound(ctx)
	defer cancel()
	_, err := t.Exec(ctx, "ROLLBACK TO "+name)
	return err
}

// endTime bounds a roll-back, which the end of the caller's context must not
// prevent.
const endTime = 5 * time.Second

// rollBack ends a transaction without regard to ctx's end.
func (t *transaction) rollBack(ctx context.Context) error {
	if t.ended {
		return nil
	}
	if t.conn.IsClosed() {
		t.end()
		return nil // the server has rolled back by itself, or will
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	err := t.Rollback(ctx)
	if err != nil && t.conn.IsClosed() {
		return nil
	}
	return err
}
