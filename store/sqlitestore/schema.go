package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// schema is every step. seq is AUTOINCREMENT because a plain rowid is used
// again once the highest row was deleted, and the relay, which reads seq >
// last, would never see the new one.
var schema = []store.Migration{{
	Version: 1,
	Name:    "outbox, inbox, leases",
	SQL: `CREATE TABLE ~outbox (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	id      TEXT NOT NULL,
	channel TEXT NOT NULL,
	key     TEXT NOT NULL,
	headers TEXT NOT NULL,
	body    BLOB,
	written INTEGER NOT NULL -- microseconds since 1970, as all times here
);
CREATE TABLE ~cursor (
	shard       INTEGER PRIMARY KEY,
	seq         INTEGER NOT NULL,
	service     TEXT NOT NULL,
	incarnation TEXT NOT NULL
);
CREATE TABLE ~lease (
	name   TEXT PRIMARY KEY,
	holder TEXT NOT NULL,
	term   INTEGER NOT NULL,
	until  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE ~lane (
	channel  TEXT NOT NULL,
	name     TEXT NOT NULL,
	attempts INTEGER NOT NULL,
	error    TEXT NOT NULL,
	retry    INTEGER NOT NULL,
	PRIMARY KEY (channel, name)
) WITHOUT ROWID;
CREATE INDEX ~lane_retry ON ~lane (retry);
CREATE TABLE ~held (
	seq      INTEGER PRIMARY KEY, -- of the outbox
	id       TEXT NOT NULL,
	channel  TEXT NOT NULL,
	key      TEXT NOT NULL,
	headers  TEXT NOT NULL,
	body     BLOB,
	lane     TEXT NOT NULL,
	since    INTEGER NOT NULL,
	released INTEGER NOT NULL DEFAULT 0 -- when it was published; 0: it was not
);
CREATE INDEX ~held_lane ON ~held (channel, lane, seq) WHERE released = 0;
CREATE INDEX ~held_released ON ~held (released) WHERE released > 0;
CREATE TABLE ~later (
	n       INTEGER PRIMARY KEY AUTOINCREMENT,
	due     INTEGER NOT NULL,
	source  TEXT NOT NULL,
	id      TEXT NOT NULL,
	channel TEXT NOT NULL,
	key     TEXT NOT NULL,
	headers TEXT NOT NULL,
	body    BLOB
);
CREATE INDEX ~later_due ON ~later (due, n);
CREATE INDEX ~later_id ON ~later (id, source);
CREATE TABLE ~token (
	token TEXT PRIMARY KEY,
	at    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE ~inbox (
	n            INTEGER PRIMARY KEY,
	grp          TEXT NOT NULL,
	handler      TEXT NOT NULL,
	source       TEXT NOT NULL,
	id           TEXT NOT NULL,
	state        TEXT NOT NULL,
	requeues     INTEGER NOT NULL,
	since        INTEGER NOT NULL,
	status       TEXT NOT NULL DEFAULT '',
	content_type TEXT NOT NULL DEFAULT '',
	reply        BLOB
);
CREATE UNIQUE INDEX ~inbox_key ON ~inbox (grp, handler, source, id);
CREATE INDEX ~inbox_since ON ~inbox (since) WHERE state = 'handled';
`,
}, {
	Version: 2,
	Name:    "held messages that are being tried",
	SQL: `ALTER TABLE ~lane ADD COLUMN taken INTEGER NOT NULL DEFAULT 0; -- until when
`,
}}

// sql returns a statement with the prefix of this store's tables.
func (s *Store) sql(text string) string { return strings.ReplaceAll(text, "~", s.opts.Prefix) }

// Migrations are all steps of the schema.
func (s *Store) Migrations() []store.Migration {
	all := make([]store.Migration, len(schema))
	for i, m := range schema {
		m.SQL = s.sql(m.SQL)
		all[i] = m
	}
	return all
}

// Migrate runs the steps that the file has not seen, each in a transaction.
func (s *Store) Migrate(ctx context.Context) error {
	for _, m := range s.Migrations() {
		if err := s.migrate(ctx, m); err != nil {
			return fail(fmt.Sprintf("migrate %s to version %d (%s)", s.path, m.Version, m.Name), err)
		}
	}
	return nil
}

