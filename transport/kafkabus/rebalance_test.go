package kafkabus_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// A receiver that settles nothing gives its partition up after the drain's time,
// and what it settles later is stale.
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
	var stale *driver.StaleError
	if err := first.Settle(t.Context(), all); !errors.As(err, &stale) {
		t.Fatalf("settling what was lost: %v, want a StaleError", err)
	}
	for i, d := range held {
		if named := slices.Contains(stale.Indexes, i); named != (d.Partition == lost[0]) {
			t.Errorf("settlement %d of partition %d is stale: %v, and partition %d is lost", i, d.Partition, named, lost[0])
		}
	}
	if err := second.Settle(t.Context(), []driver.Settlement{{Delivery: held[0]}}); !errors.As(err, &stale) {
		t.Errorf("settling what another receiver made: %v, want a StaleError", err)
	}
	if err := second.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0]}}); err != nil {
		t.Error(err)
	}
}
