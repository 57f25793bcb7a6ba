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

// RetryHeld makes lanes due at once.
func (s *Store) RetryHeld(ctx context.Context, channel, name string) (int, error) {
	n, err := s.deleted(ctx, "retry held messages", `UPDATE ~lane SET retry = 1 WHERE ?1 IN ('', channel) AND ?2 IN ('', name)`, channel, name)
	if err == nil {
		s.signal.Notify()
	}
	return n, err
}

// Edit replaces what a held message says, there and in the outbox.
func (s *Store) Edit(ctx context.Context, _ int, p store.Position, m *driver.Message) error {
	text, err := store.AppendHeaders(nil, m)
	if err != nil {
		return fail("edit held message", err)
	}
	return s.repair(ctx, "edit held message", []store.Position{p}, func(tx *sql.Tx, seq int64) error {
		for _, table := range []string{"~held", "~outbox"} {
			if _, err := tx.ExecContext(ctx, s.sql(`UPDATE `+table+` SET headers = ?, body = ? WHERE seq = ?`), string(text), m.Body, seq); err != nil {
				return err
			}
		}
		return nil
	})
}

// Discard deletes held messages, there and in the outbox.
func (s *Store) Discard(ctx context.Context, _ int, ps []store.Position) (n int, err error) {
	err = s.repair(ctx, "discard held messages", ps, func(tx *sql.Tx, seq int64) error {
		for _, table := range []string{"~held", "~outbox"} {
			if _, err := tx.ExecContext(ctx, s.sql(`DELETE FROM `+table+` WHERE seq = ?`), seq); err != nil {
				return err
			}
		}
		n++
		return nil
	})
	if errors.Is(err, store.ErrNotHeld) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

// repair changes held rows that the relay is not trying, and makes their lanes
// due. It is ErrNotHeld if there are none.
func (s *Store) repair(ctx context.Context, doing string, ps []store.Position, change func(tx *sql.Tx, seq int64) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fail(doing, err)
	}
	defer tx.Rollback() // after the commit it does nothing
	lanes := map[laneKey]bool{}
	for _, p := range ps {
		var l laneKey
		var taken int64
		err := tx.QueryRowContext(ctx, s.sql(`SELECT l.channel, l.name, l.taken FROM ~held h JOIN ~lane l ON l.channel = h.channel AND l.name = h.lane
			WHERE h.seq = ? AND h.released = 0`), p.Seq).Scan(&l.channel, &l.name, &taken)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			continue
		case err == nil && taken > micros(time.Now()):
			err = fmt.Errorf("message %d of channel %s: %w", p.Seq, l.channel, store.ErrTaken)
		case err == nil:
			lanes[l] = true
			err = change(tx, p.Seq)
		}
		if err != nil {
			return fail(doing, err)
		}
	}
	if len(lanes) == 0 {
		return fmt.Errorf("%s: %w", doing, store.ErrNotHeld)
	}
	for l := range lanes {
		if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~lane SET retry = 1 WHERE channel = ? AND name = ?`), l.channel, l.name); err != nil {
			return fail(doing, err)
		}
		if err := s.forgetEmpty(ctx, tx, l); err != nil {
			return fail(doing, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fail(doing, err)
	}
	s.signal.Notify()
	return nil
}
