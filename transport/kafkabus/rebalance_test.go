package kafkabus_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// rebalances is how long instances join and leave every second:
// DOVETAIL_KAFKABUS_REBALANCES, such as 1m, or some seconds.
func rebalances(t testing.TB) time.Duration {
	v := os.Getenv("DOVETAIL_KAFKABUS_REBALANCES")
	if v == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatalf("DOVETAIL_KAFKABUS_REBALANCES is %q: %v", v, err)
	}
	return d
}

// Watermill-kafka's PR 30 and issue 210: a rebalance during a handler hangs, or
// loops, or commits for a generation that is over.
func TestReceiver_keeps_order_by_key_while_instances_join_and_leave_every_second(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("rebalanced", 6)
	provision(t, c, sub.Channel, sub)
	h := newHandled()
	for range 2 {
		defer consume(t, connect(t, options(s)), sub, h, 200*time.Microsecond)()
	}
	const keys = 24
	sent, joined := 0, 0
	ctx, cancel := context.WithTimeout(t.Context(), rebalances(t))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			ms := make([]*driver.Message, keys)
			for k := range ms {
				ms[k] = numbered("rebalanced", k, n)
			}
			if _, err := resend(c, ms); err != nil {
				t.Errorf("send: %v", err)
				return
			}
			sent += len(ms)
			<-time.After(20 * time.Millisecond) // about half of what the consumers manage
		}
	})
	guest := connect(t, options(s))
	for ctx.Err() == nil {
		leave := consume(t, guest, sub, h, 200*time.Microsecond)
		joined++
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		leave()
	}
	wg.Wait()
	h.await(t, sent)
	h.check(t, sent)
	t.Logf("%d messages, %d came again; an instance joined and left %d times", sent, h.copies, joined)
}

// A receiver that settles nothing gives its partition up after the drain's time,
// and what it settles later is passed over.
func TestReceiver_gives_a_partition_up_when_draining_takes_too_long(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	o := options(s)
	o.DrainTimeout = 500 * time.Millisecond
	c := connect(t, o)
	sub := subscription("undrained", 2)
	provision(t, c, sub.Channel, sub)
	var ms []*driver.Message
	for k := range 20 {
		ms = append(ms, numbered("undrained", k, 0))
	}
	if err := c.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	first := open(t, c, sub)
	held := receive(t, first, len(ms))
	second := open(t, c, sub)
	lost := await(t, first.(driver.Revoker).Revoked()) // and not released
	ds := receive(t, second, 1)
	if len(lost) != 1 || ds[0].Partition != lost[0] {
		t.Fatalf("the second receiver got partition %d, and the first lost %v", ds[0].Partition, lost)
	}
	var all []driver.Settlement
	for _, d := range held {
		all = append(all, driver.Settlement{Delivery: d})
	}
	if err := first.Settle(t.Context(), all); err != nil {
		t.Errorf("settling what was lost: %v", err)
	}
	if err := second.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0]}}); err != nil {
		t.Error(err)
	}
}
