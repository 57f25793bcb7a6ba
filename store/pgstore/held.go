package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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

// laneKey names a lane.
type laneKey struct{ channel, name string }

// holdSQL copies rows of the outbox as they are now: one that was edited or
// discarded since it was read must not come back as it was. Each is looked up by
// itself, lest a plan for want of statistics scan the outbox.
const holdSQL = `INSERT INTO ~held (shard, id, channel, key, headers, body, seq, lane, since)
	SELECT o.shard, o.id, o.channel, o.key, o.headers, o.body, o.seq, u.lane, u.since
	FROM unnest($2::bigint[], $3::text[], $4::timestamptz[]) WITH ORDINALITY AS u (seq, lane, since, n)
	CROSS JOIN LATERAL (SELECT shard, id, channel, key, headers, body, seq FROM ~outbox WHERE shard = $1 AND seq = u.seq LIMIT 1) o
	ORDER BY u.n ON CONFLICT (seq) DO UPDATE SET released = NULL`

// laneSQL makes the lane of what was held, unless it is there.
const laneSQL = `INSERT INTO ~lane (channel, name, shard, attempts, error, retry)
	SELECT $1::text, $2::text, $3::smallint, $4::integer, $5::text, $6::timestamptz
	WHERE EXISTS (SELECT FROM ~held WHERE channel = $1::text AND lane = $2::text AND released IS NULL) ON CONFLICT DO NOTHING`

// hold sets rows aside, those of one lane in their order. A row that is held
// already, from before a rewind, keeps its place.
func (c *core) hold(ctx context.Context, tx pgx.Tx, shard int, rows []store.Held) error {
	if len(rows) == 0 {
		return nil
	}
	seqs, names, sinces := make([]int64, len(rows)), make([]string, len(rows)), make([]time.Time, len(rows))
	b := &pgx.Batch{}
	for i := range rows {
		seqs[i], names[i], sinces[i] = rows[i].Position.Seq, rows[i].Lane.Name, rows[i].Since
	}
	b.Queue(c.sql(holdSQL), shard, seqs, names, sinces)
	lanes := map[laneKey]bool{}
	for i := range rows {
		h := &rows[i]
		if l := (laneKey{h.Message.Channel, h.Lane.Name}); !lanes[l] {
			lanes[l] = true
			b.Queue(c.sql(laneSQL), l.channel, l.name, shard, h.Lane.Attempts, h.Lane.Error, retryAt(h.Lane.Retry))
		}
	}
	return tx.SendBatch(ctx, b).Close()
}

// release marks rows as published, gives their lanes back and forgets those that
// are empty now.
func (c *core) release(ctx context.Context, tx pgx.Tx, rows []store.Held) error {
	if len(rows) == 0 {
		return nil
	}
	seqs := make([]int64, len(rows))
	lanes := map[laneKey]bool{}
	for i, h := range rows {
		seqs[i] = h.Position.Seq
		lanes[laneKey{h.Message.Channel, h.Lane.Name}] = true
	}
	if _, err := tx.Exec(ctx, c.sql(`UPDATE ~held SET released = clock_timestamp() WHERE seq = ANY($1::bigint[])`), seqs); err != nil {
		return err
	}
	channels, names := laneArrays(lanes)
	if _, err := tx.Exec(ctx, c.sql(`UPDATE ~lane l SET taken = '-infinity' FROM unnest($1::text[], $2::text[]) AS u (channel, name)
		WHERE l.channel = u.channel AND l.name = u.name`), channels, names); err != nil {
		return err
	}
	return c.forgetEmpty(ctx, tx, channels, names)
}

func laneArrays(lanes map[laneKey]bool) (channels, names []string) {
	for l := range lanes {
		channels, names = append(channels, l.channel), append(names, l.name)
	}
	return channels, names
}

