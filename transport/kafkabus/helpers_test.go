package kafkabus_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
)

// patience bounds every single wait. Only a test that fails waits so long.
const patience = 3 * time.Minute

var instances atomic.Int64

// open opens a receiver, again while the server is just coming back.
func open(t testing.TB, c *kafkabus.Conn, s driver.Subscription) driver.Receiver {
	t.Helper()
	s.Instance = fmt.Sprint("instance-", instances.Add(1)) // no two have one name
	var r driver.Receiver
	eventually(t, func() string { return "a receiver" }, func() (ok bool) {
		var err error
		if r, err = c.OpenReceiver(t.Context(), s); err != nil && c.Classify(err) != driver.Retryable {
			t.Fatal(err)
		}
		return err == nil
	})
	return r
}

func subscription(name string, partitions int) driver.Subscription {
	return driver.Subscription{Channel: driver.Channel{Name: name, Partitions: partitions}, Group: "worker", Instance: "1", Ordered: true, Window: 200}
}

// numbered is the n-th message of a key.
func numbered(channel string, key, n int) *driver.Message {
	return drivertest.Numbered(channel, fmt.Sprint("k", key, "-"), n, n+1, 1)[0]
}

// numberedAll are n messages over so many keys, each key numbered from 0.
func numberedAll(channel string, n, keys int) []*driver.Message {
	return drivertest.Numbered(channel, "k", 0, n, keys)
}

func eventually(t testing.TB, what func() string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what())
		}
	}
}

// await waits for a value, or the end of a channel.
func await[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("waited in vain")
	}
	return v
}

func receive(t testing.TB, r driver.Receiver, n int) []*driver.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var got []*driver.Delivery
	for len(got) < n {
		ds, err := r.Receive(ctx, n-len(got))
		if err != nil && (driver.Classify(err) != driver.Retryable || ctx.Err() != nil) {
			t.Fatalf("receive: %v; had %d of %d", err, len(got), n)
		}
		got = append(got, ds...)
	}
	return got
}

func ack(t testing.TB, r driver.Receiver, ds ...*driver.Delivery) {
	t.Helper()
	ss := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		ss[i] = driver.Settlement{Delivery: d}
	}
	if err := r.Settle(context.Background(), ss); err != nil {
		t.Fatal(err)
	}
}
