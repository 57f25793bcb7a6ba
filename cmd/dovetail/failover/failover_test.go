// Package failover_test breaks a PostgreSQL pair, a primary and a synchronous
// standby, while services work over it and NATS. It is here because here all
// modules meet.
package failover_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
	_ "github.com/dovetail-go/dovetail/transport/natsbus" // nats:
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

func TestServices_outlive_the_nodes_of_their_database(t *testing.T) {
	broker := servers.Start(t, servers.NATS)
	pair := servers.StartCluster(t, servers.Postgres, 2)
	db := database{pair.URL()}
	if err := db.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	clustertest.RunPair(t, clustertest.Harness{URL: broker.URL() + "?partitions=6", Ordered: true}, pair, db)
}

// database is the pair as the services have it: each with connections of its own.
type database struct{ url string }

// prepare makes the table of numbers.
func (d database) prepare(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `CREATE TABLE number (name text PRIMARY KEY, n int NOT NULL)`)
	return err
}

// Open brings ten connections for transactions, so that the pair has enough for all
// services.
func (d database) Open(ctx context.Context) (store.DB[pgx.Tx], func() error, error) {
	s, err := pgstore.Open(ctx, d.url+"&pool_ping_timeout=2s", pgstore.Options{Conns: 10})
	if err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}

func (d database) Get(ctx context.Context, tx pgx.Tx, name string) (n int, err error) {
	err = tx.QueryRow(ctx, `SELECT coalesce((SELECT n FROM number WHERE name = $1 FOR UPDATE), 0)`, name).Scan(&n)
	return n, err
}

func (d database) Put(ctx context.Context, tx pgx.Tx, name string, n int) error {
	_, err := tx.Exec(ctx, `INSERT INTO number (name, n) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET n = $2`, name, n)
	return err
}

func (d database) All(ctx context.Context) (map[string]int, error) {
	conn, err := pgx.Connect(ctx, d.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT name, n FROM number`)
	if err != nil {
		return nil, err
	}
	all, name, n := map[string]int{}, "", 0
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		all[name] = n
		return nil
	})
	return all, err
}
