package kafkabus_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Each error that somebody must act on says what to do, and with that done it
// works. They are our own errors: the fake serves. The server's are tried in
// settings_test.go and position_test.go.
func TestFake_errors_name_remedies_that_are_right(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	o := kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: patience, Heartbeat: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	c := connect(t, o)
	big := o
	big.MaxBytes = 2_000_000
	wide := connect(t, big)
	send := func(c *kafkabus.Conn, channel string, size int) error {
		return c.Send(t.Context(), []*driver.Message{{Channel: channel, ID: "1", Source: "test", Type: "test.v1", Body: make([]byte, size)}})
	}
	sub := func(channel, group string) driver.Subscription {
		s := subscription(channel, 1)
		s.Group = group
		return s
	}
	topic := func(channel, group string) driver.Subscription {
		s := sub(channel, group)
		s.Channel.Kind, s.Ordered = driver.PublishSubscribe, false
		return s
	}
	prov := func(s driver.Subscription) error {
		return c.Provision(t.Context(), []driver.Channel{s.Channel}, []driver.Subscription{s})
	}
	// gets checks that a group is given n messages.
	gets := func(s driver.Subscription, n int) {
		t.Helper()
		r := open(t, c, s)
		ack(t, r, receive(t, r, n)...)
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	expect := func(err error, kind driver.Kind, says string) {
		t.Helper()
		if c.Classify(err) != kind || !strings.Contains(err.Error(), says) {
			t.Fatalf("error %v, want a %q that says %q", err, kind, says)
		}
	}
	done := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("once that was done: %v", err)
		}
	}

	// What is not there.
	expect(send(c, "absent", 1), driver.NotFound, "channel absent")
	expect(send(c, "absent", 1), driver.NotFound, "provision it first")
	_, err = c.OpenReceiver(t.Context(), sub("absent", "old"))
	expect(err, driver.NotFound, "provision it first")
	provision(t, c, driver.Channel{Name: "absent", Partitions: 1})
	done(send(c, "absent", 1))
	_, err = c.OpenReceiver(t.Context(), sub("absent", "old"))
	expect(err, driver.NotFound, "group old of channel absent")
	expect(err, driver.NotFound, "provision it first")
	done(prov(sub("absent", "old")))
	gets(sub("absent", "old"), 1)

	// A group of another name.
	const second = "a point-to-point channel has one group, and old has it: "
	err = prov(sub("absent", "new"))
	expect(err, driver.Conflict, second+"use its name; or remove that group (dovetail topology remove absent --group old), and the new one is given all that is still there, handled or not")
	done(send(c, "absent", 1))
	done(prov(sub("absent", "old")))
	gets(sub("absent", "old"), 1)
	r := open(t, c, sub("absent", "old"))
	expect(c.RemoveGroup(t.Context(), "absent", "old"), driver.Conflict, "stop its receivers first")
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	done(c.RemoveGroup(t.Context(), "absent", "old"))
	done(prov(sub("absent", "new")))
	gets(sub("absent", "new"), 2)

	// Another kind, and the last of what the second group may do.
	err = prov(topic("absent", "more"))
	expect(err, driver.Conflict, "give one of them another name, or remove the channel")
	done(prov(topic("absent.events", "more")))
	expect(prov(sub("absent", "more")), driver.Conflict, "or remove the channel and provision it as publish-subscribe")
	done(c.RemoveChannel(t.Context(), "absent"))
	done(prov(topic("absent", "more")))
	done(prov(topic("absent", "new")))
	done(send(c, "absent", 1))
	gets(topic("absent", "more"), 1)
	gets(topic("absent", "new"), 1)

	// A large message.
	expect(send(c, "absent", 1_500_000), driver.TooLarge, "and the limit is 1000000: send a reference to the data instead, or raise max-bytes and the topic's max.message.bytes")
	done(send(c, "absent", 100))
	provision(t, wide, driver.Channel{Name: "large", Partitions: 1}) // it sets max.message.bytes of what it makes
	done(send(wide, "large", 1_500_000))

	// A broadcast receiver with nothing to go on from.
	s := topic("absent", "cache")
	s.Broadcast, s.Resume, s.Instance = true, true, "one"
	_, err = c.OpenReceiver(t.Context(), s)
	expect(err, driver.PositionLost, "open it without Resume to go on from now")
	s.Resume = false
	b := open(t, c, s)
	done(send(c, "absent", 1))
	receive(t, b, 1)
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What a group has lost is passed over by whoever sets its offsets, as the error
// says; position_test.go removes the group instead.
func TestFake_group_that_lost_messages_goes_on_from_offsets_that_are_set(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	c := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: patience, Heartbeat: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	s := subscription("cut", 1)
	provision(t, c, s.Channel, s)
	for n := range 10 {
		if err := c.Send(t.Context(), []*driver.Message{numbered("cut", 0, n)}); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	cut := kadm.Offsets{}
	cut.Add(kadm.Offset{Topic: "cut", Partition: 0, At: 6})
	if resp, err := adm.DeleteRecords(t.Context(), cut); err != nil || resp.Error() != nil {
		t.Fatal(err, resp.Error())
	}
	r := open(t, c, s)
	_, err = r.Receive(t.Context(), 10)
	if c.Classify(err) != driver.PositionLost || !strings.Contains(err.Error(), "set the group's offsets with the server's tools, or remove the group") {
		t.Fatalf("error %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := adm.CommitAllOffsets(t.Context(), "worker@cut", cut); err != nil {
		t.Fatal(err)
	}
	r = open(t, c, s)
	for n, d := range receive(t, r, 4) {
		if want := numbered("cut", 0, 6+n).ID; d.Message.ID != want {
			t.Errorf("got %s, want %s", d.Message.ID, want)
		}
		ack(t, r, d)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
