package kafkabus_test

import (
	"context"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kadm"
)

// An instance that was killed and comes back under its name goes on at once, not
// when the session of its dead self has ended. One that is closed in good order
// leaves its partitions to others at once, though it has a name.
func TestReceiver_of_an_instance_that_was_killed_gets_its_partitions_back_at_once(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	o := options(s)
	o.SessionTimeout = 2 * patience
	sub := subscription("came-back", 1)
	c := connect(t, o)
	provision(t, c, sub.Channel, sub)
	ms := []*driver.Message{numbered("came-back", 0, 0), numbered("came-back", 0, 1)}
	if err := c.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	receive := func(instance string) driver.Receiver {
		t.Helper()
		sub.Instance = instance
		r, err := c.OpenReceiver(soon, sub)
		if err != nil {
			t.Fatal(err)
		}
		ds, err := r.Receive(soon, 10)
		if err != nil {
			t.Fatalf("%s: %v", instance, err)
		}
		if ds[0].Message.ID != ms[0].ID {
			t.Errorf("%s gets %s first, want %s", instance, ds[0].Message.ID, ms[0].ID)
		}
		return r
	}
	killed, kill := context.WithCancel(t.Context())
	kill() // so that closing tells the server nothing
	_ = receive("one").Close(killed)
	again := receive("one")
	if err := again.Close(t.Context()); err != nil {
		t.Error(err)
	}
	other := receive("two")
	if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process that ends after its successor has taken its name does not put the
// successor out of the group.
func TestReceiver_that_closes_late_leaves_the_group_for_itself_alone(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	sub := subscription("succeeded", 1)
	sub.Instance = "one"
	c := connect(t, options(s))
	provision(t, c, sub.Channel, sub)
	adm := kadm.NewClient(plain(t, s))
	member := func() (id string) {
		groups, err := adm.DescribeGroups(t.Context(), "worker@succeeded")
		if err == nil && len(groups["worker@succeeded"].Members) == 1 {
			id = groups["worker@succeeded"].Members[0].MemberID
		}
		return id
	}
	join := func() driver.Receiver {
		t.Helper()
		before := member()
		r, err := c.OpenReceiver(t.Context(), sub)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func() string { return "another member" }, func() bool { id := member(); return id != "" && id != before })
		return r
	}
	first := join()
	second := join()
	joined := member()
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	// Had it been made to leave, it would come back under another id.
	eventually(t, func() string { return "member " + joined + " after the first was closed, not " + member() }, func() bool { return member() == joined })
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, func() string { return "no member after both were closed, not " + member() }, func() bool { return member() == "" })
}
