package natsbus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
)

// What the client has fetched counts against the byte window, over all partitions
// together, and a message that is larger than the window comes all the same.
func TestWindowBytes_bound_what_the_client_fetches(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	for name, partitions := range map[string]int{"one consumer": 0, "eight partitions": 8} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []int{100, 7 << 10, 64 << 10, 300 << 10, 2 << 20} {
				t.Run(fmt.Sprintf("bodies of %d", body), func(t *testing.T) {
					windowBytes(t, srv.URL(), partitions, body)
				})
			}
		})
	}
}

func windowBytes(t *testing.T, url string, partitions, body int) {
	const budget = 1 << 20
	c := connect(t, natsbus.Options{URL: url, Partitions: partitions, OwnerTTL: time.Second})
	s := work(fmt.Sprintf("window-bytes-%d-%d", partitions, body))
	s.Window, s.WindowBytes = 1000, budget
	provision(t, c, s)
	n := min(2000, 20<<20/body)
	for i := range n {
		m := &driver.Message{Channel: s.Channel.Name, ID: fmt.Sprint(i), Source: "test", Type: "t.v1", Key: fmt.Sprint("k", i%64), Body: make([]byte, body)}
		if err := c.Send(within(t), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	fetcher, err := natsbus.Connect(within(t), natsbus.Options{URL: url, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer fetcher.Close(within(t))
	var nc *nats.Conn
	fetcher.As(&nc)
	r, err := fetcher.OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	most, inHand, total := 0, 0, 0
	var hand []*driver.Delivery
	settled := uint64(0)
	for total < n {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		ds, err := r.Receive(ctx, 100)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			inHand += d.Message.Size()
		}
		hand, total = append(hand, ds...), total+len(ds)
		most = max(most, inHand)
		// All that came in over the link and is not settled.
		if fetched := int(nc.Stats().InBytes - settled); fetched > budget+max(1<<20, 2*body)+100<<10 {
			t.Fatalf("%d bytes have been fetched and are not settled, at a window of %d", fetched, budget)
		}
		if len(hand) >= 3 || inHand >= budget/2 || total == n {
			settle := make([]driver.Settlement, len(hand))
			for i, d := range hand {
				settle[i] = driver.Settlement{Delivery: d}
			}
			if err := r.Settle(within(t), settle); err != nil {
				t.Fatal(err)
			}
			// What was on its way meanwhile is not known to the test: it
			// counts from here on.
			settled += uint64(inHand)
			hand, inHand = nil, 0
		}
	}
	if most > budget+body {
		t.Errorf("%d bytes were in hand at once, at a window of %d", most, budget)
	}
}
