package guide

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
)

type Charge struct {
	Order string `json:"order"`
	Pence int    `json:"pence"`
}

var ChargeCard = dovetail.NewCommand[Charge]("payment.charge-card").Keyed(func(c Charge) string { return c.Order })

var (
	errBusy   = errors.New("the bank is busy")
	errNoCard = errors.New("there is no card")
	errOld    = errors.New("the order was cancelled")
	errDown   = errors.New("connection refused")
)

// chargeCard says by the error what is to become of the message.
func chargeCard(bank func(Charge) error) func(context.Context, Charge) error {
	return func(ctx context.Context, c Charge) error {
		err := bank(c)
		switch {
		case errors.Is(err, errBusy):
			return dovetail.RetryAfter(time.Minute, err) // when the other side says when
		case errors.Is(err, errNoCard):
			return dovetail.Permanent(err) // a dead letter at once
		case errors.Is(err, errOld):
			return dovetail.Discard(err) // nobody wants it any more
		}
		return err // nil: done; otherwise again, by the policy
	}
}

// patient tries for about a day, twelve minutes apart at most.
var patient = dovetail.RetryPolicy{Attempts: 120, First: time.Second, Factor: 2, Max: 12 * time.Minute}

func TestErrors_decide_what_becomes_of_a_message(t *testing.T) {
	for _, c := range []struct {
		name     string
		bank     error
		attempts int // of a dead letter; 0 for none
		calls    int // within three minutes
	}{
		{"handled", nil, 0, 1},
		{"tried when the bank says", errBusy, 0, 3},
		{"kept at once", errNoCard, 1, 1},
		{"dropped", errOld, 0, 1},
		{"tried again and again", errDown, 0, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
				calls := 0
				svc := h.Service("payment")
				ChargeCard.Handle(svc, chargeCard(func(Charge) error { calls++; return c.bank }), dovetail.Retry(patient))
				svc.Declare(ChargeCard)
				h.Start()
				if err := ChargeCard.Send(t.Context(), svc, Charge{"7", 250}); err != nil {
					t.Fatal(err)
				}
				h.Advance(2*time.Minute + 50*time.Second)
				dead := h.DeadLetters("payment")
				if calls != c.calls || len(dead) != min(c.attempts, 1) {
					t.Errorf("%d calls, dead letters %v; want %d calls", calls, dead, c.calls)
				}
			})
		})
	}
}

// A failing message holds its own key and no other.
func TestRetry_holds_its_key(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var done []string
		var repaired atomic.Bool // handlers have goroutines of their own
		svc := h.Service("payment")
		ChargeCard.Handle(svc, func(_ context.Context, c Charge) error {
			if c.Order == "7" && !repaired.Load() {
				return errDown
			}
			done = append(done, fmt.Sprint(c.Order, "/", c.Pence))
			return nil
		}, dovetail.Retry(patient), dovetail.Concurrency(1))
		svc.Declare(ChargeCard)
		h.Start()
		for _, c := range []Charge{{"7", 1}, {"7", 2}, {"8", 3}} {
			if err := ChargeCard.Send(t.Context(), svc, c); err != nil {
				t.Fatal(err)
			}
		}
		h.Settle()
		if got := fmt.Sprint(done); got != "[8/3]" {
			t.Errorf("handled %s before the bank is back", got)
		}
		repaired.Store(true)
		h.Advance(time.Minute)
		if got := fmt.Sprint(done); got != "[8/3 7/1 7/2]" {
			t.Errorf("handled %s", got)
		}
	})
}

// What failed for the last time is kept, and sent again once it can be handled.
func TestDeadLetter_is_sent_again_to_the_handler_that_failed(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		repaired, charged := false, 0
		svc := h.Service("payment")
		ChargeCard.Handle(svc, func(_ context.Context, c Charge) error {
			if !repaired {
				return dovetail.Permanent(errNoCard)
			}
			charged += c.Pence
			return nil
		})
		svc.Declare(ChargeCard)
		h.Start()
		if err := ChargeCard.Send(t.Context(), svc, Charge{"7", 250}); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		dead := h.DeadLetters("payment")
		if len(dead) != 1 || dead[0].Error != "there is no card" || dead[0].Handler != "payment.charge-card.v1" {
			t.Fatalf("dead letters: %+v", dead)
		}
		repaired = true
		h.Requeue(dead[0])
		h.Settle()
		if charged != 250 || len(h.DeadLetters("payment")) != 0 {
			t.Errorf("charged %d", charged)
		}
	})
}
