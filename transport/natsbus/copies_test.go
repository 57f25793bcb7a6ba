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

// lossy is a receiver of one key's numbered messages, over a link that loses them.
type lossy struct {
	*testing.T
	sender *natsbus.Conn
	link   *nats.Conn // the sender's
	proxy  *servers.Proxy
	c      *natsbus.Conn
	r      driver.Receiver
	s      driver.Subscription
	seen   map[string]bool
	order  []string // in which they came for the first time
}

func overLossyLink(t *testing.T, channel string, lease time.Duration) *lossy {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	l := &lossy{T: t, sender: connect(t, natsbus.Options{URL: srv.URL()}), proxy: servers.NewProxy(t, srv.Addr()), s: work(channel), seen: map[string]bool{}}
	l.sender.As(&l.link)
	l.c = connect(t, natsbus.Options{URL: "nats://" + l.proxy.Addr(), AckWait: lease, Timeout: 5 * time.Second})
	provision(t, l.c, l.s)
	var err error
	if l.r, err = l.c.OpenReceiver(within(t), l.s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.r.Close(within(t)) })
	return l
}

func (l *lossy) send(from, to int) {
	l.Helper()
	var ms []*driver.Message
	for i := from; i < to; i++ {
		ms = append(ms, &driver.Message{Channel: l.s.Channel.Name, ID: fmt.Sprintf("%02d", i), Source: "test", Type: "t.v1", Key: "k"})
	}
	if err := l.sender.Send(within(l), ms); err != nil {
		l.Fatal(err)
	}
}

func (l *lossy) receive(max int) (ds []*driver.Delivery) {
	l.Helper()
	ds, err := l.r.Receive(within(l), max)
	if err != nil && l.c.Classify(err) != driver.Retryable {
		l.Fatal(err)
	}
	for _, d := range ds {
		if !l.seen[d.Message.ID] {
			l.seen[d.Message.ID], l.order = true, append(l.order, d.Message.ID)
		}
	}
	return ds
}

// lose has messages sent, delivered, and lost on their way.
func (l *lossy) lose(from, to int) {
	l.Helper()
	l.proxy.Stall()
	l.send(from, to)
	l.until(func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Stream >= uint64(to) })
	l.proxy.Cut()
}

// end receives up to so many messages, which must come in order.
func (l *lossy) end(n int) {
	l.Helper()
	l.proxy.Heal()
	for len(l.order) < n {
		l.receive(100)
	}
	for i, id := range l.order {
		if id != fmt.Sprintf("%02d", i) {
			l.Fatalf("they came as %v", l.order)
		}
	}
}

// The server delivers copies of what is in hand when its lease has run out. They
// are not counted among what was lost with the link: all of that comes before
// anything later.
func TestReceiver_asks_back_what_was_lost_though_copies_of_what_it_has_came(t *testing.T) {
	l := overLossyLink(t, "copies", 5*time.Second)
	l.send(0, 20)
	for len(l.order) < 10 {
		l.receive(10 - len(l.order))
	}
	l.until(func(i *jetstream.ConsumerInfo) bool { return i.NumRedelivered >= 10 })
	l.flush() // they have come
	l.lose(20, 30)
	l.send(30, 35)
	l.end(35)
}

// What is in hand is a copy, and who had the first one settles the message
// meanwhile. The server then counts less as unsettled than it has yet to deliver
// again beside what is in hand.
func TestReceiver_asks_back_what_was_lost_though_what_it_has_is_settled(t *testing.T) {
	l := overLossyLink(t, "settled-copies", 5*time.Second)
	l.send(0, 10)
	for copies := 0; copies < 10; {
		for _, d := range l.receive(10) {
			if d.Attempt > 1 {
				copies++
			}
		}
	}
	info := l.until(func(*jetstream.ConsumerInfo) bool { return true })
	answer := func(body string, seq int) {
		t.Helper()
		subject := fmt.Sprintf("$JS.ACK.%s.%s.1.%d.%d.1.0", info.Stream, info.Name, seq, seq)
		if _, err := l.link.RequestWithContext(within(t), subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for seq := 1; seq <= 5; seq++ {
		answer("+ACK", seq)
	}
	l.lose(10, 20)
	for seq := 16; seq <= 20; seq++ { // these come back first
		answer("-NAK", seq)
	}
	l.send(20, 25)
	l.end(25)
}

// until waits for what the server says of the channel's one consumer.
func (l *lossy) until(ok func(*jetstream.ConsumerInfo) bool) *jetstream.ConsumerInfo {
	l.Helper()
	js, err := jetstream.New(l.link)
	if err != nil {
		l.Fatal(err)
	}
	stream, err := js.Stream(within(l), l.s.Channel.Name)
	if err != nil {
		l.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(l); ; {
		for info := range stream.ListConsumers(ctx).Info() {
			if ok(info) {
				return info
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.Fatal("the server does not get there")
		}
	}
}
