package drivertest

import (
	"errors"
	"slices"

	"github.com/dovetail-go/dovetail/driver"
)

var staleTests = map[string]test{
	"Settle_of_what_an_earlier_receiver_had_is_not_taken": {run: testStale},
	"Settle_names_what_came_too_late_and_takes_the_rest":  {run: testStalePart},
}

// stale returns the indexes that a Settle named as too late, and fails the test
// for any other error.
func (e *env) stale(r driver.Receiver, ss ...driver.Settlement) (indexes []int, told bool) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	err := r.Settle(ctx, ss)
	var stale *driver.StaleError
	if errors.As(err, &stale) {
		if len(stale.Indexes) == 0 || !slices.IsSorted(stale.Indexes) || stale.Indexes[0] < 0 || stale.Indexes[len(stale.Indexes)-1] >= len(ss) {
			e.Errorf("a StaleError for %d settlements has the indexes %v", len(ss), stale.Indexes)
		}
		return stale.Indexes, true
	}
	if err != nil {
		e.Fatalf("settling what came too late: %v, want no error or *driver.StaleError", err)
	}
	return nil, false
}

// succeeded has a receiver take n messages and a second one, r, of the same
// connection take them over. last closes that and opens a third.
func (e *env) succeeded(n int) (r driver.Receiver, old, now []*driver.Delivery, last func() driver.Receiver) {
	e.Helper()
	c := e.conn()
	ch, s := e.queue(c)
	e.send(c, e.messages(ch, n, n)...)
	first := e.receiver(c, s)
	old = e.take(first, n)
	e.closeReceiver(first)
	r = e.receiver(c, e.another(s))
	now = e.take(r, n)
	return r, old, now, func() driver.Receiver {
		e.closeReceiver(r)
		return e.receiver(c, e.another(s))
	}
}

func testStale(e *env) {
	r, old, now, last := e.succeeded(2)
	if indexes, told := e.stale(r, driver.Settlement{Delivery: old[0]}, driver.Settlement{Delivery: old[1]}); told && len(indexes) != 2 {
		e.Errorf("two settlements came too late, and %v are named", indexes)
	}
	e.settle(r, driver.Retry, now...)
	e.settle(r, driver.Ack, e.take(r, 2)...) // they would not come had the others been taken
	e.nothing(r, "both were acknowledged")
	e.nothing(last(), "both were acknowledged")
}

func testStalePart(e *env) {
	r, old, now, last := e.succeeded(3)
	byID := map[string]*driver.Delivery{}
	for _, d := range now {
		byID[d.Message.ID] = d
	}
	indexes, told := e.stale(r, driver.Settlement{Delivery: byID[old[0].Message.ID]}, driver.Settlement{Delivery: old[1]},
		driver.Settlement{Delivery: byID[old[2].Message.ID]})
	if told && !slices.Equal(indexes, []int{1}) {
		e.Errorf("the settlement at 1 came too late, and %v are named", indexes)
	}
	e.settle(r, driver.Retry, byID[old[1].Message.ID])
	d := e.one(r)
	if d.Message.ID != old[1].Message.ID {
		e.Fatalf("got %s, want %s alone", d.Message.ID, old[1].Message.ID)
	}
	e.settle(r, driver.Ack, d)
	e.nothing(r, "all were acknowledged")
	e.nothing(last(), "all were acknowledged, two of them beside one that came too late")
}
