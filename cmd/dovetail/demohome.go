package main

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/jackc/pgx/v5/pgxpool"
)

// opener opens the tables of one of the demo's services.
type opener = func(ctx context.Context, service string) (shop.Store, error)

// checkHome refuses a URL that no linked store reads.
func checkHome(raw string) error {
	if err := checkStore(raw); err != nil {
		return err
	}
	_, err := homeOf(raw)
	return err
}

// homeOf says how the services keep their tables in a store: each has a SQLite
// file of its own, or a PostgreSQL schema.
func homeOf(raw string) (opener, error) {
	u, err := driver.ParseURL(raw)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "sqlite" {
		return homeInFiles(u)
	}
	return homeInSchemas(u)
}

func homeInFiles(u *url.URL) (opener, error) {
	s, err := parseSQLite(u)
	if err != nil {
		return nil, err
	}
	if s.prefix != "" {
		return nil, misuse("--store: the demo takes no prefix: each of its services has a file of its own below sqlite:DIR")
	}
	if info, err := os.Stat(s.path); err == nil && !info.IsDir() {
		return nil, misuse("--store %s is a file: each service of the demo has one of its own: want sqlite:DIR", driver.RedactURL(u))
	}
	return func(ctx context.Context, service string) (shop.Store, error) {
		if err := os.MkdirAll(s.path, 0o700); err != nil {
			return nil, err
		}
		return sqlitestore.Open(ctx, filepath.Join(s.path, service+".db"))
	}, nil
}

// demoConns is how many connections the transactions of one process use at most.
// The shop's own processes and those that look into the books must not use up
// the hundred that a server has as it comes.
const demoConns = 5

func homeInSchemas(u *url.URL) (opener, error) {
	s, err := parsePostgres(u)
	switch {
	case err != nil:
		return nil, err
	case s.prefix != "" || s.shards != 0:
		return nil, misuse("--store: the demo takes neither prefix nor shards: each of its services has a schema of its own, and schema=NAME is what the names of all begin with")
	}
	return func(ctx context.Context, service string) (shop.Store, error) {
		schema := or(s.schema, "eshop") + "_" + service
		config, err := pgstore.ParseConfig(s.url)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(s.url, "pool_max_conns") {
			config.MaxConns = demoConns
		}
		// The service's own statements name no schema.
		config.ConnConfig.RuntimeParams["search_path"] = schema
		pool, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		db, err := pgstore.NewSQL(ctx, pool, pgstore.Options{Schema: schema})
		if err != nil {
			pool.Close()
			return nil, err
		}
		return &pooled{db, pool}, nil
	}, nil
}

// pooled is a store with the connections that it was made of.
type pooled struct {
	*pgstore.SQLStore
	pool *pgxpool.Pool
}

// Close closes both.
func (p *pooled) Close() error {
	err := p.SQLStore.Close()
	p.pool.Close()
	return err
}
