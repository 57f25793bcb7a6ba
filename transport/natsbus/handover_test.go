package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// An instance that shuts down stops receiving first, and closes its receiver
// when its slowest handler has ended. What is sent meanwhile, and what it hands
// back, goes to others at once: it has no request left at the server.
func TestReceiver_whose_Receive_was_cancelled_takes_nothing_from_others(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	c := connect(t, natsbus.Options{URL: srv.URL()}) // leases of 30 s
	s := work("handover-of-one")
	provision(t, c, s)
	send := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			m := &driver.Message{Channel: s.Channel.Name, ID: fmt.Sprint(i), Source: "test", Type: "t.v1"}
			if err := c.Send(within(t), []*driver.Message{m}); err != nil {
				t.Fatal(err)
			}
		}
	}
	leaving, err := connect(t, natsbus.Options{URL: srv.URL()}).OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	send(0, 20)
	slow, err := leaving.Receive(within(t), 2) // and 18 have been fetched
	if err != nil {
		t.Fatal(err)
	}
	staying, err := connect(t, natsbus.Options{URL: srv.URL()}).OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	for len(slow) < 4 {
		more, err := leaving.Receive(within(t), 1)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, more...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := leaving.Receive(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled Receive: %v", err)
	}
	send(20, 100)
	back := []driver.Settlement{{Delivery: slow[1], Outcome: driver.Retry}, {Delivery: slow[2], Outcome: driver.Retry}}
	if err := leaving.Settle(within(t), back); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for len(got) < 98 {
		ds, err := staying.Receive(within(t), 100)
		if err != nil {
			t.Fatal(err)
		}
		settle := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			got[d.Message.ID], settle[i] = true, driver.Settlement{Delivery: d}
		}
		if err := staying.Settle(within(t), settle); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []*driver.Delivery{slow[0], slow[3]} {
		if got[d.Message.ID] {
			t.Errorf("%s came twice", d.Message.ID)
		}
	}
	// One that goes on after all receives what is sent then.
	if err := staying.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	send(100, 110)
	for n := 0; n < 10; {
		ds, err := leaving.Receive(within(t), 100)
		if err != nil {
			t.Fatal(err)
		}
		n += len(ds)
	}
}

func TestSettle_names_what_came_too_late(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	c := connect(t, natsbus.Options{URL: srv.URL()})
	s := work("too-late")
	provision(t, c, s)
	if err := c.Send(within(t), drivertest.Numbered(s.Channel.Name, "k", 0, 3, 3)); err != nil {
		t.Fatal(err)
	}
	settle := func(r driver.Receiver, ds ...*driver.Delivery) (stale []int) {
		t.Helper()
		list := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			list[i].Delivery = d
		}
		err := r.Settle(within(t), list)
		if late := (*driver.StaleError)(nil); errors.As(err, &late) {
			return late.Indexes
		} else if err != nil {
			t.Fatal(err)
		}
		return nil
	}
	open := func(n int) (driver.Receiver, []*driver.Delivery) {
		t.Helper()
		r, err := c.OpenReceiver(within(t), s)
		if err != nil {
			t.Fatal(err)
		}
		var ds []*driver.Delivery
		for len(ds) < n {
			more, err := r.Receive(within(t), n-len(ds))
			if err != nil {
				t.Fatal(err)
			}
			ds = append(ds, more...)
		}
		return r, ds
	}
	first, old := open(3)
	if stale := settle(first, old[0], old[0]); stale != nil {
		t.Errorf("a delivery that is settled twice is called stale: %v", stale)
	}
	if err := first.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if stale := settle(first, old...); !slices.Equal(stale, []int{1, 2}) {
		t.Errorf("after Close %v are stale, want those that were given back: 1 and 2", stale)
	}
	second, ds := open(2)
	if stale := settle(second, old[1], ds[0], old[2], ds[1]); !slices.Equal(stale, []int{0, 2}) {
		t.Errorf("%v are stale, want those of another receiver: 0 and 2", stale)
	}
	if err := second.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}
