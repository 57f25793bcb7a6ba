package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// errWaited says what Begin has waited for.
var errWaited = errors.New("the transactions before it have not ended: look for one that waits for something else, or raise Options.Wait")

// Begin waits for the writing connection, at most Options.Wait, and begins a
// transaction. If ctx ends
// before the transaction does, it is rolled back. If SQLite rolls it back by
// itself, everything else in it fails, and so does its commit.
func (s *Store) Begin(ctx context.Context) (*sql.Tx, error) {
	// The context outlives this call, since the transaction ends with it. What
	// ends the transaction ends it, too.
	ctx, end := context.WithCancelCause(ctx)
	stop := context.CancelFunc(func() { end(nil) })
	timer := time.AfterFunc(s.opts.Wait, func() { end(errWaited) })
	tx, err := s.writer.BeginTx(context.WithValue(ctx, guarding{}, stop), nil)
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errWaited) {
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, cause)
		}
		stop()
		return nil, fail("begin", err)
	}
	return tx, nil
}

// Commit writes w and commits.
func (s *Store) Commit(ctx context.Context, tx *sql.Tx, w store.Writes) error {
	if err := s.writeOwn(ctx, tx, w); err != nil {
		return errors.Join(err, s.Rollback(ctx, tx))
	}
	store.Written.Pass()
	err := tx.Commit()
	if err == nil {
		if len(w.Messages)+len(w.Later) > 0 {
			s.signal.Notify()
		}
		return nil
	}
	if errors.Is(err, errLost) || errors.Is(err, sql.ErrTxDone) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fail("commit", err) // package sql did not get as far as committing
	}
	// If the engine is still in the transaction it had not committed, and is
	// rolled back now. Otherwise the error came too late to know.
	if _, rerr := s.writer.ExecContext(context.WithoutCancel(ctx), "ROLLBACK"); rerr == nil {
		return fail("commit: rolled back", err)
	}
	return fmt.Errorf("commit: %w: %w", store.ErrUnknown, err)
}

// Rollback undoes the transaction.
func (s *Store) Rollback(_ context.Context, tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fail("roll back", err)
	}
	return nil
}

// Savepoint begins a part of the transaction that can be undone alone.
func (s *Store) Savepoint(ctx context.Context, tx *sql.Tx, name string) error {
	return s.mark(ctx, tx, s.stmt.savepoint, "SAVEPOINT ", name)
}

// RollbackTo undoes what was done since the savepoint.
func (s *Store) RollbackTo(ctx context.Context, tx *sql.Tx, name string) error {
	return s.mark(ctx, tx, s.stmt.rollbackTo, "ROLLBACK TO ", name)
}

// Release forgets a savepoint.
func (s *Store) Release(ctx context.Context, tx *sql.Tx, name string) error {
	return s.mark(ctx, tx, s.stmt.release, "RELEASE ", name)
}

func (s *Store) mark(ctx context.Context, tx *sql.Tx, st *sql.Stmt, do, name string) error {
	ctx = short(ctx)
	var err error
	if name == outermost {
		_, err = tx.StmtContext(ctx, st).ExecContext(ctx)
	} else {
		_, err = tx.ExecContext(ctx, do+name)
	}
	if err != nil {
		return fail(do+name, err)
	}
	return nil
}

