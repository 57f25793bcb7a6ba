package natsbus_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// patience is how long a test waits for what must come. It is generous because
// the machine may be busy.
const patience = 2 * time.Minute

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestMain runs the test binary again as a consumer that can be killed.
func TestMain(m *testing.M) {
	if url := os.Getenv("DOVETAIL_TEST_CONSUMER"); url != "" {
		consumeInChild(url)
		return
	}
	os.Exit(servers.Main(m).Run())
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

// partitioned are options with partitions whose owners are missed soon.
func partitioned(url string, n int) natsbus.Options {
	return natsbus.Options{URL: url, Partitions: n, OwnerTTL: time.Second, AckWait: 5 * time.Second, Timeout: 2 * time.Second}
}

func provision(t testing.TB, c driver.Conn, s driver.Subscription) {
	t.Helper()
	if err := c.Provision(within(t), nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
}
