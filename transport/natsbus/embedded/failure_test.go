package embedded_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go/jetstream"
)

func connect(t testing.TB, o natsbus.Options) *natsbus.Conn {
	t.Helper()
	o.Logger = quiet
	c, err := natsbus.Connect(t.Context(), o)
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

func queue(t testing.TB, c driver.Conn, name string) driver.Subscription {
	t.Helper()
	s := driver.Subscription{Channel: driver.Channel{Name: name}, Group: "worker", Instance: "1", Window: 100}
	if err := c.Provision(t.Context(), nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	return s
}

func numbered(channel, key string, n int) []*driver.Message {
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = &driver.Message{Channel: channel, ID: key + strconv.Itoa(i), Source: "test", Type: "test.v1", Key: key, Body: make([]byte, 1024)}
	}
	return ms
}

// stored returns the ids at rest in a channel.
func stored(t testing.TB, c *natsbus.Conn, channel string) []string {
	t.Helper()
	var all []string
	for after := ""; ; {
		page, err := c.Browse(t.Context(), channel, after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		for _, s := range page {
			all, after = append(all, s.Message.ID), s.Position
		}
	}
}

// prefixOnly checks that what failed is a suffix of the batch and that exactly
// the rest is stored, in order.
func prefixOnly(t *testing.T, c *natsbus.Conn, ms []*driver.Message, err error) {
	t.Helper()
	var se *driver.SendError
	if !errors.As(err, &se) {
		t.Fatalf("send: %v, want a SendError", err)
	}
	first := se.Failures[0].Index
	for i, f := range se.Failures {
		if f.Index != first+i || f.Unknown || c.Classify(f.Err) != driver.Retryable {
			t.Fatalf("failure %d: message %d, unknown %v, %v (%v); want the rest of the batch, not sent, retryable", i, f.Index, f.Unknown, f.Err, c.Classify(f.Err))
		}
	}
	if len(se.Failures) != len(ms)-first {
		t.Fatalf("%d failures from %d of %d on", len(se.Failures), first, len(ms))
	}
	ids := stored(t, c, ms[0].Channel)
	if len(ids) != first {
		t.Fatalf("%d are stored and %d were confirmed", len(ids), first)
	}
	for i, id := range ids {
		if id != ms[i].ID {
			t.Fatalf("stored %s at %d, want %s", id, i, ms[i].ID)
		}
	}
}

func TestSend_stops_at_the_first_message_that_a_full_channel_refuses(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url(), MaxBytes: 40 << 10})
	queue(t, c, "small")
	ms := numbered("small", "k", 100)
	err := c.Send(t.Context(), ms)
	prefixOnly(t, c, ms, err)
	t.Log(err)
}

func TestSend_without_fast_batches_keeps_the_order_of_a_key(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url(), MaxBytes: 40 << 10})
	queue(t, c, "small")
	var js jetstream.JetStream
	c.As(&js)
	stream, err := js.Stream(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowBatchPublish = false // as on a server before 2.14
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ms := numbered("small", "k", 100)
	if err := c.Send(t.Context(), ms[:2]); c.Classify(err) != driver.Retryable {
		t.Fatalf("the first batch after the change: %v, want it retryable", err)
	}
	prefixOnly(t, c, ms, c.Send(t.Context(), ms))
}

func TestSend_with_the_link_cut_names_what_is_unknown_and_comes_back(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	p := servers.NewProxy(t, server.listen)
	direct, c := connect(t, natsbus.Options{URL: server.url()}), connect(t, natsbus.Options{URL: p.URL(server.url())})
	s := queue(t, direct, "cut")
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	ms := numbered("cut", "k", 20_000)
	go func() { sent <- c.Send(t.Context(), ms) }()
	var ds []*driver.Delivery
	for len(ds) < 10 {
		more, err := r.Receive(t.Context(), 10-len(ds))
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, more...)
	}
	p.Cut()
	err = <-sent
	var se *driver.SendError
	if !errors.As(err, &se) {
		t.Fatalf("send over a cut link: %v, want a SendError", err)
	}
	unknown := 0
	for i, f := range se.Failures {
		if f.Unknown {
			unknown++
		} else if i > 0 && se.Failures[i-1].Unknown && f.Index != se.Failures[i-1].Index+1 {
			t.Errorf("message %d after %d", f.Index, se.Failures[i-1].Index)
		}
	}
	if n := se.Failures[0].Index; len(se.Failures) != len(ms)-n {
		t.Errorf("%d unknown, %d failed from %d on", unknown, len(se.Failures), n)
	}
	if err := c.Send(t.Context(), ms[:1]); c.Classify(err) != driver.Retryable {
		t.Errorf("send while the link is away: %v, want it retryable", err)
	}
	if _, err := r.Receive(t.Context(), 1); c.Classify(err) != driver.Retryable {
		t.Errorf("receive while the link is away: %v, want it retryable", err)
	}
	confirmed := se.Failures[0].Index
	at := stored(t, direct, "cut")
	if len(at) < confirmed {
		t.Errorf("%d were confirmed and %d are stored", confirmed, len(at))
	}

	// What was in hand is still ours, and what was on its way comes first.
	p.Heal()
	next := 10
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for next < len(at) {
		more, err := r.Receive(ctx, 50)
		if err != nil {
			if ctx.Err() != nil || c.Classify(err) != driver.Retryable {
				t.Fatal(err)
			}
			continue
		}
		for _, d := range more {
			if d.Message.ID != ms[next].ID {
				t.Fatalf("got %s, want %s; stored %v", d.Message.ID, ms[next].ID, at[:min(40, len(at))])
			}
			next++
		}
		ds = append(ds, more...)
		ss := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			ss[i] = driver.Settlement{Delivery: d}
		}
		if err := r.Settle(t.Context(), ss); err != nil {
			t.Fatal(err)
		}
		ds = nil
	}
}

func TestDedupe_drops_a_second_copy_of_an_event_and_keeps_a_command_sent_again(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url()})
	queue(t, c, "commands")
	topic := driver.Subscription{Channel: driver.Channel{Name: "events", Kind: driver.PublishSubscribe}, Group: "worker", Instance: "1", Window: 10}
	if err := c.Provision(t.Context(), nil, []driver.Subscription{topic}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"commands": 8, "events": 4} {
		ms := numbered(name, "k", 4)
		for _, batch := range [][]*driver.Message{ms[:1], ms, ms[2:3], ms[1:3]} {
			if err := c.Send(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		if ids := stored(t, c, name); len(ids) != want {
			t.Errorf("%s: %v are stored, want %d", name, ids, want)
		}
	}
}

func TestReceive_takes_a_window_of_large_messages(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url()})
	s := queue(t, c, "large")
	const n, size = 60, 3 << 20
	for i := range n {
		m := &driver.Message{Channel: "large", ID: strconv.Itoa(i), Body: make([]byte, size)}
		if err := c.Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for got := 0; got < n; {
		ds, err := r.Receive(ctx, n)
		if err != nil {
			t.Fatalf("after %d: %v", got, err)
		}
		for _, d := range ds {
			if d.Message.ID != strconv.Itoa(got) || len(d.Message.Body) != size || d.Attempt != 1 {
				t.Fatalf("got %s, %d bytes, attempt %d; want %d", d.Message.ID, len(d.Message.Body), d.Attempt, got)
			}
			got++
		}
	}
}
