package bench

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/jackc/pgx/v5"
)

// isDatabase reports whether a target is a database and not a transport.
func isDatabase(name string) bool {
	return name == "postgres" || name == "sqlite" || strings.HasPrefix(name, "postgres:") || strings.HasPrefix(name, "postgresql:")
}

// What a commit stands for.
const (
	savedPostgres = "commits synced, as PostgreSQL comes; JetStream writes to the file system, synced every 2 min"
	savedSQLite   = "commits synced (WAL, synchronous=FULL); JetStream writes to the file system, synced every 2 min"
)

// openDatabase opens a database and a NATS server of its own, for relays to
// publish to.
func openDatabase(ctx context.Context, name, dir string) (t *target, err error) {
	var ends []func(context.Context) error
	end := func(ctx context.Context) error {
		var errs []error
		for i := len(ends) - 1; i >= 0; i-- {
			errs = append(errs, ends[i](ctx))
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, end(context.WithoutCancel(ctx)))
		}
	}()
	broker, err := startServer(ctx, filepath.Join(dir, "nats-"+strings.NewReplacer(":", "-", "/", "-").Replace(redacted(name))))
	if err != nil {
		return nil, err
	}
	ends = append(ends, func(context.Context) error { return broker.stop() })
	bus := &ours{open: func(ctx context.Context) (driver.Conn, error) { return driver.Open(ctx, broker.url) }, middleware: []dovetail.Middleware{pass, pass, pass}}
	client, err := natsOf(ctx, bus.open)
	if err != nil {
		return nil, err
	}
	ends = append(ends, client.close)
	t = &target{name: name, close: end}
	raw := &rawBox{nats: client, url: broker.url}
	t.raw = raw
	if name == "sqlite" {
		files := filepath.Join(dir, "sqlite")
		if err := os.MkdirAll(files, 0o755); err != nil {
			return nil, err
		}
		t.kind, t.url, t.saved, raw.open = name, files, savedSQLite, openLiteRaw(files)
		t.ours = &oursBox[*sql.Tx]{bus: bus, engine: liteEngine(files), nats: client}
		t.server, err = liteVersion(ctx, files)
		return t, err
	}
	url := name
	if name == "postgres" {
		s, err := launch(ctx, name, servers.Postgres)
		if err != nil {
			return nil, err
		}
		ends = append(ends, func(context.Context) error { return s.Close() })
		url = s.URL()
	}
	t.name, t.kind, t.url, t.saved, raw.open = redacted(name), "postgres", url, savedPostgres, openPGRaw(url)
	t.ours = &oursBox[pgx.Tx]{bus: bus, engine: pgEngine(url), nats: client}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	t.server = "PostgreSQL " + conn.PgConn().ParameterStatus("server_version") + ", nats-server " + client.to.ConnectedServerVersion()
	return t, conn.Close(ctx)
}

func liteVersion(ctx context.Context, dir string) (version string, err error) {
	s, err := sqlitestore.Open(ctx, filepath.Join(dir, "version.db"))
	if err != nil {
		return "", err
	}
	err = s.DB().QueryRowContext(ctx, `SELECT 'SQLite ' || sqlite_version()`).Scan(&version)
	return version, errors.Join(err, s.Close(), removeDatabase(s.Path()))
}
