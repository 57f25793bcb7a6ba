// Package pgstore keeps outbox, inbox and leases in PostgreSQL 13 or later,
// beside the service's own tables, over pgx.
//
//	db, err := pgstore.Open(ctx, "postgres://…")
//	box := outbox.New(svc, db)
//	err = box.Do(ctx, func(ctx context.Context, tx pgx.Tx, out dovetail.Sender) error { … })
//
// [OpenSQL] gives the same to services that use database/sql. Over pgx, BEGIN
// goes with the first statement of a transaction, and what the outbox writes
// with COMMIT: a transaction with one statement of its own is two round trips.
//
// The relay does not read "seq > last": a transaction that commits late would
// be lost. It reads windows between two snapshots. What a window holds is what
// the later snapshot sees and the earlier one does not, in the order of seq;
// since seq is taken while the transaction holds its locks, that is the order
// of each key. A window's snapshot is committed before anything of the window
// is published, so that every relay that comes after knows where it was.
//
// The promises assume fsync=on and full_page_writes=on, which is how PostgreSQL
// comes. A service that commits with synchronous_commit=off may lose its last
// commits with the server, but not one that was published: the relay's own
// commits are synchronous, whatever the database's default is.
package pgstore
