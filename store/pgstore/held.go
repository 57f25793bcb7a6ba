package pgstore

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// retryAt is a lane's next attempt as a column: the zero time is before every
// other.
func retryAt(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}

// hold sets rows aside, those of one lane in their order. A row that is held
// already, from before a rewind, keeps its place.
func (c *core) hold(ctx context.Context, tx pgx.Tx, rows []store.Held) error {
	if len(rows) == 0 {
		return nil
	}
	cols := &columns{}
	b := &pgx.Batch{}
	type lane struct{ channel, name string }
	lanes := map[lane]bool{}
	for i := range rows {
		h := &rows[i]
		if err := c.add(cols, h.Message); err != nil {
			return err
		}
		cols.seqs = append(cols.seqs, h.Position.Seq)
		cols.sinces = append(cols.sinces, h.Since)
		cols.laneNames = append(cols.laneNames, h.Lane.Name)
		if l := (lane{h.Message.Channel, h.Lane.Name}); !lanes[l] {
			lanes[l] = true
			b.Queue(c.sql(`INSERT INTO ~lane (channel, name, shard, attempts, error, retry)
				VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`),
				l.channel, l.name, store.Shard(h.Message, c.shards), h.Lane.Attempts, h.Lane.Error, retryAt(h.Lane.Retry))
		}
	}
	b.Queue(c.sql(`INSERT INTO ~held (shard, id, channel, key, headers, body, seq, lane, since)
		SELECT shard, id, channel, key, headers, body, seq, lane, since
		FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::text[], $9::timestamptz[])
			AS u (shard, id, channel, key, headers, body, seq, lane, since)
		ON CONFLICT (seq) DO UPDATE SET released = NULL`), cols.args(cols.seqs, cols.laneNames, cols.sinces)...)
	return tx.SendBatch(ctx, b).Close()
}

// release marks rows as published and forgets lanes that are empty now.
func (c *core) release(ctx context.Context, tx pgx.Tx, rows []store.Held) error {
	if len(rows) == 0 {
		return nil
	}
	seqs := make([]int64, len(rows))
	var channels, names []string
	type lane struct{ channel, name string }
	lanes := map[lane]bool{}
	for i, h := range rows {
		seqs[i] = h.Position.Seq
		if l := (lane{h.Message.Channel, h.Lane.Name}); !lanes[l] {
			lanes[l] = true
			channels, names = append(channels, l.channel), append(names, l.name)
		}
	}
	if _, err := tx.Exec(ctx, c.sql(`UPDATE ~held SET released = clock_timestamp() WHERE seq = ANY($1::bigint[])`), seqs); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, c.sql(`DELETE FROM ~lane l USING unnest($1::text[], $2::text[]) AS u (channel, name)
		WHERE l.channel = u.channel AND l.name = u.name
		AND NOT EXISTS (SELECT FROM ~held h WHERE h.channel = l.channel AND h.lane = l.name AND h.released IS NULL)`), channels, names)
	return err
}

// retry writes down failed attempts.
func (c *core) retry(ctx context.Context, tx pgx.Tx, lanes []store.Lane) error {
	if len(lanes) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	for _, l := range lanes {
		b.Queue(c.sql(`UPDATE ~lane SET attempts = $1, error = $2, retry = $3 WHERE channel = $4 AND name = $5`),
			l.Attempts, l.Error, retryAt(l.Retry), l.Channel, l.Name)
	}
	return tx.SendBatch(ctx, b).Close()
}

// Blocked reports which lanes have held rows.
func (c *core) Blocked(ctx context.Context, _ store.Term, lanes []store.Lane) ([]bool, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	blocked := make([]bool, len(lanes))
	channels, names := make([]string, len(lanes)), make([]string, len(lanes))
	for i, l := range lanes {
		channels[i], names[i] = l.Channel, l.Name
	}
	err := each(ctx, poolQuerier{c.work}, c.sql(`SELECT u.n::int - 1 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u (channel, name, n)
		JOIN ~lane l USING (channel, name)`), []any{channels, names}, func(r rowSet) error {
		var n int
		if err := r.Scan(&n); err != nil {
			return err
		}
		blocked[n] = true
		return nil
	})
	return blocked, fail("look for held lanes", err)
}

