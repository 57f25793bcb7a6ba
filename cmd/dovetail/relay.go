package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/spf13/cobra"
)

// relayInfo is what a relay says when it ends.
type relayInfo struct {
	Service   string `json:"service"`
	Published int64  `json:"published"`
	Backlog   int64  `json:"backlog"`
	Held      int64  `json:"held"`
	Later     int64  `json:"later"`
}

func (a *app) relayCommand() *cobra.Command {
	var service string
	var drain bool
	var mode string
	var o outbox.Options
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Publish what a service's transactions wrote to its outbox",
		Long: `Publish what a service's transactions have written to its outbox, in a process of
its own, until Ctrl-C. One relay of a service leads, in whichever process; the
others wait to take over. Services whose relay runs here say NoRelay in their
outbox.Options. It needs the channels, which the services make when they run.

--mode says how it learns of new messages: poll asks the database, at once when it
tells of some, and otherwise every --poll; auto is the best that the store has, which
is poll.`,
		Example: `  dovetail relay --service catalog --store sqlite:catalog.db
  dovetail relay --service catalog --store 'postgres://shop@db/shop?schema=catalog' --broker kafka://127.0.0.1:9092
  dovetail relay --service catalog --store sqlite:catalog.db --drain -o json`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if service == "" {
				return misuse("--service is missing: want the service that the outbox belongs to")
			}
			switch mode {
			case "auto", "poll":
			case "tail":
				return misuse("--mode tail: the stores that are linked in are read by polling alone: say poll, or leave it out")
			default:
				return misuse("--mode %s: want auto or poll", mode)
			}
			for name, d := range map[string]time.Duration{"lease": o.Lease, "poll": o.Poll} {
				if d < 0 {
					return misuse("--%s %v: want a positive duration", name, d)
				}
			}
			if o.Batch < 0 {
				return misuse("--batch %d: want a positive number", o.Batch)
			}
			return a.relay(cmd.Context(), service, o, drain)
		},
	}
	f := cmd.Flags()
	f.StringVar(&service, "service", "", "the service that the outbox belongs to")
	f.StringVar(&mode, "mode", "auto", "how to learn of new messages: auto or poll")
	f.BoolVar(&drain, "drain", false, "end when nothing is left to be published now")
	f.DurationVar(&o.Lease, "lease", 0, "how long a relay that dies keeps others from taking over (default 10s)")
	f.DurationVar(&o.Poll, "poll", 0, "how often to look for messages where the database does not tell (default 200ms)")
	f.IntVar(&o.Batch, "batch", 0, "messages read and sent at once (default 500)")
	return cmd
}

func (a *app) relay(ctx context.Context, service string, o outbox.Options, drain bool) (err error) {
	raw, err := a.needStore()
	if err != nil {
		return err
	}
	broker, err := a.brokerURL()
	if err != nil {
		return err
	}
	if err := checkBroker(broker); err != nil {
		return err
	}
	db, err := openStore(ctx, raw, storeOptions{unchanged: true, existing: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	opening, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	// The relay itself would find out, but one that drains an empty outbox may
	// have ended by then.
	owned, err := db.Stats(opening, 0)
	if err != nil {
		return err
	}
	if owned.Service != "" && owned.Service != service {
		return fmt.Errorf("%w: it is %s's, not %s's", store.ErrOwner, owned.Service, service)
	}
	svc, err := dovetail.Open(opening, service, broker, dovetail.Options{Logger: slog.Default()})
	if err != nil {
		return err
	}
	stats := db.relay(svc, o)
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(running) }()
	err = a.watchRelay(ctx, svc, stats, drain, ended, stop)
	last, serr := stats(context.WithoutCancel(ctx))
	if err = errors.Join(err, serr); err != nil {
		return err
	}
	info := relayInfo{service, last.Published, last.Backlog, last.Held, last.Later}
	return a.print(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "published %d; backlog %d, held %d, for later %d\n", info.Published, info.Backlog, info.Held, info.Later)
		return err
	})
}

// leaderPatience is how long a relay that drains waits to lead, where messages are
// held or delayed. Where another leads for longer, it is that one's to publish them.
const leaderPatience = 15 * time.Second

// watchRelay waits for the relay's end, and if it is to drain, ends it when
// nothing is left.
func (a *app) watchRelay(ctx context.Context, svc *dovetail.Service, stats func(context.Context) (outbox.Stats, error), drain bool, ended <-chan error, stop func()) error {
	select {
	case <-svc.Ready():
	case err := <-ended:
		return err
	}
	if !drain {
		a.note("relaying for %s; Ctrl-C ends it", svc.Name())
	}
	p := a.progress()
	defer p.end()
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		}
		s, err := stats(ctx)
		if err != nil {
			continue // the relay itself says what is wrong
		}
		p.text(fmt.Sprintf("published %d; backlog %d, held %d, for later %d  %s", s.Published, s.Backlog, s.Held, s.Later, s.Trouble), false)
		if drain && s.Backlog == 0 && !s.Looking && (s.Held+s.Later == 0 || s.Leading > 0 || time.Since(began) > leaderPatience) {
			stop()
			return <-ended
		}
	}
}
