package drivertest

import (
	"bytes"
	"context"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var undrainedTests = map[string]test{
	"Receiver_that_nobody_drains_stalls_no_sends":         {run: testUndrainedSends},
	"Receiver_that_nobody_drains_stalls_no_other":         {run: testUndrainedReceiver},
	"Receiver_with_its_window_in_hand_stalls_no_sends":    {run: testFullWindowSends},
	"Send_to_a_full_channel_ends_and_names_it":            {run: testFullSend, gap: needsFull},
	"Send_to_a_full_channel_with_a_window_in_hand_passes": {run: testFullSendInHand, gap: needsFull},
}

const undrained = 80 // messages; with their bodies more than a connection's buffers hold

// stallsNothing sends over c to ch, and handles it, while some receiver of c is
// left alone.
func (e *env) stallsNothing(c driver.Conn, sent int) {
	e.Helper()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	for i := range sent {
		began := time.Now()
		e.send(c, e.message(ch, "k", i))
		e.settle(r, driver.Ack, e.one(r))
		if took := time.Since(began); took > e.h.Patience/2 {
			e.Fatalf("a message took %v over a connection with a receiver that nobody drains", took)
		}
	}
}

func (e *env) fill(c driver.Conn, ch driver.Channel) {
	e.Helper()
	body := bytes.Repeat([]byte("0123456789abcdef"), windowedBody/16)
	for i, m := range e.messages(ch, undrained, 8) {
		m.Body = body
		ctx, cancel := context.WithTimeout(context.Background(), e.h.Patience/2)
		if err := c.Send(ctx, []*driver.Message{m}); err != nil {
			e.Fatalf("send %d of %d beside a receiver that nobody drains: %v", i+1, undrained, err)
		}
		cancel()
	}
}

func testUndrainedSends(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.receiver(c, s)
	e.fill(c, ch)
	e.stallsNothing(c, 5)
}

func testUndrainedReceiver(e *env) {
	c, sender := e.conn(), e.conn()
	ch, s := e.queue(c)
	e.fill(sender, ch)
	e.receiver(c, s)
	e.stallsNothing(c, 5)
}

func testFullWindowSends(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Window = 4
	r := e.receiver(c, s)
	e.send(c, e.messages(ch, 4, 4)...)
	ds := e.take(r, 4)
	e.fill(c, ch)
	e.stallsNothing(c, 5)
	e.settle(r, driver.Ack, ds...)
	e.settle(r, driver.Ack, e.one(r))
}

// tillFull sends single messages until one is refused, and returns its error.
func (e *env) tillFull(c driver.Conn, ch driver.Channel) (sent int, err error) {
	e.Helper()
	const most = 600
	deadline := time.Now().Add(e.h.Patience)
	for i := 0; i < most && time.Now().Before(deadline); i++ {
		ctx, cancel := context.WithTimeout(context.Background(), e.h.Patience/2)
		began := time.Now()
		err := c.Send(ctx, []*driver.Message{e.message(ch, "k", i)})
		cancel()
		if took := time.Since(began); took > e.h.Patience/2+time.Second {
			e.Fatalf("a send to a full channel took %v, its context had ended after %v: %v", took, e.h.Patience/2, err)
		}
		if err != nil {
			return i, err
		}
	}
	e.Fatalf("%d messages fitted into a channel with little room, or %v were too short for them", most, e.h.Patience)
	return 0, nil
}

func testFullSend(e *env) {
	c := e.open(e.h.Full)
	ch, s := e.queue(c)
	sent, err := e.tillFull(c, ch)
	e.wantKind(c, err, driver.Retryable, "a send to a full channel")
	e.names(err, ch.Name)
	r := e.receiver(c, s)
	e.settle(r, driver.Ack, e.take(r, sent)...)
	e.eventually("a send once there is room", func() bool {
		ctx, cancel := e.within()
		defer cancel()
		return c.Send(ctx, []*driver.Message{e.message(ch, "k", sent)}) == nil
	})
}

// testFullSendInHand is a handler that sends to the channel that it consumes.
func testFullSendInHand(e *env) {
	c := e.open(e.h.Full)
	ch, s := e.queue(c)
	s.Window = 4
	_, _ = e.tillFull(c, ch)
	r := e.receiver(c, s)
	ds := e.take(r, 4)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := c.Send(ctx, e.messages(ch, 8, 8)); err != nil {
		e.wantKind(c, err, driver.Retryable, "a send to a full channel by who has its window in hand")
	}
	e.settle(r, driver.Ack, ds...)
	e.settle(r, driver.Ack, e.take(r, 4)...)
}