// short is the context of statements that take microseconds: for one that can
// end, the driver starts a goroutine. The transaction ends with its own.
func short(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

func (s *Store) exec(ctx context.Context, tx *sql.Tx, doing, text string, args ...any) error {
	if _, err := tx.ExecContext(ctx, text, args...); err != nil {
		return fail(doing, err)
	}
	return nil
}

// Write writes messages at once, in any transaction on this file.
func (s *Store) Write(ctx context.Context, tx *sql.Tx, w store.Writes) error {
	// The transaction may come from another pool, whose connections do not
	// know the prepared statements.
	now := micros(time.Now())
	for _, m := range w.Messages {
		args, err := insertArgs(nil, nil, m, now)
		if err != nil {
			return err
		}
		if err := s.exec(ctx, tx, "write outbox", s.sql(insertSQL), args...); err != nil {
			return err
		}
	}
	for _, m := range w.Later {
		args, err := laterArgs(m)
		if err != nil {
			return err
		}
		if err := s.exec(ctx, tx, "write outbox_later", s.sql(laterSQL), args...); err != nil {
			return err
		}
	}
	return nil
}

// writeOwn writes w in a transaction that Begin began.
func (s *Store) writeOwn(ctx context.Context, tx *sql.Tx, w store.Writes) error {
	now := micros(time.Now())
	ctx = short(ctx)
	if err := s.insertRows(ctx, tx, w.Messages, now); err != nil {
		return err
	}
	if len(w.Later) > 0 {
		st := tx.StmtContext(ctx, s.stmt.later)
		for _, m := range w.Later {
			args, err := laterArgs(m)
			if err != nil {
				return err
			}
			if _, err := st.ExecContext(ctx, args...); err != nil {
				return fail("write outbox_later", err)
			}
		}
	}
	if len(w.Replies) > 0 {
		st := tx.StmtContext(ctx, s.stmt.reply)
		for i := range w.Replies {
			r := &w.Replies[i]
			if _, err := st.ExecContext(ctx, r.Reply.Status, r.Reply.ContentType, r.Reply.Body, r.Group, r.Handler, r.Source, r.ID); err != nil {
				return fail("write inbox reply", err)
			}
		}
	}
	if w.Token != "" {
		if _, err := tx.StmtContext(ctx, s.stmt.token).ExecContext(ctx, w.Token, now); err != nil {
			return fail("write token", err)
		}
	}
	return nil
}

// insertRows appends messages to the outbox, many at a time.
func (s *Store) insertRows(ctx context.Context, tx *sql.Tx, ms []*driver.Message, now int64) error {
	if len(ms) == 0 {
		return nil
	}
	var args []any
	text := make([]byte, 0, 512) // scratch
	var err error
	if len(ms) >= manyRows {
		st := tx.StmtContext(ctx, s.stmt.insertMany)
		args = make([]any, 0, 6*manyRows)
		for len(ms) >= manyRows {
			args = args[:0]
			for _, m := range ms[:manyRows] {
				if args, err = insertArgs(args, text, m, now); err != nil {
					return err
				}
			}
			if _, err := st.ExecContext(ctx, args...); err != nil {
				return fail("write outbox", err)
			}
			ms = ms[manyRows:]
		}
	}
	if len(ms) == 0 {
		return nil
	}
	st := tx.StmtContext(ctx, s.stmt.insert)
	for _, m := range ms {
		if args, err = insertArgs(args[:0], text, m, now); err != nil {
			return err
		}
		if _, err := st.ExecContext(ctx, args...); err != nil {
			return fail("write outbox", err)
		}
	}
	return nil
}

func insertArgs(args []any, text []byte, m *driver.Message, now int64) ([]any, error) {
	text, err := store.AppendHeaders(text[:0], m)
	if err != nil {
		return nil, err
	}
	return append(args, m.ID, m.Channel, m.Key, string(text), m.Body, now), nil
}

func laterArgs(m *driver.Message) ([]any, error) {
	text, err := store.AppendHeaders(nil, m)
	if err != nil {
		return nil, err
	}
	return []any{micros(m.Due), m.Source, m.ID, m.Channel, m.Key, string(text), m.Body}, nil
}

// Cancel deletes messages that were to be sent later.
func (s *Store) Cancel(ctx context.Context, tx *sql.Tx, source string, ids []string) (int, error) {
	n := 0
	for _, id := range ids {
		res, err := tx.ExecContext(ctx, s.sql(`DELETE FROM ~later WHERE id = ? AND source = ?`), id, source)
		if err != nil {
			return 0, fail("cancel", err)
		}
		k, err := res.RowsAffected()
		if err != nil {
			return 0, fail("cancel", err)
		}
		n += int(k)
	}
	return n, nil
}

// fenceMark and a token make the token that Resolve puts beside the one that it
// inserts itself.
const fenceMark = " fenced"

// Resolve inserts the token again: a duplicate says that its transaction
// committed, unless it is one that Resolve has inserted itself, in a call that
// was cut short.
func (s *Store) Resolve(ctx context.Context, token string) (committed bool, err error) {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return false, fail("resolve token", err)
	}
	defer tx.Rollback() // after the commit it does nothing
	var there, ours bool
	err = tx.QueryRowContext(ctx, s.sql(`SELECT EXISTS (SELECT 1 FROM ~token WHERE token = ?), EXISTS (SELECT 1 FROM ~token WHERE token = ?)`),
		token, token+fenceMark).Scan(&there, &ours)
	if err == nil && !there {
		_, err = tx.ExecContext(ctx, s.sql(tokenSQL+`, (?, ?)`), token, micros(time.Now()), token+fenceMark, micros(time.Now()))
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return false, fail("resolve token", err)
	}
	return there && !ours, nil
}

// Forget deletes old tokens. They are UUIDs of version 7, so that their order is
// that of their times.
func (s *Store) Forget(ctx context.Context, before time.Time, max int) (int, error) {
	return s.deleted(ctx, "forget tokens", `DELETE FROM ~token WHERE token IN
		(SELECT token FROM (SELECT token, at FROM ~token ORDER BY token LIMIT ?) WHERE at < ?)`, max, micros(before))
}

// deleted runs a statement of its own and returns how many rows it deleted.
func (s *Store) deleted(ctx context.Context, doing, text string, args ...any) (int, error) {
	res, err := s.writer.ExecContext(ctx, s.sql(text), args...)
	if err != nil {
		return 0, fail(doing, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, fail(doing, err)
	}
	return int(n), nil
}
