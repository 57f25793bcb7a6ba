package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

var sendTests = map[string]test{
	"Send_of_an_empty_batch_does_nothing":              {run: testEmptyBatch},
	"Send_takes_a_large_batch_over_several_channels":   {run: testLargeBatch},
	"Send_names_exactly_the_messages_that_failed":      {run: testPartialFailure},
	"Send_to_an_unprovisioned_channel_is_not_found":    {run: testSendUnknown},
	"Send_names_the_message_that_is_too_large":         {run: testTooLarge, gap: needsMaxBytes},
	"Send_takes_any_size_where_no_limit_is_declared":   {run: testNoLimit, gap: hasMaxBytes},
	"Send_with_an_ended_context_is_canceled":           {run: testSendCanceled},
	"Send_by_many_at_once_confirms_each_ones_messages": {run: testConcurrentSenders},
}

func needsMaxBytes(c driver.Capabilities, _ Harness) string {
	switch {
	case c.MaxBytes == 0:
		return "no limit to a message is declared"
	case c.MaxBytes > 64<<20:
		return fmt.Sprintf("a message over the limit of %d bytes is too large for a test", c.MaxBytes)
	}
	return ""
}

func hasMaxBytes(c driver.Capabilities, _ Harness) string {
	if c.MaxBytes > 0 {
		return fmt.Sprintf("a limit of %d bytes is declared", c.MaxBytes)
	}
	return ""
}

func testNoLimit(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	m := e.message(ch, "k", 0)
	m.Body = make([]byte, 24<<20)
	ctx, cancel := e.within()
	defer cancel()
	if err := c.Send(ctx, []*driver.Message{m}); err != nil {
		e.Fatalf("a message of %d bytes: %v; declare the limit as Capabilities.MaxBytes", m.Size(), err)
	}
	r := e.receiver(c, s)
	d := e.one(r)
	e.sameMessage(d, m)
	e.settle(r, driver.Ack, d)
}

func testEmptyBatch(e *env) {
	c := e.conn()
	e.send(c)
}

func testLargeBatch(e *env) {
	c := e.conn()
	const channels, keys = 4, 7
	l := newRecorder()
	var ms []*driver.Message
	per := e.h.Many / channels
	chs := make([]driver.Channel, channels)
	for i := range chs {
		ch, s := e.queue(c)
		chs[i] = ch
		e.consume(l, e.receiver(c, s), s.Group)
	}
	batches := make([][]*driver.Message, channels)
	for i, ch := range chs {
		batches[i] = e.messages(ch, per, keys)
	}
	for n := range per {
		for i := range batches {
			ms = append(ms, batches[i][n])
		}
	}
	e.send(c, ms...)
	e.awaitUnique(l, len(ms))
	if e.caps.Order >= driver.OrderInstance {
		e.inOrder(l)
	}
	if e.caps.Lease == 0 {
		e.noCopies(l, false)
	}
}

func testPartialFailure(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	nowhere := e.channel(driver.PointToPoint)
	ms := []*driver.Message{e.message(ch, "k", 0), e.message(nowhere, "k", 9), e.message(ch, "k", 1)}
	failing := map[int]driver.Kind{1: driver.NotFound}
	if needsMaxBytes(e.caps, e.h) == "" {
		large := e.message(ch, "other", 9)
		large.Body = make([]byte, e.caps.MaxBytes+1)
		failing[len(ms)] = driver.TooLarge
		ms = append(ms, large)
	} else {
		e.gap("no message too large in the batch: " + needsMaxBytes(e.caps, e.h))
	}
	ms = append(ms, e.message(ch, "k", 2))
	ctx, cancel := e.within()
	defer cancel()
	err := c.Send(ctx, ms)
	var se *driver.SendError
	if !errors.As(err, &se) {
		e.Fatalf("send of a batch of which %d cannot be sent: %v, want a *driver.SendError", len(failing), err)
	}
	last := -1
	for _, f := range se.Failures {
		want, ok := failing[f.Index]
		switch {
		case !ok:
			e.Errorf("message %d failed with %v, want it sent", f.Index, f.Err)
		case c.Classify(f.Err) != want:
			e.Errorf("message %d: %v is %q, want %q", f.Index, f.Err, c.Classify(f.Err), want)
		case f.Unknown:
			e.Errorf("message %d: outcome is called unknown, but it was refused", f.Index)
		case f.Index <= last:
			e.Errorf("failures are not ordered by index: %d after %d", f.Index, last)
		}
		last = f.Index
		delete(failing, f.Index)
	}
	for i := range failing {
		e.Errorf("message %d was not named as failed", i)
	}
	r := e.receiver(c, s)
	got := e.take(r, 3)
	for i, d := range got {
		if e.caps.Order >= driver.OrderInstance && number(d.Message) != i {
			e.Fatalf("got %s, want k/0 k/1 k/2", ids(got))
		}
	}
	e.settle(r, driver.Ack, got...)
	e.nothing(r, "the others were refused")
}

func testSendUnknown(e *env) {
	c := e.conn()
	ctx, cancel := e.within()
	defer cancel()
	err := c.Send(ctx, []*driver.Message{e.message(e.channel(driver.PointToPoint), "k", 0)})
	e.wantKind(c, err, driver.NotFound, "send to a channel that nobody provisioned")
	if !errors.Is(err, driver.ErrNotFound) {
		e.Errorf("%v does not wrap driver.ErrNotFound", err)
	}
}

func testTooLarge(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	large := e.message(ch, "k", 9)
	large.Body = make([]byte, e.caps.MaxBytes+1)
	ctx, cancel := e.within()
	defer cancel()
	err := c.Send(ctx, []*driver.Message{e.message(ch, "k", 0), large, e.message(ch, "k", 1)})
	var se *driver.SendError
	if !errors.As(err, &se) || len(se.Failures) != 1 || se.Failures[0].Index != 1 || !errors.Is(se.Failures[0].Err, driver.ErrTooLarge) {
		e.Fatalf("send with message 1 of %d bytes, limit %d: %v, want a SendError with ErrTooLarge for 1 alone", large.Size(), e.caps.MaxBytes, err)
	}
	r := e.receiver(c, s)
	e.settle(r, driver.Ack, e.take(r, 2)...)
}

func testSendCanceled(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	e.wantKind(c, c.Send(ended, []*driver.Message{e.message(ch, "maybe", 0)}), driver.Canceled, "send with an ended context")
	// The connection is none the worse for it.
	e.send(c, e.message(ch, "k", 0))
	r := e.receiver(c, s)
	for {
		d := e.one(r)
		e.settle(r, driver.Ack, d)
		if d.Message.Key == "k" {
			return
		}
	}
}

func testConcurrentSenders(e *env) {
	c, other := e.conn(), e.conn()
	ch, s := e.queue(c)
	const senders, batches, size = 8, 10, 10
	l := newRecorder()
	e.consume(l, e.receiver(c, s), s.Group)
	var wg sync.WaitGroup
	for i := range senders {
		conn := []driver.Conn{c, other}[i%2]
		wg.Go(func() {
			for b := range batches {
				ms := make([]*driver.Message, size)
				for n := range ms {
					ms[n] = e.message(ch, fmt.Sprint("sender", i), b*size+n)
				}
				ctx, cancel := e.within()
				if err := conn.Send(ctx, ms); err != nil {
					e.Errorf("sender %d, batch %d: %v", i, b, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	e.awaitUnique(l, senders*batches*size)
	if e.caps.Order >= driver.OrderInstance {
		e.inOrder(l)
	}
}
