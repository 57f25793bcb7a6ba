package drivertest

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var settleTests = map[string]test{
	"Settle_Retry_brings_the_message_again":       {run: testRetry},
	"Settle_Retry_waits_as_long_as_asked":         {run: testRetryAfter, gap: needsRetryAfter},
	"Settle_Reject_is_the_end_of_a_message":       {run: testReject},
	"Settle_takes_settlements_in_any_order":       {run: testSettleOrder},
	"Settle_twice_is_no_error":                    {run: testSettleTwice},
	"Settle_by_another_receiver_is_no_error":      {run: testSettleForeign},
	"Settle_of_nothing_is_no_error":               {run: testSettleNothing},
	"Settle_of_a_part_leaves_the_rest_unsettled":  {run: testSettlePart},
	"Attempt_counts_deliveries_also_to_the_dead":  {run: testAttempts, gap: needsAttempts},
	"Lease_that_ran_out_brings_the_message_again": {run: testLease, gap: needsLease},
	"Lease_that_is_extended_holds":                {run: testExtend, gap: needsLease},
}

func needsRetryAfter(c driver.Capabilities, _ Harness) string {
	if !c.RetryAfter {
		return "RetryAfter is not declared"
	}
	return ""
}

func needsAttempts(c driver.Capabilities, _ Harness) string {
	if !c.CountsAttempts {
		return "CountsAttempts is not declared"
	}
	return ""
}

func needsLease(c driver.Capabilities, _ Harness) string {
	if c.Lease == 0 {
		return "no Lease is declared"
	}
	return ""
}

// keyAndNumber undoes the id that env.message gave.
func keyAndNumber(id string) (key string, n int) {
	i := strings.LastIndexByte(id, '/')
	n, _ = strconv.Atoi(id[i+1:])
	return id[:max(i, 0)], n
}

// attempt checks a delivery's count where the transport counts.
func (e *env) attempt(d *driver.Delivery, want int) {
	e.Helper()
	if !e.caps.CountsAttempts {
		if d.Attempt != 0 {
			e.Errorf("Attempt of %s is %d, want 0 from a transport that does not count", d.Message.ID, d.Attempt)
		}
		return
	}
	if d.Attempt != want {
		e.Errorf("Attempt of %s is %d, want %d", d.Message.ID, d.Attempt, want)
	}
}

func testRetry(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, 3, 3)...)
	r := e.receiver(c, s)
	ds := e.take(r, 3)
	for _, d := range ds {
		e.attempt(d, 1)
	}
	again := ds[1].Message.ID
	for n := 2; n <= 4; n++ {
		e.settle(r, driver.Retry, ds[1])
		ds[1] = e.one(r)
		if ds[1].Message.ID != again {
			e.Fatalf("got %s, want %s again", ds[1].Message.ID, again)
		}
		e.attempt(ds[1], n)
	}
	e.settle(r, driver.Ack, ds...)
	e.nothing(r, "all were acknowledged")
}

func testRetryAfter(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.message(ch, "k", 0))
	r := e.receiver(c, s)
	d := e.one(r)
	after := max(2*e.h.Quiet, 300*time.Millisecond)
	began := time.Now()
	e.settleAll(r, driver.Settlement{Delivery: d, Outcome: driver.Retry, After: after})
	d = e.one(r)
	if waited := time.Since(began); waited < after-20*time.Millisecond {
		e.Fatalf("came again after %v, want %v at the earliest", waited, after)
	}
	e.attempt(d, 2)
	e.settle(r, driver.Ack, d)
	e.nothing(r, "it was acknowledged")
}

func testReject(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, 2, 2)...)
	r := e.receiver(c, s)
	e.settle(r, driver.Reject, e.take(r, 2)...)
	e.nothing(r, "both were rejected")
	e.closeReceiver(r)
	e.nothing(e.receiver(c, e.another(s)), "both were rejected")
}

func testSettleOrder(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	const n = 50
	e.send(c, e.messages(ch, n, 5)...)
	r := e.receiver(c, s)
	ds := e.take(r, n)
	// Every seventh place, wrapping around: a permutation without order.
	for i := range ds {
		o := driver.Ack
		if i%5 == 0 {
			o = driver.Reject
		}
		e.settle(r, o, ds[i*7%n])
	}
	e.nothing(r, "all were settled")
	e.closeReceiver(r)
	e.nothing(e.receiver(c, e.another(s)), "all were settled")
}

