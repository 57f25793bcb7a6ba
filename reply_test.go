package dovetail_test

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

func TestRequests_under_one_id_each_get_their_own_answer(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		charge := dovetail.NewCall[item, string]("bank.charge")
		shop, catalog := h.Service("shop"), h.Service("catalog")
		shop.Declare(reserve, charge)
		reserve.Handle(catalog, func(ctx context.Context, i item) (item, error) {
			<-time.After(time.Duration(i.Count) * time.Second)
			return item{"reserved", i.Count}, nil
		})
		charge.Handle(catalog, func(context.Context, item) (string, error) {
			<-time.After(2 * time.Second)
			return "charged", nil
		})
		h.Start()
		errs := make(chan error)
		go func() {
			got, err := reserve.Request(t.Context(), shop, item{Count: 1}, dovetail.ID("order-42"))
			if err == nil && got.SKU != "reserved" {
				err = fmt.Errorf("reserve got %+v", got)
			}
			errs <- err
		}()
		go func() {
			got, err := charge.Request(t.Context(), shop, item{}, dovetail.ID("order-42"))
			if err == nil && got != "charged" {
				err = fmt.Errorf("charge got %q", got)
			}
			errs <- err
		}()
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		// The answer to an earlier call comes while a later one waits.
		if _, err := reserve.Request(t.Context(), shop, item{Count: 5}, dovetail.ID("order-43"), dovetail.Within(2*time.Second)); !errors.Is(err, dovetail.ErrNoReply) {
			t.Error(err)
		}
		if got, err := charge.Request(t.Context(), shop, item{}, dovetail.ID("order-43"), dovetail.Within(10*time.Second)); err != nil || got != "charged" {
			t.Errorf("got %q, %v", got, err)
		}
		h.Advance(5 * time.Second)
		if n := shop.Stats().LateReplies; n != 1 {
			t.Errorf("%d late replies, want 1", n)
		}
	})
}

func TestReply_of_a_stranger_is_not_taken_for_the_answer(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		shop := h.Service("shop", dovetail.Options{Instance: "one"})
		shop.Declare(reserve)
		catalog := h.Service("catalog")
		plain := make(chan *driver.Message, 1)
		opts := []dovetail.SubscribeOption{dovetail.Use(func(dovetail.Handler) dovetail.Handler {
			return func(ctx context.Context, in *dovetail.Delivery) error { // a program that answers by itself, or not at all
				plain <- in.Message
				<-time.After(2 * time.Second)
				return dovetail.Discard(nil)
			}
		})}
		reserve.Handle(catalog, func(context.Context, item) (item, error) { return item{}, nil }, opts...)
		h.Start()
		answer := func(cause, typ, token string) *driver.Message {
			m := &driver.Message{Channel: "reply.shop.one", Transient: true, ID: "r", Source: "x", Type: typ, CausationID: cause, Body: []byte(`{"sku":"forged"}`)}
			if token != "" {
				m.Headers = driver.Headers{{Name: "dovetail-reply-token", Value: token}}
			}
			return m
		}
		ask := func(opts ...dovetail.RequestOption) chan error {
			errs := make(chan error, 1)
			go func() {
				got, err := reserve.Request(t.Context(), shop, item{}, append(opts, dovetail.Within(time.Second))...)
				errs <- errors.Join(err, fmt.Errorf("got %s", got.SKU))
			}()
			return errs
		}
		const replyType = "catalog.reserve-stock.v1.reply"
		given := ask(dovetail.ID("guessed"))
		<-plain
		h.Deliver(answer("guessed", replyType, ""), answer("guessed", replyType, "guessed"))
		if err := <-given; !errors.Is(err, dovetail.ErrNoReply) {
			t.Errorf("a guessed id: %v", err)
		}
		random := ask()
		m := <-plain
		h.Deliver(answer(m.ID, "bank.charge.v1.reply", ""))
		if err := <-random; !errors.Is(err, dovetail.ErrNoReply) {
			t.Errorf("another type: %v", err)
		}
		// A plain program answers with what it was given: the random id as cause.
		random = ask()
		m = <-plain
		h.Deliver(answer(m.ID, "", ""))
		if err := <-random; err == nil || err.Error() != "got forged" {
			t.Errorf("a plain program's answer: %v", err)
		}
	})
}

func TestGather_keeps_a_bounded_number_of_answers(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		const window = 1 << 20
		shop := h.Service("shop", dovetail.Options{Instance: "one", WindowBytes: window})
		shop.Declare(view)
		catalog := h.Service("catalog")
		asked := make(chan string, 1)
		view.Handle(catalog, func(ctx context.Context, _ string) (item, error) {
			asked <- dovetail.DeliveryFromContext(ctx).Message.ID
			return item{}, nil
		})
		h.Start()
		answers, flooded := 0, make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range view.Gather(t.Context(), shop, "x", dovetail.Within(time.Minute)) {
				<-flooded
				answers++
			}
		}()
		id := <-asked
		body := fmt.Appendf(nil, `{"sku":"%01000d"}`, 0)
		for i := range 3000 {
			h.Deliver(&driver.Message{Channel: "reply.shop.one", Transient: true, ID: fmt.Sprint(i), Source: fmt.Sprint("stranger", i%2000), CausationID: id, Body: body})
		}
		h.Settle()
		close(flooded)
		<-ended
		if most := window / len(body); answers < most/2 || answers > most+2 {
			t.Errorf("%d answers of %d bytes were kept, want at most about %d", answers, len(body), most)
		}
		if n := shop.Stats().LateReplies; n < 1000 {
			t.Errorf("%d dropped", n)
		}
	})
}

func TestSend_refuses_headers_that_only_Dovetail_writes(t *testing.T) {
	svc := open(t, "shop", quick)
	defer svc.Close(t.Context())
	svc.Declare(welcome)
	if err := welcome.Send(t.Context(), svc, item{}, dovetail.Header("Dovetail-Dead-Group", "x")); !errors.Is(err, dovetail.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
