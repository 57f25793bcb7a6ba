package natsbus_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// patience is how long a test waits for what must come. It is generous because
// the machine may be busy.
const patience = 2 * time.Minute

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestMain(m *testing.M) { os.Exit(drivertest.Main(servers.Main(m)).Run()) }

func work(channel string) driver.Subscription {
	return driver.Subscription{Channel: driver.Channel{Name: channel}, Group: "worker", Instance: "1", Window: 400}
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func connect(t testing.TB, o natsbus.Options) *natsbus.Conn {
	t.Helper()
	o.Logger = quiet
	c, err := natsbus.Connect(within(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func provision(t testing.TB, c driver.Conn, s driver.Subscription) {
	t.Helper()
	if err := c.Provision(within(t), nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
}
