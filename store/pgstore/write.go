package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// statement is one that a commit runs before it commits.
type statement struct {
	doing string
	text  string
	args  []any
}

const (
	insertOneSQL = `INSERT INTO ~outbox (shard, id, channel, key, headers, body, reorder) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	// The rows are numbered in the order of the arrays.
	insertManySQL = `INSERT INTO ~outbox (shard, id, channel, key, headers, body, reorder)
		SELECT shard, id, channel, key, headers, body, $7::boolean
		FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
			WITH ORDINALITY AS u (shard, id, channel, key, headers, body, n) ORDER BY n`
	laterSQL = `INSERT INTO ~later (shard, id, channel, key, headers, body, source, due)
		SELECT shard, id, channel, key, headers, body, source, due
		FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::timestamptz[])
			WITH ORDINALITY AS u (shard, id, channel, key, headers, body, source, due, n) ORDER BY n`
	replySQL = `UPDATE ~inbox SET status = $1, content_type = $2, reply = $3
		WHERE grp = $4 AND handler = $5 AND source = $6 AND id = $7`
	repliesSQL = `UPDATE ~inbox i SET status = u.status, content_type = u.content_type, reply = u.reply
		FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[])
			AS u (status, content_type, reply, grp, handler, source, id)
		WHERE i.grp = u.grp AND i.handler = u.handler AND i.source = u.source AND i.id = u.id`
	tokenSQL = `INSERT INTO ~token (token) VALUES ($1)`
	// What most transactions leave behind, in one statement: to send, plan and
	// answer another takes as long as to insert.
	insertOneAndTokenSQL = `WITH token AS (INSERT INTO ~token (token) VALUES ($8)) ` + insertOneSQL
)

// A statement takes at most so many rows and about so many bytes of bodies.
const (
	manyRows  = 1000
	manyBytes = 8 << 20
)

// columns are messages as arrays.
type columns struct {
	shards                       []int16
	ids, channels, keys, headers []string
	bodies                       [][]byte
	sources                      []string    // of later ones
	dues                         []time.Time // likewise
	scratch                      []byte
}

func (c *core) add(cols *columns, m *driver.Message) error {
	text, err := store.AppendHeaders(cols.scratch[:0], m)
	if err != nil {
		return err
	}
	cols.scratch = text
	cols.shards = append(cols.shards, int16(store.Shard(m, c.shards)))
	cols.ids = append(cols.ids, m.ID)
	cols.channels = append(cols.channels, m.Channel)
	cols.keys = append(cols.keys, m.Key)
	cols.headers = append(cols.headers, string(text))
	cols.bodies = append(cols.bodies, m.Body)
	return nil
}

func (cols *columns) args(more ...any) []any {
	return append([]any{cols.shards, cols.ids, cols.channels, cols.keys, cols.headers, cols.bodies}, more...)
}

// messageStatements are the inserts of w.Messages and w.Later. What is written
// before the end of a transaction is numbered again at its commit.
func (c *core) messageStatements(all []statement, w store.Writes, reorder bool) ([]statement, error) {
	if len(w.Messages) == 1 {
		m := w.Messages[0]
		text, err := store.AppendHeaders(nil, m)
		if err != nil {
			return nil, err
		}
		all = append(all, statement{"write outbox", c.sql(insertOneSQL),
			[]any{int16(store.Shard(m, c.shards)), m.ID, m.Channel, m.Key, string(text), m.Body, reorder}})
	} else {
		err := c.inParts(w.Messages, func(cols *columns, _ []*driver.Message) {
			all = append(all, statement{"write outbox", c.sql(insertManySQL), cols.args(reorder)})
		})
		if err != nil {
			return nil, err
		}
	}
	err := c.inParts(w.Later, func(cols *columns, ms []*driver.Message) {
		for _, m := range ms {
			cols.sources = append(cols.sources, m.Source)
			cols.dues = append(cols.dues, m.Due)
		}
		all = append(all, statement{"write outbox_later", c.sql(laterSQL), cols.args(cols.sources, cols.dues)})
	})
	return all, err
}

// inParts cuts messages into what one statement takes.
func (c *core) inParts(ms []*driver.Message, each func(*columns, []*driver.Message)) error {
	for len(ms) > 0 {
		cols := &columns{}
		n, bytes := 0, 0
		for n < len(ms) && n < manyRows && bytes < manyBytes {
			if err := c.add(cols, ms[n]); err != nil {
				return err
			}
			bytes += len(ms[n].Body)
			n++
		}
		each(cols, ms[:n])
		ms = ms[n:]
	}
	return nil
}

// statements are all that Commit runs before it commits. Where other messages
// of the transaction are numbered again, these must be as well, to stay behind
// them.
func (c *core) statements(w store.Writes, reorder bool) ([]statement, error) {
	all, err := c.messageStatements(make([]statement, 0, 4), w, reorder)
	if err != nil {
		return nil, err
	}
	switch len(w.Replies) {
	case 0:
	case 1:
		r := &w.Replies[0]
		all = append(all, statement{"write inbox reply", c.sql(replySQL),
			[]any{r.Reply.Status, r.Reply.ContentType, r.Reply.Body, r.Group, r.Handler, r.Source, r.ID}})
	default:
		n := len(w.Replies)
		status, types, bodies, keys := make([]string, n), make([]string, n), make([][]byte, n), newKeys(n)
		for i := range w.Replies {
			r := &w.Replies[i]
			status[i], types[i], bodies[i] = r.Reply.Status, r.Reply.ContentType, r.Reply.Body
			keys.add(r.Key)
		}
		all = append(all, statement{"write inbox replies", c.sql(repliesSQL), append([]any{status, types, bodies}, keys.args()...)})
	}
	switch {
	case w.Token == "":
	case len(w.Messages) == 1:
		one := &all[0]
		one.text, one.args = c.sql(insertOneAndTokenSQL), append(one.args, w.Token)
	default:
		all = append(all, statement{"write token", c.sql(tokenSQL), []any{w.Token}})
	}
	return all, nil
}

// write writes messages at once, in any transaction on this database.
func (c *core) write(ctx context.Context, q querier, w store.Writes) error {
	all, err := c.messageStatements(nil, w, !c.opts.NoReorder)
	if err != nil {
		return err
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	for _, s := range all {
		if _, err := q.exec(ctx, s.text, s.args...); err != nil {
			return fail(s.doing, err)
		}
	}
	return nil
}

// written wakes the relays, here and elsewhere.
func (c *core) written(w store.Writes) {
	if len(w.Messages)+len(w.Later) > 0 {
		c.signal.Notify()
		c.tell()
	}
}

// cancel deletes messages that were to be sent later.
func (c *core) cancel(ctx context.Context, q querier, source string, ids []string) (int, error) {
	ctx, stop := c.bound(ctx)
	defer stop()
	n, err := q.exec(ctx, c.sql(`DELETE FROM ~later WHERE id = ANY($1::text[]) AND source = $2`), ids, source)
	return int(n), fail("cancel", err)
}

// fenceMark and a token make the token that Resolve puts beside the one that it
// inserts itself.
const fenceMark = " fenced"

// Resolve inserts the token again: a duplicate says that its transaction
// committed, unless it is one that Resolve has inserted itself, in a call whose
// answer was lost. It waits for a transaction that is still committing, and for
// the standbys to have one that has committed.
func (c *core) Resolve(ctx context.Context, token string) (committed bool, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	err = c.besideSettled(ctx, func(tx pgx.Tx) (bool, error) {
		tag, err := tx.Exec(ctx, c.sql(`WITH fence AS (`+tokenSQL+` ON CONFLICT DO NOTHING RETURNING token)
			INSERT INTO ~token (token) SELECT token || $2 FROM fence`), token, fenceMark)
		if err != nil || tag.RowsAffected() > 0 {
			return false, err
		}
		// A statement of its own: what the insert has waited for, it does not see.
		var ours bool
		err = tx.QueryRow(ctx, c.sql(`SELECT EXISTS (SELECT FROM ~token WHERE token = $1)`), token+fenceMark).Scan(&ours)
		committed = !ours
		return committed, err
	})
	if err != nil {
		return false, fail("resolve token", err)
	}
	return committed, nil
}

// Forget deletes old tokens. They are UUIDs of version 7, so that their order is
// that of their times.
func (c *core) Forget(ctx context.Context, before time.Time, max int) (int, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	tag, err := c.beside.Exec(ctx, c.sql(`DELETE FROM ~token WHERE token = ANY(ARRAY(
		SELECT token FROM (SELECT token, at FROM ~token ORDER BY token LIMIT $1) t WHERE at < $2))`), max, before)
	return int(tag.RowsAffected()), fail("forget tokens", err)
}

// mark runs a statement on a savepoint.
func mark(ctx context.Context, q querier, do, name string) error {
	if _, err := q.exec(ctx, do+name); err != nil {
		return fmt.Errorf("%s%s: %w", do, name, err)
	}
	return nil
}
