package pgstore

import (
	"context"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// Promote moves due messages into the outbox. Time is told by this process's
// clock, as it was when they were sent. One that is being cancelled is passed
// over, with what follows it in its key: if it is not, they come the next time.
func (c *core) Promote(ctx context.Context, t store.Term, max int) (moved int, next time.Time, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	// Looking does not write: most calls find nothing.
	if next, err = c.nextDue(ctx, t.Shard); err != nil || next.IsZero() || next.After(clock()) {
		return 0, next, err
	}
	var holds bool
	err = c.work.QueryRow(ctx, c.sql(`WITH `+fence+`, page AS MATERIALIZED (
			SELECT n, due, channel, key FROM ~later WHERE shard = $4 AND due <= $5 ORDER BY due, n LIMIT $6
		), mine AS MATERIALIZED (
			SELECT n FROM ~later WHERE n = ANY(ARRAY(SELECT n FROM page)) FOR UPDATE SKIP LOCKED
		), part AS (
			SELECT p.n, bool_and(m.n IS NOT NULL) OVER (PARTITION BY p.channel, p.key, CASE WHEN p.key = '' THEN p.n END ORDER BY p.due, p.n) AS free
			FROM page p LEFT JOIN mine m ON m.n = p.n
		), due AS (
			DELETE FROM ~later WHERE EXISTS (SELECT FROM fence) AND n = ANY(ARRAY(SELECT n FROM part WHERE free))
			RETURNING n, shard, due, id, channel, key, headers, body
		), moved AS (
			INSERT INTO ~outbox (shard, id, channel, key, headers, body, reorder)
			SELECT shard, id, channel, key, headers, body, false FROM due ORDER BY due, n RETURNING 1
		)
		SELECT EXISTS (SELECT FROM fence), count(*) FROM moved`), fenceArgs(t, t.Shard, clock(), max)...).Scan(&holds, &moved)
	switch {
	case err != nil:
		return 0, time.Time{}, fail("promote", err)
	case !holds:
		return 0, time.Time{}, fenced("promote", t)
	}
	next, err = c.nextDue(ctx, t.Shard)
	return moved, next, err
}

func (c *core) nextDue(ctx context.Context, shard int) (time.Time, error) {
	var due *time.Time
	if err := c.work.QueryRow(ctx, c.sql(`SELECT min(due) FROM ~later WHERE shard = $1`), shard).Scan(&due); err != nil {
		return time.Time{}, fail("look for due messages", err)
	}
	if due == nil {
		return time.Time{}, nil
	}
	return due.UTC(), nil
}
