package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// A window holds the rows that its own snapshot sees and its predecessor's does
// not. Both are committed before anything of it is read, so it never changes.
type window struct {
	n        int64
	snapshot string
	lo, hi   int64 // the first and last seq, exactly
	known    bool  // lo and hi are
	small    bool  // few enough to be sorted for each page
}

// nothing is a snapshot that sees no row.
const nothing = "1:1:"

// smallRows is up to how many rows a window is small: it is found by xid and
// sorted. A larger one is read in the order of seq, from its first row on.
const smallRows = 1000

// A large window's first and last seq are looked for from either end of the
// outbox, among nearRows; if rows that are published and retained are in the
// way, by looking at all rows of the window, up to countedRows; and if it has
// more, from either end again, however far that is.
const (
	nearRows    = 20_000
	countedRows = 200_000
)

// shardState is what this process knows of the windows of a shard that it reads.
type shardState struct {
	mu      sync.Mutex // one Next at a time
	term    store.Lease
	loaded  bool
	cursor  store.Position
	windows []window // ascending, without gaps; the first is there for its snapshot
}

func (c *core) state(shard int) *shardState {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.states[shard]
	if st == nil {
		st = &shardState{}
		c.states[shard] = st
	}
	return st
}

// forget has the next reader load the windows again.
func (st *shardState) forget() {
	st.mu.Lock()
	st.loaded = false
	st.mu.Unlock()
}

// load reads the windows from the cursor's on. What is published from them must not
// be lost in a fail-over, so it waits until the standbys have them.
func (c *core) load(ctx context.Context, st *shardState, t store.Term) error {
	st.windows = st.windows[:0]
	err := settled(ctx, c.reads, func(tx pgx.Tx) (bool, error) {
		err := each(ctx, pgxQuerier{tx}, c.sql(`SELECT c.win, c.after, w.n, w.snapshot::text, coalesce(w.lo, 0), coalesce(w.hi, 0), w.lo IS NOT NULL
			FROM ~cursor c JOIN ~window w ON w.shard = c.shard AND w.n >= c.win - 1 WHERE c.shard = $1 ORDER BY w.n`), []any{t.Shard}, func(r rowSet) error {
			var w window
			err := r.Scan(&st.cursor.Window, &st.cursor.Seq, &w.n, &w.snapshot, &w.lo, &w.hi, &w.known)
			st.windows = append(st.windows, w)
			return err
		})
		return len(st.windows) > 0, err
	})
	switch {
	case err != nil:
		return err
	case len(st.windows) == 0:
		return errors.New("the shard has no cursor: Resume makes it")
	}
	st.term, st.loaded = t.Lease, true
	return nil
}

// Next reads the rest of the window that after is in, or the first part of the
// next one. Where there is none, it opens one: it writes down the present
// snapshot, under the term, if that sees a row that the last one did not, and
// moves the cursor to done, since it commits anyway.
func (c *core) Next(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	st := c.state(t.Shard)
	st.mu.Lock()
	defer st.mu.Unlock()
	page, err := c.next(ctx, st, t, after, done, max)
	if err != nil {
		st.loaded = false
		return store.Page{}, fail("read outbox", err)
	}
	return page, nil
}

