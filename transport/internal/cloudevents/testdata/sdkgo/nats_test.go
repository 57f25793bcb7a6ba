package sdkgo

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	cenats "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

var quiet = slog.New(slog.DiscardHandler)

// startNATS returns a connection of ours, and one of the plain client.
func startNATS(t *testing.T) (*natsbus.Conn, *nats.Conn) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	c, err := natsbus.Connect(t.Context(), natsbus.Options{URL: ns.ClientURL(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return c, nc
}

// sdk-go does not decode what the binding has us encode: an id of other
// characters than those that need none arrives encoded there.
func TestNATS_sdkgo_reads_us(t *testing.T) {
	c, nc := startNATS(t)
	sub, err := nc.SubscribeSync("orders.*")
	if err != nil {
		t.Fatal(err)
	}
	provision(t, c, "orders")
	for id, there := range map[string]string{"plain-1/a": "plain-1/a", "100%41": "100%2541", "Grüße": "Gr%C3%BC%C3%9Fe"} {
		m := ours("orders", id)
		if err := c.Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
		msg, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		e, err := binding.ToEvent(t.Context(), cenats.NewMessage(msg))
		if err != nil {
			t.Fatal(err)
		}
		want := m
		want.ID = there
		same(t, e, want)
	}
}

// It does not encode either: what has a valid escape by chance is decoded, once,
// as the binding says.
func TestNATS_we_read_sdkgo(t *testing.T) {
	c, nc := startNATS(t)
	r := receiver(t, c, "orders")
	for id, here := range map[string]string{"plain-1/a": "plain-1/a", "100%41": "100A", "100%2541": "100%41", "Grüße": "Grüße", "100% of": "100% of"} {
		e := theirs(id)
		var body bytes.Buffer
		header, err := cenats.WriteMsg(binding.WithForceBinary(t.Context()), binding.ToMessage(&e), &body)
		if err != nil {
			t.Fatal(err)
		}
		publish(t, nc, &nats.Msg{Subject: "orders.p0", Header: header, Data: body.Bytes()})
		want := theirs(here)
		same(t, &want, one(t, r))
	}
}

// sdk-go sends structured mode without the header that the binding tells it by.
// With the header it is an event, and without it a body.
func TestNATS_we_read_structured_mode(t *testing.T) {
	c, nc := startNATS(t)
	r := receiver(t, c, "orders")
	e := theirs("100%41 Grüße")
	var body bytes.Buffer
	if _, err := cenats.WriteMsg(binding.WithForceStructured(t.Context()), binding.ToMessage(&e), &body); err != nil {
		t.Fatal(err)
	}
	publish(t, nc, &nats.Msg{Subject: "orders.p0", Header: nats.Header{"Content-Type": {event.ApplicationCloudEventsJSON}}, Data: body.Bytes()})
	same(t, &e, unfolded(t, one(t, r)))
	publish(t, nc, &nats.Msg{Subject: "orders.p0", Data: body.Bytes()})
	if m := one(t, r); m.Type != "" || !bytes.Equal(m.Body, body.Bytes()) {
		t.Errorf("without the header: %+v", m)
	}
}

func publish(t *testing.T, nc *nats.Conn, m *nats.Msg) {
	t.Helper()
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
}
