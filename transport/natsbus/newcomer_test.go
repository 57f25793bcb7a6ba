package natsbus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// longLease is a lease that does not end while a test waits.
const longLease = 10 * time.Minute

// A glance is the context of a Receive that looks at what has come, once.
type glance struct {
	context.Context
	looks int
}

func (g *glance) Err() error {
	if g.looks++; g.looks > 1 {
		return context.DeadlineExceeded
	}
	return nil
}

func glanceAt(t testing.TB, r driver.Receiver) []*driver.Delivery {
	t.Helper()
	for {
		g := &glance{Context: t.Context()}
		ds, err := r.Receive(g, 100)
		switch {
		case err == nil || g.looks > 1:
			return ds
		case driver.Classify(err) != driver.Retryable:
			t.Fatal(err)
		} // the link is just coming back
	}
}

// another opens a second receiver of the group, and lets the first know of it.
func (l *lossy) another() driver.Receiver {
	l.Helper()
	r, err := connect(l, natsbus.Options{URL: "nats://" + l.proxy.Target(), AckWait: longLease}).OpenReceiver(within(l), l.s)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = r.Close(within(l)) })
	return r
}

// rest has a receiver ask for nothing until its next Receive.
func rest(t testing.TB, r driver.Receiver) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Receive(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled Receive: %v", err)
	}
}

// reconnect has the link cut and come back.
func (l *lossy) reconnect() {
	l.Helper()
	var link *nats.Conn
	l.c.As(&link)
	before := link.Stats().Reconnects
	l.proxy.Cut()
	l.proxy.Heal()
	eventually(l, func() bool { return link.Stats().Reconnects > before && link.IsConnected() })
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it does not get there")
		}
	}
}

// soon receives until so many have come, and is done long before a lease ends.
func soon(t testing.TB, r driver.Receiver, n int) (ids map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ids = map[string]bool{}
	for len(ids) < n {
		ds, err := r.Receive(ctx, 100)
		if ctx.Err() != nil {
			t.Fatalf("only %v came, want %d: the others come when their lease ends", ids, n)
		}
		if err != nil && driver.Classify(err) != driver.Retryable {
			t.Fatal(err)
		}
		for _, d := range ds {
			ids[d.Message.ID] = true
		}
	}
	return ids
}

// What a receiver has fetched, and another had before, is not lost for the time
// of a lease when the link goes and comes back while others receive too.
func TestReceiver_keeps_copies_over_a_lost_link_while_others_are_there(t *testing.T) {
	l := overLossyLink(t, "copies-kept", longLease)
	other, first := l.another(), l.another()
	glanceAt(t, l.r)
	rest(t, l.r)
	l.send(0, 10)
	for len(glanceAt(t, first)) == 0 {
	}
	l.until(func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Stream >= 10 })
	glanceAt(t, l.r)
	glanceAt(t, other)
	rest(t, other)
	if err := first.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	for len(l.order) == 0 {
		l.receive(1)
	}
	eventually(t, func() bool {
		n, err := l.r.(driver.Backlogger).Backlog(within(t))
		if err != nil {
			t.Fatal(err)
		}
		return n == 9
	})
	l.reconnect()
	soon(t, l.r, 9)
}

// joining has the first receiver ask back what was lost of messages 1 to 5. All of
// it has come and is not handed out yet: message 0 is a second copy, in hand, of
// which it is not known whether the server still counts it.
func (l *lossy) joining() {
	l.Helper()
	first := l.another()
	l.send(0, 1)
	for len(glanceAt(l, first)) == 0 {
	}
	if err := first.Close(within(l)); err != nil {
		l.Fatal(err)
	}
	for len(l.order) == 0 {
		l.receive(1)
	}
	l.flush()
	l.lose(1, 6)
	l.reconnect()
	delivered := l.until(func(*jetstream.ConsumerInfo) bool { return true }).Delivered.Consumer
	if ds := glanceAt(l, l.r); len(ds) > 0 {
		l.Fatalf("%d were handed out before it was known that they are all", len(ds))
	}
	l.until(func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Consumer >= delivered+5 && i.NumWaiting == 0 })
	l.flush()
}

// flush returns when all that is on its way over the link has come.
func (l *lossy) flush() {
	l.Helper()
	var link *nats.Conn
	l.c.As(&link)
	if err := link.FlushWithContext(within(l)); err != nil {
		l.Fatal(err)
	}
}

// Messages that another receiver has in hand are not asked back by one that does
// not have all yet of what it lost before the other came.
func TestReceiver_asks_nothing_back_that_a_newcomer_has_in_hand(t *testing.T) {
	l := overLossyLink(t, "newcomer", longLease)
	l.joining()
	newcomer := l.another()
	glanceAt(t, newcomer)
	l.send(6, 9)
	soon(t, newcomer, 3)
	for id := range soon(t, l.r, 5) {
		if id > "05" {
			t.Errorf("%s came while another receiver had it in hand", id)
		}
	}
}

// What was asked back, and waits for more, is given back as what is in hand is.
func TestReceiver_gives_back_what_it_had_asked_back(t *testing.T) {
	for name, end := range map[string]struct {
		by   func(*lossy)
		want int
	}{
		"Close":          {func(l *lossy) { _ = l.r.Close(within(l)) }, 6},
		"Receive's ends": {func(l *lossy) { rest(l, l.r) }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			l := overLossyLink(t, "given-back-"+string("ab"[end.want-5]), longLease)
			l.joining()
			glanceAt(t, l.r) // takes it in
			newcomer := l.another()
			glanceAt(t, newcomer)
			end.by(l)
			soon(t, newcomer, end.want)
		})
	}
}
