package membus

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/internal/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

func harness(t testing.TB, o Options) drivertest.Harness {
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	full, err := New(Options{Messages: 90, Wait: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return drivertest.Harness{
		Open:   func(context.Context) (driver.Conn, error) { return b.Connect(), nil },
		Forget: func(context.Context) error { b.forget(); return nil },
		Inject: func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
			c := b.Connect()
			defer c.Close(ctx)
			return c.Send(ctx, []*driver.Message{{Channel: channel, Headers: headers, Body: body}})
		},
		InjectKeyed: func(ctx context.Context, channel string, key []byte, headers driver.Headers, body []byte) error {
			c := b.Connect()
			defer c.Close(ctx)
			return c.Send(ctx, []*driver.Message{{Channel: channel, Key: string(key), Headers: headers, Body: body}})
		},
		KnownGaps: map[string]string{"Trim": "what is not handled is never deleted"},
		Full:      func(context.Context) (driver.Conn, error) { return full.Connect(), nil },
	}
}

func TestMembus_passes_the_conformance_suite(t *testing.T) {
	drivertest.Run(t, harness(t, Options{}))
}

func TestMembus_passes_the_conformance_suite_with_little_room(t *testing.T) {
	h := harness(t, Options{Messages: 100, Partitions: 2})
	h.Quiet, h.Many = 0, 1000
	drivertest.Run(t, h)
}

func BenchmarkMembus(b *testing.B) { drivertest.Bench(b, harness(b, Options{})) }
