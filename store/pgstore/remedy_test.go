package pgstore_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// Each error of the server that somebody must act on says what to do, and with
// that done the store works.
func TestErrors_of_the_server_name_remedies_that_are_right(t *testing.T) {
	admin := func(t *testing.T, text, name string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), server(t))
		must(t, err)
		defer conn.Close(context.Background())
		_, err = conn.PgConn().Exec(t.Context(), strings.ReplaceAll(text, "$", name)).ReadAll()
		must(t, err)
	}
	// works opens the store and commits.
	works := func(t *testing.T, url string, o pgstore.Options) error {
		t.Helper()
		db, err := pgstore.Open(t.Context(), url, o)
		if err != nil {
			return err
		}
		defer func() { must(t, db.Close()) }()
		tx, err := db.Begin(t.Context())
		if err != nil {
			return err
		}
		if err := db.Commit(t.Context(), tx, store.Writes{Token: dovetail.NewID()}); err != nil {
			return errors.Join(err, db.Rollback(t.Context(), tx))
		}
		return nil
	}
	as := func(t *testing.T, role string, query ...string) string {
		t.Helper()
		u, err := url.Parse(server(t))
		must(t, err)
		if role != "" {
			u.User = url.UserPassword(role, "x")
		}
		u.RawQuery += strings.Join(append([]string{""}, query...), "&")
		return u.String()
	}
	for name, c := range map[string]struct {
		says   string
		before string // $ is the name of the schema, and of a role
		url    func(t *testing.T, role string) string
		opts   pgstore.Options
		after  string
		then   func(t *testing.T, role string) string
		fresh  pgstore.Options
	}{
		"no tables": {says: "run Migrate or `dovetail migrate`", opts: pgstore.Options{NoMigration: true},
			before: `CREATE SCHEMA $`},
		"no rights": {says: "grant the connection's user the rights of the tables' owner", opts: pgstore.Options{NoMigration: true}, fresh: pgstore.Options{NoMigration: true},
			before: `CREATE ROLE $ LOGIN PASSWORD 'x'; CREATE ROLE $_owner; CREATE SCHEMA $ AUTHORIZATION $_owner; GRANT USAGE ON SCHEMA $ TO $`,
			url:    func(t *testing.T, role string) string { return as(t, role) },
			after:  `GRANT $_owner TO $`},
		"read only": {says: "connect to the primary, with target_session_attrs=read-write", opts: pgstore.Options{NoMigration: true}, fresh: pgstore.Options{NoMigration: true},
			before: `CREATE SCHEMA $`,
			url: func(t *testing.T, _ string) string {
				return as(t, "", "options=-c%20default_transaction_read_only%3Don")
			},
			then: func(t *testing.T, _ string) string { return as(t, "", "target_session_attrs=read-write") }},
		"no connections left": {says: "lower Options.Conns or raise max_connections", opts: pgstore.Options{NoMigration: true}, fresh: pgstore.Options{NoMigration: true},
			before: `CREATE ROLE $ SUPERUSER LOGIN PASSWORD 'x'; CREATE SCHEMA $; CREATE ROLE $_few LOGIN PASSWORD 'x' CONNECTION LIMIT 0; GRANT ALL ON SCHEMA $ TO $_few`,
			url:    func(t *testing.T, role string) string { return as(t, role+"_few") },
			after:  `ALTER ROLE $_few CONNECTION LIMIT 100; GRANT ALL ON ALL TABLES IN SCHEMA $ TO $_few; GRANT ALL ON ALL SEQUENCES IN SCHEMA $ TO $_few`},
	} {
		t.Run(name, func(t *testing.T) {
			role := schema(t.TempDir())
			admin(t, c.before, role)
			c.opts.Schema, c.fresh.Schema = role, role
			if c.fresh.NoMigration { // the tables are there
				s, err := pgstore.Open(t.Context(), server(t), pgstore.Options{Schema: role})
				must(t, err)
				must(t, s.Close())
				if name == "no rights" {
					admin(t, `DO 'DECLARE r record; BEGIN FOR r IN SELECT oid::regclass AS n FROM pg_class WHERE relnamespace = ''$''::regnamespace AND relkind IN (''r'', ''p'') LOOP EXECUTE format(''ALTER TABLE %s OWNER TO $_owner'', r.n); END LOOP; END'`, role)
				}
			}
			address := as(t, "")
			if c.url != nil {
				address = c.url(t, role)
			}
			if err := works(t, address, c.opts); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want one that says %q", err, c.says)
			}
			if c.after != "" {
				admin(t, c.after, role)
			}
			if c.then != nil {
				address = c.then(t, role)
			}
			if err := works(t, address, c.fresh); err != nil {
				t.Errorf("once that was done: %v", err)
			}
		})
	}
}
