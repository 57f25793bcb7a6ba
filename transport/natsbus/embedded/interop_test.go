package embedded_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a program that uses the client alone sends, Dovetail reads, and the
// other way round.
func TestInterop_with_a_plain_client_both_ways(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url()})
	s := queue(t, c, "interop")
	err := plain(server.url(), nil, func(nc *nats.Conn, js jetstream.JetStream) error {
		m := nats.NewMsg("interop.p0")
		m.Header.Set("ce-specversion", "1.0")
		m.Header.Set("ce-id", "42")
		m.Header.Set("ce-source", "/python")
		m.Header.Set("ce-type", "interop.v1")
		m.Header.Set("ce-partitionkey", "Gr%C3%BC%C3%9Fe%20%F0%9F%A6%89")
		m.Header.Set("CE-Time", "2026-11-21T09:00:00Z")
		m.Header.Set("ce-datacontenttype", "text/plain")
		m.Header.Add("x-twice", "one")
		m.Header.Add("x-twice", "zwei ü")
		m.Header.Set("ce-custom", "a%20b")
		m.Data = []byte("hello")
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			return err
		}
		poison := nats.NewMsg("interop.p0")
		poison.Header.Set("ce-id", "43")
		poison.Header.Set("ce-time", "not a time")
		poison.Data = []byte{0xff}
		_, err := js.PublishMsg(t.Context(), poison)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), []*driver.Message{{Channel: "interop", ID: "44", Source: "go", Type: "interop.v1", Key: "ü k"}}); err != nil {
		t.Fatal(err)
	}
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var ds []*driver.Delivery
	for len(ds) < 3 {
		more, err := r.Receive(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, more...)
	}
	m := ds[0].Message
	if m.ID != "42" || m.Source != "/python" || m.Key != "Grüße 🦉" || m.ContentType != "text/plain" || !m.Time.Equal(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)) {
		t.Errorf("read as %+v", m)
	}
	want := driver.Headers{{Name: "ce-custom", Value: "a%20b"}, {Name: "x-twice", Value: "one"}, {Name: "x-twice", Value: "zwei ü"}}
	if !slices.Equal(m.Headers, want) {
		t.Errorf("foreign headers %q, want %q", m.Headers, want)
	}
	if d := ds[1]; d.Fault == nil || d.Message.ID != "43" || string(d.Message.Body) != "\xff" {
		t.Errorf("poison: fault %v, %+v", d.Fault, d.Message)
	}
	if d := ds[2]; d.Fault != nil || d.Message.ID != "44" {
		t.Errorf("after the poison: fault %v, %+v", d.Fault, d.Message)
	}
	err = plain(server.url(), nil, func(_ *nats.Conn, js jetstream.JetStream) error {
		stream, err := js.Stream(t.Context(), "interop")
		if err != nil {
			return err
		}
		raw, err := stream.GetMsg(t.Context(), 3)
		if err != nil {
			return err
		}
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": "44", "ce-source": "go", "ce-type": "interop.v1", "ce-partitionkey": "%C3%BC%20k"} {
			if got := raw.Header.Get(name); got != value {
				t.Errorf("a plain client reads %s = %q, want %q", name, got, value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
