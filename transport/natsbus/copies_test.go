package natsbus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The server delivers copies of what is in hand when its lease has run out. They
// are not counted among what was lost with the link: all of that comes before
// anything later.
func TestReceiver_asks_back_what_was_lost_though_copies_of_what_it_has_came(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	sender := connect(t, natsbus.Options{URL: srv.URL()})
	proxy := servers.NewProxy(t, srv.Addr())
	c := connect(t, natsbus.Options{URL: "nats://" + proxy.Addr(), AckWait: 5 * time.Second, Timeout: 5 * time.Second})
	s := work("copies")
	provision(t, c, s)
	r, err := c.OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(within(t)) }()
	send := func(from, to int) {
		t.Helper()
		var ms []*driver.Message
		for i := from; i < to; i++ {
			ms = append(ms, &driver.Message{Channel: s.Channel.Name, ID: fmt.Sprintf("%02d", i), Source: "test", Type: "t.v1", Key: "k"})
		}
		if err := sender.Send(within(t), ms); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	seen := map[string]bool{}
	receive := func(max int) {
		t.Helper()
		ds, err := r.Receive(within(t), max)
		if err != nil && c.Classify(err) != driver.Retryable {
			t.Fatal(err)
		}
		for _, d := range ds {
			if !seen[d.Message.ID] {
				seen[d.Message.ID], order = true, append(order, d.Message.ID)
			}
		}
	}
	send(0, 20)
	for len(order) < 10 {
		receive(10 - len(order))
	}
	var link *nats.Conn
	sender.As(&link)
	until(t, link, s.Channel.Name, func(i *jetstream.ConsumerInfo) bool { return i.NumRedelivered >= 10 })
	proxy.Stall()
	send(20, 30)
	until(t, link, s.Channel.Name, func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Stream >= 30 })
	proxy.Cut()
	send(30, 35)
	proxy.Heal()
	for len(order) < 35 {
		receive(100)
	}
	for i, id := range order {
		if id != fmt.Sprintf("%02d", i) {
			t.Fatalf("they came as %v", order)
		}
	}
}

// until waits for what the server says of a channel's one consumer.
func until(t *testing.T, link *nats.Conn, channel string, ok func(*jetstream.ConsumerInfo) bool) {
	t.Helper()
	js, err := jetstream.New(link)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(within(t), channel)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); ; {
		for info := range stream.ListConsumers(ctx).Info() {
			if ok(info) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the server does not get there")
		}
	}
}
