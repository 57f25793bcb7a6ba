// Package store is what Dovetail needs of a database: transactions that take
// the outgoing messages with them when they commit (the outbox), a relay's view
// of those messages, and the memory of what was already handled (the inbox).
//
// A store implements [DB] for the transaction type of its client – *sql.Tx,
// pgx.Tx – and passes the suite of package storetest against its real server.
// It never retries, waits for work, logs or decides: packages outbox and inbox
// do, once, for every store. All work comes in batches, so that a round trip
// and a commit are shared.
//
// The patterns are Transactional outbox, Polling publisher and Idempotent
// consumer (Richardson, Microservices Patterns, sections 3.3 and 3.4).
package store
