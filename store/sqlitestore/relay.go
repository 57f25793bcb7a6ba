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

// Acquire takes or extends a lease. Its end is compared with the clock of the
// machine, which all processes on the file share.
func (s *Store) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	now := time.Now()
	l := store.Lease{Name: name, Holder: holder, Until: now.Add(ttl)}
	most := now.Add(store.MaxLease(ttl))
	// What was there before is seen by a reader, which is enough for a remark.
	var another string
	var until int64
	err := s.readers.QueryRowContext(ctx, s.sql(`SELECT holder, until FROM ~lease WHERE name = ?`), name).Scan(&another, &until)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return store.Lease{}, fail("lease "+name, err)
	}
	err = s.writer.QueryRowContext(ctx, s.sql(`INSERT INTO ~lease (name, holder, term, until) VALUES (?1, ?2, 1, ?4)
		ON CONFLICT (name) DO UPDATE SET
			term = term + (holder <> ?2 OR until <= ?3), holder = ?2, until = ?4
		WHERE holder = ?2 OR until <= ?3 OR until > ?5
		RETURNING term`), name, holder, micros(now), micros(l.Until), micros(most)).Scan(&l.Term)
	if errors.Is(err, sql.ErrNoRows) {
		return store.Lease{}, fmt.Errorf("lease %s: %w", name, store.ErrLeased)
	}
	if err != nil {
		return store.Lease{}, fail("lease "+name, err)
	}
	if another != holder && timeOf(until).After(most) {
		l.Ahead = timeOf(until).Sub(now)
	}
	return l, nil
}

// Resign ends a lease early.
func (s *Store) Resign(ctx context.Context, l store.Lease) error {
	_, err := s.writer.ExecContext(ctx, s.sql(`UPDATE ~lease SET until = 0 WHERE name = ? AND holder = ? AND term = ?`), l.Name, l.Holder, l.Term)
	if err != nil {
		return fail("resign lease "+l.Name, err)
	}
	return nil
}

// Shards is 1: a file has one writer, and one relay keeps up with it.
func (s *Store) Shards() int { return 1 }

// fenced is the condition that a term still holds; its arguments are those of
// fence.
const fenced = `EXISTS (SELECT 1 FROM ~lease WHERE name = ? AND holder = ? AND term = ? AND until > ?)`

func fence(t store.Term, args ...any) []any {
	return append(args, t.Name, t.Holder, t.Term, micros(time.Now()))
}

// under runs do in a transaction in which the term holds. Nobody else can write
// meanwhile, so that one check covers all statements.
func (s *Store) under(ctx context.Context, t store.Term, doing string, do func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fail(doing, err)
	}
	defer tx.Rollback() // after the commit it does nothing
	var holds bool
	if err := tx.QueryRowContext(ctx, s.sql(`SELECT `+fenced), fence(t)...).Scan(&holds); err != nil {
		return fail(doing, err)
	}
	if !holds {
		return fmt.Errorf("%s: term %d of %s: %w", doing, t.Term, t.Name, store.ErrFenced)
	}
	if err := do(tx); err != nil {
		return fail(doing, err)
	}
	if err := tx.Commit(); err != nil {
		return fail(doing, err)
	}
	return nil
}

// Resume begins a term.
func (s *Store) Resume(ctx context.Context, t store.Term, service string) (c store.Cursor, err error) {
	err = s.under(ctx, t, "resume relay", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, s.sql(`INSERT INTO ~cursor (shard, seq, service, incarnation) VALUES (?, 0, ?, '')
			ON CONFLICT (shard) DO NOTHING`), t.Shard, service); err != nil {
			return err
		}
		var owner string
		if err := tx.QueryRowContext(ctx, s.sql(`SELECT seq, service, incarnation FROM ~cursor WHERE shard = ?`), t.Shard).
			Scan(&c.Position.Seq, &owner, &c.Incarnation); err != nil {
			return err
		}
		if owner != service {
			return fmt.Errorf("%w: %s is %s's, not %s's: give each service its own Options.Prefix or file", store.ErrOwner, s.path, owner, service)
		}
		c.Channels, err = s.heldChannels(ctx, tx)
		return err
	})
	return c, err
}

// Next reads the rows after a position. With one writer, and sequence numbers
// that are never used again, none can appear before one that was seen.
func (s *Store) Next(ctx context.Context, _ store.Term, after, _ store.Position, max store.Limit) (store.Page, error) {
	rows, err := s.stmt.next.QueryContext(ctx, after.Seq, max.Rows)
	if err != nil {
		return store.Page{}, fail("read outbox", err)
	}
	defer rows.Close()
	var page store.Page
	for bytes := 0; bytes < max.Bytes && rows.Next(); {
		var r store.Row
		if r, err = scanRow(rows); err != nil {
			return store.Page{}, fail("read outbox", err)
		}
		bytes += len(r.Message.Body)
		page.Rows = append(page.Rows, r)
	}
	if err := rows.Err(); err != nil {
		return store.Page{}, fail("read outbox", err)
	}
	return page, nil
}

// scanRow reads the columns seq, id, channel, key, headers, body, and then
// others. What is no message is the row's own error.
func scanRow(rows *sql.Rows, others ...any) (r store.Row, err error) {
	m := new(driver.Message)
	var text string
	if err := rows.Scan(append([]any{&r.Position.Seq, &m.ID, &m.Channel, &m.Key, &text, &m.Body}, others...)...); err != nil {
		return r, err
	}
	r.Message = m
	r.Read(text)
	return r, nil
}

