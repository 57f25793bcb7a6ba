package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/spf13/cobra"
)

// An outcome is what became of one dead letter.
type outcome struct {
	ID      string `json:"id"`
	Service string `json:"service"`
	Message string `json:"message"`
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

// An action does something to many dead letters, and tells of each.
type action struct {
	a      *app
	filter deadFilter
	all    bool
	dryRun bool
	rate   float64
	asks   bool // before it begins

	verb string // "requeue"
	done string // "requeued"
	do   func(ctx context.Context, conn driver.Conn, items []deadItem) []error
	prog *progress
}

func (x *action) flags(cmd *cobra.Command) {
	x.filter.flags(cmd, 1000)
	f := cmd.Flags()
	f.BoolVar(&x.all, "all", false, "all dead letters there are, where no id or filter is given")
	f.BoolVar(&x.dryRun, "dry-run", false, "show what would be done, and do nothing")
	f.Float64Var(&x.rate, "rate", 0, "at most so many a second; 0 for no bound")
}

func (a *app) deadRequeue() *cobra.Command {
	x := &action{a: a, verb: "requeue", done: "requeued", do: requeue}
	cmd := &cobra.Command{
		Use:   "requeue [ID...]",
		Short: "Send dead letters again to the group and handler that failed",
		Long: `Send dead letters again to the group and handler that failed, and to no other.
One that fails again becomes a dead letter again, with one requeue more.`,
		Example: `  dovetail dead requeue 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e
  dovetail dead requeue --service mail --error 'connection refused' --dry-run
  dovetail dead requeue --all --rate 50`,
		RunE: func(cmd *cobra.Command, args []string) error { return x.run(cmd.Context(), args) },
	}
	x.flags(cmd)
	return cmd
}

func (a *app) deadDiscard() *cobra.Command {
	x := &action{a: a, verb: "discard", done: "discarded", do: discard}
	var yes bool
	cmd := &cobra.Command{
		Use:   "discard [ID...]",
		Short: "Delete dead letters for good",
		Long:  "Delete dead letters for good. It says how many there are and asks first, unless --yes is given.",
		Example: `  dovetail dead discard 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --yes
  dovetail dead discard --service mail --type mail.send-welcome.v1 --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			x.asks = !yes
			return x.run(cmd.Context(), args)
		},
	}
	x.flags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) deadEdit() *cobra.Command {
	var data, contentType string
	var headers []string
	x := &action{a: a, verb: "send again", done: "sent again, edited"}
	cmd := &cobra.Command{
		Use:   "edit ID",
		Short: "Send a dead letter again with another body or other headers",
		Long: `Send a dead letter again, to the group and handler that failed, with another body
or other headers. It keeps its identity: behind an inbox it takes effect once.`,
		Example: `  dovetail dead edit 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --data '{"customer":"17850"}'
  dovetail dead edit 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --data @repaired.json --header checked-by=ana`,
		Args: arguments(1, 1, "the dead letter's id"),
	}
	f := cmd.Flags()
	f.StringVarP(&data, "data", "d", "", "the new body; @FILE reads it from a file")
	f.StringArrayVarP(&headers, "header", "H", nil, "name=value to set; an empty value removes the header; may be repeated")
	f.StringVar(&contentType, "content-type", "", "the new body's media type (default: as it was)")
	f.BoolVar(&x.dryRun, "dry-run", false, "show what would be done, and do nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("data") && len(headers) == 0 && contentType == "" {
			return misuse("nothing to change: give --data, --header or --content-type")
		}
		d := draft{data: data, headers: headers}
		body, given, err := d.one(cmd)
		if err != nil {
			return err
		}
		for _, h := range headers {
			if name, _, ok := strings.Cut(h, "="); !ok || name == "" {
				return misuse("--header %q: want name=value", h)
			}
		}
		x.do = func(ctx context.Context, conn driver.Conn, items []deadItem) []error {
			if err := items[0].edit(body, given, contentType, headers); err != nil {
				return []error{err}
			}
			return requeue(ctx, conn, items)
		}
		return x.run(cmd.Context(), args)
	}
	return cmd
}

// edit changes a dead letter's message before it is sent again.
func (d *deadItem) edit(body []byte, given bool, contentType string, headers []string) error {
	m := d.Message.Clone()
	if contentType != "" {
		m.ContentType = contentType
	}
	if given {
		m.Body = body
	}
	if isJSON(m.ContentType) && !json.Valid(m.Body) {
		return errors.New("the new body is not valid JSON: correct it, or say what it is with --content-type")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, "=")
		if value == "" {
			m.Headers = m.Headers.Without(name)
		} else {
			m.Headers = m.Headers.With(name, value)
		}
	}
	d.Message = m
	return nil
}

// confirm asks at the terminal; without one it is a mistake not to say --yes.
func (a *app) confirm(question string) error {
	if !terminal(a.in) {
		return misuse("%s say --yes where nobody can be asked", question)
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	text, _ := bufio.NewReader(a.in).ReadString('\n')
	if t := strings.ToLower(strings.TrimSpace(text)); t != "y" && t != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// actBatch is how many dead letters share a round trip.
const actBatch = 64

func (x *action) run(ctx context.Context, ids []string) error {
	x.filter.ids = ids
	if x.rate < 0 {
		return misuse("--rate is %g: want 0 or more", x.rate)
	}
	if x.filter.empty() && !x.all {
		return misuse("which dead letters? name their ids, give a filter, or say --all")
	}
	conn, done, err := x.a.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	// All are found before the first is touched: one that fails again comes
	// back, and must not be met twice.
	items, more, err := x.filter.find(ctx, conn)
	if err != nil {
		return err
	}
	if len(ids) == 1 && len(items) == 0 {
		return noDeadLetter(ids[0])
	}
	if x.asks && !x.dryRun && len(items) > 0 {
		if err := x.a.confirm(fmt.Sprintf("%s %s for good?", x.verb, letterCount(items))); err != nil {
			return err
		}
	}
	failed, err := x.each(ctx, conn, items)
	switch {
	case err != nil:
		return err
	case more:
		x.a.note("there are more than --limit %d: run it again, or say --limit 0", x.filter.limit)
	}
	word := x.done
	if x.dryRun {
		word = "would be " + x.done
	}
	x.a.note("%d %s, %d failed", len(items)-failed, word, failed)
	if failed > 0 {
		return errReported
	}
	return nil
}

// letterCount says how many dead letters there are, and whose.
func letterCount(items []deadItem) string {
	services := map[string]bool{}
	for _, d := range items {
		services[d.Service] = true
	}
	of := " of " + clean(strings.Join(slices.Sorted(maps.Keys(services)), ", "))
	if len(items) == 1 {
		return "1 dead letter" + of
	}
	return fmt.Sprintf("%d dead letters%s", len(items), of)
}

// each acts on items in batches, at the rate.
func (x *action) each(ctx context.Context, conn driver.Conn, items []deadItem) (failed int, err error) {
	x.prog = x.a.progress()
	defer x.prog.end()
	size := actBatch
	if x.rate > 0 {
		size = max(1, min(size, int(x.rate/4)))
	}
	begin := time.Now()
	for n := 0; n < len(items); {
		batch := items[n:min(n+size, len(items))]
		if x.rate > 0 {
			due := begin.Add(time.Duration(float64(n) / x.rate * float64(time.Second)))
			if !backoff.Sleep(ctx, max(0, time.Until(due))) {
				return failed, fmt.Errorf("stopped after %d of %d: %w", n, len(items), ctx.Err())
			}
		}
		errs := make([]error, len(batch))
		if !x.dryRun {
			errs = x.do(ctx, conn, batch)
		}
		for i := range batch {
			if errs[i] != nil {
				failed++
			}
			if err := x.tell(&batch[i], errs[i]); err != nil {
				return failed, err
			}
		}
		n += len(batch)
		x.prog.show(x.verb, n, len(items))
		if ctx.Err() != nil {
			return failed, fmt.Errorf("stopped after %d of %d: %w", n, len(items), ctx.Err())
		}
	}
	return failed, nil
}

func (x *action) tell(d *deadItem, err error) error {
	o := outcome{ID: d.ID, Service: d.Service, Message: d.Message.ID, Outcome: x.done}
	switch {
	case err != nil:
		o.Outcome, o.Error = "failed", err.Error()
	case x.dryRun:
		o.Outcome = "would be " + x.done
	}
	return x.a.printOne(o, func(w io.Writer) error {
		text := o.Outcome
		if o.Error != "" {
			text = x.a.colour(red, "failed") + ": " + clean(o.Error)
		}
		_, err := fmt.Fprintf(w, "%s  %s  %s\n", o.ID, d.Handler, text)
		return err
	})
}

// requeue sends dead letters again, and removes those that were confirmed. One
// that could not be removed is sent again under the same id if it is requeued
// once more, which an inbox does not let take effect twice.
func requeue(ctx context.Context, conn driver.Conn, items []deadItem) []error {
	errs := make([]error, len(items))
	messages := make([]*driver.Message, len(items))
	for i := range items {
		messages[i] = items[i].Requeue()
	}
	if err := conn.Send(ctx, messages); err != nil {
		var partial *driver.SendError
		if !errors.As(err, &partial) {
			for i := range errs {
				errs[i] = fmt.Errorf("send: %w", err)
			}
			return errs
		}
		for _, f := range partial.Failures {
			errs[f.Index] = fmt.Errorf("send: %w", f.Err)
			if f.Unknown {
				errs[f.Index] = fmt.Errorf("send: outcome unknown, it is kept: %w", f.Err)
			}
		}
	}
	return remove(ctx, conn, items, errs, "sent again and not removed")
}

func discard(ctx context.Context, conn driver.Conn, items []deadItem) []error {
	return remove(ctx, conn, items, make([]error, len(items)), "not removed")
}

// remove takes out the dead letters that have no error.
func remove(ctx context.Context, conn driver.Conn, items []deadItem, errs []error, otherwise string) []error {
	b, err := ability[driver.Browser](conn, "remove from a channel")
	positions := map[string][]string{}
	for i := range items {
		if errs[i] == nil {
			positions[items[i].channel] = append(positions[items[i].channel], items[i].position)
		}
	}
	// A message that was sent must be removed, also when Ctrl-C came between.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	for channel, list := range positions {
		rerr := err
		if rerr == nil {
			rerr = b.Remove(ctx, channel, list)
		}
		for i := range items {
			if rerr != nil && errs[i] == nil && items[i].channel == channel {
				errs[i] = fmt.Errorf("%s: %w", otherwise, rerr)
			}
		}
	}
	return errs
}