func (c *core) next(ctx context.Context, st *shardState, t store.Term, after, done store.Position, max store.Limit) (page store.Page, err error) {
	if !st.loaded || st.term.Term != t.Term || st.term.Holder != t.Holder || after.Window > st.windows[len(st.windows)-1].n {
		if err := c.load(ctx, st, t); err != nil {
			return page, err
		}
	}
	if after.Window < st.windows[0].n {
		after = st.cursor // it is before everything that is left to publish
	}
	i := int(after.Window - st.windows[0].n)
	if i >= len(st.windows) {
		return page, fmt.Errorf("position %v is beyond window %d, the last, as after a fail-over: %w", after, st.windows[len(st.windows)-1].n, store.ErrFenced)
	}
	if i > 1 { // only the predecessor is needed
		st.windows = st.windows[i-1:]
		i = 1
	}
	for {
		w := &st.windows[i]
		if !w.known {
			if err := c.measure(ctx, st, t, i); err != nil {
				return page, err
			}
		}
		if after.Seq < w.hi {
			if i == 0 {
				return page, fmt.Errorf("the window before %d is not there", w.n)
			}
			page.Rows, err = c.read(ctx, t.Shard, &st.windows[i-1], w, after.Seq, max)
			if err != nil || len(page.Rows) > 0 {
				return page, err
			}
		}
		after = store.Position{Window: w.n + 1}
		if i++; i < len(st.windows) {
			continue
		}
		rows, opened, err := c.openWindow(ctx, st, t, done, max)
		page.Rows = rows
		page.Advanced = page.Advanced || opened && done != (store.Position{})
		if err != nil || len(rows) > 0 || !opened {
			return page, err
		}
	}
}

const rowColumns = `seq, id, channel, key, headers, body`

// Of a page, as many rows as max.Bytes of bodies take, at least one.
const pageSQL = `SELECT p.* FROM (SELECT f.*, sum(coalesce(octet_length(body), 0)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - coalesce(octet_length(body), 0) AS before
	FROM (%s) f) p WHERE before < $%d`

// openSQL opens a window. The rows are those whose transactions began after the
// last snapshot or were in progress in it, and are visible now; the statement
// and the snapshot that it writes down see the same.
//
// Both parts are found by xid, the first in its order, since a plan that scans
// the table for want of statistics would be a disaster. If there are too many,
// the window is opened without them. The last window must be there as it is
// known here: a fail-over to a standby that was behind may have undone it.
var openSQL = `WITH fresh AS MATERIALIZED (
		(SELECT ` + rowColumns + ` FROM ~outbox WHERE shard = $4 AND xid >= pg_snapshot_xmax($5::text::pg_snapshot)
			AND xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY xid LIMIT $7)
		UNION ALL
		(SELECT o.* FROM pg_snapshot_xip($5::text::pg_snapshot) x CROSS JOIN LATERAL
			(SELECT ` + rowColumns + ` FROM ~outbox WHERE shard = $4 AND xid = x LIMIT $7) o LIMIT $7)
	), found AS (
		SELECT count(*) AS n, min(seq) AS lo, max(seq) AS hi, count(*) < $7 AS small FROM fresh
	), ` + fence + `, known AS MATERIALIZED (
		SELECT FROM ~window WHERE shard = $4 AND n = $6 - 1 AND snapshot::text = $5::text
	), opened AS (
		INSERT INTO ~window (shard, n, snapshot, lo, hi)
		SELECT $4, $6, pg_current_snapshot(), CASE WHEN small THEN lo END, CASE WHEN small THEN hi END
		FROM found WHERE n > 0 AND EXISTS (SELECT FROM fence) AND EXISTS (SELECT FROM known)
		RETURNING snapshot::text, lo, hi, ` + synchronous + `
	), moved AS (
		UPDATE ~cursor SET win = $10, after = $11 WHERE shard = $4 AND (win, after) < ($10::bigint, $11::bigint) AND EXISTS (SELECT FROM opened)
	), page AS (` + fmt.Sprintf(pageSQL, `SELECT * FROM fresh ORDER BY seq LIMIT $8`, 9) + `)
	SELECT EXISTS (SELECT FROM known),
		found.n, coalesce(opened.snapshot, ''), coalesce(opened.lo, 0), coalesce(opened.hi, 0),
		coalesce(page.seq, 0), coalesce(page.id, ''), coalesce(page.channel, ''), coalesce(page.key, ''), coalesce(page.headers, ''), page.body
	FROM found LEFT JOIN opened ON true LEFT JOIN page ON opened.lo IS NOT NULL ORDER BY page.seq`

