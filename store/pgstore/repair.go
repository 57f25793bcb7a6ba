package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// RetryHeld makes lanes due at once.
func (c *core) RetryHeld(ctx context.Context, channel, name string) (int, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	tag, err := c.beside.Exec(ctx, c.sql(`UPDATE ~lane SET retry = to_timestamp(0) WHERE $1 IN ('', channel) AND $2 IN ('', name)`), channel, name)
	if err != nil {
		return 0, fail("retry held messages", err)
	}
	c.wake()
	return int(tag.RowsAffected()), nil
}

func (c *core) wake() {
	c.signal.Notify()
	c.tell()
}

// Edit replaces what a held message says, there and in the outbox.
func (c *core) Edit(ctx context.Context, shard int, p store.Position, m *driver.Message) error {
	text, err := store.AppendHeaders(nil, m)
	if err != nil {
		return fmt.Errorf("edit held message: %w", err)
	}
	n, err := c.repair(ctx, shard, []store.Position{p}, func(b *pgx.Batch, seqs []int64) {
		b.Queue(c.sql(`UPDATE ~held SET headers = $2, body = $3 WHERE seq = ANY($1::bigint[])`), seqs, string(text), m.Body)
		b.Queue(c.sql(`UPDATE ~outbox SET headers = $3, body = $4 WHERE shard = $1 AND seq = ANY($2::bigint[])`), shard, seqs, string(text), m.Body)
	})
	if err == nil && n == 0 {
		err = store.ErrNotHeld
	}
	return fail("edit held message", err)
}

// Discard deletes held messages, there and in the outbox.
func (c *core) Discard(ctx context.Context, shard int, ps []store.Position) (int, error) {
	n, err := c.repair(ctx, shard, ps, func(b *pgx.Batch, seqs []int64) {
		b.Queue(c.sql(`DELETE FROM ~held WHERE seq = ANY($1::bigint[])`), seqs)
		b.Queue(c.sql(`DELETE FROM ~outbox WHERE shard = $1 AND seq = ANY($2::bigint[])`), shard, seqs)
	})
	return n, fail("discard held messages", err)
}

// repair changes held rows that the relay is not trying, makes their lanes due,
// and returns how many they are. The relay sets nothing aside meanwhile.
func (c *core) repair(ctx context.Context, shard int, ps []store.Position, change func(b *pgx.Batch, seqs []int64)) (n int, err error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	asked := make([]int64, len(ps))
	for i, p := range ps {
		asked[i] = p.Seq
	}
	// Statements after the first must see what was committed meanwhile.
	err = pgx.BeginTxFunc(ctx, c.beside, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, c.sql(`SELECT FROM ~cursor WHERE shard = $1 FOR UPDATE`), shard); err != nil {
			return err
		}
		var seqs []int64
		var taken []string
		lanes := map[laneKey]bool{}
		err := each(ctx, pgxQuerier{tx}, c.sql(`SELECT h.seq, l.channel, l.name, l.taken > clock_timestamp()
			FROM ~held h JOIN ~lane l ON l.channel = h.channel AND l.name = h.lane
			WHERE h.seq = ANY($1::bigint[]) AND h.shard = $2 AND h.released IS NULL FOR UPDATE OF l`), []any{asked, shard}, func(r rowSet) error {
			var seq int64
			var l laneKey
			var busy bool
			err := r.Scan(&seq, &l.channel, &l.name, &busy)
			if busy {
				taken = append(taken, l.channel)
			}
			seqs, lanes[l] = append(seqs, seq), true
			return err
		})
		switch {
		case err != nil:
			return err
		case len(taken) > 0:
			return fmt.Errorf("%d of channel %s: %w", len(taken), taken[0], store.ErrTaken)
		case len(seqs) == 0:
			return nil
		}
		n = len(seqs)
		channels, names := laneArrays(lanes)
		b := &pgx.Batch{}
		change(b, seqs)
		b.Queue(c.sql(`UPDATE ~lane l SET retry = to_timestamp(0) FROM unnest($1::text[], $2::text[]) AS u (channel, name)
			WHERE l.channel = u.channel AND l.name = u.name`), channels, names)
		return errors.Join(tx.SendBatch(ctx, b).Close(), c.forgetEmpty(ctx, tx, channels, names))
	})
	if err != nil {
		return 0, err
	}
	c.wake()
	return n, nil
}
