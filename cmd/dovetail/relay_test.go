package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/rogpeppe/go-internal/testscript"
)

// inFile runs a transaction in a script's SQLite file.
func inFile(ts *testscript.TestScript, file string, do func(ctx context.Context, db *sqlitestore.Store, tx *sql.Tx) store.Writes) {
	ctx := context.Background()
	db, err := sqlitestore.Open(ctx, filepath.Join(ts.Getenv("WORK"), file))
	ts.Check(err)
	defer db.Close()
	tx, err := db.Begin(ctx)
	ts.Check(err)
	ts.Check(db.Commit(ctx, tx, do(ctx, db, tx)))
}

// writtenCommand: written FILE SERVICE CHANNEL N. Writes N messages to the
// outbox in a SQLite file.
func writtenCommand(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[3])
	ts.Check(err)
	inFile(ts, args[0], func(context.Context, *sqlitestore.Store, *sql.Tx) (w store.Writes) {
		for i := range n {
			w.Messages = append(w.Messages, &driver.Message{ID: fmt.Sprint("m", i), Source: args[1], Type: args[2] + ".v1",
				Channel: args[2], Time: time.Now(), ContentType: "application/json", Body: []byte(`"hello"`)})
		}
		return w
	})
}

// handledByCommand: handledby FILE GROUP HANDLER SOURCE ID. Enters a message in
// the inbox in a SQLite file.
func handledByCommand(ts *testscript.TestScript, neg bool, args []string) {
	inFile(ts, args[0], func(ctx context.Context, db *sqlitestore.Store, tx *sql.Tx) store.Writes {
		_, err := db.Enter(ctx, tx, []store.Entry{{Key: store.Key{Group: args[1], Handler: args[2], Source: args[3], ID: args[4]}, Since: time.Now()}})
		ts.Check(err)
		return store.Writes{}
	})
}
