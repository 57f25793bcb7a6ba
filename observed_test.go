package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

// observer counts, by message, what its hooks saw.
type observer struct {
	mu             sync.Mutex
	prepared, sent map[string]int // by type and id
	tries          map[string]int
}

func (o *observer) hooks() dovetail.Hooks {
	o.prepared, o.sent, o.tries = map[string]int{}, map[string]int{}, map[string]int{}
	count := func(in map[string]int, ms []*driver.Message, but map[int]bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		for i, m := range ms {
			if !but[i] {
				in[m.Type+" "+m.ID]++
			}
		}
	}
	return dovetail.Hooks{
		Prepare: func(_ context.Context, ms []*driver.Message) { count(o.prepared, ms, nil) },
		Send: func(ctx context.Context, ms []*driver.Message) (context.Context, func(error)) {
			count(o.tries, ms, nil)
			return ctx, func(err error) {
				failed := map[int]bool{}
				var se *dovetail.SendError
				if errors.As(err, &se) {
					for _, f := range se.Failures {
						failed[f.Index] = true
					}
				} else if err != nil {
					return
				}
				count(o.sent, ms, failed)
			}
		},
	}
}

// once are the types that were prepared and sent once each, sorted, and an error
// for what was not.
func (o *observer) once() (types []string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(o.prepared)) {
		if o.prepared[id] != 1 || o.sent[id] != 1 {
			err = errors.Join(err, fmt.Errorf("%s: prepared %d times, sent %d times", id, o.prepared[id], o.sent[id]))
		}
		types = append(types, strings.Fields(id)[0])
	}
	for id, n := range o.sent {
		if n != 1 {
			err = errors.Join(err, fmt.Errorf("%s: sent %d times", id, n))
		}
	}
	slices.Sort(types)
	return types, err
}

func TestHooks_see_every_message_once_when_handed_over_and_once_when_sent(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var o observer
		svc := h.Service("mail", dovetail.Options{Hooks: o.hooks()})
		reserve.Handle(svc, func(ctx context.Context, i item) (item, error) {
			return i, ranLow.Publish(ctx, svc, i)
		})
		ranLow.Subscribe(svc, func(context.Context, item) error { return nil })
		welcome.Handle(svc, func(context.Context, item) error { return dovetail.Permanent(errors.New("no")) })
		svc.Declare(reserve, ranLow, welcome)
		h.Start()
		if _, err := reserve.Request(t.Context(), svc, item{"a", 1}); err != nil {
			t.Fatal(err)
		}
		if err := welcome.SendAll(t.Context(), svc, make([]item, 3)); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		got, err := o.once()
		if want := []string{"catalog.reserve-stock.v1", "catalog.reserve-stock.v1.reply", "catalog.stock-ran-low.v1",
			"mail.send-welcome.v1", "mail.send-welcome.v1", "mail.send-welcome.v1"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("hooks saw %v: %v", got, err)
		}
		if n := len(o.sent) - len(o.prepared); n != 3 || len(h.DeadLetters("mail")) != 3 {
			t.Errorf("%d dead letters were seen when they were sent, want 3", n)
		}
		if n := svc.Stats().Sent; n != 5 {
			t.Errorf("Sent is %d, want 5", n)
		}
	})
}

func TestHooks_that_are_joined_are_all_called_the_first_outermost(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		type key struct{}
		var mu sync.Mutex
		var log []string
		note := func(ctx context.Context, who, what string) context.Context {
			mu.Lock()
			defer mu.Unlock()
			inside, _ := ctx.Value(key{}).(string)
			log = append(log, inside+who+" "+what)
			return context.WithValue(ctx, key{}, inside+who+">")
		}
		named := func(who string) dovetail.Hooks {
			return dovetail.Hooks{
				Prepare: func(ctx context.Context, _ []*driver.Message) { note(ctx, who, "prepare") },
				Send: func(ctx context.Context, _ []*driver.Message) (context.Context, func(error)) {
					ctx = note(ctx, who, "send")
					return ctx, func(error) { note(context.Background(), who, "sent") }
				},
				Handle: func(ctx context.Context, _ *dovetail.Delivery) (context.Context, func(error)) {
					ctx = note(ctx, who, "handle")
					return ctx, func(error) { note(context.Background(), who, "handled") }
				},
				Notice: func(dovetail.Notice) { note(context.Background(), who, "notice") },
			}
		}
		bad := dovetail.Hooks{
			Prepare: func(context.Context, []*driver.Message) { panic("x") },
			Send:    func(context.Context, []*driver.Message) (context.Context, func(error)) { panic("x") },
			Handle:  func(context.Context, *dovetail.Delivery) (context.Context, func(error)) { panic("x") },
			Notice:  func(dovetail.Notice) { panic("x") },
		}
		svc := h.Service("mail", dovetail.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Hooks: dovetail.JoinHooks(named("a"), bad, dovetail.JoinHooks(named("b"), dovetail.Hooks{}))})
		welcome.Handle(svc, func(ctx context.Context, _ item) error {
			note(ctx, "", "handler")
			return dovetail.Discard(nil)
		})
		svc.Declare(welcome)
		h.Start()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		h.Advance(time.Second)
		want := []string{"a prepare", "b prepare", "a send", "a>b send", "a handle", "a>b handle", "a>b> handler",
			"b handled", "a handled", "a notice", "b notice"}
		got := slices.DeleteFunc(slices.Clone(log), func(s string) bool { return strings.HasSuffix(s, " sent") })
		if !slices.Equal(got, want) || len(log)-len(got) != 2 || slices.Index(log, "b sent") > slices.Index(log, "a sent") {
			t.Errorf("calls %q, want %q", log, want)
		}
	})
}

func TestRelay_counts_what_was_confirmed_and_tells_hooks_of_the_rest(t *testing.T) {
	var o observer
	conn := scriptedConn(t)
	first := true
	conn.send = func(_ context.Context, ms []*driver.Message) error {
		if first {
			first = false
			var se driver.SendError
			se.Fail(1, driver.ErrRetryable, false)
			return se.OrNil()
		}
		return nil
	}
	svc := dovetail.New("mail", conn, dovetail.Options{Hooks: o.hooks()})
	ms := []*driver.Message{{ID: "1", Type: "x"}, {ID: "2", Type: "x"}, {ID: "3", Type: "x"}}
	if err := svc.Relay(t.Context(), ms); err == nil || svc.Stats().Sent != 2 {
		t.Errorf("%v, Sent is %d, want 2", err, svc.Stats().Sent)
	}
	if err := svc.Relay(t.Context(), ms[1:2]); err != nil || svc.Stats().Sent != 3 {
		t.Errorf("%v, Sent is %d, want 3", err, svc.Stats().Sent)
	}
	if want := map[string]int{"x 1": 1, "x 2": 1, "x 3": 1}; !maps.Equal(o.sent, want) || o.tries["x 2"] != 2 {
		t.Errorf("sent %v, tried %v", o.sent, o.tries)
	}
}
