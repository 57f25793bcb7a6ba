package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/store"
)

// keys are inbox keys as arrays.
type keys struct{ groups, handlers, sources, ids []string }

func newKeys(n int) *keys {
	return &keys{make([]string, 0, n), make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)}
}

func (k *keys) add(key store.Key) {
	k.groups = append(k.groups, key.Group)
	k.handlers = append(k.handlers, key.Handler)
	k.sources = append(k.sources, key.Source)
	k.ids = append(k.ids, key.ID)
}

func (k *keys) args(more ...any) []any {
	return append([]any{k.groups, k.handlers, k.sources, k.ids}, more...)
}

const (
	enterOneSQL = `INSERT INTO ~inbox (grp, handler, source, id, state, requeues, since)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`
	// How many rows are new, and by what they are known from those that were
	// there before, should some have been: the transaction and the command that
	// inserted them. To return them one by one costs a quarter of the rate.
	enterManySQL = `WITH new AS (
			INSERT INTO ~inbox (grp, handler, source, id, state, requeues, since)
			SELECT grp, handler, source, id, $5, requeues, since
			FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $6::int[], $7::timestamptz[])
				WITH ORDINALITY AS u (grp, handler, source, id, requeues, since, n) ORDER BY n
			ON CONFLICT DO NOTHING RETURNING xmin, cmin
		)
		SELECT count(*), coalesce(min(xmin::text), ''), coalesce(min(cmin::text), '') FROM new`
	// The same where the entries differ by their ids alone, as those of a batch
	// mostly do.
	enterAlikeSQL = `WITH new AS (
			INSERT INTO ~inbox (grp, handler, source, id, state, requeues, since)
			SELECT $1, $2, $3, id, $5, $6, $7 FROM unnest($4::text[]) WITH ORDINALITY AS u (id, n) ORDER BY n
			ON CONFLICT DO NOTHING RETURNING xmin, cmin
		)
		SELECT count(*), coalesce(min(xmin::text), ''), coalesce(min(cmin::text), '') FROM new`
	// The numbers, from 0, of the entries that were there before: all but those.
	oldSQL = `SELECT u.n::int - 1 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u (grp, handler, source, id, n)
		WHERE NOT EXISTS (SELECT FROM ~inbox i WHERE i.grp = u.grp AND i.handler = u.handler AND i.source = u.source AND i.id = u.id
			AND i.xmin::text = $5 AND i.cmin::text = $6) ORDER BY u.n`
	foundColumns = `i.state, i.requeues, i.status, i.content_type, i.reply`
	keysJoin     = ` FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u (grp, handler, source, id, n)
		JOIN ~inbox i ON i.grp = u.grp AND i.handler = u.handler AND i.source = u.source AND i.id = u.id ORDER BY u.n`
	lookupSQL = `SELECT u.n::int - 1, ` + foundColumns + keysJoin
	lockSQL   = lookupSQL + ` FOR UPDATE OF i`
	takeSQL   = `UPDATE ~inbox i SET state = $5, requeues = greatest(i.requeues, u.requeues), since = greatest(i.since, u.since)
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $6::int[], $7::timestamptz[]) AS u (grp, handler, source, id, requeues, since)
		WHERE i.grp = u.grp AND i.handler = u.handler AND i.source = u.source AND i.id = u.id`
)

// insert inserts a row in a state for each entry that has none, and returns the
// indexes of the entries that have one already. Of another transaction that is
// inserting the same key it waits for the end.
func (c *core) insert(ctx context.Context, q querier, entries []store.Entry, state store.State) (there []int, err error) {
	if len(entries) == 1 {
		e := &entries[0]
		n, err := q.exec(ctx, c.sql(enterOneSQL), e.Group, e.Handler, e.Source, e.ID, string(state), e.Requeues, e.Since)
		if err == nil && n == 0 {
			there = []int{0}
		}
		return there, err
	}
	text, args := enterManySQL, []any(nil)
	if alike(entries) {
		text, args = enterAlikeSQL, alikeArgs(entries, state)
	} else {
		args = entryArgs(entries, state)
	}
	var n int
	var xmin, cmin string
	err = each(ctx, q, c.sql(text), args, func(r rowSet) error { return r.Scan(&n, &xmin, &cmin) })
	if err != nil || n == len(entries) {
		return nil, err
	}
	err = each(ctx, q, c.sql(oldSQL), append(entryArgs(entries, state)[:4:4], xmin, cmin), func(r rowSet) error {
		var n int
		if err := r.Scan(&n); err != nil {
			return err
		}
		there = append(there, n)
		return nil
	})
	return there, err
}

// alike reports whether entries differ by their ids alone.
func alike(entries []store.Entry) bool {
	first := entries[0]
	for _, e := range entries[1:] {
		if e.Group != first.Group || e.Handler != first.Handler || e.Source != first.Source ||
			e.Requeues != first.Requeues || !e.Since.Equal(first.Since) {
			return false
		}
	}
	return true
}

func alikeArgs(entries []store.Entry, state store.State) []any {
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	e := &entries[0]
	return []any{e.Group, e.Handler, e.Source, ids, string(state), e.Requeues, e.Since}
}

func entryArgs(entries []store.Entry, state store.State) []any {
	k := newKeys(len(entries))
	requeues, sinces := make([]int32, len(entries)), make([]time.Time, len(entries))
	for i := range entries {
		e := &entries[i]
		k.add(e.Key)
		requeues[i], sinces[i] = int32(e.Requeues), e.Since
	}
	return k.args(string(state), requeues, sinces)
}

