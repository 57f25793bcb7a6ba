package embedded

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

func TestServer_that_could_not_write_is_started_again(t *testing.T) {
	drivertest.CheckLeaks(t)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	c, err := Open(t.Context(), Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: quiet}, natsbus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	s := driver.Subscription{Channel: driver.Channel{Name: "orders"}, Group: "worker", Instance: "1", Window: 10}
	if err := c.Provision(t.Context(), nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	send := func(id string) error {
		return c.Send(t.Context(), []*driver.Message{{Channel: "orders", ID: id, Source: "test", Type: "t.v1"}})
	}
	if err := send("before"); err != nil {
		t.Fatal(err)
	}
	at := c.Server().ClientURL()
	c.server.shared.guard.hear("Filestore [orders] Critical write error: write 1.blk: no space left on device")
	if err := send("during"); !errors.Is(err, driver.ErrRetryable) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("a send while the disk is full: %v, want it retryable, with the reason", err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for err = send("after"); err != nil && time.Now().Before(deadline); err = send("after") {
		<-time.After(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("a send after there was space again: %v", err)
	}
	if again := c.Server().ClientURL(); again != at {
		t.Errorf("it listens at %s, and did at %s", again, at)
	}
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before", "after"} {
		ds, err := r.Receive(t.Context(), 1)
		if err != nil || ds[0].Message.ID != want {
			t.Fatalf("got %v, %v, want %s", ds, err, want)
		}
	}
}
