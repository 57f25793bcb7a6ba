package shop

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/catalog"
	"github.com/dovetail-go/dovetail/examples/eshop/mail"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering"
	"github.com/dovetail-go/dovetail/examples/eshop/payment"
	"github.com/dovetail-go/dovetail/outbox"
)

// Services are the names of the four.
var Services = []string{"ordering", "catalog", "payment", "mail"}

// registrations say what makes a service the one that it is.
var registrations = map[string]func(context.Context, *dovetail.Service, *sql.DB, *outbox.Box[*sql.Tx]) error{
	"ordering": ordering.Register,
	"catalog":  catalog.Register,
	"payment":  payment.Register,
	"mail":     mail.Register,
}

// Counts are what an instance has done since it was started.
type Counts struct {
	Sent        int64 `json:"sent"`
	Handled     int64 `json:"handled"`
	Redelivered int64 `json:"redelivered"`
	Retried     int64 `json:"retried"`
	Dead        int64 `json:"dead"`
}

func (c *Counts) add(o Counts) {
	c.Sent += o.Sent
	c.Handled += o.Handled
	c.Redelivered += o.Redelivered
	c.Retried += o.Retried
	c.Dead += o.Dead
}

// An instance is one running service with its database.
type instance struct {
	svc *dovetail.Service
	box *outbox.Box[*sql.Tx]
	db  Store
}

// open makes an instance of a service.
func (c *Config) open(ctx context.Context, service, name string) (_ *instance, err error) {
	register := registrations[service]
	if register == nil {
		return nil, fmt.Errorf("shop: service %q: want one of %v", service, Services)
	}
	db, err := c.OpenStore(ctx, service)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	svc, err := c.Connect(ctx, service, dovetail.Options{Instance: name, Logger: c.Logger, RequestTimeout: c.Patience / 2})
	if err != nil {
		return nil, err
	}
	box := outbox.New(svc, db, outbox.Options{Lease: c.Lease})
	if err := register(ctx, svc, db.DB(), box); err != nil {
		return nil, errors.Join(err, svc.Close(ctx))
	}
	return &instance{svc, box, db}, nil
}

// run serves until ctx ends.
func (i *instance) run(ctx context.Context) error {
	return errors.Join(i.svc.Run(ctx), i.db.Close())
}

func (i *instance) counts(ctx context.Context) Counts {
	s := i.svc.Stats()
	relay, _ := i.box.Stats(ctx) // how many were published it knows in any case
	return Counts{Sent: s.Sent + relay.Published, Handled: s.Handled, Redelivered: s.Redelivered, Retried: s.Retried, Dead: s.Dead}
}

// A report is what a process tells the one that started it, as a line of JSON.
type report struct {
	Ready  bool   `json:"ready"`
	Counts Counts `json:"counts"`
}

// reportEvery is how much of its counts a process that is killed takes with it.
const reportEvery = 50 * time.Millisecond

// Serve runs one instance of a service in a process of its own, started by
// Config.Process. It ends when ctx ends or stdin does, as happens when the
// process that started it ends, in whatever way. It reports to stdout.
func Serve(ctx context.Context, cfg Config, service, name string, stdin io.Reader, stdout io.Writer) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	orDefault(&cfg.Lease, time.Second)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with stdin, or with the process
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	i, err := cfg.open(ctx, service, name)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- i.run(ctx) }()
	select {
	case <-i.svc.Ready():
	case err := <-done:
		return err
	}
	out := json.NewEncoder(stdout)
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	last := report{Ready: true}
	err = out.Encode(last)
	for err == nil {
		select {
		case <-tick.C:
			if r := (report{true, i.counts(ctx)}); r != last {
				last, err = r, out.Encode(r)
			}
		case err := <-done:
			return errors.Join(err, out.Encode(report{false, i.counts(ctx)}))
		}
	}
	cancel() // nobody reads any more
	return errors.Join(err, <-done)
}