func testSettleTwice(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, 2, 2)...)
	r := e.receiver(c, s)
	ds := e.take(r, 2)
	e.settle(r, driver.Ack, ds[0])
	e.settle(r, driver.Ack, ds[0])
	e.settle(r, driver.Retry, ds[0])
	e.settle(r, driver.Ack, ds[1], ds[1])
	e.nothing(r, "an acknowledged message stays acknowledged whatever is said later")
}

func testSettleForeign(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, 2, 2)...)
	r1 := e.receiver(c, s)
	old := e.take(r1, 2)
	e.closeReceiver(r1)
	r2 := e.receiver(c, e.another(s))
	now := e.take(r2, 2)
	// What the first receiver held is no longer its own: settling it is passed
	// over, and does not take it from the second.
	ctx, cancel := e.within()
	defer cancel()
	for _, o := range []driver.Outcome{driver.Retry, driver.Ack} {
		if err := r1.Settle(ctx, []driver.Settlement{{Delivery: old[0], Outcome: o}}); err != nil && !isStale(err) && c.Classify(err) != driver.Closed {
			e.Fatalf("settling what was given back: %v, want no error, a StaleError or ErrClosed", err)
		}
	}
	e.settle(r2, driver.Ack, now...)
	e.nothing(r2, "the owner acknowledged both")
}

// isStale reports whether Settle says of some that they came too late.
func isStale(err error) bool {
	var stale *driver.StaleError
	return errors.As(err, &stale)
}

func testSettleNothing(e *env) {
	c := e.conn()
	_, s := e.queue(c)
	e.settle(e.receiver(c, s), driver.Ack)
}

// testSettlePart is the batch of which a part was handled when the process
// ended: only that part is gone.
func testSettlePart(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	const n = 10
	e.send(c, e.messages(ch, n, 1)...)
	r := e.receiver(c, s)
	ds := e.take(r, n)
	e.settle(r, driver.Ack, ds[0])
	e.closeReceiver(r)
	left := map[string]bool{}
	for _, d := range ds[1:] {
		left[d.Message.ID] = true
	}
	e.succession(e.receiver(c, e.another(s)), left, map[string]bool{ds[0].Message.ID: true})
}

func testAttempts(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	e.send(sender, e.message(ch, "k", 0))
	for n := 1; n <= 3; n++ {
		c := e.conn()
		e.attempt(e.one(e.receiver(c, e.another(s))), n)
		e.crash(c)
	}
	r := e.receiver(sender, e.another(s))
	d := e.one(r)
	e.attempt(d, 4)
	e.settle(r, driver.Ack, d)
}

func testLease(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Lease = e.h.Lease
	e.send(c, e.message(ch, "k", 0))
	r := e.receiver(c, s)
	first := e.one(r)
	second := e.one(r) // once the lease has run out
	if second.Message.ID != first.Message.ID {
		e.Fatalf("got %s, want %s again", second.Message.ID, first.Message.ID)
	}
	e.attempt(second, 2)
	e.stale(r, driver.Settlement{Delivery: first}) // expired: passed over, named, or taken for the second
	e.settle(r, driver.Ack, second)
	e.nothing(r, "it was acknowledged")
}

func testExtend(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Lease = e.h.Lease
	e.send(c, e.messages(ch, 2, 2)...)
	r := e.receiver(c, s)
	x, ok := r.(driver.Extender)
	if !ok {
		e.Fatalf("a transport with leases (%v) needs driver.Extender for long handlers", e.caps.Lease)
	}
	ds := e.take(r, 2)
	tick := time.NewTicker(e.h.Lease / 4)
	defer tick.Stop()
	for range 10 { // two and a half leases
		<-tick.C
		ctx, cancel := e.within()
		if err := x.Extend(ctx, ds); err != nil {
			e.Fatalf("extend: %v", err)
		}
		cancel()
	}
	e.nothing(r, "the leases were extended")
	e.settle(r, driver.Ack, ds...)
	ctx, cancel := e.within()
	defer cancel()
	if err := x.Extend(ctx, ds); err != nil {
		e.Fatalf("extend what is settled: %v, want it passed over", err)
	}
	e.nothing(r, "both were acknowledged")
}
