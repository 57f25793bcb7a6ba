package embedded_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

func TestStart_shares_the_server_of_a_directory(t *testing.T) {
	drivertest.CheckLeaks(t)
	dir := t.TempDir()
	raw := "embedded:?timeout=3s&dir=" + url.QueryEscape(dir)
	a, err := driver.Open(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	b, err := driver.Open(t.Context(), "embedded:"+dir)
	if err != nil {
		t.Fatal(err)
	}
	s := queue(t, a, "shared")
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(t.Context(), numbered("shared", "k", 3)); err != nil {
		t.Fatalf("after the first closed: %v", err)
	}
	if b.Capabilities().Shared {
		t.Error("a server that does not listen reaches no other processes")
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := embedded.Open(t.Context(), embedded.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: quiet}, natsbus.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if !strings.HasPrefix(c.Server().ClientURL(), "nats://127.0.0.1:") {
		t.Errorf("client URL %q", c.Server().ClientURL())
	}
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if ds, err := r.Receive(t.Context(), 3); err != nil || len(ds) == 0 {
		t.Fatalf("what was sent before the stop: %d, %v", len(ds), err)
	}
	if _, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, SyncAlways: true, Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "SyncAlways") {
		t.Errorf("another set of options for the same directory: %v, want an error that names SyncAlways", err)
	}
}

func TestStart_refuses_a_directory_that_another_process_uses(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	_, err := embedded.Start(t.Context(), embedded.Options{Dir: server.dir, Logger: quiet})
	if !errors.Is(err, driver.ErrConflict) || !strings.Contains(err.Error(), "pid ") || !strings.Contains(err.Error(), "another directory") {
		t.Fatalf("%v, want a conflict that names the process and the remedy", err)
	}
}

func TestStart_refuses_what_cannot_be(t *testing.T) {
	for raw, want := range map[string]string{
		"embedded:?dirr=x":                        `unknown parameter "dirr"`,
		"embedded:/a?dir=/b":                      "use one of them",
		"embedded:/a?listen=4222":                 "host:port",
		"embedded:/a?listen=0.0.0.0:4222":         "set a token",
		"embedded:/a?listen=0.0.0.0:4222&token=t": "set TLS",
		"embedded:/a?listen=:4222&token=t":        "set TLS",
		"embedded:/a?token=t":                     "add listen",
		"embedded:/a?listen=127.0.0.1:0&key=k":    "give both",
		"embedded:/a?listen=127.0.0.1:0&cert=/no": "PEM",
		"embedded:/a?sync=sometimes":              "want always",
		"embedded:/a?sync=1ms":                    "SyncInterval",
		"embedded:/a?max-payload=5":               "MaxPayload",
		"embedded:/dev/null/x?listen=127.0.0.1:0": "make directory",
	} {
		c, err := driver.Open(t.Context(), raw)
		if err == nil {
			_ = c.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %s", raw, err, want)
		}
	}
}

func TestIncarnation_changes_with_an_unclean_stop_alone(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	incarnation := func() string {
		t.Helper()
		c := connect(t, natsbus.Options{URL: server.url()})
		id, window, err := c.Incarnation(t.Context())
		if err != nil || window != 4*time.Minute {
			t.Fatalf("incarnation %q, window %v, %v; want twice the sync interval of 2 minutes", id, window, err)
		}
		return id
	}
	first := incarnation()
	if err := server.stop(); err != nil {
		t.Fatal(err)
	}
	if err := server.start(); err != nil {
		t.Fatal(err)
	}
	second := incarnation()
	if second != first {
		t.Errorf("another incarnation after a clean stop: %s, %s", first, second)
	}
	if err := server.restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if third := incarnation(); third == second {
		t.Errorf("the same incarnation %s after a kill", third)
	}
}
