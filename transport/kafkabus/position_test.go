package kafkabus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kadm"
)

func TestReceiver_says_that_its_position_is_lost(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("deleted", 1)
	provision(t, c, sub.Channel, sub)
	for n := range 10 {
		if err := c.Send(t.Context(), []*driver.Message{numbered("deleted", 0, n)}); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, c, sub)
	ack(t, r, receive(t, r, 2)...)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(plain(t, s))
	cut := kadm.Offsets{}
	cut.Add(kadm.Offset{Topic: "deleted", Partition: 0, At: 6})
	if resp, err := adm.DeleteRecords(t.Context(), cut); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	r = open(t, c, sub)
	for range 2 { // it stays so
		ds, err := r.Receive(t.Context(), 10)
		if !errors.Is(err, driver.ErrPositionLost) || c.Classify(err) != driver.PositionLost {
			t.Fatalf("received %d, %v; want ErrPositionLost", len(ds), err)
		}
	}
	// The remedy that the error names.
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveGroup(t.Context(), "deleted", "worker"); err != nil {
		t.Fatal(err)
	}
	provision(t, c, sub.Channel, sub)
	r = open(t, c, sub)
	if d := receive(t, r, 1)[0]; string(d.Message.Body) != "6" {
		t.Errorf("got %s, want the first that is left", d.Message.ID)
	}
}

// sarama 1739: partitions that are added are read from their end, and what was
// sent to them before the rebalance is lost.
func TestReceiver_reads_new_partitions_from_their_start(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("grown", 1)
	sub.Channel.Kind = driver.PublishSubscribe
	provision(t, c, sub.Channel, sub)
	r := open(t, c, sub)
	all := sub
	all.Broadcast, all.Ordered = true, false
	b := open(t, c, all)
	sub.Channel.Partitions = 6
	sender := connect(t, options(s))
	provision(t, sender, sub.Channel)
	const n = 60
	var ms []*driver.Message
	for k := range n {
		ms = append(ms, numbered("grown", k, 0))
	}
	if err := sender.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	for who, r := range map[string]driver.Receiver{"group": r, "broadcast": b} {
		seen, parts := map[string]bool{}, map[int]bool{}
		for len(seen) < n {
			for _, d := range receive(t, r, 1) {
				seen[d.Message.ID], parts[d.Partition] = true, true
				ack(t, r, d)
			}
		}
		if len(parts) < 4 {
			t.Errorf("%s: %d messages came from %d partitions", who, n, len(parts))
		}
	}
}

// Offsets of a group without members expire on the server after
// offsets.retention.minutes. What was sent since the group was provisioned is
// then handled, again if need be, and never passed over.
func TestReceiver_begins_where_its_group_began_when_offsets_expired(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("expired", 1)
	sub.Channel.Kind = driver.PublishSubscribe
	provision(t, c, sub.Channel)
	if err := c.Send(t.Context(), []*driver.Message{numbered("expired", 0, 0)}); err != nil {
		t.Fatal(err)
	}
	provision(t, c, sub.Channel, sub)
	if err := c.Send(t.Context(), []*driver.Message{numbered("expired", 0, 1), numbered("expired", 0, 2)}); err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(plain(t, s)).DeleteGroup(t.Context(), "worker@expired"); err != nil {
		t.Fatal(err)
	}
	r := open(t, c, sub)
	if ds := receive(t, r, 2); string(ds[0].Message.Body) != "1" {
		t.Errorf("got %s first, want k0/1", ds[0].Message.ID)
	}
}

// What is held for a retry stays in memory while its neighbours go on, up to
// MaxAhead, and nothing is committed past it: the next owner gets it, and not
// what was settled beyond.
func TestReceiver_commits_past_nothing_that_waits_for_a_retry(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	o := options(s)
	o.MaxAhead = 60
	c := connect(t, o)
	sub := subscription("held", 1)
	sub.Window = 20
	provision(t, c, sub.Channel, sub)
	ms := numberedAll("held", 200, 1)
	if err := c.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	r := open(t, c, sub)
	first := receive(t, r, 1)[0]
	if err := r.Settle(t.Context(), []driver.Settlement{{Delivery: first, Outcome: driver.Retry, After: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	for range 59 { // up to MaxAhead, of which the first is one
		ack(t, r, receive(t, r, 1)...)
	}
	committed, err := kadm.NewClient(plain(t, s)).FetchOffsets(t.Context(), "worker@held")
	if at, _ := committed.Lookup("held", 0); err != nil || at.At != 0 {
		t.Errorf("committed %d, %v; want 0", at.At, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if ds, err := r.Receive(short, 1); err == nil {
		t.Errorf("got %s beyond MaxAhead", ds[0].Message.ID)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	r = open(t, c, sub)
	d := receive(t, r, 1)[0]
	if d.Message.ID != first.Message.ID {
		t.Fatalf("the next owner got %s first, want %s", d.Message.ID, first.Message.ID)
	}
	ack(t, r, d)
	for n := 60; n < 200; n++ {
		d := receive(t, r, 1)[0]
		if d.Message.ID != ms[n].ID {
			t.Fatalf("got %s, want %s", d.Message.ID, ms[n].ID)
		}
		ack(t, r, d)
	}
}