// forgetEmpty forgets those of some lanes of which nothing is held any more.
func (c *core) forgetEmpty(ctx context.Context, tx pgx.Tx, channels, names []string) error {
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
		b.Queue(c.sql(`UPDATE ~lane SET attempts = $1, error = $2, retry = $3, taken = '-infinity' WHERE channel = $4 AND name = $5`),
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

// dueSQL finds the page that is due. The size of a body is known without reading
// it.
const dueSQL = `SELECT seq, channel, name FROM (
		SELECT d.*, sum(n) OVER (ORDER BY retry, channel, name, seq ROWS UNBOUNDED PRECEDING) - n AS before FROM (
			SELECT h.seq, l.channel, l.name, l.retry, coalesce(octet_length(h.body), 0) AS n
			FROM ~lane l JOIN ~held h ON h.channel = l.channel AND h.lane = l.name AND h.released IS NULL
			WHERE l.shard = $1 AND l.channel <> ALL($2::text[]) AND l.retry <= $3 ORDER BY l.retry, l.channel, l.name, h.seq LIMIT $4
		) d
	) p WHERE before < $5`

// takeLanesSQL takes lanes for the relay.
const takeLanesSQL = `WITH ` + fence + `, mine AS (
		UPDATE ~lane l SET taken = clock_timestamp() + $4 * interval '1 microsecond' FROM unnest($5::text[], $6::text[]) AS u (channel, name)
		WHERE l.channel = u.channel AND l.name = u.name AND EXISTS (SELECT FROM fence) RETURNING 1
	)
	SELECT EXISTS (SELECT FROM fence)`

// Due takes the lanes that are to be tried again, and then reads what is held in
// them, in a statement of its own: what was edited before they were taken, it
// sees.
func (c *core) Due(ctx context.Context, t store.Term, skip []string, max store.Limit, take time.Duration) (due []store.Held, next time.Time, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if skip == nil {
		skip = []string{} // null would leave everything out
	}
	now := clock()
	var seqs []int64
	lanes := map[laneKey]bool{}
	err = each(ctx, poolQuerier{c.work}, c.sql(dueSQL), []any{t.Shard, skip, now, max.Rows, max.Bytes}, func(r rowSet) error {
		var seq int64
		var l laneKey
		err := r.Scan(&seq, &l.channel, &l.name)
		seqs, lanes[l] = append(seqs, seq), true
		return err
	})
	if err == nil && len(seqs) > 0 {
		due, err = c.take(ctx, t, seqs, lanes, take)
	}
	if err != nil {
		return nil, next, fail("read held messages", err)
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

func (c *core) take(ctx context.Context, t store.Term, seqs []int64, lanes map[laneKey]bool, take time.Duration) ([]store.Held, error) {
	channels, names := laneArrays(lanes)
	var holds bool
	if err := c.work.QueryRow(ctx, c.sql(takeLanesSQL), fenceArgs(t, take.Microseconds(), channels, names)...).Scan(&holds); err != nil {
		return nil, err
	}
	if !holds {
		return nil, fmt.Errorf("term %d of %s: %w", t.Term, t.Name, store.ErrFenced)
	}
	return c.heldRows(ctx, c.work, c.sql(`SELECT `+heldColumns+` FROM ~held h JOIN ~lane l ON h.channel = l.channel AND h.lane = l.name
		WHERE h.released IS NULL AND h.seq = ANY($1::bigint[]) ORDER BY l.retry, l.channel, l.name, h.seq`), seqs)
}

// Browse returns held rows for people to look at. Held rows are in the order of
// seq: within a key that is the order of the windows, too.
func (c *core) Browse(ctx context.Context, shard int, after store.Position, max int) ([]store.Held, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	all, err := c.heldRows(ctx, c.beside, c.sql(`SELECT `+heldColumns+`
		FROM ~held h JOIN ~lane l ON h.channel = l.channel AND h.lane = l.name
		WHERE h.released IS NULL AND h.shard = $1 AND h.seq > $2 ORDER BY h.seq LIMIT $3`), shard, after.Seq, max)
	return all, fail("read held messages", err)
}

func (c *core) heldChannels(ctx context.Context, tx pgx.Tx, shard int) (all []string, err error) {
	rows, err := tx.Query(ctx, c.sql(`SELECT DISTINCT channel FROM ~lane WHERE shard = $1 ORDER BY channel`), shard)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows(all, rows, pgx.RowTo[string])
}

// heldRows reads held rows.
func (c *core) heldRows(ctx context.Context, pool *pgxpool.Pool, text string, args ...any) (all []store.Held, err error) {
	err = each(ctx, poolQuerier{pool}, text, args, func(r rowSet) error {
		h := store.Held{Row: store.Row{Message: &driver.Message{}}}
		m := h.Message
		var headers string
		if err := r.Scan(&h.Position.Seq, &m.ID, &m.Channel, &m.Key, &headers, &m.Body,
			&h.Lane.Name, &h.Since, &h.Lane.Attempts, &h.Lane.Error, &h.Lane.Retry); err != nil {
			return err
		}
		h.Read(headers)
		h.Lane.Channel = m.Channel
		h.Since, h.Lane.Retry = h.Since.UTC(), h.Lane.Retry.UTC()
		all = append(all, h)
		return nil
	})
	return all, err
}
