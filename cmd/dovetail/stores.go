package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/verify"
)

// A database is an open store of whatever kind, without the type of its
// transactions.
type database interface {
	store.Relay
	store.Holding
	Lookup(ctx context.Context, keys []store.Key) ([]store.Found, error)
	Close() error

	// relay has svc publish what is in the outbox.
	relay(svc *dovetail.Service, o outbox.Options) func(context.Context) (outbox.Stats, error)
	// probe begins a transaction that writes, and rolls it back.
	probe(ctx context.Context) error
	// clock is the server's time; ok is false where the server is this machine.
	clock(ctx context.Context) (now time.Time, ok bool, err error)
	// verify is the store as dovetail verify works on it.
	verify() verify.Store
}

// opened is a database whose transactions are Tx.
type opened[Tx any] struct {
	store.DB[Tx]
	own  verify.Database[Tx]
	time func(ctx context.Context) (time.Time, error) // nil where the server is this machine
}

// Close closes the database.
func (o *opened[Tx]) Close() error { return o.own.Close() }

func (o *opened[Tx]) relay(svc *dovetail.Service, opts outbox.Options) func(context.Context) (outbox.Stats, error) {
	return outbox.New(svc, o.DB, opts).Stats
}

func (o *opened[Tx]) probe(ctx context.Context) error {
	tx, err := o.Begin(ctx)
	if err != nil {
		return err
	}
	return o.Rollback(ctx, tx)
}

func (o *opened[Tx]) clock(ctx context.Context) (now time.Time, ok bool, err error) {
	if o.time == nil {
		return now, false, nil
	}
	now, err = o.time(ctx)
	return now, true, err
}

func (o *opened[Tx]) verify() verify.Store { return verify.NewStore(o.own) }

// storeOptions are what commands say beyond the URL.
type storeOptions struct {
	prefix    string // of the tables; empty: what the URL says
	unchanged bool   // migrations are not run
	existing  bool   // a database that does not exist is not made
}

// storeKinds are the stores that are linked in, by URL scheme.
var storeKinds = map[string]func(ctx context.Context, u *url.URL, o storeOptions) (database, error){
	"sqlite": openSQLite,
}

// openStore opens the store that a URL names, of whatever kind.
func openStore(ctx context.Context, raw string, o storeOptions) (database, error) {
	if err := checkStore(raw); err != nil {
		return nil, err
	}
	u, _ := url.Parse(raw) // checkStore has
	return storeKinds[u.Scheme](ctx, u, o)
}

// checkStore refuses a URL that no linked store reads.
func checkStore(raw string) error {
	if err := checkURL(raw); err != nil {
		return err
	}
	scheme, _, _ := strings.Cut(raw, ":")
	if storeKinds[scheme] == nil {
		return misuse("no store for %s: is linked in: want one of %s:", scheme, strings.Join(storeSchemes(), ":, "))
	}
	return nil
}

func openSQLite(ctx context.Context, u *url.URL, o storeOptions) (database, error) {
	s, err := parseSQLite(u)
	if err != nil {
		return nil, err
	}
	if o.existing {
		if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("store %s does not exist: look at the path, or make it with dovetail migrate up", s.path)
		}
	}
	if o.prefix != "" {
		s.prefix = o.prefix
	}
	db, err := sqlitestore.Open(ctx, s.path, sqlitestore.Options{Prefix: s.prefix, NoMigration: o.unchanged})
	if err != nil {
		return nil, err
	}
	return &opened[*sql.Tx]{DB: db, own: verify.Database[*sql.Tx]{
		DB: db, In: func(tx *sql.Tx) verify.Runner { return verify.SQL(tx, "?") }, Out: verify.SQL(db.DB(), "?"),
		Prefix: s.prefix, OneWriter: true, Close: db.Close,
		Drop: func(ctx context.Context) error { return dropSQLite(ctx, db, s.prefix) },
	}}, nil
}

// parseSQLite takes the URL of a SQLite file apart.
func parseSQLite(u *url.URL) (s sqliteURL, err error) {
	s.path = u.Path
	if u.Opaque != "" {
		if s.path, err = url.PathUnescape(u.Opaque); err != nil {
			return s, misuse("store %s: path: %v", u, err)
		}
	}
	if s.path == "" || u.Host != "" && u.Host != "localhost" {
		return s, misuse("store %s: want sqlite:FILE or sqlite:///path/to/FILE", u)
	}
	p := driver.ParamsOf(u)
	s.prefix = p.String("prefix", "")
	if err := p.Err(); err != nil {
		return s, misuse("store %s: %w", u, err)
	}
	return s, nil
}

// dropSQLite removes every table with a prefix.
func dropSQLite(ctx context.Context, db *sqlitestore.Store, prefix string) error {
	out := verify.SQL(db.DB(), "?")
	var names []string
	err := out.Query(ctx, `SELECT name FROM sqlite_master WHERE type = 'table'`, nil, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
		return err
	})
	for _, name := range names {
		if err == nil {
			err = out.Exec(ctx, "DROP TABLE "+name)
		}
	}
	return err
}
