package drivertest

import "github.com/dovetail-go/dovetail/driver"

var widenTests = map[string]test{
	"Widener_raises_the_window_and_a_receiver_opened_anew_has_all_in_order": {run: testWiden},
}

// A transport without a driver.Widener claims nothing.
func testWiden(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Window = 4
	sent := e.messages(ch, 12, 1)
	s.WindowBytes = 4 * sent[0].Size()
	e.send(c, sent...)
	r := e.receiver(c, s)
	w, ok := r.(driver.Widener)
	if !ok {
		return
	}
	w.Widen(e.take(r, 4))
	w.Widen(e.take(r, 4)[2:])
	e.take(r, 2)
	e.nothing(r, "the window of 4 is full, beside 6 that were set aside")
	e.closeReceiver(r)
	s.Window, s.WindowBytes = 12, 0
	next := e.receiver(c, s)
	for i, d := range e.take(next, 12) {
		if d.Message.ID != sent[i].ID {
			e.Fatalf("message %d is %s, want %s", i, d.Message.ID, sent[i].ID)
		}
		e.settle(next, driver.Ack, d)
	}
}
