package drivertest

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

var windowTests = map[string]test{
	"Receive_hands_out_no_more_than_the_window":       {run: testWindow},
	"Receive_returns_no_more_than_asked":              {run: testMax},
	"Receive_ends_promptly_with_its_context":          {run: testReceiveCancel},
	"Receive_that_was_canceled_loses_nothing":         {run: testReceiveCancelKeeps},
	"Receive_wakes_for_a_message_sent_while_it_waits": {run: testReceiveWakes},
}

func testWindow(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Window = 4
	e.send(c, e.messages(ch, 10, 1)...)
	r := e.receiver(c, s)
	ds := e.take(r, 4)
	e.nothing(r, "the window of 4 is full")
	// A Receive that waits with the window full goes on once one is settled.
	type result struct {
		ds  []*driver.Delivery
		err error
	}
	got := make(chan result, 1)
	ctx, cancel := e.within()
	defer cancel()
	go func() {
		ds, err := r.Receive(ctx, 10)
		got <- result{ds, err}
	}()
	e.settle(r, driver.Ack, ds[:2]...)
	res := await(e, got, "Receive to go on after two were settled")
	if res.err != nil || len(res.ds) == 0 || len(res.ds) > 2 {
		e.Fatalf("Receive after two of four were settled: %s, %v; want one or two", ids(res.ds), res.err)
	}
	e.settle(r, driver.Ack, ds[2:]...)
	e.settle(r, driver.Ack, res.ds...)
	for taken := 4 + len(res.ds); taken < 10; taken++ {
		e.settle(r, driver.Ack, e.one(r))
	}
	e.nothing(r, "all ten came")
}

func testMax(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	const n = 30
	e.send(c, e.messages(ch, n, 3)...)
	r := e.receiver(c, s)
	for left := n; left > 0; {
		ctx, cancel := e.within()
		ds, err := r.Receive(ctx, 7)
		cancel()
		if err != nil || len(ds) == 0 || len(ds) > 7 {
			e.Fatalf("Receive(max 7) returned %d, %v", len(ds), err)
		}
		e.settle(r, driver.Ack, ds...)
		left -= len(ds)
	}
}

func testReceiveCancel(e *env) {
	c := e.conn()
	_, s := e.queue(c)
	r := e.receiver(c, s)
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := r.Receive(ctx, 10)
			done <- err
		}()
		// Let it begin to wait, now and then, without insisting on it.
		timer := time.NewTimer(e.h.Quiet / 5)
		<-timer.C
		began := time.Now()
		cancel()
		err := await(e, done, "Receive to end with its context")
		if !errors.Is(err, context.Canceled) || c.Classify(err) != driver.Canceled {
			e.Fatalf("Receive after its context was canceled: %v, want context.Canceled", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			e.Fatalf("Receive took %v to end after its context was canceled", took)
		}
	}
}

func testReceiveCancelKeeps(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	const n = 40
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	seen := map[string]bool{}
	note := func(ds []*driver.Delivery) {
		for _, d := range ds {
			seen[d.Message.ID] = true
		}
		e.settle(r, driver.Ack, ds...)
	}
	for i, m := range e.messages(ch, n, 1) {
		e.send(c, m)
		ctx := ended
		if i%2 == 1 {
			short, cancel := context.WithTimeout(context.Background(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			ctx = short
		}
		ds, err := r.Receive(ctx, 10)
		if err != nil && len(ds) > 0 {
			e.Fatalf("Receive returned %s and %v: deliveries or an error, not both", ids(ds), err)
		}
		note(ds)
	}
	for len(seen) < n {
		note([]*driver.Delivery{e.one(r)})
	}
	e.nothing(r, "all came")
}

func testReceiveWakes(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	got := make(chan *driver.Delivery)
	ctx, cancel := e.within()
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			ds, err := r.Receive(ctx, 1)
			if err != nil {
				e.Errorf("receive: %v", err)
				return
			}
			got <- ds[0]
		}
	}()
	defer func() { cancel(); <-done }()
	for i := range 20 {
		if i%5 == 0 {
			backoff.Sleep(ctx, e.h.Quiet/5) // so that it waits
		}
		e.send(c, e.message(ch, "k", i))
		d := await(e, got, "a waiting Receive to return what was sent")
		if number(d.Message) != i {
			e.Fatalf("got %s, want k/%d", d.Message.ID, i)
		}
		e.settle(r, driver.Ack, d)
	}
}
