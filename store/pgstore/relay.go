package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/store"
)

// Resume begins a term. If the cluster is not the one that the cursor was
// written in, everything retained is published again.
func (c *core) Resume(ctx context.Context, t store.Term, service string) (cur store.Cursor, err error) {
	c.state(t.Shard).forget()
	var owner, known, now string
	read := func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, c.sql(`WITH new AS (
				INSERT INTO ~cursor (shard, service, incarnation, system, win, after) VALUES ($1, $2, '', `+system+`, 0, 0)
				ON CONFLICT DO NOTHING RETURNING shard)
			INSERT INTO ~window (shard, n, snapshot, lo, hi) SELECT shard, 0, $3::text::pg_snapshot, 0, 0 FROM new`), t.Shard, service, nothing); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, c.sql(`SELECT win, after, service, incarnation, system, `+system+` FROM ~cursor WHERE shard = $1 FOR UPDATE`), t.Shard).
			Scan(&cur.Position.Window, &cur.Position.Seq, &owner, &cur.Incarnation, &known, &now); err != nil {
			return err
		}
		if owner != service {
			return fmt.Errorf("%w: %soutbox in %s is %s's, not %s's: give each service its own Options.Prefix or Options.Schema",
				store.ErrOwner, c.opts.Prefix, c.name, owner, service)
		}
		cur.Channels, err = c.heldChannels(ctx, tx, t.Shard)
		return err
	}
	if err := c.under(ctx, t, "resume relay", read); err != nil {
		return store.Cursor{}, err
	}
	if known == now {
		return cur, nil
	}
	return c.restored(ctx, t, cur.Incarnation, known, now)
}

// restored begins again in a cluster that was restored from another's rows: their
// transaction ids mean nothing here.
func (c *core) restored(ctx context.Context, t store.Term, incarnation, known, now string) (cur store.Cursor, err error) {
	var last, end int64
	if err := c.setSequences(ctx); err != nil {
		return store.Cursor{}, fail("resume restored outbox", err)
	}
	err = c.under(ctx, t, "resume restored outbox", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, c.sql(`SELECT coalesce(max(seq), 0) FROM ~outbox WHERE shard = $1`), t.Shard).Scan(&end)
	})
	for err == nil && last < end {
		// 2 is older than every transaction: all snapshots see the rows.
		err = c.under(ctx, t, "resume restored outbox", func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, c.sql(`WITH part AS (SELECT slot, seq FROM ~outbox WHERE shard = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT 5000),
				done AS (UPDATE ~outbox o SET xid = '2' FROM part p WHERE o.shard = $1 AND o.slot = p.slot AND o.seq = p.seq)
				SELECT coalesce(max(seq), $3) FROM part`), t.Shard, last, end).Scan(&last)
		})
	}
	if err != nil {
		return store.Cursor{}, err
	}
	cur, err = c.rewind(ctx, t, incarnation)
	cur.Restored = fmt.Sprintf("the outbox was in PostgreSQL cluster %s and is now in %s", known, now)
	return cur, err
}

// setSequencesSQL has numbers begin behind those that are there. A database that
// came by logical replication has the rows and not the sequences' state, and a
// number that is used twice loses a row.
const setSequencesSQL = `WITH top AS (
		SELECT greatest((SELECT coalesce(max(seq), 0) FROM ~held),
			(SELECT coalesce(max(m), 0) FROM generate_series(0, $1::int - 1) s CROSS JOIN LATERAL (SELECT max(seq) AS m FROM ~outbox WHERE shard = s) o)) AS seq,
			(SELECT max(n) FROM ~later) AS n
	)
	SELECT (SELECT setval('~seq', seq) FROM top WHERE seq > (SELECT last_value FROM ~seq)),
		(SELECT setval(pg_get_serial_sequence('~later', 'n'), n) FROM top WHERE n IS NOT NULL)`

func (c *core) setSequences(ctx context.Context) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	_, err := c.work.Exec(ctx, c.sql(setSequencesSQL), c.shards)
	return err
}

// Advance moves the cursor, releases, and sets aside.
func (c *core) Advance(ctx context.Context, t store.Term, p store.Progress) error {
	if p.Release == nil && p.Retry == nil && p.Hold == nil && p.Incarnation == "" {
		ctx, cancel := c.bound(ctx)
		defer cancel()
		return c.moveCursor(ctx, poolQuerier{c.work}, t, p.To)
	}
	return c.under(ctx, t, "advance relay", func(ctx context.Context, tx pgx.Tx) error {
		// One at a time: a release that does not see what is being held would
		// take the lane for empty and forget it, and what was held with it.
		if _, err := tx.Exec(ctx, c.sql(`SELECT FROM ~cursor WHERE shard = $1 FOR UPDATE`), t.Shard); err != nil {
			return err
		}
		if p.To != (store.Position{}) {
			if err := c.moveCursor(ctx, pgxQuerier{tx}, t, p.To); err != nil {
				return err
			}
		}
		if p.Incarnation != "" {
			if _, err := tx.Exec(ctx, c.sql(`UPDATE ~cursor SET incarnation = $2 WHERE shard = $1`), t.Shard, p.Incarnation); err != nil {
				return err
			}
		}
		if err := c.release(ctx, tx, p.Release); err != nil {
			return err
		}
		if err := c.retry(ctx, tx, p.Retry); err != nil {
			return err
		}
		if err := c.hold(ctx, tx, t.Shard, p.Hold); err != nil {
			return err
		}
		store.Moving.Pass()
		return nil
	})
}

