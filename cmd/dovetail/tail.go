package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/spf13/cobra"
)

// A tailing is what the tail command was asked for.
type tailing struct {
	a       *app
	types   []string
	keys    []string
	limit   int
	rate    float64
	stored  bool
	every   time.Duration
	printed int
	skipped int

	mu    sync.Mutex
	allow time.Time // when the next message may be printed
	stop  context.CancelFunc
}

func (a *app) tailCommand() *cobra.Command {
	t := &tailing{a: a}
	cmd := &cobra.Command{
		Use:   "tail CHANNEL...",
		Short: "Follow channels without consuming",
		Long: `Follow channels, by name or by pattern (ordering.*), without taking a message
from anybody. Of a publish–subscribe channel it shows what is sent from now on; of
a point-to-point channel what waits there, which is gone as soon as its receiver
has handled it. --stored shows what is at rest, and ends.`,
		Example: `  dovetail tail ordering.order-placed
  dovetail tail 'ordering.*' --type 'ordering.order-*' --rate 20 -o json
  dovetail tail mail.send-welcome --stored --limit 10`,
		Args: arguments(1, -1, "a channel"),
		RunE: func(cmd *cobra.Command, args []string) error { return t.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&t.types, "type", nil, "show only messages of these types, by name or pattern")
	f.StringArrayVar(&t.keys, "key", nil, "show only messages of these keys")
	f.IntVar(&t.limit, "limit", 0, "end after so many messages")
	f.Float64Var(&t.rate, "rate", 100, "show at most so many a second, and count the others; 0 for no bound")
	f.BoolVar(&t.stored, "stored", false, "show what is at rest, and end")
	f.DurationVar(&t.every, "every", 200*time.Millisecond, "how often to look into point-to-point channels")
	return cmd
}

func (t *tailing) run(ctx context.Context, patterns []string) error {
	if t.limit < 0 || t.rate < 0 || t.every <= 0 {
		return misuse("--limit and --rate: want 0 or more; --every: more than 0")
	}
	for _, p := range slices.Concat(patterns, t.types) {
		if _, err := path.Match(p, ""); err != nil {
			return misuse("pattern %q: %v", p, err)
		}
	}
	conn, done, err := t.a.connect(ctx)
	if err != nil {
		return err
	}
	defer done()
	channels, err := match(ctx, conn, patterns)
	if err != nil {
		return err
	}
	ctx, t.stop = context.WithCancel(ctx)
	defer t.stop()
	var wg sync.WaitGroup
	errs := make([]error, len(channels))
	for i, c := range channels {
		wg.Go(func() {
			if errs[i] = t.channel(ctx, conn, c); errs[i] != nil {
				t.stop()
			}
		})
	}
	wg.Wait()
	if t.skipped > 0 {
		t.a.note("%d messages were not shown, to keep to --rate %g", t.skipped, t.rate)
	}
	return errors.Join(errs...)
}

// match finds the channels that are meant.
func match(ctx context.Context, conn driver.Conn, patterns []string) ([]driver.Channel, error) {
	l, err := ability[driver.Lister](conn, "list its channels")
	if err != nil {
		return nil, err
	}
	all, err := l.Channels(ctx)
	if err != nil {
		return nil, err
	}
	var found []driver.Channel
	for _, p := range patterns {
		n := len(found)
		for _, c := range all {
			if ok, _ := path.Match(p, c.Channel.Name); ok {
				found = append(found, c.Channel)
			}
		}
		if len(found) == n {
			return nil, fmt.Errorf("no channel is called %s: dovetail topology lists what there is", p)
		}
	}
	slices.SortFunc(found, func(a, b driver.Channel) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(found, func(a, b driver.Channel) bool { return a.Name == b.Name }), nil
}

func (t *tailing) channel(ctx context.Context, conn driver.Conn, c driver.Channel) error {
	var err error
	if !t.stored && c.Kind == driver.PublishSubscribe && conn.Capabilities().Broadcast {
		err = t.listen(ctx, conn, c)
	} else {
		err = t.look(ctx, conn, c)
	}
	if ctx.Err() != nil || errors.Is(err, errFull) {
		return nil
	}
	return err
}

// listen subscribes as a group of its own, which goes with it.
func (t *tailing) listen(ctx context.Context, conn driver.Conn, c driver.Channel) (err error) {
	s := driver.Subscription{Channel: c, Group: "dovetail-tail", Instance: dovetail.NewID()[24:], Broadcast: true, Window: 1024}
	r, err := conn.OpenReceiver(ctx, s)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.a.timeout)
		defer cancel()
		err = errors.Join(err, r.Close(closing))
		if remover, ok := conn.(driver.Remover); ok {
			if gone := remover.RemoveGroup(closing, c.Name, s.GroupName()); conn.Classify(gone) != driver.NotFound {
				err = errors.Join(err, gone)
			}
		}
	}()
	t.a.note("following %s", c.Name)
	for {
		ds, err := r.Receive(ctx, 256)
		if err != nil {
			if conn.Classify(err) == driver.Retryable {
				t.a.note("dovetail: %v; trying again", err)
				if !backoff.Sleep(ctx, time.Second) {
					return nil
				}
				continue
			}
			return err
		}
		settled := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			settled[i].Delivery = d
			if err := t.show(d.Message, ""); err != nil {
				return err
			}
		}
		if err := r.Settle(ctx, settled); err != nil && conn.Classify(err) != driver.Retryable {
			return err
		}
	}
}

