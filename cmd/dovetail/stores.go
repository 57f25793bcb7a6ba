package main

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/verify"
)

// A database is an open store of whatever kind, without the type of its
// transactions.
type database interface {
	store.Relay
	store.HeldQueue
	Lookup(ctx context.Context, keys []store.Key) ([]store.InboxRow, error)
	Close() error

	// relay has svc publish what is in the outbox.
	relay(svc *dovetail.Service, o outbox.Options) func(context.Context) (outbox.Stats, error)
	// probe begins a transaction that writes, and rolls it back.
	probe(ctx context.Context) error
	// clock is the server's time; ok is false where the server is this machine.
	clock(ctx context.Context) (now time.Time, ok bool, err error)
	// looks tells what of the server and its settings the promises depend on.
	looks(ctx context.Context) []checkup
	// verify is the store as dovetail verify works on it.
	verify() verify.Store
}

// opened is a database whose transactions are Tx.
type opened[Tx any] struct {
	store.DB[Tx]
	own  verify.Database[Tx]
	time func(ctx context.Context) (time.Time, error) // nil where the server is this machine
	look func(ctx context.Context) []checkup
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

func (o *opened[Tx]) looks(ctx context.Context) []checkup { return o.look(ctx) }

func (o *opened[Tx]) verify() verify.Store { return verify.NewStore(o.own) }

// storeOptions are what commands say beyond the URL.
type storeOptions struct {
	prefix    string        // of the tables; empty: what the URL says
	unchanged bool          // migrations are not run
	existing  bool          // a database that does not exist is not made
	busy      time.Duration // how long to wait for another writer; 0 for the default
}

// A storeKind is a kind of store that is linked in.
type storeKind struct {
	open  func(ctx context.Context, u *url.URL, o storeOptions) (database, error)
	place func(u *url.URL) (place, error)
}

// storeKinds are the stores that are linked in, by URL scheme.
var storeKinds = map[string]*storeKind{
	"sqlite":     {openSQLite, placeSQLite},
	"postgres":   {openPostgres, placePostgres},
	"postgresql": {openPostgres, placePostgres},
}

func storeSchemes() []string { return slices.Sorted(maps.Keys(storeKinds)) }

// openStore opens the store that a URL names, of whatever kind.
func openStore(ctx context.Context, raw string, o storeOptions) (database, error) {
	if err := checkStore(raw); err != nil {
		return nil, err
	}
	u, _ := url.Parse(raw) // checkStore has
	return storeKinds[u.Scheme].open(ctx, u, o)
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
