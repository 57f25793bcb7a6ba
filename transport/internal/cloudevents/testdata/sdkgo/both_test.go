package sdkgo

import (
	"context"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/dovetail-go/dovetail/driver"
)

var at = time.Date(2026, 2, 28, 23, 59, 59, 5000, time.UTC)

// ours is a message that we send.
func ours(channel, id string) *driver.Message {
	return &driver.Message{Channel: channel, ID: id, Source: "shop/orders", Type: "ordering.placed.v1", Time: at, Key: "k1",
		CorrelationID: "c1", ContentType: "application/json", Body: []byte(`{"n":1}`)}
}

// theirs is the same event, of sdk-go.
func theirs(id string) event.Event {
	e := event.New()
	e.SetID(id)
	e.SetSource("shop/orders")
	e.SetType("ordering.placed.v1")
	e.SetTime(at)
	e.SetExtension("partitionkey", "k1")
	e.SetExtension("correlationid", "c1")
	if err := e.SetData("application/json", []byte(`{"n":1}`)); err != nil {
		panic(err)
	}
	return e
}

// same wants both to be one event.
func same(t *testing.T, e *event.Event, m *driver.Message) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("the event is not valid: %v", err)
	}
	for _, one := range []struct{ what, e, m string }{
		{"specversion", e.SpecVersion(), driver.SpecVersion},
		{"id", e.ID(), m.ID},
		{"source", e.Source(), m.Source},
		{"type", e.Type(), m.Type},
		{"time", e.Time().UTC().String(), m.Time.UTC().String()},
		{"datacontenttype", e.DataContentType(), m.ContentType},
		{"partitionkey", e.Extensions()["partitionkey"].(string), m.Key},
		{"correlationid", e.Extensions()["correlationid"].(string), m.CorrelationID},
		{"data", string(e.Data()), string(m.Body)},
	} {
		if one.e != one.m {
			t.Errorf("%s is %q for sdk-go, %q for us", one.what, one.e, one.m)
		}
	}
}

func provision(t *testing.T, c driver.Conn, channel string) driver.Subscription {
	t.Helper()
	s := driver.Subscription{Channel: driver.Channel{Name: channel}, Group: "reader", Instance: "1", Window: 10}
	if err := c.Provision(t.Context(), []driver.Channel{s.Channel}, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	return s
}

func receiver(t *testing.T, c driver.Conn, channel string) driver.Receiver {
	t.Helper()
	r, err := c.OpenReceiver(t.Context(), provision(t, c, channel))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}

// one receives a message, without a fault, and settles it.
func one(t *testing.T, r driver.Receiver) *driver.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ds, err := r.Receive(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if ds[0].Fault != nil {
		t.Error(ds[0].Fault)
	}
	if err := r.Settle(ctx, []driver.Settlement{{Delivery: ds[0]}}); err != nil {
		t.Error(err)
	}
	return ds[0].Message
}

// unfolded is what the core makes of an event in structured mode.
func unfolded(t *testing.T, m *driver.Message) *driver.Message {
	t.Helper()
	if !driver.Structured(m) {
		t.Fatalf("%q is not taken for structured mode: %+v", m.ContentType, m)
	}
	e, err := driver.DecodeStructured(m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