func (s *Store) migrate(ctx context.Context, m store.Migration) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	var exists bool
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = ?`, s.opts.Prefix+"migration").Scan(&exists)
	if err != nil {
		return err
	}
	if !exists {
		_, err = tx.ExecContext(ctx, s.sql(`CREATE TABLE ~migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL, at INTEGER NOT NULL)`))
		if err != nil {
			return err
		}
	}
	var done int
	err = tx.QueryRowContext(ctx, s.sql(`SELECT count(*) FROM ~migration WHERE version = ?`), m.Version).Scan(&done)
	if err != nil || done > 0 {
		return err
	}
	if _, err = tx.ExecContext(ctx, m.SQL); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, s.sql(`INSERT INTO ~migration VALUES (?, ?, ?)`), m.Version, m.Name, micros(time.Now()))
	if err != nil {
		return err
	}
	return tx.Commit()
}

// statements are what the store runs often, prepared once. A statement cannot
// be prepared while the only writing connection is taken, so all of them are
// prepared when the store opens.
type statements struct {
	insert, insertMany *sql.Stmt // outbox rows: one, and manyRows
	later              *sql.Stmt
	token              *sql.Stmt
	enter, enterMany   *sql.Stmt // inbox rows: one, and manyRows
	found, take        *sql.Stmt
	reply              *sql.Stmt
	next               *sql.Stmt // on the readers

	taken *sql.Stmt // nobody runs it: it shows that the tables are of the latest version

	// The outermost savepoint of package outbox, which is set for every message
	// of a batch.
	savepoint, rollbackTo, release *sql.Stmt
}

const outermost = "dovetail_1"

// manyRows is how many rows the prepared multi-row insert takes.
const manyRows = 32

const (
	insertSQL = `INSERT INTO ~outbox (id, channel, key, headers, body, written) VALUES (?, ?, ?, ?, ?, ?)`
	laterSQL  = `INSERT INTO ~later (due, source, id, channel, key, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?)`
	tokenSQL  = `INSERT INTO ~token (token, at) VALUES (?, ?)`
	enterSQL  = `INSERT INTO ~inbox (grp, handler, source, id, state, requeues, since) VALUES (?, ?, ?, ?, 'handled', ?, ?)`
	passSQL   = ` ON CONFLICT (grp, handler, source, id) DO NOTHING`
	foundSQL  = `SELECT state, requeues, status, content_type, reply FROM ~inbox
		WHERE grp = ? AND handler = ? AND source = ? AND id = ?`
	takeSQL = `UPDATE ~inbox SET state = 'handled', requeues = max(requeues, ?), since = max(since, ?)
		WHERE grp = ? AND handler = ? AND source = ? AND id = ?`
	replySQL = `UPDATE ~inbox SET status = ?, content_type = ?, reply = ?
		WHERE grp = ? AND handler = ? AND source = ? AND id = ?`
	nextSQL  = `SELECT seq, id, channel, key, headers, body FROM ~outbox WHERE seq > ? ORDER BY seq LIMIT ?`
	takenSQL = `SELECT taken FROM ~lane`
)

func (s *Store) prepare(ctx context.Context) error {
	var err error
	on := func(db *sql.DB, text string) *sql.Stmt {
		if err != nil {
			return nil
		}
		var st *sql.Stmt
		if st, err = db.PrepareContext(ctx, s.sql(text)); err == nil {
			s.prepared = append(s.prepared, st)
		}
		return st
	}
	s.stmt = statements{
		insert:     on(s.writer, insertSQL),
		insertMany: on(s.writer, insertSQL+strings.Repeat(", (?, ?, ?, ?, ?, ?)", manyRows-1)),
		later:      on(s.writer, laterSQL),
		token:      on(s.writer, tokenSQL),
		enter:      on(s.writer, enterSQL+passSQL),
		enterMany:  on(s.writer, enterSQL+strings.Repeat(", (?, ?, ?, ?, 'handled', ?, ?)", manyRows-1)+passSQL),
		found:      on(s.writer, foundSQL),
		take:       on(s.writer, takeSQL),
		reply:      on(s.writer, replySQL),
		next:       on(s.readers, nextSQL),
		taken:      on(s.readers, takenSQL),
		savepoint:  on(s.writer, "SAVEPOINT "+outermost),
		rollbackTo: on(s.writer, "ROLLBACK TO "+outermost),
		release:    on(s.writer, "RELEASE "+outermost),
	}
	return err
}

// micros is a time as a column.
func micros(t time.Time) int64 { return t.UnixMicro() }

// timeOf undoes micros; 0 is the zero time.
func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
