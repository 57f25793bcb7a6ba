package kafkabus_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A group without a coordinator, as while another is elected, keeps its partitions:
// they have leaders that answer, and the session of its members goes on.
func TestFake_receiver_goes_on_while_the_group_has_no_coordinator(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	const timeout = time.Second
	c := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: timeout, Heartbeat: 100 * time.Millisecond, SessionTimeout: 30 * time.Second})
	sub := subscription("leaderless", 1)
	provision(t, c, sub.Channel, sub)
	r := open(t, c, sub)
	send := func(id string) {
		t.Helper()
		if err := c.Send(t.Context(), []*driver.Message{{Channel: sub.Channel.Name, ID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	send("first")
	ack(t, r, receive(t, r, 1)...)
	var asked atomic.Int32
	fake.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		asked.Add(1)
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp, nil, true
	})
	long, cancel := context.WithTimeout(t.Context(), 3*timeout)
	defer cancel()
	if ds, err := r.Receive(long, 1); !errors.Is(err, context.DeadlineExceeded) || asked.Load() == 0 {
		t.Fatalf("%d messages, %v after %d heartbeats: want the receiver to wait on", len(ds), err, asked.Load())
	}
	send("second")
	if ds := receive(t, r, 1); ds[0].Message.ID != "second" {
		t.Errorf("%s came", ds[0].Message.ID)
	}
}

// A leader that has fallen silent does not say that it leads no more: whoever waits
// for it asks.
func TestFake_send_that_waits_for_an_answer_asks_who_leads(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	c := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: 4 * time.Second, MetadataAge: time.Hour})
	provision(t, c, driver.Channel{Name: "silent"})
	m := []*driver.Message{{Channel: "silent", ID: "1"}}
	if err := c.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	twice := make(chan struct{})
	fake.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if asked.Add(1) == 2 {
			close(twice)
		}
		return nil, nil, false
	})
	fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		fake.SleepControl(func() {
			select {
			case <-twice:
			case <-t.Context().Done():
			}
		})
		return nil, nil, false
	})
	if err := c.Send(t.Context(), m); err != nil || asked.Load() < 2 {
		t.Errorf("%v, and it asked %d times", err, asked.Load())
	}
}
