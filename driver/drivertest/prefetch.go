package drivertest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var prefetchTests = map[string]test{
	"WindowBytes_bounds_what_is_handed_out":           {run: testWindowBytes},
	"WindowBytes_lets_a_message_through_that_is_over": {run: testWindowBytesOne},
	"WindowBytes_bounds_what_the_client_holds":        {run: testWindowMemory, gap: needsOwnMemory},
}

func needsOwnMemory(c driver.Capabilities, h Harness) string {
	switch {
	case !c.Shared:
		return "Shared is not declared: what waits is in this process in any case"
	case h.InProcess:
		return "the engine runs in this process, where what waits is"
	}
	return ""
}

const (
	windowBytes  = 1 << 20
	windowSlack  = 1 << 20 // one fetch; see driver.Subscription.WindowBytes
	windowedBody = 64 << 10
)

// large sends messages with bodies of 64 KiB, over sixteen keys.
func (e *env) large(c driver.Conn, ch driver.Channel, n int) {
	e.Helper()
	body := bytes.Repeat([]byte("0123456789abcdef"), windowedBody/16)
	ms := e.messages(ch, n, 16)
	for _, m := range ms {
		m.Body = body
	}
	for i := 0; i < n; i += 32 {
		e.send(c, ms[i:min(n, i+32)]...)
	}
}

// windowed is a queue, of eight partitions where they have owners, with a bound
// in bytes to what its receivers hold.
func (e *env) windowed(c driver.Conn) (driver.Channel, driver.Subscription) {
	e.Helper()
	ch := e.channel(driver.PointToPoint)
	if e.caps.Order >= driver.OrderOwner {
		ch.Partitions = 8
	}
	s := e.subscription(ch, "worker")
	s.WindowBytes = windowBytes
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	return ch, s
}

func testWindowBytes(e *env) {
	c := e.conn()
	ch, s := e.windowed(c)
	const n = 64
	e.large(c, ch, n)
	r := e.receiver(c, s)
	var hands []*driver.Delivery
	size, came := 0, 0
	for {
		// What comes without a settlement, however often one asks.
		ctx, cancel := context.WithTimeout(context.Background(), max(e.h.Quiet, 300*time.Millisecond))
		if len(hands) == 0 {
			cancel()
			ctx, cancel = e.within()
		}
		ds, err := r.Receive(ctx, 100)
		cancel()
		if err != nil && !(len(hands) > 0 && errors.Is(err, context.DeadlineExceeded)) && e.classify(r, err) != driver.Retryable {
			e.Fatalf("receive: %v; had %d of %d", err, came, n)
		}
		for _, d := range ds {
			size += d.Message.Size()
		}
		hands = append(hands, ds...)
		came += len(ds)
		if size > windowBytes+windowSlack {
			e.Fatalf("%d bytes are handed out and not settled, the window is %d", size, windowBytes)
		}
		if len(ds) > 0 && came < n {
			continue
		}
		e.settle(r, driver.Ack, hands...)
		hands, size = nil, 0
		if came == n {
			break
		}
	}
	e.nothing(r, "all came")
}

func testWindowBytesOne(e *env) {
	c := e.conn()
	ch, s := e.windowed(c)
	s.WindowBytes = 1000
	e.large(c, ch, 3)
	r := e.receiver(c, s)
	for range 3 {
		e.settle(r, driver.Ack, e.one(r))
	}
	e.nothing(r, "all came")
}

// testWindowMemory opens a receiver that nobody reads from.
func testWindowMemory(e *env) {
	sender := e.conn()
	ch, s := e.windowed(sender)
	const n = 1024 // 64 MiB
	e.large(sender, ch, n)
	c := e.conn()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	heap() // what the sends have left behind takes two
	before := heap()
	r := e.receiver(c, s)
	var most int64
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		<-tick.C
		most = max(most, heap()-before)
	}
	e.Logf("the heap grew by at most %d KiB while %d MiB waited", most>>10, n*windowedBody>>20)
	if most > windowBytes+windowSlack+(6<<20) { // 6 MiB for the client's buffers
		e.Errorf("an open receiver with a window of %d bytes took %d bytes of memory", windowBytes, most)
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
