package embedded_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// A broadcast group is kept by the server, so that its receiver goes on after the
// server was killed, and one that is opened again does.
func TestBroadcast_goes_on_after_the_server_was_killed(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url()})
	s := driver.Subscription{Channel: driver.Channel{Name: "prices", Kind: driver.PublishSubscribe}, Group: "cache", Instance: "Host 1/α", Broadcast: true, Window: 100}
	if err := c.Provision(t.Context(), nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	ms := numbered("prices", "k", 30)
	send := func(ms []*driver.Message) {
		t.Helper()
		for {
			err := c.Send(ctx, ms)
			if err == nil {
				return
			}
			if c.Classify(err) != driver.Retryable || ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	next := 0
	take := func(n int, settle bool) {
		t.Helper()
		for last := next + n; next < last; {
			ds, err := r.Receive(ctx, last-next)
			if err != nil {
				if c.Classify(err) != driver.Retryable || ctx.Err() != nil {
					t.Fatalf("after %d: %v", next, err)
				}
				continue
			}
			list := make([]driver.Settlement, len(ds))
			for i, d := range ds {
				list[i].Delivery = d
				switch at := slices.IndexFunc(ms, func(m *driver.Message) bool { return m.ID == d.Message.ID }); {
				case at == next:
					next++
				case at > next, d.Attempt == 1: // a copy of an earlier one may come after a lost link
					t.Fatalf("got %s at attempt %d, want %s", d.Message.ID, d.Attempt, ms[next].ID)
				}
			}
			if !settle {
				continue
			}
			for err = r.Settle(ctx, list); err != nil; err = r.Settle(ctx, list) { // the answer may be lost with the server
				if stale := (*driver.StaleError)(nil); errors.As(err, &stale) {
					break // they come again, which is all that is asked of a receiver here
				}
				if c.Classify(err) != driver.Retryable || ctx.Err() != nil {
					t.Fatal(err)
				}
			}
		}
	}
	send(ms[:10])
	take(5, true)
	if err := server.restart(ctx); err != nil {
		t.Fatal(err)
	}
	send(ms[10:20])
	take(10, true)
	take(5, false) // in hand when the receiver is closed
	if err := r.Close(ctx); err != nil {
		t.Fatal(err)
	}
	send(ms[20:])
	if err := server.restart(ctx); err != nil {
		t.Fatal(err)
	}
	s.Resume = true
	for r, err = c.OpenReceiver(ctx, s); err != nil; r, err = c.OpenReceiver(ctx, s) {
		if c.Classify(err) != driver.Retryable || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	next -= 5
	take(15, true)
	if err := c.RemoveGroup(ctx, s.Channel.Name, s.GroupName()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Receive(ctx, 1); c.Classify(err) != driver.PositionLost {
		t.Errorf("the receiver of a group that was removed: %v, want the position lost", err)
	}
}
