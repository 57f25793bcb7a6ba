package guide

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/driver"
)

// An Invoice is the message of both systems.
type Invoice struct {
	Number string `json:"number"`
}

// An Envelope is what the old system writes around it.
type Envelope struct {
	Message Invoice `json:"message"`
}

var (
	OldInvoices = dovetail.NewDocument[Envelope]("billing.invoices-old") // a queue that is bound to the old system's exchange
	Invoices    = dovetail.NewDocument[Invoice]("billing.invoices")
)

// receiveBoth handles what the old sender writes and what the new one sends.
func receiveBoth(svc *dovetail.Service, pay func(ctx context.Context, i Invoice) error) {
	OldInvoices.Handle(svc, func(ctx context.Context, e Envelope) error { return pay(ctx, e.Message) }, dovetail.AnyType())
	Invoices.Handle(svc, pay)
}

func TestMessages_of_an_old_and_a_new_sender_are_handled_side_by_side(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got []string
		svc := h.Service("payment", dovetail.Options{Concurrency: 1})
		receiveBoth(svc, func(ctx context.Context, i Invoice) error {
			got = append(got, fmt.Sprint(i.Number, " ", dovetail.DeliveryFromContext(ctx).Message.ID))
			return nil
		})
		h.Start()
		// What RabbitMQ delivers of MassTransit: the id is a property, the body an envelope.
		h.Deliver(&driver.Message{
			Channel: "billing.invoices-old", ID: "181c0000", ContentType: "application/vnd.masstransit+json",
			Body: []byte(`{"messageId":"181c0000","messageType":["urn:message:Billing:Invoice"],"message":{"number":"7"}}`),
		})
		h.Settle()
		// What any program sends with the headers of CloudEvents' binary mode.
		h.Deliver(&driver.Message{
			Channel: "billing.invoices", ID: "8", Source: "/old/billing", Type: "billing.invoices.v1",
			ContentType: "application/json", Body: []byte(`{"number":"8"}`),
		})
		h.Settle()
		if want := []string{"7 181c0000", "8 8"}; !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		if dead := h.DeadLetters("payment"); len(dead) > 0 {
			t.Errorf("dead letters: %v", dead)
		}
	})
}
