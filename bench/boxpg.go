package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// boxConns is how many connections those who write have, on both sides.
const boxConns = 20

const counterTable = `CREATE TABLE %[1]s.counter (key text PRIMARY KEY, n bigint NOT NULL)`

const countRow = `INSERT INTO %s.counter VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = counter.n + 1`

func pgPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = boxConns
	return pgxpool.NewWithConfig(ctx, config)
}

// pgEngine is store/pgstore, each round in a schema of its own.
func pgEngine(url string) engine[pgx.Tx] {
	var e engine[pgx.Tx]
	e.open = func(ctx context.Context, round string) (store.DB[pgx.Tx], func(context.Context) error, error) {
		s, err := pgstore.Open(ctx, url, pgstore.Options{Schema: round, Conns: boxConns})
		if err != nil {
			return nil, nil, err
		}
		if _, err := s.Pool().Exec(ctx, fmt.Sprintf(counterTable, round)); err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
		return s, func(ctx context.Context) error {
			_, err := s.Pool().Exec(ctx, `DROP SCHEMA `+round+` CASCADE`)
			return errors.Join(err, s.Close())
		}, nil
	}
	e.change = func(ctx context.Context, round string, tx pgx.Tx, row string) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(countRow, round), row)
		return err
	}
	e.hold = func(ctx context.Context, round string) (func() error, error) { return pgHold(ctx, url, round) }
	return e
}

func pgHold(ctx context.Context, url, schema string) (func() error, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	end := func() error { return conn.Close(context.WithoutCancel(ctx)) }
	if _, err = conn.Exec(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ`); err == nil {
		_, err = conn.Exec(ctx, fmt.Sprintf(countRow, schema), "held")
	}
	if err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

// pgRaw is a table of messages as one would write it by hand. Its relay takes
// up to 500 rows that nobody else has taken, publishes them, and deletes them.
// Several take turns, so that the database and the broker work at once, which
// no order would survive.
type pgRaw struct {
	pool   *pgxpool.Pool
	url    string
	schema string
}

const (
	rawTake    = 500
	rawWorkers = 2
	rawPoll    = 2 * time.Millisecond
)

func openPGRaw(url string) func(ctx context.Context, round string) (Outbox, error) {
	return func(ctx context.Context, round string) (Outbox, error) {
		pool, err := pgPool(ctx, url)
		if err != nil {
			return nil, err
		}
		_, err = pool.Exec(ctx, fmt.Sprintf(`CREATE SCHEMA %[1]s; `+counterTable+`;
			CREATE TABLE %[1]s.outbox (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, channel text NOT NULL, key text NOT NULL, body bytea NOT NULL);
			CREATE TABLE %[1]s.inbox (grp text, source text, id text, since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (grp, source, id))`, round))
		if err != nil {
			pool.Close()
			return nil, err
		}
		return &pgRaw{pool, url, round}, nil
	}
}

func (p *pgRaw) sql(text string) string { return fmt.Sprintf(text, p.schema) }

// Fill copies, a thousand rows at a time.
func (p *pgRaw) Fill(ctx context.Context, count int, body func(int) []byte) error {
	for n := 0; n < count; {
		size := min(1000, count-n)
		rows := pgx.CopyFromSlice(size, func(i int) ([]any, error) {
			b := body(n + i)
			return []any{"bench", KeyOf(b), b}, nil
		})
		if _, err := p.pool.CopyFrom(ctx, pgx.Identifier{p.schema, "outbox"}, []string{"channel", "key", "body"}, rows); err != nil {
			return err
		}
		n += size
	}
	return nil
}

func (p *pgRaw) Write(ctx context.Context, row string, body []byte) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, p.sql(countRow), row); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	b := &pgx.Batch{}
	b.Queue(p.sql(`INSERT INTO %s.outbox (channel, key, body) VALUES ($1, $2, $3)`), "bench", KeyOf(body), body)
	b.Queue(`COMMIT`)
	return tx.SendBatch(ctx, b).Close()
}

func (p *pgRaw) Relay(ctx context.Context, to Destination) (func() error, error) {
	return relayOf(ctx, rawWorkers, func(ctx context.Context) (n int, err error) {
		err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, p.sql(`SELECT seq, channel, key, body FROM %s.outbox ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED`), rawTake)
			if err != nil {
				return err
			}
			var seqs []int64
			var bodies [][]byte
			var seq int64
			var channel, key string
			var body []byte
			if _, err := pgx.ForEachRow(rows, []any{&seq, &channel, &key, &body}, func() error {
				seqs, bodies = append(seqs, seq), append(bodies, body)
				body = nil
				return nil
			}); err != nil || len(seqs) == 0 {
				return err
			}
			if err := to.Publish(ctx, bodies); err != nil {
				return err
			}
			n = len(seqs)
			_, err = tx.Exec(ctx, p.sql(`DELETE FROM %s.outbox WHERE seq = ANY($1)`), seqs)
			return err
		})
		return n, err
	}), nil
}

func (p *pgRaw) Enter(ctx context.Context, ids []string) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	b.Queue(p.sql(`INSERT INTO %s.inbox (grp, source, id) SELECT 'bench', 'bench', id FROM unnest($1::text[]) id ON CONFLICT DO NOTHING`), ids)
	b.Queue(`COMMIT`)
	return tx.SendBatch(ctx, b).Close()
}

func (p *pgRaw) Hold(ctx context.Context) (func() error, error) { return pgHold(ctx, p.url, p.schema) }

func (p *pgRaw) Close(ctx context.Context) error {
	defer p.pool.Close()
	_, err := p.pool.Exec(ctx, p.sql(`DROP SCHEMA %s CASCADE`))
	return err
}
