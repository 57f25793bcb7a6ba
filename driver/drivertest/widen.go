package drivertest

import (
	"runtime"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var widenTests = map[string]test{
	"Widener_raises_the_window_and_a_receiver_opened_anew_has_all_in_order": {run: testWiden},
	"Widener_keeps_no_message_that_was_set_aside":                           {run: testWidenMemory, gap: needsOwnMemory},
	"Widener_keeps_the_leases_of_what_was_set_aside":                        {run: testWidenLease, gap: needsLease},
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
	take := func(r driver.Receiver, from, to int) []*driver.Delivery {
		ds := e.take(r, to-from)
		for i, d := range ds {
			if d.Message.ID != sent[from+i].ID {
				e.Fatalf("message %d is %s, want %s", from+i, d.Message.ID, sent[from+i].ID)
			}
		}
		return ds
	}
	w.Widen(take(r, 0, 4))
	w.Widen(take(r, 4, 8)[2:])
	take(r, 8, 10)
	e.nothing(r, "the window of 4 is full, beside 6 that were set aside")
	e.closeReceiver(r)
	s.Window, s.WindowBytes = 12, 0
	next := e.receiver(c, s)
	for _, d := range take(next, 0, 12) {
		e.settle(next, driver.Ack, d)
	}
	e.nothing(next, "all are settled")
}

func testWidenLease(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Window, s.Lease = 4, e.h.Lease
	sent := e.messages(ch, 4, 1)
	e.send(c, sent...)
	r := e.receiver(c, s)
	w, ok := r.(driver.Widener)
	x, leased := r.(driver.Extender)
	if !ok || !leased {
		return
	}
	ds := e.take(r, 4)
	w.Widen(ds[1:])
	tick := time.NewTicker(e.h.Lease / 4)
	defer tick.Stop()
	for range 10 { // two and a half leases
		<-tick.C
		ctx, cancel := e.within()
		if err := x.Extend(ctx, ds[:1]); err != nil {
			e.Fatalf("extend: %v", err)
		}
		cancel()
	}
	e.nothing(r, "the leases were extended, also of what was set aside")
	e.settle(r, driver.Ack, ds[0])
	e.closeReceiver(r)
	next := e.receiver(c, s)
	for i, d := range e.take(next, 3) {
		if d.Message.ID != sent[i+1].ID {
			e.Fatalf("message %d is %s, want %s", i+1, d.Message.ID, sent[i+1].ID)
		}
		e.settle(next, driver.Ack, d)
	}
	e.nothing(next, "all are settled")
}

// testWidenMemory sets all of 32 MiB aside, of which a receiver may have one in hand.
func testWidenMemory(e *env) {
	sender := e.conn()
	ch, s := e.windowed(sender)
	const n = 512
	s.Window = n
	e.large(sender, ch, n)
	c := e.conn()
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	r := e.receiver(c, s)
	w, ok := r.(driver.Widener)
	if !ok {
		return
	}
	for came := 0; came < n; {
		ds := e.take(r, 1)
		w.Widen(ds)
		came += len(ds)
	}
	grown := heap() - before
	e.Logf("the heap grew by %d KiB while %d MiB were set aside", grown>>10, n*windowedBody>>20)
	if grown > windowBytes+windowSlack+(6<<20) { // 6 MiB for the client's buffers
		e.Errorf("a receiver of which %d messages were set aside took %d bytes of memory", n, grown)
	}
	e.closeReceiver(r)
	if rm, ok := sender.(driver.Remover); ok {
		ctx, cancel := e.within()
		defer cancel()
		if err := rm.RemoveChannel(ctx, ch.Name); err != nil {
			e.Errorf("remove channel: %v", err)
		}
	}
}
