package drivertest

import (
	"slices"

	"github.com/dovetail-go/dovetail/driver"
)

var takeoverTests = map[string]test{
	"Takeover_gives_the_next_receiver_what_was_unsettled":           {run: func(e *env) { testTakeover(e, false, false) }},
	"Takeover_gives_a_waiting_receiver_what_was_unsettled":          {run: func(e *env) { testTakeover(e, true, false) }},
	"Takeover_after_a_crash_gives_the_next_receiver_what_was_left":  {run: func(e *env) { testTakeover(e, false, true) }},
	"Takeover_after_a_crash_gives_a_waiting_receiver_what_was_left": {run: func(e *env) { testTakeover(e, true, true) }},
	"Takeover_twice_still_begins_with_the_first_that_was_unsettled": {run: testTakeoverTwice},
}

// testTakeover lets a first receiver take twenty messages of four keys and
// acknowledge every third. The second must get the others before anything
// later, in order by key where the transport has owners.
func testTakeover(e *env, waiting, crash bool) {
	sender, first, second := e.conn(), e.conn(), e.conn()
	ch, s := e.queue(sender)
	const n, later, keys = 20, 8, 4
	ms := e.messages(ch, n+later, keys)
	e.send(sender, ms[:n]...)
	r1 := e.receiver(first, s)
	got := e.take(r1, n)
	left, settled := map[string]bool{}, map[string]bool{}
	var ack []*driver.Delivery
	for i, d := range got {
		if i%3 == 1 {
			ack = append(ack, d)
			settled[d.Message.ID] = true
		} else {
			left[d.Message.ID] = true
		}
	}
	slices.Reverse(ack) // settling is in any order
	e.settle(r1, driver.Ack, ack...)
	e.send(sender, ms[n:]...)
	for _, m := range ms[n:] {
		left[m.ID] = true
	}
	var r2 driver.Receiver
	if waiting {
		r2 = e.receiver(second, e.another(s))
	}
	if crash {
		e.crash(first)
	} else {
		e.closeReceiver(r1)
	}
	if !waiting {
		r2 = e.receiver(second, e.another(s))
	}
	e.succession(r2, left, settled)
}

// succession takes from r until everything in left has come, and checks that it
// comes by key in order, and that nothing in settled does.
func (e *env) succession(r driver.Receiver, left, settled map[string]bool) {
	e.Helper()
	last := map[string]int{}
	repeated := 0
	for len(left) > 0 {
		d := e.one(r)
		m := d.Message
		n := number(m)
		if before, seen := last[m.Key]; seen && n <= before && e.caps.Order >= driver.OrderOwner {
			e.Fatalf("the successor got %s/%d after %d", m.Key, n, before)
		}
		last[m.Key] = max(n, last[m.Key])
		switch {
		case left[m.ID]:
			delete(left, m.ID)
		case settled[m.ID] && e.h.Cumulative:
			repeated++
		case settled[m.ID]:
			e.Fatalf("the successor got %s, which was settled", m.ID)
		default:
			e.Fatalf("the successor got %s twice", m.ID)
		}
		// What is left of the key must not be behind what came already.
		if e.caps.Order >= driver.OrderOwner {
			for id := range left {
				if k, i := keyAndNumber(id); k == m.Key && i < n {
					e.Fatalf("the successor got %s before %s", m.ID, id)
				}
			}
		}
		e.settle(r, driver.Ack, d)
	}
	if repeated > 0 {
		e.Logf("%d settled messages came again after the take-over, as Cumulative allows", repeated)
	}
	if !e.h.Cumulative {
		e.nothing(r, "everything was settled")
	}
}

func testTakeoverTwice(e *env) {
	sender := e.conn()
	ch, s := e.queue(sender)
	const n = 12
	e.send(sender, e.messages(ch, n, 2)...)
	left := map[string]bool{}
	for _, m := range e.messages(ch, n, 2) {
		left[m.ID] = true
	}
	for range 2 {
		r := e.receiver(e.conn(), e.another(s))
		e.take(r, n/2)
		e.closeReceiver(r)
	}
	e.succession(e.receiver(sender, e.another(s)), left, nil)
}