// errPurged says that rows which stood in the way are gone.
var errPurged = errors.New("inbox rows came and went")

// insertOrLock inserts rows where there are none and locks and returns the
// others, by index, with the indexes that it returns.
func (c *core) insertOrLock(ctx context.Context, q querier, entries []store.Entry, state store.State) (found []store.InboxRow, there []int, err error) {
	found = make([]store.InboxRow, len(entries))
	if there, err = c.insert(ctx, q, entries, state); err != nil || len(there) == 0 {
		return found, nil, err
	}
	missing := there
	for range 3 {
		k := newKeys(len(missing))
		for _, i := range missing {
			k.add(entries[i].Key)
		}
		seen := make([]bool, len(missing))
		err = c.scanFound(ctx, q, lockSQL, k.args(), func(n int, f store.InboxRow) {
			found[missing[n]], seen[n] = f, true
		})
		if err != nil {
			return nil, nil, err
		}
		// What was purged or left since the insert is inserted again.
		var gone []int
		var again []store.Entry
		for n, ok := range seen {
			if !ok {
				gone, again = append(gone, missing[n]), append(again, entries[missing[n]])
			}
		}
		if len(gone) == 0 {
			return found, there, nil
		}
		back, err := c.insert(ctx, q, again, state)
		if err != nil {
			return nil, nil, err
		}
		missing = missing[:0:0]
		for _, n := range back {
			missing = append(missing, gone[n])
		}
		if len(missing) == 0 {
			return found, there, nil
		}
	}
	return nil, nil, errPurged
}

func (c *core) scanFound(ctx context.Context, q querier, text string, args []any, take func(n int, f store.InboxRow)) error {
	return each(ctx, q, c.sql(text), args, func(r rowSet) error {
		var n int
		var f store.InboxRow
		var state string
		if err := r.Scan(&n, &state, &f.Requeues, &f.Reply.Status, &f.Reply.ContentType, &f.Reply.Body); err != nil {
			return err
		}
		f.State = store.State(state)
		take(n, f)
		return nil
	})
}

func (c *core) enter(ctx context.Context, q querier, entries []store.Entry) ([]store.InboxRow, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	found, there, err := c.insertOrLock(ctx, q, entries, store.Handled)
	if err != nil {
		return nil, fail("enter inbox", err)
	}
	var take []store.Entry
	for _, i := range there {
		f := &found[i]
		if f.State == store.Released || f.State == store.Dead && entries[i].Requeues > f.Requeues {
			take = append(take, entries[i])
			f.State = store.Released
		}
	}
	if len(take) == 0 {
		return found, nil
	}
	_, err = q.exec(ctx, c.sql(takeSQL), entryArgs(take, store.Handled)...)
	return found, fail("enter inbox", err)
}

func (c *core) leave(ctx context.Context, q querier, entries []store.Entry, found []store.InboxRow) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	fresh, taken := newKeys(len(entries)), newKeys(0)
	for i := range entries {
		switch found[i].State {
		case "":
			fresh.add(entries[i].Key)
		case store.Released:
			taken.add(entries[i].Key)
		}
	}
	const these = ` unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u (grp, handler, source, id)
		WHERE i.grp = u.grp AND i.handler = u.handler AND i.source = u.source AND i.id = u.id`
	if len(fresh.ids) > 0 {
		if _, err := q.exec(ctx, c.sql(`DELETE FROM ~inbox i USING`+these), fresh.args()...); err != nil {
			return fail("leave inbox", err)
		}
	}
	if len(taken.ids) > 0 {
		if _, err := q.exec(ctx, c.sql(`UPDATE ~inbox i SET state = 'released' FROM`+these), taken.args()...); err != nil {
			return fail("leave inbox", err)
		}
	}
	return nil
}

func (c *core) markInbox(ctx context.Context, q querier, entries []store.Entry, state store.State) ([]store.InboxRow, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	found, there, err := c.insertOrLock(ctx, q, entries, state)
	if err != nil {
		return nil, fail("mark inbox", err)
	}
	var set []store.Entry
	for _, i := range there {
		s := found[i].State
		undone := s == store.Cancelled && state == store.Dead
		if s != "" && s != store.Handled && !undone {
			set = append(set, entries[i])
		}
	}
	if len(set) == 0 {
		return found, nil
	}
	_, err = q.exec(ctx, c.sql(takeSQL), entryArgs(set, state)...)
	return found, fail("mark inbox", err)
}

// Lookup returns the committed rows of keys, once the standbys have them, too: a
// message is settled by what they say.
func (c *core) Lookup(ctx context.Context, keys []store.Key) ([]store.InboxRow, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	found := make([]store.InboxRow, len(keys))
	k := newKeys(len(keys))
	for _, key := range keys {
		k.add(key)
	}
	some := false
	err := c.besideSettled(ctx, func(tx pgx.Tx) (bool, error) {
		err := c.scanFound(ctx, pgxQuerier{tx}, lookupSQL, k.args(), func(n int, f store.InboxRow) { found[n], some = f, true })
		return some, err
	})
	if err != nil {
		return nil, fail("look up inbox", err)
	}
	return found, nil
}

// Purge deletes old handled rows.
func (c *core) Purge(ctx context.Context, before time.Time, max int) (int, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	tag, err := c.beside.Exec(ctx, c.sql(`DELETE FROM ~inbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM ~inbox
		WHERE state = 'handled' AND since < $1 ORDER BY since LIMIT $2 FOR UPDATE SKIP LOCKED))`), before, max)
	return int(tag.RowsAffected()), fail("purge inbox", err)
}
