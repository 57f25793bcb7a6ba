package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

var (
	paidV1 = dovetail.NewEvent[item]("billing.paid")
	paidV2 = dovetail.NewEvent[item]("billing.paid").Version(2)
	billV1 = dovetail.NewCommand[item]("billing.bill")
	billV2 = dovetail.NewCommand[item]("billing.bill").Version(2)
)

// A handled is what handlers have seen, safe for concurrent use.
type handled struct {
	mu   sync.Mutex
	seen []string
}

func (h *handled) by(who string) func(context.Context, item) error {
	return func(_ context.Context, i item) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.seen = append(h.seen, who+" "+i.SKU)
		return nil
	}
}

func (h *handled) sorted() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := slices.Sorted(slices.Values(h.seen))
	return strings.Join(s, ", ")
}

func TestUnhandled_versions_wait_for_an_instance_that_handles_them(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got handled
		shop := h.Service("shop")
		shop.Declare(paidV1, paidV2, billV1, billV2)
		old := h.Service("billing", dovetail.Options{Instance: "old"})
		paidV1.Subscribe(old, got.by("old paid"))
		billV1.Handle(old, got.by("old bill"))
		h.Start()
		for i := range 3 {
			it := item{SKU: fmt.Sprint(i)}
			if err := errors.Join(paidV1.Publish(t.Context(), shop, it), paidV2.Publish(t.Context(), shop, it),
				billV1.Send(t.Context(), shop, it), billV2.Send(t.Context(), shop, it)); err != nil {
				t.Fatal(err)
			}
		}
		h.Settle()
		if s := old.Stats(); s.Unhandled != 6 || s.Handled != 6 || s.Dead != 0 {
			t.Errorf("%d unhandled, %d handled, %d dead, want 6, 6, 0", s.Unhandled, s.Handled, s.Dead)
		}
		waiting := h.Waiting("billing")
		if len(waiting) != 6 || len(h.DeadLetters("billing")) != 0 {
			t.Fatalf("%d wait, %d are dead letters", len(waiting), len(h.DeadLetters("billing")))
		}
		for _, d := range waiting {
			if d.Cause != dovetail.CauseUnhandled || d.Group != "billing" || d.Handler != d.Message.Type || d.Message.Source != "shop" {
				t.Errorf("letter %+v of %+v", d, d.Message)
			}
		}
		fresh := h.Service("billing", dovetail.Options{Instance: "new"})
		paidV1.Subscribe(fresh, got.by("new paid"))
		paidV2.Subscribe(fresh, got.by("new paid2"))
		billV1.Handle(fresh, got.by("new bill"))
		billV2.Handle(fresh, got.by("new bill2"))
		h.Start()
		h.Settle()
		const want = "new bill2 0, new bill2 1, new bill2 2, new paid2 0, new paid2 1, new paid2 2, " +
			"old bill 0, old bill 1, old bill 2, old paid 0, old paid 1, old paid 2"
		if got.sorted() != want {
			t.Errorf("handled %s", got.sorted())
		}
		if len(h.Waiting("billing")) != 0 {
			t.Error("some still wait")
		}
		// Both run: what reaches the old one comes to the new one by itself.
		for i := range 40 {
			it := item{SKU: fmt.Sprint("late", i)}
			if err := errors.Join(paidV2.Publish(t.Context(), shop, it), billV2.Send(t.Context(), shop, it)); err != nil {
				t.Fatal(err)
			}
		}
		h.Advance(10 * time.Second)
		for i := range 40 {
			for _, kind := range []string{"bill2", "paid2"} {
				if one := fmt.Sprintf("new %s late%d", kind, i); !strings.Contains(got.sorted(), one) {
					t.Errorf("lost: %s", one)
				}
			}
		}
		if n := len(h.Waiting("billing")); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

func TestUnhandled_types_of_others_on_a_shared_channel_are_settled_and_counted(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		orders := dovetail.NewChannel("ordering.orders")
		placed := dovetail.NewEvent[item]("ordering.placed").On(orders)
		other := dovetail.NewEvent[item]("ordering.other").On(orders)
		var got handled
		svc := h.Service("catalog")
		placed.Subscribe(svc, got.by("placed"))
		svc.Declare(placed, other, placed.Version(3))
		h.Start()
		if err := errors.Join(other.Publish(t.Context(), svc, item{}), placed.Version(3).Publish(t.Context(), svc, item{})); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		if s := svc.Stats(); s.Unhandled != 2 || s.Handled != 0 {
			t.Errorf("%+v", s)
		}
		if w := h.Waiting("catalog"); len(w) != 1 || w[0].Handler != "ordering.placed.v3" {
			t.Errorf("waiting: %+v", w)
		}
	})
}

