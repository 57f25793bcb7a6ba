package dovetail_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

func TestStructuredEvent_is_handled_as_the_event_that_it_holds(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("billing", dovetail.Options{Concurrency: 1})
		got := 0
		paidV1.Subscribe(svc, func(ctx context.Context, i item) error {
			in := dovetail.DeliveryFromContext(ctx)
			if i.SKU != "x" || in.Message.ID != "7" || in.Message.Source != "/till" || in.Handler != "billing.paid.v1" || in.Message.Headers.Get("ce-sampled") != "true" {
				t.Errorf("%+v of %+v", i, in.Message)
			}
			got++
			return nil
		})
		h.Start()
		event := func(body string) *driver.Message {
			return &driver.Message{Channel: "billing.paid", ContentType: "application/cloudevents+json", Body: []byte(body)}
		}
		h.Deliver(event(`{"specversion":"1.0","id":"7","source":"/till","type":"billing.paid.v1","sampled":true,"data":{"sku":"x"}}`),
			event(`{"specversion":"1.0","id":"7","source":"/till","type":"billing.paid.v1","data_base64":"eyJza3UiOiJ4In0=","datacontenttype":"application/json","sampled":true}`),
			event(`{"specversion":"1.0"`))
		h.Settle()
		dead := h.DeadLetters("billing")
		if got != 2 || len(dead) != 1 || !strings.Contains(dead[0].Error, "structured event") || dead[0].Attempts != 1 {
			t.Fatalf("%d handled, dead letters %+v", got, dead)
		}
		h.Requeue(dead[0])
		h.Settle()
		if dead = h.DeadLetters("billing"); len(dead) != 1 || dead[0].Requeues != 1 {
			t.Errorf("requeued as it was: %+v", dead)
		}
	})
}

func TestAnyType_takes_what_no_other_handler_takes_as_it_is(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("audit", dovetail.Options{Concurrency: 1})
		var types []string
		raw := dovetail.NewEvent[[]byte]("acme.orders")
		own := dovetail.NewEvent[item]("acme.corrected").On(dovetail.NewChannel("acme.orders"))
		raw.Subscribe(svc, func(ctx context.Context, body []byte) error {
			m := dovetail.DeliveryFromContext(ctx).Message
			types = append(types, m.Type+" "+m.ContentType+" "+m.Headers.Get("tenant")+" "+string(body))
			if string(body) == "bad" {
				return dovetail.Permanent(context.Canceled)
			}
			return nil
		}, dovetail.AnyType())
		own.Subscribe(svc, func(context.Context, item) error { types = append(types, "own"); return nil })
		h.Start()
		h.Deliver(
			&driver.Message{Channel: "acme.orders", Type: "com.acme.order.created", ContentType: "application/json", Body: []byte(`{"n":1}`), Headers: driver.Headers{{Name: "tenant", Value: "t"}}},
			&driver.Message{Channel: "acme.orders", Body: []byte("plain")},
			&driver.Message{Channel: "acme.orders", Type: "acme.corrected.v1", Body: []byte(`{}`)},
			&driver.Message{Channel: "acme.orders", Type: "com.acme.other", ID: "b", ContentType: "text/odd", Body: []byte("bad")},
		)
		h.Settle()
		want := `com.acme.order.created application/json t {"n":1}|   plain|own|com.acme.other text/odd  bad`
		if got := strings.Join(types, "|"); len(types) != 4 || !sameParts(got, want) {
			t.Errorf("handled %s", got)
		}
		dead := h.DeadLetters("audit")
		if len(dead) != 1 || dead[0].Handler != "acme.orders.v1" || dead[0].Message.Type != "com.acme.other" {
			t.Fatalf("%+v", dead)
		}
		h.Requeue(dead[0])
		h.Settle()
		if len(types) != 5 || svc.Stats().Unhandled != 0 {
			t.Errorf("requeued: handled %q, %+v", types, svc.Stats())
		}
	})
}

// sameParts compares two lists, separated by |, in any order.
func sameParts(a, b string) bool {
	x, y := strings.Split(a, "|"), strings.Split(b, "|")
	for _, p := range x {
		found := false
		for j, q := range y {
			if p == q {
				y, found = append(y[:j:j], y[j+1:]...), true
				break
			}
		}
		if !found {
			return false
		}
	}
	return len(y) == 0
}

func TestControlHeaders_of_a_sender_are_not_read(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		mail, bank := h.Service("mail"), h.Service("bank")
		welcome.Handle(mail, func(ctx context.Context, _ item) error {
			for _, hd := range dovetail.DeliveryFromContext(ctx).Message.Headers {
				if strings.HasPrefix(strings.ToLower(hd.Name), "dovetail-") {
					t.Errorf("header %s reached the handler", hd.Name)
				}
			}
			return dovetail.Permanent(context.Canceled)
		})
		transfers := 0
		billV1.Handle(bank, func(context.Context, item) error { transfers++; return nil })
		h.Start()
		h.Deliver(&driver.Message{Channel: "mail.send-welcome", Type: "mail.send-welcome.v1", ID: "1", Source: "x", Body: []byte(`{}`), Headers: driver.Headers{
			{Name: "Dovetail-Dead-Service", Value: "bank"}, {Name: "dovetail-dead-group", Value: "bank"}, {Name: "dovetail-dead-handler", Value: "billing.bill.v1"},
			{Name: "dovetail-dead-error", Value: "lies"}, {Name: "dovetail-dead-stack", Value: "lies"}, {Name: "dovetail-original-channel", Value: "billing.bill"}}})
		h.Settle()
		dead := h.DeadLetters("mail")
		if len(dead) != 1 || dead[0].Service != "mail" || dead[0].Handler != "mail.send-welcome.v1" || dead[0].Error == "lies" || dead[0].Stack != "" {
			t.Fatalf("%+v", dead)
		}
		h.Requeue(dead[0])
		// A letter of another service on a requeue channel is refused.
		other := dead[0]
		other.Service, other.Group, other.Handler = "mail", "bank", "billing.bill.v1"
		m := other.Requeue()
		m.Channel = "requeue.bank"
		h.Deliver(m)
		h.Settle()
		if transfers != 0 {
			t.Error("the bank's handler ran")
		}
		if d := h.DeadLetters("bank"); len(d) != 1 || !strings.Contains(d[0].Error, `of service "mail"`) {
			t.Errorf("the bank's dead letters: %+v", d)
		}
	})
}
