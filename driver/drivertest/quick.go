package drivertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var quickTests = map[string]test{
	"Open_and_close_at_once_hinders_nobody":       {run: testOpenCloseAtOnce},
	"Open_that_was_canceled_hinders_nobody":       {run: testOpenCanceled},
	"Close_under_load_strands_nothing":            {run: testCloseStrands},
	"Close_with_more_than_was_taken_strands_none": {run: testCloseStrandsPrefetched},
}

// soon is how long the next receiver may wait for what an earlier one, which was
// closed in an orderly way, has left.
const soon = 3 * time.Second

// soonHas takes n deliveries from r, all of them soon.
func (e *env) soonHas(r driver.Receiver, n int, why string) []*driver.Delivery {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	var got []*driver.Delivery
	for len(got) < n {
		ds, err := r.Receive(ctx, n-len(got))
		if err != nil && ctx.Err() == nil && e.classify(r, err) == driver.Retryable {
			continue
		}
		if err != nil {
			e.Fatalf("%d of %d messages came within %v: %s: %v", len(got), n, soon, why, err)
		}
		got = append(got, ds...)
	}
	return got
}

// testOpenCloseAtOnce is a service that ends right after it began.
func testOpenCloseAtOnce(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	for round := range 5 {
		c := e.conn()
		ctx, cancel := e.within()
		r, err := c.OpenReceiver(ctx, e.another(s))
		if err != nil {
			e.Fatalf("open receiver: %v", err)
		}
		if round%2 == 0 {
			err = r.Close(ctx)
		} else {
			err = c.Close(ctx)
		}
		if err != nil {
			e.Fatalf("close: %v", err)
		}
		cancel()
		e.send(sender, e.message(ch, "k", round))
		next := e.receiver(e.conn(), e.another(s))
		d := e.soonHas(next, 1, "the receiver before was closed at once")[0]
		if number(d.Message) != round {
			e.Fatalf("got %s, want k/%d", d.Message.ID, round)
		}
		e.settle(next, driver.Ack, d)
		e.closeReceiver(next)
	}
}

// testOpenCanceled is a deploy that was called off while a service began.
func testOpenCanceled(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	for round := range 5 {
		c := e.conn()
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(round)*20*time.Millisecond)
		r, err := c.OpenReceiver(ctx, e.another(s))
		cancel()
		closing, cancel := e.within()
		if err == nil {
			err = r.Close(closing)
		} else if k := c.Classify(err); k == driver.Retryable || k == driver.Canceled {
			err = nil
		}
		if err != nil {
			e.Fatalf("open and close: %v", err)
		}
		if err := c.Close(closing); err != nil {
			e.Fatalf("close: %v", err)
		}
		cancel()
		e.send(sender, e.message(ch, "k", round))
		next := e.receiver(e.conn(), e.another(s))
		e.settle(next, driver.Ack, e.soonHas(next, 1, "the receiver before was never wanted")...)
		e.closeReceiver(next)
	}
}

// testCloseStrands closes one of two receivers, in an orderly way and with
// something in hand, while messages flow: the other has each of them soon.
func testCloseStrands(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	l := newRecorder()
	e.consume(l, e.receiver(e.conn(), e.another(s)), s.Group)
	rounds, sent := 20, 0
	if testing.Short() {
		rounds = 5
	}
	const per, batch = 60, 10
	for round := range rounds {
		r := e.receiver(e.conn(), e.another(s))
		done := make(chan struct{})
		from := sent
		go func() {
			defer close(done)
			for i := 0; i < per; i += batch {
				ms := Numbered(ch.Name, "k", from+i, from+i+batch, 16)
				ctx, cancel := e.within()
				if err := sender.Send(ctx, ms); err != nil {
					e.Errorf("send: %v", err)
				}
				cancel()
			}
		}()
		// It takes what comes at once, settles half of it and closes.
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20+round%4*20)*time.Millisecond)
		for ctx.Err() == nil {
			ds, _ := r.Receive(ctx, 8)
			half := ds[:len(ds)/2]
			l.note("", s.Group, half...)
			e.settle(r, driver.Ack, half...)
		}
		cancel()
		e.closeReceiver(r)
		<-done
		sent += per
		e.allSoon(l, sent, fmt.Sprintf("close %d of %d", round+1, rounds))
	}
}

// allSoon waits for n messages to have been handled.
func (e *env) allSoon(l *recorder, n int, after string) {
	e.Helper()
	timer := time.NewTimer(soon)
	defer timer.Stop()
	for {
		have, changed := l.unique()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			e.Fatalf("%d of %d messages were not handled within %v of %s", n-have, n, soon, after)
		}
	}
}

// testCloseStrandsPrefetched closes a receiver that has taken a few of many
// messages: what its client had fetched beyond these is the next one's at once.
func testCloseStrandsPrefetched(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	const n = 80
	for round := range 5 {
		e.send(sender, Numbered(ch.Name, "k", round*n, (round+1)*n, 16)...)
		r := e.receiver(e.conn(), e.another(s))
		e.settle(r, driver.Ack, e.take(r, 5)...)
		e.closeReceiver(r)
		next := e.receiver(e.conn(), e.another(s))
		e.settle(next, driver.Ack, e.soonHas(next, n-5, "the receiver before was closed with them in its client")...)
		e.closeReceiver(next)
	}
}