// moveCursor is the Advance of every batch that went well: one statement. The
// window must be there: a fail-over to a standby that was behind may have undone
// it, and the term has to be resumed then.
func (c *core) moveCursor(ctx context.Context, q querier, t store.Term, to store.Position) error {
	holds := false
	err := each(ctx, q, c.sql(`WITH `+fence+`, known AS (
			SELECT FROM fence WHERE $5::bigint = 0 OR EXISTS (SELECT FROM ~window WHERE shard = $4 AND n = $5)
		), moved AS (
			UPDATE ~cursor SET win = $5, after = $6 WHERE shard = $4 AND (win, after) < ($5, $6) AND EXISTS (SELECT FROM known)
		)
		SELECT EXISTS (SELECT FROM known)`), fenceArgs(t, t.Shard, to.Window, to.Seq), func(r rowSet) error { return r.Scan(&holds) })
	if err != nil {
		return fail("advance relay", err)
	}
	if !holds {
		return fenced("advance relay", t)
	}
	return nil
}

// Rewind sets the cursor before everything that is still there.
func (c *core) Rewind(ctx context.Context, t store.Term, incarnation string) (store.Cursor, error) {
	return c.rewind(ctx, t, incarnation)
}

// rewind begins with a new first window, before which nothing is seen. Windows
// are never numbered a second time, so that an old position is not taken for a
// new one.
func (c *core) rewind(ctx context.Context, t store.Term, incarnation string) (cur store.Cursor, err error) {
	defer c.state(t.Shard).forget()
	err = c.under(ctx, t, "rewind relay", func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, c.sql(`SELECT max(n) + 1 FROM ~window WHERE shard = $1`), t.Shard).Scan(&cur.Position.Window); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, c.sql(`DELETE FROM ~window WHERE shard = $1`), t.Shard); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, c.sql(`INSERT INTO ~window (shard, n, snapshot, lo, hi) VALUES ($1, $2, $3::text::pg_snapshot, 0, 0)`),
			t.Shard, cur.Position.Window, nothing); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, c.sql(`UPDATE ~cursor SET win = $2, after = 0, covered = NULL, incarnation = $3, system = `+system+` WHERE shard = $1`),
			t.Shard, cur.Position.Window, incarnation); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, c.sql(`INSERT INTO ~lane (channel, name, shard, attempts, error, retry)
			SELECT DISTINCT channel, lane, shard, 0, '', to_timestamp(0) FROM ~held WHERE shard = $1 AND released IS NOT NULL
			ON CONFLICT DO NOTHING`), t.Shard); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, c.sql(`UPDATE ~held SET released = NULL WHERE shard = $1 AND released IS NOT NULL`), t.Shard); err != nil {
			return err
		}
		cur.Channels, err = c.heldChannels(ctx, tx, t.Shard)
		return err
	})
	cur.Incarnation = incarnation
	return cur, err
}

// statsRows is up to how many rows the backlog is counted; a longer one is
// estimated from the numbers.
const statsRows = 10_000

// statsSQL counts what is left of the cursor's window, if there is one yet, and
// what its snapshot does not see.
const statsSQL = `WITH c AS (
		SELECT coalesce(max(win), 0) AS win, coalesce(max(after), 0) AS after FROM ~cursor WHERE shard = $1
	), w AS (
		SELECT c.after, CASE WHEN w.n IS NULL THEN 0 ELSE coalesce(w.hi, 9223372036854775807) END AS hi, coalesce(w.snapshot, '` + nothing + `') AS this, coalesce(p.snapshot, '` + nothing + `') AS prev
		FROM c LEFT JOIN ~window w ON w.shard = $1 AND w.n = c.win LEFT JOIN ~window p ON p.shard = $1 AND p.n = c.win - 1
	), rest AS MATERIALIZED (
		(SELECT seq, written FROM ~outbox WHERE shard = $1 AND seq > (SELECT after FROM w) AND seq <= (SELECT hi FROM w)
			AND pg_visible_in_snapshot(xid, (SELECT this FROM w)) AND NOT pg_visible_in_snapshot(xid, (SELECT prev FROM w)) ORDER BY seq LIMIT $2)
		UNION ALL
		(SELECT seq, written FROM ~outbox WHERE shard = $1 AND xid >= pg_snapshot_xmax((SELECT this FROM w)) ORDER BY xid LIMIT $2)
		UNION ALL
		(SELECT o.* FROM pg_snapshot_xip((SELECT this FROM w)) x CROSS JOIN LATERAL
			(SELECT seq, written FROM ~outbox WHERE shard = $1 AND xid = x LIMIT $2) o LIMIT $2)
	)
	SELECT count(*), coalesce((SELECT max(seq) FROM ~outbox WHERE shard = $1) - min(seq) + 1, 0), min(written),
		(SELECT count(*) FROM ~held WHERE shard = $1 AND released IS NULL), (SELECT count(*) FROM ~later WHERE shard = $1),
		coalesce((SELECT service FROM ~cursor WHERE shard = $1), '') FROM rest`

// indexOnlySQL has what follows in its batch read indexes from their ends: where
// there are no statistics yet, the planner would read and sort all rows.
const indexOnlySQL = `SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)`

// Stats counts.
func (c *core) Stats(ctx context.Context, shard int) (st store.Stats, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	var estimate int64
	var oldest *time.Time
	b := &pgx.Batch{}
	b.Queue(indexOnlySQL)
	b.Queue(c.sql(statsSQL), shard, statsRows)
	res := c.beside.SendBatch(ctx, b)
	_, err = res.Exec()
	err = errors.Join(err, res.QueryRow().Scan(&st.Backlog, &estimate, &oldest, &st.Held, &st.Later, &st.Service))
	if cerr := res.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return st, fail("outbox stats", err)
	}
	if st.Backlog >= statsRows {
		st.Backlog = max(st.Backlog, estimate)
	}
	if oldest != nil {
		st.Oldest = oldest.UTC()
	}
	return st, nil
}
