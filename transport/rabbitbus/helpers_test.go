package rabbitbus_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

// patience bounds every wait of these tests. A server that was killed takes a
// minute to come back on a machine that does much else.
const patience = 3 * time.Minute

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// expired is a context that ends in a moment.
func expired(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

var channels atomic.Int64

// again calls f until its error is not one that passes, as the core does: where
// time-outs are short, a busy machine alone is enough for one.
func again(t testing.TB, c driver.Conn, what string, f func(context.Context) error) {
	t.Helper()
	ctx := within(t)
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if c.Classify(err) != driver.Retryable || ctx.Err() != nil {
			t.Fatalf("%s: %v", what, err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// newQueue provisions a new point-to-point channel with a group.
func newQueue(t testing.TB, c *rabbitbus.Conn, window int) driver.Subscription {
	t.Helper()
	s := driver.Subscription{Channel: driver.Channel{Name: fmt.Sprintf("test-%d-%s", channels.Add(1), strconv.FormatInt(time.Now().UnixNano(), 36))},
		Group: "worker", Instance: "1", Window: window}
	again(t, c, "provision", func(ctx context.Context) error { return c.Provision(ctx, nil, []driver.Subscription{s}) })
	return s
}

// numbered are n messages over so many keys, each key numbered from 0.
func numbered(channel string, n, keys int) []*driver.Message {
	return drivertest.Numbered(channel, "k", 0, n, keys)
}

func sendAll(t testing.TB, c driver.Conn, ms []*driver.Message) {
	t.Helper()
	again(t, c, "send", func(ctx context.Context) error { return c.Send(ctx, ms) })
}

// pause waits before something is tried again.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func openReceiver(t testing.TB, c *rabbitbus.Conn, s driver.Subscription) driver.Receiver {
	t.Helper()
	var r driver.Receiver
	again(t, c, "open a receiver", func(ctx context.Context) (err error) {
		r, err = c.OpenReceiver(ctx, s)
		return err
	})
	return r
}

// take receives n deliveries.
func take(t testing.TB, r driver.Receiver, n int) []*driver.Delivery {
	t.Helper()
	var got []*driver.Delivery
	for ctx := within(t); len(got) < n; {
		ds, err := r.Receive(ctx, n-len(got))
		if err != nil && (driver.Classify(err) != driver.Retryable || ctx.Err() != nil) {
			t.Fatalf("received %d of %d: %v", len(got), n, err)
		}
		got = append(got, ds...)
	}
	return got
}

// inTime fails the test when f hangs. The time-outs of the tests that use it are
// a second or two; what is beyond is for a machine that does much else.
func inTime(t testing.TB, what string, f func()) {
	t.Helper()
	const limit = 30 * time.Second
	began := time.Now()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		if took := time.Since(began); took > limit {
			t.Errorf("%s took %v, want at most %v", what, took, limit)
		}
	case <-time.After(patience):
		t.Fatalf("%s still hangs after %v", what, patience)
	}
}
