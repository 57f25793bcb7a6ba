package pgstore_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/dovetail-go/dovetail/store/storetest"
)

// The database's default may be another isolation than the server's.
func TestStore_at_repeatable_read(t *testing.T) {
	storetest.Run(t, storetest.Harness[pgx.Tx]{
		Durable: true, Open: openRepeatable, Sharded: openPgxShards,
		KnownGaps: map[string]string{"Kill": "TestStore kills"},
	})
}

func openRepeatable(t testing.TB, dir string) storetest.Database[pgx.Tx] {
	t.Helper()
	config, err := pgxpool.ParseConfig(server(t))
	must(t, err)
	config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	s, err := pgstore.New(t.Context(), pool, pgstore.Options{Schema: schema(dir)})
	must(t, err)
	d := pgxDatabase(t, s, dir)
	d.Close = func() error {
		defer pool.Close()
		return s.Close()
	}
	d.Again = pgstore.Retryable
	return d
}
