package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/verify"
)

// A sqliteURL is the URL of a SQLite file taken apart.
type sqliteURL struct{ path, prefix string }

func parseSQLite(u *url.URL) (s sqliteURL, err error) {
	s.path = u.Path
	if u.Opaque != "" {
		if s.path, err = url.PathUnescape(u.Opaque); err != nil {
			return s, misuse("store %s: write %%25 for %% in a path", driver.RedactURL(u))
		}
	}
	if s.path == "" || u.Host != "" && u.Host != "localhost" || u.User != nil {
		return s, misuse("store %s: want sqlite:FILE or sqlite:///path/to/FILE", driver.RedactURL(u))
	}
	p := driver.ParamsOf(u)
	s.prefix = p.String("prefix", "")
	if err := p.Err(); err != nil {
		return s, misuse("store %s: %w", driver.RedactURL(u), err)
	}
	return s, nil
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
	db, err := sqlitestore.Open(ctx, s.path, sqlitestore.Options{Prefix: s.prefix, NoMigration: o.unchanged, Busy: o.busy})
	if err != nil {
		return nil, err
	}
	return &opened[*sql.Tx]{DB: db, own: verify.Database[*sql.Tx]{
		DB: db, In: func(tx *sql.Tx) verify.Runner { return verify.SQL(tx, "?") }, Out: verify.SQL(db.DB(), "?"),
		Prefix: s.prefix, OneWriter: true, Close: db.Close,
		Drop: func(ctx context.Context) error { return dropSQLite(ctx, db, s.prefix) },
	}, look: func(ctx context.Context) []checkup { return lookSQLite(ctx, db) }}, nil
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

// lookSQLite asks the library what it is and how the file is kept.
func lookSQLite(ctx context.Context, db *sqlitestore.Store) []checkup {
	var version, mode string
	err := db.DB().QueryRowContext(ctx, `SELECT sqlite_version(), journal_mode FROM pragma_journal_mode`).Scan(&version, &mode)
	if err != nil {
		return []checkup{{"store: file", broken, err.Error(), "look whether it is a SQLite file, and whether this user may write it and its directory"}}
	}
	return []checkup{{"store: file", fine, fmt.Sprintf("SQLite %s, journal %s", version, mode), ""}}
}

func placeSQLite(u *url.URL) (place, error) { return parseSQLite(u) }

func (s sqliteURL) String() string { return s.path }

// migrations asks a store of the same kind that is made for the purpose, so that
// the one that is meant need not exist.
func (s sqliteURL) migrations(ctx context.Context) (_ []store.Migration, err error) {
	dir, err := os.MkdirTemp("", "dovetail-migrate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	db, err := sqlitestore.Open(ctx, filepath.Join(dir, "empty.db"), sqlitestore.Options{Prefix: s.prefix})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Migrations(), nil
}

// taken tells which steps the file has seen. One that does not exist has seen
// none, and is not made.
func (s sqliteURL) taken(ctx context.Context) (_ map[int]time.Time, err error) {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	db, err := sqlitestore.Open(ctx, s.path, sqlitestore.Options{Prefix: s.prefix, NoMigration: true})
	if err != nil {
		if strings.Contains(err.Error(), "tables are missing") {
			return nil, nil
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	prefix := s.prefix
	if prefix == "" {
		prefix = "dovetail_"
	}
	rows, err := db.DB().QueryContext(ctx, "SELECT version, at FROM "+prefix+"migration") // Open has checked the prefix
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	taken := map[int]time.Time{}
	for rows.Next() {
		var version int
		var at int64
		if err := rows.Scan(&version, &at); err != nil {
			return nil, err
		}
		taken[version] = time.UnixMicro(at).UTC()
	}
	return taken, rows.Err()
}

func (s sqliteURL) migrate(ctx context.Context) error {
	db, err := sqlitestore.Open(ctx, s.path, sqlitestore.Options{Prefix: s.prefix})
	if err != nil {
		return err
	}
	return db.Close()
}
