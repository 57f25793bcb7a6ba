package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var lifecycleTests = map[string]test{
	"Close_twice_is_no_error":                           {run: testCloseTwice},
	"Close_ends_a_waiting_Receive":                      {run: testCloseUnblocks},
	"Close_of_the_connection_ends_a_waiting_Receive":    {run: testConnCloseUnblocks},
	"Close_while_others_send_loses_nothing_confirmed":   {run: testCloseWhileSending},
	"Close_gives_unsettled_deliveries_back":             {run: testCloseGivesBack},
	"Operations_after_Close_are_ErrClosed":              {run: testAfterClose},
	"Capabilities_name_the_transport":                   {run: testCapabilities},
	"Classify_falls_back_on_the_driver's":               {run: testClassify},
	"Connections_see_each_others_messages":              {run: testConnections},
	"Open_and_Close_over_and_over_leave_nothing_behind": {run: testOpenClose},
}

func testCapabilities(e *env) {
	if e.caps.Name == "" {
		e.Error("Capabilities.Name is empty: it stands in error messages")
	}
	if e.caps.MaxBatch < 0 || e.caps.MaxBytes < 0 || e.caps.Lease < 0 {
		e.Errorf("negative limits: %+v", e.caps)
	}
}

func testClassify(e *env) {
	c := e.conn()
	for err, want := range map[error]driver.Kind{
		driver.ErrRetryable: driver.Retryable, driver.ErrNotFound: driver.NotFound, driver.ErrDenied: driver.Denied,
		driver.ErrTooLarge: driver.TooLarge, driver.ErrConflict: driver.Conflict, driver.ErrClosed: driver.Closed,
		driver.ErrUnsupported: driver.Unsupported, driver.ErrPositionLost: driver.PositionLost,
		context.Canceled: driver.Canceled, context.DeadlineExceeded: driver.Retryable,
	} {
		if k := c.Classify(fmt.Errorf("wrapped: %w", err)); k != want {
			e.Errorf("Classify(%v) is %q, want %q", err, k, want)
		}
	}
}

func testConnections(e *env) {
	a, b := e.conn(), e.conn()
	ch, s := e.queue(a)
	r := e.receiver(b, s)
	e.send(a, e.message(ch, "k", 0))
	e.settle(r, driver.Ack, e.one(r))
}

func testCloseTwice(e *env) {
	c := e.conn()
	_, s := e.queue(c)
	r := e.receiver(c, s)
	ctx, cancel := e.within()
	defer cancel()
	for range 2 {
		if err := r.Close(ctx); err != nil {
			e.Fatalf("close receiver: %v", err)
		}
	}
	for range 2 {
		if err := c.Close(ctx); err != nil {
			e.Fatalf("close connection: %v", err)
		}
	}
	if err := r.Close(ctx); err != nil && c.Classify(err) != driver.Closed {
		e.Fatalf("close receiver after its connection: %v", err)
	}
}

// receiving starts a Receive and returns what it ends with.
func (e *env) receiving(r driver.Receiver) <-chan error {
	done := make(chan error, 1)
	began := make(chan struct{})
	ctx, cancel := e.within()
	e.Cleanup(cancel)
	go func() {
		close(began)
		_, err := r.Receive(ctx, 10)
		done <- err
	}()
	<-began
	return done
}

func testCloseUnblocks(e *env) {
	c := e.conn()
	_, s := e.queue(c)
	r := e.receiver(c, s)
	done := e.receiving(r)
	e.closeReceiver(r)
	e.wantKind(c, await(e, done, "Receive to end when its receiver was closed"), driver.Closed, "Receive while its receiver is closed")
}

func testConnCloseUnblocks(e *env) {
	c := e.conn()
	_, s := e.queue(c)
	done := e.receiving(e.receiver(c, s))
	ctx, cancel := e.within()
	defer cancel()
	if err := c.Close(ctx); err != nil {
		e.Fatalf("close: %v", err)
	}
	e.wantKind(c, await(e, done, "Receive to end when its connection was closed"), driver.Closed, "Receive while its connection is closed")
}

