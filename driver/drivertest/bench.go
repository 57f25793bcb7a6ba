package drivertest

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

// Bench measures, per message, a batch sent, received and settled, for batches
// of 1, 64 and 512 with bodies of 200 bytes over sixteen keys.
func Bench(b *testing.B, h Harness) {
	for _, size := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) { bench(b, h.withDefaults(), size) })
	}
}

func bench(b *testing.B, h Harness, size int) {
	ctx := context.Background()
	c, err := h.Open(ctx)
	if err != nil {
		b.Fatalf("open: %v", err)
	}
	defer c.Close(ctx)
	ch := driver.Channel{Name: fmt.Sprintf("bench-%d-%d", size, b.N)}
	s := driver.Subscription{Channel: ch, Group: "worker", Instance: "bench", Window: 2 * size}
	if err := c.Provision(ctx, []driver.Channel{ch}, []driver.Subscription{s}); err != nil {
		b.Fatalf("provision: %v", err)
	}
	r, err := c.OpenReceiver(ctx, s)
	if err != nil {
		b.Fatalf("open receiver: %v", err)
	}
	defer r.Close(ctx)
	ms := make([]*driver.Message, size)
	for i := range ms {
		ms[i] = &driver.Message{Channel: ch.Name, ID: "0197f2a1-0000-7000-8000-" + strconv.Itoa(100000+i), Source: "bench",
			Type: "bench.sent.v1", ContentType: "application/json", Key: "k" + strconv.Itoa(i%16), Body: make([]byte, 200)}
	}
	ss := make([]driver.Settlement, 0, size)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += size {
		if err := c.Send(ctx, ms); err != nil {
			b.Fatalf("send: %v", err)
		}
		for got := 0; got < size; {
			ds, err := r.Receive(ctx, size)
			if err != nil {
				b.Fatalf("receive: %v", err)
			}
			got += len(ds)
			ss = ss[:0]
			for _, d := range ds {
				ss = append(ss, driver.Settlement{Delivery: d, Outcome: driver.Ack})
			}
			if err := r.Settle(ctx, ss); err != nil {
				b.Fatalf("settle: %v", err)
			}
		}
	}
}
