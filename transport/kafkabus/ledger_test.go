package kafkabus_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
)

// patience bounds every single wait. Only a test that fails waits so long.
const patience = 3 * time.Minute

// handled is what several consumers did, in the order in which they did it.
type handled struct {
	mu         sync.Mutex
	next       map[string]int // by key
	seen       map[string]bool
	inversions []string
	copies     int
}

func newHandled() *handled { return &handled{next: map[string]int{}, seen: map[string]bool{}} }

func (h *handled) note(m *driver.Message) { h.add(m.ID, m.Key, string(m.Body)) }

func (h *handled) add(id, key, number string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen[id] {
		h.copies++
		return
	}
	h.seen[id] = true
	n, err := strconv.Atoi(number)
	if err != nil || n != h.next[key] {
		h.inversions = append(h.inversions, fmt.Sprintf("%s: %s, want %d", key, number, h.next[key]))
	}
	h.next[key] = n + 1
}

func (h *handled) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.seen)
}

func (h *handled) await(t testing.TB, n int) {
	t.Helper()
	eventually(t, func() string { return fmt.Sprintf("%d messages to be handled, %d are", n, h.count()) }, func() bool { return h.count() >= n })
}

// check says what is wrong when n messages should have been handled: fewer were
// lost, more were invented, and the first copy of each must have come in order.
// Later copies bear the id of the first.
func (h *handled) check(t testing.TB, n int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.seen) != n {
		t.Errorf("%d different messages were handled, %d were sent", len(h.seen), n)
	}
	if len(h.inversions) > 0 {
		t.Errorf("%d inversions, the first: %s", len(h.inversions), h.inversions[0])
	}
}

// A consumer handles one message after the other, as a lane does, and releases
// lost partitions when it has begun none of their messages, as the core does.
type consumer struct {
	r    driver.Receiver
	h    *handled
	each time.Duration // what handling takes

	busy sync.Mutex // held while a batch is handled
	mu   sync.Mutex
	lost map[int]bool
}

var instances atomic.Int64

// consume starts a consumer. stop ends it and closes its receiver.
func consume(t testing.TB, c *kafkabus.Conn, s driver.Subscription, h *handled, each time.Duration) (stop func()) {
	t.Helper()
	con := &consumer{r: open(t, c, s), h: h, each: each, lost: map[int]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			ds, err := con.r.Receive(ctx, 32)
			if err != nil && ctx.Err() == nil && c.Classify(err) != driver.Retryable {
				t.Errorf("receive: %v", err)
				return
			}
			if err := con.handle(ds); err != nil && c.Classify(err) != driver.Retryable && c.Classify(err) != driver.Closed {
				t.Errorf("settle: %v", err)
			}
		}
	})
	wg.Go(func() {
		for {
			select {
			case parts := <-con.r.(driver.Revoker).Revoked():
				if err := con.release(ctx, parts); err != nil {
					t.Errorf("release: %v", err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		bounded, done := context.WithTimeout(context.Background(), patience)
		defer done()
		if err := con.r.Close(bounded); err != nil && c.Classify(err) != driver.Retryable {
			t.Errorf("close receiver: %v", err)
		}
	})
}

func (c *consumer) handle(ds []*driver.Delivery) error {
	c.busy.Lock()
	defer c.busy.Unlock()
	var ss []driver.Settlement
	for _, d := range ds {
		c.mu.Lock()
		gone := c.lost[d.Partition]
		c.mu.Unlock()
		if gone {
			continue
		}
		c.h.note(d.Message)
		if c.each > 0 {
			<-time.After(c.each)
		}
		ss = append(ss, driver.Settlement{Delivery: d})
	}
	return c.r.Settle(context.Background(), ss)
}

func (c *consumer) release(ctx context.Context, parts []int) error {
	set := func(gone bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range parts {
			c.lost[p] = gone
		}
	}
	set(true)
	c.busy.Lock() // what has begun is settled
	defer c.busy.Unlock()
	set(false)
	return c.r.(driver.Revoker).Release(ctx, parts)
}

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

func numbered(channel string, key, n int) *driver.Message {
	k := "k" + strconv.Itoa(key)
	return &driver.Message{Channel: channel, ID: k + "/" + strconv.Itoa(n), Source: "test", Type: "test.numbered.v1", Key: k, Body: []byte(strconv.Itoa(n))}
}

// numberedAll are n messages over so many keys, each key numbered from 0.
func numberedAll(channel string, n, keys int) []*driver.Message {
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = numbered(channel, i%keys, i/keys)
	}
	return ms
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

// resend sends until all is confirmed, as a relay does: what was not confirmed
// goes again, in order. It returns how often it had to begin again.
func resend(c *kafkabus.Conn, ms []*driver.Message) (again int, err error) {
	for deadline := time.Now().Add(patience); ; again++ {
		err := c.Send(context.Background(), ms)
		var se *driver.SendError
		switch {
		case err == nil:
			return again, nil
		case time.Now().After(deadline):
			return again, err
		case errors.As(err, &se):
			if ms, err = unconfirmed(ms, se); err != nil {
				return again, err
			}
		}
		<-time.After(20 * time.Millisecond)
	}
}

// unconfirmed returns the messages that failed, and an error if one behind them
// of the same key did not.
func unconfirmed(ms []*driver.Message, se *driver.SendError) (left []*driver.Message, err error) {
	failed := map[string]int{} // by key, the first that failed
	failures := se.Failures
	for i, m := range ms {
		if len(failures) > 0 && failures[0].Index == i {
			if _, known := failed[m.Key]; !known {
				failed[m.Key] = i
			}
			failures = failures[1:]
			left = append(left, m)
		} else if at, ok := failed[m.Key]; ok {
			return nil, fmt.Errorf("message %d of a batch was confirmed after message %d of its key had failed: %w", i, at, se)
		}
	}
	return left, nil
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
