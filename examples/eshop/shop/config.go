// Package shop puts the eShop together: ordering, catalog, payment and mail, and
// a storefront that replays a file of invoices through them and draws up the
// balance.
//
// It knows no transport and no database product: whoever runs it says how a
// service connects and where it keeps its tables.
package shop

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/store"
)

// Config says what a shop runs on and what it does.
type Config struct {
	// Connect opens a service on the transport of choice, as dovetail.Open
	// does.
	Connect func(ctx context.Context, service string, o dovetail.Options) (*dovetail.Service, error)

	// OpenStore opens the database of a service: SQLite, or PostgreSQL with a
	// search_path to a schema of the service's own. Each service has one of its
	// own; its instances open the same.
	OpenStore func(ctx context.Context, service string) (Store, error)

	// Orders are the invoices to replay.
	Orders Orders

	// Dates says how the dates of the invoices are read.
	Dates invoice.DateOrder

	// Unusable is told of each line that cannot be used.
	Unusable func(invoice.Problem)

	// Process returns the command that runs one instance of a service as a
	// process of its own, by calling Serve, made with exec.CommandContext. nil:
	// all run in this process.
	Process func(ctx context.Context, service, instance string) *exec.Cmd

	// KillEvery is how often one of the processes is killed until all invoices
	// are through; 0 for never. It needs Process.
	KillEvery time.Duration

	// Seed decides which process is killed.
	Seed uint64

	// Catalogs is how many instances of the catalog run, whose caches are
	// compared. Default: 2.
	Catalogs int

	// InFlight is how many invoices are in hand at once. Default: 32.
	InFlight int

	// Lease is how long the outbox of an instance that dies waits for another
	// relay. Default: 1 s in Serve, for processes that are killed; else the
	// outbox's own.
	Lease time.Duration

	// Patience is how long an answer is awaited before the same is asked
	// again, and how long the shop may stand still at the end before what is
	// missing is called lost. Default: 20 s.
	Patience time.Duration

	// Progress is told how far the replay is, about ten times a second.
	Progress func(Progress)

	// Balance is called with the balance while the services still run. They end
	// when it returns.
	Balance func(*Balance)

	// Stay keeps the shop open after the balance, until ctx ends or a service
	// fails.
	Stay bool

	// Logger of the services. Default: slog.Default().
	Logger *slog.Logger
}

// Store is the database of one service.
type Store interface {
	store.DB[*sql.Tx]
	DB() *sql.DB // for the service's own tables
	Close() error
}

// Orders is a file of invoices.
type Orders struct {
	Name string
	Size int64 // in bytes; 0 if unknown
	Data io.Reader
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Connect == nil, c.OpenStore == nil:
		return c, errors.New("shop: Config.Connect and Config.OpenStore must be set")
	case c.KillEvery < 0:
		return c, errors.New("shop: Config.KillEvery is negative: want a duration, or 0 for never")
	case c.KillEvery > 0 && c.Process == nil:
		return c, errors.New("shop: Config.KillEvery needs Config.Process: only processes can be killed")
	}
	orDefault(&c.Catalogs, 2)
	orDefault(&c.InFlight, 32)
	orDefault(&c.Patience, 20*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	return c, nil
}

func orDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
