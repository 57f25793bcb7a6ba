package pgstore_test

import (
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/dovetail-go/dovetail/store/storetest"
)

// The database's default may be another isolation than the server's. Only cases
// whose transactions are open side by side can tell.
func TestStore_at_repeatable_read(t *testing.T) {
	storetest.Run(t, storetest.Harness[pgx.Tx]{
		Durable: true, Open: openRepeatable,
		Only: regexp.MustCompile(`^(Writers|Next|Savepoint|Commit|Promote|Token|Held_message_is_not_forgotten|Term|Inbox_lets|Migrate)_`),
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
