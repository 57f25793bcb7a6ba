package dovetail_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
)

func TestHandler_has_the_callers_deadline_and_two_seconds(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		catalog, shop := h.Service("catalog"), h.Service("shop")
		var ran time.Duration
		left := make(chan error, 1)
		reserve.Handle(catalog, func(ctx context.Context, i item) (item, error) {
			from := time.Now()
			at, ok := ctx.Deadline()
			if want := 5 * time.Second; !ok || time.Until(at).Round(time.Millisecond) != want { // Within and the skew
				t.Errorf("the handler has %v (%v), want %v", time.Until(at), ok, want)
			}
			<-ctx.Done()
			ran = time.Since(from).Round(time.Millisecond)
			left <- ctx.Err()
			return item{}, ctx.Err()
		}, dovetail.Retry(dovetail.RetryPolicy{Attempts: 1}))
		shop.Declare(reserve)
		h.Start()
		if _, err := reserve.Request(t.Context(), shop, item{}, dovetail.Within(3*time.Second)); !errors.Is(err, dovetail.ErrNoReply) {
			t.Errorf("the caller got %v", err)
		}
		h.Advance(time.Minute)
		if ran != 5*time.Second || !errors.Is(<-left, context.DeadlineExceeded) {
			t.Errorf("the handler ran for %v", ran)
		}
		// It is no dead letter: nobody awaits the answer any more.
		if s := catalog.Stats(); s.Expired != 1 || s.Dead != 0 || len(h.DeadLetters("catalog")) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestHandler_has_the_sooner_of_its_timeout_and_the_callers_deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := open(t, "catalog", quick)
		got := make(chan time.Duration, 1)
		reserve.Handle(svc, func(ctx context.Context, i item) (item, error) {
			at, _ := ctx.Deadline()
			got <- time.Until(at).Round(time.Millisecond)
			return i, nil
		}, dovetail.Timeout(10*time.Second))
		welcome.Handle(svc, func(ctx context.Context, _ item) error {
			at, ok := ctx.Deadline()
			if ok && time.Until(at) < time.Hour {
				t.Errorf("a command has a deadline in %v", time.Until(at))
			}
			got <- 0
			return nil
		})
		svc.Declare(reserve, welcome)
		stop := start(t, svc)
		for within, want := range map[time.Duration]time.Duration{time.Second: 3 * time.Second, time.Minute: 10 * time.Second} {
			if _, err := reserve.Request(t.Context(), svc, item{}, dovetail.Within(within)); err != nil {
				t.Fatal(err)
			}
			if d := <-got; d != want {
				t.Errorf("within %v the handler has %v, want %v", within, d, want)
			}
		}
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-got
		stop()
	})
}
