package rabbitbus_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

var channels int

// newQueue provisions a new point-to-point channel with a group.
func newQueue(t testing.TB, c *rabbitbus.Conn, window int) driver.Subscription {
	t.Helper()
	channels++
	s := driver.Subscription{Channel: driver.Channel{Name: fmt.Sprintf("test-%d-%s", channels, strconv.FormatInt(time.Now().UnixNano(), 36))},
		Group: "worker", Instance: "1", Window: window}
	if err := c.Provision(within(t), nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	return s
}

// numbered are n messages over so many keys, each key numbered from 0.
func numbered(channel string, n, keys int) []*driver.Message {
	ms := make([]*driver.Message, n)
	for i := range ms {
		key := "k" + strconv.Itoa(i%keys)
		ms[i] = &driver.Message{Channel: channel, ID: key + "/" + strconv.Itoa(i/keys), Source: "test", Type: "test.numbered.v1", Key: key, Body: []byte(strconv.Itoa(i / keys))}
	}
	return ms
}

// sendAll sends again what was not confirmed, in order, until all is.
func sendAll(ctx context.Context, c driver.Conn, ms []*driver.Message) error {
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for {
		err := c.Send(ctx, ms)
		if err == nil {
			return nil
		}
		var se *driver.SendError
		if errors.As(err, &se) {
			left := make([]*driver.Message, len(se.Failures))
			for i, f := range se.Failures {
				left[i] = ms[f.Index]
			}
			ms = left
		} else if c.Classify(err) != driver.Retryable {
			return err
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return err
		}
	}
}

// consumeAll receives and acknowledges until every one of n messages came, those
// in hand included, and returns how many first copies were out of order.
func consumeAll(ctx context.Context, c driver.Conn, r driver.Receiver, n int, hand ...*driver.Delivery) (inverted int, err error) {
	seen := map[string]bool{}
	last := map[string]int{}
	note := func(m *driver.Message) {
		number, _ := strconv.Atoi(string(m.Body))
		if before, met := last[m.Key]; met && number < before && !seen[m.ID] {
			inverted++
		} else {
			last[m.Key] = max(before, number)
		}
		seen[m.ID] = true
	}
	for _, d := range hand {
		note(d.Message)
	}
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for len(seen) < n {
		ds, err := r.Receive(ctx, 50)
		if err != nil {
			if c.Classify(err) != driver.Retryable || ctx.Err() != nil {
				return inverted, fmt.Errorf("received %d of %d: %w", len(seen), n, err)
			}
			<-pause.C
			continue
		}
		ss := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			ss[i].Delivery = d
			note(d.Message)
		}
		if err := r.Settle(ctx, ss); err != nil && c.Classify(err) != driver.Retryable {
			return inverted, err
		}
	}
	return inverted, nil
}

func openReceiver(t testing.TB, c *rabbitbus.Conn, s driver.Subscription) driver.Receiver {
	t.Helper()
	r, err := c.OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// take receives n deliveries.
func take(t testing.TB, r driver.Receiver, n int) []*driver.Delivery {
	t.Helper()
	var got []*driver.Delivery
	for ctx := within(t); len(got) < n; {
		ds, err := r.Receive(ctx, n-len(got))
		if err != nil {
			t.Fatalf("received %d of %d: %v", len(got), n, err)
		}
		got = append(got, ds...)
	}
	return got
}

// inTime fails the test when f takes longer than limit.
func inTime(t testing.TB, limit time.Duration, what string, f func()) {
	t.Helper()
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
