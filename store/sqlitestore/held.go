package sqlitestore

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// hold sets rows aside, those of one lane in their order, as they are in the
// outbox now: one that was edited or discarded since it was read must not come
// back as it was.
func (s *Store) hold(ctx context.Context, tx *sql.Tx, rows []store.Held) error {
	for i := range rows {
		h := &rows[i]
		// A row that is held already, from before a rewind, keeps its place.
		if _, err := tx.ExecContext(ctx, s.sql(`INSERT INTO ~held (seq, id, channel, key, headers, body, lane, since)
			SELECT seq, id, channel, key, headers, body, ?, ? FROM ~outbox WHERE seq = ? ON CONFLICT (seq) DO UPDATE SET released = 0`),
			h.Lane.Name, micros(h.Since), h.Position.Seq); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, s.sql(`INSERT INTO ~lane (channel, name, attempts, error, retry)
			SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM ~held WHERE channel = ?1 AND lane = ?2 AND released = 0)
			ON CONFLICT DO NOTHING`),
			h.Message.Channel, h.Lane.Name, h.Lane.Attempts, h.Lane.Error, micros(h.Lane.Retry)); err != nil {
			return err
		}
	}
	return nil
}

// A laneKey names a lane.
type laneKey struct{ channel, name string }

// release marks rows as published, gives their lanes back and forgets those that
// are empty now.
func (s *Store) release(ctx context.Context, tx *sql.Tx, rows []store.Held) error {
	now := micros(time.Now())
	lanes := map[laneKey]bool{}
	for _, h := range rows {
		if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~held SET released = ? WHERE seq = ?`), now, h.Position.Seq); err != nil {
			return err
		}
		lanes[laneKey{h.Message.Channel, h.Lane.Name}] = true
	}
	for l := range lanes {
		if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~lane SET taken = 0 WHERE channel = ? AND name = ?`), l.channel, l.name); err != nil {
			return err
		}
		if err := s.forgetEmpty(ctx, tx, l); err != nil {
			return err
		}
	}
	return nil
}

// forgetEmpty forgets a lane of which nothing is held any more.
func (s *Store) forgetEmpty(ctx context.Context, tx *sql.Tx, l laneKey) error {
	_, err := tx.ExecContext(ctx, s.sql(`DELETE FROM ~lane WHERE channel = ?1 AND name = ?2
		AND NOT EXISTS (SELECT 1 FROM ~held WHERE channel = ?1 AND lane = ?2 AND released = 0)`), l.channel, l.name)
	return err
}

// Blocked reports which lanes have held rows. Most often few lanes do, and one
// statement reads them all.
func (s *Store) Blocked(ctx context.Context, _ store.Term, lanes []store.Lane) ([]bool, error) {
	blocked := make([]bool, len(lanes))
	known, err := s.someLanes(ctx, len(lanes)+1)
	if err != nil {
		return nil, fail("look for held lanes", err)
	}
	for i, l := range lanes {
		if len(known) <= len(lanes) {
			blocked[i] = known[laneKey{l.Channel, l.Name}]
			continue
		}
		if err := s.readers.QueryRowContext(ctx, s.sql(`SELECT count(*) FROM ~lane WHERE channel = ? AND name = ?`), l.Channel, l.Name).
			Scan(&blocked[i]); err != nil {
			return nil, fail("look for held lanes", err)
		}
	}
	return blocked, nil
}

// someLanes returns at most max lanes.
func (s *Store) someLanes(ctx context.Context, max int) (map[laneKey]bool, error) {
	rows, err := s.readers.QueryContext(ctx, s.sql(`SELECT channel, name FROM ~lane LIMIT ?`), max)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[laneKey]bool{}
	for rows.Next() {
		var l laneKey
		if err := rows.Scan(&l.channel, &l.name); err != nil {
			return nil, err
		}
		all[l] = true
	}
	return all, rows.Err()
}

