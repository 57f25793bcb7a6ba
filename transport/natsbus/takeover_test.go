package natsbus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The message that makes a receiver the owner of a partition is settled by the
// owner before, after the server has delivered it and before the new owner counts
// what is unsettled. It is not counted in place of one that has yet to come.
func TestOwner_waits_for_all_though_its_first_message_is_settled_by_the_owner_before(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	c := connect(t, natsbus.Options{URL: srv.URL(), Partitions: 1, AckWait: longLease, OwnerTTL: time.Minute})
	s := work("takeover")
	s.Ordered = true
	provision(t, c, s)
	l := &lossy{T: t, sender: c, s: s, seen: map[string]bool{}}
	c.As(&l.link)
	l.send(0, 3)
	info := l.until(func(*jetstream.ConsumerInfo) bool { return true })
	ask := func(subject, body string) {
		t.Helper()
		if _, err := l.link.RequestWithContext(within(t), subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	say := func(body string, seq int) {
		t.Helper()
		ask(fmt.Sprintf("$JS.ACK.%s.%s.1.%d.%d.1.0", info.Stream, info.Name, seq, seq), body)
	}
	// The owner before takes all.
	inbox := nats.NewInbox()
	before, err := l.link.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.link.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+info.Stream+"."+info.Name, inbox, []byte(`{"batch":3,"expires":60000000000,"group":"owner"}`)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := before.NextMsgWithContext(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if l.r, err = c.OpenReceiver(within(t), s); err != nil {
		t.Fatal(err)
	}
	defer l.r.Close(within(t))
	glanceAt(t, l.r) // it stands in line
	l.until(func(i *jetstream.ConsumerInfo) bool { return i.NumWaiting == 1 })
	ask("$JS.API.CONSUMER.UNPIN."+info.Stream+"."+info.Name, `{"group":"owner"}`)
	say("-NAK", 1)
	l.until(func(i *jetstream.ConsumerInfo) bool { return i.Delivered.Consumer == 4 })
	say("+ACK", 1)
	say("-NAK", 3) // it comes back before the second
	for len(l.order) < 3 {
		l.receive(10)
	}
	if l.order[0] != "00" || l.order[1] != "01" || l.order[2] != "02" {
		t.Errorf("they came as %v", l.order)
	}
}
