package drivertest

import (
	"github.com/dovetail-go/dovetail/driver"
)

var attemptsTests = map[string]test{
	"Attempts_without_end_set_no_message_aside": {run: testManyRetries},
	"Closing_without_end_sets_no_message_aside": {run: testManyCloses},
}

// many is beyond the bounds at which some engine sets a message aside unless it
// is told not to: 16 and 20.
const many = 25

func testManyRetries(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, 2, 2)...)
	r := e.receiver(c, s)
	e.settle(r, driver.Ack, e.take(r, 1)...)
	for n := 1; n <= many; n++ {
		d := e.one(r)
		e.attempt(d, n)
		e.settle(r, driver.Retry, d)
	}
	d := e.one(r)
	e.attempt(d, many+1)
	e.settle(r, driver.Ack, d)
	e.nothing(r, "it was acknowledged")
}

func testManyCloses(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	const n = 3
	e.send(c, e.messages(ch, n, n)...)
	for range many {
		r := e.receiver(c, e.another(s))
		e.take(r, n)
		e.closeReceiver(r)
	}
	r := e.receiver(c, e.another(s))
	ds := e.take(r, n)
	for _, d := range ds {
		e.attempt(d, many+1)
	}
	e.settle(r, driver.Ack, ds...)
	e.nothing(r, "all were acknowledged")
}
