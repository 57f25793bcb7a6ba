package dovetailtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

type order struct {
	ID    string `json:"id"`
	Total int    `json:"total"` // pence
}

var (
	place  = dovetail.NewCommand[order]("ordering.place")
	placed = dovetail.NewEvent[order]("ordering.placed").Keyed(func(o order) string { return o.ID })
)

// accept is code under test: it only sends.
func accept(ctx context.Context, out dovetail.Sender, o order) error {
	if o.Total <= 0 {
		return dovetail.Refuse("empty", "order %s is empty", o.ID)
	}
	return placed.Publish(ctx, out, o)
}

func TestRecorder_keeps_what_is_sent(t *testing.T) {
	rec := dovetailtest.NewRecorder("ordering")
	if err := accept(t.Context(), rec, order{"1", 250}); err != nil {
		t.Fatal(err)
	}
	if err := accept(t.Context(), rec, order{"2", 0}); err == nil {
		t.Error("want a refusal")
	}
	if got := dovetailtest.Sent(t, rec, placed); len(got) != 1 || got[0] != (order{"1", 250}) {
		t.Errorf("sent %v", got)
	}
	if got := rec.Messages()[0]; got.Source != "ordering" || got.Key != "1" {
		t.Errorf("message %+v", got)
	}
	rec.Fail = func(context.Context, []*driver.Message) error { return errors.New("broker is away") }
	if err := accept(t.Context(), rec, order{"3", 1}); err == nil {
		t.Error("want the failure")
	}
	rec.Reset()
	if n := len(rec.Messages()); n != 0 {
		t.Errorf("%d messages after Reset", n)
	}
}

func TestHarness_retries_without_waiting_and_shows_dead_letters(t *testing.T) {
	from := time.Now()
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("ordering")
		broken, seen := true, []string(nil)
		place.Handle(svc, func(ctx context.Context, o order) error {
			if broken {
				return errors.New("database is down")
			}
			return accept(ctx, svc, o)
		}, dovetail.Retry(dovetail.RetryPolicy{Attempts: 4, First: time.Hour, Max: 24 * time.Hour, Jitter: -1}))
		placed.Subscribe(svc, func(_ context.Context, o order) error {
			seen = append(seen, o.ID)
			return nil
		})
		svc.Declare(place, placed)
		h.Start()
		if err := place.Send(t.Context(), svc, order{"7", 100}); err != nil {
			t.Fatal(err)
		}
		h.Advance(6 * time.Hour)
		if n := len(h.DeadLetters("ordering")); n != 0 {
			t.Fatalf("%d dead letters before the last attempt", n)
		}
		h.Advance(2 * time.Hour)
		dead := h.DeadLetters("ordering")
		if len(dead) != 1 || dead[0].Attempts != 4 || dead[0].Error != "database is down" {
			t.Fatalf("dead letters %+v", dead)
		}
		broken = false
		h.Requeue(dead[0])
		h.Settle()
		if len(seen) != 1 || len(h.DeadLetters("ordering")) != 0 {
			t.Errorf("seen %v, dead letters %v", seen, h.DeadLetters("ordering"))
		}
	})
	if took := time.Since(from); took > 10*time.Second {
		t.Errorf("eight hours took %v", took)
	}
}

func ExampleRecorder() {
	rec := dovetailtest.NewRecorder("ordering")
	_ = accept(context.Background(), rec, order{ID: "536365", Total: 13912})
	for _, m := range rec.Messages() {
		fmt.Println(m.Type, m.Key, string(m.Body))
	}
	// Output: ordering.placed.v1 536365 {"id":"536365","total":13912}
}
