package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

// A deadLine is a dead letter as it is printed.
type deadLine struct {
	ID       string    `json:"id"`
	Service  string    `json:"service"`
	Group    string    `json:"group"`
	Handler  string    `json:"handler"`
	Cause    string    `json:"cause,omitempty"` // "unhandled": it waits for an instance that handles it
	Error    string    `json:"error"`
	Attempts int       `json:"attempts"`
	Requeues int       `json:"requeues"`
	At       time.Time `json:"at"`
	Position string    `json:"position"`
	Stack    string    `json:"stack,omitempty"` // only show prints it
	Message  shown     `json:"message"`
}

// A deadItem is a dead letter and where it is kept.
type deadItem struct {
	dovetail.DeadLetter
	channel, position string
}

func (d *deadItem) line(full bool) deadLine {
	l := deadLine{ID: d.ID, Service: d.Service, Group: d.Group, Handler: d.Handler, Cause: d.Cause, Error: d.Error, Attempts: d.Attempts,
		Requeues: d.Requeues, At: d.At, Position: d.position, Message: show(d.Message)}
	if full {
		l.Stack = d.Stack
	} else {
		l.Message.Data, l.Message.Base64 = nil, nil
	}
	return l
}

// A deadFilter says which dead letters are meant.
type deadFilter struct {
	ids                                 []string
	services                            []string
	group, handler, typ, key, errorText string
	limit                               int
}

func (f *deadFilter) flags(cmd *cobra.Command, limit int) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.services, "service", nil, "only those of this service; may be repeated")
	flags.StringVar(&f.group, "group", "", "only those of this group")
	flags.StringVar(&f.handler, "handler", "", "only those of this handler")
	flags.StringVar(&f.typ, "type", "", "only messages of this type")
	flags.StringVar(&f.key, "key", "", "only messages of this key")
	flags.StringVar(&f.errorText, "error", "", "only those whose error contains this text")
	flags.IntVar(&f.limit, "limit", limit, "at most so many; 0 for all")
}

// empty reports whether the filter leaves nothing out.
func (f *deadFilter) empty() bool {
	return len(f.ids)+len(f.services) == 0 && f.group+f.handler+f.typ+f.key+f.errorText == ""
}

func (f *deadFilter) match(d *deadItem) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return (len(f.ids) == 0 || slices.ContainsFunc(f.ids, func(id string) bool { return id == d.ID || id == d.Message.ID })) &&
		is(f.group, d.Group) && is(f.handler, d.Handler) && is(f.typ, d.Message.Type) && is(f.key, d.Message.Key) &&
		strings.Contains(strings.ToLower(d.Error), strings.ToLower(f.errorText))
}

func (a *app) deadCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "dead",
		Short: "Look at messages that could not be handled, and send them again",
		Long: `Look at dead letters: messages whose handler failed for the last time, kept with
their bytes, headers, error, stack and attempts. Send them again to the group and
handler that failed, or discard them. Messages that wait for an instance which
handles their type are among them.`,
		Example: `  dovetail dead list --service mail
  dovetail dead show 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e
  dovetail dead requeue --service mail --error 'connection refused' --rate 10`,
	})
	cmd.AddCommand(a.deadList(), a.deadShow(), a.deadRequeue(), a.deadEdit(), a.deadDiscard())
	return cmd
}

func (a *app) deadList() *cobra.Command {
	var f deadFilter
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List dead letters, oldest first",
		Example: "  dovetail dead list --service mail --error timeout -o json",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, done, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			items, more, err := f.find(cmd.Context(), conn)
			if err != nil {
				return err
			}
			lines := []deadLine{}
			for i := range items {
				lines = append(lines, items[i].line(false))
			}
			if more {
				a.note("there are more: --limit 0 lists all")
			}
			return a.print(lines, func(w io.Writer) error {
				return columns(w, "ID\tAT\tGROUP\tHANDLER\tMESSAGE\tKEY\tTRIED\tREQUEUED\tERROR", func(row func(...any)) {
					for _, l := range lines {
						row(l.ID, clock(l.At), l.Group, l.Handler, l.Message.ID, orDash(l.Message.Key), l.Attempts, l.Requeues, short(l.Error, 60))
					}
				})
			})
		},
	}
	f.flags(cmd, 100)
	return cmd
}

