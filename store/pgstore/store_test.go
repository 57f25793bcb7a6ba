package pgstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/dovetail-go/dovetail/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m).Run()) }

// urlVariable tells the suite's child processes which server is meant.
const urlVariable = "DOVETAIL_PGSTORE_TEST_URL"

// server returns the URL of the server that the tests share.
func server(t testing.TB) string {
	t.Helper()
	if url := os.Getenv(urlVariable); url != "" {
		return url
	}
	url := servers.Shared(t, servers.Postgres).URL()
	if err := os.Setenv(urlVariable, url); err != nil {
		t.Fatal(err)
	}
	return url
}

// schema is the name of the schema that stands for a directory.
func schema(dir string) string {
	h := fnv.New64a()
	h.Write([]byte(dir))
	return fmt.Sprintf("t_%016x", h.Sum64())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Harness[pgx.Tx]{
		Durable: true, Open: openPgx, Sharded: openPgxShards, Steps: []store.Step{store.Sent, store.Moving, store.Retiring},
	})
}

func openPgx(t testing.TB, dir string) storetest.Database[pgx.Tx] {
	t.Helper()
	return openPgxShards(t, dir, 0)
}

func openPgxShards(t testing.TB, dir string, shards int) storetest.Database[pgx.Tx] {
	t.Helper()
	s, err := pgstore.Open(t.Context(), server(t), pgstore.Options{Schema: schema(dir), Shards: shards})
	must(t, err)
	return pgxDatabase(t, s, dir)
}

// pgxDatabase is a store as the suite uses it.
func pgxDatabase(t testing.TB, s *pgstore.Store, dir string) storetest.Database[pgx.Tx] {
	t.Helper()
	makeCounter(t, s.Pool(), schema(dir))
	fastLeaves(t, s.Pool(), dir)
	table := schema(dir) + ".counter"
	return storetest.Database[pgx.Tx]{
		DB: s,
		Count: func(ctx context.Context, tx pgx.Tx, key string) (n int64, err error) {
			err = tx.QueryRow(ctx, countSQL(table), key).Scan(&n)
			return n, err
		},
		Counts: func(ctx context.Context) (map[string]int64, error) { return counts(ctx, s.Pool(), table) },
		Spoil:  spoil(s.Pool(), schema(dir)),
		End:    func(ctx context.Context, tx pgx.Tx) { _, _ = tx.Exec(ctx, `SELECT 1/0`) },
		Cut: func(ctx context.Context, tx pgx.Tx) error {
			return cut(ctx, s.Pool(), func(pid *int) error { return tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(pid) })
		},
		Close: s.Close,
	}
}

// cut has the server end the connection of a transaction, and waits until it has.
func cut(ctx context.Context, pool *pgxpool.Pool, of func(pid *int) error) error {
	var pid int
	if err := of(&pid); err != nil {
		return err
	}
	var ended bool
	err := pool.QueryRow(ctx, `SELECT pg_terminate_backend($1, 10000)`, pid).Scan(&ended)
	if err == nil && !ended {
		err = fmt.Errorf("the server process %d did not end", pid)
	}
	return err
}

// spoil writes what cannot be read into rows of the outbox.
func spoil(pool *pgxpool.Pool, schema string) func(ctx context.Context, id string) error {
	return func(ctx context.Context, id string) error {
		_, err := pool.Exec(ctx, `UPDATE `+schema+`.dovetail_outbox SET headers = 'spoilt' || chr(10) || headers WHERE id = $1`, id)
		return err
	}
}

func TestSQLStore(t *testing.T) {
	storetest.Run(t, storetest.Harness[*sql.Tx]{
		Durable: true, Open: openSQL, Sharded: openSQLShards, Steps: []store.Step{store.Written, store.Moving, store.Retiring},
	})
}

func openSQL(t testing.TB, dir string) storetest.Database[*sql.Tx] {
	t.Helper()
	return openSQLShards(t, dir, 0)
}

func openSQLShards(t testing.TB, dir string, shards int) storetest.Database[*sql.Tx] {
	t.Helper()
	s, err := pgstore.OpenSQL(t.Context(), server(t), pgstore.Options{Schema: schema(dir), Shards: shards})
	must(t, err)
	makeCounter(t, s.Pool(), schema(dir))
	fastLeaves(t, s.Pool(), dir)
	table := schema(dir) + ".counter"
	return storetest.Database[*sql.Tx]{
		DB: s,
		Count: func(ctx context.Context, tx *sql.Tx, key string) (n int64, err error) {
			err = tx.QueryRowContext(ctx, countSQL(table), key).Scan(&n)
			return n, err
		},
		Counts: func(ctx context.Context) (map[string]int64, error) { return counts(ctx, s.Pool(), table) },
		Spoil:  spoil(s.Pool(), schema(dir)),
		End:    func(ctx context.Context, tx *sql.Tx) { _, _ = tx.ExecContext(ctx, `SELECT 1/0`) },
		Cut: func(ctx context.Context, tx *sql.Tx) error {
			return cut(ctx, s.Pool(), func(pid *int) error { return tx.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(pid) })
		},
		Close: s.Close,
	}
}

func makeCounter(t testing.TB, pool *pgxpool.Pool, schema string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `CREATE TABLE IF NOT EXISTS `+schema+`.counter (key text PRIMARY KEY, n bigint NOT NULL)`)
	must(t, err)
}

func countSQL(table string) string {
	return `INSERT INTO ` + table + ` AS c VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = c.n + 1 RETURNING n`
}

func counts(ctx context.Context, pool *pgxpool.Pool, table string) (map[string]int64, error) {
	rows, err := pool.Query(ctx, `SELECT key, n FROM `+table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]int64{}
	for rows.Next() {
		var key string
		var n int64
		if err := rows.Scan(&key, &n); err != nil {
			return nil, err
		}
		all[key] = n
	}
	return all, rows.Err()
}
