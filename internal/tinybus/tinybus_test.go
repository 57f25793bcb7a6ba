package tinybus

import (
	"context"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

func TestTinybus_passes_the_conformance_suite(t *testing.T) {
	bus := New()
	drivertest.Run(t, drivertest.Harness{
		Open: func(context.Context) (driver.Conn, error) { return bus.Connect(), nil },
		Forget: func(context.Context) error {
			bus.mu.Lock()
			defer bus.mu.Unlock()
			clear(bus.channels)
			return nil
		},
		Inject: func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
			return bus.Connect().Send(ctx, []*driver.Message{{Channel: channel, Headers: headers, Body: body}})
		},
		KnownGaps: map[string]string{
			"InjectKeyed": "messages have no other key than ours",
			"Full":        "nothing is refused",
			"Trim":        "what is not handled is never deleted",
		},
	})
}

func TestOpen_refuses_what_it_does_not_know(t *testing.T) {
	c, err := driver.Open(t.Context(), "tiny:")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, url := range []string{"tiny:name", "tiny://host", "tiny:?window=3"} {
		if _, err := driver.Open(t.Context(), url); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
}
