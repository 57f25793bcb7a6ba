package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/dovetail-go/dovetail/verify"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A postgresURL is the URL of a PostgreSQL database taken apart: what is libpq's
// (https://www.postgresql.org/docs/current/libpq-connect.html), and the store's
// own parameters schema, prefix and shards.
type postgresURL struct {
	url            string // libpq's
	shown          string // scheme, host and path
	schema, prefix string
	shards         int
}

func parsePostgres(u *url.URL) (s postgresURL, err error) {
	s.shown = driver.RedactURL(u)
	q, err := driver.Query(u)
	if err != nil {
		return s, misuse("store %s: %w", s.shown, err)
	}
	s.schema, s.prefix = q.Get("schema"), q.Get("prefix")
	if q.Has("shards") {
		if s.shards, err = strconv.Atoi(q.Get("shards")); err != nil || s.shards < 1 {
			return s, misuse("store %s: parameter shards: want a number from 1", s.shown)
		}
	}
	for _, own := range []string{"schema", "prefix", "shards"} {
		q.Del(own)
	}
	plain := *u
	plain.RawQuery = q.Encode()
	s.url = plain.String()
	if _, err := pgstore.ParseConfig(s.url); err != nil {
		return s, misuse("store %s: %w", s.shown, err)
	}
	if _, err := pgstore.Migrations(s.options()); err != nil {
		return s, misuse("store %s: %w", s.shown, err)
	}
	return s, nil
}

func (s postgresURL) options() pgstore.Options {
	return pgstore.Options{Schema: s.schema, Prefix: s.prefix, Shards: s.shards}
}

func openPostgres(ctx context.Context, u *url.URL, o storeOptions) (database, error) {
	s, err := parsePostgres(u)
	if err != nil {
		return nil, err
	}
	if o.prefix != "" {
		s.prefix = o.prefix
	}
	opts := s.options()
	opts.NoMigration = o.unchanged
	db, err := pgstore.Open(ctx, s.url, opts)
	if err != nil {
		return nil, err
	}
	return &opened[pgx.Tx]{
		DB: db,
		own: verify.Database[pgx.Tx]{
			DB: db, In: func(tx pgx.Tx) verify.Runner { return pgxRunner{tx} }, Out: pgxRunner{db.Pool()},
			Prefix: s.prefix, Close: db.Close,
			Drop: func(ctx context.Context) error { return s.drop(ctx, pgxRunner{db.Pool()}) },
		},
		time: func(ctx context.Context) (now time.Time, err error) {
			err = db.Pool().QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
			return now, err
		},
		look: func(ctx context.Context) []checkup { return s.look(ctx, pgxRunner{db.Pool()}) },
	}, nil
}

// A pgxRunner runs verify's statements, and the program's own.
type pgxRunner struct {
	on interface {
		Exec(ctx context.Context, text string, args ...any) (pgconn.CommandTag, error)
		Query(ctx context.Context, text string, args ...any) (pgx.Rows, error)
	}
}

// Exec runs a statement.
func (r pgxRunner) Exec(ctx context.Context, text string, args ...any) error {
	_, err := r.on.Exec(ctx, text, args...)
	return err
}

// Query calls row for each row of the result.
func (r pgxRunner) Query(ctx context.Context, text string, args []any, row func(scan func(...any) error) error) error {
	rows, err := r.on.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// inSchema are the tables, then the functions, whose names begin with a prefix.
const inSchema = `WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = coalesce(nullif($1, ''), current_schema()))
	SELECT 'TABLE', oid::regclass::text FROM pg_class
		WHERE relnamespace = (SELECT oid FROM here) AND relkind IN ('r', 'p') AND NOT relispartition AND starts_with(relname, $2)
	UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
		WHERE pronamespace = (SELECT oid FROM here) AND starts_with(proname, $2)
	ORDER BY 1 DESC`

// drop removes every table and function with the store's prefix.
func (s postgresURL) drop(ctx context.Context, on pgxRunner) error {
	var all []string
	err := on.Query(ctx, inSchema, []any{s.schema, s.prefix}, func(scan func(...any) error) error {
		var kind, name string
		err := scan(&kind, &name)
		all = append(all, "DROP "+kind+" IF EXISTS "+name+" CASCADE")
		return err
	})
	for _, text := range all {
		if err == nil {
			err = on.Exec(ctx, text)
		}
	}
	return err
}

func placePostgres(u *url.URL) (place, error) { return parsePostgres(u) }

func (s postgresURL) String() string { return s.shown }

// connected calls do with a connection of its own, for what needs no store.
func (s postgresURL) connected(ctx context.Context, do func(on pgxRunner) error) error {
	config, err := pgstore.ParseConfig(s.url)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return fmt.Errorf("store %s: %w", s.shown, err)
	}
	return errors.Join(do(pgxRunner{conn}), conn.Close(context.WithoutCancel(ctx)))
}

// migrations names the schema that the tables will be in, so that it makes no
// difference who runs the steps. Where the URL does not say which, the server is
// asked.
func (s postgresURL) migrations(ctx context.Context) ([]store.Migration, error) {
	if s.schema != "" {
		all, err := pgstore.Migrations(s.options())
		if err == nil {
			all[0].SQL = "CREATE SCHEMA IF NOT EXISTS " + pgx.Identifier{s.schema}.Sanitize() + ";\n" + all[0].SQL
		}
		return all, err
	}
	err := s.connected(ctx, func(on pgxRunner) error {
		return on.Query(ctx, `SELECT coalesce(current_schema(), '')`, nil, func(scan func(...any) error) error { return scan(&s.schema) })
	})
	if err != nil {
		return nil, err
	}
	return pgstore.Migrations(s.options())
}

func (s postgresURL) taken(ctx context.Context) (map[int]time.Time, error) {
	taken := map[int]time.Time{}
	table := or(s.prefix, "dovetail_") + "migration"
	if s.schema != "" {
		table = pgx.Identifier{s.schema}.Sanitize() + "." + table
	}
	return taken, s.connected(ctx, func(on pgxRunner) error {
		there := false
		err := on.Query(ctx, `SELECT to_regclass($1) IS NOT NULL`, []any{table}, func(scan func(...any) error) error { return scan(&there) })
		if err != nil || !there {
			return err
		}
		return on.Query(ctx, "SELECT version, at FROM "+table, nil, func(scan func(...any) error) error {
			var version int
			var at time.Time
			err := scan(&version, &at)
			taken[version] = at.UTC()
			return err
		})
	})
}

func (s postgresURL) migrate(ctx context.Context) error {
	db, err := pgstore.Open(ctx, s.url, s.options())
	if err != nil {
		return err
	}
	return db.Close()
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
