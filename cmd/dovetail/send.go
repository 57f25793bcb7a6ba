package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

func timestamp() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func (a *app) sendCommand() *cobra.Command {
	return a.sending(driver.PointToPoint, &cobra.Command{
		Use:   "send [TYPE]",
		Short: "Send a command or document to its one receiver",
		Long: `Send messages over a point-to-point channel, each to one receiver. It returns
once the broker has confirmed them.

Without --data, each line of standard input is a body; with --envelope, a whole
message as tail -o json prints it.`,
		Example: `  dovetail send mail.send-welcome --data '{"customer":"17850"}' --key 17850
  dovetail send mail.send-welcome < customers.jsonl`,
	})
}

func (a *app) publishCommand() *cobra.Command {
	return a.sending(driver.PublishSubscribe, &cobra.Command{
		Use:   "publish [TYPE]",
		Short: "Publish an event to everybody who subscribed",
		Long: `Publish messages over a publish–subscribe channel, each to every group that
subscribed. It returns once the broker has confirmed them.

Without --data, each line of standard input is a body; with --envelope, a whole
message as tail -o json prints it.`,
		Example: `  dovetail publish catalog.stock-ran-low --data '{"sku":"85123A","count":3}' --key 85123A
  dovetail tail 'ordering.*' --broker nats://old:4222 -o json | dovetail publish --envelope --create`,
	})
}

// A sent is what the commands print of a message that was confirmed.
type sent struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Channel string `json:"channel"`
}

func (a *app) sending(kind driver.ChannelKind, cmd *cobra.Command) *cobra.Command {
	var d draft
	cmd.Args = arguments(0, 1, "")
	d.flags(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := d.check(args); err != nil {
			return err
		}
		body, single, err := d.one(cmd)
		if err != nil {
			return err
		}
		if !single && terminal(a.in) {
			a.note("reading messages from standard input, one a line; Ctrl-D ends it")
		}
		conn, done, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer done()
		s := &sender{a: a, conn: conn, kind: kind, create: d.create, known: map[string]bool{},
			svc: dovetail.New(d.source, conn, dovetail.Options{Logger: slog.Default(), SendTimeout: a.timeout})}
		if single {
			m, err := d.message(body)
			if err != nil {
				return misuse("%w", err)
			}
			if err := s.add(cmd.Context(), line{1, m, nil}); err != nil {
				return err
			}
			return s.flush(cmd.Context())
		}
		if d.id != "" {
			return misuse("--id with lines of standard input: one id for many messages; use --data, or --envelope with ids")
		}
		err = d.lines(a.in, func(l line) error { return s.add(cmd.Context(), l) })
		if err = errors.Join(err, s.flush(cmd.Context())); err != nil {
			return err
		}
		if s.confirmed+s.failed > 1 || s.failed > 0 {
			a.note("%d confirmed, %d failed", s.confirmed, s.failed)
		}
		if s.failed > 0 {
			return errReported
		}
		return nil
	}
	return cmd
}

// A sender sends lines in batches and tells what became of each.
type sender struct {
	a      *app
	conn   driver.Conn
	svc    *dovetail.Service
	kind   driver.ChannelKind
	create bool
	known  map[string]bool // channels and types that were looked at

	batch             []line
	confirmed, failed int
}

// sendBatch is how many lines share a round trip.
const sendBatch = 256

func (s *sender) add(ctx context.Context, l line) error {
	if l.err != nil {
		s.failed++
		s.a.note("line %d: %v", l.number, l.err)
		return nil
	}
	if err := s.declare(ctx, l.m); err != nil {
		return err
	}
	s.batch = append(s.batch, l)
	if len(s.batch) < sendBatch {
		return nil
	}
	return s.flush(ctx)
}

// declare makes a message's type one that the service may send, and checks that
// its channel is what is meant.
func (s *sender) declare(ctx context.Context, m *driver.Message) error {
	if s.known[m.Channel+" "+m.Type] {
		return nil
	}
	if err := s.a.checkChannel(ctx, s.conn, m.Channel, s.kind, s.create, "give the right --channel, or make it with --create"); err != nil {
		return err
	}
	name, version, err := splitType(m.Type)
	if err != nil {
		return err
	}
	if s.kind == driver.PublishSubscribe {
		s.svc.Declare(dovetail.NewEvent[[]byte](name).Version(version).On(dovetail.NewChannel(m.Channel)))
	} else {
		s.svc.Declare(dovetail.NewDocument[[]byte](name).Version(version).On(dovetail.NewChannel(m.Channel)))
	}
	s.known[m.Channel+" "+m.Type] = true
	return nil
}

// checkChannel returns an error unless the channel exists and is of the kind,
// or may be made; otherwise says what else the command lets people do.
func (a *app) checkChannel(ctx context.Context, conn driver.Conn, name string, kind driver.ChannelKind, create bool, otherwise string) error {
	info, err := channelOf(ctx, conn, name)
	switch {
	case errors.Is(err, errNoChannel) && create:
		return nil
	case errors.Is(err, errNoChannel):
		return fmt.Errorf("channel %s does not exist: start the service that handles it, %s", name, otherwise)
	case err != nil:
		return err
	case info != nil && info.Channel.Kind != kind:
		other := map[driver.ChannelKind]string{driver.PointToPoint: "dovetail send or request", driver.PublishSubscribe: "dovetail publish or gather"}
		return misuse("channel %s is %s: use %s", name, info.Channel.Kind, other[info.Channel.Kind])
	case info == nil && !create:
		a.note("whether channel %s exists this broker does not say: if it does not, it is made", name)
	}
	return nil
}

func (s *sender) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return nil
	}
	messages := make([]*driver.Message, len(s.batch))
	for i, l := range s.batch {
		messages[i] = l.m
	}
	err := s.svc.Send(ctx, messages)
	var partial *dovetail.SendError
	if err != nil && !errors.As(err, &partial) {
		return err
	}
	why := map[int]driver.SendFailure{}
	if partial != nil {
		for _, f := range partial.Failures {
			why[f.Index] = f
		}
	}
	for i, l := range s.batch {
		if f, bad := why[i]; bad {
			s.failed++
			outcome := "not sent"
			if f.Unknown {
				outcome = "outcome unknown; sending it again under id " + l.m.ID + " is safe behind an inbox"
			}
			s.a.note("line %d: %s: %v", l.number, outcome, f.Err)
			continue
		}
		s.confirmed++
		out := sent{l.m.ID, l.m.Type, l.m.Channel}
		if err := s.a.printOne(out, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s  %s  %s\n", out.ID, out.Type, out.Channel)
			return err
		}); err != nil {
			return err
		}
	}
	s.batch = s.batch[:0]
	if s.failed > 0 && s.confirmed == 0 && len(messages) == 1 {
		return errReported
	}
	return nil
}
