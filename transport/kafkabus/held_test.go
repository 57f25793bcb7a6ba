package kafkabus_test

import (
	"runtime"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// A few messages that are held, as those of keys that fail, keep themselves in
// memory and not all that was fetched and handed out with them.
func TestReceiver_that_holds_a_few_messages_keeps_only_these(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	c := connect(t, options(s))
	sub := subscription("held-few", 1)
	sub.Window, sub.WindowBytes = 1000, 4<<20
	provision(t, c, sub.Channel, sub)
	const n, batch, body = 40_000, 500, 1 << 10 // 40 MiB, of which one in each batch is held
	ms := numberedAll("held-few", batch, batch)
	for _, m := range ms {
		m.Body = make([]byte, body)
	}
	for range n / batch {
		if err := c.Send(t.Context(), ms); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	r := open(t, c, sub)
	var held []*driver.Delivery
	for range n / batch {
		ds := receive(t, r, batch)
		held = append(held, ds[0])
		ack(t, r, ds[1:]...)
	}
	if grown := heap() - before; grown > 12<<20 { // what the client has in any case, and some
		t.Errorf("%d messages of %d bytes that are held keep %d KiB", len(held), body, grown>>10)
	} else {
		t.Logf("%d messages that are held keep %d KiB, with what the client has", len(held), grown>>10)
	}
	ack(t, r, held...)
}
