package kafkabus_test

import (
	"context"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kadm"
)

// A receiver that is closed while its join is on its way leaves no member behind
// for whose session the next one would wait.
func TestReceiver_that_is_closed_at_once_leaves_no_member(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	o := options(s)
	o.SessionTimeout = 2 * patience
	c := connect(t, o)
	sub := subscription("left-at-once", 2)
	provision(t, c, sub.Channel, sub)
	if err := c.Send(t.Context(), []*driver.Message{numbered("left-at-once", 0, 0)}); err != nil {
		t.Fatal(err)
	}
	const soon = 3 * time.Second
	for i, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond} {
		sub.Instance = "ended-" + after.String()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), after) // as a deploy that is cancelled
		r, err := c.OpenReceiver(ctx, sub)
		cancel()
		if err == nil {
			err = r.Close(t.Context())
		}
		if took := time.Since(began); took > soon {
			t.Errorf("closing after %v took %v, %v", after, took, err)
		}
		sub.Instance = "next-" + after.String()
		next, err := c.OpenReceiver(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		ds := receive(t, next, 1)
		if took := time.Since(began); took > soon {
			t.Errorf("round %d: the first message of %d came after %v, for the last receiver is still in the group", i, len(ds), took)
		}
		if err := next.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// While a member that died holds the group up, a receiver ends in time all the
// same, and is a member no more.
func TestReceiver_leaves_a_group_that_is_held_up(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	sub := subscription("held-up", 2)
	o := options(s)
	o.SessionTimeout = time.Minute
	dead := connect(t, o)
	provision(t, dead, sub.Channel, sub)
	sub.Instance = "dead"
	r, err := dead.OpenReceiver(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	killed, kill := context.WithCancel(t.Context())
	kill()
	_ = r.Close(killed)
	sub.Instance = "alive"
	c := connect(t, options(s))
	began := time.Now()
	alive, err := c.OpenReceiver(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	opened := time.Now()
	if took := opened.Sub(began); took > 10*time.Second {
		t.Errorf("opening a receiver of a group that is held up took %v", took)
	}
	if err := alive.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(opened); took > 5*time.Second { // 1 s, on a machine that is busy with others
		t.Errorf("closing it took %v", took)
	}
	groups, err := kadm.NewClient(plain(t, s)).DescribeGroups(t.Context(), "worker@held-up")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range groups["worker@held-up"].Members {
		if m.InstanceID != nil && *m.InstanceID == "alive" {
			t.Errorf("it is a member still: %s, and the group %s", m.MemberID, groups["worker@held-up"].State)
		}
	}
}