func testAfterClose(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	e.send(c, e.message(ch, "k", 0))
	d := e.one(r)
	ctx, cancel := e.within()
	defer cancel()
	e.closeReceiver(r)
	_, err := r.Receive(ctx, 1)
	e.wantKind(c, err, driver.Closed, "Receive after Close of the receiver")
	if err := c.Close(ctx); err != nil {
		e.Fatalf("close: %v", err)
	}
	e.wantKind(c, c.Send(ctx, []*driver.Message{e.message(ch, "k", 1)}), driver.Closed, "Send after Close")
	e.wantKind(c, c.Provision(ctx, []driver.Channel{ch}, nil), driver.Closed, "Provision after Close")
	_, err = c.OpenReceiver(ctx, s)
	e.wantKind(c, err, driver.Closed, "OpenReceiver after Close")
	_, err = r.Receive(ctx, 1)
	e.wantKind(c, err, driver.Closed, "Receive after Close")
	if err := r.Settle(ctx, []driver.Settlement{{Delivery: d}}); err != nil && !isStale(err) && c.Classify(err) != driver.Closed {
		e.Errorf("Settle after Close: %v, want no error, a StaleError or ErrClosed", err)
	}
	if c.Capabilities().Name != e.caps.Name {
		e.Error("Capabilities changed with Close")
	}
}

func testCloseGivesBack(e *env) {
	sender, c := e.conn(), e.conn()
	ch, s := e.queue(sender)
	e.send(sender, e.messages(ch, 5, 1)...)
	e.take(e.receiver(c, s), 5)
	ctx, cancel := e.within()
	defer cancel()
	if err := c.Close(ctx); err != nil { // with its receiver
		e.Fatalf("close: %v", err)
	}
	r := e.receiver(sender, e.another(s))
	e.settle(r, driver.Ack, e.take(r, 5)...)
}

func testCloseWhileSending(e *env) {
	other, c := e.conn(), e.conn()
	ch, s := e.queue(other)
	l := newRecorder()
	e.consume(l, e.receiver(other, s), s.Group)
	const senders = 4
	var wg sync.WaitGroup
	var mu sync.Mutex
	confirmed := map[string]bool{}
	begun := make(chan struct{}, senders)
	for i := range senders {
		wg.Go(func() {
			ctx, cancel := e.within()
			defer cancel()
			for n := 0; ; n += 5 {
				ms := make([]*driver.Message, 5)
				for k := range ms {
					ms[k] = e.message(ch, fmt.Sprint("s", i), n+k)
				}
				err := c.Send(ctx, ms)
				failed := map[int]bool{}
				if se := (*driver.SendError)(nil); errors.As(err, &se) {
					for _, f := range se.Failures {
						failed[f.Index] = true
					}
				} else if err != nil {
					for k := range ms {
						failed[k] = true
					}
				}
				mu.Lock()
				for k, m := range ms {
					if !failed[k] {
						confirmed[ch.Name+"|"+s.Group+"|"+m.ID] = true
					}
				}
				mu.Unlock()
				if n == 10 {
					begun <- struct{}{}
				}
				if err != nil {
					if ctx.Err() != nil {
						e.Errorf("a sender hung until its own deadline: %v", err)
					}
					return
				}
			}
		})
	}
	for range senders {
		await(e, begun, "the senders to begin")
	}
	ctx, cancel := e.within()
	defer cancel()
	began := time.Now()
	if err := c.Close(ctx); err != nil {
		e.Errorf("close while others send: %v", err)
	}
	wg.Wait()
	if took := time.Since(began); took > e.h.Patience/2 {
		e.Errorf("closing while others send took %v", took)
	}
	e.eventually("every confirmed message to be handled", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for id := range confirmed {
			if l.count[id] == 0 {
				return false
			}
		}
		return true
	})
}

func testOpenClose(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	for i := range 10 {
		ctx, cancel := e.within()
		c, err := e.h.Open(ctx)
		if err != nil {
			e.Fatalf("open: %v", err)
		}
		r, err := c.OpenReceiver(ctx, e.another(s))
		if err != nil {
			e.Fatalf("open receiver: %v", err)
		}
		e.send(sender, e.message(ch, "k", i))
		e.settle(r, driver.Ack, e.one(r))
		if err := c.Close(ctx); err != nil {
			e.Fatalf("close: %v", err)
		}
		cancel()
	}
}
