package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// canned answers every query with the same rows, or an error.
type canned struct {
	pgx.Rows
	rows [][]any
	at   int
	err  error
}

func (c *canned) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, c.err
}
func (c *canned) Query(context.Context, string, ...any) (pgx.Rows, error) { return c, c.err }
func (c *canned) Close()                                                  {}
func (c *canned) Err() error                                              { return nil }
func (c *canned) Next() bool                                              { c.at++; return c.at <= len(c.rows) }
func (c *canned) Scan(into ...any) error {
	for i, v := range c.rows[c.at-1] {
		switch p := into[i].(type) {
		case *string:
			*p = v.(string)
		case *int:
			*p = v.(int)
		case **string: // what the server's settings usually are: nobody looks
		default:
			return fmt.Errorf("no %T in a can", p)
		}
	}
	return nil
}

func TestDoctor_names_a_remedy_for_what_PostgreSQL_is_set_to(t *testing.T) {
	type looks = func(context.Context, pgxRunner) checkup
	var s postgresURL
	set := func(fsync, pages, commit string) [][]any {
		return [][]any{{"server_version", "15.9", nil}, {"fsync", fsync, nil}, {"full_page_writes", pages, nil}, {"synchronous_commit", commit, nil}}
	}
	for _, c := range []struct {
		look                         looks
		rows                         [][]any
		err                          error
		check, state, detail, remedy string
	}{
		{s.lookServer, set("on", "on", "on"), nil, "store: server", fine, "PostgreSQL 15.9, its settings keep what was committed", ""},
		{s.lookServer, set("on", "on", "off"), nil, "store: server", warning, "with synchronous_commit off: the last commits may be lost", "set synchronous_commit = on"},
		{s.lookServer, set("off", "off", "on"), nil, "store: server", warning, "with fsync and full_page_writes off: a crash may lose or damage", "set them on in postgresql.conf"},
		{s.lookServer, nil, errors.New("away"), "store: server", broken, "away", storeRemedy},
		{s.lookRights, nil, errors.New("away"), "store: permissions", broken, "away", storeRemedy},
		{s.lookConnections, nil, errors.New("away"), "store: connections", broken, "away", storeRemedy},
		{s.lookConnections, [][]any{{100, 80}}, nil, "store: connections", warning, "80 of 100 are taken, and a process of a service may want 26 more",
			"raise max_connections, or lower Options.Conns of the stores (pool_max_conns in their URLs)"},
		{s.lookConnections, [][]any{{120, 80}}, nil, "store: connections", fine, "80 of 120 are taken", ""}, // raised
		{s.lookConnections, [][]any{{100, 74}}, nil, "store: connections", fine, "74 of 100 are taken", ""}, // lowered
	} {
		says(t, examine(t, func(ctx context.Context, d *doctor) {
			d.checks = append(d.checks, c.look(ctx, pgxRunner{&canned{rows: c.rows, err: c.err}}))
		}), c.check, c.state, c.detail, c.remedy)
	}
}

// The statements that the doctor gives are run word for word; then the user whom
// they are for commits, and the doctor finds nothing.
func TestDoctor_grants_what_a_store_of_PostgreSQL_needs(t *testing.T) {
	root := servers.Shared(t, servers.Postgres).URL()
	admin, err := pgx.Connect(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	run := func(text string) {
		t.Helper()
		if _, err := admin.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	name := "doctor_" + dovetail.NewID()[24:]
	run("CREATE SCHEMA " + name + "; CREATE ROLE " + name + " LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA " + name + " TO " + name)
	defer run("DROP SCHEMA " + name + " CASCADE; DROP OWNED BY " + name + "; DROP ROLE " + name)
	owned, err := pgstore.Open(t.Context(), root, pgstore.Options{Schema: name})
	if err == nil {
		err = owned.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(root)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "x")
	plain := u.String()
	q := u.Query()
	q.Set("schema", name)
	u.RawQuery = q.Encode()
	look := func() []checkup {
		return examine(t, func(ctx context.Context, d *doctor) { d.store(ctx, u.String()) })
	}
	rights := func(all []checkup) checkup {
		for _, c := range all {
			if c.Check == "store: permissions" {
				return c
			}
		}
		t.Fatalf("it says nothing of permissions: %+v", all)
		return checkup{}
	}
	says(t, look(), "store", broken, "grant the connection's user the rights of the tables' owner", "look at the URL and the server")
	run("GRANT SELECT ON ALL TABLES IN SCHEMA " + name + " TO " + name) // it can be opened
	found := rights(look())
	statements, ok := strings.CutPrefix(found.Remedy, "have the tables' owner run: ")
	if found.State != broken || !strings.Contains(found.Detail, name+" may not INSERT, UPDATE, DELETE, TRUNCATE on dovetail_") || !ok {
		t.Fatalf("without rights it says %+v", found)
	}
	tables, sequences, _ := strings.Cut(statements, ";")
	run(tables)
	if found = rights(look()); found.State != broken || !strings.Contains(found.Detail, "may not USAGE on dovetail_seq") {
		t.Errorf("without the sequence it says %+v", found)
	}
	run(sequences)
	if found = rights(look()); found.State != fine {
		t.Errorf("once that was done: %+v", found)
	}
	db, err := pgstore.Open(t.Context(), plain, pgstore.Options{Schema: name, NoMigration: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := store.Writes{Token: dovetail.NewID(), Messages: []*driver.Message{{ID: dovetail.NewID(), Channel: "stock", Source: "catalog", Type: "catalog.counted.v1", Time: time.Now()}}}
	if err := db.Commit(t.Context(), tx, w); err != nil {
		t.Errorf("once that was done: %v", err)
	}
}