// Advance moves the cursor, releases, and sets aside.
func (s *Store) Advance(ctx context.Context, t store.Term, p store.Progress) error {
	if p.Release == nil && p.Retry == nil && p.Hold == nil && p.Incarnation == "" {
		return s.moveCursor(ctx, t, p.To)
	}
	return s.under(ctx, t, "advance relay", func(tx *sql.Tx) error {
		if p.To != (store.Position{}) {
			if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~cursor SET seq = max(seq, ?) WHERE shard = ?`), p.To.Seq, t.Shard); err != nil {
				return err
			}
		}
		if p.Incarnation != "" {
			if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~cursor SET incarnation = ? WHERE shard = ?`), p.Incarnation, t.Shard); err != nil {
				return err
			}
		}
		if err := s.release(ctx, tx, p.Release); err != nil {
			return err
		}
		for _, l := range p.Retry {
			if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~lane SET attempts = ?, error = ?, retry = ?, taken = 0 WHERE channel = ? AND name = ?`),
				l.Attempts, l.Error, micros(l.Retry), l.Channel, l.Name); err != nil {
				return err
			}
		}
		if err := s.hold(ctx, tx, p.Hold); err != nil {
			return err
		}
		store.Moving.Pass()
		return nil
	})
}

// moveCursor is the Advance of every batch that went well: one statement.
func (s *Store) moveCursor(ctx context.Context, t store.Term, to store.Position) error {
	n, err := s.deleted(ctx, "advance relay", `UPDATE ~cursor SET seq = max(seq, ?) WHERE shard = ? AND `+fenced,
		fence(t, to.Seq, t.Shard)...)
	if err == nil && n == 0 {
		return fmt.Errorf("advance relay: term %d of %s: %w", t.Term, t.Name, store.ErrFenced)
	}
	return err
}

// Promote moves due messages into the outbox.
func (s *Store) Promote(ctx context.Context, t store.Term, max int) (moved int, next time.Time, err error) {
	// Looking does not write: most calls find nothing.
	if next, err = s.nextDue(ctx, s.readers); err != nil || next.IsZero() || next.After(time.Now()) {
		return 0, next, err
	}
	err = s.under(ctx, t, "promote", func(tx *sql.Tx) error {
		now := micros(time.Now())
		res, err := tx.ExecContext(ctx, s.sql(`INSERT INTO ~outbox (id, channel, key, headers, body, written)
			SELECT id, channel, key, headers, body, ? FROM ~later WHERE due <= ? ORDER BY due, n LIMIT ?`), now, now, max)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		moved = int(n)
		if _, err = tx.ExecContext(ctx, s.sql(`DELETE FROM ~later WHERE n IN (SELECT n FROM ~later WHERE due <= ? ORDER BY due, n LIMIT ?)`), now, max); err != nil {
			return err
		}
		store.Promoting.Pass()
		next, err = s.nextDue(ctx, tx)
		return err
	})
	if err != nil {
		return 0, time.Time{}, err
	}
	return moved, next, nil
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (s *Store) nextDue(ctx context.Context, q querier) (time.Time, error) {
	var due int64
	if err := q.QueryRowContext(ctx, s.sql(`SELECT coalesce(min(due), 0) FROM ~later`)).Scan(&due); err != nil {
		return time.Time{}, fail("look for due messages", err)
	}
	return timeOf(due), nil
}

// Rewind sets the cursor before everything that is still there.
func (s *Store) Rewind(ctx context.Context, t store.Term, incarnation string) (c store.Cursor, err error) {
	err = s.under(ctx, t, "rewind relay", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~cursor SET seq = 0, incarnation = ? WHERE shard = ?`), incarnation, t.Shard); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, s.sql(`INSERT INTO ~lane (channel, name, attempts, error, retry)
			SELECT DISTINCT channel, lane, 0, '', 0 FROM ~held WHERE released > 0 ON CONFLICT DO NOTHING`)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~held SET released = 0 WHERE released > 0`)); err != nil {
			return err
		}
		c.Channels, err = s.heldChannels(ctx, tx)
		return err
	})
	c.Incarnation = incarnation
	return c, err
}

// Retire deletes published rows.
func (s *Store) Retire(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
	n, err := s.deleted(ctx, "retire", `DELETE FROM ~outbox WHERE seq IN (SELECT seq FROM ~outbox
		WHERE seq <= min(?, (SELECT seq FROM ~cursor WHERE shard = ?)) AND `+fenced+` ORDER BY seq LIMIT ?)`,
		append(fence(t, r.Through.Seq, t.Shard), max)...)
	if err != nil || n >= max {
		return n, err
	}
	held, err := s.deleted(ctx, "retire held", `DELETE FROM ~held WHERE seq IN (SELECT seq FROM ~held
		WHERE released > 0 AND released < ? AND `+fenced+` LIMIT ?)`,
		append(fence(t, micros(r.Released)), max-n)...)
	return n + held, err
}

// Stats counts. The backlog is how far the cursor is behind the last row.
func (s *Store) Stats(ctx context.Context, shard int) (st store.Stats, err error) {
	var oldest int64
	err = s.readers.QueryRowContext(ctx, s.sql(`WITH c AS (SELECT coalesce((SELECT seq FROM ~cursor WHERE shard = ?1), 0) AS seq)
		SELECT coalesce((SELECT max(seq) FROM ~outbox), 0) - c.seq,
			coalesce((SELECT written FROM ~outbox WHERE seq > c.seq ORDER BY seq LIMIT 1), 0),
			(SELECT count(*) FROM ~held WHERE released = 0), (SELECT count(*) FROM ~later),
			coalesce((SELECT service FROM ~cursor WHERE shard = ?1), '') FROM c`), shard).
		Scan(&st.Backlog, &oldest, &st.Held, &st.Later, &st.Service)
	if err != nil {
		return st, fail("outbox stats", err)
	}
	st.Backlog = max(st.Backlog, 0) // the last row may be retired
	st.Oldest = timeOf(oldest)
	return st, nil
}
