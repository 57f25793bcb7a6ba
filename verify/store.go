package verify

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
)

// A Runner runs verify's own statements, in a transaction or outside. They are
// plain SQL with parameters $1, $2, …
type Runner interface {
	Exec(ctx context.Context, query string, args ...any) error
	// Query calls row for each row of the result, with what scans its columns.
	Query(ctx context.Context, query string, args []any, row func(scan func(dest ...any) error) error) error
}

// SQL runs statements with database/sql. mark is what the database writes
// parameters with: "$" for $1, "?" for ?1.
func SQL(on interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, mark string) Runner {
	return sqlRunner{on, mark}
}

type sqlRunner struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
	mark string
}

func (r sqlRunner) Exec(ctx context.Context, query string, args ...any) error {
	_, err := r.on.ExecContext(ctx, strings.ReplaceAll(query, "$", r.mark), args...)
	return err
}

func (r sqlRunner) Query(ctx context.Context, query string, args []any, row func(func(...any) error) error) error {
	rows, err := r.on.QueryContext(ctx, strings.ReplaceAll(query, "$", r.mark), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// A Database is one that verify is to work on. Tx is the type of its
// transactions.
type Database[Tx any] struct {
	DB     store.DB[Tx]
	In     func(tx Tx) Runner
	Out    Runner // outside of transactions
	Prefix string // of all tables that are made, DB's own included

	// OneWriter says that a transaction which has written keeps all others from
	// writing, so that long ones are to be rare.
	OneWriter bool

	// Drop removes every table and whatever else begins with Prefix.
	Drop  func(ctx context.Context) error
	Close func() error
}

// A Store is a Database of whatever kind. NewStore makes one.
type Store interface {
	// Close closes the database.
	Close() error

	drop(ctx context.Context) error
	oneWriter() bool
	tables() tables
	relay(svc *dovetail.Service, o outbox.Options) boxStats
	writer(svc *dovetail.Service, o outbox.Options) doer
	handlers(svc *dovetail.Service, o outbox.Options) handling

	// hold keeps everybody else from writing, where the database has one writer
	// at a time, until release is called.
	hold(ctx context.Context) (release func() error, err error)
	// unpublished returns the ids of messages that are held, and how many others
	// wait to be published.
	unpublished(ctx context.Context) (held []string, waiting int64, err error)
}

// NewStore returns d as a Store.
func NewStore[Tx any](d Database[Tx]) Store { return &base[Tx]{d} }

type base[Tx any] struct{ d Database[Tx] }

func (b *base[Tx]) Close() error { return b.d.Close() }

func (b *base[Tx]) drop(ctx context.Context) error {
	if b.d.Prefix == "" {
		return errors.New("the tables have no prefix to tell them from those of others: nothing was removed")
	}
	return b.d.Drop(ctx)
}

func (b *base[Tx]) oneWriter() bool { return b.d.OneWriter }
func (b *base[Tx]) tables() tables  { return tables{b.d.Out, b.d.Prefix} }

type boxStats func(ctx context.Context) (outbox.Stats, error)

// relay has svc publish what is in the outbox.
func (b *base[Tx]) relay(svc *dovetail.Service, o outbox.Options) boxStats {
	return outbox.New(svc, b.d.DB, o).Stats
}

// A doer runs transactions.
type doer func(ctx context.Context, f func(ctx context.Context, w work) error) error

// work is a transaction in hand.
type work struct {
	tables
	out, now dovetail.Sender // sends at the commit, or writes at once
	part     doer
}

func (b *base[Tx]) writer(svc *dovetail.Service, o outbox.Options) doer {
	box := outbox.New(svc, b.d.DB, o)
	var do doer
	do = func(ctx context.Context, f func(context.Context, work) error) error {
		return box.Do(ctx, func(ctx context.Context, tx Tx, out dovetail.Sender) error {
			return f(ctx, work{tables{b.d.In(tx), b.d.Prefix}, out, box.Sender(tx), do})
		})
	}
	return do
}

func (b *base[Tx]) handlers(svc *dovetail.Service, o outbox.Options) handling {
	box := outbox.New(svc, b.d.DB, o)
	return func(f func(context.Context, work, Note) error) (func(context.Context, Note) error, func(context.Context, []Note) []error) {
		handle := func(ctx context.Context, tx Tx, out dovetail.Sender, n Note) error {
			return f(ctx, work{tables: tables{b.d.In(tx), b.d.Prefix}, out: out}, n)
		}
		return inbox.Once(box, handle), inbox.Batch(box, handle)
	}
}

func (b *base[Tx]) hold(ctx context.Context) (release func() error, err error) {
	tx, err := b.d.DB.Begin(ctx)
	if err != nil {
		return nil, err
	}
	release = func() error { return b.d.DB.Rollback(context.WithoutCancel(ctx), tx) }
	if _, err := (tables{b.d.In(tx), b.d.Prefix}).next(ctx, "", "held"); err != nil { // the first write takes the lock
		return nil, errors.Join(err, release())
	}
	return release, nil
}

func (b *base[Tx]) unpublished(ctx context.Context) (held []string, waiting int64, err error) {
	for shard := range b.d.DB.Shards() {
		s, err := b.d.DB.Stats(ctx, shard)
		if err != nil {
			return nil, 0, err
		}
		waiting += s.Backlog + s.Later
	}
	found, _, err := outbox.FindHeld(ctx, b.d.DB, outbox.HeldFilter{}, 0)
	for _, h := range found {
		held = append(held, h.Message.ID)
	}
	return held, waiting, err
}
