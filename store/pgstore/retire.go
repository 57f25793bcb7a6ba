package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dovetail-go/dovetail/store"
)

// coverSQL writes down which rows are not needed any more: those that the
// snapshot before the window of a position sees, or that window's own, if the
// position is its end. It goes no further than the cursor, and nowhere in a
// cluster that the cursor was not written in.
const coverSQL = `WITH ` + fence + `, c AS (
		SELECT least((win, after), ($5::bigint, $6::bigint)) = (win, after) AS behind, win, after FROM ~cursor
		WHERE shard = $4 AND system = ` + system + `
	), p AS (
		SELECT CASE WHEN behind THEN win ELSE $5::bigint END AS win, CASE WHEN behind THEN after ELSE $6::bigint END AS after FROM c
	), s AS (
		SELECT w.snapshot, w.n FROM p JOIN ~window w ON w.shard = $4
			AND w.n = (SELECT CASE WHEN p.after >= t.hi THEN p.win ELSE p.win - 1 END FROM ~window t WHERE t.shard = $4 AND t.n = p.win)
	), done AS (
		UPDATE ~cursor SET covered = s.snapshot FROM s WHERE shard = $4 AND EXISTS (SELECT FROM fence) RETURNING 1
	), gone AS (
		DELETE FROM ~window USING s WHERE shard = $4 AND ~window.n < s.n AND EXISTS (SELECT FROM done)
	)
	SELECT EXISTS (SELECT FROM fence), EXISTS (SELECT FROM done)`

// Retire truncates leaf partitions in which every row is published and not
// needed any more, and deletes released held rows. A leaf counts as one.
func (c *core) Retire(ctx context.Context, t store.Term, r store.Retirement, max int) (int, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	var holds, covers bool
	err := c.work.QueryRow(ctx, c.sql(coverSQL), fenceArgs(t, t.Shard, r.Through.Window, r.Through.Seq)...).Scan(&holds, &covers)
	if err != nil {
		return 0, fail("retire", err)
	}
	if !holds {
		return 0, fenced("retire", t)
	}
	n := 0
	if covers {
		if n, err = c.retireLeaves(ctx, t, max); err != nil {
			return n, fail("retire", err)
		}
	}
	held, err := c.work.Exec(ctx, c.sql(`WITH `+fence+` DELETE FROM ~held WHERE EXISTS (SELECT FROM fence) AND seq = ANY(ARRAY(
		SELECT seq FROM ~held WHERE shard = $4 AND released < $5 LIMIT $6))`), fenceArgs(t, t.Shard, r.Released, max)...)
	return n + int(held.RowsAffected()), fail("retire held", err)
}

// retireLeaves truncates what it can. The leaf that is being written and the
// next one are left alone, so as not to make writers wait.
func (c *core) retireLeaves(ctx context.Context, t store.Term, max int) (n int, err error) {
	var slot int
	if err := c.work.QueryRow(ctx, c.sql(`SELECT ~slot()`)).Scan(&slot); err != nil {
		return 0, err
	}
	for i := slot + 2; i < slot+leaves; i++ {
		leaf := c.sql(fmt.Sprintf("~outbox_%d", i%leaves))
		var covered bool
		if err := c.work.QueryRow(ctx, c.coveredSQL(leaf), c.shards).Scan(&covered); err != nil {
			return n, err
		}
		if !covered {
			continue
		}
		done, err := c.truncate(ctx, t, leaf)
		if err != nil {
			return n, err
		}
		if done {
			n++
		}
	}
	deleted, err := c.work.Exec(ctx, c.sql(deleteSQL), fenceArgs(t, t.Shard, max)...)
	return n + int(deleted.RowsAffected()), err
}

// coveredSQL asks whether a leaf has rows, and all of them are seen by the
// snapshots of their shards up to which nothing is needed any more.
func (c *core) coveredSQL(leaf string) string {
	return c.sql(`SELECT pg_relation_size('` + leaf + `') > 0
		AND (SELECT count(*) FROM ~cursor WHERE covered IS NOT NULL AND system = ` + system + `) = $1
		AND NOT EXISTS (SELECT FROM ~cursor c CROSS JOIN LATERAL
			(SELECT FROM ` + leaf + ` o WHERE o.shard = c.shard AND o.xid >= pg_snapshot_xmax(c.covered) ORDER BY o.xid LIMIT 1) later)
		AND NOT EXISTS (SELECT FROM ~cursor c CROSS JOIN LATERAL pg_snapshot_xip(c.covered) x CROSS JOIN LATERAL
			(SELECT FROM ` + leaf + ` o WHERE o.shard = c.shard AND o.xid = x LIMIT 1) running)`)
}

// deleteSQL is for outboxes whose retention is longer than it takes until a leaf
// is written again: no leaf of theirs is ever covered as a whole.
const deleteSQL = `WITH ` + fence + `, head AS (
		SELECT slot, seq, xid, written FROM ~outbox WHERE shard = $4 ORDER BY seq LIMIT $5
	), old AS (
		SELECT slot, seq FROM head WHERE written < clock_timestamp() - interval '15 minutes'
			AND pg_visible_in_snapshot(xid, (SELECT covered FROM ~cursor WHERE shard = $4))
	)
	DELETE FROM ~outbox o USING old WHERE o.shard = $4 AND o.slot = old.slot AND o.seq = old.seq AND EXISTS (SELECT FROM fence)`

// truncate empties a leaf if it gets the lock at once and, now that nobody can
// write to it, still finds every row covered. A transaction that has written to
// the leaf and not ended holds a lock on it. To drop the leaf instead would
// lock the whole table, and all writers out.
func (c *core) truncate(ctx context.Context, t store.Term, leaf string) (done bool, err error) {
	err = pgx.BeginTxFunc(ctx, c.work, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`SET LOCAL lock_timeout = '50ms'`)
		b.Queue(c.sql(`WITH `+fence+` SELECT EXISTS (SELECT FROM fence)`), fenceArgs(t)...)
		// The leaf first, as who opens a window does, and moves the cursor.
		b.Queue(`LOCK TABLE ONLY ` + leaf + ` IN ACCESS EXCLUSIVE MODE`)
		b.Queue(c.sql(`SELECT FROM ~cursor FOR SHARE`)) // no rewind meanwhile
		b.Queue(c.coveredSQL(leaf), c.shards)
		res := tx.SendBatch(ctx, b)
		var holds, covered bool
		_, err := res.Exec()
		err = errors.Join(err, res.QueryRow().Scan(&holds))
		for range 2 {
			_, lerr := res.Exec()
			err = errors.Join(err, lerr)
		}
		if err = errors.Join(err, res.QueryRow().Scan(&covered), res.Close()); err != nil {
			return err
		}
		if !holds {
			return fmt.Errorf("term %d of %s: %w", t.Term, t.Name, store.ErrFenced)
		}
		if !covered {
			return nil
		}
		done = true
		_, err = tx.Exec(ctx, `TRUNCATE ONLY `+leaf)
		store.Retiring.Pass()
		return err
	})
	var pe *pgconn.PgError
	if errors.As(err, &pe) && (pe.Code == "55P03" || pe.Code == "40P01") {
		return false, nil // somebody is using it; there is a next time
	}
	return done && err == nil, err
}