func TestUnhandled_call_is_answered_by_an_instance_that_handles_it(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		ask := dovetail.NewCall[item, item]("billing.quote")
		shop, old := h.Service("shop"), h.Service("billing", dovetail.Options{Instance: "old"})
		shop.Declare(ask.Version(2))
		ask.Handle(old, func(_ context.Context, i item) (item, error) { return i, nil })
		h.Start()
		_, err := ask.Version(2).Request(t.Context(), shop, item{}, dovetail.Within(time.Second))
		if !errors.Is(err, dovetail.ErrNoReply) {
			t.Errorf("nobody handles it: %v", err)
		}
		answer := make(chan error, 1)
		go func() {
			got, err := ask.Version(2).Request(t.Context(), shop, item{SKU: "x"}, dovetail.Within(time.Minute))
			if err == nil && got.Count != 7 {
				err = fmt.Errorf("got %+v", got)
			}
			answer <- err
		}()
		h.Settle()
		fresh := h.Service("billing", dovetail.Options{Instance: "new"})
		ask.Version(2).Handle(fresh, func(_ context.Context, i item) (item, error) {
			if i.SKU != "x" {
				t.Error("the request whose caller has gone was carried out")
			}
			return item{i.SKU, 7}, nil
		})
		<-time.After(10 * time.Second) // the first is expired by now
		h.Start()
		if err := <-answer; err != nil {
			t.Error(err)
		}
		h.Settle()
		if s := fresh.Stats(); s.Expired != 1 || s.Handled != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestUnhandled_message_without_a_type_goes_to_the_one_contract_or_to_the_dead_letters(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got handled
		svc := h.Service("billing")
		paidV1.Subscribe(svc, got.by("paid"))
		billV1.Handle(svc, got.by("bill"))
		billV2.Handle(svc, got.by("bill2"))
		h.Start()
		plain := func(channel, sku string) *driver.Message {
			return &driver.Message{Channel: channel, Body: fmt.Appendf(nil, `{"sku":%q}`, sku)}
		}
		h.Deliver(plain("billing.paid", "p"), plain("billing.bill", "b"))
		h.Settle()
		if got.sorted() != "paid p" {
			t.Errorf("handled %s", got.sorted())
		}
		dead := h.DeadLetters("billing")
		if len(dead) != 1 || dead[0].Cause != dovetail.CauseUnhandled || string(dead[0].Message.Body) != `{"sku":"b"}` {
			t.Fatalf("%+v", dead)
		}
		if s := svc.Stats(); s.Unhandled != 1 || s.Dead != 1 || s.Handled != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestUnhandled_types_that_a_stranger_invents_make_a_bounded_number_of_channels(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("billing")
		billV1.Handle(svc, func(context.Context, item) error { return nil })
		h.Start()
		for i := range 100 {
			h.Deliver(&driver.Message{Channel: "billing.bill", ID: fmt.Sprint(i), Type: fmt.Sprint("invented", i, ".v1"), Body: []byte(`{}`)})
		}
		h.Settle()
		if w, d := len(h.Waiting("billing")), len(h.DeadLetters("billing")); w != 32 || d != 68 {
			t.Errorf("%d wait, %d are dead letters", w, d)
		}
	})
}

func TestUnhandled_letter_that_is_requeued_to_an_old_instance_waits_again(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got handled
		svc := h.Service("billing", dovetail.Options{Instance: "old"})
		billV1.Handle(svc, got.by("bill"))
		svc.Declare(billV2)
		h.Start()
		if err := billV2.Send(t.Context(), svc, item{SKU: "x"}, dovetail.ID("1")); err != nil {
			t.Fatal(err)
		}
		h.Settle()
		w := h.Waiting("billing")
		if len(w) != 1 {
			t.Fatalf("%d wait", len(w))
		}
		h.Requeue(w[0])
		h.Settle()
		if w = h.Waiting("billing"); len(w) != 1 || w[0].Message.ID != "1" || w[0].Requeues != 1 {
			t.Fatalf("%+v", w)
		}
		fresh := h.Service("billing", dovetail.Options{Instance: "new"})
		billV2.Handle(fresh, func(ctx context.Context, i item) error {
			if in := dovetail.DeliveryFromContext(ctx); in.Message.ID != "1" || in.Requeues != 1 || in.Handler != "billing.bill.v2" || in.Group != "billing" {
				t.Errorf("%+v", in.Message)
			}
			return got.by("new")(ctx, i)
		})
		h.Start()
		h.Settle()
		if got.sorted() != "new x" {
			t.Errorf("handled %s", got.sorted())
		}
	})
}

func TestUnhandled_type_that_only_a_handler_of_any_type_takes_comes_back(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got handled
		old := h.Service("billing", dovetail.Options{Instance: "old"})
		billV1.Handle(old, got.by("old"))
		h.Start()
		for _, typ := range []string{"com.other", "com.another"} {
			h.Deliver(&driver.Message{Channel: "billing.bill", ID: typ, Type: typ, Body: []byte(`{"SKU":"x"}`)})
		}
		h.Settle()
		if n := len(h.Waiting("billing")); n != 2 {
			t.Fatalf("%d wait", n)
		}
		fresh := h.Service("billing", dovetail.Options{Instance: "new"})
		billV2.Handle(fresh, got.by("new"), dovetail.AnyType())
		h.Start()
		h.Advance(2 * time.Minute)
		if n := len(h.Waiting("billing")); got.sorted() != "new x, new x" || n != 0 {
			t.Errorf("handled %s, %d wait", got.sorted(), n)
		}
	})
}
