package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

// fragile is an error whose methods panic on a nil pointer.
type fragile struct{ text string }

func (e *fragile) Error() string { return e.text }

// brittle is an error whose As and Is panic.
type brittle struct{}

func (brittle) Error() string   { return "brittle" }
func (brittle) As(any) bool     { panic("As") }
func (brittle) Is(error) bool   { panic("Is") }
func (brittle) Unwrap() []error { return []error{nil} }

// evil is a codec that panics when it is told to.
type evil struct{ marshal, unmarshal *bool }

func (evil) ContentType() string { return "application/x-evil" }

func (e evil) Marshal(v any) ([]byte, error) {
	if *e.marshal {
		panic("marshal")
	}
	return fmt.Append(nil, v), nil
}

func (e evil) Unmarshal([]byte, any) error {
	if *e.unmarshal {
		panic("unmarshal")
	}
	return nil
}

func TestPanics_of_user_code_are_errors(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("mail", dovetail.Options{Retry: dovetail.RetryPolicy{Attempts: 2}})
		handled := 0
		welcome.Handle(svc, func(ctx context.Context, i item) error {
			switch i.SKU {
			case "typed nil":
				var e *fragile
				return e
			case "wrapped typed nil":
				var e *fragile
				return fmt.Errorf("x: %w", errors.Join(e))
			case "brittle":
				return brittle{}
			case "on dead letter":
				dovetail.DeliveryFromContext(ctx).OnDeadLetter(func(context.Context) error {
					if handled == 0 {
						handled++
						panic("told")
					}
					return nil
				})
				return dovetail.Permanent(errors.New("no"))
			}
			return nil
		})
		ranLow.SubscribeBatch(svc, func(_ context.Context, items []item) []error {
			errs := make([]error, len(items))
			for i := range items {
				if items[i].SKU == "bad" {
					var e *fragile
					errs[i] = e
				}
			}
			return errs
		})
		svc.Declare(welcome, ranLow)
		h.Start()
		inputs := []string{"typed nil", "wrapped typed nil", "brittle", "on dead letter"}
		for i, in := range inputs {
			if err := welcome.Send(t.Context(), svc, item{SKU: in}); err != nil {
				t.Fatal(err)
			}
			h.Advance(time.Minute)
			if n := len(h.DeadLetters("mail")); n != i+1 {
				t.Errorf("%s: %d dead letters", in, n)
			}
		}
		if err := ranLow.PublishAll(t.Context(), svc, []item{{SKU: "good"}, {SKU: "bad"}, {SKU: "fine"}}); err != nil {
			t.Fatal(err)
		}
		h.Advance(time.Minute)
		if n, s := len(h.DeadLetters("mail")), svc.Stats(); n != len(inputs)+1 || s.Handled != 2 {
			t.Errorf("%d dead letters, %+v", n, s)
		}
		for i, d := range h.DeadLetters("mail")[:3] {
			if i != 1 && !strings.Contains(d.Error, "has a method that panics") { // fmt writes the second by itself
				t.Errorf("error %q", d.Error)
			}
		}
	})
}

type panicking struct{ slog.Handler }

func (panicking) Handle(context.Context, slog.Record) error { panic("log") }
func (panicking) Enabled(context.Context, slog.Level) bool  { return true }

func TestPanics_of_hooks_and_the_log_change_nothing(t *testing.T) {
	for name, hooks := range map[string]dovetail.Hooks{
		"prepare": {Prepare: func(context.Context, []*driver.Message) { panic("x") }},
		"send":    {Send: func(context.Context, []*driver.Message) (context.Context, func(error)) { panic("x") }},
		"after send": {Send: func(context.Context, []*driver.Message) (context.Context, func(error)) {
			return nil, func(error) { panic("x") }
		}},
		"handle": {Handle: func(context.Context, *dovetail.Delivery) (context.Context, func(error)) { panic("x") }},
		"after handle": {Handle: func(context.Context, *dovetail.Delivery) (context.Context, func(error)) {
			return nil, func(error) { panic("x") }
		}},
		"notice": {Notice: func(dovetail.Notice) { panic("x") }},
	} {
		t.Run(name, func(t *testing.T) {
			dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
				svc := h.Service("mail", dovetail.Options{Hooks: hooks, Logger: slog.New(panicking{slog.DiscardHandler})})
				var n atomic.Int32
				welcome.Handle(svc, func(ctx context.Context, _ item) error {
					if n.Add(1); dovetail.DeliveryFromContext(ctx).Attempt == 1 {
						return errors.New("again")
					}
					return nil
				})
				ranLow.SubscribeBatch(svc, func(context.Context, []item) []error { n.Add(1); return nil })
				svc.Declare(welcome, ranLow)
				h.Start()
				if err := errors.Join(welcome.Send(t.Context(), svc, item{}), ranLow.Publish(t.Context(), svc, item{})); err != nil {
					t.Fatal(err)
				}
				h.Advance(time.Second)
				if n.Load() != 3 {
					t.Errorf("handlers ran %d times, want 3", n.Load())
				}
			})
		})
	}
}

func TestPanics_of_codecs_and_keys_are_errors_of_their_message(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var marshal, unmarshal bool
		e := evil{&marshal, &unmarshal}
		odd := dovetail.NewCall[string, string]("mail.odd").Encoded(e)
		keyed := dovetail.NewCommand[item]("mail.keyed").Keyed(func(i item) string { panic("key") })
		svc := h.Service("mail")
		odd.Handle(svc, func(context.Context, string) (string, error) { marshal = true; return "", nil })
		svc.Declare(odd, keyed)
		h.Start()
		if err := keyed.Send(t.Context(), svc, item{}); !errors.Is(err, dovetail.ErrInvalid) {
			t.Errorf("key: %v", err)
		}
		marshal = true
		if _, err := odd.Request(t.Context(), svc, ""); !errors.Is(err, dovetail.ErrInvalid) || !strings.Contains(err.Error(), "panicked") {
			t.Errorf("encode: %v", err)
		}
		marshal, unmarshal = false, true
		var failed *dovetail.RemoteError
		if _, err := odd.Request(t.Context(), svc, ""); !errors.As(err, &failed) || failed.Attempts != 1 || !strings.Contains(failed.Message, "panicked") {
			t.Errorf("decode: %v", err)
		}
		marshal, unmarshal = false, false
		if _, err := odd.Request(t.Context(), svc, ""); !errors.As(err, &failed) || !strings.Contains(failed.Message, "encode reply") {
			t.Errorf("encode the reply: %v", err)
		}
	})
}
