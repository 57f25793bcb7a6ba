package rabbitbus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

// newBroadcast provisions a new publish–subscribe channel and returns a
// broadcast subscription to it.
func newBroadcast(t testing.TB, c *rabbitbus.Conn) driver.Subscription {
	t.Helper()
	s := newQueue(t, c, 100)
	s.Channel = driver.Channel{Name: "topic-" + s.Channel.Name, Kind: driver.PublishSubscribe}
	s.Group, s.Broadcast = "cache", true
	again(t, c, "provision", func(ctx context.Context) error { return c.Provision(ctx, []driver.Channel{s.Channel}, nil) })
	return s
}

func TestBroadcast_goes_on_where_a_receiver_was_whose_link_is_half_open(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for name, partitions := range map[string]int{"one queue": 0, "partitions": 3} {
		t.Run(name, func(t *testing.T) {
			drivertest.CheckLeaks(t)
			proxy := newTearing(t, srv.Addr())
			o := through(t, srv, proxy.l.Addr().String())
			o.Partitions = partitions
			c := connect(t, o)
			s := newBroadcast(t, c)
			r := openReceiver(t, c, s)
			ms := numbered(s.Channel.Name, 40, 1)
			sendAll(t, c, ms[:20])
			hand := take(t, r, 5)
			if err := r.Settle(within(t), []driver.Settlement{{Delivery: hand[0]}}); err != nil {
				t.Fatal(err)
			}
			if _, err := r.(driver.Backlogger).Backlog(within(t)); err != nil { // the server has the settlement
				t.Fatal(err)
			}
			proxy.tear() // the server does not know for two heartbeats
			_ = r.Close(within(t))
			s.Resume = true
			r = openReceiver(t, c, s)
			sendAll(t, c, ms[20:])
			for i, d := range take(t, r, 39) {
				if d.Message.ID != ms[i+1].ID {
					t.Fatalf("delivery %d is %s, want %s: what was not settled comes first", i, d.Message.ID, ms[i+1].ID)
				}
			}
		})
	}
}

func TestBroadcast_group_expires_and_can_be_removed(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o := optionsFor(t, srv)
	o.Expire = time.Second
	c := connect(t, o)
	s := newBroadcast(t, c)
	for what, end := range map[string]func(){
		"removed": func() {
			other := tryConnect(t, o) // which knows of it by its name alone
			if err := other.RemoveGroup(within(t), s.Channel.Name, s.GroupName()); err != nil {
				t.Error(err)
			}
			if err := other.Close(within(t)); err != nil {
				t.Error(err)
			}
		},
		"expired": func() { pause(within(t), 12*time.Second) }, // the server looks every 5 s
	} {
		s := s
		r := openReceiver(t, c, s)
		sendAll(t, c, numbered(s.Channel.Name, 1, 1))
		if err := r.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		end()
		s.Resume = true
		_, err := c.OpenReceiver(within(t), s)
		if !errors.Is(err, driver.ErrPositionLost) || c.Classify(err) != driver.PositionLost {
			t.Errorf("to go on with a group that was %s: %v", what, err)
		}
	}
}
