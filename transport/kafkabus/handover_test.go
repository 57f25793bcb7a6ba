package kafkabus_test

import (
	"context"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// Of the partitions that go to a newcomer, each goes when nothing of it is in hand,
// whatever is in hand of the others; and what was settled before does not come again.
func TestReceiver_hands_over_each_partition_when_it_is_free(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	o := options(s)
	o.DrainTimeout = patience
	c := connect(t, o)
	sub := subscription("handed-over", 4)
	provision(t, c, sub.Channel, sub)
	const keys = 40
	if err := c.Send(t.Context(), numberedAll("handed-over", 3*keys, keys)); err != nil {
		t.Fatal(err)
	}
	first := open(t, c, sub)
	inHand := map[int][]*driver.Delivery{}
	for range 3 * keys {
		d := receive(t, first, 1)[0]
		inHand[d.Partition] = append(inHand[d.Partition], d)
	}
	if len(inHand) != 4 {
		t.Fatalf("%d partitions have messages, want 4", len(inHand))
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); <-done }()
	second := open(t, c, sub)
	revoker := first.(driver.Revoker)
	lost := await(t, revoker.Revoked())
	for len(lost) < 2 {
		lost = append(lost, await(t, revoker.Revoked())...)
	}
	go func() { // as the core does
		defer close(done)
		for ctx.Err() == nil {
			ds, _ := first.Receive(ctx, 10)
			for _, d := range ds {
				t.Errorf("the first got %s of partition %d although all had come", d.Message.ID, d.Partition)
			}
		}
	}()
	for i, p := range lost {
		// All but the last are settled, and the last is abandoned.
		mine := inHand[p]
		ack(t, first, mine[:len(mine)-1]...)
		began := time.Now()
		if err := revoker.Release(ctx, []int{p}); err != nil {
			t.Fatal(err)
		}
		d := receive(t, second, 1)[0]
		if want := mine[len(mine)-1].Message.ID; d.Partition != p || d.Message.ID != want {
			t.Fatalf("release %d, of partition %d: the next owner got %s of partition %d, want %s", i, p, d.Message.ID, d.Partition, want)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("partition %d was handed over %v after it was released", p, took)
		}
		ack(t, second, d)
	}
	for p, ds := range inHand {
		if p != lost[0] && p != lost[1] {
			ack(t, first, ds...) // they were the first's all the time
		}
	}
}