// generic runs a statement with the plan that does for all arguments. PostgreSQL
// would plan the first five executions on each connection for their very
// arguments: four milliseconds each, and where it has no statistics yet, it reads
// and sorts a whole window for each of the first five pages.
func (c *core) generic(ctx context.Context, text string, args ...any) (pgx.Rows, error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('plan_cache_mode', 'force_generic_plan', true)`)
	b.Queue(c.sql(text), args...)
	conn, err := c.reads.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	commit := watchCommit(conn.Conn())
	res := conn.SendBatch(ctx, b)
	if _, err := res.Exec(); err != nil {
		_ = res.Close() // it says the same
		conn.Release()
		return nil, err
	}
	rows, err := res.Query()
	r := &batchRows{Rows: rows, res: res, after: func(err error) error {
		conn.Release()
		if err == nil {
			err = commit.waited(ctx)
		}
		return err
	}}
	if err != nil {
		r.Close()
	}
	return r, err
}

// genericRow scans the one row of a statement.
func (c *core) genericRow(ctx context.Context, text string, args []any, dest ...any) error {
	rows, err := c.generic(ctx, text, args...)
	if err != nil {
		return err
	}
	_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, row.Scan(dest...) })
	return err
}

// openWindow opens the next window, with the cursor at done, and returns what
// can be read of it at once.
func (c *core) openWindow(ctx context.Context, st *shardState, t store.Term, done store.Position, max store.Limit) (page []store.Row, opened bool, err error) {
	last := &st.windows[len(st.windows)-1]
	w := window{n: last.n + 1}
	rows, err := c.generic(ctx, openSQL, fenceArgs(t, t.Shard, last.snapshot, w.n, smallRows, max.Rows, max.Bytes, done.Window, done.Seq)...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	found, known := 0, false
	for rows.Next() {
		m := &driver.Message{}
		r := store.Row{Position: store.Position{Window: w.n}, Message: m}
		var headers string
		if err := rows.Scan(&known, &found, &w.snapshot, &w.lo, &w.hi, &r.Position.Seq, &m.ID, &m.Channel, &m.Key, &headers, &m.Body); err != nil {
			return nil, false, err
		}
		if r.Position.Seq == 0 {
			continue
		}
		r.Read(headers)
		page = append(page, r)
	}
	err = rows.Err() // if it is nil, the window is committed
	var pe *pgconn.PgError
	switch {
	case errors.As(err, &pe) && pe.Code == "23505":
		return nil, false, fmt.Errorf("window %d was opened by another: %w", w.n, store.ErrFenced)
	case err != nil:
		return nil, false, err
	case !known:
		return nil, false, fmt.Errorf("window %d is gone, as after a fail-over: %w", last.n, store.ErrFenced)
	case found == 0:
		return nil, false, nil
	case w.snapshot == "":
		return nil, false, fmt.Errorf("term %d of %s: %w", t.Term, t.Name, store.ErrFenced)
	}
	w.small = w.hi > 0
	w.known = w.small
	st.windows = append(st.windows, w)
	return page, true, nil
}

// A row is of the window ($2, $3] if the second snapshot sees it and the first
// does not. Where the rows are found by xid, that is spelled out for the index.
const (
	// The snapshots are sub-selects, so that they are parsed once and not for
	// each row: with a hundred transactions in progress a page took 1.6 times as
	// long.
	windowSQL = `shard = $1 AND pg_visible_in_snapshot(xid, (SELECT $3::text::pg_snapshot)) AND NOT pg_visible_in_snapshot(xid, (SELECT $2::text::pg_snapshot))`

	smallSQL = `(SELECT %[1]s FROM ~outbox WHERE shard = $1 AND xid >= pg_snapshot_xmax($2::text::pg_snapshot)
			AND xid < pg_snapshot_xmax($3::text::pg_snapshot) AND pg_visible_in_snapshot(xid, $3::text::pg_snapshot) ORDER BY xid LIMIT $4)
		UNION ALL
		(SELECT o.* FROM pg_snapshot_xip($2::text::pg_snapshot) x CROSS JOIN LATERAL
			(SELECT %[1]s FROM ~outbox WHERE shard = $1 AND xid = x LIMIT $4) o
			WHERE pg_visible_in_snapshot(x, $3::text::pg_snapshot) LIMIT $4)`
)

var (
	// The bounds are the window's exact ones. A lower bound that is derived
	// from anything else, such as the last seq that was read, loses rows.
	readLargeSQL = fmt.Sprintf(pageSQL, `SELECT `+rowColumns+` FROM ~outbox WHERE `+windowSQL+`
		AND seq > $5 AND seq >= $6 AND seq <= $7 ORDER BY seq LIMIT $4`, 8) + ` ORDER BY seq`
	readSmallSQL = fmt.Sprintf(pageSQL, `SELECT * FROM (`+fmt.Sprintf(smallSQL, rowColumns)+`) s WHERE seq > $5 ORDER BY seq LIMIT $6`, 7) + ` ORDER BY seq`

	nearSQL = `SELECT coalesce((SELECT seq FROM (SELECT seq, xid, shard FROM ~outbox WHERE shard = $1 ORDER BY seq LIMIT $4) o WHERE ` + windowSQL + ` ORDER BY seq LIMIT 1), 0),
		coalesce((SELECT seq FROM (SELECT seq, xid, shard FROM ~outbox WHERE shard = $1 ORDER BY seq DESC LIMIT $4) o WHERE ` + windowSQL + ` ORDER BY seq DESC LIMIT 1), 0)`
	countSQL = `SELECT count(*), coalesce(min(seq), 0), coalesce(max(seq), 0) FROM (` + fmt.Sprintf(smallSQL, "seq") + `) s`
	lowSQL   = `SELECT coalesce((SELECT seq FROM ~outbox WHERE ` + windowSQL + ` ORDER BY seq LIMIT 1), 0),
		coalesce((SELECT seq FROM ~outbox WHERE ` + windowSQL + ` ORDER BY seq DESC LIMIT 1), 0)`
)

// read reads a page of a window.
func (c *core) read(ctx context.Context, shard int, prev, w *window, after int64, max store.Limit) ([]store.Row, error) {
	var rows pgx.Rows
	var err error
	if w.small {
		rows, err = c.generic(ctx, readSmallSQL, shard, prev.snapshot, w.snapshot, smallRows, after, max.Rows, max.Bytes)
	} else {
		rows, err = c.generic(ctx, readLargeSQL, shard, prev.snapshot, w.snapshot, max.Rows, after, w.lo, w.hi, max.Bytes)
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []store.Row
	for rows.Next() {
		m := &driver.Message{}
		r := store.Row{Position: store.Position{Window: w.n}, Message: m}
		var headers string
		var before int64
		if err := rows.Scan(&r.Position.Seq, &m.ID, &m.Channel, &m.Key, &headers, &m.Body, &before); err != nil {
			return nil, err
		}
		r.Read(headers)
		page = append(page, r)
	}
	return page, rows.Err()
}

// measure finds the first and last seq of a window that was opened without
// them, and writes them down.
func (c *core) measure(ctx context.Context, st *shardState, t store.Term, i int) error {
	w := &st.windows[i]
	if i == 0 { // only its snapshot is needed
		return nil
	}
	prev := &st.windows[i-1]
	var lo, hi, n int64
	args := []any{t.Shard, prev.snapshot, w.snapshot}
	if err := c.genericRow(ctx, nearSQL, append(args, nearRows), &lo, &hi); err != nil {
		return err
	}
	if lo == 0 || hi == 0 {
		if err := c.genericRow(ctx, countSQL, append(args, countedRows), &n, &lo, &hi); err != nil {
			return err
		}
	}
	if n >= countedRows {
		if err := c.genericRow(ctx, lowSQL, args, &lo, &hi); err != nil {
			return err
		}
	}
	if _, err := c.reads.Exec(ctx, c.sql(`UPDATE ~window SET lo = $3, hi = $4 WHERE shard = $1 AND n = $2`), t.Shard, w.n, lo, hi); err != nil {
		return err
	}
	w.lo, w.hi, w.known = lo, hi, true
	return nil
}
