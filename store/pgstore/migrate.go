package pgstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/store"
)

// Migrations are all steps of the schema that a store with these options has,
// to be printed without a connection. Without a Schema the tables are made in
// the first schema of the search_path of whoever runs them.
func Migrations(opts ...Options) ([]store.Migration, error) {
	o, err := oneOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	prefix := o.Prefix
	if o.Schema != "" {
		prefix = pgx.Identifier{o.Schema}.Sanitize() + "." + o.Prefix
	}
	return migrations(o, prefix), nil
}

// Migrations are all steps of the schema. Each notes in the table migration that
// it was run, so that it makes no difference who ran it.
func (c *core) Migrations() []store.Migration { return migrations(c.opts, c.prefix) }

func migrations(o Options, prefix string) []store.Migration {
	all := schema(max(1, o.Shards))
	names := strings.NewReplacer("~", prefix, "^", o.Prefix)
	for i := range all {
		m := &all[i]
		m.SQL = names.Replace(m.SQL + fmt.Sprintf("INSERT INTO ~migration (version, name) VALUES (%d, '%s');\n", m.Version, m.Name))
	}
	return all
}

// Migrate runs the steps that the database has not seen, each in a transaction,
// under a lock that keeps other processes from doing the same.
func (c *core) Migrate(ctx context.Context) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if c.opts.Schema != "" {
		if err := c.makeSchema(ctx); err != nil {
			return fail("create schema "+c.opts.Schema, err)
		}
	}
	for _, m := range c.Migrations() {
		if err := c.migrate(ctx, m); err != nil {
			return fail(fmt.Sprintf("migrate %s to version %d (%s)", c.name, m.Version, m.Name), err)
		}
	}
	return nil
}

func (c *core) makeSchema(ctx context.Context) error {
	var exists bool
	if err := c.work.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL`, pgx.Identifier{c.opts.Schema}.Sanitize()).Scan(&exists); err != nil || exists {
		return err
	}
	return pgx.BeginFunc(ctx, c.work, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, c.lock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{c.opts.Schema}.Sanitize())
		return err
	})
}

func (c *core) migrate(ctx context.Context, m store.Migration) error {
	return pgx.BeginTxFunc(ctx, c.work, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, c.lock); err != nil {
			return err
		}
		var done bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, c.sql(`~migration`)).Scan(&done); err != nil {
			return err
		}
		if done { // the first step has been run
			if err := tx.QueryRow(ctx, c.sql(`SELECT EXISTS (SELECT FROM ~migration WHERE version = $1)`), m.Version).Scan(&done); err != nil || done {
				return err
			}
		}
		return run(ctx, tx, m.SQL)
	})
}

// run runs statements that have no arguments, several at once.
func run(ctx context.Context, tx pgx.Tx, text string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, text).ReadAll()
	return err
}