const heldColumns = `h.seq, h.id, h.channel, h.key, h.headers, h.body, h.lane, h.since, l.attempts, l.error, l.retry`

// Due returns held rows of lanes that are to be tried again.
func (c *core) Due(ctx context.Context, t store.Term, skip []string, max store.Limit) (due []store.Held, next time.Time, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if skip == nil {
		skip = []string{} // null would leave everything out
	}
	now := clock()
	due, err = c.heldRows(ctx, c.sql(`SELECT `+heldColumns+`
		FROM ~lane l JOIN ~held h ON h.channel = l.channel AND h.lane = l.name AND h.released IS NULL
		WHERE l.shard = $1 AND l.channel <> ALL($2::text[]) AND l.retry <= $3 ORDER BY l.retry, l.channel, l.name, h.seq LIMIT $4`),
		[]any{t.Shard, skip, now, max.Rows}, max.Bytes)
	if err != nil {
		return nil, next, err
	}
	var retry *time.Time
	if err := c.work.QueryRow(ctx, c.sql(`SELECT min(retry) FROM ~lane WHERE shard = $1 AND channel <> ALL($2::text[]) AND retry > $3`), t.Shard, skip, now).
		Scan(&retry); err != nil {
		return nil, next, fail("read held messages", err)
	}
	if retry != nil {
		next = retry.UTC()
	}
	return due, next, nil
}

// RetryHeld makes lanes due at once.
func (c *core) RetryHeld(ctx context.Context, channel string) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if _, err := c.work.Exec(ctx, c.sql(`UPDATE ~lane SET retry = $2 WHERE $1 IN ('', channel)`), channel, retryAt(time.Time{})); err != nil {
		return fail("retry held messages", err)
	}
	c.signal.Notify()
	c.tell()
	return nil
}

// Browse returns held rows for people to look at. Held rows are in the order of
// seq: within a key that is the order of the windows, too.
func (c *core) Browse(ctx context.Context, shard int, after store.Position, max int) ([]store.Held, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.heldRows(ctx, c.sql(`SELECT `+heldColumns+`
		FROM ~held h JOIN ~lane l ON h.channel = l.channel AND h.lane = l.name
		WHERE h.released IS NULL AND h.shard = $1 AND h.seq > $2 ORDER BY h.seq LIMIT $3`), []any{shard, after.Seq, max}, math.MaxInt)
}

func (c *core) heldChannels(ctx context.Context, tx pgx.Tx, shard int) (all []string, err error) {
	rows, err := tx.Query(ctx, c.sql(`SELECT DISTINCT channel FROM ~lane WHERE shard = $1 ORDER BY channel`), shard)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows(all, rows, pgx.RowTo[string])
}

// heldRows reads rows until they have maxBytes, at least one.
func (c *core) heldRows(ctx context.Context, text string, args []any, maxBytes int) (all []store.Held, err error) {
	rows, err := c.work.Query(ctx, text, args...)
	if err != nil {
		return nil, fail("read held messages", err)
	}
	defer rows.Close()
	for bytes := 0; bytes < maxBytes && rows.Next(); {
		h := store.Held{Row: store.Row{Message: &driver.Message{}}}
		m := h.Message
		var headers string
		if err := rows.Scan(&h.Position.Seq, &m.ID, &m.Channel, &m.Key, &headers, &m.Body,
			&h.Lane.Name, &h.Since, &h.Lane.Attempts, &h.Lane.Error, &h.Lane.Retry); err != nil {
			return nil, fail("read held messages", err)
		}
		if err := store.ParseHeaders(m, headers); err != nil {
			return nil, fmt.Errorf("read held messages: %w", err)
		}
		h.Lane.Channel = m.Channel
		h.Since, h.Lane.Retry = h.Since.UTC(), h.Lane.Retry.UTC()
		bytes += len(m.Body)
		all = append(all, h)
	}
	rows.Close()
	return all, fail("read held messages", rows.Err())
}
