package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// Insert inserts a row for each entry that has none.
func (s *Store) Insert(ctx context.Context, tx *sql.Tx, entries []store.Entry) ([]store.InboxRow, error) {
	ctx = short(ctx)
	found := make([]store.InboxRow, len(entries))
	for i := 0; i < len(entries); {
		if len(entries)-i >= manyRows {
			all, err := s.enterMany(ctx, tx, entries[i:i+manyRows])
			if err != nil {
				return nil, fail("enter inbox", err)
			}
			if all {
				i += manyRows
				continue
			}
		}
		for end := min(i+manyRows, len(entries)); i < end; i++ {
			var err error
			if found[i], err = s.enterOne(ctx, tx, &entries[i]); err != nil {
				return nil, fail("enter inbox", err)
			}
		}
	}
	return found, nil
}

// enterMany inserts rows with one statement. If some were there before, it
// cannot say which, and inserts none.
func (s *Store) enterMany(ctx context.Context, tx *sql.Tx, entries []store.Entry) (all bool, err error) {
	if err := s.Savepoint(ctx, tx, outermost); err != nil {
		return false, err
	}
	args := make([]any, 0, 6*manyRows)
	for i := range entries {
		e := &entries[i]
		args = append(args, e.Group, e.Handler, e.Source, e.ID, e.Requeues, micros(e.Since))
	}
	res, err := tx.StmtContext(ctx, s.stmt.enterMany).ExecContext(ctx, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, err
	}
	if all = n == int64(len(entries)); !all {
		if err := s.RollbackTo(ctx, tx, outermost); err != nil {
			return false, err
		}
	}
	return all, s.Release(ctx, tx, outermost)
}

// enterOne inserts a row, or returns the one that was there.
func (s *Store) enterOne(ctx context.Context, tx *sql.Tx, e *store.Entry) (f store.InboxRow, err error) {
	res, err := tx.StmtContext(ctx, s.stmt.enter).ExecContext(ctx, e.Group, e.Handler, e.Source, e.ID, e.Requeues, micros(e.Since))
	if err != nil {
		return f, err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return f, err
	}
	f, err = scanFound(tx.StmtContext(ctx, s.stmt.found).QueryRowContext(ctx, e.Group, e.Handler, e.Source, e.ID))
	if err != nil {
		return f, err
	}
	if f.State == store.Released || f.State == store.Dead && e.Requeues > f.Requeues {
		_, err = tx.StmtContext(ctx, s.stmt.take).ExecContext(ctx, e.Requeues, micros(e.Since), e.Group, e.Handler, e.Source, e.ID)
		f.State = store.Released
	}
	return f, err
}

// Undo undoes Insert for some entries.
func (s *Store) Undo(ctx context.Context, tx *sql.Tx, entries []store.Entry, found []store.InboxRow) error {
	for i, e := range entries {
		var err error
		switch found[i].State {
		case "":
			_, err = tx.ExecContext(ctx, s.sql(`DELETE FROM ~inbox WHERE grp = ? AND handler = ? AND source = ? AND id = ?`),
				e.Group, e.Handler, e.Source, e.ID)
		case store.Released:
			_, err = tx.ExecContext(ctx, s.sql(`UPDATE ~inbox SET state = 'released' WHERE grp = ? AND handler = ? AND source = ? AND id = ?`),
				e.Group, e.Handler, e.Source, e.ID)
		}
		if err != nil {
			return fail("leave inbox", err)
		}
	}
	return nil
}

// Mark sets the state of rows that are not handled.
func (s *Store) Mark(ctx context.Context, tx *sql.Tx, entries []store.Entry, state store.State) ([]store.InboxRow, error) {
	found := make([]store.InboxRow, len(entries))
	for i, e := range entries {
		f, err := scanFound(tx.StmtContext(ctx, s.stmt.found).QueryRowContext(ctx, e.Group, e.Handler, e.Source, e.ID))
		if err != nil {
			return nil, fail("mark inbox", err)
		}
		found[i] = f
		_, err = tx.ExecContext(ctx, s.sql(`INSERT INTO ~inbox (grp, handler, source, id, state, requeues, since)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (grp, handler, source, id) DO UPDATE
			SET state = excluded.state, requeues = max(requeues, excluded.requeues), since = max(since, excluded.since)
			WHERE state <> 'handled' AND NOT (state = 'cancelled' AND excluded.state = 'dead')`), e.Group, e.Handler, e.Source, e.ID, string(state), e.Requeues, micros(e.Since))
		if err != nil {
			return nil, fail("mark inbox", err)
		}
	}
	return found, nil
}

// Lookup returns the committed rows of keys.
func (s *Store) Lookup(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
	found := make([]store.InboxRow, len(keys))
	for i, k := range keys {
		f, err := scanFound(s.readers.QueryRowContext(ctx, s.sql(foundSQL), k.Group, k.Handler, k.Source, k.ID))
		if err != nil {
			return nil, fail("look up inbox", err)
		}
		found[i] = f
	}
	return found, nil
}

// Purge deletes old handled rows.
func (s *Store) Purge(ctx context.Context, before time.Time, max int) (int, error) {
	return s.deleted(ctx, "purge inbox", `DELETE FROM ~inbox WHERE n IN
		(SELECT n FROM ~inbox WHERE state = 'handled' AND since < ? ORDER BY since LIMIT ?)`, micros(before), max)
}

func scanFound(row *sql.Row) (f store.InboxRow, err error) {
	err = row.Scan(&f.State, &f.Requeues, &f.Reply.Status, &f.Reply.ContentType, &f.Reply.Body)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return f, err
}
