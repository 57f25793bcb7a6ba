// Package sqlitestore keeps outbox, inbox and the service's own tables in one
// SQLite file: no server, and no cgo (modernc.org/sqlite).
//
//	db, err := sqlitestore.Open(ctx, "catalog.db")
//	box := outbox.New(svc, db)
//	err = box.Do(ctx, func(ctx context.Context, tx *sql.Tx, out dovetail.Sender) error { … })
//
// SQLite has one writer at a time. The store gives all transactions that write
// one connection, in the order in which they ask for it, so that they wait in
// the program and not in SQLite's busy handler; everything else reads from
// connections of its own and never waits.
//
// The promises assume journal_mode=WAL and synchronous=FULL, which Open sets: a
// commit is on disk when it returns (https://www.sqlite.org/pragma.html#pragma_synchronous).
// They assume a local file system; WAL does not work over a network
// (https://www.sqlite.org/wal.html).
package sqlitestore