// Due returns held rows of lanes that are to be tried again, and takes those
// lanes. Most calls find none, and do not write.
func (s *Store) Due(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) (due []store.Held, next time.Time, err error) {
	not, args := `TRUE`, []any{}
	if len(skip) > 0 {
		not = `l.channel NOT IN (?` + strings.Repeat(`, ?`, len(skip)-1) + `)`
		for _, c := range skip {
			args = append(args, c)
		}
	}
	now := time.Now()
	args = append(args, micros(now))
	var ready int
	var retry int64
	if err := s.readers.QueryRowContext(ctx, s.sql(`SELECT count(*) FILTER (WHERE l.retry <= n.at), coalesce(min(l.retry) FILTER (WHERE l.retry > n.at), 0)
		FROM ~lane l CROSS JOIN (SELECT ? AS at) n WHERE `+not), rotate(args)...).Scan(&ready, &retry); err != nil {
		return nil, next, fail("read held messages", err)
	}
	if ready == 0 {
		return nil, timeOf(retry), nil
	}
	err = s.under(ctx, t, "take held messages", func(tx *sql.Tx) error {
		seqs, lanes, err := s.duePage(ctx, tx, not, append(args, max.Rows), max.Bytes)
		if err != nil {
			return err
		}
		for l := range lanes {
			if _, err := tx.ExecContext(ctx, s.sql(`UPDATE ~lane SET taken = ? WHERE channel = ? AND name = ?`),
				micros(now.Add(take)), l.channel, l.name); err != nil {
				return err
			}
		}
		for _, seq := range seqs {
			rows, err := tx.QueryContext(ctx, s.sql(`SELECT `+heldColumns+` WHERE h.seq = ?`), seq)
			if err != nil {
				return err
			}
			if due, err = appendHeld(due, rows); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, next, err
	}
	return due, timeOf(retry), nil
}

// duePage finds which rows make up a page, and their lanes. To sort the rows
// with their bodies would read all that are due.
func (s *Store) duePage(ctx context.Context, tx *sql.Tx, not string, args []any, maxBytes int) (seqs []int64, lanes map[laneKey]bool, err error) {
	rows, err := tx.QueryContext(ctx, s.sql(`SELECT h.seq, l.channel, l.name, coalesce(length(h.body), 0)
		FROM ~lane l JOIN ~held h ON h.channel = l.channel AND h.lane = l.name AND h.released = 0
		WHERE `+not+` AND l.retry <= ? ORDER BY l.retry, l.channel, l.name, h.seq LIMIT ?`), args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	lanes = map[laneKey]bool{}
	for bytes := 0; bytes < maxBytes && rows.Next(); {
		var seq int64
		var l laneKey
		var n int
		if err := rows.Scan(&seq, &l.channel, &l.name, &n); err != nil {
			return nil, nil, err
		}
		bytes += n
		seqs, lanes[l] = append(seqs, seq), true
	}
	return seqs, lanes, rows.Err()
}

// rotate puts the last argument first.
func rotate(args []any) []any {
	return append([]any{args[len(args)-1]}, args[:len(args)-1]...)
}

// Browse returns held rows for people to look at.
func (s *Store) Browse(ctx context.Context, _ int, after store.Position, max int) ([]store.Held, error) {
	rows, err := s.readers.QueryContext(ctx, s.sql(`SELECT `+heldColumns+` WHERE h.released = 0 AND h.seq > ? ORDER BY h.seq LIMIT ?`), after.Seq, max)
	if err != nil {
		return nil, fail("read held messages", err)
	}
	all, err := appendHeld(nil, rows)
	if err != nil {
		return nil, fail("read held messages", err)
	}
	return all, nil
}

func (s *Store) heldChannels(ctx context.Context, tx *sql.Tx) (all []string, err error) {
	rows, err := tx.QueryContext(ctx, s.sql(`SELECT DISTINCT channel FROM ~lane`))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c string
		if err := rows.Scan(&c); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// heldColumns are what appendHeld reads, and from where.
const heldColumns = `h.seq, h.id, h.channel, h.key, h.headers, h.body, h.lane, h.since, l.attempts, l.error, l.retry
	FROM ~held h JOIN ~lane l ON h.channel = l.channel AND h.lane = l.name`

// appendHeld reads held rows.
func appendHeld(all []store.Held, rows *sql.Rows) ([]store.Held, error) {
	defer rows.Close()
	for rows.Next() {
		var h store.Held
		var since, retry int64
		var err error
		h.Row, err = scanRow(rows, &h.Lane.Name, &since, &h.Lane.Attempts, &h.Lane.Error, &retry)
		if err != nil {
			return nil, err
		}
		h.Lane.Channel = h.Message.Channel
		h.Since, h.Lane.Retry = timeOf(since), timeOf(retry)
		all = append(all, h)
	}
	return all, rows.Err()
}
