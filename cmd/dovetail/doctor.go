package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

// What a check can say.
const (
	fine    = "ok"
	warning = "warning"
	broken  = "failed"
	skipped = "skipped"
)

// A checkup is one thing that the doctor looked at.
type checkup struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// A doctor looks at a broker and a store.
type doctor struct {
	a      *app
	checks []checkup
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check broker and store, and say what to do",
		Long: `Check that the broker can be reached and does what services need of it – a channel is
made, a message sent, received, settled, and all of it removed again –, that the
store can be reached and written and has its tables, that the server's settings keep
what was committed and that its user has the rights, that nothing waits there for
too long, and how far clocks are apart. For whatever is wrong it says what to do.

The broker is checked always; the store if one is named by --store, DOVETAIL_STORE
or a context. The exit code is 1 if a check failed; warnings leave it 0.`,
		Example: `  dovetail doctor
  dovetail doctor --broker nats://queue.staging:4222 --store sqlite:catalog.db -o json
  dovetail doctor --broker amqp://rabbit/ --store 'postgres://shop@db/shop?schema=catalog'`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := a.brokerURL()
			if err != nil {
				return err
			}
			if err := checkBroker(raw); err != nil {
				return err
			}
			where, err := a.storeURL()
			if err != nil {
				return err
			}
			if where != "" {
				if err := checkStore(where); err != nil {
					return err
				}
			}
			d := &doctor{a: a}
			d.broker(cmd.Context(), raw)
			d.store(cmd.Context(), where)
			return d.tell()
		},
	}
}

func (d *doctor) say(check, state, detail, remedy string) {
	d.checks = append(d.checks, checkup{check, state, detail, remedy})
}

func (d *doctor) tell() error {
	err := d.a.print(d.checks, func(w io.Writer) error {
		colours := map[string]string{fine: green, warning: yellow, broken: red, skipped: dim}
		for _, c := range d.checks {
			if _, err := fmt.Fprintf(w, "%s  %s: %s\n", d.a.colour(colours[c.State], fmt.Sprintf("%-7s", c.State)), c.Check, clean(c.Detail)); err != nil {
				return err
			}
			if c.Remedy == "" {
				continue
			}
			if _, err := fmt.Fprintf(w, "         → %s\n", clean(c.Remedy)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range d.checks {
		if c.State == broken {
			return errors.Join(err, errReported)
		}
	}
	return err
}

// longAgo is how long a message may wait to be published before that is strange.
const longAgo = time.Minute

// store checks a store.
func (d *doctor) store(ctx context.Context, raw string) {
	if raw == "" {
		d.say("store", skipped, "none is named", "name one with --store to have it checked")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.a.timeout)
	defer cancel()
	began := time.Now()
	db, err := openStore(ctx, raw, storeOptions{unchanged: true, existing: true})
	if err != nil {
		d.say("store", broken, err.Error(), "look at the URL and the server; dovetail migrate up makes missing tables")
		return
	}
	defer d.closeStore(db)
	d.say("store", fine, fmt.Sprintf("%s opened in %v, its tables are there", driver.Redact(raw), time.Since(began).Round(time.Millisecond)), "")
	if err := db.probe(ctx); err != nil {
		d.say("store: write", broken, err.Error(), "give the user of the URL the right to write, or look for a transaction that holds locks")
	} else {
		d.say("store: write", fine, "a transaction that writes begins and rolls back", "")
	}
	d.checks = append(d.checks, db.looks(ctx)...)
	d.clock(ctx, db)
	d.outbox(ctx, db)
}

func (d *doctor) closeStore(db database) {
	if err := db.Close(); err != nil {
		d.say("store", broken, "close: "+err.Error(), storeRemedy)
	}
}

// skew is how far clocks may be apart: the core allows two seconds where it
// compares times of two machines.
const skew = 2 * time.Second

func (d *doctor) clock(ctx context.Context, db database) {
	before := time.Now()
	now, elsewhere, err := db.clock(ctx)
	took := time.Since(before)
	off := now.Sub(before.Add(took / 2)).Round(time.Millisecond)
	switch {
	case err != nil:
		d.say("store: clock", warning, err.Error(), storeRemedy)
	case !elsewhere:
		d.say("store: clock", fine, "is this machine's", "")
	case off.Abs() > skew+took:
		d.say("store: clock", warning, fmt.Sprintf("is %v off this machine's", off), "have both follow NTP: delays and deadlines are off by as much")
	default:
		d.say("store: clock", fine, fmt.Sprintf("is %v off this machine's, measured to %v", off, took.Round(time.Millisecond)), "")
	}
}

// remedyOf says what helps against a broker's error.
func remedyOf(k driver.Kind) string {
	switch k {
	case driver.Denied:
		return "look at user, password and permissions of the broker's URL"
	case driver.Retryable:
		return "look whether the broker runs and is reached from here; dovetail up starts one"
	case driver.Conflict:
		return "what is there has other settings than are needed: change what the error names, or name the service otherwise"
	case driver.TooLarge:
		return "raise the broker's limit on the size of messages"
	}
	return "do what the error says, or look at the broker's log"
}

// storeRemedy says what helps against an error of a store that was opened.
const storeRemedy = "do what the error says, or look at the log of the store's server"
