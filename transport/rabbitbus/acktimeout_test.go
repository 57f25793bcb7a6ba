package rabbitbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

// The server takes back all that a consumer has when it holds one message for
// longer than consumer_timeout.
func TestReceiver_goes_on_after_the_server_took_back_what_was_held_too_long(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	shortAckTimeout(t, srv, time.Second)
	o := optionsFor(t, srv)
	o.AckTimeout = time.Second
	c := connect(t, o)
	if got := c.Capabilities().AckTimeout; got != time.Second {
		t.Errorf("AckTimeout is %v, want what the option says", got)
	}
	s := newQueue(t, c, 10)
	sendAll(t, c, numbered(s.Channel.Name, 6, 1))
	r := openReceiver(t, c, s)
	late := take(t, r, 6)
	_, err := r.Receive(within(t), 1) // the end of the channel, and why
	if c.Classify(err) != driver.Retryable || !strings.Contains(err.Error(), "consumer_timeout") || !strings.Contains(err.Error(), "ack-timeout") {
		t.Fatalf("after its time-out the server delivers again; the receiver says %v", err)
	}
	for n := range late { // they come again, since none was settled in time
		d := take(t, r, 1)[0]
		if d.Message.ID != late[n].Message.ID || d.Attempt < 2 {
			t.Fatalf("delivery %d is %s at attempt %d, want %s again", n, d.Message.ID, d.Attempt, late[n].Message.ID)
		}
		var stale *driver.StaleError
		err := r.Settle(within(t), []driver.Settlement{{Delivery: late[n]}, {Delivery: d}, {Delivery: late[0]}})
		if !errors.As(err, &stale) || !slices.Equal(stale.Indexes, []int{0, 2}) {
			t.Fatalf("settling one that is in hand between two that are not: %v, want a StaleError that names 0 and 2", err)
		}
	}
	ctx, cancel := context.WithTimeout(within(t), 300*time.Millisecond)
	defer cancel()
	if ds, err := r.Receive(ctx, 10); len(ds) > 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after all were settled: %d deliveries, %v", len(ds), err)
	}
}

// shortAckTimeout has the server end channels that hold a delivery for so long,
// until the test ends.
func shortAckTimeout(t testing.TB, srv *servers.Server, d time.Duration) {
	t.Helper()
	set := func(timeout, tick time.Duration) {
		ctl(t, srv, "eval", fmt.Sprintf("application:set_env(rabbit, consumer_timeout, %d), application:set_env(rabbit, channel_tick_interval, %d).",
			timeout.Milliseconds(), tick.Milliseconds()))
	}
	set(d, 200*time.Millisecond)
	t.Cleanup(func() { set(30*time.Minute, time.Minute) }) // as it comes
}