// look browses what is at rest, again and again unless only that is wanted.
func (t *tailing) look(ctx context.Context, conn driver.Conn, c driver.Channel) error {
	b, err := ability[driver.Browser](conn, "browse a channel")
	if err != nil {
		return err
	}
	if !t.stored {
		t.a.note("following %s (%s: what waits there)", c.Name, c.Kind)
	}
	after := ""
	for {
		page, err := b.Browse(ctx, c.Name, after, 256)
		if err != nil && conn.Classify(err) != driver.Retryable {
			return err
		}
		for _, s := range page {
			after = s.Position
			if err := t.show(s.Message, s.Position); err != nil {
				return err
			}
		}
		if len(page) > 0 {
			continue
		}
		if t.stored || !backoff.Sleep(ctx, t.every) {
			return nil
		}
	}
}

// errFull ends a tail that has shown enough.
var errFull = errors.New("limit reached")

func (t *tailing) wanted(m *driver.Message) bool {
	matches := func(list []string, s string) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(p string) bool {
			ok, _ := path.Match(p, s)
			return ok
		})
	}
	return matches(t.types, m.Type) && (len(t.keys) == 0 || slices.Contains(t.keys, m.Key))
}

// show prints a message that is wanted, within the rate; what is at rest waits
// for its turn, what is live does not.
func (t *tailing) show(m *driver.Message, position string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.wanted(m) {
		return nil
	}
	if t.limit > 0 && t.printed >= t.limit {
		return errFull
	}
	now := time.Now()
	if t.rate > 0 && !t.stored {
		// Up to a second's worth may come at once.
		gap := time.Duration(float64(time.Second) / t.rate)
		if t.allow.After(now.Add(time.Second - gap)) {
			t.skipped++
			return nil
		}
		if t.allow.Before(now) {
			t.allow = now
		}
		t.allow = t.allow.Add(gap)
	}
	s := show(m)
	s.Position = position
	err := t.a.printOne(s, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s  %s  %s  %s  %s\n", t.a.colour(dim, clock(m.Time)), t.a.colour(cyan, clean(m.Type)),
			t.a.colour(yellow, clean(orDash(m.Key))), clean(m.ID), preview(m, 120))
		return err
	})
	if t.printed++; err == nil && t.limit > 0 && t.printed == t.limit {
		t.stop()
	}
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
