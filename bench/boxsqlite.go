package bench

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
)

const (
	liteCounter = `CREATE TABLE counter (key TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID`
	liteCount   = `INSERT INTO counter VALUES (?1, 1) ON CONFLICT (key) DO UPDATE SET n = n + 1`
)

// noHold: SQLite has one writer, and a transaction that has written keeps all
// others from it.
func noHold(context.Context, string) (func() error, error) { return nil, errAbsent }

func removeDatabase(path string) error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// liteEngine is store/sqlitestore, each round in a file of its own.
func liteEngine(dir string) engine[*sql.Tx] {
	var e engine[*sql.Tx]
	e.open = func(ctx context.Context, round string) (store.DB[*sql.Tx], func(context.Context) error, error) {
		path := filepath.Join(dir, round+".db")
		s, err := sqlitestore.Open(ctx, path)
		if err != nil {
			return nil, nil, err
		}
		if _, err := s.DB().ExecContext(ctx, liteCounter); err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
		return s, func(context.Context) error { return errors.Join(s.Close(), removeDatabase(path)) }, nil
	}
	e.change = func(ctx context.Context, _ string, tx *sql.Tx, row string) error {
		_, err := tx.ExecContext(ctx, liteCount, row)
		return err
	}
	e.hold = noHold
	return e
}

// liteRaw is a table of messages as one would write it by hand, with one
// connection to write and one to read, a write-ahead log, and every commit
// synced. What was published is deleted before more is read.
type liteRaw struct {
	path           string
	writer, reader *sql.DB
	stmts          map[string]*sql.Stmt
}

func openLiteRaw(dir string) func(ctx context.Context, round string) (Outbox, error) {
	return func(ctx context.Context, round string) (Outbox, error) {
		l := &liteRaw{path: filepath.Join(dir, round+".db"), stmts: map[string]*sql.Stmt{}}
		query := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"}, "_txlock": {"immediate"}}
		dsn := (&url.URL{Scheme: "file", Path: filepath.ToSlash(l.path), RawQuery: query.Encode()}).String()
		for _, db := range []**sql.DB{&l.writer, &l.reader} {
			var err error
			if *db, err = sql.Open("sqlite", dsn); err != nil {
				return nil, err
			}
			(*db).SetMaxOpenConns(1)
		}
		_, err := l.writer.ExecContext(ctx, liteCounter+`;
			CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL);
			CREATE TABLE inbox (grp TEXT, source TEXT, id TEXT, since INTEGER NOT NULL, PRIMARY KEY (grp, source, id)) WITHOUT ROWID`)
		for _, text := range []string{liteCount, liteInsert, liteDelete, liteEnter} {
			if err == nil {
				l.stmts[text], err = l.writer.PrepareContext(ctx, text)
			}
		}
		if err != nil {
			return nil, errors.Join(err, l.Close(ctx))
		}
		return l, nil
	}
}

const (
	liteInsert = `INSERT INTO outbox (channel, key, body) VALUES ('bench', ?, ?)`
	liteDelete = `DELETE FROM outbox WHERE seq <= ?`
	liteEnter  = `INSERT INTO inbox (grp, source, id, since) VALUES ('bench', 'bench', ?, unixepoch()) ON CONFLICT DO NOTHING`
)

// in runs do in a transaction.
func (l *liteRaw) in(ctx context.Context, do func(exec func(text string, args ...any) error) error) error {
	tx, err := l.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	err = do(func(text string, args ...any) error {
		_, err := tx.StmtContext(ctx, l.stmts[text]).ExecContext(ctx, args...)
		return err
	})
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (l *liteRaw) Fill(ctx context.Context, count int, body func(int) []byte) error {
	for n := 0; n < count; n += 1000 {
		err := l.in(ctx, func(exec func(string, ...any) error) error {
			for i := n; i < min(count, n+1000); i++ {
				b := body(i)
				if err := exec(liteInsert, KeyOf(b), b); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *liteRaw) Write(ctx context.Context, row string, body []byte) error {
	return l.in(ctx, func(exec func(string, ...any) error) error {
		return errors.Join(exec(liteCount, row), exec(liteInsert, KeyOf(body), body))
	})
}

func (l *liteRaw) Relay(ctx context.Context, to Destination) (func() error, error) {
	return relayOf(ctx, 1, func(ctx context.Context) (int, error) {
		rows, err := l.reader.QueryContext(ctx, `SELECT seq, channel, key, body FROM outbox ORDER BY seq LIMIT ?`, rawTake)
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		var last int64
		var bodies [][]byte
		for rows.Next() {
			var channel, key string
			var body []byte
			if err := rows.Scan(&last, &channel, &key, &body); err != nil {
				return 0, err
			}
			bodies = append(bodies, body)
		}
		if err := rows.Err(); err != nil || len(bodies) == 0 {
			return 0, err
		}
		if err := to.Publish(ctx, bodies); err != nil {
			return 0, err
		}
		return len(bodies), l.in(ctx, func(exec func(string, ...any) error) error { return exec(liteDelete, last) })
	}), nil
}

func (l *liteRaw) Enter(ctx context.Context, ids []string) error {
	return l.in(ctx, func(exec func(string, ...any) error) error {
		for _, id := range ids {
			if err := exec(liteEnter, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Hold is not possible: see noHold.
func (l *liteRaw) Hold(ctx context.Context) (func() error, error) { return noHold(ctx, "") }

func (l *liteRaw) Close(context.Context) error {
	var errs []error
	for _, s := range l.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, l.writer.Close(), l.reader.Close(), removeDatabase(l.path))...)
}
