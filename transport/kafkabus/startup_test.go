package kafkabus_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// BenchmarkOpen opens fifty receivers side by side, as a service with fifty
// subscriptions does when it starts.
func BenchmarkOpen(b *testing.B) {
	s := servers.Shared(b, servers.Kafka)
	c := connect(b, options(s))
	const n = 50
	var channels []driver.Channel
	var subs []driver.Subscription
	for i := range n {
		sub := subscription(fmt.Sprint("opened-", i), 1)
		channels, subs = append(channels, sub.Channel), append(subs, sub)
	}
	began := time.Now()
	if err := c.Provision(b.Context(), channels, subs); err != nil {
		b.Fatal(err)
	}
	b.Logf("provisioned in %v", time.Since(began))
	began = time.Now()
	if err := c.Provision(b.Context(), channels, subs); err != nil {
		b.Fatal(err)
	}
	b.Logf("and again in %v", time.Since(began))
	round := 0
	for b.Loop() {
		round++
		var wg sync.WaitGroup
		rs := make([]driver.Receiver, n)
		for i := range rs {
			wg.Go(func() {
				sub := subs[i]
				sub.Instance = fmt.Sprint("round-", round)
				r, err := c.OpenReceiver(b.Context(), sub)
				if err != nil {
					b.Error(err)
					return
				}
				rs[i] = r
			})
		}
		wg.Wait()
		b.StopTimer()
		for _, r := range rs {
			wg.Go(func() {
				if err := r.Close(b.Context()); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		b.StartTimer()
	}
}
