package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/rogpeppe/go-internal/testscript"
)

// inStore runs a transaction in a script's SQLite file, or in the PostgreSQL
// schema that a URL names.
func inStore(ts *testscript.TestScript, where string, do func(ctx context.Context, db store.DB[*sql.Tx], tx *sql.Tx) store.Writes) {
	ctx := context.Background()
	var db interface {
		store.DB[*sql.Tx]
		Close() error
	}
	var err error
	if u, _ := url.Parse(where); u != nil && u.Host != "" {
		s, perr := parsePostgres(u)
		ts.Check(perr)
		db, err = pgstore.OpenSQL(ctx, s.url, s.options())
	} else {
		db, err = sqlitestore.Open(ctx, filepath.Join(ts.Getenv("WORK"), where))
	}
	ts.Check(err)
	defer db.Close()
	tx, err := db.Begin(ctx)
	ts.Check(err)
	ts.Check(db.Commit(ctx, tx, do(ctx, db, tx)))
}

// writtenCommand: written STORE SERVICE CHANNEL N. Writes N messages to the
// outbox of a store.
func writtenCommand(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[3])
	ts.Check(err)
	inStore(ts, args[0], func(context.Context, store.DB[*sql.Tx], *sql.Tx) (w store.Writes) {
		for i := range n {
			w.Messages = append(w.Messages, &driver.Message{ID: fmt.Sprint("m", i), Source: args[1], Type: args[2] + ".v1",
				Channel: args[2], Time: time.Now(), ContentType: "application/json", Body: []byte(`"hello"`)})
		}
		return w
	})
}

// handledByCommand: handledby STORE GROUP HANDLER SOURCE ID. Enters a message in
// the inbox of a store.
func handledByCommand(ts *testscript.TestScript, neg bool, args []string) {
	inStore(ts, args[0], func(ctx context.Context, db store.DB[*sql.Tx], tx *sql.Tx) store.Writes {
		_, err := db.Insert(ctx, tx, []store.Entry{{Key: store.Key{Group: args[1], Handler: args[2], Source: args[3], ID: args[4]}, Since: time.Now()}})
		ts.Check(err)
		return store.Writes{}
	})
}

// setAsideCommand: setaside STORE SERVICE [ID...]. Holds everything that is in the
// outbox of a SQLite file, after the rows with these ids were spoilt.
func setAsideCommand(ts *testscript.TestScript, neg bool, args []string) {
	ctx := context.Background()
	db, err := sqlitestore.Open(ctx, filepath.Join(ts.Getenv("WORK"), args[0]))
	ts.Check(err)
	defer db.Close()
	for _, id := range args[2:] {
		_, err := db.DB().ExecContext(ctx, `UPDATE dovetail_outbox SET headers = 'spoilt' || char(10) || headers WHERE id = ?`, id)
		ts.Check(err)
	}
	t, err := store.Lead(ctx, db, 0, "script", time.Minute)
	ts.Check(err)
	c, err := db.Resume(ctx, t, args[1])
	ts.Check(err)
	page, err := db.Next(ctx, t, c.Position, store.Position{}, store.Limit{Rows: 100, Bytes: 1 << 20})
	ts.Check(err)
	var p store.Progress
	for _, r := range page.Rows {
		p.To = r.Position
		p.Hold = append(p.Hold, store.Held{Row: r, Since: time.Now(), Lane: store.Lane{Channel: r.Message.Channel,
			Name: store.LaneOf(r.Message), Attempts: 3, Error: "too large \x1b[31m", Retry: time.Now().Add(time.Hour)}})
	}
	ts.Check(db.Advance(ctx, t, p))
	ts.Check(db.Resign(ctx, t.Lease))
}
