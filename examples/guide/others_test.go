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

// A Visit is what the web shop writes to its topic, which knows nothing of us.
type Visit struct {
	Page string `json:"page"`
}

var (
	Visits = dovetail.NewEvent[Visit]("webshop.visits")  // every message has this form
	Clicks = dovetail.NewEvent[[]byte]("webshop.clicks") // who knows
)

func count(svc *dovetail.Service, seen func(string)) {
	Visits.Subscribe(svc, func(_ context.Context, v Visit) error {
		seen("visit of " + v.Page)
		return nil
	}, dovetail.AnyType()) // whatever the type says, or without one

	Clicks.Subscribe(svc, func(ctx context.Context, body []byte) error {
		m := dovetail.DeliveryFromContext(ctx).Message
		seen(fmt.Sprintf("%s from %s: %s", m.Type, m.Headers.Get("region"), body))
		return nil
	}, dovetail.AnyType())
}

func TestTopicsOfOthers(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		var got []string
		svc := h.Service("counter", dovetail.Options{Concurrency: 1})
		count(svc, func(s string) { got = append(got, s) })
		h.Start()
		h.Deliver(&driver.Message{Channel: "webshop.visits", Body: []byte(`{"page":"/mugs"}`)})
		h.Settle()
		h.Deliver(&driver.Message{
			Channel: "webshop.clicks", Type: "com.webshop.click", Body: []byte("x=3"),
			Headers: driver.Headers{{Name: "region", Value: "eu"}},
		})
		h.Settle()
		if want := []string{"visit of /mugs", "com.webshop.click from eu: x=3"}; !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}