func (a *app) deadShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show a dead letter with everything that is known of it",
		Long:    "Show a dead letter, by its own id or by that of its message, with body, headers, error and stack.",
		Example: "  dovetail dead show 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e -o json",
		Args:    arguments(1, 1, "the dead letter's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, done, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			items, _, err := (&deadFilter{ids: args}).find(cmd.Context(), conn)
			if err != nil {
				return err
			}
			if len(items) == 0 {
				return noDeadLetter(args[0])
			}
			for i := range items {
				if err := a.printOne(items[i].line(true), func(w io.Writer) error { return items[i].write(w) }); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func noDeadLetter(id string) error {
	return fmt.Errorf("there is no dead letter %s: dovetail dead list shows what there is", id)
}

// write shows a dead letter to a person.
func (d *deadItem) write(w io.Writer) error {
	err := columns(w, "", func(row func(...any)) {
		row("dead letter", d.ID)
		row("at", d.At.Local().Format(time.RFC3339))
		row("group", d.Group)
		row("handler", d.Handler)
		row("error", d.Error)
		row("attempts", d.Attempts)
		row("requeued", d.Requeues)
		row("message", d.Message.ID)
		row("source", d.Message.Source)
		row("type", d.Message.Type)
		row("channel", d.Message.Channel)
		row("time", d.Message.Time.Local().Format(time.RFC3339Nano))
		row("key", orDash(d.Message.Key))
		row("content type", d.Message.ContentType)
		for _, h := range d.Message.Headers {
			row("header "+h.Name, h.Value)
		}
	})
	if err == nil {
		_, err = fmt.Fprintf(w, "\n%s\n", preview(d.Message, 1<<16))
	}
	if err == nil && d.Stack != "" {
		_, err = fmt.Fprintf(w, "\n%s\n", cleanLines(d.Stack))
	}
	return err
}

// find returns the dead letters that the filter means, oldest first in each
// service, and whether there are more than its limit.
func (f *deadFilter) find(ctx context.Context, conn driver.Conn) (found []deadItem, more bool, err error) {
	if f.limit < 0 {
		return nil, false, misuse("--limit is %d: want 0 or more", f.limit)
	}
	b, err := ability[driver.Browser](conn, "browse a channel")
	if err != nil {
		return nil, false, err
	}
	channels, err := f.channels(ctx, conn)
	if err != nil {
		return nil, false, err
	}
	for _, channel := range channels {
		for after := ""; ; {
			page, err := b.Browse(ctx, channel, after, 256)
			if err != nil {
				return nil, false, err
			}
			if len(page) == 0 {
				break
			}
			for _, s := range page {
				after = s.Position
				item, ok := deadOf(channel, s)
				if !ok || !f.match(&item) {
					continue
				}
				if f.limit > 0 && len(found) == f.limit {
					return found, true, nil
				}
				found = append(found, item)
			}
		}
	}
	return found, false, nil
}

// deadOf is the dead letter that a channel keeps, and false for what is none of
// its service's: somebody else wrote it. dovetail tail --stored shows that.
func deadOf(channel string, s driver.StoredMessage) (deadItem, bool) {
	d, err := dovetail.ParseDeadLetter(s.Message)
	service, _ := dovetail.KeepsFor(channel)
	return deadItem{d, channel, s.Position}, err == nil && d.Service == service
}

// channels are those of the services that are meant.
func (f *deadFilter) channels(ctx context.Context, conn driver.Conn) ([]string, error) {
	l, err := ability[driver.Lister](conn, "list its channels")
	if err != nil {
		return nil, err
	}
	all, err := l.Channels(ctx)
	if errors.Is(err, driver.ErrUnsupported) {
		return f.named(err)
	}
	if err != nil {
		return nil, err
	}
	var names, services []string
	for _, c := range all {
		if service, ok := dovetail.KeepsFor(c.Channel.Name); ok {
			services = append(services, service)
			if len(f.services) == 0 || slices.Contains(f.services, service) {
				names = append(names, c.Channel.Name)
			}
		}
	}
	for _, s := range f.services {
		if !slices.Contains(services, s) {
			return nil, errors.Join(fmt.Errorf("service %s keeps no dead letters here: there are those of %s", s, orDash(strings.Join(slices.Compact(services), ", "))))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// named are the channels of the services that the command line names, where the
// broker does not list them.
func (f *deadFilter) named(why error) ([]string, error) {
	if len(f.services) == 0 {
		return nil, fmt.Errorf("%w; or name the services with --service", why)
	}
	names := make([]string, len(f.services))
	for i, s := range f.services {
		names[i] = dovetail.DeadLetterChannel(s)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
