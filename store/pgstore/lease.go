package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/store"
)

// system is the identifier of the cluster: a restore into a new one changes it,
// and with it the meaning of every transaction id that was written down.
const system = `(SELECT system_identifier::text FROM pg_control_system())`

// Acquire takes or extends a lease. Its end is told by the server's clock, which
// all processes share, and counted on from when the server got the statement;
// the caller counts from before. A lease from before a restore is over.
func (c *core) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	if err := store.Networked(); err != nil {
		return store.Lease{}, fail("lease "+name, err)
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	conn, err := c.work.Acquire(ctx)
	if err != nil {
		return store.Lease{}, fail("lease "+name, err)
	}
	defer conn.Release()
	l := store.Lease{Name: name, Holder: holder, Until: clock().Add(ttl)}
	var ahead int64 // of the lease as it was before
	err = conn.QueryRow(ctx, c.sql(`INSERT INTO ~lease AS l (name, holder, term, until, system)
		VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 microsecond', `+system+`)
		ON CONFLICT (name) DO UPDATE SET
			term = l.term + (l.holder <> $2 OR l.until <= clock_timestamp() OR l.system <> excluded.system)::int,
			holder = $2, until = excluded.until, system = excluded.system
		WHERE l.holder = $2 OR l.until <= clock_timestamp() OR l.system <> excluded.system
			OR l.until > clock_timestamp() + $4 * interval '1 microsecond'
		RETURNING term, coalesce((SELECT (date_part('epoch', until - clock_timestamp()) * 1000000)::bigint FROM ~lease
			WHERE name = $1 AND holder <> $2 AND until > clock_timestamp() + $4 * interval '1 microsecond' AND until < 'infinity'), 0)`),
		name, holder, ttl.Microseconds(), store.MaxLease(ttl).Microseconds()).Scan(&l.Term, &ahead)
	l.Ahead = time.Duration(ahead) * time.Microsecond
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Lease{}, fmt.Errorf("lease %s: %w", name, store.ErrLeased)
	}
	if err != nil {
		return store.Lease{}, fail("lease "+name, err)
	}
	c.lead(l)
	return l, nil
}

// Resign ends a lease early.
func (c *core) Resign(ctx context.Context, l store.Lease) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	c.lead(store.Lease{Name: l.Name})
	_, err := c.work.Exec(ctx, c.sql(`UPDATE ~lease SET until = '-infinity' WHERE name = $1 AND holder = $2 AND term = $3`),
		l.Name, l.Holder, l.Term)
	return fail("resign lease "+l.Name, err)
}

// lead remembers which leases this process holds, and until when it holds those
// of all shards, for tell.
func (c *core) lead(l store.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading[l.Name] = l.Until
	first := int64(math.MaxInt64)
	for shard := range c.shards {
		until := c.leading[fmt.Sprintf("relay/%d", shard)]
		if until.IsZero() {
			first = 0
			break
		}
		first = min(first, until.UnixNano())
	}
	c.leads.Store(first)
}

// fence is a row that is there while a term lasts. The lock keeps the lease from
// being taken until what is written under it is committed; without it, a leader
// that is slow to commit would change something after its successor has begun.
// Its arguments are the first three of the statement.
const fence = `fence AS MATERIALIZED (SELECT FROM ~lease
	WHERE name = $1 AND holder = $2 AND term = $3 AND until > clock_timestamp() FOR SHARE)`

func fenceArgs(t store.Term, args ...any) []any {
	return append([]any{t.Name, t.Holder, t.Term}, args...)
}

func fenced(doing string, t store.Term) error {
	return fmt.Errorf("%s: term %d of %s: %w", doing, t.Term, t.Name, store.ErrFenced)
}

// under runs do in a transaction in which the term holds until it commits.
func (c *core) under(ctx context.Context, t store.Term, doing string, do func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	// Statements after the first must see what was committed meanwhile.
	err := pgx.BeginTxFunc(ctx, c.work, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var holds bool
		if err := tx.QueryRow(ctx, c.sql(`WITH `+fence+` SELECT EXISTS (SELECT FROM fence)`), fenceArgs(t)...).Scan(&holds); err != nil {
			return err
		}
		if !holds {
			return fmt.Errorf("term %d of %s: %w", t.Term, t.Name, store.ErrFenced)
		}
		return do(ctx, tx)
	})
	return fail(doing, err)
}
